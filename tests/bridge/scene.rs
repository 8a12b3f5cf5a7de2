//! A bridge at work on the stack that the tests share, and its topic told in few words, so that a test reads as what
//! was done in SQL and what came of it.
//!
//! It judges nothing itself but what [`reader::read`] checks of every topic.

use std::time::Duration;

use apache_avro::types::Value;
use penstock_testbed::cluster::{self, Addresses};
use penstock_wire::control::ControlKind;
use penstock_wire::decode::{Row, to_json};
use penstock_wire::event::Op;
use tokio::runtime::Runtime;

use crate::reader::{self, Content, Record};
use crate::world::{Bridge, World, wait};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// Two accounts whose records stand in different partitions, of [`PARTITIONS`].
pub const A: &str = "00000000-0000-4000-8000-00000000000a";
pub const B: &str = "00000000-0000-4000-8000-00000000000b";

/// Fewer than by default: topics are made sooner, and a broker holds those of many tests.
pub const PARTITIONS: u32 = 3;

/// A world with a running bridge.
pub struct Scene {
    // Dropped in this order: the bridge before the database that it reads.
    pub bridge: Bridge,
    pub world: World,
}

pub fn stack() -> &'static Addresses {
    cluster::shared().expect("the shared stack")
}

/// A world whose bridge is not started yet.
pub fn world(schema: &str, configuration: &str) -> World {
    world_on(stack(), schema, configuration)
}

pub fn world_on(stack: &Addresses, schema: &str, configuration: &str) -> World {
    let mut world = World::new(stack, schema);
    world.configure(configuration).set("KAFKA__PARTITIONS", &PARTITIONS.to_string());
    world
}

impl Scene {
    /// Creates `schema`, starts the bridge and waits until it streams.
    pub fn start(schema: &str, configuration: &str) -> Self {
        Self::of(world(schema, configuration))
    }

    /// Starts the bridge of a world and waits until it streams.
    pub fn of(world: World) -> Self {
        let mut bridge = world.run();
        world.wait_ready(&mut bridge, PATIENCE);
        Self { bridge, world }
    }

    /// Starts the bridge again, which has ended or was killed.
    pub fn again(&mut self) {
        self.bridge = self.world.run();
        self.world.wait_ready(&mut self.bridge, PATIENCE);
    }

    /// Runs SQL, each statement its own transaction unless it says BEGIN.
    pub fn sql(&self, sql: &str) -> String {
        self.world.database.psql(sql).expect("run SQL")
    }

    /// Waits until everything committed so far is confirmed, and reads what the stream brought: all records but the
    /// epoch's and those of loads, which come when they can, in each partition's order.
    pub fn records(&mut self) -> Vec<Record> {
        self.world.wait_confirmed(&mut self.bridge, PATIENCE);
        self.delivered()
    }

    /// What the stream has brought so far.
    pub fn delivered(&self) -> Vec<Record> {
        let mut records = self.delivered_and_loaded();
        records.retain(|record| !is_of_a_load(record));
        records
    }

    /// The same as [`Scene::records`], with what loads and reloads brought.
    pub fn records_and_loads(&mut self) -> Vec<Record> {
        self.world.wait_confirmed(&mut self.bridge, PATIENCE);
        self.delivered_and_loaded()
    }

    /// What is in the topic now, but for epochs.
    pub fn delivered_and_loaded(&self) -> Vec<Record> {
        let mut records = reader::read(&self.world.bootstrap, &self.world.registry_url, &self.world.topic);
        records.retain(|record| !is_epoch(record));
        records
    }

    /// Waits for a bridge that stops by itself: exit code 1, and last words that hold all of these.
    pub fn expect_halt(&mut self, words: &[&str]) -> String {
        expect_last_words(&mut self.bridge, 1, words)
    }

    /// The bridge ends with 0 when told to.
    pub fn stop(self) {
        let Self { bridge, world: _world } = self;
        assert!(bridge.stop().success(), "a bridge that is told to stop exits 0");
    }
}

