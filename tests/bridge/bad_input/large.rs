//! Rows whose records are larger than the topic takes.

use super::kafka::Operator;
use super::{TABLE, delivered, ids, insert};
use crate::scene::{A, Scene, world};

/// Inserts a row whose value has so many bytes, which hardly compress. Gives the value.
fn insert_large(scene: &Scene, id: i32, bytes: usize) -> String {
    let digests = bytes / 32;
    scene.sql(&format!(
        "INSERT INTO t SELECT {id}, '{A}', string_agg(md5(random()::text), '') FROM generate_series(1, {digests})"
    ));
    scene.sql(&format!("SELECT v FROM t WHERE id = {id}"))
}

fn lsn_of_slot(scene: &Scene) -> String {
    scene.world.confirmed()
}

/// Row 1 is delivered, row 2 is too large for the topic, row 3 waits behind it.
fn scene_with_large_row(topic_bytes: u32, configured_bytes: u32) -> (Scene, String) {
    let mut world = world(TABLE, "");
    world.set("LIMITS__RECORD_BYTES_MAX", &configured_bytes.to_string());
    let mut scene = Scene::of(world);
    Operator::new(&scene.world.bootstrap).set(&scene.world.topic, "max.message.bytes", &topic_bytes.to_string());
    insert(&scene, &[1]);
    assert_eq!(delivered(&mut scene), ["1"]);
    let value = insert_large(&scene, 2, 200_000);
    insert(&scene, &[3]);
    (scene, value)
}

fn expect_halt_at_large_row(scene: &mut Scene, value: &str) {
    let behind = scene.sql("SELECT pg_current_wal_lsn()");
    let said = scene.expect_halt(&["public.t", "1:0/", "bytes", "max.message.bytes", "limits.record_bytes_max"]);
    assert!(said.contains("200") && !scene.bridge.log().contains(&value[..64]), "a row's value is told");
    let past = scene.sql(&format!("SELECT '{}'::pg_lsn >= '{behind}'", lsn_of_slot(scene)));
    assert_eq!(past, "f", "the slot must keep the row that was not delivered");
    assert_eq!(ids(&scene.delivered()), ["1"]);
}

#[test]
fn a_record_above_the_configured_limit_halts_until_the_limit_is_raised() {
    let (mut scene, value) = scene_with_large_row(65_536, 65_536);
    expect_halt_at_large_row(&mut scene, &value);
    // A start alone changes nothing.
    scene.bridge = scene.world.run();
    expect_halt_at_large_row(&mut scene, &value);

    Operator::new(&scene.world.bootstrap).set(&scene.world.topic, "max.message.bytes", "1000000");
    scene.world.set("LIMITS__RECORD_BYTES_MAX", "1000000");
    scene.again();
    assert_eq!(delivered(&mut scene), ["1", "2", "3"]);
    let records = scene.delivered();
    let row = records[1].change().and_then(|envelope| envelope.after.as_ref()).expect("the large row");
    assert_eq!(crate::scene::plain(row.get("v").expect("its value")), value);
    scene.stop();
}

#[test]
fn a_topic_that_takes_less_than_configured_halts_until_it_takes_more() {
    let (mut scene, value) = scene_with_large_row(65_536, 1_000_000);
    expect_halt_at_large_row(&mut scene, &value);

    Operator::new(&scene.world.bootstrap).set(&scene.world.topic, "max.message.bytes", "1000000");
    scene.again();
    assert_eq!(delivered(&mut scene), ["1", "2", "3"]);
    scene.stop();
}

#[test]
fn small_records_that_are_larger_together_than_the_topic_takes_pass() {
    let mut world = world(TABLE, "");
    world.set("LIMITS__RECORD_BYTES_MAX", "16384");
    let mut scene = Scene::of(world);
    scene.sql(&format!(
        "INSERT INTO t SELECT n, '{A}', (SELECT string_agg(md5(format('%s %s', n, m)), '') FROM generate_series(1, 40) m)
         FROM generate_series(1, 300) n"
    ));
    assert_eq!(delivered(&mut scene).len(), 300);
    scene.stop();
}

#[test]
fn megabytes_pass_under_the_default_limits() {
    let mut scene = Scene::start(TABLE, "");
    insert_large(&scene, 1, 6_000_000);
    assert_eq!(delivered(&mut scene), ["1"]);
    scene.stop();
}
