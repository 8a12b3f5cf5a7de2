//! What the repository says about metrics (dashboards, alert rules, their tests, reference) against the two lists of what
//! is exported, the bridge's and the consumer's. A panel that shows nothing looks exactly like a bridge that has no trouble.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use penstock::metrics::names as bridge;
use penstock_access::service::metrics::names as access;
use serde_json::{Value, json};

/// Rules, and what they are tested by.
const ALERTS: [(&str, &str); 2] = [
    ("dashboards/alerts.yaml", "dashboards/tests/alerts_test.yaml"),
    ("dashboards/access-alerts.yaml", "dashboards/tests/access_alerts_test.yaml"),
];
const DASHBOARDS: [&str; 2] = ["dashboards/penstock.json", "dashboards/penstock-access.json"];
const REFERENCE: &str = "docs/metrics.md";

/// Labels that Prometheus adds, by scraping or by alerting.
const FOREIGN_LABELS: [&str; 5] = ["job", "instance", "le", "alertname", "alertstate"];
/// Set where `promtool` is installed on purpose, so that its absence is a failure there.
const PROMTOOL_REQUIRED: &str = "PENSTOCK_REQUIRE_PROMTOOL";

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn dashboards() -> [Value; 2] {
    DASHBOARDS.map(|path| serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}")))
}

/// One metric of either program.
#[derive(Clone, Copy, Debug)]
struct Metric {
    name: &'static str,
    kind: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    watch: &'static str,
}

/// Those of the bridge, then those of the consumer.
fn metrics() -> Vec<Metric> {
    let of_bridge = bridge::ALL.into_iter().map(|bridge::Metric { name, kind, labels, help, watch }| {
        let kind = match kind {
            bridge::Kind::Counter => "counter",
            bridge::Kind::Gauge => "gauge",
            bridge::Kind::Histogram => "histogram",
        };
        Metric { name, kind, labels, help, watch }
    });
    let of_access = access::ALL.into_iter().map(|access::Metric { name, kind, labels, help, watch }| {
        let kind = match kind {
            access::Kind::Counter => "counter",
            access::Kind::Gauge => "gauge",
            access::Kind::Histogram => "histogram",
        };
        Metric { name, kind, labels, help, watch }
    });
    of_bridge.chain(of_access).collect()
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().expect("a dashboard has panels")
}

/// Title and query of everything a panel asks for.
fn queries(dashboard: &Value) -> Vec<(&str, &str)> {
    let mut queries = Vec::new();
    for panel in panels(dashboard).iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().expect("a panel has a title");
        let targets = panel["targets"].as_array().unwrap_or_else(|| panic!("{title} asks for nothing"));
        assert!(!targets.is_empty(), "{title} asks for nothing");
        queries.extend(targets.iter().map(|target| (title, target["expr"].as_str().expect("a target has a query"))));
    }
    queries
}

fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(strings).collect(),
        Value::Object(fields) => fields.values().flat_map(strings).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// The metric that a series of this name belongs to.
fn metric_of(series: &str) -> Option<Metric> {
    let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| series.strip_suffix(suffix));
    metrics().into_iter().find(|metric| match metric.kind {
        "histogram" => of_histogram == Some(metric.name),
        _ => series == metric.name,
    })
}

/// Every `penstock_…` in a text, with what follows it.
fn series_in(text: &str) -> Vec<(&str, &str)> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let begins = |at: usize| !text[..at].ends_with(is_word);
    let starts = text.match_indices("penstock_").map(|(at, _)| at).filter(|at| begins(*at));
    starts
        .map(|at| text[at..].split_at(text[at..].find(|letter| !is_word(letter)).unwrap_or(text.len() - at)))
        .collect()
}

/// What follows every occurrence of `opening`, up to `closing`.
fn between<'t>(text: &'t str, opening: &'t str, closing: char) -> impl Iterator<Item = &'t str> {
    text.match_indices(opening).filter_map(move |(at, _)| Some(text[at + opening.len()..].split_once(closing)?.0))
}