/// Waits until no load or reload is asked for or under way, as `penstock backfill status` tells it.
pub fn wait_for_loads(scene: &Scene) {
    let mut said = String::new();
    wait("loads to end", PATIENCE, || {
        let mut status = scene.world.spawn("backfill", &["status", "--json"], &scene.world.database);
        assert!(status.wait(PATIENCE).success(), "{}", status.log());
        said = status.log();
        let reloads: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let is_under_way =
            |reload: &serde_json::Value| ["requested", "running"].contains(&reload["state"].as_str().expect("a state"));
        !reloads.as_array().expect("a list").iter().any(is_under_way)
    })
    .unwrap_or_else(|late| panic!("{late}: {said}\n{}", scene.bridge.log()));
}

/// Waits for the end of a bridge with this code, whose last words hold all of `words`, case aside.
pub fn expect_last_words(bridge: &mut Bridge, code: i32, words: &[&str]) -> String {
    let (found, said) = bridge.last_words();
    assert_eq!(found, Some(code), "exit code; it said: {said}\n{}", bridge.log());
    for word in words {
        assert!(said.to_lowercase().contains(&word.to_lowercase()), "{word:?} is not among its last words: {said}");
    }
    said
}

fn is_epoch(record: &Record) -> bool {
    matches!(&record.content, Content::Control(control) if control.kind == ControlKind::Epoch)
}

/// Whether a load or reload wrote it.
pub fn is_of_a_load(record: &Record) -> bool {
    match &record.content {
        Content::Change(envelope) => envelope.op == Op::Read,
        Content::Control(control) => matches!(control.kind, ControlKind::ReloadBegin | ControlKind::ReloadEnd),
        Content::Tombstone => false,
    }
}

/// Records in the order of their positions, across partitions; those at one position by partition.
pub fn in_order(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by_key(|record| (record.header.position, record.partition));
    records
}

/// Each record in a line: `c (1 r1)`, `u (1 r1) (1 r2)`, `d (1 r2)`, `tombstone`, `truncate public.a`, with the named
/// columns of the old and the new row.
pub fn tell(records: &[Record], columns: &[&str]) -> Vec<String> {
    records.iter().map(|record| tell_one(record, columns)).collect()
}

fn tell_one(record: &Record, columns: &[&str]) -> String {
    match &record.content {
        Content::Tombstone => "tombstone".to_owned(),
        Content::Control(control) => format!("{} {}.{}", control.kind.as_str(), control.schema, control.table),
        Content::Change(envelope) => {
            let rows = [&envelope.before, &envelope.after].into_iter().flatten();
            let rows: Vec<String> = rows.map(|row| tell_row(row, columns)).collect();
            format!("{} {}", envelope.op.as_str(), rows.join(" "))
        }
    }
}

/// `(1 r1)`; a column that the row does not have is `-`.
pub fn tell_row(row: &Row, columns: &[&str]) -> String {
    let values: Vec<String> = columns.iter().map(|column| row.get(column).map_or("-".to_owned(), plain)).collect();
    format!("({})", values.join(" "))
}

/// A value without JSON's quotes.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => to_json(other).to_string().replace('"', ""),
    }
}

/// The seq of each record.
pub fn seqs(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.header.position.seq.0).collect()
}

/// Whether each record ends its transaction in its partition.
pub fn ends(records: &[Record]) -> Vec<bool> {
    records.iter().map(|record| record.header.end_of_transaction).collect()
}

/// A connection that stays open between statements: for transactions that overlap.
pub struct Session {
    runtime: Runtime,
    client: tokio_postgres::Client,
}

impl Session {
    pub fn open(world: &World) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&world.database.url(), tokio_postgres::NoTls).await.expect("connect");
            // Its errors come back from the statements.
            tokio::spawn(async { drop(connection.await) });
            client
        });
        Self { runtime, client }
    }

    pub fn run(&self, sql: &str) {
        self.runtime.block_on(self.client.batch_execute(sql)).expect("run SQL");
    }

    /// Runs SQL that others may be in the way of; whether it was done.
    pub fn attempt(&self, sql: &str) -> bool {
        self.runtime.block_on(self.client.batch_execute(sql)).is_ok()
    }

    /// The answer as text, as every client of the simple protocol gets it.
    pub fn simple_query(&self, sql: &str) -> Vec<tokio_postgres::SimpleQueryMessage> {
        self.runtime.block_on(self.client.simple_query(sql)).expect("run SQL")
    }
}
