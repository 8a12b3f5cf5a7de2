//! What a row event means for readers: created, updated, deleted, or moved to another account or key.
//!
//! Pure decisions on one event. A move is a delete where the row was and a create where it is now, because another
//! account's readers must see it leave and appear.

use penstock_wire::account::Account;
use penstock_wire::column::Column;

use crate::fault::RowFault;
use crate::pgoutput::{OldTuple, ReplicaIdentity, Tuple};
use crate::relation::Table;

/// One version of a row, with the account it belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Version<'a> {
    /// Its account.
    pub account: Account<'a>,
    /// Its columns, in the table's order.
    pub columns: &'a [Column<'a>],
    /// Only the columns of the replica identity are known; the others read as NULL and are not.
    pub identity_only: bool,
}

/// What to tell readers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change<'a> {
    /// The row appeared.
    Create(Version<'a>),
    /// The row changed in place. Without `before` its identity did not change and the rest is not known.
    Update { before: Option<Version<'a>>, after: Version<'a> },
    /// The row is gone.
    Delete(Version<'a>),
    /// The row left its account or its key, and appeared under another.
    Move { from: Version<'a>, to: Version<'a> },
    /// Only ignored columns changed.
    Ignored,
}

/// Fills columns that Postgres did not send from the old row, where that is whole.
pub fn fill_unchanged<'a>(new: &mut Tuple<'a>, old: Option<&OldTuple<'a>>) {
    let Some(OldTuple::Full(Tuple(old))) = old else { return };
    for (column, known) in new.0.iter_mut().zip(old) {
        if *column == Column::Unchanged {
            *column = *known;
        }
    }
}

/// An inserted row.
pub fn insert<'a>(table: &Table, new: &'a Tuple<'a>) -> Result<Change<'a>, RowFault> {
    version(table, &new.0, false).map(Change::Create)
}

/// A deleted row.
pub fn delete<'a>(table: &Table, old: &'a OldTuple<'a>) -> Result<Change<'a>, RowFault> {
    old_version(table, old).map(Change::Delete)
}

/// An updated row; `new` has been through [`fill_unchanged`].
pub fn update<'a>(table: &Table, old: Option<&'a OldTuple<'a>>, new: &'a Tuple<'a>) -> Result<Change<'a>, RowFault> {
    let after = version(table, &new.0, false)?;
    let Some(old) = old else {
        // No old row is sent where the identity's columns did not change: which is known only if it is not all of them.
        let unchanged = table.old_rows_tell && table.relation.identity != ReplicaIdentity::Full;
        return if unchanged { Ok(Change::Update { before: None, after }) } else { Err(RowFault::OldRowMissing) };
    };
    let before = old_version(table, old)?;
    if before.account != after.account || key_differs(table, &before, &after) {
        return Ok(Change::Move { from: before, to: after });
    }
    if only_ignored_differ(table, &before, &after) {
        return Ok(Change::Ignored);
    }
    Ok(Change::Update { before: Some(before), after })
}

fn old_version<'a>(table: &Table, old: &'a OldTuple<'a>) -> Result<Version<'a>, RowFault> {
    match old {
        OldTuple::Identity(_) if !table.old_rows_tell || table.relation.identity == ReplicaIdentity::Full => {
            Err(RowFault::OldRowMissing)
        }
        OldTuple::Identity(Tuple(columns)) => version(table, columns, true),
        // A partition sends what its own identity holds, as if it were the whole row of its root.
        OldTuple::Full(Tuple(columns)) if table.partial.iter().any(|sent| only(sent, columns)) => {
            Err(RowFault::OldRowMissing)
        }
        OldTuple::Full(Tuple(columns)) => version(table, columns, false),
    }
}

/// Every column beyond those that were sent reads as NULL.
fn only(sent: &[bool], columns: &[Column<'_>]) -> bool {
    sent.iter().zip(columns).all(|(sent, column)| *sent || *column == Column::Null)
}

fn version<'a>(table: &Table, columns: &'a [Column<'a>], identity_only: bool) -> Result<Version<'a>, RowFault> {
    let expected = table.relation.columns.len();
    if columns.len() != expected {
        return Err(RowFault::Columns { expected, found: columns.len() });
    }
    let account = match columns[table.account] {
        Column::Null => Account::NONE,
        Column::Text(text) => Account::from_column(Some(text))?,
        Column::Unchanged | Column::Binary(_) => return Err(RowFault::AccountUnknown),
    };
    Ok(Version { account, columns, identity_only })
}

fn key_differs(table: &Table, before: &Version<'_>, after: &Version<'_>) -> bool {
    table.key.iter().any(|index| before.columns[*index] != after.columns[*index])
}

fn only_ignored_differ(table: &Table, before: &Version<'_>, after: &Version<'_>) -> bool {
    if table.ignored.is_empty() || before.identity_only {
        return false;
    }
    let pairs = before.columns.iter().zip(after.columns);
    table.ignored.iter().zip(pairs).all(|(ignored, (before, after))| *ignored || before == after)
}
