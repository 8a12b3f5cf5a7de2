//! What is said while not everything is known.

use penstock_access::account::{ClientOptions, Options};
use penstock_access::authorize::{Answer, Request};
use penstock_access::change::Action;
use penstock_access::knowledge::{Knowledge, Reason};
use penstock_access::rows::*;

use crate::build::*;

impl Driven {
    fn unknown(&mut self, reason: Reason) -> Vec<String> {
        let now = self.micros();
        self.account.set_knowledge(Knowledge::Unknown { reason, as_of: Some(now) }, false, now);
        self.pushes()
    }

    fn quarantine(&mut self) -> Vec<String> {
        let now = self.micros();
        self.account.set_knowledge(Knowledge::Known { as_of: now }, true, now);
        self.pushes()
    }

    fn answer(&self) -> Answer {
        let request =
            Request { client: id("c1"), token: id("t1"), resource: id("r1"), online: &[id("w1")], flow: id("f9") };
        self.account.authorize(&request, self.micros())
    }
}

const HOLDING: [Reason; 3] = [Reason::Stale, Reason::Unproven, Reason::Quarantined];

#[test]
fn nothing_is_authorised_that_is_not_known() {
    for reason in [Reason::Stale, Reason::Rebuilding, Reason::NotAssigned, Reason::Unproven, Reason::Quarantined] {
        let (mut driven, _, _) = Driven::small();
        assert!(matches!(driven.answer(), Answer::Ok { .. }));
        driven.unknown(reason);
        assert_eq!(driven.answer(), Answer::Unavailable { reason });
        driven.know();
        assert!(matches!(driven.answer(), Answer::Ok { .. }));
    }
}

#[test]
fn channels_hear_of_it_once() {
    let (mut driven, _, _) = Driven::small();
    assert_eq!(driven.unknown(Reason::Stale), ["stale stale", "stale stale"]);
    assert!(driven.unknown(Reason::Unproven).is_empty());
    assert_eq!(driven.know(), ["fresh", "fresh"]);
    assert!(driven.know().is_empty());
    assert_eq!(driven.unknown(Reason::NotAssigned), ["not_assigned", "not_assigned"]);
}

#[test]
fn revocations_come_at_once_and_grants_when_it_clears() {
    for reason in HOLDING {
        let (mut driven, _, _) = Driven::small();
        driven.commit(vec![insert("f1", flow("r1", None))]);
        driven.unknown(reason);
        let acts =
            vec![insert("r2", resource("two.example.com")), connect("r2", "s1"), insert("p2", policy("g1", "r2"))];
        assert!(driven.commit(acts).is_empty(), "{reason:?}");
        let row = FlowRow { policy: id("p2"), ..flow("r2", None) };
        assert!(driven.commit(vec![insert("f2", row)]).is_empty(), "{reason:?}");
        assert_eq!(driven.commit(vec![delete("p1")]), ["deleted r1", "reject c1 r1"], "{reason:?}");
        assert_eq!(driven.know(), ["fresh", "fresh", "created r2", "authorize c1 r2"], "{reason:?}");
    }
}

#[test]
fn what_comes_and_goes_meanwhile_is_not_told() {
    let (mut driven, _, _) = Driven::small();
    driven.quarantine();
    let acts = vec![insert("r2", resource("two.example.com")), connect("r2", "s1"), insert("p2", policy("g1", "r2"))];
    assert!(driven.commit(acts).is_empty());
    assert!(driven.commit(vec![delete("p2")]).is_empty());
    assert!(
        driven.commit(vec![update("r1", ResourceRow { name: "new".into(), ..resource("one.example.com") })]).is_empty()
    );
    assert_eq!(driven.know(), ["fresh", "fresh", "created r1"]);
}

