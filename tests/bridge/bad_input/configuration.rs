//! A configuration file or an environment that is refused before anything is connected to: exit code 2.

use std::process::Command;

use super::{TABLE, delivered, insert, stopped};
use crate::scene::{A, B, PATIENCE, Scene, expect_last_words, tell, world};

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let mut world = world(TABLE, "[limits]\nin_flight_byte_max = 5\n[lgo]\nlevel = \"info\"\n");
    world.set("KAFKA__PARTITION", "3");
    // All that is wrong is told at once, each with its place.
    let words = [
        "limits.in_flight_byte_max",
        "did you mean in_flight_bytes_max?",
        "did you mean log?",
        "environment variable PENSTOCK_KAFKA__PARTITION",
        "did you mean PENSTOCK_KAFKA__PARTITIONS?",
        ".toml:",
    ];
    expect_last_words(&mut world.run(), 2, &words);
    let slots = world.database.psql("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()");
    assert_eq!(slots.expect("ask for slots"), "0", "nothing is made");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let mut penstock = Command::new(env!("CARGO_BIN_EXE_penstock"));
    let output = penstock.args(["run", "--config", "/nowhere/penstock.toml"]).output().expect("run penstock");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/nowhere/penstock.toml") && said.contains("--config"), "{said}");
}

/// Rows would stay for ever with the accounts that they no longer belong to: nothing in the stream moves them.
#[test]
fn another_account_column_for_a_table_that_was_captured_stops() {
    const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, account_id uuid, owner_id uuid);
        ALTER TABLE t REPLICA IDENTITY FULL;";
    let mut scene = Scene::start(TABLE, "");
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', '{B}')"));
    assert_eq!(tell(&scene.records(), &["id"]), ["c (1)"]);
    scene.bridge.signal("TERM");
    assert!(scene.bridge.wait(PATIENCE).success());
    scene.world.set("TABLES__ACCOUNT_COLUMN", "owner_id");
    scene.sql("DELETE FROM t");
    scene.bridge = scene.world.run();
    scene.expect_halt(&["public.t", "account_id", "owner_id"]);
}

#[test]
fn transactions_longer_than_the_brokers_allow_stop_the_bridge_and_lose_nothing() {
    const KEY: &str = "KAFKA__TRANSACTION_TIMEOUT_MS";
    let mut scene = stopped();
    insert(&scene, &[3]);
    scene.world.set(KEY, "86400000");
    scene.bridge = scene.world.run();
    scene.expect_halt(&["kafka.transaction_timeout_ms = 86400000", "transaction.max.timeout.ms"]);
    scene.world.set(KEY, "900000");
    scene.bridge = scene.world.run();
    assert_eq!(delivered(&mut scene), ["1", "2", "3"]);
}
