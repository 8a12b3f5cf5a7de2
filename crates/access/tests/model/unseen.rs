//! Flows whose history has holes: rows that came from elsewhere, and versions that nobody saw.

use penstock_access::change::{Action, Change, Commit};
use penstock_access::rows::*;
use penstock_wire::position::{Part, Position, Seq};

use crate::build::*;

fn elsewhere() -> ResourceRow {
    resource("two.example.com")
}

fn back() -> ResourceRow {
    ResourceRow { name: "renamed".into(), ..resource("one.example.com") }
}

/// Applies what an account move, or a change of key, leaves: its record stands at the third place of its event.
fn arrive(driven: &mut Driven, (table, action): Act) -> Vec<String> {
    driven.commits += 1;
    let position = Position { seq: Seq::of_event(0, Part::Arrival), ..position(driven.commits, 0) };
    let commit = Commit { position, time_us: 0, changes: vec![Change { position, table, action }] };
    driven.account.apply(&commit, driven.micros());
    driven.account.settle(driven.micros());
    driven.pushes()
}

fn with_flow() -> Driven {
    let (mut driven, _, _) = Driven::small();
    assert_eq!(driven.commit(vec![insert("f1", flow("r1", None))]), ["authorize c1 r1"]);
    driven
}

#[test]
fn an_ended_flow_does_not_come_back_from_another_account() {
    let mut driven = with_flow();
    driven.commit(vec![update("r1", elsewhere())]);
    assert_eq!(driven.ended(), ["f1"]);
    driven.commit(vec![delete("f1")]);
    assert!(arrive(&mut driven, insert("f1", flow("r1", None))).is_empty());
    assert_eq!(driven.ended(), ["f1"]);
}

#[test]
fn an_ended_flow_does_not_come_back_under_another_key() {
    let mut driven = with_flow();
    driven.commit(vec![update("r1", elsewhere())]);
    driven.ended();
    assert!(arrive(&mut driven, insert("f2", flow("r1", None))).is_empty());
    assert_eq!(driven.ended(), ["f2"]);
    assert_eq!(driven.commit(vec![insert("f3", flow("r1", None))]), ["authorize c1 r1"], "an insert is one");
}

#[test]
fn a_resource_that_may_have_been_elsewhere_unseen_ends_the_flows_from_before() {
    for (flow_at, unseen_to, ends) in [(2, 3, true), (2, 2, true), (2, 0, false), (2, 1, false), (4, 3, false)] {
        let (mut driven, _, _) = Driven::small();
        driven.commits = flow_at - 1;
        driven.commit(vec![insert("f1", flow("r1", None))]);
        driven.account.note_unseen(position(unseen_to, 9));
        driven.commits = 4;
        let pushed = driven.commit(vec![update("r1", back())]);
        let of = format!("a flow of commit {flow_at}, unseen up to {unseen_to}");
        // What came behind all that went unseen is authorised again, for what the resource is now.
        assert_eq!(driven.ended().is_empty(), !ends, "{of}");
        assert_eq!(pushed.contains(&"reject c1 r1".to_owned()), unseen_to > 1, "{of}");
        assert_eq!(pushed.contains(&"authorize c1 r1".to_owned()), unseen_to > 1 && !ends, "{of}");
    }
}

#[test]
fn a_resource_that_no_record_came_of_since_was_nowhere_else() {
    let mut driven = with_flow();
    driven.account.note_unseen(position(3, 0));
    assert_eq!(driven.commit(vec![insert("f2", flow("r1", Some(NOW + 50)))]), [] as [&str; 0]);
    assert!(driven.ended().is_empty());
}

#[test]
fn a_flow_that_may_have_named_another_row_unseen_is_ended_by_an_update() {
    for (acts, ends) in [
        (vec![update("f1", flow("r1", Some(NOW + 50)))], true),
        (vec![load("f1", flow("r1", Some(NOW + 50)))], false),
        (vec![delete("f1"), insert("f1", flow("r1", Some(NOW + 50)))], false),
    ] {
        let mut driven = with_flow();
        driven.account.note_unseen(position(3, 0));
        driven.commits = 3;
        driven.commit(acts.clone());
        assert_eq!(driven.ended().is_empty(), !ends, "{acts:?}");
    }
}

#[test]
fn what_went_unseen_of_rows_that_are_gone_concerns_nobody() {
    let mut driven = with_flow();
    driven.account.note_unseen(position(9, 0));
    driven.account.start_over(driven.micros());
    driven.commits = 0;
    driven.commit(small_world());
    driven.commit(vec![insert("f1", flow("r1", None))]);
    driven.commit(vec![update("r1", back())]);
    assert!(driven.ended().is_empty());
    let sweep = vec![(Table::Flows, Action::Sweep { begin: position(9, 0) })];
    driven.commit(sweep);
}
