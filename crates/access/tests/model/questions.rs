//! Answers to `authorize`, a line for each rule.

use penstock_access::authorize::{Answer, NewFlow, Request};
use penstock_access::rows::*;
use uuid::Uuid;

use crate::build::*;

fn ask(driven: &Driven, online: &[&str]) -> Answer {
    let online: Vec<Uuid> = online.iter().map(|name| id(name)).collect();
    let request = Request { client: id("c1"), token: id("t1"), resource: id("r1"), online: &online, flow: id("f1") };
    driven.account.authorize(&request, driven.micros())
}

fn after(acts: Vec<Act>) -> Driven {
    let (mut driven, _, _) = Driven::small();
    driven.commit(acts);
    driven
}

/// The answer in short after some changes to a small world, with w1 to w3 online.
fn answer(acts: Vec<Act>) -> String {
    match ask(&after(acts), &["w3", "w1", "w2"]) {
        Answer::Ok { flow } => {
            let until = flow.expires_at.map_or(String::new(), |at| format!(" until {}", at - NOW));
            format!(
                "ok {} {} {}{until}",
                name(flow.policy_id),
                name(flow.actor_group_membership_id),
                name(flow.gateway_id)
            )
        }
        Answer::Forbidden { violated_properties } => {
            format!("forbidden {}", violated_properties.join(",")).trim().to_owned()
        }
        Answer::NotFound => "not found".to_owned(),
        Answer::Offline => "offline".to_owned(),
        Answer::VersionMismatch => "version mismatch".to_owned(),
        Answer::Unavailable { reason } => format!("unavailable {reason:?}"),
    }
}

fn with(conditions: &[(&str, &str, &[&str])]) -> PolicyRow {
    let conditions = conditions.iter().map(|(property, operator, values)| condition(property, operator, values));
    PolicyRow { conditions: Some(conditions.collect()), ..policy("g1", "r1") }
}

const REGION: (&str, &str, &[&str]) = ("remote_ip_location_region", "is_in", &["US"]);
const VERIFIED: (&str, &str, &[&str]) = ("client_verified", "is", &["true"]);
const TIMES: &str = "current_utc_datetime";
const IN_RANGES: &str = "is_in_day_of_week_time_ranges";

#[test]
fn precedence() {
    let old = || ClientRow { last_seen_version: Some("1.2.0".into()), ..client("a1") };
    let internet = || ResourceRow { kind: ResourceKind::Internet, address: None, ..resource("") };
    assert_eq!(answer(vec![]), "ok p1 m1 w1");
    assert_eq!(answer(vec![delete("c1")]), "not found");
    assert_eq!(answer(vec![update("c1", ClientRow { live: false, ..client("a1") }), delete("a1")]), "not found");
    assert_eq!(answer(vec![delete("r1"), delete("t1")]), "not found");
    assert_eq!(answer(vec![disconnect("r1", "s1"), delete("p1")]), "not found");
    assert_eq!(answer(vec![update("s1", GatewayGroupRow { live: false, ..site("one") })]), "not found");
    assert_eq!(answer(vec![update("c1", old()), update("r1", internet()), delete("p1")]), "not found");
    assert_eq!(answer(vec![delete("a1"), delete("w1")]), "forbidden");
    assert_eq!(answer(vec![update("x1", AccountRow { live: false, ..account() })]), "forbidden");
    assert_eq!(answer(vec![delete("p1"), delete("w1")]), "forbidden");
    assert_eq!(answer(vec![delete("m1")]), "forbidden");
    assert_eq!(answer(vec![update("g1", ActorGroupRow { live: false })]), "forbidden");
    assert_eq!(answer(vec![delete("t1")]), "forbidden");
    assert_eq!(answer(vec![update("t1", TokenRow { live: false, ..token(Some("a1"), None) })]), "forbidden");
    assert_eq!(answer(vec![update("t1", token(Some("a1"), Some(NOW - 1)))]), "forbidden");
    assert_eq!(answer(vec![update("t1", token(Some("a1"), Some(NOW)))]), "ok p1 m1 w1 until 0");
    assert_eq!(answer(vec![update("t1", token(Some("a2"), None))]), "forbidden");
    assert_eq!(answer(vec![update("t1", token(None, None))]), "forbidden");
    assert_eq!(answer(vec![delete("w1")]), "offline");
    assert_eq!(answer(vec![update("w1", GatewayRow { live: false, ..gateway("s1") })]), "offline");
    assert_eq!(answer(vec![update("w1", gateway("s2"))]), "offline");
    let behind = GatewayRow { last_seen_version: Some("1.3.9".into()), ..gateway("s1") };
    assert_eq!(answer(vec![update("w1", behind)]), "version mismatch");
    assert!(matches!(ask(&after(vec![]), &[]), Answer::Offline));
}

