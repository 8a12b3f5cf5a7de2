//! Long outages and large transactions: memory stays within its bound, the walsender stays, delivery catches up.

use std::time::{Duration, Instant};

use penstock_testbed::artifacts::Cache;
use penstock_testbed::cluster::{Addresses, Stack, shared};
use penstock_testbed::kafka::Kafka;
use penstock_testbed::postgres::Postgres;
use penstock_testbed::registry::Registry;

use crate::load::{self, Load};
use crate::reader;
use crate::scene::{Scene, tell, world_on};
use crate::world::{Bridge, World, wait};

const PATIENCE: Duration = Duration::from_secs(240);
/// What the bridge may take: 64 MB and the bytes in flight.
const MEMORY_MB: u64 = 128;

/// Peak resident memory of a process so far.
fn peak_mb(bridge: &Bridge) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", bridge.pid())).expect("the process lives");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel tells");
    let kilobytes = line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
    kilobytes.expect("a number") / 1024
}

#[test]
fn a_broker_that_is_down_costs_neither_the_walsender_nor_memory() {
    let cache = Cache::from_environment();
    let postgres =
        Postgres::builder().cache(cache.clone()).set("wal_sender_timeout", "3s").start().expect("start Postgres");
    let kafka = Kafka::builder().cache(cache.clone()).start().expect("start Kafka");
    let registry = Registry::start_new(&cache).expect("start the registry");
    let addresses =
        Addresses { postgres: postgres.address().clone(), bootstrap: kafka.bootstrap(), registry_url: registry.url() };
    let mut world = World::new(&addresses, load::SCHEMA);
    world.configure(load::CAPTURE).configure("[limits]\nin_flight_bytes_max = 16777216\n");
    let mut bridge = world.run();
    world.wait_ready(&mut bridge, PATIENCE);
    let load = Load::start(&world.database, 8, Duration::from_millis(1));
    load.wait_for_more(300, PATIENCE);
    let walsenders = postgres.walsender_pids(Some(&world.slot())).expect("ask for walsenders");
    kafka.broker().kill().expect("kill the broker");
    let down = Instant::now();
    wait("/readyz to say that Kafka is away", PATIENCE, || {
        bridge.get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 503") && answer.contains("kafka"))
    })
    .expect("a bridge without Kafka is not ready");
    assert!(bridge.get("/healthz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")), "it is alive");
    wait("four times wal_sender_timeout", PATIENCE, || down.elapsed() > Duration::from_secs(12)).expect("time passes");
    let same = postgres.walsender_pids(Some(&world.slot())).expect("ask for walsenders");
    assert_eq!(walsenders, same, "the walsender was lost while Kafka was down");
    kafka.broker().start().expect("start the broker again");
    load.wait_for_more(300, PATIENCE);
    load.stop();
    world.wait_confirmed(&mut bridge, PATIENCE);
    let events = load::check(&world.database, &reader::read(&world.bootstrap, &world.registry_url, &world.topic));
    let peak = peak_mb(&bridge);
    eprintln!("{events} row events; peak memory {peak} MB");
    assert!(peak < MEMORY_MB, "peak memory {peak} MB");
    assert!(bridge.stop().success());
}

#[test]
fn an_outage_longer_than_the_transaction_timeout_is_survived() {
    let stack = Stack::start(&Cache::from_environment()).expect("a stack of its own");
    let mut world = World::new(&stack.addresses(), load::SCHEMA);
    world.configure(load::CAPTURE).configure_kafka("transaction_timeout_ms = 4000");
    let mut bridge = world.run();
    world.wait_ready(&mut bridge, PATIENCE);
    let load = Load::start(&world.database, 8, Duration::from_millis(2));
    for _ in 0..2 {
        load.wait_for_more(300, PATIENCE);
        stack.kafka.broker().pause().expect("freeze the broker");
        let frozen = Instant::now();
        wait("three times the transaction timeout", PATIENCE, || frozen.elapsed() > Duration::from_secs(12))
            .expect("time");
        stack.kafka.broker().resume().expect("thaw the broker");
    }
    load.wait_for_more(300, PATIENCE);
    load.stop();
    world.wait_confirmed(&mut bridge, PATIENCE);
    let events = load::check(&world.database, &reader::read(&world.bootstrap, &world.registry_url, &world.topic));
    eprintln!("{events} row events across two outages longer than the transaction timeout");
    let log = bridge.log();
    assert!(!log.contains("aborted a transaction by its timeout"), "a transaction is blamed for the outage:\n{log}");
    assert!(bridge.stop().success());
}

