use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use penstock_core::ledger::LastCommit;
use penstock_wire::lsn::{CommitLsn, Lsn};
use penstock_wire::position::{Position, Seq};
use penstock_wire::reload::{Reload, ReloadRange, ReloadState};

use super::*;
use crate::catalog::WalStatus;
use crate::health::Health;

const GIB: u64 = 1 << 30;

fn sample() -> SlotSample {
    SlotSample {
        current_lsn: Lsn(5 * GIB),
        restart_lsn: Some(Lsn(GIB)),
        confirmed_lsn: Some(EndLsn::new(2 * GIB)),
        wal_status: Some(WalStatus::Extended),
        safe_wal_bytes: Some(77),
        active: true,
    }
}

fn group(oldest_commit_time_us: Option<i64>) -> GroupEnd {
    GroupEnd {
        end_lsn: EndLsn::new(9),
        last_commit: LastCommit { commit_time_us: 4_000_000, ..LastCommit::default() },
        postgres_clock_us: 6_500_000,
        partitions: Vec::new(),
        reloads: Arc::default(),
        records: 12,
        transactions: 3,
        oldest_commit_time_us,
    }
}

fn reload(state: ReloadState, rows: u64) -> Reload {
    let range = ReloadRange { rows, rows_estimated: 100, ..ReloadRange::default() };
    Reload { state, ranges: vec![range], ..Reload::default() }
}

/// Every series, as `name{labels}`, with its value.
fn series(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').expect("a sample has a value"))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a value is a number")))
        .collect()
}

/// Metrics on which everything has happened.
fn eventful() -> Metrics {
    let metrics = Metrics::new();
    metrics.table("public", "flows").add(Op::Update, 5);
    metrics.table("public", "flows").add_dead_letters(2);
    metrics.committed(&group(Some(3_000_000)), 5_500_000);
    metrics.in_flight(7, 900);
    metrics.unacknowledged(2, Some(5_000_000));
    metrics.delivery_error("MessageTimedOut");
    metrics.schema_registration(Registration::Refused);
    metrics.duplicates_suppressed(4);
    metrics.order_violation();
    metrics.backfill(&[
        reload(ReloadState::Running, 40),
        reload(ReloadState::Paused, 2),
        reload(ReloadState::Done, 1000),
    ]);
    metrics.slot(&sample(), EndLsn::new(4 * GIB), EndLsn::new(3 * GIB));
    metrics
}

fn later(metrics: &Metrics, seconds: u64) -> BTreeMap<String, f64> {
    let now = Moment { unix_us: 10_000_000, instant: Moment::now().instant + Duration::from_secs(seconds) };
    series(&metrics.text_at(&Verdict::Ready, now))
}

#[test]
fn all_that_is_listed_is_exported_and_nothing_else() {
    let health = Health::default();
    health.waits_for("registry", "connection refused: 127.0.0.1:8081".into());
    let text = eventful().text(&health.verdict());
    let exported: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split_once(' ').expect("a name and a type"))
        .collect();
    let kind = |kind| match kind {
        names::Kind::Counter => "counter",
        names::Kind::Gauge => "gauge",
        names::Kind::Histogram => "histogram",
    };
    let listed: BTreeSet<(&str, &str)> = names::ALL.iter().map(|metric| (metric.name, kind(metric.kind))).collect();
    assert_eq!(exported, listed);
    for metric in names::ALL {
        assert!(
            text.contains(&format!("# HELP {} {}\n", metric.name, metric.help.replace('\\', "\\\\"))),
            "{metric:?}"
        );
    }
}

#[test]
fn labels_are_those_that_are_listed() {
    let health = Health::default();
    health.waits_for("kafka", "down".into());
    for (name, _) in series(&eventful().text(&health.verdict())) {
        let Some((name, labels)) = name.split_once('{') else { continue };
        let metric = names::ALL.iter().find(|metric| name == metric.name || name == format!("{}_bucket", metric.name));
        let metric = metric.unwrap_or_else(|| panic!("{name} is not listed"));
        let found: Vec<&str> = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
        // The registry tells labels in the order of their names.
        let mut listed = metric.labels.to_vec();
        listed.sort_unstable();
        let listed = if metric.kind == names::Kind::Histogram { vec!["le"] } else { listed };
        assert_eq!(found, listed, "{name}");
    }
}

#[test]
fn values_are_what_was_reported() {
    let series = later(&eventful(), 1);
    let gib = GIB as f64;
    for (name, value) in [
        ("penstock_ready", 1.0),
        ("penstock_slot_retained_wal_bytes", 4.0 * gib),
        ("penstock_slot_confirmed_lag_bytes", 3.0 * gib),
        ("penstock_received_lag_bytes", gib),
        ("penstock_delivered_lag_bytes", 2.0 * gib),
        ("penstock_slot_safe_wal_bytes", 77.0),
        ("penstock_slot_active", 1.0),
        ("penstock_backfill_rows_done", 42.0),
        ("penstock_backfill_rows_total", 200.0),
        ("penstock_slot_wal_status{status=\"extended\"}", 1.0),
        ("penstock_slot_wal_status{status=\"lost\"}", 0.0),
        ("penstock_last_delivered_commit_timestamp_seconds", 4.0),
        ("penstock_delivered_through_timestamp_seconds", 6.5),
        ("penstock_oldest_unacked_transaction_age_seconds", 5.0),
        ("penstock_inflight_records", 7.0),
        ("penstock_inflight_bytes", 900.0),
        ("penstock_inflight_transactions", 2.0),
        ("penstock_commit_to_ack_seconds_sum", 2.5),
        ("penstock_commit_to_ack_seconds_bucket{le=\"1\"}", 0.0),
        ("penstock_commit_to_ack_seconds_bucket{le=\"2.5\"}", 1.0),
        ("penstock_records_total{op=\"u\",table=\"public.flows\"}", 5.0),
        ("penstock_records_total{op=\"d\",table=\"public.flows\"}", 0.0),
        ("penstock_dead_letters_total{table=\"public.flows\"}", 2.0),
        ("penstock_records_delivered_total", 12.0),
        ("penstock_transactions_delivered_total", 3.0),
        ("penstock_groups_committed_total", 1.0),
        ("penstock_delivery_errors_total{code=\"MessageTimedOut\"}", 1.0),
        ("penstock_duplicates_suppressed_total", 4.0),
        ("penstock_order_violations_total", 1.0),
        ("penstock_schema_registrations_total{result=\"refused\"}", 1.0),
        ("penstock_schema_registrations_total{result=\"registered\"}", 0.0),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name}");
    }
}

