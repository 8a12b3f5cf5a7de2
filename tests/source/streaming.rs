//! Streaming and acknowledging: what comes, what comes again, and what moves the slot.

use std::time::Instant;

use penstock::source::{Class, Host, SourceError, StatusUpdate, publication_names};
use penstock::tls::TlsMode;
use penstock_wire::lsn::Lsn;

use crate::between;
use crate::server::shared;
use crate::session::{
    FRAME_BYTES_MAX, PATIENCE, contains, insert, login, next_error, next_keepalive, receive, start, streaming, take,
};

#[tokio::test]
async fn transactions_stream_and_come_again_until_acknowledged() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    insert(&database, 1..=3).await;
    let received = receive(&mut connection, 3).await;
    for (transaction, id) in received.iter().zip(1..) {
        assert_eq!(transaction.inserts.len(), 1);
        assert!(contains(&transaction.inserts[0], &format!("row {id}")));
    }
    assert!(received.windows(2).all(|pair| pair[0].end < pair[1].end));

    // Only the first is acknowledged; the other two come again.
    let status = StatusUpdate::durable(received[0].end);
    connection.end_copy(status, 0, PATIENCE).await.unwrap();
    assert!(connection.is_ready());
    assert_eq!(database.confirmed().await, received[0].end.raw());
    assert_eq!(connection.query("SELECT 1").await.unwrap(), [[Some("1".to_owned())]]);
    connection.close().await.unwrap();
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    assert_eq!(receive(&mut connection, 2).await, received[1..]);

    let status = StatusUpdate::durable(received[2].end);
    connection.end_copy(status, 0, PATIENCE).await.unwrap();
    assert_eq!(database.confirmed().await, received[2].end.raw());
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_status_update_moves_the_slot_to_exactly_what_it_says() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    insert(&database, 1..=2).await;
    let received = receive(&mut connection, 2).await;
    let before = database.confirmed().await;
    assert!(before < received[0].end.raw());
    // Written is not flushed: it acknowledges nothing.
    let written =
        StatusUpdate { written: received[1].end, reply_requested: true, ..StatusUpdate::durable(received[0].end) };
    connection.send_status(written, 0).await.unwrap();
    next_keepalive(&mut connection).await.unwrap();
    assert_eq!(database.confirmed().await, received[0].end.raw());
}

#[tokio::test]
async fn a_keepalive_comes_when_asked_for_and_carries_the_servers_clock() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    let status = StatusUpdate { reply_requested: true, ..StatusUpdate::default() };
    connection.send_status(status, 0).await.unwrap();
    let (wal_end, sent_at_us, _) = next_keepalive(&mut connection).await.unwrap();
    assert!(wal_end.raw() > 0);
    let row = database.client.query_one("SELECT extract(epoch FROM now())::float8 * 1e6", &[]).await.unwrap();
    let apart_us = (row.get::<_, f64>(0) - sent_at_us as f64).abs();
    assert!(apart_us < 60e6, "the clocks are {apart_us} µs apart");
}

#[tokio::test]
async fn a_session_lives_while_keepalives_are_answered_and_dies_when_they_are_not() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    database
        .client
        .batch_execute(&format!("ALTER DATABASE {} SET wal_sender_timeout = '600ms'", database.name))
        .await
        .unwrap();
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    for _ in 0..4 {
        while !next_keepalive(&mut connection).await.unwrap().2 {}
        connection.send_status(StatusUpdate::default(), 0).await.unwrap();
    }
    let error = loop {
        if let Err(error) = next_keepalive(&mut connection).await {
            break error;
        }
    };
    assert_eq!(error.class(), Class::Retry, "{error}");
}

#[tokio::test]
async fn a_slot_in_use_makes_the_second_wait_on_its_own_connection() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    let first = streaming(&server.over_unix(&database.name), &slot).await;
    let mut second = login(&server.over_unix(&database.name)).await.unwrap();
    let error = start(&mut second, &slot).await.unwrap_err();
    assert_eq!((error.sqlstate(), error.class()), (Some("55006"), Class::Retry));
    assert!(second.is_ready());
    assert!(error.to_string().contains(&first.process_id().to_string()), "{error}");

    let mut first = first;
    first.end_copy(StatusUpdate::default(), 0, PATIENCE).await.unwrap();
    start(&mut second, &slot).await.unwrap();
    insert(&database, [1]).await;
    assert_eq!(receive(&mut second, 1).await.len(), 1);
}

#[tokio::test]
async fn what_is_missing_halts_with_its_remedy() {
    let server = shared();
    let database = server.database().await;
    let mut connection = login(&server.over_unix(&database.name)).await.unwrap();
    let error = start(&mut connection, "no_such_slot").await.unwrap_err();
    assert_eq!((error.sqlstate(), error.class()), (Some("42704"), Class::Halt));
    assert!(error.advice().contains("slot"));
    assert!(connection.is_ready());

    let slot = database.slot().await;
    let publications = publication_names(["nothing"]);
    let options = [("proto_version", "1"), ("publication_names", publications.as_str())];
    connection.start_replication(&slot, Lsn(0), &options).await.unwrap();
    insert(&database, [1]).await;
    let error = next_error(&mut connection).await;
    assert_eq!((error.sqlstate(), error.class()), (Some("42704"), Class::Halt), "{error}");
    assert!(matches!(connection.fill(FRAME_BYTES_MAX).await, Err(SourceError::NotStreaming)));
}