#[test]
fn a_transaction_of_a_million_rows_stays_within_memory() {
    let stack = shared().expect("the shared stack");
    let mut world = World::new(stack, load::SCHEMA);
    world.configure(load::CAPTURE);
    let mut bridge = world.run();
    world.wait_ready(&mut bridge, PATIENCE);
    world
        .database
        .psql(
            "INSERT INTO notes SELECT n, md5((n % 50)::text)::uuid, 1, n % 1000, repeat('x', 40) FROM generate_series(1, 1000000) n",
        )
        .expect("a million rows");
    world.wait_confirmed(&mut bridge, Duration::from_secs(300));
    let peak = peak_mb(&bridge);
    let records = reader::read(&world.bootstrap, &world.registry_url, &world.topic);
    let changes = records.iter().filter(|record| record.change().is_some()).count();
    assert_eq!(changes, 1_000_000);
    let flagged = records.iter().filter(|record| record.change().is_some() && record.header.end_of_transaction).count();
    let partitions: std::collections::BTreeSet<i32> =
        records.iter().filter(|record| record.change().is_some()).map(|record| record.partition).collect();
    assert_eq!(flagged, partitions.len(), "one end flag in each partition of the transaction");
    eprintln!("one transaction of 1,000,000 rows; peak memory {peak} MB");
    assert!(peak < MEMORY_MB, "peak memory {peak} MB");
    assert!(bridge.stop().success());
}

/// A walsender that hangs keeps its connection: the bridge is not ready, and says why.
#[test]
fn a_walsender_that_says_nothing_makes_the_bridge_not_ready_until_it_speaks() {
    const TABLE: &str =
        "CREATE TABLE t (id int PRIMARY KEY, account_id uuid, v text); ALTER TABLE t REPLICA IDENTITY FULL;";
    let postgres = Postgres::builder().start().expect("start Postgres");
    let addresses = Addresses { postgres: postgres.address().clone(), ..shared().expect("the shared stack").clone() };
    let mut scene = Scene::of(world_on(&addresses, TABLE, ""));
    let walsenders = postgres.walsender_pids(Some(&scene.world.slot())).expect("ask for walsenders");
    let signal = |signal: &str| {
        for pid in &walsenders {
            let sent = std::process::Command::new("kill").arg(signal).arg(pid.to_string()).status();
            assert!(sent.expect("run kill").success());
        }
    };
    signal("-STOP");
    let answered = |scene: &Scene, status: &str, word: &str| {
        scene.bridge.get("/readyz").is_some_and(|answer| answer.starts_with(status) && answer.contains(word))
    };
    let silent = wait("/readyz to say so", Duration::from_secs(30), || answered(&scene, "HTTP/1.1 503", "postgres: "));
    signal("-CONT");
    silent.expect("a bridge that hears nothing of Postgres is not ready");
    wait("/readyz to say so", Duration::from_secs(30), || answered(&scene, "HTTP/1.1 200", "ready"))
        .expect("it is ready again");
    let again = postgres.walsender_pids(Some(&scene.world.slot())).expect("ask for walsenders");
    assert_eq!(walsenders, again, "silence alone ends no connection");
    scene.sql("INSERT INTO t VALUES (1, NULL, 'after it')");
    assert_eq!(tell(&scene.records(), &["id"]), ["c (1)"]);
    scene.stop();
}
