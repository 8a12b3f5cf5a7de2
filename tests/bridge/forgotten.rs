//! A transaction coordinator that restarts can forget partitions of a transaction: their markers are never written. What
//! is forgotten is delivered again, once and in order.
//!
//! The broker's own forgetting is a race that a few of many kills win, so here the markers are taken out of its files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use penstock_testbed::artifacts::Cache;
use penstock_testbed::cluster::Stack;
use penstock_testbed::postgres::Address;
use penstock_testbed::proxy::{Direction, Faults, Proxy};

use crate::load::{self, Load};
use crate::reader;
use crate::world::{Bridge, World, wait};

const PATIENCE: Duration = Duration::from_secs(120);
const PARTITIONS: u32 = 12;

/// Of a record batch: where its length stands, what stands before what it counts, and where its attributes stand.
const LENGTH_AT: usize = 8;
const BEFORE_LENGTH_ENDS: usize = 12;
const ATTRIBUTES_AT: usize = 21;
const CONTROL: u16 = 0x20;

/// Where each batch of a segment starts, and whether it is a marker.
fn batches(segment: &[u8]) -> Vec<(usize, bool)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + ATTRIBUTES_AT + 2 <= segment.len() {
        let length = |at: usize| segment[at..at + 4].try_into().map(u32::from_be_bytes).expect("four bytes");
        let attributes = u16::from_be_bytes([segment[at + ATTRIBUTES_AT], segment[at + ATTRIBUTES_AT + 1]]);
        let bytes = length(at + LENGTH_AT) as usize;
        if bytes == 0 {
            break;
        }
        found.push((at, attributes & CONTROL != 0));
        at += BEFORE_LENGTH_ENDS + bytes;
    }
    found
}

/// Cuts a partition's only segment off, and with it what the broker derives from it.
fn cut(folder: &Path, at: impl Fn(&[(usize, bool)]) -> usize) {
    let segment = folder.join("00000000000000000000.log");
    let bytes = std::fs::read(&segment).expect("read the segment");
    let at = at(&batches(&bytes));
    std::fs::write(&segment, &bytes[..at]).expect("cut the segment");
    for entry in std::fs::read_dir(folder).expect("the partition's folder") {
        let path: PathBuf = entry.expect("a file").path();
        let derived = ["index", "timeindex", "txnindex", "snapshot"];
        if path.extension().is_some_and(|extension| derived.iter().any(|name| extension == *name)) {
            std::fs::remove_file(path).expect("remove what is derived");
        }
    }
}

/// The last marker is gone, what it ended is not.
fn last_marker(batches: &[(usize, bool)]) -> usize {
    let (at, _) = batches.iter().rev().find(|(_, marker)| *marker).expect("a marker");
    *at
}

/// The last two commits are gone, and what then comes last has no marker. (More could be more than the slot was told.)
fn two_commits(batches: &[(usize, bool)]) -> usize {
    let (at, _) = batches.iter().rev().filter(|(_, marker)| *marker).nth(2).expect("three markers");
    *at
}

/// A metric without labels; 0 while nobody answers.
fn counter(bridge: &Bridge, name: &str) -> u64 {
    let metrics = bridge.get("/metrics").unwrap_or_default();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or(0)
}

/// A table of rows that cannot be delivered.
const ODD: &str = "CREATE TABLE odd (id int PRIMARY KEY, account_id uuid NOT NULL, at timestamp);
                   ALTER TABLE odd REPLICA IDENTITY FULL;";
const ODD_ROWS: u64 = 30;

fn insert_odd(world: &World, id: u64) {
    let account = format!("00000000-0000-4000-8000-{:012}", id % 12 + 1);
    let sql = format!("INSERT INTO odd VALUES ({id}, '{account}', '294276-12-31')");
    world.database.psql(&sql).expect("insert an odd row");
}