/// What a text says of metrics that is not so.
fn wrong(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (series, after) in series_in(text) {
        let Some(metric) = metric_of(series) else {
            wrong.push(format!("no metric is called {series}"));
            continue;
        };
        let matchers = after.strip_prefix('{').and_then(|after| after.split_once('}')).map_or("", |(inside, _)| inside);
        let labels = matchers.split(", ").filter_map(|matcher| matcher.split(['=', '!']).next());
        let unknown = labels.filter(|label| !label.is_empty() && !metric.labels.contains(label));
        wrong.extend(
            unknown.filter(|label| !FOREIGN_LABELS.contains(label)).map(|label| format!("{series} has no {label}")),
        );
    }
    let known: BTreeSet<&str> =
        metrics().iter().flat_map(|metric| metric.labels).copied().chain(FOREIGN_LABELS).collect();
    // Annotations of alerts hold templates of values too, which begin with a dollar.
    let named = between(text, " by (", ')').flat_map(|labels| labels.split(", ")).chain(between(text, "{{", '}'));
    let unknown = named.filter(|label| !label.contains('$') && !known.contains(label));
    wrong.extend(unknown.map(|label| format!("no metric has a label {label}")));
    wrong
}

#[test]
fn what_is_wrong_is_found() {
    for (text, expected) in [
        ("max(penstock_ready)", ""),
        ("rate(penstock_commit_to_ack_seconds_bucket[5m])", ""),
        ("sum by (table, op) (penstock_records_total{op=\"d\", job!=\"x\"})", ""),
        ("penstock_slot_lag", "no metric is called penstock_slot_lag"),
        ("penstock_ready_count", "no metric is called penstock_ready_count"),
        ("penstock_commit_to_ack_seconds", "no metric is called penstock_commit_to_ack_seconds"),
        ("penstock_ready{state=\"x\"}", "penstock_ready has no state"),
        ("sum by (tabel) (penstock_records_total)", "no metric has a label tabel"),
        ("of {{tabel}}", "no metric has a label tabel"),
        ("is {{ $value }}", ""),
    ] {
        assert_eq!(wrong(text).join("; "), expected, "{text}");
    }
}

#[test]
fn dashboards_name_only_metrics_and_labels_that_exist() {
    for dashboard in dashboards() {
        let found: Vec<String> = strings(&dashboard).into_iter().flat_map(wrong).collect();
        assert_eq!(found, [""; 0]);
        assert!(queries(&dashboard).iter().any(|(_, query)| !series_in(query).is_empty()), "nothing was looked at");
    }
}

