//! A first start that is interrupted while Postgres makes the slot, which it does for as long as transactions run.

use std::time::Duration;

use penstock_testbed::artifacts::Cache;
use penstock_testbed::cluster::{Addresses, Stack};
use penstock_testbed::postgres::Postgres;

use crate::scene::{A, PATIENCE, Scene, Session, expect_last_words, stack, tell, world_on};
use crate::world::{World, wait};

const TABLE: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, account_id uuid, v text);
ALTER TABLE t REPLICA IDENTITY FULL;
";
const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots";
const UNFINISHED: &str = "SELECT count(*) FROM pg_replication_slots WHERE confirmed_flush_lsn IS NULL";
const MAKER: &str = "SELECT active_pid FROM pg_replication_slots WHERE confirmed_flush_lsn IS NULL";
const FOR_LONG: &str = "SELECT clock_timestamp() - query_start > interval '12 s' FROM pg_stat_activity";

/// A Postgres of the test's own: what runs there holds up nobody else's slots.
fn own_world() -> (Postgres, World) {
    let postgres = Postgres::builder().start().expect("a Postgres of its own");
    let addresses = Addresses { postgres: postgres.address().clone(), ..stack().clone() };
    let world = world_on(&addresses, TABLE, "");
    (postgres, world)
}

fn ask(world: &World, sql: &str) -> String {
    world.database.psql(sql).expect("ask").trim().to_owned()
}

fn wait_until(world: &World, sql: &str, answer: &str) {
    wait(sql, PATIENCE, || ask(world, sql) == answer).expect("it comes about");
}

/// A transaction that no slot can be made before the end of.
fn running(world: &World) -> Session {
    let session = Session::open(world);
    session.run("BEGIN; SELECT pg_current_xact_id()");
    session
}

#[test]
fn a_first_start_that_is_told_to_stop_while_the_slot_is_made_leaves_none() {
    let (_postgres, world) = own_world();
    let transaction = running(&world);
    for command in ["setup", "run"] {
        let mut bridge = world.spawn(command, &[], &world.database);
        wait_until(&world, UNFINISHED, "1");
        bridge.signal("TERM");
        assert!(bridge.wait(Duration::from_secs(10)).success(), "{}", bridge.log());
        assert_eq!(ask(&world, SLOTS), "0", "{}", bridge.log());
    }
    transaction.run("COMMIT");
    delivers(world);
}

/// Nobody is left to cancel anything.
#[test]
fn a_first_start_that_is_killed_while_the_slot_is_made_is_followed_by_another() {
    let (_postgres, world) = own_world();
    let transaction = running(&world);
    let killed = world.run();
    wait_until(&world, UNFINISHED, "1");
    let maker = ask(&world, MAKER);
    killed.kill();
    let mut bridge = world.run();
    // It waits for longer than other questions to the catalog may wait for a lock.
    wait("the next start to make its own", PATIENCE, || {
        let found = ask(&world, MAKER);
        !found.is_empty() && found != maker && ask(&world, &format!("{FOR_LONG} WHERE pid = {found}")) == "t"
    })
    .unwrap_or_else(|late| panic!("{late}\n{}", bridge.log()));
    assert!(bridge.log().contains(&format!("process {maker} of the server is still making slot")), "{}", bridge.log());
    transaction.run("COMMIT");
    world.wait_ready(&mut bridge, PATIENCE);
    assert!(bridge.stop().success());
    delivers(world);
}

/// Between the slot and the first progress, for as long as Kafka takes: here it answers nothing.
#[test]
fn a_first_start_that_is_told_to_stop_before_it_has_written_anything_leaves_no_slot() {
    let stack = Stack::start(&Cache::from_environment()).expect("a stack of its own");
    let world = world_on(&stack.addresses(), TABLE, "");
    for command in ["setup", "run"] {
        // The topics are there by the time at which the slot is waited for.
        let transaction = running(&world);
        let mut bridge = world.spawn(command, &[], &world.database);
        wait_until(&world, UNFINISHED, "1");
        stack.kafka.broker().pause().expect("freeze the broker");
        transaction.run("COMMIT");
        wait("Kafka to be waited for", PATIENCE, || bridge.log().contains("initialising transactions"))
            .unwrap_or_else(|late| panic!("{late}\n{}", bridge.log()));
        assert_eq!(ask(&world, SLOTS), "1");
        bridge.signal("TERM");
        assert!(bridge.wait(PATIENCE).success(), "{}", bridge.log());
        assert_eq!(ask(&world, SLOTS), "0", "{}", bridge.log());
        stack.kafka.broker().resume().expect("thaw the broker");
    }
    delivers(world);
}

#[test]
fn a_first_start_that_kafka_refuses_leaves_no_slot() {
    const OWN: &str = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()";
    let mut world = world_on(stack(), TABLE, "");
    world.set("KAFKA__TRANSACTION_TIMEOUT_MS", "86400000");
    for command in ["setup", "run"] {
        let mut bridge = world.spawn(command, &[], &world.database);
        expect_last_words(&mut bridge, 1, &["transaction.max.timeout.ms"]);
        assert_eq!(ask(&world, OWN), "0", "{}", bridge.log());
    }
    world.set("KAFKA__TRANSACTION_TIMEOUT_MS", "900000");
    delivers(world);
}

fn delivers(world: World) {
    let mut scene = Scene::of(world);
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 'one')"));
    assert_eq!(tell(&scene.records(), &["id", "v"]), ["c (1 one)"]);
    scene.stop();
}
