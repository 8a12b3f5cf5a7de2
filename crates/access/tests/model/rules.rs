//! What clients' and gateways' channels are pushed, a line for each rule.

use penstock_access::account::{ClientOptions, Options};
use penstock_access::change::Action;
use penstock_access::rows::*;

use crate::build::*;

/// What a transaction in a small world, with a flow f1 of c1 to r1 on w1, makes.
fn check(acts: Vec<Act>, expected: &[&str]) {
    let (mut driven, _, _) = Driven::small();
    assert_eq!(driven.commit(vec![insert("f1", flow("r1", None))]), ["authorize c1 r1"]);
    assert_eq!(driven.commit(acts.clone()), expected, "{acts:?}");
    assert_eq!(driven.commit(vec![]), Vec::<String>::new(), "said twice: {acts:?}");
}

#[test]
fn what_takes_access_away() {
    let revoked = &["deleted r1", "reject c1 r1"];
    let gone = &["disconnect revoked", "reject c1 r1"];
    let both = &["disconnect revoked", "disconnect revoked"];
    check(vec![delete("m1")], revoked);
    check(vec![delete("p1")], revoked);
    check(vec![update("p1", PolicyRow { live: false, ..policy("g1", "r1") })], revoked);
    check(vec![update("p1", PolicyRow { conditions: None, ..policy("g1", "r1") })], revoked);
    check(vec![update("p1", PolicyRow { conditions: Some([None].into()), ..policy("g1", "r1") })], revoked);
    check(vec![update("g1", ActorGroupRow { live: false })], revoked);
    check(vec![delete("g1")], revoked);
    check(vec![update("r1", ResourceRow { live: false, ..resource("one.example.com") })], revoked);
    check(vec![delete("r1")], revoked);
    check(vec![disconnect("r1", "s1")], revoked);
    check(vec![update("s1", GatewayGroupRow { live: false, ..site("one") })], revoked);
    check(vec![update("a1", ActorRow { live: false })], gone);
    check(vec![delete("a1")], gone);
    check(vec![update("c1", ClientRow { live: false, ..client("a1") })], gone);
    check(vec![delete("c1")], gone);
    check(vec![update("c1", client("a9"))], gone);
    check(vec![delete("t1")], &["disconnect token_expired", "reject c1 r1"]);
    check(
        vec![update("t1", TokenRow { live: false, ..token(None, None) })],
        &["disconnect token_expired", "reject c1 r1"],
    );
    check(vec![update("t1", token(Some("a1"), Some(NOW - 1)))], &["disconnect token_expired", "reject c1 r1"]);
    check(vec![delete("t1"), delete("a1")], gone);
    check(vec![delete("t2")], &["disconnect token_expired"]);
    check(vec![update("w1", GatewayRow { live: false, ..gateway("s1") })], &["disconnect revoked"]);
    check(vec![update("w1", gateway("s2"))], &["reject c1 r1"]);
    check(vec![delete("f1")], &["reject c1 r1"]);
    check(vec![update("x1", AccountRow { live: false, ..account() })], both);
    check(vec![delete("x1")], both);
    check(vec![(Table::ActorGroupMemberships, Action::Truncate)], revoked);
    check(vec![(Table::Policies, Action::Truncate)], revoked);
    check(vec![(Table::ResourceConnections, Action::Truncate)], revoked);
    check(vec![(Table::Flows, Action::Truncate)], &["reject c1 r1"]);
    check(vec![(Table::Accounts, Action::Truncate)], both);
}

#[test]
fn what_gives_no_access() {
    check(vec![insert("p2", policy("g2", "r1"))], &[]);
    check(vec![insert("r2", resource("two.example.com")), insert("p2", policy("g1", "r2"))], &[]);
    check(vec![insert("r2", resource("two.example.com")), connect("r2", "s1")], &[]);
    check(vec![insert("r2", resource("two.example.com")), connect("r2", "s9"), insert("p2", policy("g1", "r2"))], &[]);
    check(vec![insert("g2", ActorGroupRow { live: true }), insert("m2", membership("a1", "g2"))], &[]);
    let unknown = Some([condition("weather", "is_in", &["rain"])].into());
    let others = vec![insert("r2", resource("two.example.com")), connect("r2", "s1")];
    check([others, vec![insert("p2", PolicyRow { conditions: unknown, ..policy("g1", "r2") })]].concat(), &[]);
}

