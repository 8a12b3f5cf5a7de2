//! Every metric the bridge exports: its name, kind, labels, what it means, and what to watch it for.
//!
//! The one list. What is registered, what `docs/metrics.md` tells, and what dashboards and alert rules may name are
//! tested against it. Base units; counters end in `_total`; instants are timestamps, so that their age is true at every
//! moment. No account, no key and no LSN is ever exported: an LSN does not fit a Prometheus value, differences do.

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
    /// How it behaves.
    pub kind: Kind,
    /// What its series differ by.
    pub labels: &'static [&'static str],
    /// What it means; the help text.
    pub help: &'static str,
    /// What an operator watches it for; empty where it only explains.
    pub watch: &'static str,
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    watch: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help, watch }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str, watch: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help, watch }
}

pub const READY: Metric =
    gauge("penstock_ready", &[], "1 while changes flow, else 0: what /readyz answers", "0 for minutes");
pub const STANDSTILL: Metric = gauge(
    "penstock_standstill",
    &["what"],
    "1 for everything the bridge waits for; what is \"halted\" once a human must act",
    "any, for minutes; \"halted\" at once",
);
pub const BUILD_INFO: Metric = gauge("penstock_build_info", &["version"], "1; the version is the label", "absent");
pub const RETAINED: Metric = gauge(
    "penstock_slot_retained_wal_bytes",
    &[],
    "WAL that the slot makes Postgres keep: the server's position less the slot's restart LSN",
    "growth that does not end",
);
pub const CONFIRMED_LAG: Metric = gauge(
    "penstock_slot_confirmed_lag_bytes",
    &[],
    "WAL that is written and not confirmed: the server's position less the slot's confirmed LSN",
    "growth that does not end",
);
pub const SAFE: Metric = gauge(
    "penstock_slot_safe_wal_bytes",
    &[],
    "WAL that can still be written before Postgres may give the slot up; absent where max_slot_wal_keep_size sets no limit",
    "reaching 0 within hours",
);
pub const WAL_STATUS: Metric = gauge(
    "penstock_slot_wal_status",
    &["status"],
    "1 for the slot's wal_status, 0 for the others: reserved, extended, unreserved, lost",
    "unreserved: WAL is about to be removed; lost: changes are gone",
);
pub const ACTIVE: Metric =
    gauge("penstock_slot_active", &[], "1 while a process streams from the slot, else 0", "0 while WAL is kept");
pub const SAMPLED: Metric = gauge(
    "penstock_slot_sample_timestamp_seconds",
    &[],
    "When slot and server were last looked at; lags in bytes are absent once that is half a minute ago",
    "older than a minute",
);
pub const RECEIVED_LAG: Metric = gauge(
    "penstock_received_lag_bytes",
    &[],
    "The server's position less what the bridge has read of it",
    "more than delivered lag explains: the source is slow",
);
pub const DELIVERED_LAG: Metric = gauge(
    "penstock_delivered_lag_bytes",
    &[],
    "The server's position less what is durable in Kafka",
    "growth that does not end",
);
pub const LAST_COMMIT: Metric = gauge(
    "penstock_last_delivered_commit_timestamp_seconds",
    &[],
    "Commit time of the newest transaction that is wholly durable in Kafka; stands still while nobody writes",
    "",
);
pub const DELIVERED_THROUGH: Metric = gauge(
    "penstock_delivered_through_timestamp_seconds",
    &[],
    "Postgres' clock at the end of what is durable in Kafka; moves on while nobody writes, so its age is the delay",
    "age of more than a minute",
);
pub const COMMIT_TO_ACK: Metric = Metric {
    name: "penstock_commit_to_ack_seconds",
    kind: Kind::Histogram,
    labels: &[],
    help: "From commit in Postgres to commit in Kafka, of the oldest Postgres transaction of each Kafka transaction",
    watch: "quantiles above your target",
};
pub const IN_FLIGHT_RECORDS: Metric =
    gauge("penstock_inflight_records", &[], "Records without their delivery report", "");
pub const IN_FLIGHT_BYTES: Metric = gauge(
    "penstock_inflight_bytes",
    &[],
    "Bytes of records without their delivery report",
    "at limits.in_flight_bytes_max: Kafka is the bottleneck",
);
pub const IN_FLIGHT_TRANSACTIONS: Metric =
    gauge("penstock_inflight_transactions", &[], "Postgres transactions that are read and not durable in Kafka", "");
