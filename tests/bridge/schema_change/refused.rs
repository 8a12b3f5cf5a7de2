//! Changes that the registry's rule refuses: what the bridge says, and that each choice it names helps.

use penstock_testbed::artifacts::Cache;
use penstock_testbed::registry::Registry;

use super::{TABLE, halts, subject, versions};
use crate::scene::{A, Scene, tell, world};

const REFUSED: &str = "n was integer (int) and is text (string)";

/// Row 1 with a number, then a transaction in which the column becomes a text.
fn stopped(world: crate::world::World) -> Scene {
    let mut scene = Scene::of(world);
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 1, 'a')"));
    assert_eq!(scene.records().len(), 1);
    scene.sql(&format!(
        "BEGIN;
         INSERT INTO t VALUES (2, '{A}', 2, 'b');
         ALTER TABLE t ALTER COLUMN n TYPE text, ADD COLUMN more int;
         INSERT INTO t VALUES (3, '{A}', 'three', 'c', 3);
         COMMIT;"
    ));
    let envelope = subject(&scene, "t", "Envelope");
    scene.expect_halt(&[&envelope, "409", "rule BACKWARD", REFUSED, "more is new: integer (int)", "tables.exclude"]);
    assert_eq!(versions(&scene, &envelope), 1);
    assert_eq!(scene.delivered().len(), 1);
    scene
}

#[test]
fn a_refused_field_can_be_left_out_and_undoing_its_change_does_not_help() {
    let mut scene = stopped(world(TABLE, ""));
    scene.sql("BEGIN; UPDATE t SET n = id; ALTER TABLE t ALTER COLUMN n TYPE int USING n::int; COMMIT;");
    halts(&mut scene, &["rule BACKWARD", REFUSED, "undoing the change of the table does not"]);
    scene.world.set("TABLES__EXCLUDE", "public.t.n");
    scene.again();
    let told = tell(&scene.records(), &["id", "n", "more"]);
    // The updates that undid the change changed nothing but that column.
    let (undone, rows) = (told[3..].iter().all(|line| line.starts_with("u (")), &told[..3]);
    assert_eq!(rows, ["c (1 1 -)", "c (2 - -)", "c (3 - 3)"]);
    assert!(undone, "{told:?}");
    scene.stop();
}

#[test]
fn a_refused_field_goes_on_once_the_rule_allows_it() {
    let registry = Registry::start_new(&Cache::from_environment()).expect("a registry");
    let mut world = world(TABLE, "");
    world.registry_url = registry.url();
    let mut scene = stopped(world);
    registry.set_compatibility("NONE").expect("set the rule");
    scene.again();
    let told = tell(&scene.records(), &["id", "n", "more"]);
    assert_eq!(told, ["c (1 1 -)", "c (2 2 -)", "c (3 three 3)"]);
    // What is registered is not asked about again: the rule may go back at once.
    registry.set_compatibility("BACKWARD").expect("set the rule");
    scene.bridge = scene.world.run();
    scene.sql(&format!("INSERT INTO t VALUES (4, '{A}', 'four', 'd', 4)"));
    assert_eq!(tell(&scene.records(), &["id", "n", "more"])[3], "c (4 four 4)");
    scene.stop();
}

/// A dropped column's name for another one: readers by name would take the one for the other.
#[test]
fn a_name_that_comes_back_with_another_type_is_refused() {
    let mut scene = Scene::start(TABLE, "");
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 1, 'a')"));
    assert_eq!(scene.records().len(), 1);
    scene.sql(&format!(
        "ALTER TABLE t DROP COLUMN v; ALTER TABLE t RENAME COLUMN n TO v; INSERT INTO t VALUES (2, '{A}', 2);"
    ));
    scene.expect_halt(&["409", "n was integer (int) and is gone", "v was text (string) and is integer (int)"]);
    assert_eq!(scene.delivered().len(), 1);
}
