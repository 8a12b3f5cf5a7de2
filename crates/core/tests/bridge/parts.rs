//! A transaction that is delivered in parts: what progress says in between, and going on behind it.

use std::time::Duration;

use penstock_core::bridge::Stop;
use penstock_core::fault::Fault;
use penstock_core::oversize::Suspect;
use penstock_wire::header::Header;
use penstock_wire::lsn::CommitLsn;
use penstock_wire::position::Seq;
use penstock_wire::progress::Progress;
use proptest::prelude::*;

use crate::world::{Large, NOW, World, begin, commit, insert, insert_note, one_insert, relation, truncate, update};

pub const AGE: Duration = Duration::from_secs(10);

/// Three of these are handed to the producer at once, but for the youngest of each partition.
fn large(id: u64, account: &str) -> Vec<u8> {
    insert_note(&id.to_string(), Some(account), &"x".repeat(100_000))
}

fn split() -> Large {
    Large { part_age_max: Some(AGE), ..Large::default() }
}

/// A transaction of which events 0 to 4 are read, all of one account, and event 4 is held back.
fn in_the_middle(large_treatment: Large) -> World {
    let mut world = World::with(100, large_treatment);
    world.feed(&begin(100, 7));
    world.feed(&relation());
    (0..5).for_each(|id| world.feed(&large(id, "a")));
    world
}

fn headers(world: &World) -> Vec<Header> {
    world.records.iter().map(|record| record.3).collect()
}

#[test]
fn a_part_is_committed_at_its_age_and_its_last_record_waits_for_the_next() {
    let mut world = in_the_middle(split());
    world.deliver();
    world.tick(NOW + AGE - Duration::from_millis(1));
    assert!(world.commits.is_empty(), "it is not yet of age");
    world.tick(NOW + AGE);
    world.deliver();
    let progress = world.commits[0].clone();
    assert_eq!((progress.end_lsn.raw(), progress.through.commit_lsn.raw()), (100, 100), "it is not delivered");
    assert_eq!((progress.through.xid, progress.through.seq), (7, Seq(8 * 5)));
    assert!(progress.partitions.iter().any(|entry| entry.last.seq == Seq(8 * 4) && entry.next_offset == 4));
    world.committed();
    assert_eq!(world.confirmed, [100], "the slot stays");
    assert!(headers(&world).iter().all(|header| !header.end_of_transaction), "no flag before the end");

    world.feed(&commit(100, 200));
    world.drained();
    world.deliver();
    world.committed();
    assert_eq!(world.confirmed, [100, 200]);
    let flags: Vec<bool> = headers(&world).iter().map(|header| header.end_of_transaction).collect();
    assert_eq!(flags, [false, false, false, false, true]);
}

#[test]
fn without_being_told_to_nothing_is_split() {
    let mut world = in_the_middle(Large::default());
    world.deliver();
    world.tick(NOW + 100 * AGE);
    assert!(world.commits.is_empty());
}

#[test]
fn a_part_takes_the_whole_transactions_before_it_along() {
    let mut world = World::with(50, split());
    one_insert(&mut world, 50);
    world.feed(&begin(100, 8));
    (0..5).for_each(|id| world.feed(&large(id, "a")));
    world.tick(NOW + AGE);
    world.deliver();
    let progress = &world.commits[0];
    assert_eq!((progress.end_lsn.raw(), progress.through.commit_lsn.raw()), (100, 100));
    world.committed();
    assert_eq!(world.confirmed, [100]);
}

#[test]
fn a_part_holds_at_least_one_record() {
    let suspect = Some(Suspect { commit_lsn: CommitLsn::new(100), bytes_max: 1 });
    let mut world = World::with(100, Large { part_age_max: Some(AGE), suspect, ..Large::default() });
    world.feed(&begin(100, 7));
    world.feed(&relation());
    world.feed(&insert("1", Some("a")));
    world.tick(NOW + AGE);
    assert!(world.commits.is_empty(), "its only record is held back");
    world.feed(&insert("2", Some("a")));
    world.deliver();
    assert_eq!((world.records.len(), world.commits.len()), (1, 1));
}

#[test]
fn a_transaction_that_stalls_behind_a_part_makes_no_more_parts() {
    let mut world = in_the_middle(split());
    for round in 1..4 {
        world.tick(NOW + round * AGE);
        world.deliver();
        if world.is_committing() {
            world.committed();
        }
    }
    assert_eq!(world.commits.len(), 1, "only what is held back is left");
}

/// Progress of a transaction of five events, xid 7 at 100, of which four are delivered.
fn delivered_in_part() -> Progress {
    let mut world = in_the_middle(split());
    world.tick(NOW + AGE);
    world.deliver();
    world.commits.pop().unwrap()
}

