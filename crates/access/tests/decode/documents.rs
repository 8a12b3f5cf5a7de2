//! Columns that hold JSON, as rows hold them.

use penstock_access::change::Action;
use penstock_access::conditions::{Conditions, Reason};
use penstock_access::decode::{Complaint, Event, Problem};
use penstock_access::rows::{AccountRow, Filter, PolicyRow, Protocol, ResourceRow, Row, Table};
use serde_json::{Value as Json, json};

use crate::fixture::{Cell, decode, text, with};

fn account(config: &str) -> (AccountRow, Vec<Problem>) {
    match decode(Table::Accounts, &with(Table::Accounts, "config", text(config))) {
        Event { action: Action::Update(_, Row::Account(row)), problems, .. } => (row, problems),
        other => panic!("{other:?}"),
    }
}

fn resource(filters: &str) -> (ResourceRow, Vec<Problem>) {
    match decode(Table::Resources, &with(Table::Resources, "filters", text(filters))) {
        Event { action: Action::Update(_, Row::Resource(row)), problems, .. } => (row, problems),
        other => panic!("{other:?}"),
    }
}

fn policy(conditions: Cell) -> (PolicyRow, Vec<Problem>) {
    match decode(Table::Policies, &with(Table::Policies, "conditions", conditions)) {
        Event { action: Action::Update(_, Row::Policy(row)), problems, .. } => (row, problems),
        other => panic!("{other:?}"),
    }
}

/// As short as they can be written: `tcp 80-90`.
fn short(filters: &[Filter]) -> Vec<String> {
    let one = |filter: &Filter| {
        let protocol = match filter.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Icmp => "icmp",
        };
        filter.ports.map_or(protocol.to_owned(), |(first, last)| format!("{protocol} {first}-{last}"))
    };
    filters.iter().map(one).collect()
}

