//! What time alone changes, to the second.

use penstock_access::account::Options;
use penstock_access::authorize::{Answer, Request};
use penstock_access::rows::*;

use crate::build::*;

#[test]
fn the_second_of_an_expiry_still_belongs_to_it() {
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![insert("f1", flow("r1", Some(NOW + 10)))]);
    assert_eq!(driven.account.next_deadline(), Some(Micros::from_seconds(NOW + 11)));
    assert!(driven.until(NOW + 10).is_empty());
    assert!(driven.until(NOW + 11).is_empty(), "a gateway ends by itself what it was told to end");
    assert!(driven.account.show(driven.micros()).gateways[0].authorized.is_empty());
}

#[test]
fn what_is_gone_has_no_deadline() {
    let (mut driven, _, _) = Driven::small();
    let row = PolicyRow { conditions: during(&["F/10:00:00-10:00:10/UTC"]), ..policy("g1", "r1") };
    driven.commit(vec![
        insert("f1", flow("r1", Some(NOW + 10))),
        update("t2", token(None, Some(NOW + 20))),
        update("p1", row),
    ]);
    assert_eq!(driven.account.next_deadline(), Some(Micros::from_seconds(NOW + 11)));
    driven.commit(vec![delete("f1"), update("p1", policy("g1", "r1"))]);
    assert_eq!(driven.account.next_deadline(), Some(Micros::from_seconds(NOW + 21)));
    driven.commit(vec![update("t2", token(None, None))]);
    assert_eq!(driven.account.next_deadline(), None);
}

#[test]
fn fractions_of_an_expiry_are_cut() {
    let (mut driven, _, _) = Driven::small();
    let row = FlowRow { expires_at: Some(Micros(NOW * 1_000_000 + 10_999_999)), ..flow("r1", None) };
    assert_eq!(driven.commit(vec![insert("f1", row)]), [format!("authorize c1 r1 {}", NOW + 10)]);
    assert_eq!(driven.account.next_deadline(), Some(Micros::from_seconds(NOW + 11)));
}

#[test]
fn infinity_is_for_ever() {
    let (mut driven, _, _) = Driven::small();
    let row = FlowRow { expires_at: Some(Micros(i64::MAX)), ..flow("r1", None) };
    assert_eq!(driven.commit(vec![insert("f1", row)]), ["authorize c1 r1"]);
    let past = FlowRow { expires_at: Some(Micros(i64::MIN)), ..flow("r1", None) };
    assert_eq!(driven.commit(vec![update("f1", past)]), ["reject c1 r1"]);
}

#[test]
fn a_token_expires() {
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![insert("f1", flow("r1", None))]);
    let expiry = format!("expiry c1 r1 {}", NOW + 10);
    assert_eq!(driven.commit(vec![update("t1", token(Some("a1"), Some(NOW + 10)))]), [expiry.as_str()]);
    assert!(driven.until(NOW + 10).is_empty());
    assert_eq!(driven.until(NOW + 11), ["disconnect token_expired @11"]);
}

#[test]
fn the_latest_of_several_flows_counts() {
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![insert("f1", flow("r1", Some(NOW + 10))), insert("f2", flow("r1", Some(NOW + 20)))]);
    assert!(driven.until(NOW + 15).is_empty());
    assert_eq!(driven.commit(vec![delete("f2")]), ["reject c1 r1"]);
}

#[test]
fn a_window_closes_and_opens() {
    let (mut driven, _, _) = Driven::small();
    let ranges = during(&["F/10:00:00-10:00:10,10:00:20-11:00:00/UTC"]);
    let row = PolicyRow { conditions: ranges, ..policy("g1", "r1") };
    assert!(driven.commit(vec![update("p1", row)]).is_empty());
    let expected = format!("authorize c1 r1 {}", NOW + 10);
    assert_eq!(driven.commit(vec![insert("f1", flow("r1", None))]), [expected.as_str()]);
    assert!(driven.until(NOW + 10).is_empty());
    assert_eq!(driven.until(NOW + 11), ["deleted r1 @11"]);
    assert!(driven.until(NOW + 19).is_empty());
    let expected = format!("authorize c1 r1 {} @20", NOW + 3600);
    assert_eq!(driven.until(NOW + 20), ["created r1 @20", expected.as_str()], "a row without expiry is live whenever");
}

#[test]
fn whole_days_that_touch_hold_without_a_gap() {
    let (mut driven, _, _) = Driven::small();
    let midnight = 14 * 3600;
    let row = PolicyRow { conditions: during(&["F/true/UTC", "S/true/UTC"]), ..policy("g1", "r1") };
    driven.commit(vec![update("p1", row), insert("f1", flow("r1", None))]);
    let expected = format!("expiry c1 r1 {} @{midnight}", NOW + midnight + 86_399);
    assert_eq!(driven.until(NOW + midnight + 5), [expected]);
}

/// A clock that comes late says what happened when, in order.
#[test]
fn deadlines_that_are_handled_late_are_handled_one_by_one() {
    let (mut driven, _, _) = Driven::small();
    let row = PolicyRow { conditions: during(&["F/10:00:00-10:00:10,10:00:20-10:00:30/UTC"]), ..policy("g1", "r1") };
    driven.commit(vec![update("p1", row)]);
    assert_eq!(driven.until(NOW + 60), ["deleted r1 @11", "created r1 @20", "deleted r1 @31"]);
}

/// A row that had expired when it came has a deadline in the past, when another window was open.
#[test]
fn a_deadline_that_has_passed_opens_nothing() {
    let (mut driven, _, _) = Driven::small();
    let row = PolicyRow { conditions: during(&["F/10:00:00-10:00:10/UTC"]), ..policy("g1", "r1") };
    driven.commit(vec![update("p1", row)]);
    assert_eq!(driven.until(NOW + 60), ["deleted r1 @11"]);
    assert!(driven.commit(vec![insert("f1", flow("r1", None)), insert("f2", flow("r1", Some(NOW + 5)))]).is_empty());
    assert!(driven.until(NOW + 61).is_empty());
}

#[test]
fn what_the_clock_changed_comes_before_the_next_transaction() {
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![insert("f1", flow("r1", Some(NOW + 10)))]);
    driven.now = NOW + 12;
    let expected = format!("authorize c1 r1 {}", NOW + 50);
    let pushed = driven.commit(vec![insert("f2", flow("r1", Some(NOW + 50)))]);
    assert_eq!(pushed, [expected], "the gateway ended the first by itself");
}

#[test]
fn a_clock_that_goes_back_gives_nothing_back() {
    let (mut driven, _, _) = Driven::small();
    driven.commit(vec![insert("f1", flow("r1", Some(NOW + 10)))]);
    driven.until(NOW + 11);
    driven.now = NOW;
    assert!(driven.commit(vec![update("c1", ClientRow { public_key: "new".into(), ..client("a1") })]).is_empty());
    assert!(driven.account.show(driven.micros()).gateways[0].authorized.is_empty());
}

#[test]
fn confirm_within_is_an_option() {
    let (mut driven, _, _) = Driven::small_with(Options { confirm_within_us: 1_500_000, ..Options::default() });
    let request =
        Request { client: id("c1"), token: id("t1"), resource: id("r1"), online: &[id("w1")], flow: id("f1") };
    let Answer::Ok { flow } = driven.account.authorize(&request, driven.micros()) else { panic!("it is granted") };
    assert!(driven.account.announce(&flow, driven.micros()));
    assert_eq!(driven.pushes(), ["authorize c1 r1"]);
    assert_eq!(driven.until(NOW + 9), ["reject c1 r1 @2"]);
}
