//! What a flow needs to be live, one need a line: a flow that is inserted into a small world, and whether its gateway is
//! told of it.

use penstock_access::authorize::{Answer, Request};
use penstock_access::rows::*;

use crate::build::*;

/// The small world with another of everything: c2 of a2 in g2, r2, and s2 with w2, which r1 is not connected to.
fn world() -> Driven {
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![
        insert("a2", ActorRow { live: true }),
        insert("g2", ActorGroupRow { live: true }),
        insert("m2", membership("a2", "g2")),
        insert("m3", membership("a2", "g1")),
        insert("c2", client("a2")),
        insert("r2", resource("two.example.com")),
        connect("r2", "s1"),
        insert("p2", policy("g1", "r2")),
        insert("p3", policy("g2", "r1")),
        insert("s2", site("two")),
        insert("w2", gateway("s2")),
        insert("w3", gateway("s1")),
        insert("t3", token(Some("a1"), Some(NOW - 1))),
        insert("t4", token(Some("a1"), Some(NOW))),
    ]);
    driven
}

/// Whether a flow is live that is inserted in the same commit, after `acts`.
fn is_live(acts: Vec<Act>, row: FlowRow) -> bool {
    let mut driven = world();
    let (w2, w3) = (id("w2"), id("w3"));
    driven.account.subscribe_gateway(w2, None, driven.micros()).unwrap();
    driven.account.subscribe_gateway(w3, None, driven.micros()).unwrap();
    driven.pushes();
    let pushes = driven.commit([acts, vec![insert("f1", row.clone())]].concat());
    let authorized = pushes.iter().any(|push| push.starts_with("authorize"));
    // `show` says the same.
    let show = driven.account.show(driven.micros());
    let shown = show.gateways.iter().flat_map(|gateway| &gateway.authorized).any(|pair| pair.flow_ids == [id("f1")]);
    assert_eq!(shown, authorized, "{row:?}: {pushes:?}");
    authorized
}

#[test]
fn a_flow_is_live_only_if_everything_it_names_is_and_belongs_together() {
    let f = || flow("r1", None);
    let cases = [
        ("as it should be", f(), true),
        ("a column that cannot be read", FlowRow { live: false, ..f() }, false),
        ("a policy that is not there", FlowRow { policy: id("p9"), ..f() }, false),
        ("a policy for another resource", FlowRow { policy: id("p2"), ..f() }, false),
        ("a policy for a group that the actor is not in", FlowRow { policy: id("p3"), ..f() }, false),
        ("a membership that is not there", FlowRow { membership: id("m9"), ..f() }, false),
        ("a membership of another actor", FlowRow { membership: id("m3"), ..f() }, false),
        ("a membership of another actor in another group", FlowRow { membership: id("m2"), ..f() }, false),
        ("another client, by its own membership", FlowRow { client: id("c2"), membership: id("m3"), ..f() }, true),
        ("another client, by this one's membership", FlowRow { client: id("c2"), ..f() }, false),
        ("a client that is not there", FlowRow { client: id("c9"), ..f() }, false),
        ("a resource that is not there", FlowRow { resource: id("r9"), ..f() }, false),
        ("another resource than its policy's", FlowRow { resource: id("r2"), ..f() }, false),
        ("another resource, by its policy", FlowRow { resource: id("r2"), policy: id("p2"), ..f() }, true),
        ("a gateway whose site the resource is not connected to", FlowRow { gateway: id("w2"), ..f() }, false),
        ("another gateway of the site", FlowRow { gateway: id("w3"), ..f() }, true),
        ("a token that is not there", FlowRow { token: id("t9"), ..f() }, false),
        ("a token that has expired", FlowRow { token: id("t3"), ..f() }, false),
        ("a token in its last second", FlowRow { token: id("t4"), ..f() }, true),
        ("its own expiry passed", flow("r1", Some(NOW - 1)), false),
        ("its last second", flow("r1", Some(NOW)), true),
    ];
    for (what, row, live) in cases {
        assert_eq!(is_live(vec![], row), live, "{what}");
    }
}