#[tokio::test]
async fn pieces_of_frames_make_the_same_frames_also_when_every_wait_is_given_up() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    insert(&database, 1..=50).await;
    let mut fast = streaming(&server.over_unix(&database.name), &slot).await;
    let expected = receive(&mut fast, 50).await;
    fast.end_copy(StatusUpdate::default(), 0, PATIENCE).await.unwrap();

    for mode in [TlsMode::Disable, TlsMode::Require] {
        let port = between::slow_line(server.port()).await;
        let mut options = server.over_tcp(&database.name, "scram_role", "127.0.0.1", mode);
        options.host = Host::Tcp { host: "127.0.0.1".into(), port };
        database.client.batch_execute("GRANT SELECT ON item TO scram_role").await.unwrap();
        let mut slow = streaming(&options, &slot).await;
        let (mut open, mut done, mut given_up) = (Vec::new(), Vec::new(), 0);
        let deadline = Instant::now() + PATIENCE;
        while done.len() < 50 && Instant::now() < deadline {
            // Polled once, then dropped: the next call must go on where it was.
            tokio::select! {
                biased;
                filled = slow.fill(FRAME_BYTES_MAX) => drop(filled.unwrap()),
                () = std::future::ready(()) => given_up += 1,
            }
            tokio::task::yield_now().await;
            take(&mut slow, &mut open, &mut done).unwrap();
        }
        assert_eq!(done, expected, "{mode}");
        assert!(given_up > 0);
        slow.end_copy(StatusUpdate::default(), 0, PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn a_row_above_the_bound_is_refused_and_comes_whole_under_a_higher_one() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    database.client.execute("INSERT INTO item VALUES (1, repeat('x', 3000000))", &[]).await.unwrap();
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    let error = loop {
        let (mut open, mut done) = (Vec::new(), Vec::new());
        match connection.fill(FRAME_BYTES_MAX).await {
            Ok(_) => take(&mut connection, &mut open, &mut done).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, SourceError::FrameTooLarge { frame_bytes: 3_000_000.., frame_bytes_max: FRAME_BYTES_MAX }),
        "{error}"
    );
    assert_eq!(error.class(), Class::Halt);

    // The refused row is dropped unseen at the end of the copy.
    connection.end_copy(StatusUpdate::default(), 0, PATIENCE).await.unwrap();
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    let (mut open, mut done) = (Vec::new(), Vec::new());
    while done.is_empty() {
        connection.fill(4_000_000).await.unwrap();
        take(&mut connection, &mut open, &mut done).unwrap();
    }
    assert!(done[0].inserts[0].len() > 3_000_000);
}

#[tokio::test]
async fn the_copy_ends_in_the_middle_of_a_large_transaction_and_all_of_it_comes_again() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    let sql = "INSERT INTO item SELECT id, 'row' FROM generate_series(1, 100000) id";
    database.client.batch_execute(sql).await.unwrap();
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    let (mut open, mut done) = (Vec::new(), Vec::new());
    while open.len() < 1000 {
        connection.fill(FRAME_BYTES_MAX).await.unwrap();
        take(&mut connection, &mut open, &mut done).unwrap();
    }
    assert!(done.is_empty());
    connection.end_copy(StatusUpdate::default(), 0, PATIENCE).await.unwrap();
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    assert_eq!(receive(&mut connection, 1).await[0].inserts.len(), 100_000);
}

#[tokio::test]
async fn what_does_not_fit_the_phase_is_refused() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    let mut connection = login(&server.over_unix(&database.name)).await.unwrap();
    assert!(matches!(connection.fill(1).await, Err(SourceError::NotStreaming)));
    assert!(matches!(connection.next_frame(), Err(SourceError::NotStreaming)));
    let status = StatusUpdate::default();
    assert!(matches!(connection.send_status(status, 0).await, Err(SourceError::NotStreaming)));
    assert!(matches!(connection.query("SELECT '\0'").await, Err(SourceError::ZeroByte { .. })));
    start(&mut connection, &slot).await.unwrap();
    assert!(matches!(connection.query("SELECT 1").await, Err(SourceError::Interrupted)));
    connection.end_copy(status, 0, PATIENCE).await.unwrap();
    // Postgres would say that the copy begins, and end it at once.
    let error = start(&mut connection, &slot).await.unwrap_err();
    assert!(matches!(error, SourceError::StreamedBefore), "{error}");
    assert_eq!(error.class(), Class::Retry);
    assert_eq!(connection.query("SELECT 1").await.unwrap(), [[Some("1".to_owned())]]);
}
