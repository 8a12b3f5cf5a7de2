//! What a chunk holds while it is read, and that nothing of it is left behind.
//!
//! A copy is held up by not being read: the test's runtime runs the backfiller's tasks only while the test awaits.

use std::time::{Duration, Instant};

use penstock::backfill::Answer;
use penstock_core::backfill::interface::{Ask, ChunkRequest};

use crate::work::{ALL, PATIENCE, Work, kind, work};

/// Far more than fits into any buffer on the way.
const WIDE: &str = "
CREATE TABLE t (id int PRIMARY KEY, account_id int, note text) PARTITION BY RANGE (id);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100000);
CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100000) TO (200000);
INSERT INTO t SELECT n, 1, repeat('x', 4000) FROM generate_series(1, 20000) n;
";

const COPYING: &str = "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'penstock backfill' \
                       AND datname = current_database() AND query LIKE 'COPY%' AND state = 'active'";
const LOCKED: &str = "SELECT count(*) > 0 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity a USING (pid) \
                      WHERE c.relname IN ('t', 't_1', 't_2') AND a.application_name = 'penstock backfill' AND a.datname = current_database()";

/// Begins to read the table, and stops in the middle of its rows.
async fn begin(work: &mut Work, bytes_max: usize) -> ChunkRequest {
    let request = ChunkRequest { bytes_max, ..work.request("t").await };
    work.backfiller.ask(Ask::Read(request.clone()));
    work.until(COPYING).await;
    assert_eq!(work.sql(LOCKED), "t");
    request
}

/// Runs SQL in a thread; whether it has ended is told by the stream.
fn run(work: &Work, sql: &str) -> std::thread::JoinHandle<()> {
    let (address, sql) = (work.database.address.clone(), sql.to_owned());
    std::thread::spawn(move || drop(address.psql(&sql).unwrap()))
}

async fn wait_for_lock(work: &Work) {
    work.until("SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' AND relation IN (SELECT oid FROM pg_class WHERE relname IN ('t', 't_1', 't_2'))").await;
}

/// Somebody else has the table for himself.
async fn wait_granted(work: &Work) {
    let relation = work.sql("SELECT 't'::regclass::oid");
    let lock = "SELECT count(*) = 1 FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock'";
    work.until(&format!("{lock} AND relation = {relation}")).await;
}

/// The stream tells the order of the commits: the chunk's high mark, then what had to wait for it.
#[tokio::test]
async fn whatever_alters_or_empties_the_table_commits_behind_the_high_mark() {
    const CUT: usize = 30_000_000;
    for (ddl, bytes_max) in [
        ("ALTER TABLE t ADD COLUMN later int DEFAULT 5", ALL),
        ("TRUNCATE t_2", ALL),
        ("TRUNCATE t_2", CUT),
        ("TRUNCATE t", ALL),
        ("ALTER TABLE t_1 ALTER COLUMN note SET STORAGE PLAIN", CUT),
    ] {
        let mut work = work(WIDE);
        work.make_slot();
        let request = begin(&mut work, bytes_max).await;
        let message = "SELECT pg_logical_emit_message(true, 'test', 'altered')";
        let altering = run(&work, &format!("BEGIN; {ddl}; {message}; COMMIT"));
        wait_for_lock(&work).await;
        match work.next().await {
            Answer::Chunk(chunk) => {
                let whole = chunk.rows.len() == 20_000;
                assert_eq!(
                    (chunk.number, whole, chunk.exhausted),
                    (request.number, bytes_max == ALL, bytes_max == ALL)
                );
            }
            other => panic!("{}", kind(&other)),
        }
        work.marked("altered").await;
        altering.join().unwrap();
        assert_eq!(work.marks(), [request.low.as_str(), request.high.as_str(), "altered"], "{ddl}");
        assert!(work.sessions().iter().all(|state| state == "idle"), "{:?}", work.sessions());
    }
}

