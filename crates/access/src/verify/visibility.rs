//! What a database's snapshot could not see.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use penstock_wire::lsn::CommitLsn;

use crate::rows::{RowId, Table};

/// `pg_current_snapshot()`: which transactions' changes a query sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visibility {
    /// The first transaction id that had not been given out, or whose transaction had not ended, as 64 bits.
    xmax: u64,
    /// Below that: those that had not ended.
    running: Vec<u64>,
}

/// The text is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot: {0:?}; expected xmin:xmax:running as in 10:20:10,14")]
pub struct VisibilityParseError(pub String);

impl FromStr for Visibility {
    type Err = VisibilityParseError;

    fn from_str(text: &str) -> Result<Self, VisibilityParseError> {
        let parse = || {
            let mut parts = text.split(':');
            let (_xmin, xmax, running) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
            let running = running.split(',').filter(|id| !id.is_empty());
            let running = running.map(|id| id.parse().ok()).collect::<Option<Vec<u64>>>()?;
            parts.next().is_none().then_some(Self { xmax, running })
        };
        parse().ok_or_else(|| VisibilityParseError(text.to_owned()))
    }
}

impl Visibility {
    /// Whether a committed transaction's changes were seen. `xid`: its 32 bits, of an id that is less than two thousand
    /// million ids away.
    pub fn sees(&self, xid: u32) -> bool {
        let xmax = u32::try_from(self.xmax & 0xffff_ffff).unwrap_or(0);
        // As Postgres compares ids: by the shorter way round.
        let ahead = xid.wrapping_sub(xmax);
        if ahead < 1 << 31 {
            return false;
        }
        let full = self.xmax.wrapping_sub(u64::from(xmax.wrapping_sub(xid)));
        !self.running.contains(&full)
    }
}

/// Which transaction touched each row last, as the topic tells it.
#[derive(Clone, Debug, Default)]
pub struct Touches {
    rows: BTreeMap<Key, u32>,
    truncates: BTreeMap<Table, CommitLsn>,
}

/// A row, with its account as it stands in keys.
pub type Key = (Arc<str>, Table, RowId);

impl Touches {
    pub fn row(&mut self, key: Key, xid: u32) {
        self.rows.insert(key, xid);
    }

    pub fn truncate(&mut self, table: Table, commit: CommitLsn) {
        let newest = self.truncates.entry(table).or_default();
        *newest = commit.max(*newest);
    }

    /// Whether a transaction has touched the row that a snapshot could not see. `end`: where the WAL ended behind it; the
    /// tables were locked against truncates then.
    pub fn is_newer(&self, key: &Key, visibility: &Visibility, end: CommitLsn) -> bool {
        let truncated = self.truncates.get(&key.1).is_some_and(|commit| *commit >= end);
        truncated || self.rows.get(key).is_some_and(|xid| !visibility.sees(*xid))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_snapshot_sees_what_had_ended() {
        let big: u64 = 5 << 32;
        let wrapped = format!("{}:{}:{}", big - 4, big + 3, big - 2);
        for (snapshot, xid, seen) in [
            ("10:20:10,14", 9, true),
            ("10:20:10,14", 10, false),
            ("10:20:10,14", 11, true),
            ("10:20:10,14", 14, false),
            ("10:20:10,14", 19, true),
            ("10:20:10,14", 20, false),
            ("10:20:10,14", 2_000_000_000, false),
            ("20:20:", 19, true),
            ("20:20:", 20, false),
            (wrapped.as_str(), u32::MAX, true),
            (wrapped.as_str(), u32::MAX - 1, false),
            (wrapped.as_str(), 2, true),
            (wrapped.as_str(), 3, false),
        ] {
            let parsed: Visibility = snapshot.parse().expect("a snapshot");
            assert_eq!(parsed.sees(xid), seen, "{snapshot} {xid}");
        }
        for text in ["", "10:20", "10:20:x", "10:20:1:2"] {
            assert_eq!(text.parse::<Visibility>(), Err(VisibilityParseError(text.to_owned())));
        }
    }

    #[test]
    fn rows_are_newer_where_their_last_transaction_or_a_truncate_could_not_be_seen() {
        let visibility: Visibility = "20:20:".parse().expect("a snapshot");
        let key = |table, id| (Arc::from("a"), table, RowId::Id(Uuid::from_u128(id)));
        let mut touches = Touches::default();
        touches.row(key(Table::Actors, 1), 19);
        touches.row(key(Table::Actors, 2), 20);
        touches.truncate(Table::Flows, CommitLsn::new(50));
        let is_newer = |table, id, end| touches.is_newer(&key(table, id), &visibility, CommitLsn::new(end));
        assert!(!is_newer(Table::Actors, 1, 40));
        assert!(is_newer(Table::Actors, 2, 40));
        assert!(!is_newer(Table::Actors, 3, 40));
        assert!(is_newer(Table::Flows, 1, 50));
        assert!(!is_newer(Table::Flows, 1, 51));
    }
}
