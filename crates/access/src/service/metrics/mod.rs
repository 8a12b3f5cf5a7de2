//! What operators watch: counters as things happen, and the present as [`Metrics::sample`] last saw it. Names, help texts
//! and labels are [`names`].
//!
//! What is not known is absent, never 0 and never old.

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::account::flows::Ended;
use crate::authorize::Answer;
use crate::channel::push::Push;
use crate::health::Health;
use crate::knowledge::Reason;
use crate::partition::RebuildReason;
use crate::replica::ProblemKind;
use names::Metric;

pub mod names;

/// Seconds: a push is early, late, or far too late.
const DELAYS: &[f64] = &[0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Names of [`Answer`]s.
const RESULTS: [&str; 6] = ["ok", "forbidden", "not_found", "offline", "version_mismatch", "unavailable"];

/// Metrics of one instance, in a registry of their own; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    ready: IntGauge,
    partitions: IntGaugeVec,
    partitions_quarantined: IntGauge,
    accounts: IntGauge,
    unavailable: IntGaugeVec,
    // Without labels: so that their one series can be absent.
    as_of: GaugeVec,
    applied: GaugeVec,
    lag: IntGaugeVec,
    held_bytes: IntGauge,
    channels: IntGauge,
    commit_to_push: Histogram,
    pushes: IntCounterVec,
    answers: IntCounterVec,
    records: IntCounter,
    problems: IntCounterVec,
    rebuilds: IntCounterVec,
    ended_flows: IntCounterVec,
    queue_overflows: IntCounter,
}

impl Metrics {
    /// A registry of its own, all counters at zero.
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let opts = |metric: Metric| Opts::new(metric.name, metric.help);
        let gauge = |metric: Metric| register(&registry, IntGauge::with_opts(opts(metric)));
        let gauges = |metric: Metric| register(&registry, IntGaugeVec::new(opts(metric), metric.labels));
        let instant = |metric: Metric| register(&registry, GaugeVec::new(opts(metric), metric.labels));
        let counter = |metric: Metric| register(&registry, IntCounter::with_opts(opts(metric)));
        let counters = |metric: Metric, values: &[&str]| {
            let counters = register(&registry, IntCounterVec::new(opts(metric), metric.labels));
            // A counter that appears with its first event shows no increase to Prometheus.
            for value in values {
                counters.with_label_values(&[*value]);
            }
            counters
        };
        let delays =
            HistogramOpts::new(names::COMMIT_TO_PUSH.name, names::COMMIT_TO_PUSH.help).buckets(DELAYS.to_vec());
        let inner = Inner {
            ready: gauge(names::READY),
            partitions: gauges(names::PARTITIONS),
            partitions_quarantined: gauge(names::PARTITIONS_QUARANTINED),
            accounts: gauge(names::ACCOUNTS),
            unavailable: gauges(names::ACCOUNTS_UNAVAILABLE),
            as_of: instant(names::AS_OF),
            applied: instant(names::APPLIED),
            lag: gauges(names::LAG),
            held_bytes: gauge(names::HELD_BYTES),
            channels: gauge(names::CHANNELS),
            commit_to_push: register(&registry, Histogram::with_opts(delays)),
            pushes: counters(names::PUSHES, &Push::NAMES),
            answers: counters(names::ANSWERS, &RESULTS),
            records: counter(names::RECORDS),
            problems: counters(names::PROBLEMS, &ProblemKind::NAMES),
            rebuilds: counters(names::REBUILDS, &RebuildReason::NAMES),
            ended_flows: counters(names::ENDED_FLOWS, &Ended::ALL.map(Ended::as_str)),
            queue_overflows: counter(names::QUEUE_OVERFLOWS),
            registry: registry.clone(),
        };
        gauges(names::BUILD_INFO).with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self(Arc::new(inner));
        metrics.sample(&Health::default(), 0);
        metrics
    }

    /// What `/metrics` shows, in Prometheus' text format.
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.0.registry.gather()).expect("metrics are text")
    }

    /// How things are now.
    pub(super) fn sample(&self, health: &Health, channels: usize) {
        let inner = &*self.0;
        inner.ready.set(i64::from(health.is_ready()));
        let fresh = health.partitions.saturating_sub(health.rebuilding + health.stale);
        for (state, partitions) in [("fresh", fresh), ("rebuilding", health.rebuilding), ("stale", health.stale)] {
            inner.partitions.with_label_values(&[state]).set(whole(partitions));
        }
        inner.partitions_quarantined.set(whole(health.quarantined));
        inner.accounts.set(whole(health.accounts));
        for reason in Reason::ALL {
            let accounts = health.unavailable.get(&reason).copied().unwrap_or_default();
            inner.unavailable.with_label_values(&[reason.as_str()]).set(whole(accounts));
        }
        set_or_drop(&inner.as_of, health.as_of.map(|as_of| as_of.0 as f64 / 1e6));
        set_or_drop(&inner.applied, health.applied_ms.map(|applied| applied as f64 / 1e3));
        inner.held_bytes.set(whole(health.held_bytes));
        inner.channels.set(whole(channels));
    }

    /// How far behind a partition is.
    pub(super) fn lag(&self, partition: u32, offsets: i64) {
        self.0.lag.with_label_values(&[&partition.to_string()]).set(offsets);
    }

    /// Another instance has the partition now.
    pub(super) fn forget(&self, partition: u32) {
        // It was not measured yet: then there is nothing to forget.
        let _ = self.0.lag.remove_label_values(&[&partition.to_string()]);
    }

    /// Records of the change topic that were read since the start.
    pub fn records(&self) -> u64 {
        self.0.records.get()
    }

    /// So many records were read since the start.
    pub(super) fn read(&self, records: u64) {
        self.0.records.inc_by(records.saturating_sub(self.0.records.get()));
    }

    pub(super) fn pushed(&self, push: &Push) {
        self.0.pushes.with_label_values(&[push.name()]).inc();
    }

    /// What a transaction led to was pushed so long after it was committed.
    pub(super) fn delay(&self, seconds: f64) {
        self.0.commit_to_push.observe(seconds);
    }

    pub(super) fn problem(&self, kind: &ProblemKind) {
        self.0.problems.with_label_values(&[kind.name()]).inc();
    }

    pub(super) fn rebuild(&self, why: &RebuildReason) {
        self.0.rebuilds.with_label_values(&[why.name()]).inc();
    }

    pub(super) fn flow_ended(&self, why: Ended) {
        self.0.ended_flows.with_label_values(&[why.as_str()]).inc();
    }

    pub(super) fn queue_overflowed(&self) {
        self.0.queue_overflows.inc();
    }

    pub(super) fn answered(&self, answer: &Answer) {
        let [ok, forbidden, not_found, offline, version_mismatch, unavailable] = RESULTS;
        let result = match answer {
            Answer::Ok { .. } => ok,
            Answer::Forbidden { .. } => forbidden,
            Answer::NotFound => not_found,
            Answer::Offline => offline,
            Answer::VersionMismatch => version_mismatch,
            Answer::Unavailable { .. } => unavailable,
        };
        self.0.answers.with_label_values(&[result]).inc();
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("a valid name");
    registry.register(Box::new(collector.clone())).expect("each has a name of its own");
    collector
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn set_or_drop(gauge: &GaugeVec, value: Option<f64>) {
    match value {
        Some(value) => gauge.with_label_values::<&str>(&[]).set(value),
        None => gauge.reset(),
    }
}

#[cfg(test)]
mod tests;