#[test]
fn what_only_passes_through_says_nothing() {
    check(vec![delete("m1"), insert("m1", membership("a1", "g1"))], &[]);
    check(vec![delete("m1"), insert("m2", membership("a1", "g1"))], &["reject c1 r1"]);
    check(vec![update("g1", ActorGroupRow { live: false }), update("g1", ActorGroupRow { live: true })], &[]);
    check(vec![update("r1", resource("two.example.com")), update("r1", resource("one.example.com"))], &[]);
    check(vec![disconnect("r1", "s1"), connect("r1", "s1")], &[]);
    check(vec![update("c1", client("a1")), update("w1", gateway("s1"))], &[]);
    check(vec![delete("f1"), insert("f2", flow("r1", None))], &[]);
    check(vec![insert("f2", flow("r1", None)), delete("f1")], &[]);
    check(vec![update("x1", AccountRow { live: false, ..account() }), update("x1", account())], &[]);
}

#[test]
fn what_changes_how_things_look() {
    let renamed = ResourceRow { name: "another name".into(), ..resource("one.example.com") };
    let filter = Filter { protocol: Protocol::Tcp, ports: Some((80, 90)) };
    let filtered = ResourceRow { filters: [filter].into(), ..resource("one.example.com") };
    check(vec![update("r1", renamed)], &["created r1"]);
    check(vec![update("r1", filtered)], &["created r1", "filters r1"]);
    check(vec![update("s1", site("renamed"))], &["created r1"]);
    check(vec![insert("s2", site("two")), connect("r1", "s2")], &["deleted r1", "created r1"]);
    check(vec![connect("r1", "s2")], &[]);
    check(vec![update("x1", AccountRow { search_domain: Some("a.b".into()), ..account() })], &["config"]);
    check(vec![update("x1", AccountRow { slug: "new".into(), ..account() })], &["gateway init [c1 r1]"]);
    check(vec![update("c1", ClientRow { public_key: "new".into(), ..client("a1") })], &["authorize c1 r1"]);
    check(vec![update("c1", ClientRow { ipv4: None, ..client("a1") })], &["config", "authorize c1 r1"]);
    check(vec![update("w1", GatewayRow { ipv4: None, ..gateway("s1") })], &["gateway init [c1 r1]"]);
    check(vec![update("w1", GatewayRow { public_key: "new".into(), ..gateway("s1") })], &[]);
    check(vec![update("f1", flow("r1", Some(NOW + 9)))], &[&format!("expiry c1 r1 {}", NOW + 9)]);
    check(vec![insert("f2", flow("r1", Some(NOW + 9)))], &[]);
    check(vec![update("c1", ClientRow { last_used_token: Some(id("t9")), ..client("a1") })], &[]);
}

/// Of the internet a gateway is not shown any filters.
#[test]
fn filters_that_are_not_shown_are_no_news() {
    let internet = |filters: &[Filter]| ResourceRow {
        kind: ResourceKind::Internet,
        address: None,
        filters: filters.into(),
        ..resource("")
    };
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![update("r1", internet(&[]))]);
    assert_eq!(driven.commit(vec![insert("f1", flow("r1", None))]), ["authorize c1 r1"]);
    let filter = Filter { protocol: Protocol::Tcp, ports: Some((80, 90)) };
    assert_eq!(driven.commit(vec![update("r1", internet(&[filter]))]), Vec::<String>::new());
}

#[test]
fn a_site_that_is_gone_is_shown_no_more() {
    for gone in [delete("s2"), update("s2", GatewayGroupRow { live: false, ..site("two") }), disconnect("r1", "s2")] {
        let (mut driven, _, _) = Driven::small();
        driven.commit(vec![insert("s2", site("two")), connect("r1", "s2")]);
        assert_eq!(driven.commit(vec![gone.clone()]), ["deleted r1", "created r1"], "{gone:?}");
    }
}

