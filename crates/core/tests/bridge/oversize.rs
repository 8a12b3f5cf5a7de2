//! What is told of a Kafka transaction that fails, and how a suspect is delivered.

use std::time::Duration;

use penstock_core::oversize::Suspect;
use penstock_wire::lsn::CommitLsn;

use crate::world::{Large, NOW, World, begin, commit, insert_note, one_insert, relation};

const SECOND: Duration = Duration::from_secs(1);

fn large(id: &str) -> Vec<u8> {
    insert_note(id, Some("a"), &"x".repeat(200_000))
}

#[test]
fn a_failed_attempt_is_told_with_its_transaction_its_age_and_its_silence() {
    let mut world = World::new(100);
    assert_eq!(world.bridge.attempt(NOW), None, "no Kafka transaction is open");
    one_insert(&mut world, 100);
    world.feed(&begin(150, 8));
    world.feed(&large("2"));
    world.feed(&large("3"));
    world.tick(NOW + 5 * SECOND);
    world.deliver();
    let attempt = world.bridge.attempt(NOW + 7 * SECOND).unwrap();
    assert_eq!((attempt.commit_lsn.raw(), attempt.xid), (150, 8), "it is still being read");
    assert_eq!((attempt.age, attempt.longest_silence), (7 * SECOND, 5 * SECOND));
    assert_eq!(attempt.records, 2, "the youngest is held back");
    assert!(attempt.bytes > 200_000);

    world.feed(&commit(150, 200));
    world.drained();
    // The next one fills while this one waits for its reports.
    one_insert(&mut world, 200);
    let attempt = world.bridge.attempt(NOW + 13 * SECOND).unwrap();
    assert_eq!((attempt.commit_lsn.raw(), attempt.longest_silence), (150, 8 * SECOND), "the largest of its group");
    world.deliver();
    world.committed();
    world.drained();
    world.tick(NOW + 20 * SECOND);
    let attempt = world.bridge.attempt(NOW + 21 * SECOND).unwrap();
    assert_eq!((attempt.commit_lsn.raw(), attempt.xid), (200, 7));
    assert!(attempt.age < 17 * SECOND, "the predecessor's time does not count");
    world.deliver();
    world.committed();
    assert_eq!(world.bridge.attempt(NOW + 22 * SECOND), None);
}

#[test]
fn a_suspect_has_a_kafka_transaction_to_itself() {
    let ends = |suspect: Option<Suspect>| {
        let mut world = World::with(100, Large { suspect, ..Large::default() });
        for at in [100, 150, 200, 250] {
            for message in [begin(at, 7), relation(), insert_note("1", Some("a"), "n"), commit(at, at + 50)] {
                // Before its first record the suspect waits for its predecessors to be committed, as does what follows.
                while !world.bridge.wants_wal() {
                    world.deliver();
                    world.committed();
                }
                world.feed(&message);
            }
        }
        world.drained();
        world.deliver();
        if world.is_committing() {
            world.committed();
        }
        world.drained();
        world.deliver();
        world.committed();
        world.confirmed
    };
    let suspect = |commit| Some(Suspect { commit_lsn: CommitLsn::new(commit), bytes_max: usize::MAX });
    assert_eq!(ends(suspect(200)), [200, 250, 300]);
    assert_eq!(ends(suspect(100)), [150, 300]);
}
