//! Everything around the bridge that can be wrong: it stops with a clear error and its remedy, or waits, and nothing is
//! lost. Once mended (where that is possible) it goes on and everything is in the topic once.

mod configuration;
pub mod kafka;
mod large;
mod postgres;
mod progress;
mod publication;
mod registry;
mod registry_certificate;
mod resume;
mod stream;

use crate::scene::{A, Scene, tell};
use crate::world::World;

const TABLE: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, account_id uuid, v text);
ALTER TABLE t REPLICA IDENTITY FULL;
";

/// A scene with rows 1 and 2 in the topic, and the bridge stopped in order.
fn stopped() -> Scene {
    stopped_in(crate::scene::world(TABLE, ""))
}

fn stopped_in(world: World) -> Scene {
    let mut scene = Scene::of(world);
    insert(&scene, &[1, 2]);
    assert_eq!(delivered(&mut scene), ["1", "2"]);
    scene.bridge.signal("TERM");
    assert!(scene.bridge.wait(crate::scene::PATIENCE).success());
    scene
}

/// Inserts rows with these ids, a transaction each.
fn insert(scene: &Scene, ids: &[i32]) {
    for id in ids {
        scene.sql(&format!("INSERT INTO t VALUES ({id}, '{A}', 'v{id}')"));
    }
}

/// The ids of everything that was inserted so far, once it is confirmed.
fn delivered(scene: &mut Scene) -> Vec<String> {
    ids(&scene.records())
}

/// The ids of the inserted rows, in order.
fn ids(records: &[crate::reader::Record]) -> Vec<String> {
    let told = tell(records, &["id"]).into_iter();
    told.map(|line| line.trim_start_matches("c (").trim_end_matches(')').to_owned()).collect()
}
