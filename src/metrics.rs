//! The metrics. Names are constants, and the dashboards and alerts are tested against them.

use std::sync::Arc;

use penstock_core::ledger::GroupEnd;
use penstock_wire::lsn::EndLsn;
use prometheus::core::Collector;
use prometheus::{Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::catalog::{SlotSample, WalStatus};

/// Every metric: name and meaning.
pub mod names {
    /// One metric.
    pub type Name = (&'static str, &'static str);
    pub const RETAINED: Name = ("penstock_slot_retained_wal_bytes", "WAL that the slot makes Postgres keep: current position less restart_lsn");
    pub const CONFIRMED_LAG: Name = ("penstock_slot_confirmed_lag_bytes", "Current WAL position less the slot's confirmed LSN");
    pub const SAFE: Name = ("penstock_slot_safe_wal_bytes", "WAL that can still be written before Postgres may invalidate the slot; -1 without a bound");
    pub const WAL_STATUS: Name = ("penstock_slot_wal_status", "1 for the slot's wal_status, 0 for the others");
    pub const RECEIVED_LAG: Name = ("penstock_received_lag_bytes", "Current WAL position less what the bridge has read");
    pub const DELIVERED_LAG: Name = ("penstock_delivered_lag_bytes", "Current WAL position less what is durable in Kafka");
    pub const LAST_COMMIT: Name = ("penstock_last_delivered_commit_timestamp_seconds", "Commit time of the newest transaction that is durable in Kafka");
    pub const COMMIT_TO_ACK: Name = ("penstock_commit_to_ack_seconds", "From a group's oldest commit in Postgres to its commit in Kafka");
    pub const IN_FLIGHT_RECORDS: Name = ("penstock_inflight_records", "Records without their delivery report");
    pub const IN_FLIGHT_BYTES: Name = ("penstock_inflight_bytes", "Bytes of the records without their delivery report");
    pub const RECORDS: Name = ("penstock_records_delivered_total", "Records that are durable in Kafka");
    pub const TRANSACTIONS: Name = ("penstock_transactions_delivered_total", "Postgres transactions that are durable in Kafka");
    pub const GROUPS: Name = ("penstock_groups_committed_total", "Kafka transactions committed, heartbeats included");
    pub const ERRORS: Name = ("penstock_delivery_errors_total", "Sessions that Kafka ended, by librdkafka's code");
    /// All of them.
    pub const ALL: [Name; 14] = [
        RETAINED, CONFIRMED_LAG, SAFE, WAL_STATUS, RECEIVED_LAG, DELIVERED_LAG, LAST_COMMIT, COMMIT_TO_ACK,
        IN_FLIGHT_RECORDS, IN_FLIGHT_BYTES, RECORDS, TRANSACTIONS, GROUPS, ERRORS,
    ];
}

/// Bounds of the commit-to-ack histogram, in seconds.
const BUCKETS: [f64; 14] = [0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

/// Handles of all metrics; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    retained: IntGauge,
    confirmed_lag: IntGauge,
    safe: IntGauge,
    wal_status: IntGaugeVec,
    received_lag: IntGauge,
    delivered_lag: IntGauge,
    last_commit: Gauge,
    commit_to_ack: Histogram,
    in_flight_records: IntGauge,
    in_flight_bytes: IntGauge,
    records: IntCounter,
    transactions: IntCounter,
    groups: IntCounter,
    errors: IntCounterVec,
}

fn register<T: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<T>) -> T {
    let metric = metric.expect("names and buckets are constants");
    registry.register(Box::new(metric.clone())).expect("names differ");
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry of its own, all at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let gauge = |(name, help): names::Name| register(&registry, IntGauge::new(name, help));
        let counter = |(name, help): names::Name| register(&registry, IntCounter::new(name, help));
        let options = |(name, help): names::Name| Opts::new(name, help);
        let (histogram, help) = names::COMMIT_TO_ACK;
        let histogram = HistogramOpts::new(histogram, help).buckets(BUCKETS.to_vec());
        Self(Arc::new(Inner {
            retained: gauge(names::RETAINED),
            confirmed_lag: gauge(names::CONFIRMED_LAG),
            safe: gauge(names::SAFE),
            wal_status: register(&registry, IntGaugeVec::new(options(names::WAL_STATUS), &["status"])),
            received_lag: gauge(names::RECEIVED_LAG),
            delivered_lag: gauge(names::DELIVERED_LAG),
            last_commit: register(&registry, Gauge::with_opts(options(names::LAST_COMMIT))),
            commit_to_ack: register(&registry, Histogram::with_opts(histogram)),
            in_flight_records: gauge(names::IN_FLIGHT_RECORDS),
            in_flight_bytes: gauge(names::IN_FLIGHT_BYTES),
            records: counter(names::RECORDS),
            transactions: counter(names::TRANSACTIONS),
            groups: counter(names::GROUPS),
            errors: register(&registry, IntCounterVec::new(options(names::ERRORS), &["code"])),
            registry,
        }))
    }

    /// A group is durable; `now_us` is this machine's clock.
    pub fn committed(&self, end: &GroupEnd, now_us: i64) {
        let inner = &self.0;
        inner.groups.inc();
        inner.records.inc_by(end.records);
        inner.transactions.inc_by(end.transactions);
        if let Some(oldest) = end.oldest_commit_time_us {
            inner.commit_to_ack.observe((now_us - oldest).max(0) as f64 / 1e6);
            inner.last_commit.set(end.last_commit.commit_time_us as f64 / 1e6);
        }
    }

    /// Records and bytes without their delivery report.
    pub fn in_flight(&self, records: u64, bytes: usize) {
        self.0.in_flight_records.set(i64::try_from(records).unwrap_or(i64::MAX));
        self.0.in_flight_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Kafka ended a session.
    pub fn delivery_error(&self, code: &str) {
        self.0.errors.with_label_values(&[code]).inc();
    }

    /// Lags, all against the one position that the sample was taken at.
    pub fn slot(&self, sample: &SlotSample, read_to: EndLsn, durable: EndLsn) {
        let inner = &self.0;
        let lag = |from: EndLsn| i64::try_from(sample.current_lsn.0.saturating_sub(from.raw())).unwrap_or(i64::MAX);
        let bytes = |bytes: Option<u64>| bytes.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1);
        inner.retained.set(bytes(sample.retained_bytes()));
        inner.confirmed_lag.set(bytes(sample.confirmed_lag_bytes()));
        inner.safe.set(sample.safe_wal_bytes.unwrap_or(-1));
        inner.received_lag.set(lag(read_to));
        inner.delivered_lag.set(lag(durable));
        for status in WalStatus::ALL {
            inner.wal_status.with_label_values(&[status.as_str()]).set(i64::from(sample.wal_status == Some(status)));
        }
    }

    /// In Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0.registry.gather(), &mut text).expect("writing to memory does not fail");
        String::from_utf8(text).expect("the text format is UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_is_in_the_list_of_names() {
        let metrics = Metrics::new();
        metrics.delivery_error("Fenced");
        for status in WalStatus::ALL {
            metrics.0.wal_status.with_label_values(&[status.as_str()]).set(0);
        }
        let mut exported: Vec<String> = metrics.0.registry.gather().iter().map(|family| family.name().to_owned()).collect();
        let mut listed: Vec<String> = names::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
        exported.sort();
        listed.sort();
        assert_eq!(exported, listed);
    }
}