pub const OLDEST_UNACKED: Metric = gauge(
    "penstock_oldest_unacked_transaction_age_seconds",
    &[],
    "Time since the commit of the oldest transaction that is read and not durable in Kafka, at the scrape; 0 without one",
    "more than a minute: Kafka does not take it",
);
pub const RECORDS: Metric = counter(
    "penstock_records_total",
    &["table", "op"],
    "Row events handed to Kafka, by table and operation (c, u, d, r); a session that starts over counts what it repeats",
    "",
);
pub const DEAD_LETTERS: Metric = counter(
    "penstock_dead_letters_total",
    &["table"],
    "Row events that could not be delivered and went to the dead-letter topic; a session that starts over counts what it repeats",
    "any: their accounts' readers deny until the account is loaded again",
);
pub const RECORDS_DELIVERED: Metric = counter(
    "penstock_records_delivered_total",
    &[],
    "Records that are durable in Kafka: rows, tombstones, controls, dead letters",
    "",
);
pub const TRANSACTIONS_DELIVERED: Metric =
    counter("penstock_transactions_delivered_total", &[], "Postgres transactions that are durable in Kafka", "");
pub const GROUPS: Metric = counter(
    "penstock_groups_committed_total",
    &[],
    "Kafka transactions committed, heartbeats included",
    "no increase for half a minute",
);
pub const ERRORS: Metric = counter(
    "penstock_delivery_errors_total",
    &["code"],
    "Sessions that Kafka ended, by librdkafka's code; each starts over from progress",
    "any that repeats; fenced: two bridges have one source name",
);
pub const DUPLICATES: Metric = counter(
    "penstock_duplicates_suppressed_total",
    &[],
    "Transactions that Postgres sent again after a restart and that were durable already, so not written twice",
    "",
);
pub const ORDER_VIOLATIONS: Metric = counter(
    "penstock_order_violations_total",
    &[],
    "Records or reports found out of the order that the guarantees demand",
    "any: a defect",
);
pub const REGISTRATIONS: Metric = counter(
    "penstock_schema_registrations_total",
    &["result"],
    "Answers of the schema registry: registered, unavailable (asked again), refused (the bridge stops)",
    "refused: any; unavailable: any that repeats",
);

pub const BACKFILL_ROWS_DONE: Metric = gauge(
    "penstock_backfill_rows_done",
    &[],
    "Rows that the reloads under way have read so far; absent while none is",
    "no increase for minutes: see penstock backfill status",
);
pub const BACKFILL_ROWS_TOTAL: Metric = gauge(
    "penstock_backfill_rows_total",
    &[],
    "Rows that the reloads under way have to read, as estimated when they began; absent while none is",
    "",
);

/// All of them, in the order of `docs/metrics.md`: what pages somebody first.
pub const ALL: [Metric; 29] = [
    READY,
    STANDSTILL,
    BUILD_INFO,
    RETAINED,
    CONFIRMED_LAG,
    SAFE,
    WAL_STATUS,
    ACTIVE,
    SAMPLED,
    RECEIVED_LAG,
    DELIVERED_LAG,
    DELIVERED_THROUGH,
    LAST_COMMIT,
    COMMIT_TO_ACK,
    OLDEST_UNACKED,
    IN_FLIGHT_RECORDS,
    IN_FLIGHT_BYTES,
    IN_FLIGHT_TRANSACTIONS,
    BACKFILL_ROWS_DONE,
    BACKFILL_ROWS_TOTAL,
    RECORDS,
    DEAD_LETTERS,
    RECORDS_DELIVERED,
    TRANSACTIONS_DELIVERED,
    GROUPS,
    ERRORS,
    DUPLICATES,
    ORDER_VIOLATIONS,
    REGISTRATIONS,
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
            assert!(name.starts_with("penstock_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            // The one gauge with a total that is none of events.
            let counts = name.ends_with("_total") && metric != BACKFILL_ROWS_TOTAL;
            assert_eq!(metric.kind == Kind::Counter, counts, "{name}");
            let reserved = ["_bucket", "_sum", "_count"].iter().any(|suffix| name.ends_with(suffix));
            assert!(!reserved, "{name} ends like a histogram's series");
            assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{name}: the help is a phrase");
            assert!(!metric.help.contains('|') && !metric.watch.contains('|'), "{name}: a table cell holds no bar");
        }
    }
}
