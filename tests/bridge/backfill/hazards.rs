//! The schedules that make a stale or a lost row, made on purpose.

use std::thread::JoinHandle;

use penstock_testbed::cluster::Addresses;
use penstock_testbed::postgres::{Address, Postgres};

use super::fold::{assert_same, fold, select};
use crate::reader;
use crate::scene::{PARTITIONS, PATIENCE, Scene, Session, stack};
use crate::world::{Bridge, World, wait};

const SCHEMA: &str = "
CREATE TABLE items (id bigint PRIMARY KEY, account_id uuid NOT NULL, n int);
ALTER TABLE items REPLICA IDENTITY FULL;
INSERT INTO items SELECT n, md5((n % 5)::text)::uuid, 0 FROM generate_series(1, 50) n";
const COLUMNS: &[(&str, &[&str])] = &[("items", &["id", "account_id", "n"])];
const RELOAD: &str = "SET synchronous_commit = local; \
    SELECT pg_logical_emit_message(true, 'penstock.backfill', '{\"reload\": {\"id\": \"again\"}}')";

/// A Postgres whose commits can be made to wait for a standby that never answers.
struct Held {
    postgres: Postgres,
    world: World,
}

impl Held {
    fn new() -> Self {
        let postgres = Postgres::builder().start().expect("a Postgres of its own");
        let addresses = Addresses { postgres: postgres.address().clone(), ..stack().clone() };
        let mut world = World::new(&addresses, SCHEMA);
        world.set("KAFKA__PARTITIONS", &PARTITIONS.to_string());
        Self { postgres, world }
    }

    fn ask(&self, sql: &str) -> String {
        self.world.database.psql(sql).expect("ask").trim().to_owned()
    }

    fn hold_commits(&self) {
        self.ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
        self.ask("SELECT pg_reload_conf()");
        wait("commits to wait", PATIENCE, || self.ask("SHOW synchronous_standby_names") == "nobody").expect("they do");
    }

    fn release_commits(&self) {
        self.ask("ALTER SYSTEM RESET synchronous_standby_names");
        self.ask("SELECT pg_reload_conf()");
    }

    /// A change that is committed in the WAL, and delivered, and that nobody sees.
    fn invisible_change(&self, bridge: &mut Bridge) -> JoinHandle<()> {
        let database: Address = self.world.database.clone();
        let writer = std::thread::spawn(move || {
            database.psql("UPDATE items SET n = 1 WHERE id <= 25; ").expect("a change");
        });
        wait("the change to be committed", PATIENCE, || {
            self.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1"
        })
        .expect("it is");
        self.world.wait_confirmed(bridge, PATIENCE);
        assert_eq!(self.ask("SELECT count(*) FROM items WHERE n = 1"), "0", "nobody sees it");
        writer
    }

    fn waits_for(&self, bridge: &Bridge, what: &str) {
        wait("the backfill to say what it waits for", PATIENCE, || {
            bridge.get("/readyz").is_some_and(|answer| answer.contains(what))
        })
        .unwrap_or_else(|late| panic!("{late}: {:?}\n{}", bridge.get("/readyz"), bridge.log()));
    }

    /// The reload ends, and the topic is the table.
    fn ends_well(&self, bridge: &mut Bridge) {
        wait_done(&self.world, "again");
        self.world.wait_confirmed(bridge, PATIENCE);
        let records = reader::read(&self.world.bootstrap, &self.world.registry_url, &self.world.topic);
        assert_same(&fold(&records, COLUMNS), &select(&self.world.database, COLUMNS));
    }
}

/// Waits until `penstock backfill status` tells that a reload is done.
pub fn wait_done(world: &World, id: &str) {
    wait("the reload to be done", PATIENCE, || state(world, id).as_deref() == Some("done"))
        .unwrap_or_else(|late| panic!("{late}: {:?}", state(world, id)));
}

/// The state of a reload, as `penstock backfill status --json` tells it.
pub fn state(world: &World, id: &str) -> Option<String> {
    let mut status = world.spawn("backfill", &["status", "--json"], &world.database);
    status.wait(PATIENCE);
    let log = status.log();
    let json: serde_json::Value = serde_json::from_str(log.lines().last()?).ok()?;
    let reload = json.as_array()?.iter().find(|reload| reload.get("id").and_then(|id| id.as_str()) == Some(id))?;
    reload.get("state")?.as_str().map(str::to_owned)
}

#[test]
fn a_delivered_change_that_nobody_sees_yet_is_not_overwritten_by_the_old_row() {
    let held = Held::new();
    let mut bridge = held.world.run();
    held.world.wait_ready(&mut bridge, PATIENCE);
    wait_done(&held.world, "first-load");
    held.hold_commits();
    let writer = held.invisible_change(&mut bridge);
    held.ask(RELOAD);
    held.waits_for(&bridge, "ran before this began");
    held.release_commits();
    writer.join().expect("the writer");
    held.ends_well(&mut bridge);
    assert!(bridge.stop().success());
    drop(held.postgres);
}

#[test]
fn what_a_bridge_before_delivered_and_nobody_sees_yet_is_not_overwritten_either() {
    let held = Held::new();
    let mut bridge = held.world.run();
    held.world.wait_ready(&mut bridge, PATIENCE);
    wait_done(&held.world, "first-load");
    held.hold_commits();
    let writer = held.invisible_change(&mut bridge);
    bridge.kill();
    let mut bridge = held.world.run();
    held.world.wait_ready(&mut bridge, PATIENCE);
    held.ask(RELOAD);
    held.waits_for(&bridge, "neither ended nor was seen idle");
    held.release_commits();
    writer.join().expect("the writer");
    held.ends_well(&mut bridge);
    assert!(bridge.stop().success());
}

/// A rewrite is finished while the chunk waits for its lock: a snapshot taken before would read an empty table.
#[test]
fn a_chunk_against_a_rewrite_loses_no_row() {
    let scene = Scene::start(SCHEMA, "");
    wait_done(&scene.world, "first-load");
    let session = Session::open(&scene.world);
    session.run("BEGIN; ALTER TABLE items ALTER COLUMN n TYPE bigint USING n + 7");
    scene.sql(RELOAD);
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'items'::regclass AND NOT granted";
    wait("a chunk to wait for its lock", PATIENCE, || scene.sql(waiting).trim() != "0").expect("it does");
    session.run("COMMIT");
    wait_done(&scene.world, "again");
    let mut scene = scene;
    let records = scene.records_and_loads();
    assert_same(&fold(&records, COLUMNS), &select(&scene.world.database, COLUMNS));
    scene.stop();
}
