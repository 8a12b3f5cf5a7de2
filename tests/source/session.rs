//! The client as these tests use it: logged in, streaming, and what it received.

use std::time::{Duration, Instant};

use penstock::source::{ConnectOptions, Connection, Frame, SourceError, publication_names};
use penstock_wire::lsn::{EndLsn, Lsn};
use tokio::time::timeout;

use crate::server::{Database, PASSWORD};

/// Largest frame in these tests, unless the test is about that.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub async fn login(options: &ConnectOptions) -> Result<Connection, SourceError> {
    Connection::connect(options).await
}

pub async fn login_error(options: &ConnectOptions) -> SourceError {
    let error = login(options).await.expect_err("the login should fail");
    assert!(!format!("{error} {error:?}").contains(PASSWORD));
    error
}

/// A transaction as it came: how many rows, and what covers it.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    pub inserts: Vec<Vec<u8>>,
    pub end: EndLsn,
}

pub async fn start(connection: &mut Connection, slot: &str) -> Result<(), SourceError> {
    let publications = publication_names(["items"]);
    let options = [("proto_version", "1"), ("publication_names", publications.as_str())];
    connection.start_replication(slot, Lsn(0), &options).await
}

pub async fn streaming(options: &ConnectOptions, slot: &str) -> Connection {
    let mut connection = login(options).await.unwrap();
    // The walsender of a test before may still be letting go of the slot.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match start(&mut connection, slot).await {
            Ok(()) => return connection,
            Err(error) if error.sqlstate() == Some("55006") && Instant::now() < deadline => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Collects what is in the buffer.
pub fn take(connection: &mut Connection, open: &mut Vec<Vec<u8>>, done: &mut Vec<Received>) -> Result<(), SourceError> {
    while let Some(frame) = connection.next_frame()? {
        let Frame::XLogData { payload, .. } = frame else {
            continue;
        };
        match payload[0] {
            b'I' => open.push(payload.to_vec()),
            b'C' => {
                let end = u64::from_be_bytes(payload[10..18].try_into().unwrap());
                done.push(Received { inserts: std::mem::take(open), end: EndLsn::new(end) });
            }
            _ => {}
        }
    }
    Ok(())
}

pub async fn receive(connection: &mut Connection, transactions: usize) -> Vec<Received> {
    let (mut open, mut done) = (Vec::new(), Vec::new());
    while done.len() < transactions {
        timeout(PATIENCE, connection.fill(FRAME_BYTES_MAX)).await.expect("bytes in time").unwrap();
        take(connection, &mut open, &mut done).unwrap();
    }
    done
}

pub async fn next_keepalive(connection: &mut Connection) -> Result<(EndLsn, i64, bool), SourceError> {
    loop {
        while let Some(frame) = connection.next_frame()? {
            if let Frame::Keepalive { wal_end, sent_at_us, reply_requested } = frame {
                return Ok((wal_end, sent_at_us, reply_requested));
            }
        }
        timeout(PATIENCE, connection.fill(FRAME_BYTES_MAX)).await.expect("bytes in time")?;
    }
}

pub async fn insert(database: &Database, ids: impl IntoIterator<Item = i32>) {
    for id in ids {
        let text = format!("row {id}");
        let sql = "INSERT INTO item VALUES ($1, $2)";
        database.client.execute(sql, &[&id, &text]).await.unwrap();
    }
}

pub fn contains(row: &[u8], text: &str) -> bool {
    row.windows(text.len()).any(|window| window == text.as_bytes())
}

pub async fn next_error(connection: &mut Connection) -> SourceError {
    loop {
        if let Err(error) = next_keepalive(connection).await {
            return error;
        }
    }
}