#[test]
fn who_a_client_is_may_change_what_it_is_given() {
    let provider = id("o1").to_string();
    let only =
        PolicyRow { conditions: Some([condition("provider_id", "is_in", &[&provider])].into()), ..policy("g1", "r1") };
    let identity = |live, provider| AuthIdentityRow { live, provider: id(provider) };
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![update("p1", only), update("c1", ClientRow { identity: Some(id("i1")), ..client("a1") })]);
    assert!(driven.commit(vec![insert("i1", identity(true, "o1"))]).is_empty());
    assert_eq!(driven.commit(vec![insert("o1", AuthProviderRow { live: true })]), ["created r1"]);
    assert_eq!(driven.commit(vec![update("o1", AuthProviderRow { live: false })]), ["deleted r1"]);
    assert_eq!(driven.commit(vec![update("o1", AuthProviderRow { live: true })]), ["created r1"]);
    assert_eq!(driven.commit(vec![update("i1", identity(false, "o1"))]), ["deleted r1"]);
    assert_eq!(driven.commit(vec![update("i1", identity(true, "o1"))]), ["created r1"]);
    assert_eq!(driven.commit(vec![update("i1", identity(true, "o2"))]), ["deleted r1"]);
    assert_eq!(driven.commit(vec![update("i1", identity(true, "o1"))]), ["created r1"]);
    assert_eq!(driven.commit(vec![update("c1", client("a1"))]), ["deleted r1"]);
}

#[test]
fn a_move_between_sites_is_an_update_for_clients_that_take_it() {
    let (mut driven, _, _) = Driven::small();
    let options = ClientOptions { can_move_sites: true };
    driven.account.subscribe_client(id("c1"), None, options, driven.micros()).unwrap();
    assert_eq!(driven.pushes(), ["init [r1]"]);
    let moved = vec![insert("s2", site("two")), connect("r1", "s2"), disconnect("r1", "s1")];
    assert_eq!(driven.commit(moved), ["deleted r1", "created r1", "created r1"]);
}

/// A policy moved from one resource to another and back by hand: each commit says what it did, and only that.
#[test]
fn a_policy_that_moves_back_and_forth_is_right_each_time() {
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![insert("r2", resource("two.example.com")), connect("r2", "s1")]);
    driven.commit(vec![insert("f1", flow("r1", None))]);
    let p1 = |resource| update("p1", policy("g1", resource));
    assert_eq!(driven.commit(vec![p1("r2")]), ["deleted r1", "created r2", "reject c1 r1"]);
    assert_eq!(driven.commit(vec![insert("f2", flow("r2", None))]), ["authorize c1 r2"]);
    assert_eq!(driven.commit(vec![p1("r1")]), ["deleted r2", "created r1", "reject c1 r2", "authorize c1 r1"]);
    assert_eq!(driven.commit(vec![p1("r2"), p1("r1")]), Vec::<String>::new());
    assert_eq!(
        driven.commit(vec![p1("r1"), p1("r2"), p1("r2")]),
        ["deleted r1", "created r2", "reject c1 r1", "authorize c1 r2"]
    );
}

#[test]
fn pushes_of_a_commit_stand_in_order() {
    let (mut driven, _, _) = Driven::small();
    let filters: std::sync::Arc<[Filter]> = [Filter { protocol: Protocol::Icmp, ports: None }].into();
    let mut acts = vec![insert("c2", client("a1")), insert("c3", client("a1"))];
    for (resource_name, policy_name) in [("r2", "p2"), ("r3", "p3"), ("r4", "p4"), ("r5", "p5")] {
        acts.push(insert(resource_name, resource("x.example.com")));
        acts.push(connect(resource_name, "s1"));
        acts.push(insert(policy_name, policy("g1", resource_name)));
    }
    let pair = |client: &str, policy: &str, resource| FlowRow {
        client: id(client),
        policy: id(policy),
        ..flow(resource, None)
    };
    acts.push(insert("f1", pair("c2", "p1", "r1")));
    acts.push(insert("f2", pair("c1", "p2", "r2")));
    acts.push(insert("f3", pair("c1", "p3", "r3")));
    acts.push(insert("f4", pair("c3", "p3", "r3")));
    assert_eq!(
        driven.commit(acts),
        [
            "created r2",
            "created r3",
            "created r4",
            "created r5",
            "authorize c1 r2",
            "authorize c1 r3",
            "authorize c2 r1",
            "authorize c3 r3",
        ]
    );
    let acts = vec![
        insert("f9", pair("c3", "p4", "r4")),
        insert("f8", pair("c1", "p4", "r4")),
        update("f4", FlowRow { expires_at: Some(Micros::from_seconds(NOW + 50)), ..pair("c3", "p3", "r3") }),
        update("r3", ResourceRow { filters: filters.clone(), ..resource("x.example.com") }),
        update("r1", ResourceRow { filters, ..resource("one.example.com") }),
        delete("f2"),
        delete("p5"),
        delete("p2"),
        update("x1", AccountRow { search_domain: Some("a.b".into()), ..account() }),
    ];
    assert_eq!(
        driven.commit(acts),
        [
            "deleted r2",
            "deleted r5",
            "created r1",
            "created r3",
            "config",
            "reject c1 r2",
            "filters r3",
            "filters r1",
            &format!("expiry c3 r3 {}", NOW + 50),
            "authorize c1 r4",
            "authorize c3 r4",
        ]
    );
}