#[test]
fn a_forbidden_answer_names_what_denies() {
    let time = (TIMES, IN_RANGES, &["M/true/UTC"][..]);
    let unknown = ("weather", "is_in", &["rain"][..]);
    assert_eq!(
        answer(vec![update("p1", with(&[VERIFIED, REGION]))]),
        "forbidden client_verified,remote_ip_location_region"
    );
    assert_eq!(answer(vec![update("p1", with(&[time, unknown]))]), format!("forbidden {TIMES},weather"));
    assert_eq!(
        answer(vec![update("p1", with(&[REGION])), insert("p0", with(&[VERIFIED, REGION]))]),
        "forbidden client_verified,remote_ip_location_region"
    );
    assert_eq!(answer(vec![update("p1", PolicyRow { conditions: None, ..policy("g1", "r1") })]), "forbidden");
    let elsewhere = PolicyRow { group: id("g2"), ..with(&[VERIFIED]) };
    assert_eq!(
        answer(vec![update("p1", with(&[REGION])), insert("p0", elsewhere)]),
        "forbidden remote_ip_location_region"
    );
    let dead = PolicyRow { live: false, ..with(&[VERIFIED]) };
    assert_eq!(answer(vec![update("p1", with(&[REGION])), insert("p0", dead)]), "forbidden remote_ip_location_region");
}

#[test]
fn the_policy_that_holds_longest_is_taken() {
    let hours = |ranges| with(&[(TIMES, IN_RANGES, ranges)]);
    let (ten, twelve): (&[&str], &[&str]) = (&["F/10-11/UTC"], &["F/10-12/UTC"]);
    assert_eq!(answer(vec![update("p1", hours(ten)), insert("p2", hours(twelve))]), "ok p2 m1 w1 until 7200");
    assert_eq!(answer(vec![update("p1", hours(twelve)), insert("p2", hours(ten))]), "ok p1 m1 w1 until 7200");
    assert_eq!(answer(vec![update("p1", hours(ten)), insert("p2", policy("g1", "r1"))]), "ok p2 m1 w1");
    assert_eq!(answer(vec![insert("p0", policy("g1", "r1"))]), "ok p0 m1 w1");
    assert_eq!(answer(vec![insert("p2", policy("g1", "r1"))]), "ok p1 m1 w1");
    assert_eq!(answer(vec![update("p1", hours(ten)), insert("p2", with(&[REGION]))]), "ok p1 m1 w1 until 3600");
    let token = update("t1", token(Some("a1"), Some(NOW + 99)));
    assert_eq!(answer(vec![update("p1", hours(ten)), token]), "ok p1 m1 w1 until 99");
}