/// A bridge that has delivered everything and whose acknowledgements did not arrive is killed; `forget` is called with
/// the folder of Kafka's logs while the broker is down. Then another one goes on. Every odd row must have become a dead
/// letter, once. Gives its log.
fn forgotten(forget: impl FnOnce(&Path, &World)) -> String {
    let stack = Stack::start(&Cache::from_environment()).expect("a stack of its own");
    let mut world = World::new(&stack.addresses(), &format!("{}{ODD}", load::SCHEMA));
    world.configure(&load::CAPTURE.replace("= [", "= [\"public.odd\", "));
    world.set("FAULTS__POISON", "dead_letter");
    let proxy = Proxy::to_port(world.database.port).expect("a proxy");
    let through = Address { port: proxy.port(), ..world.database.clone() };
    let mut bridge = world.run_through(&through);
    world.wait_ready(&mut bridge, PATIENCE);
    let load = Load::start(&world.database, 12, Duration::from_millis(5));
    load.wait_for_more(200, PATIENCE);
    insert_odd(&world, 0);
    // The tables are known by then: the catalog is behind the same proxy.
    world.wait_confirmed(&mut bridge, PATIENCE);
    proxy.set(Direction::Up, Faults::blackhole());
    let confirmed = world.confirmed();
    let groups = counter(&bridge, "penstock_groups_committed_total");
    (1..ODD_ROWS).for_each(|id| insert_odd(&world, id));
    load.wait_for_more(300, PATIENCE);
    wait("three commits to Kafka", PATIENCE, || counter(&bridge, "penstock_groups_committed_total") >= groups + 4)
        .unwrap_or_else(|late| panic!("{late}\n{}", bridge.log()));
    let committed = load.stop() + ODD_ROWS;
    let delivered = || counter(&bridge, "penstock_transactions_delivered_total");
    wait("everything to be delivered", PATIENCE, || delivered() >= committed)
        .unwrap_or_else(|late| panic!("{late}\n{}", bridge.log()));
    bridge.kill();
    assert_eq!(world.confirmed(), confirmed, "the slot was told nothing");

    let broker = stack.kafka.broker();
    broker.stop().expect("stop the broker");
    forget(&broker.log().parent().expect("the broker's folder").join("data"), &world);
    broker.start().expect("start the broker again");
    let mut bridge = world.run();
    world.wait_ready(&mut bridge, PATIENCE);
    world.wait_confirmed(&mut bridge, PATIENCE);
    load::check(&world.database, &reader::read(&world.bootstrap, &world.registry_url, &world.topic));
    let letters = reader::read_dead_letters(&world.bootstrap, &world.registry_url, &world.topic);
    let ids = letters.iter().filter_map(|letter| letter.value.columns["id"].as_deref()?.parse::<u64>().ok());
    assert_eq!(ids.collect::<Vec<_>>(), (0..ODD_ROWS).collect::<Vec<_>>());
    let log = bridge.log();
    assert!(bridge.stop().success());
    log
}

#[test]
fn records_whose_commit_was_forgotten_are_delivered_again() {
    let log = forgotten(|data, world| {
        for partition in 0..PARTITIONS / 2 {
            cut(&data.join(format!("{}-{partition}", world.topic)), last_marker);
        }
    });
    assert!(log.contains("records without an end stand in"), "{log}");
    assert!(log.contains("a partition does not end where progress says"), "{log}");
}

#[test]
fn records_that_progress_has_forgotten_are_not_delivered_again() {
    let log = forgotten(|data, world| cut(&data.join(format!("{}.progress-0", world.topic)), two_commits));
    assert!(log.contains("records without an end stand in"), "{log}");
    assert!(log.contains("a partition does not end where progress says"), "{log}");
}

#[test]
fn dead_letters_whose_commit_was_forgotten_are_written_again() {
    let log = forgotten(|data, world| cut(&data.join(format!("{}.dead_letter-0", world.topic)), last_marker));
    assert!(log.contains("records without an end stand in"), "{log}");
    assert!(log.contains("a dead letter that was committed cannot be read"), "{log}");
}