#[test]
fn pushes_are_json_as_promised() {
    let (mut driven, _, _) = Driven::small();
    driven.account.subscribe_client(id("c1"), None, ClientOptions::default(), driven.micros()).unwrap();
    driven.account.subscribe_gateway(id("w1"), None, driven.micros()).unwrap();
    let text = |driven: &mut Driven| {
        let (_, event) = driven.account.poll_push().expect("something is pushed");
        match event {
            penstock_access::channel::Event::Push(message) => serde_json::to_string(&message).unwrap(),
            penstock_access::channel::Event::Refused(refusal) => panic!("{refusal}"),
        }
    };
    let ids = ["c1", "r1", "s1"].map(|name| id(name).to_string());
    let at = r#"{"at":{"epoch":1,"commit_lsn":"0/100","seq":96}"#;
    assert_eq!(
        text(&mut driven),
        format!(
            r#"{at},"push":"init","payload":{{"resources":[{{"id":"{}","type":"dns","address":"one.example.com","address_description":null,"name":"a resource","gateway_groups":[{{"id":"{}","name":"one"}}],"filters":[]}}],"interface":{{"search_domain":null,"upstream_dns":[],"ipv4":"100.64.0.1","ipv6":null}}}}}}"#,
            ids[1], ids[2]
        )
    );
    assert_eq!(
        text(&mut driven),
        format!(
            r#"{at},"push":"init","payload":{{"account_slug":"acme","interface":{{"ipv4":"100.64.1.1","ipv6":null}},"authorizations":[]}}}}"#
        )
    );
    driven.commits += 1;
    let now = driven.micros();
    driven.account.apply(&commit(2, vec![insert("f1", flow("r1", Some(NOW + 5)))]), now);
    driven.account.settle(now);
    assert_eq!(
        text(&mut driven),
        format!(
            r#"{{"at":{{"epoch":1,"commit_lsn":"0/200","seq":8}},"push":"authorize_flow","payload":{{"client":{{"id":"{}","public_key":"key","ipv4":"100.64.0.1","ipv6":null}},"resource":{{"id":"{}","type":"dns","address":"one.example.com","name":"a resource","filters":[]}},"expires_at":{}}}}}"#,
            ids[0],
            ids[1],
            NOW + 5
        )
    );
}

/// One membership among ten thousand concerns its own actor's clients, however large its group is.
#[test]
fn a_membership_touches_what_it_concerns() {
    let mut driven = Driven::new(Options::default());
    let mut acts = small_world();
    for n in 2..10_000 {
        let (actor, member, device) = (format!("a{n}"), format!("m{n}"), format!("c{n}"));
        acts.push(insert(&actor, ActorRow { live: true }));
        acts.push(insert(&member, membership(&actor, "g1")));
        acts.push(insert(&device, client(&actor)));
    }
    driven.commit(acts);
    for n in 1..10_000 {
        let device = id(&format!("c{n}"));
        driven.account.subscribe_client(device, None, ClientOptions::default(), driven.micros()).unwrap();
        while driven.account.poll_push().is_some() {}
    }
    let before = driven.account.entries_touched();
    assert_eq!(driven.commit(vec![delete("m5000")]), ["deleted r1"]);
    assert_eq!(driven.commit(vec![insert("m5000", membership("a5000", "g1"))]), ["created r1"]);
    let entries = driven.account.entries_touched() - before;
    assert!((4..50).contains(&entries), "{entries} index entries");
    assert_eq!(driven.commit(vec![delete("p1")]).len(), 9_999);
}