#[test]
fn every_metric_of_the_consumer_is_shown() {
    let [_, dashboard] = dashboards();
    let queries = queries(&dashboard);
    let shown: BTreeSet<&str> =
        queries.iter().flat_map(|(_, query)| series_in(query)).map(|(series, _)| series).collect();
    let missing: Vec<&str> = access::ALL
        .iter()
        .map(|metric| metric.name)
        .filter(|name| !shown.contains(name) && !shown.contains(format!("{name}_bucket").as_str()))
        .collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn alert_rules_and_their_tests_name_only_metrics_and_labels_that_exist() {
    for path in ALERTS.iter().flat_map(|(rules, tests)| [rules, tests]) {
        let text = read(path);
        assert_eq!(wrong(&text), [""; 0], "{path}");
        assert!(!series_in(&text).is_empty(), "{path} was not understood");
    }
}

#[test]
fn every_alert_is_tested_and_comes_with_advice() {
    for (alerts, tests) in ALERTS.map(|(alerts, tests)| (read(alerts), read(tests))) {
        let rules: Vec<&str> = alerts.split("- alert: ").skip(1).collect();
        assert!(!rules.is_empty());
        for rule in rules {
            let name = rule.lines().next().unwrap_or_default();
            let tested = tests.contains(&format!("{name}\"")) || tests.contains(&format!("alertname: {name}\n"));
            assert!(tested, "{name} has no test");
            for part in ["summary: \"", "description: \"", "severity: "] {
                assert!(rule.contains(part), "{name} has no {part}");
            }
        }
    }
}

#[test]
fn panels_have_places_and_numbers_of_their_own_and_ask_the_chosen_source() {
    dashboards().iter().for_each(check_panels);
    let uids: BTreeSet<String> = dashboards().iter().map(|dashboard| dashboard["uid"].to_string()).collect();
    assert_eq!(uids.len(), DASHBOARDS.len(), "Grafana knows a dashboard by its uid");
}

fn check_panels(dashboard: &Value) {
    let mut ids = BTreeSet::new();
    let mut places = BTreeSet::new();
    for panel in panels(dashboard) {
        let title = panel["title"].as_str().expect("a panel has a title");
        assert!(ids.insert(panel["id"].as_u64().expect("a panel has a number")), "{title}: number given twice");
        let place = |side: &str| panel["gridPos"][side].as_u64().unwrap_or_else(|| panic!("{title}: {side}"));
        assert!(place("x") + place("w") <= 24, "{title} is wider than the dashboard");
        for y in place("y")..place("y") + place("h") {
            for x in place("x")..place("x") + place("w") {
                assert!(places.insert((x, y)), "{title} lies over another panel");
            }
        }
        assert!(panel["type"] == "row" || panel["datasource"]["uid"] == "${datasource}", "{title}: data source");
    }
    assert_eq!(panels(dashboard)[1]["title"], "Ready", "what pages somebody comes first");
}

#[test]
fn the_reference_lists_what_is_exported() {
    let cell = |text: &str| if text.is_empty() { String::new() } else { format!(" {text}") };
    let row = |metric: Metric| {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (labels, watch) = (cell(&labels.join(", ")), cell(metric.watch));
        format!("| `{}` | {} |{labels} | {} |{watch} |", metric.name, metric.kind, metric.help)
    };
    let expected: Vec<String> = metrics().into_iter().map(row).collect();
    let reference = read(REFERENCE);
    let found: Vec<&str> = reference.lines().filter(|line| line.starts_with("| `penstock_")).collect();
    assert_eq!(found, expected, "the table of {REFERENCE} must be:\n{}\n", expected.join("\n"));
    // Outside of the table, the text names only what exists.
    let unknown: Vec<&str> = series_in(&reference).into_iter().map(|(series, _)| series).collect();
    let unknown: Vec<&str> =
        unknown.into_iter().filter(|series| !metrics().iter().any(|metric| metric.name == *series)).collect();
    assert_eq!(unknown, [""; 0]);
}

/// `None` where it is not installed and need not be.
fn promtool(arguments: &[&str], path: &Path) -> Option<Output> {
    match Command::new("promtool").args(arguments).arg(path).output() {
        Ok(output) => Some(output),
        Err(error) => {
            let required = std::env::var_os(PROMTOOL_REQUIRED).is_some();
            assert!(!required, "promtool cannot be run: {error}; on Debian it is in the package prometheus");
            eprintln!("not checked: promtool cannot be run ({error}); on Debian it is in the package prometheus");
            None
        }
    }
}

fn assert_passed(output: Option<Output>, path: &Path) {
    let Some(output) = output else { return };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}:\n{said}", path.display());
}

#[test]
fn prometheus_understands_the_alert_rules_and_they_fire_when_they_should() {
    for (rules, tests) in ALERTS.map(|(rules, tests)| (file(rules), file(tests))) {
        assert_passed(promtool(&["check", "rules"], &rules), &rules);
        assert_passed(promtool(&["test", "rules"], &tests), &tests);
    }
}

/// As recording rules in JSON, which is YAML too, with Grafana's interval in place.
#[test]
fn prometheus_understands_every_query_of_the_dashboards() {
    dashboards().iter().for_each(check_queries);
}

fn check_queries(dashboard: &Value) {
    let annotations = dashboard["annotations"]["list"].as_array().expect("annotations");
    let annotations = annotations.iter().filter_map(|annotation| Some(("annotation", annotation["expr"].as_str()?)));
    let rule = |(number, (title, query)): (usize, (&str, &str))| {
        let query = query.replace("$__rate_interval", "5m");
        json!({ "record": format!("panel:query{number}"), "expr": query, "labels": { "panel": title } })
    };
    let rules: Vec<Value> = queries(dashboard).into_iter().chain(annotations).enumerate().map(rule).collect();
    assert!(rules.len() > 20, "the dashboard was not understood: {} queries", rules.len());
    let directory = tempfile::tempdir().expect("a directory for the rules");
    let path = directory.path().join("panels.json");
    fs::write(&path, json!({ "groups": [{ "name": "panels", "rules": rules }] }).to_string()).expect("write the rules");
    assert_passed(promtool(&["check", "rules"], &path), &path);
}
