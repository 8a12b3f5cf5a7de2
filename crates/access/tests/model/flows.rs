//! Flows that end for good, and flows that are announced before their rows come.

use std::sync::Arc;

use penstock_access::account::{Account, Options};
use penstock_access::authorize::{Answer, NewFlow, Request};
use penstock_access::change::Action;
use penstock_access::knowledge::Reason;
use penstock_access::rows::*;

use crate::build::*;

fn elsewhere() -> ResourceRow {
    resource("two.example.com")
}

fn with_flow() -> Driven {
    let (mut driven, _, _) = Driven::small();
    assert_eq!(driven.commit(vec![insert("f1", flow("r1", None))]), ["authorize c1 r1"]);
    driven
}

#[test]
fn a_change_of_address_ends_flows() {
    let dual = Some(IpStack::Dual);
    let cases = [
        (elsewhere(), true),
        (ResourceRow { kind: ResourceKind::Cidr, ..resource("one.example.com") }, true),
        (ResourceRow { ip_stack: dual, ..resource("one.example.com") }, true),
        (ResourceRow { name: "another".into(), ..resource("one.example.com") }, false),
        (ResourceRow { address_description: Some("there".into()), ..resource("one.example.com") }, false),
    ];
    for (row, ends) in cases {
        let mut driven = with_flow();
        let pushed = driven.commit(vec![update("r1", row.clone())]);
        assert_eq!(pushed.contains(&"reject c1 r1".to_owned()), ends, "{row:?}");
        assert_eq!(driven.ended(), if ends { vec!["f1"] } else { vec![] }, "{row:?}");
    }
}

#[test]
fn an_address_that_comes_back_in_the_same_commit_was_never_away() {
    let mut driven = with_flow();
    assert!(driven.commit(vec![update("r1", elsewhere()), update("r1", resource("one.example.com"))]).is_empty());
    assert!(driven.ended().is_empty());
    assert_eq!(driven.commit(vec![update("r1", elsewhere())]), ["created r1", "reject c1 r1"]);
    assert_eq!(driven.commit(vec![update("r1", resource("one.example.com"))]), ["created r1"]);
    assert_eq!(driven.ended(), ["f1"]);
}

#[test]
fn an_ended_flow_stays_ended_until_its_row_is_deleted() {
    let mut driven = with_flow();
    driven.commit(vec![update("r1", elsewhere())]);
    assert!(driven.commit(vec![update("f1", flow("r1", Some(NOW + 100)))]).is_empty());
    assert!(driven.commit(vec![load("f1", flow("r1", None))]).is_empty());
    assert!(driven.commit(vec![delete("m1"), insert("m1", membership("a1", "g1"))]).is_empty());
    assert_eq!(driven.commit(vec![delete("f1"), insert("f1", flow("r1", None))]), ["authorize c1 r1"]);
    assert_eq!(driven.ended(), ["f1"]);
}

#[test]
fn a_flow_inserted_after_the_change_is_authorised_after_the_reject() {
    let mut driven = with_flow();
    let acts = vec![update("r1", elsewhere()), insert("f2", flow("r1", None))];
    assert_eq!(driven.commit(acts), ["created r1", "reject c1 r1", "authorize c1 r1"]);
    assert_eq!(driven.ended(), ["f1"]);
}

#[test]
fn a_flow_inserted_before_the_last_change_of_the_commit_is_ended() {
    let third = || resource("three.example.com");
    let cases = [
        vec![insert("f2", flow("r1", None)), update("r1", elsewhere())],
        vec![update("r1", elsewhere()), insert("f2", flow("r1", None)), update("r1", third())],
    ];
    for acts in cases {
        let mut driven = with_flow();
        assert_eq!(driven.commit(acts), ["created r1", "reject c1 r1"]);
        assert_eq!(driven.ended(), ["f1", "f2"]);
    }
}

