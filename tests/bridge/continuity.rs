//! Where continuity was broken: the bridge stops and names the command that goes on; told to, it goes on in a new epoch, and
//! when its reload has ended the topic equals the tables again.

use std::time::Duration;

use penstock_testbed::cluster::Addresses;
use penstock_testbed::postgres::{Postgres, Stop};
use penstock_wire::control::ControlKind;
use penstock_wire::position::{Position, Seq};

use crate::backfill::fold::{assert_same, fold, select};
use crate::reader::{self, Content, Record};
use crate::scene::{PARTITIONS, PATIENCE, Scene, expect_last_words, stack, wait_for_loads, world, world_on};

const SCHEMA: &str = "
CREATE TABLE items (id bigint PRIMARY KEY, account_id uuid NOT NULL, n int);
ALTER TABLE items REPLICA IDENTITY FULL;
INSERT INTO items SELECT n, ('00000000-0000-4000-8000-00000000000' || n % 10)::uuid, 0 FROM generate_series(1, 60) n";
const COLUMNS: &[(&str, &[&str])] = &[("items", &["id", "account_id", "n"])];
const CHANGES: &str = "DELETE FROM items WHERE id % 7 = 0;
    UPDATE items SET n = n + 1 WHERE id % 5 = 0;
    INSERT INTO items SELECT max(id) + 1, '00000000-0000-4000-8000-000000000001', 7 FROM items";

/// A scene whose rows are loaded, and whose bridge has ended.
fn stopped(mut scene: Scene) -> Scene {
    wait_for_loads(&scene);
    scene.sql(CHANGES);
    scene.world.wait_confirmed(&mut scene.bridge, PATIENCE);
    scene.bridge.signal("TERM");
    assert!(scene.bridge.wait(PATIENCE).success(), "{}", scene.bridge.log());
    scene
}

fn everything(scene: &Scene) -> Vec<Record> {
    reader::read(&scene.world.bootstrap, &scene.world.registry_url, &scene.world.topic)
}

/// The LSN that a refusal tells to accept.
fn named(said: &str, option: &str) -> String {
    let rest = said.split(&format!("{option} ")).nth(1).unwrap_or_else(|| panic!("no {option} in {said}"));
    rest.split([' ', '`']).next().unwrap_or_default().to_owned()
}

/// Starts a bridge that must stop with these words; the LSN that it names.
fn refused(scene: &mut Scene, words: &[&str]) -> String {
    scene.bridge = scene.world.run();
    named(&scene.expect_halt(words), "--accept-gap")
}

/// Goes on over the gap; the topic must tell it, and equal the tables in the end.
fn accepted(scene: &mut Scene, arguments: &[&str], epoch: u32) {
    let before = everything(scene);
    scene.bridge = scene.world.spawn("run", arguments, &scene.world.database);
    scene.world.wait_ready(&mut scene.bridge, PATIENCE);
    scene.sql("INSERT INTO items SELECT max(id) + 1, '00000000-0000-4000-8000-000000000002', 8 FROM items");
    wait_for_loads(scene);
    scene.world.wait_confirmed(&mut scene.bridge, PATIENCE);
    let records = everything(scene);
    assert_same(&fold(&records, COLUMNS), &select(&scene.world.database, COLUMNS));
    for partition in 0..i32::try_from(PARTITIONS).expect("a few") {
        let of = |records: &[Record]| -> Vec<Record> {
            records.iter().filter(|record| record.partition == partition).cloned().collect()
        };
        let (before, after) = (of(&before), of(&records));
        let last = before.last().map_or(Position::ZERO, |record| record.header.position);
        let new = &after[before.len()..];
        let [first, second, ..] = new else { panic!("{} new records in partition {partition}", new.len()) };
        let (Content::Control(begun), Content::Control(gap)) = (&first.content, &second.content) else {
            panic!("{first:?} {second:?}");
        };
        assert_eq!((begun.kind, begun.begin), (ControlKind::Epoch, Some(last)));
        assert!(begun.detail.as_deref().is_some_and(|detail| detail.starts_with("incomplete: ")), "{begun:?}");
        assert_eq!(gap.kind, ControlKind::Gap);
        let at = |seq| Position { epoch, seq: Seq(seq), ..Position::ZERO };
        assert_eq!((first.header.position, second.header.position), (at(0), at(8)));
        assert!(first.header.end_of_transaction && second.header.end_of_transaction);
        assert!(new.iter().all(|record| record.header.position.epoch == epoch));
    }
}

fn epochs(scene: &Scene) -> usize {
    let is_epoch =
        |record: &Record| matches!(&record.content, Content::Control(control) if control.kind == ControlKind::Epoch);
    everything(scene).into_iter().filter(is_epoch).count()
}

