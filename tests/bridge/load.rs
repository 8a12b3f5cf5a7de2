//! Writers that keep committing whatever breaks, and remember in the database what they committed.
//!
//! Every transaction writes a row into `ledger` that says how many row events it made; the ledger is not captured. So
//! what must be in the topic is told by a SELECT, not by the writer, who does not know how a COMMIT that got no answer
//! ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use penstock_testbed::postgres::Address;
use penstock_wire::event::Op;

use crate::reader::{Content, Record};

/// Tables of the load. `items` and `notes` are captured, `ledger` is not.
pub const SCHEMA: &str = "
CREATE TABLE items (id bigint PRIMARY KEY, account_id uuid NOT NULL, txn bigint NOT NULL, n int NOT NULL, note text);
CREATE TABLE notes (id bigint PRIMARY KEY, account_id uuid NOT NULL, txn bigint NOT NULL, n int NOT NULL, note text);
CREATE TABLE ledger (account_id uuid NOT NULL, txn bigint NOT NULL, events int NOT NULL, PRIMARY KEY (account_id, txn));
CREATE SEQUENCE ids;
ALTER TABLE items REPLICA IDENTITY FULL;
ALTER TABLE notes REPLICA IDENTITY FULL;
-- One transaction of an account: an insert, five inserts into the other table, an update, and a delete of an old row.
CREATE PROCEDURE work(account uuid, t bigint) LANGUAGE plpgsql AS $$
DECLARE made int; touched int;
BEGIN
    INSERT INTO items VALUES (nextval('ids'), account, t, 0, 'first');
    INSERT INTO notes SELECT nextval('ids'), account, t, n, repeat('x', 50 + n) FROM generate_series(1, 5) n;
    UPDATE items SET txn = t, n = 6, note = 'updated' WHERE id = (SELECT max(id) FROM items WHERE account_id = account AND txn < t);
    GET DIAGNOSTICS touched = ROW_COUNT;
    made := 6 + touched;
    DELETE FROM notes WHERE id IN (SELECT id FROM notes WHERE account_id = account AND txn < t - 3 ORDER BY id LIMIT 4);
    GET DIAGNOSTICS touched = ROW_COUNT;
    INSERT INTO ledger VALUES (account, t, made + touched);
END $$;
";

/// The captured tables, as configuration.
pub const CAPTURE: &str = "[tables]\ncapture = [\"public.items\", \"public.notes\"]\n";

/// Writers at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    writers: Vec<JoinHandle<()>>,
}

impl Load {
    /// One writer per account, each with a pause between its transactions.
    pub fn start(database: &Address, accounts: usize, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(AtomicU64::new(0));
        let writer = |number: usize| {
            let (url, stop, committed) = (database.url(), Arc::clone(&stop), Arc::clone(&committed));
            let account = format!("00000000-0000-4000-8000-{number:012}");
            std::thread::spawn(move || write(&url, &account, pause, &stop, &committed))
        };
        let writers = (1..=accounts).map(writer).collect();
        Self { stop, committed, writers }
    }

    /// Commits that were answered so far.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Waits until this many more commits were answered: load is flowing, whatever was just broken.
    pub fn wait_for_more(&self, more: u64, patience: Duration) {
        let target = self.committed() + more;
        crate::world::wait("more commits", patience, || self.committed() >= target).expect("load flows");
    }

    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.join().expect("a writer");
        }
        self.committed.load(Ordering::Relaxed)
    }
}

fn write(url: &str, account: &str, pause: Duration, stop: &AtomicBool, committed: &AtomicU64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        while !stop.load(Ordering::Relaxed) {
            let Ok((client, connection)) = tokio_postgres::connect(url, tokio_postgres::NoTls).await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let connection = tokio::spawn(connection);
            // The server may be gone at any point; the next connection asks how far it came.
            let _ = session(&client, account, pause, stop, committed).await;
            connection.abort();
        }
    });
}