#[test]
fn filters_are_one_for_each_port() {
    for (filters, expected) in [
        ("[]", vec![]),
        (r#"[{"protocol": "tcp"}]"#, vec!["tcp"]),
        (r#"[{"protocol": "tcp", "ports": null}, {"protocol": "icmp", "ports": []}]"#, vec!["tcp", "icmp"]),
        (r#"[{"protocol": "udp", "ports": ["53"]}]"#, vec!["udp 53-53"]),
        (
            r#"[{"ports": ["80", "443 - 444", "1-65535", " 7 "], "protocol": "tcp", "note": {}}, {"protocol": "udp"}]"#,
            vec!["tcp 80-80", "tcp 443-444", "tcp 1-65535", "tcp 7-7", "udp"],
        ),
    ] {
        let (row, problems) = resource(filters);
        assert_eq!(short(&row.filters), expected, "{filters}");
        assert!(row.live && problems.is_empty(), "{filters}: {problems:?}");
    }
}

#[test]
fn what_cannot_be_read_of_filters_is_left_out() {
    let unreadable_ports = [
        "\"0\"",
        "\"65536\"",
        "\"90 - 80\"",
        "\"0 - 80\"",
        "\"80 - 65536\"",
        "\"\"",
        "\"-\"",
        "\"80 -\"",
        "\"- 80\"",
        "\"80 - 90 - 100\"",
        "\"+80\"",
        "\"8 0\"",
        "\"http\"",
        "\"８０\"",
        "80",
        "null",
        "[80, 90]",
        "{}",
        "99999999999999999999",
    ];
    for port in unreadable_ports {
        let (row, problems) = resource(&format!(r#"[{{"protocol": "tcp", "ports": ["22", {port}, "443"]}}]"#));
        assert_eq!(short(&row.filters), ["tcp 22-22", "tcp 443-443"], "{port}");
        assert!(row.live, "{port}");
        assert_eq!(problems, [Problem { column: "filters", complaint: Complaint::Part }], "{port}");
    }
    for filter in [
        r#"{"protocol": "sctp", "ports": ["80"]}"#,
        r#"{"protocol": "TCP"}"#,
        r#"{"protocol": null}"#,
        r#"{"ports": ["80"]}"#,
        r#"{"protocol": "tcp", "ports": "80"}"#,
        r#"{"protocol": "tcp", "ports": {}}"#,
        r#"{"protocol": "tcp", "ports": ["x"]}"#,
        "{}",
        "[]",
        "null",
        "\"tcp\"",
    ] {
        let (row, problems) = resource(&format!(r#"[{{"protocol": "udp", "ports": ["53"]}}, {filter}]"#));
        assert_eq!(short(&row.filters), ["udp 53-53"], "{filter}");
        assert!(row.live, "{filter}");
        assert_eq!(problems, [Problem { column: "filters", complaint: Complaint::Part }], "{filter}");

        // No filter would let everything through.
        let (row, problems) = resource(&format!("[{filter}]"));
        assert!(!row.live && row.filters.is_empty(), "{filter} alone");
        assert_eq!(problems, [Problem { column: "filters", complaint: Complaint::NothingLeft }], "{filter} alone");
    }
}

#[test]
fn filters_that_are_no_array_are_no_filters_to_rely_on() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for filters in ["null", "{}", "\"\"", "7", "[", "[]]", "", r#"[{"protocol": "tcp"}"#, "[1e999]", &deep] {
        let (row, problems) = resource(filters);
        assert!(!row.live && row.filters.is_empty(), "{filters:.20}");
        assert_eq!(problems, [Problem { column: "filters", complaint: Complaint::Unreadable }], "{filters:.20}");
    }
}

#[test]
fn config_is_read_as_far_as_it_can_be() {
    let part = vec![Complaint::Part];
    for (config, domain, servers, complaints) in [
        ("{}", None, vec![], vec![]),
        (r#"{"search_domain": null, "clients_upstream_dns": null}"#, None, vec![], vec![]),
        (r#"{"search_domain": "a.b", "clients_upstream_dns": []}"#, Some("a.b"), vec![], vec![]),
        (
            r#"{"clients_upstream_dns": [{"protocol": "ip_port", "address": "::1"}, {"address": "1.1.1.1:53", "protocol": "doh"}]}"#,
            None,
            vec![("ip_port", "::1"), ("doh", "1.1.1.1:53")],
            vec![],
        ),
        (r#"{"search_domain": 7, "clients_upstream_dns": {}}"#, None, vec![], part.clone()),
        (
            r#"{"search_domain": "a.b", "clients_upstream_dns": [7, {}, {"protocol": "ip_port"}, {"address": "1.1.1.1"},
                {"protocol": "ip_port", "address": "dns.example"}, {"protocol": 1, "address": "1.1.1.1"},
                {"protocol": "ip_port", "address": "1.1.1.1"}]}"#,
            Some("a.b"),
            vec![("ip_port", "1.1.1.1")],
            part,
        ),
        ("[]", None, vec![], vec![Complaint::Unreadable]),
        ("null", None, vec![], vec![Complaint::Unreadable]),
        ("{", None, vec![], vec![Complaint::Unreadable]),
    ] {
        let (row, problems) = account(config);
        assert!(row.live, "{config}");
        assert_eq!(row.search_domain.as_deref(), domain, "{config}");
        let found: Vec<_> = row.upstream_dns.iter().map(|server| (&*server.protocol, &*server.address)).collect();
        assert_eq!(found, servers, "{config}");
        assert_eq!(problems.iter().map(|problem| problem.complaint).collect::<Vec<_>>(), complaints, "{config}");
    }
}

#[test]
fn conditions_are_the_elements_of_an_array_of_one_dimension() {
    let array = |literal: &str| policy(text(literal));
    let elements = |elements: Vec<Option<Json>>| Some(elements.into());
    assert_eq!(array("{}").0.conditions, elements(vec![]));
    assert_eq!(array("{NULL}").0.conditions, elements(vec![None]));
    assert_eq!(array(r#"{"null"}"#).0.conditions, elements(vec![Some(Json::Null)]));
    let (row, problems) = array(r#"{"{\"values\": [\"ü\"]}",NULL,7,"[]"}"#);
    assert_eq!(row.conditions, elements(vec![Some(json!({"values": ["ü"]})), None, Some(json!(7)), Some(json!([]))]));
    assert!(row.live && problems.is_empty());

    for (cell, complaints) in [
        (Cell::Null, vec![]),
        (Cell::Unchanged, vec![Complaint::Unchanged]),
        (text("{{}}"), vec![Complaint::Unreadable]),
        (text(r#"{{"{}"},{"{}"}}"#), vec![Complaint::Unreadable]),
        (text(r#"[0:0]={"{}"}"#), vec![Complaint::Unreadable]),
    ] {
        let (row, problems) = policy(cell.clone());
        assert_eq!(row.conditions, None, "{cell:?}");
        assert!(row.live, "{cell:?}: what denies are its conditions");
        assert_eq!(problems.iter().map(|problem| problem.complaint).collect::<Vec<_>>(), complaints, "{cell:?}");
    }
}

#[test]
fn a_condition_that_is_no_json_to_us_denies_and_is_told_when_it_is_compiled() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for element in ["1e999", deep.as_str()] {
        let (row, problems) = policy(text(&format!(r#"{{"{element}"}}"#)));
        assert_eq!(row.conditions, Some([Some(Json::Null)].into()));
        assert_eq!(problems, []);
        let (_, problems) = Conditions::compile(&row.conditions);
        assert_eq!(problems.iter().map(|problem| problem.reason).collect::<Vec<_>>(), [Reason::Shape]);
    }
}
