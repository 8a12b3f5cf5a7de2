//! Rows from before the first start are never forgotten silently.

use std::time::Duration;

use penstock_testbed::cluster::{Addresses, shared};
use penstock_testbed::postgres::Postgres;

use crate::load;
use crate::reader::{self, Content};
use crate::scene::Session;
use crate::world::{World, wait};

const PATIENCE: Duration = Duration::from_secs(60);
const ROWS: &str =
    "INSERT INTO items SELECT n, md5(n::text)::uuid, 1, 1, 'early' FROM generate_series(1, 500) n; ANALYZE items";

#[test]
fn a_run_with_rows_from_before_stops_and_says_how_many() {
    let mut world = World::new(shared().expect("the shared stack"), load::SCHEMA);
    world.configure(load::CAPTURE);
    world.database.psql(ROWS).expect("rows from before");

    let mut bridge = world.run();
    assert_eq!(bridge.wait(PATIENCE).code(), Some(1));
    let log = bridge.log();
    assert!(log.contains("public.items (about 500 rows)") && log.contains("--from-now"), "{log}");
    let slots = world.database.psql("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()");
    assert_eq!(slots.expect("count the slots").trim(), "0", "nothing was created");

    let mut setup = world.spawn("setup", &[], &world.database);
    assert!(setup.wait(PATIENCE).success(), "{}", setup.log());
    let mut bridge = world.run();
    assert_eq!(bridge.wait(PATIENCE).code(), Some(1));
    assert!(bridge.log().contains("public.items (about 500 rows)"), "{}", bridge.log());

    let mut bridge = world.spawn("run", &["--from-now"], &world.database);
    world.wait_ready(&mut bridge, PATIENCE);
    world.database.psql("INSERT INTO items VALUES (1000, md5('x')::uuid, 2, 1, 'late')").expect("a row from now");
    world.wait_confirmed(&mut bridge, PATIENCE);
    assert!(bridge.stop().success());
    let records = reader::read(&world.bootstrap, &world.registry_url, &world.topic);
    let told = records.iter().filter(|record| match &record.content {
        Content::Control(control) => control.detail.as_deref().is_some_and(|detail| detail.starts_with("incomplete: ")),
        Content::Change(_) | Content::Tombstone => false,
    });
    assert_eq!(told.count(), 12, "an epoch record in every partition says that the load is incomplete");
    assert_eq!(records.iter().filter(|record| record.change().is_some()).count(), 1);
}

/// A commit that is in the WAL before the slot, and which nobody can see yet: it waits for a standby that never answers.
#[test]
fn a_row_that_is_committed_and_not_yet_visible_is_not_forgotten_by_a_first_start() {
    let postgres = Postgres::builder().start().expect("a Postgres of its own");
    let shared = shared().expect("the shared stack");
    let addresses = Addresses { postgres: postgres.address().clone(), ..shared.clone() };
    let mut world = World::new(&addresses, load::SCHEMA);
    world.configure(load::CAPTURE);
    let ask = |sql: &str| world.database.psql(sql).expect("ask").trim().to_owned();
    let running = |what: &str| format!("SELECT count(*) FROM pg_stat_activity WHERE {what}");

    // The slot waits for the first, its consistent point for the second; both are there before the row.
    let (first, second) = (Session::open(&world), Session::open(&world));
    first.run("SET synchronous_commit = local; BEGIN; SELECT pg_current_xact_id()");
    let mut setup = world.spawn("setup", &[], &world.database);
    let creating =
        running("query LIKE '%pg_create_logical_replication_slot%' AND state = 'active' AND pid <> pg_backend_pid()");
    wait("the slot to be under way", PATIENCE, || ask(&creating) == "1").expect("it is");
    second.run("SET synchronous_commit = local; BEGIN; SELECT pg_current_xact_id()");
    ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    ask("SELECT pg_reload_conf()");
    wait("commits to wait", PATIENCE, || ask("SHOW synchronous_standby_names") == "nobody").expect("they do");
    first.run("COMMIT");
    let database = world.database.clone();
    let writer = std::thread::spawn(move || {
        database.psql("INSERT INTO items VALUES (1, md5('x')::uuid, 1, 1, 'early')").expect("a row");
    });
    let held = running("wait_event = 'SyncRep'");
    wait("the row to be committed", PATIENCE, || ask(&held) == "1").expect("it is");
    second.run("COMMIT");
    wait("the slot to be there", PATIENCE, || {
        ask("SELECT count(*) FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL") == "1"
    })
    .expect("it is");
    assert_eq!(ask("SELECT count(*) FROM items"), "0", "it cannot be seen");
    wait("setup to look for what cannot be seen", PATIENCE, || {
        ask(&running("query LIKE '%pg_snapshot_xmin%' AND pid <> pg_backend_pid()")) == "1"
    })
    .unwrap_or_else(|late| panic!("{late}\n{}", setup.log()));
    ask("ALTER SYSTEM RESET synchronous_standby_names");
    ask("SELECT pg_reload_conf()");
    writer.join().expect("the writer");
    assert!(setup.wait(PATIENCE).success(), "{}", setup.log());

    let mut bridge = world.run();
    assert_eq!(bridge.wait(PATIENCE).code(), Some(1), "it goes on as if nothing were missing:\n{}", bridge.log());
    assert!(bridge.log().contains("rows that captured tables held before the first start were never delivered"));
}
