//! How far one source was read in the partition, and whether anything is missing in between.

use penstock_wire::header::Header;
use penstock_wire::position::Position;

use super::claims::Claim;
use crate::rows::Micros;

/// The newest record that was read, and the position that the source is known to have come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) read: Position,
    /// The newest record's timestamp, milliseconds since 1970; None: none was read.
    pub(super) read_at_ms: Option<i64>,
    adopted: Option<Adopted>,
}

/// The source's last position, taken from progress: the records up to it were read past, and compaction has them.
///
/// Nothing is dropped by it. A broker can forget the end of a Kafka transaction that progress speaks of; its records are
/// then written again behind `next_offset`, at positions below the one that was adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Adopted {
    position: Position,
    /// Number of the claim. Only a later one makes it believed, whose clock shows that it was written since `at`: whoever
    /// wrote this one may be gone, and its records with it.
    by: u64,
    at: Micros,
}

/// How a record follows what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// It was read before.
    Repeated,
    /// Nothing is missing before it.
    Next,
    /// Records up to its previous position were not read.
    Hole,
}

impl Chain {
    /// Of a checkpoint. An adopted position is to be believed anew.
    pub(super) fn restored(read: Position, read_at_ms: Option<i64>, adopted: Option<Position>, now: Micros) -> Self {
        let adopted = adopted.map(|position| Adopted { position, by: 0, at: now });
        Self { read, read_at_ms, adopted }
    }

    pub(super) fn link(&self, header: &Header) -> Link {
        if header.position <= self.read {
            Link::Repeated
        } else if header.previous > self.end() {
            Link::Hole
        } else {
            Link::Next
        }
    }

    pub(super) fn advance(&mut self, header: &Header, timestamp_ms: i64) {
        assert!(header.position > self.read, "position {} is not above {}", header.position, self.read);
        (self.read, self.read_at_ms) = (header.position, Some(timestamp_ms));
        self.adopted = self.adopted.filter(|adopted| adopted.position > self.read);
    }

    /// Where the next record has to follow.
    pub(super) fn end(&self) -> Position {
        self.adopted.map_or(self.read, |adopted| adopted.position.max(self.read))
    }

    pub(super) fn adopted(&self) -> Option<Position> {
        self.adopted.map(|adopted| adopted.position)
    }

    /// The newest record is too young for compaction to have taken anything behind it.
    pub(super) fn is_young(&self, now: Micros, compaction_lag_us: i64) -> bool {
        let age = |ms: i64| now.0.saturating_sub(ms.saturating_mul(1000));
        self.read_at_ms.is_some_and(|ms| age(ms) < compaction_lag_us)
    }

    pub(super) fn adopt(&mut self, claim: &Claim, now: Micros) {
        assert!(claim.last > self.end(), "position {} is not above {}", claim.last, self.end());
        self.adopted = Some(Adopted { position: claim.last, by: claim.number, at: now });
    }

    /// A later claim that says less takes an adopted position back. Whether it did.
    pub(super) fn retract(&mut self, claim: &Claim) -> bool {
        let told_more = self.adopted.is_some_and(|adopted| claim.last < adopted.position);
        if told_more {
            self.adopted = None;
        }
        told_more
    }

    /// Every record that the claim speaks of was read, or is known to be compacted.
    pub(super) fn reaches(&self, claim: &Claim) -> bool {
        let since = |adopted: Adopted| claim.number > adopted.by && claim.clock >= adopted.at;
        let believed = |adopted: Adopted| claim.last <= adopted.position && since(adopted);
        claim.last <= self.read || self.adopted.is_some_and(believed)
    }
}