/// A snapshot that is older than a rewriting ALTER sees no row of the table, and nothing else tells that it was rewritten.
#[tokio::test]
async fn a_table_that_is_being_rewritten_is_read_behind_that() {
    let mut work = work(WIDE);
    let request = work.request("t").await;
    let rewriting =
        run(&work, "BEGIN; ALTER TABLE t ALTER COLUMN note TYPE text USING note || ''; SELECT pg_sleep(3); COMMIT");
    wait_granted(&work).await;
    match work.answer(Ask::Read(ChunkRequest { rows_max: 50, ..request })).await {
        Answer::Chunk(chunk) => assert_eq!(chunk.rows.len(), 50),
        other => panic!("{}", kind(&other)),
    }
    rewriting.join().unwrap();
}

#[tokio::test]
async fn a_chunk_that_is_given_up_leaves_no_lock_and_no_transaction() {
    let mut work = work(WIDE);
    work.make_slot();
    let request = begin(&mut work, ALL).await;
    let Work { backfiller, database, .. } = work;
    drop(backfiller);
    let began = Instant::now();
    loop {
        let left = database.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'penstock backfill' AND datname = current_database()",
        );
        if left == "0" {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{left} sessions are left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    database.sql("SET lock_timeout = '1s'; TRUNCATE t");
    let high = database.sql(&format!(
        "SELECT count(*) FROM pg_logical_slot_peek_binary_changes(current_database(), NULL, NULL, 'proto_version', '1', \
         'publication_names', 'penstock', 'messages', 'true') WHERE encode(data, 'escape') LIKE '%{}%'",
        request.high.as_str()
    ));
    assert_eq!(high, "0", "its high mark is never written");
}

/// It waits for a lock that somebody else has, who then never hears of it again.
#[tokio::test]
async fn a_chunk_that_waits_for_its_lock_is_given_up_too() {
    let mut work = work(WIDE);
    let request = work.request("t").await;
    let holder = run(&work, "BEGIN; LOCK TABLE t; SELECT pg_sleep(8); COMMIT");
    wait_granted(&work).await;
    work.backfiller.ask(Ask::Read(request));
    let waiting = "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'penstock backfill' AND wait_event_type = 'Lock' AND datname = current_database()";
    work.until(waiting).await;
    let Work { backfiller, database, .. } = work;
    drop(backfiller);
    let began = Instant::now();
    while database.sql(waiting) == "t" {
        assert!(began.elapsed() < Duration::from_secs(5), "it waits for its lock although nobody waits for it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    holder.join().unwrap();
}

#[tokio::test]
async fn a_lock_that_is_not_given_in_time_is_told() {
    let mut work = work(WIDE);
    let request = work.request("t").await;
    let holder = run(&work, "BEGIN; LOCK TABLE t; SELECT pg_sleep(11); COMMIT");
    wait_granted(&work).await;
    assert_eq!(work.fail(request).await, "55P03: canceling statement due to lock timeout");
    holder.join().unwrap();
    assert!(work.sessions().iter().all(|state| state == "idle"), "{:?}", work.sessions());
}

/// Connections that nobody needs are closed; more workers than are allowed wait for their turn.
#[tokio::test]
async fn as_many_chunks_are_read_at_once_as_there_are_workers() {
    let mut work = work(WIDE);
    let requests = 12;
    let mut asked = Vec::new();
    for _ in 0..requests {
        asked.push(ChunkRequest { rows_max: 50, ..work.request("t").await });
    }
    asked.into_iter().for_each(|request| work.backfiller.ask(Ask::Read(request)));
    let began = Instant::now();
    let mut sessions_max = 0;
    let mut chunks = 0;
    while chunks < requests {
        assert!(began.elapsed() < PATIENCE);
        sessions_max = sessions_max.max(work.sessions().len());
        work.turn().await;
        while let Some(answer) = work.backfiller.try_next() {
            assert_eq!(kind(&answer), "a chunk");
            chunks += 1;
        }
    }
    // One more describes tables.
    assert!(sessions_max <= work.config.backfill.workers + 1, "{sessions_max} connections");
    assert!(sessions_max > 1, "none beside another");
}
