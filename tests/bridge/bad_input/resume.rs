//! Slot, progress and topic are three memories of one position. Every combination of them that is no beginning stops by
//! its name and with a remedy, and leaves things as they are.

use penstock_testbed::cluster::Addresses;
use penstock_testbed::kafka::Kafka;
use penstock_wire::account::Account;
use penstock_wire::partition::Partitioner;

use super::kafka::Operator;
use super::{TABLE, delivered, insert, stopped, stopped_in};
use crate::scene::{A, PARTITIONS, Scene, expect_last_words, stack, world, world_on};
use crate::world::World;

/// Inserts a row that waits in the WAL, lets `harm` do its harm, and starts a bridge that must stop with these words,
/// twice: it must not take its own failed start for something to go on from.
fn harmed(harm: impl FnOnce(&Scene, &Operator), words: &[&str]) -> Scene {
    let mut scene = stopped();
    insert(&scene, &[3]);
    harm(&scene, &Operator::new(&scene.world.bootstrap));
    let before = memories(&scene.world);
    for _ in 0..2 {
        scene.bridge = scene.world.run();
        scene.expect_halt(words);
    }
    assert_eq!(memories(&scene.world), before, "what there was must stay as it was");
    scene
}

/// What the slot says of itself.
fn memories(world: &World) -> String {
    let slot =
        format!("SELECT slot_name, confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{}'", world.slot());
    world.database.psql(&slot).expect("ask the slot")
}

fn drop_slot(scene: &Scene) {
    scene.sql(&format!("SELECT pg_drop_replication_slot('{}')", scene.world.slot()));
}

fn progress(scene: &Scene) -> String {
    format!("{}.progress", scene.world.topic)
}

#[test]
fn slot_without_progress_stops() {
    let words = ["slot without progress", "confirmed", "progress topic"];
    harmed(|scene, operator| operator.delete_topic(&progress(scene)), &words);
}

#[test]
fn slot_with_an_empty_progress_topic_stops() {
    let words = ["slot without progress", "confirmed", "progress topic"];
    let empty = |scene: &Scene, operator: &Operator| {
        operator.delete_topic(&progress(scene));
        operator.create_topic(&progress(scene), 1);
    };
    harmed(empty, &words);
}

#[test]
fn slot_that_somebody_else_made_stops_the_first_start() {
    let world = world(TABLE, "");
    let slot = world.slot();
    let sql = format!(
        "CREATE PUBLICATION penstock FOR TABLE t WITH (publish_via_partition_root);
         SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    );
    world.database.psql(&sql).expect("make a slot");
    let remedy = format!("pg_drop_replication_slot('{slot}')");
    expect_last_words(&mut world.run(), 1, &["slot without progress", &remedy, "penstock setup"]);

    // As it was told: dropped, and begun anew.
    world.database.psql(&format!("SELECT pg_drop_replication_slot('{slot}')")).expect("drop the slot");
    let mut scene = Scene::of(world);
    insert(&scene, &[1]);
    assert_eq!(delivered(&mut scene), ["1"]);
    scene.stop();
}

#[test]
fn progress_without_slot_stops() {
    let words = ["progress without slot", "penstock run --accept-gap", "read again"];
    harmed(|scene, _| drop_slot(scene), &words);
}

#[test]
fn topic_with_records_but_neither_slot_nor_progress_stops() {
    let words = ["topic without progress", "holds records", "penstock setup"];
    let harm = |scene: &Scene, operator: &Operator| {
        drop_slot(scene);
        operator.delete_topic(&progress(scene));
    };
    harmed(harm, &words);
}

#[test]
fn topic_deleted_stops() {
    let words = ["progress without topic", "does not exist", "Records that readers rely on are gone"];
    harmed(|scene, operator| operator.delete_topic(&scene.world.topic), &words);
}

#[test]
fn topic_deleted_and_progress_with_it_stops() {
    let words = ["slot without progress", "progress topic"];
    let harm = |scene: &Scene, operator: &Operator| {
        operator.delete_topic(&scene.world.topic);
        operator.delete_topic(&progress(scene));
    };
    harmed(harm, &words);
}

#[test]
fn topic_created_again_stops() {
    let words = ["topic re-created", "Records that readers rely on are gone"];
    let harm = |scene: &Scene, operator: &Operator| {
        operator.delete_topic(&scene.world.topic);
        operator.create_topic(&scene.world.topic, i32::try_from(PARTITIONS).expect("few partitions"));
    };
    harmed(harm, &words);
}

/// Under its feet: nothing that is produced fails.
#[test]
fn topic_created_again_while_the_bridge_runs_stops_it() {
    let mut scene = Scene::start(TABLE, "");
    insert(&scene, &[1]);
    assert_eq!(delivered(&mut scene), ["1"]);
    scene.bridge.signal("STOP");
    let operator = Operator::new(&scene.world.bootstrap);
    operator.delete_topic(&scene.world.topic);
    operator.create_topic(&scene.world.topic, i32::try_from(PARTITIONS).expect("few partitions"));
    scene.bridge.signal("CONT");
    scene.expect_halt(&["topic re-created", "Records that readers rely on are gone"]);
}

