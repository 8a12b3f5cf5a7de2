//! A configuration file or an environment that is refused before anything is connected to: exit code 2.

use std::process::Command;

use super::TABLE;
use crate::scene::{expect_last_words, world};

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
