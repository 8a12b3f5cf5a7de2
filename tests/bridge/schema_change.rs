//! Tables that change while they are captured: each record has the schema that was true at its place in the stream, and
//! what cannot go on stops with what differs and what helps.
//!
//! What the stream does not tell (values that a rewrite changes, defaults for rows that are there) is not tested here.

mod access;
mod accounts;
mod decimals;
mod down;
mod keys;
mod killed;
mod migration;
mod refused;
mod tables;
mod types;

use std::collections::BTreeSet;

use penstock_testbed::registry::http;
use penstock_wire::framing;

use crate::reader::Record;
use crate::scene::{PATIENCE, Scene};

const TABLE: &str = "
CREATE TABLE t (id int PRIMARY KEY, account_id uuid NOT NULL, n int, v text);
ALTER TABLE t REPLICA IDENTITY FULL;
";

/// Everything committed so far is delivered, and the bridge stopped in order.
fn down(scene: &mut Scene) {
    scene.records();
    scene.bridge.signal("TERM");
    assert!(scene.bridge.wait(PATIENCE).success());
}

/// Starts a bridge that stops by itself: its last words hold all of these.
fn halts(scene: &mut Scene, words: &[&str]) -> String {
    scene.bridge = scene.world.run();
    scene.expect_halt(words)
}

fn schema_id(framed: &[u8]) -> u32 {
    framing::split(framed).expect("a framed record").0
}

/// The registry's ids of the schemas that keys are written with.
fn key_ids(records: &[Record]) -> BTreeSet<u32> {
    records.iter().map(|record| schema_id(&record.key)).collect()
}

/// The same of values, record by record; tombstones have none.
fn value_ids(records: &[Record]) -> Vec<u32> {
    records.iter().filter_map(|record| record.raw.as_deref().map(schema_id)).collect()
}

/// The subject of a record of `public.<table>`: `Key` or `Envelope`.
fn subject(scene: &Scene, table: &str, record: &str) -> String {
    format!("{0}-{0}.public.{table}.{record}", scene.world.topic)
}

/// An answer of the registry; `path` begins with a slash.
fn ask_registry(scene: &Scene, method: &str, path: &str, body: &str) -> http::Answer {
    let rest = scene.world.registry_url.strip_prefix("http://127.0.0.1:").expect("a loopback URL");
    let (port, base) = rest.split_once('/').expect("a path");
    let port = port.parse().expect("a port");
    http::request(port, method, &format!("/{base}{path}"), body).expect("an answer")
}

/// How many versions a subject has.
fn versions(scene: &Scene, subject: &str) -> usize {
    let answer = ask_registry(scene, "GET", &format!("/subjects/{subject}/versions"), "");
    let versions: Vec<u32> = serde_json::from_str(&answer.body).expect("a list of versions");
    versions.len()
}
