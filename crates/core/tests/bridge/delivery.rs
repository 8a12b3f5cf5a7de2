//! Delivery: what is produced, committed and confirmed, and what stops.

use std::time::Duration;

use penstock_core::bridge::{ClockSample, Stop};
use penstock_core::fault::Fault;
use penstock_core::resume::behind_readable;
use penstock_wire::lsn::EndLsn;
use penstock_wire::progress::PartitionProgress;
use proptest::prelude::*;

use crate::world::{NOW, Produced, World, begin, commit, insert, one_insert, relation, truncate, update};

#[test]
fn a_commit_is_confirmed_only_behind_reports_kafkas_commit_and_a_reader() {
    let mut world = World::new(100);
    one_insert(&mut world, 100);
    assert!(world.records.is_empty() && world.commits.is_empty(), "more may follow in what was received");
    world.drained();
    assert_eq!(world.records.len(), 1);
    assert!(world.commits.is_empty(), "no commit is asked for before the report");
    world.deliver();
    assert_eq!(world.commits.len(), 1);
    assert!(
        world.confirmed.is_empty() && world.bridge.durable() == EndLsn::new(100),
        "nothing is confirmed before Kafka's commit"
    );
    world.bridge.handle_committed(NOW);
    world.act();
    assert!(
        world.confirmed.is_empty() && world.bridge.durable() == EndLsn::new(100),
        "nothing is confirmed before a reader can read it"
    );
    world.readable();
    assert_eq!(world.confirmed, [150]);
    let progress = &world.commits[0];
    assert_eq!((progress.end_lsn.raw(), progress.through.xid, progress.through.seq.0), (150, 7, 8));
}

#[test]
fn keepalive_inside_transaction_does_not_confirm() {
    let mut world = World::new(100);
    world.feed(&begin(100, 7));
    world.feed(&relation());
    world.feed(&insert("1", Some("a")));
    world.keepalive(140);
    world.drained();
    world.tick(Duration::from_secs(5));
    assert!(world.commits.is_empty(), "the transaction is not over");
}

#[test]
fn keepalive_is_confirmed_exactly_and_a_commit_that_starts_there_is_delivered() {
    let mut world = World::new(100);
    world.keepalive(140);
    world.tick(Duration::from_secs(5));
    world.committed();
    assert_eq!(world.confirmed, [140]);
    let mut resumed = World::resume(world.commits[0].clone());
    one_insert(&mut resumed, 140);
    resumed.drained();
    assert_eq!(resumed.records.len(), 1);
}

#[test]
fn what_is_already_delivered_is_skipped_and_keeps_its_relation() {
    let mut world = World::new(150);
    one_insert(&mut world, 100);
    world.feed(&begin(150, 8));
    world.feed(&insert("2", Some("a")));
    world.feed(&commit(150, 200));
    world.drained();
    assert_eq!(world.records.len(), 1);
    assert_eq!(world.bridge.take_skipped(), 1);
}

#[test]
fn the_next_group_is_not_produced_before_the_commit_of_its_predecessor_is_asked_for() {
    let mut world = World::new(100);
    one_insert(&mut world, 100);
    world.drained();
    one_insert(&mut world, 150);
    world.drained();
    assert_eq!(world.records.len(), 1, "it would fall into the open Kafka transaction");
    world.deliver();
    world.committed();
    world.drained();
    world.deliver();
    world.committed();
    assert_eq!(world.records.len(), 2);
    assert_eq!(world.confirmed, [150, 200]);
}

#[test]
fn a_move_is_a_delete_a_tombstone_and_an_arrival() {
    let mut world = World::new(100);
    world.feed(&begin(100, 7));
    world.feed(&relation());
    world.feed(&update("1", "a", "b"));
    world.feed(&commit(100, 150));
    world.drained();
    let seqs: Vec<u64> = world.records.iter().map(|record| record.3.position.seq.0).collect();
    assert_eq!(seqs.iter().copied().collect::<std::collections::BTreeSet<_>>(), [8, 9, 10].into());
    let tombstone = world.records.iter().find(|record| record.2.is_none()).expect("a tombstone");
    assert_eq!(tombstone.3.position.seq.0, 9);
}

#[test]
fn freshness_is_a_clock_whose_position_has_been_passed() {
    let mut world = World::new(100);
    world.bridge.handle_clock(ClockSample { lsn: EndLsn::new(150), clock_us: 5 });
    world.bridge.handle_clock(ClockSample { lsn: EndLsn::new(151), clock_us: 6 });
    one_insert(&mut world, 100);
    world.drained();
    world.deliver();
    assert_eq!(world.commits[0].postgres_clock_us, 5);
}

