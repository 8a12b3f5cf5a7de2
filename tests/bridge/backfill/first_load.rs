//! The first load under load: killed again and again, what a reader holds is what is in the tables.
//!
//! `PENSTOCK_LOAD_ROWS` and `PENSTOCK_KILLS` make it as long as one likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use penstock_testbed::postgres::Address;
use penstock_wire::control::ControlKind;
use penstock_wire::event::Op;

use super::fold::{assert_same, fold, select};
use crate::reader::{self, Content, Record};
use crate::scene::{PARTITIONS, stack};
use crate::world::{Bridge, World, wait};

const PATIENCE: Duration = Duration::from_secs(600);

/// Integer, uuid, text and composite keys, a partitioned table, and one that is emptied now and then.
const SCHEMA: &str = r#"
CREATE TABLE items (id bigint PRIMARY KEY, account_id uuid NOT NULL, n int, note text);
CREATE TABLE notes (id uuid PRIMARY KEY, account_id uuid NOT NULL, n int, note text);
CREATE TABLE tags (account_id uuid NOT NULL, name text, n int, PRIMARY KEY (account_id, name));
CREATE TABLE logs (id bigint, account_id uuid NOT NULL, n int, PRIMARY KEY (id)) PARTITION BY HASH (id);
CREATE TABLE logs_0 PARTITION OF logs FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE logs_1 PARTITION OF logs FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE scratch (id text PRIMARY KEY, account_id uuid NOT NULL, n int);
ALTER TABLE items REPLICA IDENTITY FULL; ALTER TABLE notes REPLICA IDENTITY FULL; ALTER TABLE tags REPLICA IDENTITY FULL;
ALTER TABLE logs REPLICA IDENTITY FULL; ALTER TABLE logs_0 REPLICA IDENTITY FULL; ALTER TABLE logs_1 REPLICA IDENTITY FULL;
ALTER TABLE scratch REPLICA IDENTITY FULL;
CREATE FUNCTION account(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$ SELECT ('00000000-0000-4000-8000-' || lpad((n % 40)::text, 12, '0'))::uuid $$;
CREATE PROCEDURE fill(rows bigint) LANGUAGE sql AS $$
    INSERT INTO items SELECT n, account(n), 0, 'note ' || n FROM generate_series(1, rows) n;
    INSERT INTO notes SELECT md5(n::text)::uuid, account(n * 7), 0, 'ü\' || n FROM generate_series(1, rows / 4) n;
    INSERT INTO tags SELECT account(n), 'tag "' || n / 40 || E'\\', 0 FROM generate_series(1, rows / 4) n;
    INSERT INTO logs SELECT n, account(n * 3), 0 FROM generate_series(1, rows / 4) n;
    INSERT INTO scratch SELECT 'k' || n, account(n), 0 FROM generate_series(1, rows / 4) n;
    ANALYZE
$$;
CREATE SEQUENCE ids START 100000000;
-- One transaction: every kind of change, moves and changed keys among them.
CREATE PROCEDURE churn(rows bigint, t bigint) LANGUAGE plpgsql AS $$
DECLARE i bigint := 1 + floor(random() * rows); j bigint := 1 + floor(random() * rows / 4);
BEGIN
    INSERT INTO items VALUES (nextval('ids'), account(t), t, 'new');
    UPDATE items SET n = t, note = 'updated' WHERE id BETWEEN i AND i + 2;
    UPDATE items SET account_id = account(t) WHERE id = i + 3;
    DELETE FROM items WHERE id = i + 4;
    UPDATE items SET id = nextval('ids') WHERE id = i + 5;
    UPDATE notes SET id = gen_random_uuid(), n = t WHERE id = md5(j::text)::uuid;
    DELETE FROM tags WHERE (account_id, name) = (account(j), 'tag "' || j / 40 || E'\\');
    INSERT INTO tags VALUES (account(t), 'tag ' || t, t);
    UPDATE logs SET n = t WHERE id = j;
    INSERT INTO scratch VALUES ('t' || t, account(t), t);
    UPDATE scratch SET n = t WHERE id = 'k' || j;
END $$;
"#;

const COLUMNS: &[(&str, &[&str])] = &[
    ("items", &["id", "account_id", "n", "note"]),
    ("notes", &["id", "account_id", "n", "note"]),
    ("tags", &["account_id", "name", "n"]),
    ("logs", &["id", "account_id", "n"]),
    ("scratch", &["id", "account_id", "n"]),
];

const CONFIGURATION: &str = "[tables]\ncapture = [\"public.*\"]\n[backfill]\nchunk_rows_max = 1000\n";

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Writers that change every table until they are stopped, and TRUNCATE now and then.
struct Churn {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<u64>>,
}

impl Churn {
    fn start(database: &Address, rows: u64, writers: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writer = |writer: u64| {
            let (url, stop) = (database.url(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    let (client, connection) =
                        tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connect");
                    let connection = tokio::spawn(connection);
                    let mut transactions = 0;
                    while !stop.load(Ordering::Relaxed) {
                        transactions += 1;
                        let t = transactions * 100 + writer;
                        client.batch_execute(&format!("CALL churn({rows}, {t})")).await.expect("a transaction");
                        if writer == 0 && transactions % 200 == 0 {
                            client.batch_execute("TRUNCATE scratch").await.expect("truncate");
                        }
                    }
                    connection.abort();
                    transactions
                })
            })
        };
        let writers = (0..writers).map(writer).collect();
        Self { stop, writers }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.writers.into_iter().map(|writer| writer.join().expect("a writer")).sum()
    }
}