async fn session(
    client: &tokio_postgres::Client,
    account: &str,
    pause: Duration,
    stop: &AtomicBool,
    committed: &AtomicU64,
) -> Result<(), tokio_postgres::Error> {
    let question = format!("SELECT coalesce(max(txn), 0) FROM ledger WHERE account_id = '{account}'");
    let mut txn: i64 = client.query_one(&question, &[]).await?.get(0);
    while !stop.load(Ordering::Relaxed) {
        txn += 1;
        client.batch_execute(&format!("CALL work('{account}', {txn})")).await?;
        committed.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// What the ledger says against what the topic holds: every event once, in each account's order, and the rows that the
/// topic folds to are the rows of the tables. Returns how many events there were.
pub fn check(database: &Address, records: &[Record]) -> u64 {
    let ledger = database.psql("SELECT account_id, txn, events FROM ledger").expect("read the ledger");
    let mut expected: BTreeMap<(String, i64), u64> = BTreeMap::new();
    for line in ledger.lines().filter(|line| !line.trim().is_empty()) {
        let mut parts = line.trim().split('|');
        let account = parts.next().expect("an account").to_owned();
        let mut number = || parts.next().and_then(|text| text.parse::<i64>().ok()).expect("a number");
        let (txn, events) = (number(), number());
        expected.insert((account, txn), u64::try_from(events).expect("a count"));
    }
    let delivered = transactions(records);
    let total: u64 = expected.values().sum();
    assert!(total > 0, "nothing was committed");
    for (transaction, events) in &expected {
        assert_eq!(delivered.get(transaction), Some(events), "events of (account, txn) {transaction:?}");
    }
    assert_eq!(delivered.len(), expected.len(), "transactions in the topic that the ledger does not know");
    check_fold(database, records);
    total
}

/// Events by (account, txn); the txn of a commit is that of its first insert. Asserts that an account's txns rise.
fn transactions(records: &[Record]) -> BTreeMap<(String, i64), u64> {
    let mut by_commit: BTreeMap<(i32, u64), (String, i64, u64)> = BTreeMap::new();
    for record in records {
        // What a load brings again is no event.
        let Some(envelope) = record.change().filter(|envelope| envelope.op != Op::Read) else { continue };
        let commit = record.header.position.commit_lsn.raw();
        let txn = envelope.after.as_ref().and_then(|row| long(row.get("txn")));
        let entry = by_commit.entry((record.partition, commit)).or_insert((record.account.clone(), 0, 0));
        assert_eq!(entry.0, record.account, "a commit of the load has one account");
        entry.1 = entry.1.max(txn.unwrap_or(0));
        entry.2 += 1;
    }
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for (account, txn, events) in by_commit.into_values() {
        let before = newest.insert(account.clone(), txn).unwrap_or(0);
        assert!(before < txn, "account {account}: txn {txn} comes after {before}");
        counts.insert((account, txn), events);
    }
    counts
}

fn check_fold(database: &Address, records: &[Record]) {
    let mut rows: BTreeMap<(String, i64), String> = BTreeMap::new();
    for record in records {
        let Content::Change(envelope) = &record.content else { continue };
        let key =
            |row: &penstock_wire::decode::Row| (envelope.source.table.clone(), long(row.get("id")).expect("an id"));
        if let Some(before) = &envelope.before {
            assert!(rows.remove(&key(before)).is_some(), "a change of a row that is not there: {:?}", key(before));
        }
        if let Some(after) = &envelope.after {
            let field = |name| long(after.get(name)).expect("a number");
            let text = format!("{}|{}|{}", record.account, field("txn"), field("n"));
            let held = rows.insert(key(after), text);
            assert!(held.is_none() || envelope.op == Op::Read, "a row twice: {:?}", key(after));
        }
    }
    for table in ["items", "notes"] {
        let selected =
            database.psql(&format!("SELECT id, account_id, txn, n FROM {table} ORDER BY id")).expect("select");
        let selected: BTreeMap<i64, String> = selected
            .lines()
            .filter_map(|line| line.trim().split_once('|'))
            .map(|(id, rest)| (id.parse().expect("an id"), rest.to_owned()))
            .collect();
        let folded: BTreeMap<i64, String> =
            rows.iter().filter(|((name, _), _)| name == table).map(|((_, id), text)| (*id, text.clone())).collect();
        assert_eq!(folded.len(), selected.len(), "rows of {table}");
        assert!(folded == selected, "the rows that the topic folds to are not those of {table}");
    }
}

fn long(value: Option<&apache_avro::types::Value>) -> Option<i64> {
    match value? {
        apache_avro::types::Value::Long(number) => Some(*number),
        apache_avro::types::Value::Int(number) => Some(i64::from(*number)),
        _ => None,
    }
}