#[test]
fn a_flow_is_not_live_without_what_its_grant_needs() {
    let never: &[&str] = &["M/true/UTC"];
    let cases = [
        ("nothing is wrong", vec![], true),
        ("the account is not live", vec![update("x1", AccountRow { live: false, ..account() })], false),
        ("the actor is not live", vec![update("a1", ActorRow { live: false })], false),
        ("the client is not live", vec![update("c1", ClientRow { live: false, ..client("a1") })], false),
        ("the client is another actor's", vec![update("c1", client("a2"))], false),
        ("the group is not live", vec![update("g1", ActorGroupRow { live: false })], false),
        ("the policy is not live", vec![update("p1", PolicyRow { live: false, ..policy("g1", "r1") })], false),
        (
            "the window is closed",
            vec![update("p1", PolicyRow { conditions: during(never), ..policy("g1", "r1") })],
            false,
        ),
        (
            "the resource is not live",
            vec![update("r1", ResourceRow { live: false, ..resource("one.example.com") })],
            false,
        ),
        ("the resource is not connected", vec![disconnect("r1", "s1")], false),
        ("the site is not live", vec![update("s1", GatewayGroupRow { live: false, ..site("one") })], false),
        ("the gateway is not live", vec![update("w1", GatewayRow { live: false, ..gateway("s1") })], false),
        ("the gateway is in another site", vec![update("w1", gateway("s2"))], false),
        ("the token is not live", vec![update("t1", TokenRow { live: false, ..token(Some("a1"), None) })], false),
        ("the resource is connected to another site too", vec![connect("r1", "s2")], true),
        ("another policy is not live", vec![delete("p2"), delete("p3")], true),
    ];
    for (what, acts, live) in cases {
        assert_eq!(is_live(acts, flow("r1", None)), live, "{what}");
    }
}

/// Of the row's own expiry, its policy's now and its token's the earliest.
#[test]
fn a_flow_lasts_as_long_as_the_shortest_of_what_it_rests_on() {
    let hours = || update("p1", PolicyRow { conditions: during(&["F/10-10:00:30/UTC"]), ..policy("g1", "r1") });
    let expiring = || update("t1", token(Some("a1"), Some(NOW + 20)));
    let cases: [(Vec<Act>, Option<i64>, Option<i64>); 7] = [
        (vec![], None, None),
        (vec![], Some(10), Some(10)),
        (vec![hours()], None, Some(30)),
        (vec![hours()], Some(10), Some(10)),
        (vec![hours(), expiring()], None, Some(20)),
        (vec![hours(), expiring()], Some(25), Some(20)),
        (vec![expiring()], Some(10), Some(10)),
    ];
    for (acts, own, expected) in cases {
        let (mut driven, _, _) = Driven::small();
        driven.commit(acts.clone());
        let row = flow("r1", own.map(|own| NOW + own));
        let expected = expected.map_or("authorize c1 r1".to_owned(), |at| format!("authorize c1 r1 {}", NOW + at));
        assert_eq!(driven.commit(vec![insert("f1", row)]), [expected], "{acts:?} own expiry {own:?}");
    }
}

/// The gateway was told when it ends, and is not told again.
#[test]
fn an_announced_flow_ends_at_its_expiry_in_silence() {
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![update("t1", token(Some("a1"), Some(NOW + 5)))]);
    let request =
        Request { client: id("c1"), token: id("t1"), resource: id("r1"), online: &[id("w1")], flow: id("f1") };
    let Answer::Ok { flow } = driven.account.authorize(&request, driven.micros()) else { panic!("it is granted") };
    assert!(driven.account.announce(&flow, driven.micros()));
    assert_eq!(driven.pushes(), [format!("authorize c1 r1 {}", NOW + 5)]);
    assert!(driven.until(NOW + 5).is_empty());
    assert_eq!(driven.until(NOW + 6), ["disconnect token_expired @6"]);
    let show = driven.account.show(driven.micros());
    assert!(show.gateways[0].authorized.is_empty(), "{show:?}");
}