#[test]
fn a_lag_nobody_measured_lately_is_absent_and_its_age_is_told() {
    let metrics = eventful();
    assert!(later(&metrics, 29).contains_key("penstock_delivered_lag_bytes"));
    let old = later(&metrics, 31);
    for name in ["received_lag_bytes", "delivered_lag_bytes", "slot_retained_wal_bytes", "slot_active"] {
        assert!(!old.contains_key(&format!("penstock_{name}")), "{name} is stale");
    }
    assert!(old.contains_key("penstock_slot_sample_timestamp_seconds"));
}

#[test]
fn the_age_of_what_is_not_durable_rises_without_anybody_reporting_it() {
    let metrics = Metrics::new();
    metrics.in_flight(7, 900);
    metrics.unacknowledged(1, Some(1_000_000));
    metrics.session_ended();
    let age = |unix_us| {
        let now = Moment { unix_us, ..Moment::now() };
        series(&metrics.text_at(&Verdict::Ready, now))["penstock_oldest_unacked_transaction_age_seconds"]
    };
    assert_eq!((age(2_000_000), age(62_000_000)), (1.0, 61.0));
    assert_eq!(age(500_000), 0.0, "Postgres' clock may be ahead");
    assert_eq!(later(&metrics, 0)["penstock_inflight_records"], 0.0);
    metrics.unacknowledged(0, None);
    assert_eq!(age(62_000_000), 0.0);
}

#[test]
fn a_heartbeat_moves_freshness_and_no_commit_time() {
    let metrics = Metrics::new();
    metrics.committed(&GroupEnd { records: 0, transactions: 0, ..group(None) }, 7_000_000);
    let series = later(&metrics, 0);
    assert_eq!(series["penstock_delivered_through_timestamp_seconds"], 6.5);
    assert_eq!(series["penstock_groups_committed_total"], 1.0);
    assert_eq!(series["penstock_commit_to_ack_seconds_count"], 0.0);
    assert!(!series.contains_key("penstock_last_delivered_commit_timestamp_seconds"));
}

#[test]
fn a_part_of_a_transaction_moves_no_commit_time() {
    let metrics = Metrics::new();
    let last_event = Position { epoch: 1, commit_lsn: CommitLsn::new(9), seq: Seq(8) };
    let last_commit = LastCommit { last_event, ..group(None).last_commit };
    metrics.committed(&GroupEnd { last_commit, ..group(Some(3_000_000)) }, 7_000_000);
    assert!(!later(&metrics, 0).contains_key("penstock_last_delivered_commit_timestamp_seconds"));
}

#[test]
fn what_is_not_known_is_absent_rather_than_zero_or_huge() {
    let metrics = Metrics::new();
    let unknown =
        SlotSample { restart_lsn: None, confirmed_lsn: None, wal_status: None, safe_wal_bytes: None, ..sample() };
    metrics.slot(&unknown, EndLsn::default(), EndLsn::default());
    let series = later(&metrics, 0);
    for name in [
        "slot_retained_wal_bytes",
        "slot_confirmed_lag_bytes",
        "slot_safe_wal_bytes",
        "slot_wal_status{status=\"lost\"}",
        "received_lag_bytes",
        "delivered_lag_bytes",
        "delivered_through_timestamp_seconds",
    ] {
        assert!(!series.contains_key(&format!("penstock_{name}")), "{name}");
    }
    assert_eq!(series["penstock_slot_active"], 1.0);
}

#[test]
fn a_position_read_after_the_sample_makes_no_negative_lag() {
    let metrics = Metrics::new();
    metrics.slot(&sample(), EndLsn::new(6 * GIB), EndLsn::new(6 * GIB));
    assert_eq!(later(&metrics, 0)["penstock_received_lag_bytes"], 0.0);
}

#[test]
fn a_standstill_is_told_by_what_is_awaited() {
    let metrics = Metrics::new();
    let standing = |health: &Health| -> Vec<String> {
        let series = series(&metrics.text(&health.verdict()));
        series.into_keys().filter(|name| name.starts_with("penstock_standstill")).collect()
    };
    let health = Health::default();
    assert_eq!(standing(&health), ["penstock_standstill{what=\"starting\"}"]);
    health.streams(true);
    assert_eq!(standing(&health), [""; 0]);
    health.waits_for("kafka", "Local: Broker transport failure: port 9092".into());
    health.waits_for("postgres catalog", "connection refused".into());
    let both = ["penstock_standstill{what=\"kafka\"}", "penstock_standstill{what=\"postgres catalog\"}"];
    assert_eq!(standing(&health), both);
    health.stopped("slot lost: do this".into());
    assert_eq!(standing(&health), ["penstock_standstill{what=\"halted\"}"]);
}
