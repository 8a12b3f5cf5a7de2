//! What Prometheus is told: counters as they happen, and the present as it is at the scrape.
//!
//! One [`Metrics`] for the process, over a registry of its own. The run loop calls typed methods; what it calls once per
//! record costs an atomic add, by a handle it was given once per table. Names, help texts and labels are [`names`].
//!
//! It measures and tells; it decides nothing, and what it says of the present is never older than it looks (see the
//! `sampled` module).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use penstock_core::ledger::GroupEnd;
use penstock_wire::event::Op;
use penstock_wire::lsn::EndLsn;
use penstock_wire::reload::Reload;
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, TextEncoder};

use crate::catalog::SlotSample;
use crate::health::Verdict;
use names::Metric;
use sampled::{Moment, Sampled};

pub mod names;
mod sampled;

/// Bounds of the commit-to-ack histogram, in seconds: milliseconds apart where a bridge that keeps up is, and up to the
/// outages that make one wait.
const BUCKETS: [f64; 18] =
    [0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

/// Handles of all metrics; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    commit_to_ack: Histogram,
    records: IntCounterVec,
    dead_letters: IntCounterVec,
    records_delivered: IntCounter,
    transactions_delivered: IntCounter,
    groups: IntCounter,
    errors: IntCounterVec,
    duplicates: IntCounter,
    order_violations: IntCounter,
    registrations: IntCounterVec,
    sampled: Mutex<Sampled>,
}

/// Counts the row events of one table. Handed out once; counting neither allocates nor looks up.
#[derive(Clone, Debug)]
pub struct TableRecords {
    create: IntCounter,
    update: IntCounter,
    delete: IntCounter,
    read: IntCounter,
    dead_letters: IntCounter,
}

/// What came of asking the registry for a schema's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// It has one.
    Registered,
    /// The registry was away or busy; it is asked again.
    Unavailable,
    /// The registry will not have it; the bridge stops.
    Refused,
}

impl TableRecords {
    /// `records` row events more.
    pub fn add(&self, op: Op, records: u64) {
        let counter = match op {
            Op::Create => &self.create,
            Op::Update => &self.update,
            Op::Delete => &self.delete,
            Op::Read => &self.read,
        };
        counter.inc_by(records);
    }

    /// `dead_letters` row events more that could not be delivered.
    pub fn add_dead_letters(&self, dead_letters: u64) {
        self.dead_letters.inc_by(dead_letters);
    }
}

impl Registration {
    const ALL: [Self; 3] = [Self::Registered, Self::Unavailable, Self::Refused];

    fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry of its own, all counters at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let options = |metric: Metric| Opts::new(metric.name, metric.help);
        let counter = |metric: Metric| register(&registry, IntCounter::with_opts(options(metric)));
        let counters = |metric: Metric| register(&registry, IntCounterVec::new(options(metric), metric.labels));
        let histogram = HistogramOpts::new(names::COMMIT_TO_ACK.name, names::COMMIT_TO_ACK.help);
        let inner = Inner {
            commit_to_ack: register(&registry, Histogram::with_opts(histogram.buckets(BUCKETS.to_vec()))),
            records: counters(names::RECORDS),
            dead_letters: counters(names::DEAD_LETTERS),
            records_delivered: counter(names::RECORDS_DELIVERED),
            transactions_delivered: counter(names::TRANSACTIONS_DELIVERED),
            groups: counter(names::GROUPS),
            errors: counters(names::ERRORS),
            duplicates: counter(names::DUPLICATES),
            order_violations: counter(names::ORDER_VIOLATIONS),
            registrations: counters(names::REGISTRATIONS),
            sampled: Mutex::default(),
            registry,
        };
        // A counter that appears with its first event shows no increase to Prometheus, so what can be known exists at 0.
        for result in Registration::ALL {
            inner.registrations.with_label_values(&[result.as_str()]);
        }
        Self(Arc::new(inner))
    }

    fn sampled(&self) -> MutexGuard<'_, Sampled> {
        self.0.sampled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters of a table, for as long as it is captured.
    pub fn table(&self, schema: &str, table: &str) -> TableRecords {
        let table = format!("{schema}.{table}");
        let of = |op: Op| self.0.records.with_label_values(&[table.as_str(), op.as_str()]);
        TableRecords {
            create: of(Op::Create),
            update: of(Op::Update),
            delete: of(Op::Delete),
            read: of(Op::Read),
            dead_letters: self.0.dead_letters.with_label_values(&[table.as_str()]),
        }
    }

    /// A group is durable; `now_us` is this machine's clock, Unix microseconds.
    pub fn committed(&self, end: &GroupEnd, now_us: i64) {
        let inner = &self.0;
        inner.groups.inc();
        inner.records_delivered.inc_by(end.records);
        inner.transactions_delivered.inc_by(end.transactions);
        if let Some(oldest) = end.oldest_commit_time_us {
            // Two machines' clocks may disagree by more than the delay is.
            inner.commit_to_ack.observe(now_us.saturating_sub(oldest).max(0) as f64 / 1e6);
        }
        let mut sampled = self.sampled();
        // A transaction that is delivered in part is not delivered.
        let whole = end.end_lsn.covers(end.last_commit.last_event.commit_lsn);
        if end.oldest_commit_time_us.is_some() && whole {
            sampled.last_commit_us = Some(end.last_commit.commit_time_us);
        }
        if end.postgres_clock_us > 0 {
            sampled.delivered_through_us = Some(end.postgres_clock_us);
        }
    }

    /// Records without their delivery report, and their bytes.
    pub fn in_flight(&self, records: u64, bytes: usize) {
        let mut sampled = self.sampled();
        sampled.in_flight_records = records;
        sampled.in_flight_bytes = bytes;
    }

    /// Transactions that are read and not durable, and when the oldest of them was committed, Unix microseconds. Its age
    /// is told as of the scrape, so it goes on rising while nothing is reported.
    pub fn unacknowledged(&self, transactions: u64, oldest_commit_time_us: Option<i64>) {
        let mut sampled = self.sampled();
        sampled.in_flight_transactions = transactions;
        sampled.oldest_unacked_us = oldest_commit_time_us;
    }

    /// The reloads that progress remembers; those that have ended do not count.
    pub fn backfill(&self, reloads: &[Reload]) {
        let live = reloads.iter().filter(|reload| !reload.state.is_finished());
        let rows = live.map(Reload::rows).reduce(|one, other| (one.0 + other.0, one.1 + other.1));
        self.sampled().backfill = rows;
    }

    /// A session is over and with it everything that was in flight. What was not durable then still is not: its age goes
    /// on rising until the next session says otherwise.
    pub fn session_ended(&self) {
        let mut sampled = self.sampled();
        sampled.in_flight_records = 0;
        sampled.in_flight_bytes = 0;
        sampled.in_flight_transactions = 0;
        sampled.backfill = None;
    }

    /// Kafka ended a session; `code` is one of librdkafka's.
    pub fn delivery_error(&self, code: &str) {
        self.0.errors.with_label_values(&[code]).inc();
    }

    /// The registry has answered, or has not.
    pub fn schema_registration(&self, result: Registration) {
        self.0.registrations.with_label_values(&[result.as_str()]).inc();
    }

    /// Postgres sent transactions again that were durable already.
    pub fn duplicates_suppressed(&self, transactions: u64) {
        self.0.duplicates.inc_by(transactions);
    }

    /// Something stood where the guarantees forbid it.
    pub fn order_violation(&self) {
        self.0.order_violations.inc();
    }

    /// Lags, all against the one position of the server that the sample holds; `read_to` and `durable` were taken after it.
    pub fn slot(&self, sample: &SlotSample, read_to: EndLsn, durable: EndLsn) {
        self.sampled().read_slot(*sample, read_to, durable, Moment::now());
    }

    /// Everything, as of now, in Prometheus' text format.
    pub fn text(&self, verdict: &Verdict) -> String {
        self.text_at(verdict, Moment::now())
    }

    fn text_at(&self, verdict: &Verdict, now: Moment) -> String {
        let mut families = self.0.registry.gather();
        families.extend(self.sampled().families(verdict, now));
        families.sort_by(|one, other| one.name().cmp(other.name()));
        TextEncoder::new().encode_to_string(&families).expect("families without series are left out")
    }
}

fn register<T: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<T>) -> T {
    let metric = metric.expect("names, labels and buckets are constants");
    registry.register(Box::new(metric.clone())).expect("names differ");
    metric
}

#[cfg(test)]
mod tests;
