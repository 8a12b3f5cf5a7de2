//! A table whose replica identity is taken away while the bridge runs.

use super::TABLE;
use crate::scene::{A, B, Scene, tell};

/// An account move then arrives as an update without an old row: nobody could tell the old account's readers. The bridge
/// stops before it.
#[test]
fn a_table_that_loses_its_identity_stops_the_bridge_before_the_incomplete_change() {
    let mut scene = Scene::start(TABLE, "");
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 'a')"));
    assert_eq!(tell(&scene.records(), &["id", "v"]), ["c (1 a)"]);
    scene.sql("ALTER TABLE t REPLICA IDENTITY DEFAULT");
    scene.sql(&format!("UPDATE t SET account_id = '{B}'"));

    let words = ["public.t", "replica identity", "account_id", "ALTER TABLE public.t REPLICA IDENTITY FULL"];
    scene.expect_halt(&words);
    assert_eq!(tell(&scene.delivered(), &["id", "v"]), ["c (1 a)"]);
    // Changes made after the repair are whole, but the one made before it is not, and a bridge reads the WAL as it was
    // written. The slot keeps it, so the bridge stops at the same place, rather than to leave the row in both accounts.
    scene.sql("ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET v = 'b';");
    scene.bridge = scene.world.run();
    scene.expect_halt(&words);
    assert_eq!(tell(&scene.delivered(), &["id", "v"]), ["c (1 a)"]);
}
