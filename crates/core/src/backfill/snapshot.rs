//! What a snapshot sees, by transaction id.
//!
//! A commit record can be in the WAL, and be delivered, before its transaction is visible to new snapshots; with synchronous
//! replication for long. `pg_current_snapshot()` tells which transactions a chunk cannot have seen.

use std::collections::BTreeSet;

/// `pg_current_snapshot()`: transaction ids of 64 bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The first id that was not yet given, or not yet ended, when it was taken: nothing from here on is seen.
    xmax: u64,
    /// Those below that still ran.
    running: BTreeSet<u64>,
}

/// The text is not a snapshot's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the text of a snapshot: xmin:xmax:running,…")]
pub struct NotASnapshot;

impl std::str::FromStr for Snapshot {
    type Err = NotASnapshot;

    fn from_str(text: &str) -> Result<Self, NotASnapshot> {
        let mut parts = text.split(':');
        let mut part = || parts.next().ok_or(NotASnapshot);
        let number = |text: &str| text.parse::<u64>().map_err(|_| NotASnapshot);
        let (xmin, xmax, list) = (number(part()?)?, number(part()?)?, part()?);
        let running = list.split(',').filter(|id| !id.is_empty()).map(number).collect::<Result<BTreeSet<_>, _>>()?;
        let within = running.iter().all(|id| (xmin..xmax).contains(id));
        if xmin > xmax || !within || parts.next().is_some() { Err(NotASnapshot) } else { Ok(Self { xmax, running }) }
    }
}

impl Snapshot {
    /// Whether it sees what the transaction did, which has committed. An open id at or above `xmax` is not listed as running.
    pub fn sees(&self, xid: u32) -> bool {
        let id = self.widen(xid);
        id < self.xmax && !self.running.contains(&id)
    }

    /// Transactions that still ran and have an id below `below`.
    pub fn running_below(&self, below: u64) -> impl Iterator<Item = u64> {
        self.running.range(..below).copied()
    }

    /// The id of 64 bits that ends in `xid` and is nearest to the snapshot: ids in use are never 2³¹ apart.
    pub fn widen(&self, xid: u32) -> u64 {
        const ROUND: u64 = 1 << 32;
        const HALF: u64 = 1 << 31;
        let id = (self.xmax & !(ROUND - 1)) | u64::from(xid);
        if id > self.xmax.saturating_add(HALF) && id >= ROUND {
            id - ROUND
        } else if id.saturating_add(HALF) < self.xmax {
            id.saturating_add(ROUND)
        } else {
            id
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    #[test]
    fn sees_what_had_ended() {
        let snapshot = snapshot("10:20:10,14");
        for (xid, seen) in [(9, true), (10, false), (11, true), (14, false), (19, true), (20, false), (25, false)] {
            assert_eq!(snapshot.sees(xid), seen, "{xid}");
        }
        assert_eq!(snapshot.running_below(14).collect::<Vec<_>>(), [10]);
    }

    #[test]
    fn ids_wrap_around() {
        let round = 1_u64 << 32;
        let late = snapshot(&format!("{}:{}:", round * 2 - 5, round * 2 - 5));
        assert_eq!(late.widen(u32::MAX - 10), round * 2 - 11);
        assert_eq!(late.widen(3), round * 2 + 3, "given after the snapshot, behind the wrap");
        assert!(!late.sees(3));
        let early = snapshot(&format!("{}:{}:{}", round - 1, round + 7, round - 1));
        assert_eq!(early.widen(u32::MAX), round - 1);
        assert!(!early.sees(u32::MAX) && early.sees(u32::MAX - 1) && early.sees(6) && !early.sees(7));
        assert_eq!(snapshot("3:9:").widen(u32::MAX), u64::from(u32::MAX), "there is nothing below the first round");
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for text in ["", "1", "1:2", "2:1:", "1:5:9", "1:5:x", "1:5:2:", "5:9:2", "a:9:"] {
            assert_eq!(text.parse::<Snapshot>(), Err(NotASnapshot), "{text:?}");
        }
    }
}