#[test]
fn the_gateway_that_suits_best_is_taken() {
    let at = |version: &str, coordinates| GatewayRow {
        last_seen_version: Some(version.into()),
        coordinates,
        ..gateway("s1")
    };
    let here = update("c1", ClientRow { coordinates: Some((50.0, 30.0)), ..client("a1") });
    let (near, far) = (Some((50.1, 30.0)), Some((10.0, 10.0)));
    assert_eq!(answer(vec![insert("w2", gateway("s1"))]), "ok p1 m1 w1");
    assert_eq!(answer(vec![insert("w2", at("1.4.10", None)), update("w1", at("1.4.9", None))]), "ok p1 m1 w2");
    assert_eq!(
        answer(vec![here.clone(), insert("w2", at("1.4.0", near)), update("w1", at("1.5.0", far))]),
        "ok p1 m1 w2"
    );
    assert_eq!(
        answer(vec![here.clone(), insert("w2", at("1.4.0", far)), update("w1", at("1.5.0", None))]),
        "ok p1 m1 w2"
    );
    assert_eq!(answer(vec![insert("w2", at("1.4.0", near)), update("w1", at("1.5.0", far))]), "ok p1 m1 w1");
    let used = |expires_at| insert("f8", FlowRow { gateway: id("w2"), ..flow("r1", expires_at) });
    assert_eq!(answer(vec![insert("w2", at("1.4.0", far)), used(None)]), "ok p1 m1 w2");
    assert_eq!(answer(vec![insert("w2", at("1.4.0", far)), used(Some(NOW - 1))]), "ok p1 m1 w1");
    assert_eq!(answer(vec![insert("w2", at("1.3.0", far)), used(None)]), "ok p1 m1 w1");
    assert_eq!(answer(vec![insert("w2", gateway("s1")), delete("w1")]), "ok p1 m1 w2");
}

#[test]
fn a_flow_is_a_complete_row() {
    let Answer::Ok { flow } = ask(&after(vec![]), &["w1"]) else { panic!("it is granted") };
    let account = id("x1").to_string();
    let expected = NewFlow {
        id: id("f1"),
        account_id: account.as_str().into(),
        policy_id: id("p1"),
        client_id: id("c1"),
        gateway_id: id("w1"),
        resource_id: id("r1"),
        token_id: id("t1"),
        actor_group_membership_id: id("m1"),
        client_remote_ip: Some("198.51.100.7".parse().unwrap()),
        expires_at: None,
        inserted_at: NOW,
    };
    assert_eq!(flow, expected);
}

#[test]
fn answers_are_json_as_promised() {
    let json = |answer: &Answer| serde_json::to_string(answer).unwrap();
    let forbidden = Answer::Forbidden { violated_properties: vec!["client_verified".into()] };
    assert_eq!(json(&forbidden), r#"{"result":"forbidden","violated_properties":["client_verified"]}"#);
    assert_eq!(json(&Answer::NotFound), r#"{"result":"not_found"}"#);
    assert_eq!(json(&Answer::Offline), r#"{"result":"offline"}"#);
    assert_eq!(json(&Answer::VersionMismatch), r#"{"result":"version_mismatch"}"#);
    let reason = penstock_access::knowledge::Reason::NotAssigned;
    assert_eq!(json(&Answer::Unavailable { reason }), r#"{"result":"unavailable","reason":"not_assigned"}"#);
    let ok = json(&ask(&after(vec![]), &["w1"]));
    assert!(ok.starts_with(&format!(r#"{{"result":"ok","flow":{{"id":"{}","account_id":"#, id("f1"))), "{ok}");
}

#[test]
fn an_account_is_shown_as_promised() {
    let mut driven = after(vec![insert("f1", flow("r1", Some(NOW + 5))), insert("f2", flow("r1", None))]);
    driven.commit(vec![update("c1", ClientRow { last_seen_version: None, ..client("a1") })]);
    let show = serde_json::to_value(driven.account.show(driven.micros())).unwrap();
    assert_eq!(show["clients"], serde_json::json!([{"id": id("c1"), "allowed": [id("r1")]}]));
    let pair = serde_json::json!({"client_id": id("c1"), "resource_id": id("r1"), "expires_at": null, "flow_ids": [id("f1"), id("f2")]});
    assert_eq!(show["gateways"], serde_json::json!([{"id": id("w1"), "authorized": [pair]}]));
    assert_eq!(show["position"], serde_json::json!({"epoch": 1, "commit_lsn": "0/300", "seq": 8}));
    assert_eq!((&show["as_of"], &show["account"]), (&NOW.into(), &id("x1").to_string().into()));
    assert_eq!((&show["tables"]["flows"], &show["tables"]["resource_connections"]), (&2.into(), &1.into()));
}
