//! What happened to one row, and to an account in one Postgres transaction.

use penstock_wire::position::Position;

use crate::rows::{Row, RowId, Table};

/// One event of the topic that concerns one row or one table of an account.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub position: Position,
    pub table: Table,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// `c`: the row was inserted, or came from another account or key.
    Insert(RowId, Row),
    /// `u`.
    Update(RowId, Row),
    /// `r`: the row was read by a load or reload; that shows no insert.
    Load(RowId, Row),
    /// `d`, or a tombstone whose delete was compacted away.
    Delete(RowId),
    /// All rows of the table that are older than this change are gone.
    Truncate,
    /// The end of a reload: rows of the table whose position is below `begin` are gone.
    Sweep { begin: Position },
}

impl Change {
    /// There is a row after it.
    pub fn brings_row(&self) -> bool {
        match &self.action {
            Action::Insert(..) | Action::Update(..) | Action::Load(..) => true,
            Action::Delete(_) | Action::Truncate | Action::Sweep { .. } => false,
        }
    }
}

/// All changes of one account in one Postgres transaction, in execution order.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// The transaction's last position in the account's partition.
    pub position: Position,
    /// Commit time, microseconds since 1970, by Postgres' clock.
    pub time_us: i64,
    pub changes: Vec<Change>,
}
