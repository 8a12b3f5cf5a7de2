//! DDL that pgoutput does not announce: what the event triggers tell the bridge, and what it does.

mod encodings;
mod lagging;
mod names;
mod partitions;
mod publication;
mod rows;
mod untold;

use crate::backfill::fold::{assert_same, fold, select};
use crate::scene::{A, Scene, tell, wait_for_loads};

const TABLE: &str = "
CREATE TABLE t (id int PRIMARY KEY, account_id uuid, v text);
ALTER TABLE t REPLICA IDENTITY FULL;
";

/// A scene with row 1 of `t` in the topic.
fn with_a_row(configuration: &str) -> Scene {
    let mut scene = Scene::start(TABLE, configuration);
    insert(&scene, 1);
    assert_eq!(tell(&scene.records(), &["id"]), ["c (1)"]);
    scene
}

fn insert(scene: &Scene, id: i32) {
    scene.sql(&format!("INSERT INTO t (id, account_id, v) VALUES ({id}, '{A}', 'v')"));
}

/// Tables that the bridge says have to be loaded again, with the reason, in order: `t: …`.
fn reloads(scene: &mut Scene) -> Vec<String> {
    scene.world.wait_confirmed(&mut scene.bridge, crate::scene::PATIENCE);
    let log = scene.bridge.log();
    let told = log.lines().filter(|line| line.contains("has to be loaded again"));
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}=\"")).unwrap_or_else(|| panic!("no {name} in {line}"));
        rest.split_once('"').expect("the field's end").0.to_owned()
    };
    told.map(|line| format!("{}: {}", field(line, "table"), field(line, "why"))).collect()
}

/// Waits for the end of all reloads, and compares what a reader holds with the tables.
fn ends_as_the_tables(scene: &mut Scene, columns: &[(&str, &[&str])]) {
    wait_for_loads(scene);
    let records = scene.records_and_loads();
    assert_same(&fold(&records, columns), &select(&scene.world.database, columns));
}

/// Ends the bridge in order, for something to happen while it is down.
fn stop_for_now(scene: &mut Scene) {
    scene.bridge.signal("TERM");
    assert!(scene.bridge.wait(crate::scene::PATIENCE).success());
}
