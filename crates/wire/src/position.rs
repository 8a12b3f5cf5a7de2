//! Where a record stands in the order of one source.

use std::fmt;

use crate::lsn::CommitLsn;

/// (epoch, commit LSN, seq): strictly increasing per source in every partition. Row LSNs are neither unique nor
/// monotonic, so nothing is ever ordered by them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Raised whenever continuity with what came before is not certain; 1 at the first start.
    pub epoch: u32,
    /// The commit record of the transaction.
    pub commit_lsn: CommitLsn,
    /// Place within the transaction; see [`Seq`].
    pub seq: Seq,
}

/// Place of a record within its transaction: `8 × (1 + event index) + part`.
///
/// Events are Insert, Update, Delete, each relation of a Truncate and each logical Message, counted as received and
/// before any filter, so that a change of configuration never renumbers what follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// Which of the records that one event may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The record itself, or a control record.
    Record,
    /// The tombstone that follows a delete under the same key.
    Tombstone,
    /// After an account move or a change of key: the record in the new partition or under the new key.
    Arrival,
}

impl Seq {
    /// The first seq of event `index` (0-based).
    pub const fn of_event(index: u64, part: Part) -> Self {
        let part = match part {
            Part::Record => 0,
            Part::Tombstone => 1,
            Part::Arrival => 2,
        };
        Self(8 * (1 + index) + part)
    }

    /// Whether a tombstone stands here.
    pub const fn is_tombstone(self) -> bool {
        self.0 % 8 == 1
    }

    /// Whether the record is what an account move or a change of key left: a row that was updated, not inserted.
    pub const fn is_arrival(self) -> bool {
        self.0 % 8 == 2
    }
}

impl Position {
    /// Before everything: the previous position of a partition's first record.
    pub const ZERO: Self = Self { epoch: 0, commit_lsn: CommitLsn::new(0), seq: Seq(0) };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.epoch, self.commit_lsn, self.seq.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_epoch_then_commit_then_seq() {
        let at = |epoch, commit, seq| Position { epoch, commit_lsn: CommitLsn::new(commit), seq: Seq(seq) };
        assert!(at(1, 9, 9) < at(2, 0, 0));
        assert!(at(1, 8, 99) < at(1, 9, 8));
        assert!(at(1, 9, 8) < at(1, 9, 9));
        assert!(Position::ZERO < at(1, 0, 0));
    }

    #[test]
    fn parts_of_an_event_stand_between_it_and_the_next() {
        assert_eq!(Seq::of_event(0, Part::Record), Seq(8));
        assert_eq!(Seq::of_event(0, Part::Tombstone), Seq(9));
        assert_eq!(Seq::of_event(0, Part::Arrival), Seq(10));
        assert_eq!(Seq::of_event(1, Part::Record), Seq(16));
        for (part, arrives) in [(Part::Record, false), (Part::Tombstone, false), (Part::Arrival, true)] {
            assert_eq!(Seq::of_event(5, part).is_arrival(), arrives, "{part:?}");
        }
    }
}
