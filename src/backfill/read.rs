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
//! - **The high mark is the transaction's own commit**: the lock is given back behind it. Nothing else is written in it. Only where
//!   far more rows are on their way than are wanted is the copy left where it is, holding the lock, while the mark is written
//!   elsewhere; then its connection is closed.
//! - The chunk is handed in before the high mark is asked for: who handles the stream has it when the mark comes. A failure
//!   is told before the lock is given back, so that a mark that comes after all means nothing.

use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::StreamExt;
use penstock_core::backfill::interface::{Chunk, ChunkRequest};
use penstock_core::backfill::rows::Rows;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::CopyOutStream;

use super::error::ReadError;
use super::lines::Lines;
use super::session::{Session, mark_sql};
use super::sql::copy_sql;
use crate::catalog::CatalogError;
use crate::catalog::relation::{self, Described};
use crate::config::TableName;

/// Without a row for so long, nothing comes any more. More than the server allows the statement.
const ROW_TIMEOUT: Duration = Duration::from_secs(150);
/// A mark that is written elsewhere is given up this long after its copy began: less than the server allows the statement,
/// which holds the lock.
const ELSEWHERE_TIMEOUT: Duration = Duration::from_secs(90);

/// What became of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It can be used again.
    Clean,
    /// A copy goes on in it.
    Copying,
}

/// Writes the low mark, reads, gives the chunk to `hand_in`, writes the high mark; `elsewhere` does that on another session,
/// if it has to be. After an error the session is of no further use, and may hold the lock.
pub(super) async fn read(
    session: &Session,
    request: &ChunkRequest,
    hand_in: impl FnOnce(Chunk),
    elsewhere: impl Future<Output = Result<(), CatalogError>>,
) -> Result<Left, ReadError> {
    let table = TableName::new(&request.table.0, &request.table.1);
    let opened = session.texts("the snapshot of a chunk", &opening_sql(request, &table)).await?;
    let snapshot = opened.last().map(String::as_str).unwrap_or_default().parse()?;
    let described = describe(session, &table).await?;
    let chunk = |relation, rows, exhausted| Chunk { number: request.number, snapshot, relation, rows, exhausted };
    if !is_as_requested(request, &described) {
        // Whoever gets it sees that the table is another one.
        let none = Rows::new(described.relation.columns.len());
        hand_in(chunk(described.relation, none, false));
        return close(session, request).await;
    }
    let sql = copy_sql(request, &described)?;
    let began = Instant::now();
    let copy = timeout(ROW_TIMEOUT, session.client().copy_out(&sql)).await.map_err(|_| ReadError::Timeout)?;
    let mut copy = pin!(copy.map_err(|error| session.failed(ROWS, error))?);
    let Taken { rows, exhausted, ended } = take(session, copy.as_mut(), request).await?;
    hand_in(chunk(described.relation, rows, exhausted));
    if ended {
        return close(session, request).await;
    }
    timeout_at(began + ELSEWHERE_TIMEOUT, elsewhere).await.map_err(|_| ReadError::Timeout)??;
    Ok(Left::Copying)
}

const ROWS: &str = "the rows of a chunk";

/// The lock is had by reading no row. `*` stands for partitions, and for tables that inherit: locking those too harms nobody.
fn opening_sql(request: &ChunkRequest, table: &TableName) -> String {
    format!(
        "BEGIN; {}; COMMIT; BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SELECT FROM {} * LIMIT 0; \
         SELECT pg_current_snapshot()::text",
        mark_sql(&request.low),
        table.to_sql(),
    )
}

async fn close(session: &Session, request: &ChunkRequest) -> Result<Left, ReadError> {
    let sql = format!("{}; COMMIT", mark_sql(&request.high));
    session.texts("whether a chunk's high mark was written", &sql).await?;
    Ok(Left::Clean)
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

/// What was taken of a copy.
struct Taken {
    rows: Rows,
    /// No row is left in the range.
    exhausted: bool,
    /// The copy is at its end.
    ended: bool,
}

/// Takes rows until there are enough bytes. A few more are waited for, and thrown away: that is cheaper than a connection.
async fn take(
    session: &Session,
    mut copy: Pin<&mut CopyOutStream>,
    request: &ChunkRequest,
) -> Result<Taken, ReadError> {
    let mut lines = Lines::new(request.columns.len(), request.bytes_max);
    let mut surplus = 0;
    loop {
        let data = timeout(ROW_TIMEOUT, copy.next()).await.map_err(|_| ReadError::Timeout)?;
        let Some(data) = data.transpose().map_err(|error| session.failed(ROWS, error))? else {
            let full = lines.is_full();
            let rows = lines.finish()?;
            let exhausted = !full && rows.len() < request.rows_max;
            return Ok(Taken { rows, exhausted, ended: true });
        };
        if lines.is_full() {
            surplus += data.len();
        }
        lines.push(&data)?;
        if lines.is_full() && (surplus > request.bytes_max || lines.len() < request.rows_max / 2) {
            return Ok(Taken { rows: lines.finish()?, exhausted: false, ended: false });
        }
    }
}