#[test]
fn a_pair_keeps_at_most_what_it_had() {
    let tcp = |first, last| Filter { protocol: Protocol::Tcp, ports: Some((first, last)) };
    let with =
        |filters: &[Filter]| update("r1", ResourceRow { filters: filters.into(), ..resource("one.example.com") });
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![insert("f1", flow("r1", Some(NOW + 50))), with(&[tcp(80, 90)])]);
    driven.quarantine();
    assert_eq!(driven.commit(vec![with(&[tcp(80, 85)])]), ["filters r1"]);
    assert!(driven.commit(vec![with(&[tcp(80, 99)])]).is_empty());
    assert_eq!(driven.commit(vec![update("f1", flow("r1", Some(NOW + 40)))]), [format!("expiry c1 r1 {}", NOW + 40)]);
    assert!(driven.commit(vec![update("f1", flow("r1", None))]).is_empty());
    assert_eq!(driven.know(), ["fresh", "fresh", "created r1", "filters r1", "expiry c1 r1"]);
    driven.quarantine();
    assert_eq!(driven.commit(vec![with(&[tcp(22, 22)])]), ["reject c1 r1"]);
    assert_eq!(driven.know(), ["fresh", "fresh", "created r1", "authorize c1 r1"]);
    driven.quarantine();
    let acts = vec![update("c1", ClientRow { public_key: "new".into(), ..client("a1") })];
    assert_eq!(driven.commit(acts), ["reject c1 r1"]);
    assert_eq!(driven.know(), ["fresh", "fresh", "authorize c1 r1"]);
}

#[test]
fn a_pair_that_lapsed_meanwhile_is_authorised_anew() {
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![insert("f1", flow("r1", Some(NOW + 10)))]);
    driven.unknown(Reason::Stale);
    assert!(driven.commit(vec![update("f1", flow("r1", Some(NOW + 100)))]).is_empty());
    assert!(driven.until(NOW + 20).is_empty());
    assert_eq!(driven.know(), ["fresh", "fresh", format!("authorize c1 r1 {}", NOW + 100).as_str()]);
}

/// The same where nothing was compared meanwhile.
#[test]
fn a_pair_that_lapsed_elsewhere_is_authorised_anew() {
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![insert("f1", flow("r1", Some(NOW + 10)))]);
    driven.unknown(Reason::NotAssigned);
    assert!(driven.commit(vec![update("f1", flow("r1", Some(NOW + 100)))]).is_empty());
    assert!(driven.until(NOW + 20).is_empty());
    assert_eq!(driven.know(), ["fresh", "fresh", format!("authorize c1 r1 {}", NOW + 100).as_str()]);
}

#[test]
fn time_revokes_also_what_is_not_known() {
    let (mut driven, _, _) = Driven::small();
    let row = PolicyRow { conditions: during(&["F/10:00:00-10:00:10/UTC"]), ..policy("g1", "r1") };
    driven.commit(vec![update("p1", row)]);
    driven.unknown(Reason::Stale);
    assert_eq!(driven.until(NOW + 60), ["deleted r1 @11"]);
}

#[test]
fn a_channel_opened_meanwhile_waits() {
    for reason in HOLDING {
        let (mut driven, _, _) = Driven::small();
        driven.unknown(reason);
        let (now, options) = (driven.micros(), ClientOptions::default());
        driven.account.subscribe_client(id("c1"), None, options, now).unwrap();
        driven.account.subscribe_gateway(id("w1"), None, now).unwrap();
        driven.account.subscribe_client(id("c7"), None, options, now).unwrap();
        assert_eq!(driven.pushes().len(), 3);
        let pushed = driven.know();
        let expected = [
            &["fresh"; 5][..],
            &["init [r1]", "gateway init []", "refused no such client or gateway is live in this account"][..],
        ];
        assert_eq!(pushed, expected.concat(), "{reason:?}");
    }
}

#[test]
fn a_channel_that_waits_hears_that_it_is_revoked() {
    let (mut driven, _, _) = Driven::small();
    driven.unknown(Reason::Stale);
    driven.account.subscribe_client(id("c1"), None, ClientOptions::default(), driven.micros()).unwrap();
    driven.pushes();
    assert_eq!(driven.commit(vec![delete("c1")]), ["disconnect revoked", "disconnect revoked"]);
}

