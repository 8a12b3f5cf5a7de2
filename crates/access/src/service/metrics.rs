//! What operators watch.

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::authorize::Answer;
use crate::channel::Event;
use crate::channel::push::{Message, Push};

/// Seconds: a push is early, late, or far too late.
const DELAYS: &[f64] = &[0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Metrics of one instance, in a registry of their own.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    pub(super) lag_records: IntGaugeVec,
    pub(super) applied: Gauge,
    pub(super) as_of: Gauge,
    pub(super) channels: IntGauge,
    pub(super) accounts: IntGauge,
    pub(super) rebuilding: IntGauge,
    pub(super) stale: IntGauge,
    pub(super) records: IntCounter,
    pushes: IntCounterVec,
    commit_to_push: Histogram,
    problems: IntCounter,
    answers: IntCounterVec,
}

impl Metrics {
    /// # Panics
    /// If two metrics had one name.
    pub fn new() -> Self {
        let registry = Registry::new();
        let opts = |name: &str, help: &str| Opts::new(format!("penstock_access_{name}"), help);
        let gauge = |name, help| IntGauge::with_opts(opts(name, help)).expect("a valid name");
        let counter = |name, help| IntCounter::with_opts(opts(name, help)).expect("a valid name");
        let delay = HistogramOpts::from(opts("commit_to_push_seconds", "From the commit in Postgres to the push."));
        let metrics = Self {
            lag_records: IntGaugeVec::new(opts("lag_records", "Offsets behind the partition's end."), &["partition"])
                .expect("a valid name"),
            applied: Gauge::with_opts(opts(
                "applied_commit_timestamp_seconds",
                "When the newest transaction that was applied was committed, unix time.",
            ))
            .expect("a valid name"),
            as_of: Gauge::with_opts(opts(
                "as_of_timestamp_seconds",
                "Up to when the state is known, of the account known least, unix time; 0: not at all.",
            ))
            .expect("a valid name"),
            channels: gauge("channels", "Open channels."),
            accounts: gauge("accounts", "Accounts with rows here."),
            rebuilding: gauge("partitions_rebuilding", "Partitions that are being read from their beginning."),
            stale: gauge("accounts_unavailable", "Accounts for which questions are answered with Unavailable."),
            records: counter("records_total", "Records that were read."),
            pushes: IntCounterVec::new(opts("pushes_total", "Pushes to channels."), &["push"]).expect("a valid name"),
            commit_to_push: Histogram::with_opts(delay.buckets(DELAYS.to_vec())).expect("valid buckets"),
            problems: counter("problems_total", "Records and rows that could not be read, and what is missing."),
            answers: IntCounterVec::new(opts("answers_total", "Answers of authorize."), &["result"])
                .expect("a valid name"),
            registry: registry.clone(),
        };
        let all: [Box<dyn prometheus::core::Collector>; 13] = [
            Box::new(metrics.lag_records.clone()),
            Box::new(metrics.applied.clone()),
            Box::new(metrics.as_of.clone()),
            Box::new(metrics.channels.clone()),
            Box::new(metrics.accounts.clone()),
            Box::new(metrics.rebuilding.clone()),
            Box::new(metrics.stale.clone()),
            Box::new(metrics.records.clone()),
            Box::new(metrics.pushes.clone()),
            Box::new(metrics.commit_to_push.clone()),
            Box::new(metrics.problems.clone()),
            Box::new(metrics.answers.clone()),
            Box::new(IntCounter::new("penstock_access_starts_total", "Starts of this process.").expect("a valid name")),
        ];
        for metric in all {
            registry.register(metric).expect("each has a name of its own");
        }
        metrics
    }

    /// What `/metrics` shows.
    ///
    /// # Errors
    /// If the text cannot be made.
    pub fn text(&self) -> prometheus::Result<String> {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    pub(super) fn pushed(&self, event: &Event) {
        if let Event::Push(message) = event {
            self.pushes.with_label_values(&[name(message)]).inc();
        }
    }

    /// What a transaction led to was pushed so long after it was committed.
    pub(super) fn delay(&self, seconds: f64) {
        self.commit_to_push.observe(seconds);
    }

    pub(super) fn problem(&self) {
        self.problems.inc();
    }

    pub(super) fn answered(&self, answer: &Answer) {
        let result = match answer {
            Answer::Ok { .. } => "ok",
            Answer::Forbidden { .. } => "forbidden",
            Answer::NotFound => "not_found",
            Answer::Offline => "offline",
            Answer::VersionMismatch => "version_mismatch",
            Answer::Unavailable { .. } => "unavailable",
        };
        self.answers.with_label_values(&[result]).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn name(message: &Message) -> &'static str {
    match message.push {
        Push::ClientInit { .. } | Push::GatewayInit { .. } => "init",
        Push::ResourceDeleted(_) => "resource_deleted",
        Push::ResourceCreatedOrUpdated(_) => "resource_created_or_updated",
        Push::ConfigChanged { .. } => "config_changed",
        Push::RejectAccess { .. } => "reject_access",
        Push::ResourceUpdated(_) => "resource_updated",
        Push::AccessAuthorizationExpiryUpdated(_) => "access_authorization_expiry_updated",
        Push::AuthorizeFlow { .. } => "authorize_flow",
        Push::Disconnect { .. } => "disconnect",
        Push::Stale { .. } => "stale",
        Push::Fresh { .. } => "fresh",
        Push::NotAssigned {} => "not_assigned",
    }
}
