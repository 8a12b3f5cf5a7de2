//! Messages about DDL in the stream: where they act, and what is remembered of them.

use penstock_core::bridge::Stop;
use penstock_core::fault::Fault;
use penstock_wire::lsn::CommitLsn;
use penstock_wire::reload::Scope;

use crate::world::{World, begin, commit, ddl, insert, one_insert, relation};

const DROP: &str = r#"{"v":1,"tag":"DROP TABLE","kind":"drop","schema":"public","name":"t","oid":16384}"#;

fn pinned(world: &World, commit: usize) -> Vec<u32> {
    world.commits[commit].key_pins.iter().map(|pin| pin.table_oid).collect()
}

#[test]
fn a_dropped_table_is_truncated_in_every_partition_at_its_events_position() {
    let mut world = World::new(100);
    one_insert(&mut world, 100);
    world.feed(&begin(200, 8));
    world.feed(&insert("2", Some("a")));
    world.feed(&ddl(DROP));
    world.feed(&commit(200, 250));
    world.drained();
    let truncates = &world.records[2..];
    let mut partitions: Vec<u32> = truncates.iter().map(|record| record.0).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2]);
    for (_, _, _, header) in truncates {
        assert_eq!((header.position.commit_lsn, header.position.seq.0), (CommitLsn::new(200), 16));
    }
}

/// The progress of a group that is being committed while a later transaction is read must not know what that one did: after a
/// crash the later one is read again, and would lead to nothing.
#[test]
fn what_is_pinned_goes_into_the_progress_that_covers_it() {
    let mut world = World::new(100);
    one_insert(&mut world, 100);
    world.drained();
    world.feed(&begin(200, 8));
    world.feed(&ddl(DROP));
    world.feed(&commit(200, 250));
    world.deliver();
    assert_eq!((world.commits.len(), pinned(&world, 0)), (1, vec![16_384]));
    world.committed();
    world.drained();
    world.deliver();
    assert_eq!((world.commits.len(), pinned(&world, 1)), (2, vec![0]));
}

#[test]
fn relations_are_asked_about_when_a_change_needs_them() {
    let mut world = World::new(100);
    world.feed(&begin(100, 7));
    world.feed(&relation());
    assert!(world.asked.is_empty(), "a partition's relation is sent, and never needed");
    world.feed(&insert("1", Some("a")));
    world.feed(&insert("2", Some("a")));
    world.feed(&commit(100, 150));
    assert_eq!(world.asked, ["t"]);
    world.drained();
    world.deliver();
    world.committed();
    // After a restart the transaction comes again and is skipped; the server does not describe the table another time.
    let mut world = World::resume(world.commits[0].clone());
    world.feed(&begin(100, 7));
    world.feed(&relation());
    world.feed(&insert("1", Some("a")));
    world.feed(&insert("2", Some("a")));
    world.feed(&commit(100, 150));
    assert!(world.asked.is_empty(), "what is delivered need not be described");
    world.feed(&begin(200, 8));
    world.feed(&insert("3", Some("a")));
    world.feed(&commit(200, 250));
    world.drained();
    assert_eq!((world.asked.len(), world.records.len()), (1, 1));
}

#[test]
fn a_message_of_a_delivered_transaction_leads_to_nothing() {
    let mut world = World::new(100);
    one_insert(&mut world, 100);
    world.feed(&begin(200, 8));
    world.feed(&ddl(DROP));
    world.feed(&commit(200, 250));
    world.drained();
    world.deliver();
    let mut resumed = World::resume(world.commits[0].clone());
    resumed.feed(&begin(200, 8));
    resumed.feed(&ddl(DROP));
    resumed.feed(&commit(200, 250));
    resumed.drained();
    assert!(resumed.records.is_empty());
}

/// Without triggers, and before the catalog was compared.
#[test]
fn a_relation_that_is_not_the_pinned_one_is_refused() {
    let mut world = World::new(100);
    one_insert(&mut world, 100);
    world.drained();
    world.deliver();
    let progress = world.commits[0].clone();
    let again = |table: &str, oid| {
        let mut progress = progress.clone();
        (progress.key_pins[0].table, progress.key_pins[0].table_oid) = (table.into(), oid);
        let mut world = World::resume(progress);
        world.feed(&begin(200, 8));
        world.feed(&relation());
        world.feed(&insert("2", Some("a")));
        world.refused.map(|fault| fault.to_string()).unwrap_or_default()
    };
    assert_eq!(again("t", 16_384), "");
    assert_eq!(again("t", 0), "", "an older writer pinned no OID");
    assert!(again("t", 99).contains("another table than the one that was captured (OID 16384, not 99)"));
    assert!(again("u", 16_384).contains("it was public.u until now"));
    assert_eq!(again("u", 99), "");
}

#[test]
fn a_message_of_newer_triggers_stops_and_one_of_nobody_loads_everything_again() {
    let mut world = World::new(100);
    one_insert(&mut world, 100);
    world.feed(&begin(200, 8));
    world.feed(&ddl("nonsense"));
    let scope = |table: &str| Scope { table: Some(("public".into(), table.into())), account: None };
    let reloads: Vec<&Scope> = world.bridge.reloads().iter().map(|reload| &reload.scope).collect();
    assert_eq!(reloads, [&scope("t")]);
    world.feed(&ddl(r#"{"v":2}"#));
    assert!(matches!(&world.stopped, Some(Stop::Fault(fault)) if matches!(**fault, Fault::Ddl { .. })));
}
