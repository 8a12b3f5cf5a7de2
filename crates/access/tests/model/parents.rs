//! Rows that name rows which are not there: each is told, once, and grants nothing.

use penstock_access::knowledge::{Knowledge, Reason};
use penstock_access::rows::*;

use crate::build::*;

/// What is told of a transaction in a small world: `child names parent`.
fn check(acts: Vec<Act>, expected: &[&str]) {
    let (mut driven, _, _) = Driven::small();
    driven.commit(acts.clone());
    assert_eq!(told(&mut driven), expected, "{acts:?}");
}

fn told(driven: &mut Driven) -> Vec<String> {
    let orphans = std::iter::from_fn(|| driven.account.poll_orphan());
    orphans.map(|orphan| format!("{} names {}", orphan.table.name(), orphan.parent.name())).collect()
}

#[test]
fn each_parent_that_is_missing_is_told() {
    check(vec![insert("m9", membership("a9", "g1"))], &["actor_group_memberships names actors"]);
    check(vec![insert("m9", membership("a1", "g9"))], &["actor_group_memberships names actor_groups"]);
    check(
        vec![insert("i9", AuthIdentityRow { live: true, provider: id("o9") })],
        &["auth_identities names auth_providers"],
    );
    check(vec![insert("t9", token(Some("a9"), None))], &["tokens names actors"]);
    check(vec![insert("t9", token(None, None))], &[]);
    check(vec![insert("c9", client("a9"))], &["clients names actors"]);
    check(
        vec![insert("c9", ClientRow { identity: Some(id("i9")), ..client("a1") })],
        &["clients names auth_identities"],
    );
    check(vec![insert("c9", ClientRow { last_used_token: Some(id("t9")), ..client("a1") })], &[]);
    check(vec![insert("w9", gateway("s9"))], &["gateways names gateway_groups"]);
    check(vec![connect("r9", "s1")], &["resource_connections names resources"]);
    check(vec![connect("r1", "s9")], &["resource_connections names gateway_groups"]);
    check(vec![insert("p9", policy("g9", "r1"))], &["policies names actor_groups"]);
    check(vec![update("p1", policy("g1", "r9"))], &["policies names resources"]);
    check(vec![insert("f9", FlowRow { policy: id("p9"), ..flow("r1", None) })], &["flows names policies"]);
    check(vec![insert("f9", FlowRow { client: id("c9"), ..flow("r1", None) })], &["flows names clients"]);
    check(vec![insert("f9", FlowRow { gateway: id("w9"), ..flow("r1", None) })], &["flows names gateways"]);
    check(vec![insert("f9", flow("r9", None))], &["flows names resources"]);
    check(vec![insert("f9", FlowRow { token: id("t9"), ..flow("r1", None) })], &["flows names tokens"]);
    check(
        vec![insert("f9", FlowRow { membership: id("m9"), ..flow("r1", None) })],
        &["flows names actor_group_memberships"],
    );
    check(vec![delete("x1"), insert("a9", ActorRow { live: true })], &["actors names accounts"]);
}

#[test]
fn what_a_transaction_makes_whole_is_not_told() {
    check(vec![insert("m9", membership("a9", "g1")), insert("a9", ActorRow { live: true })], &[]);
    check(vec![insert("m9", membership("a9", "g1")), delete("m9")], &[]);
    check(vec![insert("p9", policy("g9", "r1")), update("p9", policy("g1", "r1"))], &[]);
    check(vec![connect("r9", "s1"), disconnect("r9", "s1")], &[]);
    // A parent that goes takes its children along, in its transaction; what is left of them then is no news.
    check(vec![delete("a1"), delete("m1")], &[]);
}

#[test]
fn a_load_may_bring_children_first() {
    check(vec![load("m9", membership("a9", "g1"))], &[]);
}

#[test]
fn where_rows_may_be_missing_nothing_is_told() {
    for reason in [Reason::Unproven, Reason::Rebuilding] {
        let (mut driven, _, _) = Driven::small();
        let unknown = Knowledge::Unknown { reason, as_of: None };
        driven.account.set_knowledge(unknown, false, driven.micros());
        driven.commit(vec![insert("m9", membership("a9", "g1"))]);
        assert_eq!(told(&mut driven), [""; 0], "{reason:?}");
    }
}

#[test]
fn what_comes_again_is_told_once() {
    let (mut driven, _, _) = Driven::small();
    let acts = vec![insert("m9", membership("a9", "g1"))];
    driven.commit(acts.clone());
    driven.commits -= 1;
    driven.commit(acts);
    assert_eq!(told(&mut driven), ["actor_group_memberships names actors"]);
}
