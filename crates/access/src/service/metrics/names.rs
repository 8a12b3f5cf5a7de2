//! Every metric that an instance exports: its name, kind, labels, what it means, and what to watch it for.
//!
//! The one list. What is registered, what `docs/metrics.md` tells, and what the dashboard and alert rules may name are
//! tested against it. Base units; counters end in `_total`; instants are timestamps. No account and no key is a label.

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from 0 at the start of the process.
    Counter,
    /// Says what is.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// As exported.
    pub name: &'static str,
    pub kind: Kind,
    /// What its series differ by.
    pub labels: &'static [&'static str],
    /// What it means; the help text.
    pub help: &'static str,
    /// What an operator watches it for; empty where it only explains.
    pub watch: &'static str,
}

type Text = &'static str;

const fn metric(kind: Kind, name: Text, labels: &'static [Text], help: Text, watch: Text) -> Metric {
    Metric { name, kind, labels, help, watch }
}

const fn gauge(name: Text, labels: &'static [Text], help: Text, watch: Text) -> Metric {
    metric(Kind::Gauge, name, labels, help, watch)
}

const fn counter(name: Text, labels: &'static [Text], help: Text, watch: Text) -> Metric {
    metric(Kind::Counter, name, labels, help, watch)
}

pub const READY: Metric = gauge(
    "penstock_access_ready",
    &[],
    "1 while whole partitions can be answered for, else 0: what /readyz answers",
    "0 for minutes",
);
pub const BUILD_INFO: Metric =
    gauge("penstock_access_build_info", &["version"], "1; the version is the label", "absent");
pub const PARTITIONS: Metric = gauge(
    "penstock_access_partitions",
    &["state"],
    "Partitions of this instance that are fresh (answered for), rebuilding (read from their beginning) or stale (not known to be up to date)",
    "stale: any, for a minute; rebuilding: any, for longer than the last rebuild took",
);
pub const PARTITIONS_QUARANTINED: Metric = gauge(
    "penstock_access_partitions_quarantined",
    &[],
    "Partitions in which nothing new is granted because a record that may be anybody's could not be read or delivered",
    "any: load the source again",
);
pub const ACCOUNTS: Metric = gauge("penstock_access_accounts", &[], "Accounts with rows here", "");
pub const ACCOUNTS_UNAVAILABLE: Metric = gauge(
    "penstock_access_accounts_unavailable",
    &["reason"],
    "Accounts for which questions are answered with Unavailable, by reason: not_assigned, rebuilding, unproven, quarantined, stale",
    "quarantined, unproven: any, load the account again",
);
pub const AS_OF: Metric = gauge(
    "penstock_access_as_of_timestamp_seconds",
    &[],
    "Postgres' clock up to which every partition here is known; moves on while nobody writes; absent while one is not known at all",
    "age above stale_after",
);
pub const APPLIED: Metric = gauge(
    "penstock_access_applied_commit_timestamp_seconds",
    &[],
    "Commit time of the newest transaction that was applied; stands still while nobody writes",
    "",
);
pub const LAG: Metric = gauge(
    "penstock_access_lag_records",
    &["partition"],
    "Offsets between what was read of the partition and its end",
    "growth that does not end",
);
pub const HELD_BYTES: Metric = gauge(
    "penstock_access_held_bytes",
    &[],
    "Bytes of keys and values of transactions whose end was not read yet",
    "hundreds of megabytes: a huge transaction",
);
pub const CHANNELS: Metric = gauge("penstock_access_channels", &[], "Open channels", "");
pub const COMMIT_TO_PUSH: Metric = metric(
    Kind::Histogram,
    "penstock_access_commit_to_push_seconds",
    &[],
    "From the commit in Postgres to the pushes that it led to, per record that led to any",
    "quantiles above your target",
);
pub const PUSHES: Metric = counter("penstock_access_pushes_total", &["push"], "Pushes to channels, by name", "");
pub const ANSWERS: Metric = counter(
    "penstock_access_answers_total",
    &["result"],
    "Answers of authorize: ok, forbidden, not_found, offline, version_mismatch, unavailable",
    "unavailable: any that repeats",
);
pub const RECORDS: Metric =
    counter("penstock_access_records_total", &[], "Records of the change topic that were read", "");
pub const PROBLEMS: Metric = counter(
    "penstock_access_problems_total",
    &["kind"],
    "What could not be read or is missing, by kind; the log says where it stands",
    "any",
);
pub const REBUILDS: Metric = counter(
    "penstock_access_rebuilds_total",
    &["why"],
    "Partitions that had to be begun anew: compacted, voided, too_slow, topic_replaced; the first reading is none",
    "any that repeats",
);
pub const ENDED_FLOWS: Metric = counter(
    "penstock_access_ended_flows_total",
    &["why"],
    "Flows that ended for good, so that their rows should be deleted: address_changed, repointed, unproven",
    "",
);
pub const QUEUE_OVERFLOWS: Metric = counter(
    "penstock_access_queue_overflows_total",
    &[],
    "Times that a channel's reader was too slow for its queue; it gets a new init",
    "any that repeats",
);

/// All of them, in the order of `docs/metrics.md`.
pub const ALL: [Metric; 19] = [
    READY,
    BUILD_INFO,
    PARTITIONS,
    PARTITIONS_QUARANTINED,
    ACCOUNTS,
    ACCOUNTS_UNAVAILABLE,
    AS_OF,
    APPLIED,
    LAG,
    HELD_BYTES,
    CHANNELS,
    COMMIT_TO_PUSH,
    PUSHES,
    ANSWERS,
    RECORDS,
    PROBLEMS,
    REBUILDS,
    ENDED_FLOWS,
    QUEUE_OVERFLOWS,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// <https://prometheus.io/docs/practices/naming/>
    #[test]
    fn names_follow_prometheus_customs() {
        let mut seen = std::collections::BTreeSet::new();
        for metric in ALL {
            let name = metric.name;
            assert!(seen.insert(name), "{name} is listed twice");
            assert!(name.starts_with("penstock_access_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            let reserved = ["_bucket", "_sum", "_count"].iter().any(|suffix| name.ends_with(suffix));
            assert!(!reserved, "{name} ends like a histogram's series");
            assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{name}: the help is a phrase");
            assert!(!metric.help.contains('|') && !metric.watch.contains('|'), "{name}: a table cell holds no bar");
        }
    }
}