#[test]
fn a_slot_that_was_dropped_stops_and_what_is_missing_is_declared_and_loaded() {
    let mut scene = stopped(Scene::of(world(SCHEMA, "")));
    scene.sql(CHANGES);
    scene.sql(&format!("SELECT pg_drop_replication_slot('{}')", scene.world.slot()));
    scene.sql(CHANGES);
    scene.sql("DELETE FROM items WHERE id = 11");
    let end = refused(&mut scene, &["progress without slot"]);
    // What is accepted is this gap, not any.
    let mut other = scene.world.spawn("run", &["--accept-gap", "0/1"], &scene.world.database);
    expect_last_words(&mut other, 1, &["progress without slot", &end]);
    accepted(&mut scene, &["--accept-gap", &end], 2);
    // What was deleted in the gap vanishes with the reload's end, and not before.
    let mut records = everything(&scene);
    let ends_reload = |record: &Record| matches!(&record.content, Content::Control(control) if control.kind == ControlKind::ReloadEnd);
    records.retain(|record| record.header.position.epoch == 1 || !ends_reload(record));
    assert!(fold(&records, COLUMNS)["items"].keys().any(|row| row.starts_with("(11 ")));
    // Left in a service's command line, it does nothing.
    scene.bridge.signal("TERM");
    assert!(scene.bridge.wait(PATIENCE).success());
    let before = epochs(&scene);
    scene.bridge = scene.world.spawn("run", &["--accept-gap", &end], &scene.world.database);
    scene.world.wait_ready(&mut scene.bridge, PATIENCE);
    scene.sql(CHANGES);
    scene.world.wait_confirmed(&mut scene.bridge, PATIENCE);
    assert_eq!(epochs(&scene), before);
    assert_same(&fold(&everything(&scene), COLUMNS), &select(&scene.world.database, COLUMNS));
    scene.stop();
}

