//! What the reader in Python printed of a world's topics, and what holds for all of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::reader;
use crate::scene::Scene;
use crate::world::World;
use crate::{folder, python};

/// Stops the bridge, once everything is delivered, and has everything read. The records of the change topic by their
/// positions, then partitions; and those of progress.
pub fn read(scene: Scene) -> (World, Vec<Value>, Vec<Value>) {
    let Scene { mut bridge, world } = scene;
    world.wait_confirmed(&mut bridge, crate::scene::PATIENCE);
    assert!(bridge.stop().success(), "a bridge that is told to stop exits 0");
    let topics = [world.topic.clone(), format!("{}.progress", world.topic)];
    let mut command = python::command();
    command.arg(folder().join("reader.py")).args(["--bootstrap", &world.bootstrap, "--registry", &world.registry_url]);
    command.args(["--topic", &topics[0], "--topic", &topics[1], "--until-end"]);
    let output = python::run(&mut command);
    let lines = String::from_utf8(output.stdout).expect("the reader prints UTF-8");
    let lines = lines.lines().map(|line| serde_json::from_str(line).expect("a line is a JSON object"));
    let (mut changes, progress): (Vec<Value>, Vec<Value>) = lines.partition(|line: &Value| line["topic"] == topics[0]);
    assert!(progress.iter().all(|line| line["topic"] == topics[1] && line["kind"] == "progress"), "{progress:#?}");
    changes.sort_by_key(|line| (position(&line["header"]["position"]), number(&line["partition"])));
    check_against_rust(&world, &changes);
    check_progress(&world, &changes, &progress);
    (world, changes, progress)
}

/// As numbers, which can be compared.
fn position(position: &Value) -> (u64, u64, u64) {
    let lsn = match &position["commit_lsn"] {
        Value::String(text) => {
            let (high, low) = text.split_once('/').expect("an LSN");
            let part = |digits| u64::from_str_radix(digits, 16).expect("an LSN");
            part(high) << 32 | part(low)
        }
        bits => number(bits),
    };
    (number(&position["epoch"]), lsn, number(&position["seq"]))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Two readers that share no code see the same records in the same places.
fn check_against_rust(world: &World, changes: &[Value]) {
    let mut records = reader::read(&world.bootstrap, &world.registry_url, &world.topic);
    records.sort_by_key(|record| (record.header.position, record.partition));
    let in_rust: Vec<Value> = records
        .iter()
        .map(|record| {
            let position = record.header.position;
            let (lsn, seq) = (position.commit_lsn.raw(), position.seq.0);
            json!([record.partition, record.offset, [position.epoch, lsn, seq], record.header.end_of_transaction])
        })
        .collect();
    let in_python: Vec<Value> = changes
        .iter()
        .map(|line| {
            let header = &line["header"];
            let (epoch, lsn, seq) = position(&header["position"]);
            json!([line["partition"], line["offset"], [epoch, lsn, seq], header["end_of_transaction"]])
        })
        .collect();
    assert_eq!(in_python, in_rust);
    assert!(changes.iter().all(|line| line["repeated"] == false), "an exactly-once topic repeats nothing");
}

/// The last progress record is at the end of every partition; all of them are the source's.
fn check_progress(world: &World, changes: &[Value], progress: &[Value]) {
    assert!(progress.iter().all(|line| line["key"] == world.source.as_str()), "{progress:#?}");
    let ends = progress.iter().map(|line| number(&line["value"]["end_lsn"]));
    assert!(ends.clone().is_sorted() && progress.len() > 1, "{progress:#?}");
    let last = &progress.last().expect("progress was written")["value"];
    let mut expected = BTreeMap::new();
    for line in changes {
        let next_offset = number(&line["offset"]) + 1;
        expected.insert(number(&line["partition"]), (position(&line["header"]["position"]), next_offset));
    }
    let told = last["partitions"].as_array().expect("progress lists partitions");
    let told: BTreeMap<_, _> = told
        .iter()
        .map(|entry| (number(&entry["partition"]), (position(&entry["last"]), number(&entry["next_offset"]))))
        .collect();
    assert_eq!(told, expected);
    let newest = changes.last().map(|line| position(&line["header"]["position"]).1);
    assert!(newest.is_some_and(|commit| commit < number(&last["end_lsn"])), "{last}");
    assert_eq!(last["load_complete"], true);
    assert_eq!(last["slot"], world.slot());
}

/// What every change says of where it comes from, besides what it is.
pub fn check_sources(world: &World, changes: &[Value]) {
    for line in changes.iter().filter(|line| line["kind"] == "data") {
        let (value, source) = (&line["value"], &line["value"]["source"]);
        let told = ["version", "connector", "name", "snapshot", "db", "schema"].map(|field| source[field].clone());
        assert_eq!(told, ["1", "postgresql", &world.source, "false", &world.database.database, "public"]);
        let record = format!(".public.{}.Envelope", source["table"].as_str().expect("a table"));
        assert!(line["value_schema"].as_str().is_some_and(|name| name.ends_with(&record)), "{line}");
        let (xid, commit) = (&source["txId"], &source["commit_lsn"]);
        assert_eq!(value["transaction"]["id"], format!("{xid}:{commit}"));
        assert_eq!(source["ts_ms"], line["timestamp_ms"]);
    }
}
