//! Reads a chunk between its marks.
//!
//! ```text
//! low mark committed ─▶ BEGIN ─▶ lock ─▶ snapshot ─▶ relation ─▶ COPY ─▶ chunk handed in ─▶ high mark, with the COMMIT
//!                                 └──────────── the table cannot be altered or emptied ────────────┘
//! ```
//! - **The lock comes before the snapshot**: behind a rewriting ALTER an older snapshot sees no rows. Reading no row of the
//!   table takes it in ACCESS SHARE, partitions included, with no more rights than the rows themselves need: LOCK TABLE
//!   asks for SELECT on the whole table, secret columns too.
//! - **The rows are read by a later snapshot than the one that is told** (READ COMMITTED: each statement has its own). What the
//!   told one sees, the later one sees; what only the later one sees committed before the high mark, and the stream brings
//!   it, between the marks, or before them: then the told one misses it, and the chunk is read again.
//! - **The high mark is the transaction's own commit**: the lock is given back behind it. Nothing else is written in it.
//! - The chunk is handed in before the high mark is asked for: who handles the stream has it when the mark comes.
//!
//! A session on which anything went wrong is not used again.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use penstock_core::backfill::interface::{Chunk, ChunkRequest};
use penstock_core::backfill::rows::Rows;
use tokio::time::timeout;
use tokio_postgres::CopyOutStream;

use super::error::ReadError;
use super::lines::Lines;
use super::session::{Session, mark_sql};
use super::sql::copy_sql;
use crate::catalog::relation::{self, Described};
use crate::config::TableName;

/// Without a row for so long, nothing comes any more. More than the server allows the statement.
const ROW_TIMEOUT: Duration = Duration::from_secs(150);

/// Writes the low mark, reads, gives the chunk to `hand_in`, writes the high mark.
pub(super) async fn read(
    session: &Session,
    request: &ChunkRequest,
    hand_in: impl FnOnce(Chunk),
) -> Result<(), ReadError> {
    let table = TableName::new(&request.table.0, &request.table.1);
    let opened = session.texts("the snapshot of a chunk", &opening_sql(request, &table)).await?;
    let snapshot = opened.last().map(String::as_str).unwrap_or_default().parse()?;
    let described = describe(session, &table).await?;
    let (rows, exhausted) = if is_as_requested(request, &described) {
        rows(session, request, &described).await?
    } else {
        // Whoever gets it sees that the table is another one.
        (Rows::new(described.relation.columns.len()), false)
    };
    hand_in(Chunk { number: request.number, snapshot, relation: described.relation, rows, exhausted });
    session.texts("whether a chunk's high mark was written", &closing_sql(request)).await?;
    Ok(())
}

/// The savepoint is for a copy that is cut: a cancelled statement must not end the transaction.
fn opening_sql(request: &ChunkRequest, table: &TableName) -> String {
    format!(
        "BEGIN; {}; COMMIT; BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SELECT FROM {} LIMIT 0; SAVEPOINT locked; \
         SELECT pg_current_snapshot()::text",
        mark_sql(&request.low),
        locked_sql(table),
    )
}

/// `*` stands for partitions, and for tables that inherit: locking those too harms nobody.
fn locked_sql(table: &TableName) -> String {
    format!("{} *", table.to_sql())
}

fn closing_sql(request: &ChunkRequest) -> String {
    format!("{}; COMMIT", mark_sql(&request.high))
}

async fn describe(session: &Session, table: &TableName) -> Result<Described, ReadError> {
    let rows = relation::ask(session.client(), table).await;
    let rows = rows.map_err(|error| session.failed(relation::RELATION, error))?;
    relation::read(table, &rows)?.ok_or(ReadError::Gone)
}

fn is_as_requested(request: &ChunkRequest, described: &Described) -> bool {
    let found = described.relation.columns.iter().map(|column| &column.name);
    request.columns.iter().map(|column| &column.name).eq(found)
}

/// The rows, and whether none is left in the range.
async fn rows(session: &Session, request: &ChunkRequest, described: &Described) -> Result<(Rows, bool), ReadError> {
    let sql = copy_sql(request, described)?;
    let failed = |error| session.failed("the rows of a chunk", error);
    let copy = timeout(ROW_TIMEOUT, session.client().copy_out(&sql)).await.map_err(|_| ReadError::Timeout)?;
    let mut copy = pin!(copy.map_err(failed)?);
    let mut lines = Lines::new(request.columns.len(), request.bytes_max);
    while !lines.is_full() {
        match timeout(ROW_TIMEOUT, copy.next()).await.map_err(|_| ReadError::Timeout)? {
            Some(data) => lines.push(&data.map_err(failed)?)?,
            None => {
                let rows = lines.finish()?;
                let exhausted = rows.len() < request.rows_max;
                return Ok((rows, exhausted));
            }
        }
    }
    cut(session, copy).await?;
    Ok((lines.finish()?, false))
}

/// Ends a copy whose further rows nobody wants; the transaction and its lock stay.
async fn cut(session: &Session, mut copy: std::pin::Pin<&mut CopyOutStream>) -> Result<(), ReadError> {
    session.cancel().await?;
    // It ends with an error, or because it was at its end.
    while let Some(Ok(_)) = timeout(ROW_TIMEOUT, copy.next()).await.map_err(|_| ReadError::Timeout)? {}
    session.texts("to go on behind a copy that was cut", "ROLLBACK TO SAVEPOINT locked").await?;
    Ok(())
}