#[test]
fn filters_of_a_pair_that_is_authorised_again_are_not_told_twice() {
    let mut driven = with_flow();
    let filters = [Filter { protocol: Protocol::Icmp, ports: None }].into();
    let acts = vec![update("r1", ResourceRow { filters, ..elsewhere() }), insert("f2", flow("r1", None))];
    assert_eq!(driven.commit(acts), ["created r1", "reject c1 r1", "authorize c1 r1"]);
}

#[test]
fn an_update_that_names_another_row_ends_the_flow() {
    let elsewhere = [
        FlowRow { policy: id("p2"), ..flow("r1", None) },
        FlowRow { client: id("c2"), ..flow("r1", None) },
        FlowRow { gateway: id("w2"), ..flow("r1", None) },
        FlowRow { token: id("t9"), ..flow("r1", None) },
        FlowRow { membership: id("m2"), ..flow("r1", None) },
        flow("r2", None),
    ];
    for row in elsewhere {
        let mut driven = with_flow();
        assert_eq!(driven.commit(vec![update("f1", row.clone())]), ["reject c1 r1"], "{row:?}");
        assert_eq!(driven.ended(), ["f1"], "{row:?}");
        assert!(driven.commit(vec![update("f1", flow("r1", None))]).is_empty(), "{row:?}");
    }
}

/// What is known of flow f1 and of resource r1 from records in this order, and whether f1 is live.
#[test]
fn only_a_flow_that_is_known_to_be_younger_than_its_address_is_live() {
    let r1 = || resource("one.example.com");
    let f1 = || flow("r1", None);
    let cases = [
        (vec![insert("r1", r1()), insert("f1", f1())], true, true),
        (vec![load("r1", r1()), insert("f1", f1())], true, true),
        (vec![update("r1", r1()), insert("f1", f1())], true, true),
        (vec![insert("f1", f1()), update("r1", r1())], false, false),
        (vec![insert("f1", f1()), load("r1", r1())], false, false),
        (vec![insert("r1", r1()), update("f1", f1())], false, false),
        (vec![insert("r1", r1()), load("f1", f1())], false, true),
        (vec![load("f1", f1()), load("r1", r1())], false, true),
        (vec![load("f1", f1()), update("r1", r1())], false, false),
        (vec![load("f1", f1()), load("r1", r1()), update("r1", r1())], false, true),
        (vec![insert("r1", r1()), insert("f1", f1()), load("f1", f1()), load("r1", r1())], true, true),
        (vec![insert("r1", r1()), insert("f1", f1()), update("r1", r1())], true, true),
    ];
    for (acts, live, live_if_loaded) in cases {
        for (loaded_flows_live, live) in [(false, live), (true, live_if_loaded)] {
            let mut driven = Driven::new(Options { loaded_flows_live, ..Options::default() });
            driven.commit(small_world().into_iter().filter(|(table, _)| *table != Table::Resources).collect());
            for act in acts.clone() {
                driven.commit(vec![act]);
            }
            driven.account.subscribe_gateway(id("w1"), None, driven.micros()).unwrap();
            let init = if live { "gateway init [c1 r1]" } else { "gateway init []" };
            assert_eq!(driven.pushes(), [init], "{acts:?} loaded flows live: {loaded_flows_live}");
            assert_eq!(driven.ended().is_empty(), live, "{acts:?} loaded flows live: {loaded_flows_live}");
        }
    }
}

#[test]
fn loaded_flows_end_by_a_change_that_is_seen() {
    let (mut driven, _, _) = Driven::small_with(Options { loaded_flows_live: true, ..Options::default() });
    assert_eq!(driven.commit(vec![load("f1", flow("r1", None))]), ["authorize c1 r1"]);
    assert_eq!(driven.commit(vec![load("r1", elsewhere())]), ["created r1", "reject c1 r1"]);
    assert_eq!(driven.ended(), ["f1"]);
}

#[test]
fn where_changes_may_be_missing_all_flows_end() {
    let mut driven = with_flow();
    driven.account.end_all_flows(driven.micros());
    driven.account.settle(driven.micros());
    assert_eq!(driven.pushes(), ["reject c1 r1"]);
    assert_eq!(driven.ended(), ["f1"]);
}