#[test]
fn channels_that_may_not_be_opened() {
    let refused = |acts: Vec<_>, name: &str, token: Option<&str>| {
        let (mut driven, _, _) = Driven::small();
        driven.commit(acts);
        let (token, now) = (token.map(id), driven.micros());
        let opened = match name.starts_with('c') {
            true => driven.account.subscribe_client(id(name), token, ClientOptions::default(), now),
            false => driven.account.subscribe_gateway(id(name), token, now),
        };
        let before = driven.account.channels();
        assert!(before <= 3);
        opened.map(|_| ()).map_err(|refusal| refusal.to_string())
    };
    let dead = "no such client or gateway is live in this account";
    let no_token = "no token was given, and the row names none that was last used";
    let without = || vec![update("c1", ClientRow { last_used_token: None, ..client("a1") })];
    let expired = || vec![insert("t3", token(None, Some(NOW - 1))), insert("t4", token(None, Some(NOW)))];
    assert_eq!(refused(vec![], "c1", None), Ok(()));
    assert_eq!(refused(vec![], "c2", None), Err(dead.into()));
    assert_eq!(refused(vec![], "w2", None), Err(dead.into()));
    assert_eq!(refused(vec![delete("a1")], "c1", None), Err(dead.into()));
    assert_eq!(refused(vec![delete("x1")], "w1", None), Err(dead.into()));
    assert_eq!(refused(without(), "c1", None), Err(no_token.into()));
    assert_eq!(refused(without(), "c1", Some("t1")), Ok(()));
    assert_eq!(refused(vec![], "c1", Some("t9")), Err("the token is unknown or not live".into()));
    assert_eq!(refused(expired(), "w1", Some("t3")), Err("the token has expired".into()));
    assert_eq!(refused(expired(), "w1", Some("t4")), Ok(()));
}

#[test]
fn grace_ends_authorisations() {
    let options = Options { stale_grace_us: Some(5_000_000), ..Options::default() };
    let (mut driven, _, _) = Driven::small_with(options);
    driven.commit(vec![insert("f1", flow("r1", None))]);
    driven.unknown(Reason::Stale);
    assert!(driven.until(NOW + 4).is_empty());
    assert_eq!(driven.until(NOW + 5), ["reject c1 r1 @5"]);
    assert!(driven.commit(vec![insert("f2", flow("r1", None))]).is_empty());
    assert_eq!(driven.know(), ["fresh", "fresh", "authorize c1 r1"]);
}

#[test]
fn serving_stale_is_a_choice() {
    let (mut driven, _, _) = Driven::small_with(Options { serve_stale: true, ..Options::default() });
    assert_eq!(driven.unknown(Reason::Stale).len(), 2);
    assert!(matches!(driven.answer(), Answer::Ok { .. }));
    assert_eq!(driven.commit(vec![insert("f1", flow("r1", None))]), ["authorize c1 r1"]);
    driven.quarantine();
    assert_eq!(driven.answer(), Answer::Unavailable { reason: Reason::Quarantined });
}

#[test]
fn grace_that_was_not_needed_ends_nothing() {
    let options = Options { stale_grace_us: Some(5_000_000), ..Options::default() };
    let (mut driven, _, _) = Driven::small_with(options);
    driven.commit(vec![insert("f1", flow("r1", None))]);
    driven.unknown(Reason::Stale);
    driven.until(NOW + 2);
    driven.know();
    assert_eq!(driven.account.next_deadline(), None);
    assert!(driven.until(NOW + 10).is_empty());
    assert!(matches!(driven.answer(), Answer::Ok { .. }));
}

/// A choice that ends with the grace.
#[test]
fn grace_ends_also_what_is_served() {
    let options = Options { serve_stale: true, stale_grace_us: Some(5_000_000), ..Options::default() };
    let (mut driven, _, _) = Driven::small_with(options);
    driven.commit(vec![insert("f1", flow("r1", None))]);
    driven.unknown(Reason::Stale);
    assert_eq!(driven.until(NOW + 5), ["reject c1 r1 @5"]);
    assert_eq!(driven.answer(), Answer::Unavailable { reason: Reason::Stale });
    assert!(driven.commit(vec![insert("f2", flow("r1", None))]).is_empty());
    assert_eq!(driven.know(), ["fresh", "fresh", "authorize c1 r1"]);
}

