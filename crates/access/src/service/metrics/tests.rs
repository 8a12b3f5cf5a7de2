use std::collections::{BTreeMap, BTreeSet};

use super::names::{ALL, Kind};
use super::*;
use crate::rows::Micros;

/// Every series, as `name{labels}`, with its value.
fn series(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').expect("a sample has a value"))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a value is a number")))
        .collect()
}

/// On which everything has happened.
fn eventful() -> Metrics {
    let metrics = Metrics::new();
    let health = Health {
        partitions: 6,
        rebuilding: 1,
        catching_up: None,
        stale: 2,
        quarantined: 1,
        accounts: 9,
        unavailable: BTreeMap::from([(Reason::Quarantined, 4)]),
        as_of: Some(Micros(5_250_000)),
        applied_ms: Some(4_500),
        held_bytes: 77,
        has_stopped: false,
    };
    metrics.sample(&health, 3);
    metrics.lag(4, 12);
    metrics.read(10);
    metrics.read(15);
    metrics.pushed(&Push::NotAssigned {});
    metrics.delay(0.04);
    metrics.problem(&ProblemKind::Schema { id: 1, reason: String::new() });
    metrics.rebuild(&RebuildReason::TooSlow);
    metrics.flow_ended(Ended::Repointed);
    metrics.queue_overflowed();
    metrics.answered(&Answer::Offline);
    metrics
}

#[test]
fn what_is_registered_is_what_is_listed() {
    let found: BTreeMap<String, (Kind, BTreeSet<String>)> = eventful()
        .0
        .registry
        .gather()
        .iter()
        .map(|family| {
            let kind = match family.get_field_type() {
                prometheus::proto::MetricType::COUNTER => Kind::Counter,
                prometheus::proto::MetricType::GAUGE => Kind::Gauge,
                prometheus::proto::MetricType::HISTOGRAM => Kind::Histogram,
                other => panic!("{other:?}"),
            };
            let labels =
                family.get_metric().iter().flat_map(|metric| metric.get_label()).map(|label| label.name().to_owned());
            (family.name().to_owned(), (kind, labels.collect()))
        })
        .collect();
    let listed: BTreeMap<String, (Kind, BTreeSet<String>)> = ALL
        .into_iter()
        .map(|metric| {
            (metric.name.to_owned(), (metric.kind, metric.labels.iter().map(|&label| label.to_owned()).collect()))
        })
        .collect();
    assert_eq!(found, listed);
}

#[test]
fn everything_that_happens_moves_its_metric() {
    let series = series(&eventful().text());
    let moved = [
        ("ready", 0.0),
        ("build_info{version=\"0.1.0\"}", 1.0),
        ("partitions{state=\"fresh\"}", 3.0),
        ("partitions{state=\"rebuilding\"}", 1.0),
        ("partitions{state=\"stale\"}", 2.0),
        ("partitions_quarantined", 1.0),
        ("accounts", 9.0),
        ("accounts_unavailable{reason=\"quarantined\"}", 4.0),
        ("as_of_timestamp_seconds", 5.25),
        ("applied_commit_timestamp_seconds", 4.5),
        ("lag_records{partition=\"4\"}", 12.0),
        ("held_bytes", 77.0),
        ("channels", 3.0),
        ("commit_to_push_seconds_count", 1.0),
        ("pushes_total{push=\"not_assigned\"}", 1.0),
        ("answers_total{result=\"offline\"}", 1.0),
        ("records_total", 15.0),
        ("problems_total{kind=\"schema\"}", 1.0),
        ("rebuilds_total{why=\"too_slow\"}", 1.0),
        ("ended_flows_total{why=\"repointed\"}", 1.0),
        ("queue_overflows_total", 1.0),
    ];
    for (name, value) in moved {
        assert_eq!(series.get(&format!("penstock_access_{name}")), Some(&value), "{name}");
    }
    for metric in ALL {
        let short = metric.name.trim_start_matches("penstock_access_");
        let covered = moved.iter().any(|(name, _)| name.starts_with(short));
        assert!(covered, "{} is not looked at", metric.name);
    }
}

#[test]
fn what_is_not_known_is_absent_and_what_may_happen_is_at_zero() {
    let metrics = Metrics::new();
    let at_first = series(&metrics.text());
    let is_instant = |name: &&String| name.ends_with("timestamp_seconds");
    assert_eq!(at_first.keys().filter(is_instant).collect::<Vec<_>>(), [""; 0]);
    for zero in ["ready", "accounts_unavailable{reason=\"stale\"}", "problems_total{kind=\"undecodable\"}"] {
        assert_eq!(at_first.get(&format!("penstock_access_{zero}")), Some(&0.0), "{zero}");
    }
    let metrics = eventful();
    metrics.sample(&Health { partitions: 1, ..Health::default() }, 0);
    metrics.forget(4);
    let later = series(&metrics.text());
    assert_eq!(later.keys().filter(is_instant).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(later.get("penstock_access_lag_records{partition=\"4\"}"), None);
    assert_eq!(later.get("penstock_access_ready"), Some(&1.0));
}