#[test]
fn a_slot_that_was_made_anew_stops_and_its_gap_is_declared() {
    let mut scene = stopped(Scene::of(world(SCHEMA, "")));
    scene.sql(CHANGES);
    let slot = scene.world.slot();
    scene.sql(&format!(
        "SELECT pg_drop_replication_slot('{slot}'); SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ));
    scene.sql(CHANGES);
    let end = refused(&mut scene, &["slot ahead of progress"]);
    accepted(&mut scene, &["--accept-gap", &end], 2);
    scene.stop();
}

/// Killed between the slot and the first progress of the epoch, it is told the same again.
#[test]
fn a_bridge_that_is_killed_while_it_goes_on_over_a_gap_goes_on_when_told_again() {
    let mut scene = stopped(Scene::of(world(SCHEMA, "")));
    scene.sql(&format!("SELECT pg_drop_replication_slot('{}')", scene.world.slot()));
    scene.sql(CHANGES);
    let end = refused(&mut scene, &["progress without slot"]);
    let killed = scene.world.spawn("run", &["--accept-gap", &end], &scene.world.database);
    let made = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", scene.world.slot());
    scene.world.database.wait_for(&format!("SELECT ({made}) = 1")).expect("the slot is made");
    killed.kill();
    scene.bridge = scene.world.spawn("run", &["--accept-gap", &end], &scene.world.database);
    scene.world.wait_ready(&mut scene.bridge, PATIENCE);
    wait_for_loads(&scene);
    scene.sql(CHANGES);
    scene.world.wait_confirmed(&mut scene.bridge, PATIENCE);
    assert_same(&fold(&everything(&scene), COLUMNS), &select(&scene.world.database, COLUMNS));
    scene.stop();
}

/// A scene on a Postgres of its own.
fn own() -> (Postgres, Scene) {
    let postgres = Postgres::builder().set("wal_keep_size", "64MB").start().expect("a Postgres of its own");
    let addresses = Addresses { postgres: postgres.address().clone(), ..stack().clone() };
    let scene = Scene::of(world_on(&addresses, SCHEMA, ""));
    (postgres, scene)
}

/// Restores what the server held before the newest delivered changes.
fn restored() -> (Postgres, Scene) {
    let (postgres, scene) = own();
    let mut scene = stopped(scene);
    postgres.stop(Stop::Fast).expect("stop");
    let saved = postgres.save().expect("save");
    postgres.start().expect("start");
    scene.again();
    scene.sql(CHANGES);
    scene.sql("UPDATE items SET n = 100");
    scene.world.wait_confirmed(&mut scene.bridge, PATIENCE);
    scene.bridge.signal("TERM");
    assert!(scene.bridge.wait(PATIENCE).success(), "{}", scene.bridge.log());
    postgres.stop(Stop::Fast).expect("stop");
    postgres.restore(&saved).expect("restore");
    postgres.start().expect("start");
    (postgres, scene)
}

#[test]
fn a_server_restored_to_an_older_state_stops_and_its_gap_is_declared() {
    let (_postgres, mut scene) = restored();
    let end = refused(&mut scene, &["server behind progress"]);
    accepted(&mut scene, &["--accept-gap", &end], 2);
    scene.stop();
}

/// The same timeline, and LSNs that were there before with other transactions: nothing of the two is mixed.
#[test]
fn a_restored_server_that_has_grown_past_progress_stops_and_its_gap_is_declared() {
    let (_postgres, mut scene) = restored();
    scene.sql(
        "UPDATE items SET n = 200 WHERE id % 2 = 0; UPDATE items SET n = 300; UPDATE items SET n = 400 WHERE id < 9",
    );
    scene.sql("CREATE TABLE fill AS SELECT repeat('x', 1000) FROM generate_series(1, 2000)");
    scene.sql(CHANGES);
    let before = everything(&scene).len();
    let end = refused(&mut scene, &["not the one that was delivered", "restored"]);
    assert_eq!(everything(&scene).len(), before, "nothing of the other history is written");
    accepted(&mut scene, &["--accept-gap", &end], 2);
    scene.stop();
}

/// The slot came along with the data, and the new timeline left the old one behind everything that was delivered.
#[test]
fn a_server_that_was_promoted_with_its_slot_is_gone_on_with() {
    let (postgres, scene) = own();
    let mut scene = stopped(scene);
    postgres.stop(Stop::Fast).expect("stop");
    std::fs::write(postgres.data_directory().join("standby.signal"), "").expect("make it a standby");
    postgres.start().expect("start");
    postgres.promote().expect("promote");
    scene.sql(CHANGES);
    scene.again();
    scene.world.wait_confirmed(&mut scene.bridge, PATIENCE);
    let records = everything(&scene);
    let begun: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.content {
            Content::Control(control) if record.header.position.epoch == 2 => {
                Some((control.kind, control.detail.clone()))
            }
            Content::Control(_) | Content::Change(_) | Content::Tombstone => None,
        })
        .collect();
    assert_eq!(begun.len(), PARTITIONS as usize, "{begun:?}");
    for (kind, detail) in begun {
        assert_eq!(kind, ControlKind::Epoch);
        assert!(detail.as_deref().is_some_and(|detail| detail.starts_with("complete: ")), "{detail:?}");
    }
    assert_same(&fold(&records, COLUMNS), &select(&scene.world.database, COLUMNS));
    scene.stop();
}

/// Commits that were delivered and that the standby never got: their changes are in the topic and nowhere else.
#[test]
fn a_standby_that_was_promoted_without_commits_that_were_delivered_stops() {
    let (postgres, scene) = own();
    wait_for_loads(&scene);
    let standby = postgres.standby().expect("a standby");
    let mut scene = stopped(scene);
    standby.stop(Stop::Immediate).expect("cut it off");
    scene.again();
    scene.sql("UPDATE items SET n = 100");
    scene.world.wait_confirmed(&mut scene.bridge, PATIENCE);
    scene.bridge.signal("TERM");
    assert!(scene.bridge.wait(PATIENCE).success());
    postgres.stop(Stop::Immediate).expect("lose the primary");
    standby.start().expect("start the standby");
    standby.promote().expect("promote it");
    scene.world.database = standby.address().with_database(&scene.world.database.database);
    scene.sql(CHANGES);
    let end = refused(&mut scene, &["another timeline"]);
    accepted(&mut scene, &["--accept-gap", &end], 2);
    scene.stop();
}

/// `max_slot_wal_keep_size` has taken what the slot needs.
#[test]
fn a_slot_that_lost_its_log_stops_and_its_gap_is_declared() {
    let postgres = Postgres::builder().set("max_slot_wal_keep_size", "1MB").start().expect("a Postgres of its own");
    let addresses = Addresses { postgres: postgres.address().clone(), ..stack().clone() };
    let mut scene = stopped(Scene::of(world_on(&addresses, SCHEMA, "")));
    scene.sql(CHANGES);
    let lost =
        format!("SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = '{}'", scene.world.slot());
    crate::world::wait("the slot to be lost", Duration::from_secs(60), || {
        scene.sql("CREATE TABLE IF NOT EXISTS fill (t text); INSERT INTO fill SELECT repeat('x', 1000) FROM generate_series(1, 5000); SELECT pg_switch_wal(); CHECKPOINT");
        scene.sql(&lost).trim().ends_with('t')
    })
    .expect("it is");
    scene.sql(CHANGES);
    let end = refused(&mut scene, &["slot lost"]);
    accepted(&mut scene, &["--accept-gap", &end], 2);
    scene.stop();
}
