//! One change of one row, as an envelope tells it.

use crate::column::Column;
use crate::lsn::{CommitLsn, Lsn};
use crate::position::Seq;

/// What happened to the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `c`: it was inserted, or arrived by a move.
    Create,
    /// `u`: it was updated in place.
    Update,
    /// `d`: it was deleted, or left by a move.
    Delete,
    /// `r`: it was read by a backfill.
    Read,
}

/// The Postgres transaction an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The top-level transaction id.
    pub xid: u32,
    /// 1-based place among the envelopes of the commit, over all partitions, without holes.
    pub total_order: u64,
    /// The same among the table's envelopes.
    pub data_collection_order: u64,
}

/// Everything an envelope tells beyond what its plan knows.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// What happened.
    pub op: Op,
    /// The old row, with a slot for every column of the relation message. Columns that are not known are NULL.
    pub before: Option<&'a [Column<'a>]>,
    /// The new row. [`Column::Unchanged`] is written as null and listed in `unchanged`.
    pub after: Option<&'a [Column<'a>]>,
    /// When Postgres committed, in microseconds since 1970.
    pub commit_time_us: i64,
    /// The commit.
    pub commit_lsn: CommitLsn,
    /// The record's place in the commit.
    pub seq: Seq,
    /// `None` for backfilled rows, and only for them: they belong to no transaction.
    pub transaction: Option<Transaction>,
    /// Where the change stands in the WAL; told, never ordered by.
    pub row_lsn: Option<Lsn>,
}

impl Op {
    /// The letter in the envelope.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
            Self::Read => "r",
        }
    }

    /// The operation of a letter.
    pub fn from_letter(letter: &str) -> Option<Self> {
        [Self::Create, Self::Update, Self::Delete, Self::Read].into_iter().find(|op| op.as_str() == letter)
    }
}
