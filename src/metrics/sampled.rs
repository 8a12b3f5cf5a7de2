//! What is true only at a moment, told as it is at the scrape.
//!
//! A gauge that somebody sets goes on telling its last value when that somebody is blocked, which is when it matters. So
//! ages are computed from the instant they count from, and what was read from Postgres is told for as long as the reading
//! is young: a lag that nobody has measured lately is absent, not old.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use penstock_wire::lsn::{EndLsn, Lsn};
use prometheus::proto::{Gauge, LabelPair, Metric as Series, MetricFamily, MetricType};

use super::names::{self, Metric};
use crate::catalog::{SlotSample, WalStatus};
use crate::health::Verdict;

/// How long a reading of the slot speaks for the slot.
pub(super) const READING_LIFE: Duration = Duration::from_secs(30);

/// One moment, on both of this machine's clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Compared with Postgres' clock, and told.
    pub(super) unix_us: i64,
    /// What periods are measured with.
    pub(super) instant: Instant,
}

impl Moment {
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { unix_us: i64::try_from(since.as_micros()).unwrap_or(i64::MAX), instant: Instant::now() }
    }
}

/// The last that was heard from everywhere. Times are Unix microseconds.
#[derive(Debug, Default)]
pub(super) struct Sampled {
    pub(super) in_flight_records: u64,
    pub(super) in_flight_bytes: usize,
    pub(super) in_flight_transactions: u64,
    pub(super) oldest_unacked_us: Option<i64>,
    pub(super) last_commit_us: Option<i64>,
    pub(super) delivered_through_us: Option<i64>,
    /// Read so far, and to be read, by the reloads under way.
    pub(super) backfill: Option<(u64, u64)>,
    reading: Option<Reading>,
}

#[derive(Debug)]
struct Reading {
    at: Moment,
    slot: SlotSample,
    read_to: EndLsn,
    durable: EndLsn,
}

impl Sampled {
    /// Takes a reading of the slot, with where the bridge stood right after it.
    pub(super) fn read_slot(&mut self, slot: SlotSample, read_to: EndLsn, durable: EndLsn, at: Moment) {
        self.reading = Some(Reading { at, slot, read_to, durable });
    }

    /// Everything there is to tell at this moment.
    pub(super) fn families(&self, verdict: &Verdict, now: Moment) -> Vec<MetricFamily> {
        let mut families = Families::default();
        families.one(names::READY, Some(flag(matches!(verdict, Verdict::Ready | Verdict::Delayed(_)))));
        families.many(names::STANDSTILL, standstill(verdict).into_iter().map(|what| (what, 1.0)));
        families.many(names::BUILD_INFO, [(env!("CARGO_PKG_VERSION"), 1.0)]);
        families.one(names::IN_FLIGHT_RECORDS, Some(self.in_flight_records as f64));
        families.one(names::IN_FLIGHT_BYTES, Some(self.in_flight_bytes as f64));
        families.one(names::IN_FLIGHT_TRANSACTIONS, Some(self.in_flight_transactions as f64));
        let age = self.oldest_unacked_us.map_or(0.0, |oldest| seconds(now.unix_us.saturating_sub(oldest)).max(0.0));
        families.one(names::OLDEST_UNACKED, Some(age));
        families.one(names::LAST_COMMIT, self.last_commit_us.map(seconds));
        families.one(names::DELIVERED_THROUGH, self.delivered_through_us.map(seconds));
        families.one(names::BACKFILL_ROWS_DONE, self.backfill.map(|(done, _)| done as f64));
        families.one(names::BACKFILL_ROWS_TOTAL, self.backfill.map(|(_, total)| total as f64));
        families.one(names::SAMPLED, self.reading.as_ref().map(|reading| seconds(reading.at.unix_us)));
        let young = |reading: &&Reading| now.instant.saturating_duration_since(reading.at.instant) <= READING_LIFE;
        if let Some(reading) = self.reading.as_ref().filter(young) {
            reading.tell(&mut families);
        }
        families.0
    }
}

impl Reading {
    fn tell(&self, families: &mut Families) {
        let slot = &self.slot;
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        families.one(names::RETAINED, bytes(slot.retained_bytes()));
        families.one(names::CONFIRMED_LAG, bytes(slot.confirmed_lag_bytes()));
        families.one(names::SAFE, slot.safe_wal_bytes.map(|safe| safe.max(0) as f64));
        families.one(names::ACTIVE, Some(flag(slot.active)));
        if slot.wal_status.is_some() {
            let states = WalStatus::ALL.map(|status| (status.as_str(), flag(slot.wal_status == Some(status))));
            families.many(names::WAL_STATUS, states);
        }
        families.one(names::RECEIVED_LAG, bytes(behind(slot.current_lsn, self.read_to)));
        families.one(names::DELIVERED_LAG, bytes(behind(slot.current_lsn, self.durable)));
    }
}

/// `None` while the bridge has no position: the distance from 0 would be the whole WAL there ever was.
fn behind(current: Lsn, reached: EndLsn) -> Option<u64> {
    (reached != EndLsn::default()).then(|| current.0.saturating_sub(reached.raw()))
}

/// What a wait is for stands before the colon of its reason.
fn standstill(verdict: &Verdict) -> Vec<&str> {
    match verdict {
        Verdict::Ready => Vec::new(),
        Verdict::Delayed(reasons) | Verdict::Waiting(reasons) => {
            reasons.iter().map(|reason| reason.split_once(':').map_or(reason.as_str(), |(what, _)| what)).collect()
        }
        Verdict::Stopped(_) => vec!["halted"],
    }
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

/// Gauges with the values of this moment; a gauge without a value is left out.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    fn one(&mut self, metric: Metric, value: Option<f64>) {
        self.push(metric, value.map(series).into_iter().collect());
    }

    fn many<'a>(&mut self, metric: Metric, values: impl IntoIterator<Item = (&'a str, f64)>) {
        let label = metric.labels.first().copied().unwrap_or_default();
        let labelled = |(text, value): (&str, f64)| {
            let mut pair = LabelPair::default();
            pair.set_name(label.to_owned());
            pair.set_value(text.to_owned());
            let mut series = series(value);
            series.set_label(vec![pair]);
            series
        };
        self.push(metric, values.into_iter().map(labelled).collect());
    }

    fn push(&mut self, metric: Metric, series: Vec<Series>) {
        if series.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(metric.name.to_owned());
        family.set_help(metric.help.to_owned());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(series);
        self.0.push(family);
    }
}

fn series(value: f64) -> Series {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut series = Series::default();
    series.set_gauge(gauge);
    series
}