fn authorized(driven: &Driven) -> NewFlow {
    let request =
        Request { client: id("c1"), token: id("t1"), resource: id("r1"), online: &[id("w1")], flow: id("f1") };
    match driven.account.authorize(&request, driven.micros()) {
        Answer::Ok { flow } => flow,
        other => panic!("{other:?}"),
    }
}

fn announced() -> (Driven, NewFlow) {
    let (mut driven, _, _) = Driven::small();
    let flow = authorized(&driven);
    assert!(driven.account.announce(&flow, driven.micros()));
    assert_eq!(driven.pushes(), ["authorize c1 r1"]);
    (driven, flow)
}

#[test]
fn an_announced_flow_is_authorised_at_once_and_confirmed_by_its_row() {
    let (mut driven, _) = announced();
    assert!(driven.commit(vec![insert("f1", flow("r1", None))]).is_empty());
    assert!(driven.until(NOW + 100).is_empty());
    assert_eq!(driven.commit(vec![delete("f1")]), ["reject c1 r1"]);
}

#[test]
fn an_announced_flow_ends_without_its_row() {
    let (mut driven, _) = announced();
    assert!(driven.until(NOW + 14).is_empty());
    assert_eq!(driven.until(NOW + 15), ["reject c1 r1 @15"]);
    assert_eq!(driven.commit(vec![insert("f1", flow("r1", None))]), ["authorize c1 r1"]);
}

#[test]
fn an_announced_flow_ends_when_it_is_withdrawn() {
    let (mut driven, _) = announced();
    driven.account.withdraw(id("f1"), driven.micros());
    assert_eq!(driven.pushes(), ["reject c1 r1"]);
    driven.account.withdraw(id("f1"), driven.micros());
    assert!(driven.pushes().is_empty());
}

#[test]
fn withdrawing_does_not_undo_a_row() {
    let (mut driven, _) = announced();
    driven.commit(vec![insert("f1", flow("r1", None))]);
    driven.account.withdraw(id("f1"), driven.micros());
    assert!(driven.pushes().is_empty());
}

#[test]
fn an_announced_flow_ends_for_good_with_its_grant() {
    let gone = [
        vec![delete("m1")],
        vec![delete("p1")],
        vec![delete("s1")],
        vec![update("w1", gateway("s2"))],
        vec![update("w1", GatewayRow { live: false, ..gateway("s1") })],
        vec![delete("t1")],
        vec![update("x1", AccountRow { live: false, ..account() })],
        vec![delete("f1")],
    ];
    for acts in gone {
        let (mut driven, _) = announced();
        driven.commit(acts.clone());
        driven.commit(small_world());
        assert!(driven.account.show(driven.micros()).gateways[0].authorized.is_empty(), "{acts:?}");
    }
}

#[test]
fn an_announced_flow_whose_address_changed_is_ended_when_its_row_comes() {
    let (mut driven, again) = announced();
    assert_eq!(driven.commit(vec![update("r1", elsewhere())]), ["created r1", "reject c1 r1"]);
    assert_eq!(driven.ended(), ["f1"]);
    assert!(!driven.account.announce(&again, driven.micros()));
    assert!(driven.commit(vec![insert("f1", flow("r1", None))]).is_empty());
    assert_eq!(driven.ended(), ["f1"]);
    assert!(driven.commit(vec![delete("f1")]).is_empty());
    assert_eq!(driven.commit(vec![insert("f1", flow("r1", None))]), ["authorize c1 r1"]);
}

#[test]
fn an_id_is_announced_once_and_only_in_its_account() {
    let (mut driven, known) = announced();
    assert!(!driven.account.announce(&known, driven.micros()));
    let elsewhere = NewFlow { id: id("f2"), account_id: "another".into(), ..known.clone() };
    assert!(!driven.account.announce(&elsewhere, driven.micros()));
    driven.commit(vec![insert("f3", flow("r1", None))]);
    assert!(!driven.account.announce(&NewFlow { id: id("f3"), ..known }, driven.micros()));
}