#[test]
fn topic_with_more_partitions_while_the_bridge_runs_stops_it() {
    let mut scene = Scene::start(TABLE, "");
    insert(&scene, &[1]);
    assert_eq!(delivered(&mut scene), ["1"]);
    Operator::new(&scene.world.bootstrap).add_partitions(&scene.world.topic, 5);
    scene.expect_halt(&["topic repartitioned", "3 partitions are pinned, 5 exist"]);
}

#[test]
fn topic_with_more_partitions_stops() {
    let words = ["topic repartitioned", "3 partitions are pinned, 5 exist"];
    harmed(|scene, operator| operator.add_partitions(&scene.world.topic, 5), &words);
}

#[test]
fn empty_topic_with_another_partition_count_stops_the_first_start() {
    let world = world(TABLE, "");
    Operator::new(&world.bootstrap).create_topic(&world.topic, 5);
    expect_last_words(&mut world.run(), 1, &["topic repartitioned", "3 partitions", "5 exist"]);
    assert_eq!(memories(&world), "", "no slot is made for a topic that cannot be used");
}

#[test]
fn empty_topic_that_fits_is_taken_by_the_first_start() {
    let world = world(TABLE, "");
    Operator::new(&world.bootstrap).create_topic(&world.topic, 3);
    let mut scene = Scene::of(world);
    insert(&scene, &[1]);
    assert_eq!(delivered(&mut scene), ["1"]);
    scene.stop();
}

/// What an unclean election does, or a disk that was restored: the same topic, by its id, without its newest records.
#[test]
fn topic_that_lost_its_newest_records_stops() {
    let kafka = Kafka::builder().start().expect("a broker of its own");
    let addresses = Addresses { bootstrap: kafka.bootstrap(), ..stack().clone() };
    let mut scene = stopped_in(world_on(&addresses, TABLE, ""));
    insert(&scene, &[3]);
    kafka.broker().stop().expect("stop the broker");
    let partition = account_partition();
    let log = kafka.broker().log();
    let folder = log.parent().expect("a folder").join(format!("data/{}-{partition}", scene.world.topic));
    for entry in std::fs::read_dir(&folder).expect("the partition's folder") {
        let path = entry.expect("a file").path();
        if path
            .extension()
            .is_some_and(|extension| ["log", "index", "timeindex", "snapshot"].iter().any(|name| extension == *name))
        {
            std::fs::remove_file(path).expect("remove a segment");
        }
    }
    kafka.broker().start().expect("start the broker again");

    scene.bridge = scene.world.run();
    let ends = format!("partition {partition} ends at offset 0");
    scene.expect_halt(&["topic shorter than progress", &ends, "Records that readers rely on are gone"]);
}

/// The partition of the account that rows are inserted for.
fn account_partition() -> u32 {
    let account = Account::from_column(Some(A.as_bytes())).expect("an account");
    Partitioner::new(PARTITIONS).expect("a partition count").partition(account).number()
}

#[test]
fn topic_that_throws_records_away_stops() {
    for (topic, policy) in [("", "delete"), (".progress", "compact,delete")] {
        let words = ["cleanup.policy is", "it must be compact", "--add-config cleanup.policy=compact"];
        let mut scene = harmed(
            |scene, operator| operator.set(&format!("{}{topic}", scene.world.topic), "cleanup.policy", policy),
            &words,
        );
        // As it was told.
        let operator = Operator::new(&scene.world.bootstrap);
        operator.set(&format!("{}{topic}", scene.world.topic), "cleanup.policy", "compact");
        scene.again();
        assert_eq!(delivered(&mut scene), ["1", "2", "3"]);
        scene.stop();
    }
}

#[test]
fn slot_ahead_of_progress_stops() {
    let words = ["slot ahead of progress", "may be missing"];
    let advance = |scene: &Scene, _: &Operator| {
        let slot = scene.world.slot();
        scene.sql(&format!("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"));
    };
    harmed(advance, &words);
}

#[test]
fn slot_made_again_stops() {
    let words = ["slot ahead of progress", "may be missing"];
    let again = |scene: &Scene, _: &Operator| {
        drop_slot(scene);
        let slot = scene.world.slot();
        scene.sql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    };
    harmed(again, &words);
}

#[test]
fn what_is_pinned_cannot_be_configured_otherwise() {
    let mut scene = stopped();
    insert(&scene, &[3]);
    for (name, (wrong, right), words) in [
        ("KAFKA__PARTITIONS", ("4", "3"), ["kafka.partitions", "is pinned as 3", "Set kafka.partitions back to 3"]),
        ("SOURCE__NUMBER", ("2", "1"), ["source.number", "is pinned as 1", "Set source.number back to 1"]),
    ] {
        scene.world.set(name, wrong);
        scene.bridge = scene.world.run();
        scene.expect_halt(&words);
        scene.world.set(name, right);
    }
    scene.again();
    assert_eq!(delivered(&mut scene), ["1", "2", "3"]);
    scene.stop();
}

#[test]
fn another_database_is_not_taken_for_the_one_that_progress_is_of() {
    let mut scene = stopped();
    let other = stack().database("other").expect("another database");
    other.psql(TABLE).expect("the same table");
    scene.bridge = scene.world.run_through(&other);
    scene.expect_halt(&["belongs to database", &scene.world.database.database.clone()]);
    insert(&scene, &[3]);
    scene.again();
    assert_eq!(delivered(&mut scene), ["1", "2", "3"]);
    scene.stop();
}