/// Rows that were applied one after the other and settled by nobody have their deadlines nevertheless.
#[test]
fn what_becomes_known_has_deadlines() {
    let (mut driven, _, _) = Driven::small();
    driven.account.start_over(driven.micros());
    let mut acts = small_world();
    acts.push(update("p1", PolicyRow { conditions: during(&["F/10:00:00-10:00:10/UTC"]), ..policy("g1", "r1") }));
    driven.account.apply(&commit(1, acts), driven.micros());
    driven.pushes();
    driven.know();
    assert_eq!(driven.until(NOW + 11), ["deleted r1 @11"]);
}

/// While all is read again nothing is compared; then clients get one difference, and gateways begin anew.
#[test]
fn a_rebuild_says_one_difference() {
    let (mut driven, _, _) = Driven::small();
    let options = ClientOptions::default();
    driven.commit(vec![insert("f1", flow("r1", None))]);
    driven.account.start_over(driven.micros());
    assert_eq!(driven.pushes(), ["stale rebuilding", "stale rebuilding"]);
    driven.account.subscribe_client(id("c1"), None, options, driven.micros()).unwrap();
    assert_eq!(driven.pushes(), ["stale rebuilding"]);
    driven.commits = 0;
    for act in small_world() {
        assert!(driven.commit(vec![act]).is_empty());
    }
    assert!(driven.commit(vec![insert("r2", resource("two.example.com")), connect("r2", "s1")]).is_empty());
    assert!(driven.commit(vec![update("p1", policy("g1", "r2"))]).is_empty());
    let now = ["fresh", "fresh", "fresh", "deleted r1", "created r2", "gateway init []", "init [r2]"];
    assert_eq!(driven.know(), now);
}

#[test]
fn a_slow_reader_gets_one_difference() {
    let (mut driven, client, gateway) = Driven::small();
    driven.account.pause(client);
    driven.account.pause(gateway);
    assert!(driven.commit(vec![insert("f1", flow("r1", None)), delete("p1")]).is_empty());
    assert!(driven.commit(vec![insert("p1", policy("g1", "r1"))]).is_empty());
    assert!(driven.commit(vec![insert("r2", resource("two.example.com")), connect("r2", "s1")]).is_empty());
    assert!(driven.commit(vec![insert("p2", policy("g1", "r2"))]).is_empty());
    driven.account.resume(client, driven.micros());
    driven.account.resume(gateway, driven.micros());
    assert_eq!(driven.pushes(), ["created r2", "authorize c1 r1"]);
    driven.account.pause(client);
    assert_eq!(driven.commit(vec![delete("a1")])[0], "disconnect revoked");
}

#[test]
fn redelivery_changes_nothing() {
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![insert("f1", flow("r1", None))]);
    driven.commit(vec![delete("m1")]);
    let before = driven.account.snapshot();
    driven.commits = 0;
    assert!(driven.commit(small_world()).is_empty());
    assert!(driven.commit(vec![insert("f1", flow("r1", None))]).is_empty());
    assert!(driven.commit(vec![delete("m1")]).is_empty());
    assert_eq!(driven.account.snapshot(), before);
}

/// A later transaction that brings an older version of a row: a row's own position decides.
#[test]
fn an_older_version_of_a_row_changes_nothing() {
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![insert("f1", flow("r1", None))]);
    let before = driven.account.snapshot().rows;
    let older = [
        update("p1", PolicyRow { live: false, ..policy("g1", "r1") }),
        update("r1", resource("two.example.com")),
        update("f1", flow("r2", None)),
        delete("m1"),
        disconnect("r1", "s1"),
        (Table::Policies, Action::Truncate),
        (Table::Flows, Action::Sweep { begin: position(1, 5) }),
    ];
    for act in older {
        driven.commits += 1;
        let mut late = commit(driven.commits, vec![act.clone()]);
        late.changes[0].position = position(1, 0);
        driven.account.apply(&late, driven.micros());
        driven.account.settle(driven.micros());
        assert!(driven.pushes().is_empty(), "{act:?}");
        assert_eq!(driven.account.snapshot().rows, before, "{act:?}");
    }
    assert!(driven.ended().is_empty());
}

#[test]
fn a_closed_channel_is_silent() {
    let (mut driven, client, _) = Driven::small();
    driven.account.unsubscribe(client);
    assert!(driven.commit(vec![delete("m1")]).is_empty());
    assert_eq!(driven.account.channels(), 1);
}
