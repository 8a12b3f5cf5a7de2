//! What a backfill asks of its shell, and what it is told.

use penstock_wire::reload::{ReloadRange, Scope};

use super::rows::Rows;
use super::snapshot::Snapshot;
use crate::pgoutput::Relation;
use crate::relation::CatalogFacts;

/// Prefix of the logical messages that stand around a chunk and at both ends of a reload.
pub const MARK_PREFIX: &str = "penstock.mark";
/// Prefix of the logical messages that ask for reloads, see [`super::request`].
pub const REQUEST_PREFIX: &str = "penstock.backfill";

/// The content of a mark's message: who wrote it, and its number. Marks of another session mean nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub(super) String);

impl Mark {
    /// For a shell that is tested without a bridge; a bridge takes only those that it made itself.
    pub fn new(content: impl Into<String>) -> Self {
        Self(content.into())
    }

    /// The message's content.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What the shell is to do. Each is asked once; what fails for the moment is tried again by the shell, but for
/// [`Ask::Read`], whose failure is told.
#[derive(Debug)]
pub enum Ask {
    /// Take an id for a transaction (`pg_current_xact_id()`) in a transaction of its own, now; answer with
    /// [`crate::bridge::Bridge::handle_barrier`].
    Barrier,
    /// Tell which of these transactions belong to sessions that are idle in a transaction: their commit has not begun.
    /// Answer with [`crate::bridge::Bridge::handle_idle`].
    Idle(Vec<u64>),
    /// Find the tables of a scope and their ranges; answer with [`crate::bridge::Bridge::handle_surveyed`].
    Survey {
        /// The reload's id.
        reload: String,
        /// What it covers.
        scope: Scope,
    },
    /// Describe a table as the stream would, and what the catalog adds; compile it by
    /// [`crate::bridge::Bridge::describe_for_backfill`], register its schemas, and answer with
    /// [`crate::bridge::Bridge::handle_described`].
    Describe {
        /// Schema and table.
        table: (String, String),
    },
    /// Write a transactional logical message with the prefix [`MARK_PREFIX`] in a transaction of its own, on the primary,
    /// without waiting for synchronous standbys.
    Mark(Mark),
    /// Read a chunk; see [`Chunk`].
    Read(ChunkRequest),
}

/// A chunk that is to be read: low mark written; then in one transaction: the table locked in ACCESS SHARE, a snapshot taken,
/// then the rows read in one statement, in key order, by that snapshot or a later one; the chunk handed in; and the high mark
/// written no later than the transaction ends, so that no DDL commits between what was read and the mark it is placed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRequest {
    /// Numbers chunks within a session.
    pub number: u64,
    /// Schema and table.
    pub table: (String, String),
    /// Only this account's rows (`global`: those without an account).
    pub account: Option<String>,
    /// The account column.
    pub account_column: String,
    /// Key columns in key order.
    pub key: Vec<String>,
    /// Columns in the order of the relation; those not captured are read as NULL.
    pub columns: Vec<ChunkColumn>,
    /// Rows behind this key; empty: from the first.
    pub after: Vec<String>,
    /// Up to this key, included; empty: to the last.
    pub until: Vec<String>,
    /// At most so many rows.
    pub rows_max: usize,
    /// No further row once so many bytes are read.
    pub bytes_max: usize,
    /// Written before.
    pub low: Mark,
    /// Written behind.
    pub high: Mark,
}

/// A column of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkColumn {
    /// Its name.
    pub name: String,
    /// Whether it may leave the database.
    pub captured: bool,
}

/// What was read between two marks. Handed in before the high mark is written, so that it is there when the stream brings
/// that mark.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The request's.
    pub number: u64,
    /// Taken under the lock, before the rows were read.
    pub snapshot: Snapshot,
    /// The table as it was under the lock.
    pub relation: Relation,
    /// In key order.
    pub rows: Rows,
    /// No row of the range is left behind the last one.
    pub exhausted: bool,
}

/// A table as a shell describes it.
#[derive(Clone, Debug)]
pub struct Description {
    /// As the stream would send it.
    pub relation: Relation,
    /// What the catalog adds.
    pub facts: CatalogFacts,
}

/// Why a scope has no ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsurveyed {
    /// No captured table bears the name; what to look at.
    NotCaptured(String),
    /// It cannot be read; what mends it.
    Refused(String),
}

/// Why a table cannot be described for a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undescribed {
    /// It no longer exists: there are no rows to read.
    Gone,
    /// It cannot be captured, or not be read; what mends it.
    Refused(String),
}

impl Unsurveyed {
    /// For people.
    pub fn why(&self) -> &str {
        match self {
            Self::NotCaptured(why) | Self::Refused(why) => why,
        }
    }
}

/// The ranges of a scope, or why there are none.
pub type Surveyed = Result<Vec<ReloadRange>, Unsurveyed>;
