//! Rows from before the first start are never forgotten silently.

use std::time::Duration;

use penstock_testbed::cluster::{Addresses, shared};
use penstock_testbed::postgres::Postgres;
use penstock_wire::control::{Control, ControlKind};
use penstock_wire::event::Op;

use crate::load;
use crate::reader::{self, Content, Record};
use crate::scene::Session;
use crate::world::{Bridge, World, wait};

const PATIENCE: Duration = Duration::from_secs(60);
const ROWS: &str =
    "INSERT INTO items SELECT n, md5(n::text)::uuid, 1, 1, 'early' FROM generate_series(1, 500) n; ANALYZE items";

#[test]
fn a_run_with_rows_from_before_loads_them_once() {
    let mut world = World::new(shared().expect("the shared stack"), load::SCHEMA);
    world.configure(load::CAPTURE);
    world.database.psql(ROWS).expect("rows from before");

    let mut bridge = world.run();
    world.wait_ready(&mut bridge, PATIENCE);
    world.database.psql("INSERT INTO items VALUES (1000, md5('x')::uuid, 2, 1, 'late')").expect("a row from now");
    wait_loaded(&world, &bridge);
    world.wait_confirmed(&mut bridge, PATIENCE);
    let records = read(&world);
    let words = "incomplete: rows from before the first start follow by a reload: public.items (about 500 rows)";
    assert_eq!(told(&records, words), 12);
    // What came by the stream before a chunk was read may be in the chunk, too.
    let loaded = ops(&records, Op::Read);
    assert!((500..=501).contains(&loaded), "{loaded} rows were loaded");
    assert_eq!(ops(&records, Op::Create), 1, "what came meanwhile came by the stream");
    assert!(bridge.stop().success());

    let mut bridge = world.run();
    world.wait_ready(&mut bridge, PATIENCE);
    world.database.psql("INSERT INTO items VALUES (1001, md5('x')::uuid, 2, 1, 'later')").expect("a row from now");
    world.wait_confirmed(&mut bridge, PATIENCE);
    assert!(bridge.stop().success());
    assert_eq!((ops(&read(&world), Op::Read), ends(&world)), (loaded, 12), "not again");
}

#[test]
fn a_run_that_is_told_to_goes_on_without_rows_from_before_now_and_later() {
    let mut world = World::new(shared().expect("the shared stack"), load::SCHEMA);
    world.configure(load::CAPTURE);
    world.database.psql(ROWS).expect("rows from before");
    for (number, arguments) in [(1000, &["--from-now"][..]), (1001, &[])] {
        let mut bridge = world.spawn("run", arguments, &world.database);
        world.wait_ready(&mut bridge, PATIENCE);
        let row = format!("INSERT INTO items VALUES ({number}, md5('x')::uuid, 2, 1, 'late')");
        world.database.psql(&row).expect("a row from now");
        world.wait_confirmed(&mut bridge, PATIENCE);
        assert!(bridge.stop().success());
    }
    let records = read(&world);
    assert_eq!(told(&records, "incomplete: rows from before the first start are missing: public.items"), 12);
    assert_eq!((ops(&records, Op::Create), ops(&records, Op::Read), ends(&world)), (2, 0, 0));
}

fn read(world: &World) -> Vec<Record> {
    reader::read(&world.bootstrap, &world.registry_url, &world.topic)
}

fn ops(records: &[Record], op: Op) -> usize {
    records.iter().filter_map(Record::change).filter(|envelope| envelope.op == op).count()
}

/// Partitions whose epoch record says so.
fn told(records: &[Record], words: &str) -> usize {
    let says = |control: &Control| control.detail.as_deref().is_some_and(|detail| detail.starts_with(words));
    records.iter().filter(|record| matches!(&record.content, Content::Control(control) if says(control))).count()
}

/// Partitions in which a reload has ended.
fn ends(world: &World) -> usize {
    let is_end = |record: &Record| matches!(&record.content, Content::Control(control) if control.kind == ControlKind::ReloadEnd);
    read(world).iter().filter(|record| is_end(record)).count()
}

fn wait_loaded(world: &World, bridge: &Bridge) {
    wait("the load to end", PATIENCE, || ends(world) == 12).unwrap_or_else(|late| panic!("{late}\n{}", bridge.log()));
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
    world.wait_ready(&mut bridge, PATIENCE);
    wait_loaded(&world, &bridge);
    assert_eq!(ops(&read(&world), Op::Read), 1, "the row is loaded");
    assert!(bridge.stop().success());
}