#[test]
fn a_truncate_stands_at_the_same_position_in_every_partition() {
    let mut world = World::new(100);
    world.feed(&begin(100, 7));
    world.feed(&relation());
    world.feed(&truncate());
    world.feed(&commit(100, 150));
    world.drained();
    let partitions: Vec<u32> = world.records.iter().map(|record| record.0).collect();
    assert_eq!(partitions, [0, 1, 2]);
    assert!(world.records.iter().all(|record| record.3.position.seq.0 == 8 && record.3.end_of_transaction));
}

#[test]
fn malformed_and_misplaced_messages_stop_and_confirm_nothing() {
    let cases: [&[u8]; 4] = [b"Z", b"I\0\0\x40\0N\0\0", &commit(100, 150), b"B"];
    for bytes in cases {
        let mut world = World::new(100);
        world.feed(bytes);
        world.drained();
        world.tick(Duration::from_secs(9));
        let fault = match world.stopped {
            Some(Stop::Fault(fault)) => fault,
            other => panic!("{other:?}"),
        };
        assert!(matches!(*fault, Fault::Decode { .. } | Fault::Sequence { .. }), "{fault}");
        assert!(world.commits.is_empty() && world.confirmed.is_empty());
    }
}

/// Two transactions, the second with moves, over three partitions.
fn two_transactions() -> Vec<Vec<u8>> {
    let mut log = vec![begin(100, 1), relation()];
    for id in 0..9 {
        log.push(insert(&id.to_string(), Some(["a", "b", "c"][id % 3])));
    }
    log.push(commit(100, 200));
    log.extend([begin(200, 2), update("1", "b", "a"), update("2", "c", "c"), insert("x", None), commit(200, 300)]);
    log
}

proptest! {
    /// The same log gives the same records however it is cut and timed.
    #[test]
    fn cutting_and_timing_change_no_record(pauses in proptest::collection::vec(0_u8..4, 40)) {
        let log = two_transactions();
        let run = |pauses: &[u8]| {
            let mut world = World::new(100);
            for (message, pause) in log.iter().zip(pauses.iter().chain(std::iter::repeat(&0))) {
                world.feed(message);
                match pause {
                    1 => world.drained(),
                    2 => world.bridge.handle_quiet(NOW),
                    3 => world.deliver(),
                    _ => {}
                }
                world.act();
                if world.commits.len() > world.confirmed.len() {
                    world.committed();
                }
            }
            for _ in 0..4 {
                world.drained();
                world.deliver();
                if world.commits.len() > world.confirmed.len() {
                    world.committed();
                }
            }
            let mut records = world.records;
            records.sort_by_key(|record| (record.0, record.3.position));
            (records, world.confirmed.last().copied())
        };
        prop_assert_eq!(run(&pauses), run(&[]));
    }

    /// Whatever part of each partition readers can read, the rest comes again, as it was, and nothing else does.
    #[test]
    fn what_a_broker_has_lost_comes_again_as_it_was(newest in 0_usize..2, readable in proptest::collection::vec(0_usize..9, 3)) {
        let mut before = World::new(100);
        for message in two_transactions() {
            before.feed(&message);
            before.drained();
            before.deliver();
            if before.commits.len() > before.confirmed.len() {
                before.committed();
            }
        }
        prop_assert_eq!(before.commits.len(), 2);
        let (mut missing, mut ends) = (Vec::new(), Vec::new());
        for (partition, readable) in (0..).zip(readable) {
            let records: Vec<&Produced> = before.records.iter().filter(|record| record.0 == partition).collect();
            let (kept, lost) = records.split_at(readable.min(records.len()));
            let last = kept.last().map(|record| record.3.position).unwrap_or_default();
            ends.push(PartitionProgress { partition, last, next_offset: i64::try_from(kept.len()).unwrap() });
            missing.extend(lost.iter().copied().cloned());
        }
        let progress = before.commits.swap_remove(newest);
        let mut again = World::resume(behind_readable(progress, ends, false, EndLsn::new(100)));
        for message in two_transactions() {
            again.feed(&message);
        }
        again.drained();
        again.records.sort_by_key(|record| (record.0, record.3.position));
        missing.sort_by_key(|record| (record.0, record.3.position));
        prop_assert_eq!(&again.records, &missing);
        again.deliver();
        again.tick(Duration::from_secs(5));
        again.committed();
        prop_assert_eq!(again.confirmed.last(), Some(&300), "all of it is durable in the end");
    }
}