#[test]
fn a_bridge_that_resumes_drops_what_is_delivered_and_counts_it() {
    let mut world = World::resume(delivered_in_part());
    world.keepalive(100);
    world.feed(&begin(100, 7));
    world.feed(&relation());
    (0..6).for_each(|id| world.feed(&large(id, "a")));
    world.feed(&commit(100, 200));
    world.drained();
    let headers = headers(&world);
    let seqs: Vec<u64> = headers.iter().map(|header| header.position.seq.0).collect();
    assert_eq!(seqs, [8 * 5, 8 * 6]);
    assert_eq!(headers[0].previous.seq, Seq(8 * 4), "the chain goes on");
    assert_eq!(headers.iter().map(|header| header.end_of_transaction).collect::<Vec<_>>(), [false, true]);
    let made: u64 = world.bridge.take_counts().map(|(_, counts)| counts.created).sum();
    assert_eq!(made, 2);
    world.deliver();
    world.committed();
    assert_eq!(world.confirmed, [200]);
}

#[test]
fn another_history_than_the_one_delivered_in_part_stops() {
    type Feed = fn(&mut World);
    let cases: [(&str, Feed); 4] = [
        ("another transaction", |world| world.feed(&begin(100, 8))),
        ("it is skipped", |world| world.feed(&begin(101, 9))),
        ("it is passed", |world| world.keepalive(101)),
        ("it is shorter", |world| {
            world.feed(&begin(100, 7));
            world.feed(&commit(100, 200));
        }),
    ];
    for (what, feed) in cases {
        let mut world = World::resume(delivered_in_part());
        feed(&mut world);
        let fault = match world.stopped {
            Some(Stop::Fault(fault)) => fault,
            other => panic!("{what}: {other:?}"),
        };
        assert!(matches!(*fault, Fault::History { .. }), "{what}: {fault}");
    }
}

/// Small transactions around one of forty events: inserts, moves, truncates, in all partitions.
fn log() -> Vec<Vec<u8>> {
    let account = |event: usize| ["a", "b", "c", "d", "e"][event % 5];
    let mut log = vec![begin(100, 1), relation(), insert("1", Some("a")), commit(100, 200), begin(200, 2)];
    for event in 0..40 {
        log.push(match event % 7 {
            3 => update("1", account(event), account(event * event)),
            5 if event > 20 => truncate(),
            _ => insert(&event.to_string(), Some(account(event))),
        });
    }
    log.extend([commit(200, 300), begin(300, 3), insert("2", Some("b")), insert("3", None), commit(300, 400)]);
    log
}

/// Plays a log that ends at 400; each step says what happens behind a message. Gives the records, and how many parts there
/// were.
pub fn play(log: &[Vec<u8>], large: Large, steps: &[u8]) -> (World, usize) {
    let mut world = World::with(100, large);
    let (mut next, mut steps) = (0, steps.iter().copied());
    let mut rounds = 0;
    while next < log.len() || world.confirmed.last() != Some(&400) {
        rounds += 1;
        assert!(rounds < 10_000, "it does not come to an end: {:?}", world.confirmed);
        match log.get(next) {
            Some(message) if world.bridge.wants_wal() => {
                world.feed(message);
                next += 1;
            }
            _ => world.drained(),
        }
        match steps.next().unwrap_or(3) {
            0 => {}
            1 => world.drained(),
            2 => world.deliver(),
            crash @ (4 | 5) => {
                world = world.crash(crash == 5);
                next = 0;
            }
            _ => {
                world.deliver();
                if world.is_committing() {
                    world.committed();
                }
            }
        }
        assert!(world.stopped.is_none(), "{:?}", world.stopped);
    }
    let in_part = |progress: &&Progress| !progress.end_lsn.covers(progress.through.commit_lsn);
    let parts = world.commits.iter().filter(in_part).filter(|progress| progress.through.xid != 0).count();
    (world, parts)
}

proptest! {
    /// However it is cut into parts, and wherever the bridge dies, the topic holds the same records, once, with the same
    /// headers.
    #[test]
    fn parts_and_deaths_change_no_record(
        bytes_max in 1_usize..2000,
        steps in proptest::collection::vec(prop_oneof![12 => 0_u8..4, 1 => 4_u8..6], 0..200),
    ) {
        let log = log();
        let (whole, none) = play(&log, Large::default(), &[]);
        prop_assert_eq!(none, 0);
        let suspect = Some(Suspect { commit_lsn: CommitLsn::new(200), bytes_max });
        let large = Large { part_age_max: Some(AGE), suspect, ..Large::default() };
        let (_, parts) = play(&log, large, &[]);
        prop_assert!(parts > 1, "{parts} parts at {bytes_max} bytes");
        let (split, _) = play(&log, large, &steps);
        let sorted = |world: World| {
            let mut records = world.records;
            records.sort_by_key(|record| (record.0, record.3.position));
            records
        };
        let confirmed = split.confirmed.clone();
        prop_assert!(confirmed.is_sorted(), "{confirmed:?}");
        prop_assert_eq!(sorted(split), sorted(whole));
    }
}