#[test]
fn nothing_is_announced_that_is_not_granted() {
    let (mut driven, _, _) = Driven::small();
    let flow = authorized(&driven);
    driven.commit(vec![delete("m1")]);
    driven.account.announce(&flow, driven.micros());
    assert!(driven.pushes().is_empty());
    assert!(driven.commit(vec![insert("m1", membership("a1", "g1"))]).iter().all(|push| push == "created r1"));
}

#[test]
fn announced_flows_do_not_outlive_a_restart() {
    let (mut driven, _) = announced();
    driven.commit(vec![insert("f2", flow("r1", Some(NOW + 50)))]);
    let snapshot = driven.account.snapshot();
    let own = id("x1").to_string();
    driven.account = Account::restore(&own, Arc::new(Options::default()), &snapshot, driven.micros());
    driven.know();
    driven.account.subscribe_gateway(id("w1"), None, driven.micros()).unwrap();
    assert_eq!(driven.pushes(), [format!("gateway init [c1 r1 {}]", NOW + 50)]);
}

#[test]
fn what_ended_before_its_row_came_has_ended_after_a_restart() {
    let (mut driven, _) = announced();
    driven.commit(vec![update("r1", elsewhere())]);
    let snapshot = driven.account.snapshot();
    let own = id("x1").to_string();
    driven.account = Account::restore(&own, Arc::new(Options::default()), &snapshot, driven.micros());
    driven.commit(vec![insert("f1", flow("r1", None))]);
    assert_eq!(driven.ended(), ["f1"]);
    driven.account.start_over(driven.micros());
    assert!(driven.account.snapshot().rows.is_empty());
}

#[test]
fn what_ended_before_its_row_came_has_ended_where_an_older_checkpoint_is_gone_on_with() {
    let (mut driven, _) = announced();
    let snapshot = driven.account.snapshot();
    let commits = driven.commits;
    driven.commit(vec![update("r1", elsewhere())]);
    driven.ended();
    driven.account.drop_rows(Reason::NotAssigned, driven.micros());
    driven.account.refill(&snapshot, driven.micros());
    driven.commits = commits;
    driven.commit(vec![update("r1", elsewhere())]);
    driven.commit(vec![insert("f1", flow("r1", None))]);
    assert_eq!(driven.ended(), ["f1"]);
}

/// Where the rows come again, an announced flow that ended before its row came is not live by that row.
#[test]
fn what_ended_before_its_row_came_has_ended_after_a_rebuild() {
    let (mut driven, _) = announced();
    driven.commit(vec![update("r1", elsewhere())]);
    driven.ended();
    driven.account.start_over(driven.micros());
    driven.commits = 0;
    driven.commit(small_world());
    driven.commit(vec![update("r1", elsewhere())]);
    driven.commit(vec![insert("f1", flow("r1", None))]);
    assert_eq!(driven.ended(), ["f1"]);
}

#[test]
fn a_reload_sweeps_what_it_did_not_find() {
    let mut driven = with_flow();
    let begin = position(2, 0);
    driven.commits += 1;
    let acts = vec![load("f2", flow("r1", None)), (Table::Flows, Action::Sweep { begin: position(3, 0) })];
    assert!(begin < position(3, 0));
    assert_eq!(driven.commit(acts), ["reject c1 r1"]);
    assert_eq!(driven.ended(), ["f2"], "a load shows no insert");
}

/// What a reload finds is younger than the reload's begin, also where nothing else of it changed.
#[test]
fn a_reload_leaves_what_it_found() {
    let (mut driven, _, _) = Driven::small();
    let begin = position(2, 0);
    let found = small_world().into_iter().map(|(table, action)| match action {
        Action::Insert(key, row) => (table, Action::Load(key, row)),
        other => panic!("a small world is inserted: {other:?}"),
    });
    assert!(driven.commit(found.clone().collect()).is_empty());
    let sweeps = found.map(|(table, _)| (table, Action::Sweep { begin }));
    assert!(driven.commit(sweeps.collect()).is_empty());
    assert_eq!(driven.account.snapshot().rows.len(), small_world().len());
}
