//! Barriers, idle transactions, marks, and servers that are away.

use std::collections::BTreeSet;

use std::time::Duration;

use penstock::backfill::Answer;
use penstock::health::Verdict;
use penstock_core::backfill::interface::{Ask, Mark};
use penstock_testbed::postgres::{Postgres, Stop};

use crate::server::Database;
use crate::work::{on, work};

#[tokio::test]
async fn a_barrier_is_above_all_ids_so_far_and_below_all_later_ones() {
    let mut work = work("");
    let before: u64 = work.sql("SELECT pg_current_xact_id()").parse().unwrap();
    let Answer::Barrier(barrier) = work.answer(Ask::Barrier).await else { panic!("another answer") };
    let behind: u64 = work.sql("SELECT pg_current_xact_id()").parse().unwrap();
    assert!(before < barrier && barrier < behind, "{before} {barrier} {behind}");
}

#[tokio::test]
async fn only_transactions_that_wait_for_their_client_are_idle() {
    let mut work = work("CREATE TABLE t (id int)");
    let connect = async || {
        let (client, connection) =
            tokio_postgres::connect(&work.database.address.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(async { drop(connection.await) });
        client
    };
    let (idle, failed, blocked) = (connect().await, connect().await, connect().await);
    let begin = async |client: &tokio_postgres::Client| -> u64 {
        client.batch_execute("BEGIN").await.unwrap();
        let row = client.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap();
        row.get::<_, String>(0).parse().unwrap()
    };
    let ids = [begin(&idle).await, begin(&failed).await, begin(&blocked).await];
    // Without a savepoint the error would end the transaction, and its id would run no more.
    failed.batch_execute("SAVEPOINT s").await.unwrap();
    failed.batch_execute("SELECT 1 / 0").await.unwrap_err();
    idle.batch_execute("LOCK TABLE t").await.unwrap();
    tokio::spawn(async move { blocked.batch_execute("INSERT INTO t VALUES (1)").await });
    work.until(
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
    )
    .await;
    // An epoch of ids higher, the lower half is the same; and one that never was.
    let asked = ids.into_iter().chain([ids[0] + 5_000_000]).collect();
    let Answer::Idle(found) = work.answer(Ask::Idle(asked)).await else { panic!("another answer") };
    assert_eq!(BTreeSet::from_iter(found), BTreeSet::from([ids[0], ids[1]]));
    let far = ids[0] + (1 << 32);
    let Answer::Idle(found) = work.answer(Ask::Idle(vec![far])).await else { panic!("another answer") };
    assert_eq!(found, [far]);
}

#[tokio::test]
async fn a_mark_is_a_transaction_of_its_own() {
    let mut work = work("");
    work.make_slot();
    work.backfiller.ask(Ask::Mark(Mark::new("it's \\ 1")));
    work.marked("it's \\ 1").await;
    let kinds: Vec<u8> = work.stream().iter().map(|message| message[0]).collect();
    assert_eq!(kinds, b"BMC");
}

#[tokio::test]
async fn what_is_asked_of_a_server_that_is_away_is_done_when_it_is_back() {
    let postgres = Postgres::builder().start().unwrap();
    let address = postgres.create_database("away").unwrap();
    let server = std::sync::Arc::new(postgres);
    let database = Database { server: server.clone(), address };
    let config = database.config(&[]);
    let mut work = on(database, config);
    work.health.streams(true);
    work.make_slot();
    work.backfiller.ask(Ask::Mark(Mark::new("one")));
    work.marked("one").await;
    // Its connection is open, and breaks.
    server.stop(Stop::Immediate).unwrap();
    work.backfiller.ask(Ask::Mark(Mark::new("two")));
    work.backfiller.ask(Ask::Barrier);
    let waits = |verdict: &Verdict| match verdict {
        Verdict::Delayed(reasons) => reasons.iter().any(|reason| reason.starts_with("postgres backfill: ")),
        Verdict::Ready | Verdict::Waiting(_) | Verdict::Stopped(_) => false,
    };
    let deadline = std::time::Instant::now() + crate::work::PATIENCE;
    while !waits(&work.health.verdict()) {
        assert!(std::time::Instant::now() < deadline, "{:?}", work.health.verdict());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.start().unwrap();
    assert!(matches!(work.next().await, Answer::Barrier(_)));
    work.marked("two").await;
    assert!(!waits(&work.health.verdict()));
    let request = crate::work::Work::request;
    work.sql("CREATE TABLE t (id int PRIMARY KEY, account_id int)");
    let request = request(&mut work, "t").await;
    server.stop(Stop::Immediate).unwrap();
    let why = work.fail(request).await;
    assert!(!why.is_empty(), "a chunk's failure is told: its marks must be new ones");
    server.start().unwrap();
}