/// Rows that the load has read so far, as the bridge says.
fn rows_done(bridge: &Bridge) -> u64 {
    let metrics = bridge.get("/metrics").unwrap_or_default();
    let values = metrics.lines().filter(|line| line.starts_with("penstock_backfill_rows_done"));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).map(|value| value as u64).sum()
}

fn peak_bytes(bridge: &Bridge) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", bridge.pid())).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or("VmHWM: 0 kB");
    line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn controls(records: &[Record], kind: ControlKind) -> usize {
    let is_kind = |record: &&Record| matches!(&record.content, Content::Control(control) if control.kind == kind);
    records.iter().filter(is_kind).count()
}

#[test]
fn a_first_load_under_load_and_killed_again_and_again_is_the_tables() {
    let (rows, kills) = (number("PENSTOCK_LOAD_ROWS", 40_000), number("PENSTOCK_KILLS", 4));
    let mut world = World::new(stack(), SCHEMA);
    world.configure(CONFIGURATION).set("KAFKA__PARTITIONS", &PARTITIONS.to_string());
    world.database.psql(&format!("CALL fill({})", rows / 2)).expect("rows from before");
    let churn = Churn::start(&world.database, rows / 2, 2);
    let mut bridge = world.run();
    let (mut peak, mut total) = (0, 0);
    for kill in 1..=kills {
        // The writers delete rows, and a life that reads the last chunk is not killed in the load any more.
        let target = rows * 3 / 4 * kill / kills;
        wait("the load to go on", PATIENCE, || {
            assert!(bridge.ended().is_none(), "the bridge ended:\n{}", bridge.log());
            peak = peak_bytes(&bridge).max(peak);
            total = rows_done(&bridge);
            total >= target
        })
        .unwrap_or_else(|late| panic!("{late}: {total} of {target}\n{}", bridge.log()));
        bridge.kill();
        bridge = world.run();
    }
    wait("the load to be complete", PATIENCE, || {
        assert!(bridge.ended().is_none(), "the bridge ended:\n{}", bridge.log());
        peak = peak_bytes(&bridge).max(peak);
        world.database.psql("SELECT 1").is_ok() && load_is_complete(&world)
    })
    .unwrap_or_else(|late| panic!("{late}\n{}", bridge.log()));
    let transactions = churn.stop();
    world.wait_confirmed(&mut bridge, PATIENCE);
    let records = reader::read(&world.bootstrap, &world.registry_url, &world.topic);
    assert_same(&fold(&records, COLUMNS), &select(&world.database, COLUMNS));
    let read = records.iter().filter(|record| record.change().is_some_and(|envelope| envelope.op == Op::Read)).count();
    let partitions = usize::try_from(PARTITIONS).expect("few");
    assert_eq!(controls(&records, ControlKind::ReloadBegin), partitions, "it began once");
    assert_eq!(controls(&records, ControlKind::ReloadEnd), partitions, "it ended once");
    eprintln!("{rows} rows, {kills} kills, {transactions} transactions meanwhile: {read} rows read, peak {peak} bytes");
    assert!(peak < 128 * 1024 * 1024, "{peak} bytes");
    assert!(bridge.stop().success());
}

/// Whether progress says that the topic holds every row.
pub fn load_is_complete(world: &World) -> bool {
    let mut status = world.spawn("status", &["--json"], &world.database);
    status.wait(PATIENCE);
    status.log().contains("\"load_complete\":true")
}
