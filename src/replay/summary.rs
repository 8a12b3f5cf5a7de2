//! What was read, counted: for `--count`, and for the line that says how much was left out.

use std::collections::{BTreeMap, BTreeSet};

use penstock_wire::event::Op;
use penstock_wire::header::Header;
use penstock_wire::position::Position;
use serde::Serialize;

use super::line::{At, Line};

/// Everything that was counted. Serialised, it is the answer of `--count`.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Records that were asked for, of whatever kind.
    pub records: u64,
    pub kinds: BTreeMap<&'static str, u64>,
    /// Changes of rows by operation.
    pub ops: BTreeMap<&'static str, u64>,
    /// Changes of rows by table and operation.
    pub tables: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// Different accounts among the changes of rows.
    pub accounts: usize,
    /// Records that were not asked for, duplicates excepted.
    pub left_out: u64,
    /// Records at or below a position of the same source and partition that was read before: dropped.
    pub duplicates: u64,
    /// Records whose predecessor in their partition was not read: it was compacted away, or lost.
    pub holes: u64,
    pub partitions: BTreeMap<i32, PartitionSummary>,
    #[serde(skip)]
    seen_accounts: BTreeSet<String>,
    /// Each record names its predecessor, and positions rise.
    #[serde(skip)]
    chained: bool,
}

/// What was read of a partition.
#[derive(Debug, Default, Serialize)]
pub struct PartitionSummary {
    /// All that was read of it, whether it was asked for or not.
    pub records: u64,
    pub first_offset: Option<i64>,
    pub last_offset: Option<i64>,
    /// By source number: the newest position.
    pub last_positions: BTreeMap<u16, At>,
    #[serde(skip)]
    newest: BTreeMap<u16, Position>,
    /// Where there is no chain: every position.
    #[serde(skip)]
    seen: BTreeSet<(u16, Position)>,
}

impl Summary {
    /// Of a topic whose records are chained, or of dead letters: those of one transaction come in any order.
    pub fn new(chained: bool) -> Self {
        Self { chained, ..Self::default() }
    }

    /// A record was read. False if it is a duplicate: then it must not be shown.
    ///
    /// Reading rule 1: a position at or below the newest one of its source and partition was there before.
    pub fn read(&mut self, partition: i32, offset: i64, header: Option<&Header>) -> bool {
        let entry = self.partitions.entry(partition).or_default();
        entry.records += 1;
        entry.first_offset.get_or_insert(offset);
        entry.last_offset = Some(offset);
        let Some(header) = header else { return true };
        let newest = entry.newest.get(&header.source).copied();
        let repeated = match self.chained {
            true => newest.is_some_and(|newest| header.position <= newest),
            false => !entry.seen.insert((header.source, header.position)),
        };
        if repeated {
            self.duplicates += 1;
            return false;
        }
        if !self.chained && newest.is_some_and(|newest| header.position < newest) {
            return true;
        }
        if self.chained && newest.is_some_and(|newest| header.previous != newest) {
            self.holes += 1;
        }
        entry.newest.insert(header.source, header.position);
        entry.last_positions.insert(header.source, At(header.position));
        true
    }

    /// A record was asked for. Its account is remembered only for a count: whoever follows a topic for months needs none.
    pub fn took(&mut self, line: &Line, count: bool) {
        self.records += 1;
        *self.kinds.entry(line.content.kind()).or_default() += 1;
        let Some(op) = line.content.op().and_then(Op::from_letter).map(Op::as_str) else { return };
        *self.ops.entry(op).or_default() += 1;
        let table = line.content.table().unwrap_or_default();
        *self.tables.entry(table).or_default().entry(op).or_default() += 1;
        let account = line.account.as_ref().filter(|account| count && !self.seen_accounts.contains(*account));
        if let Some(account) = account {
            self.seen_accounts.insert(account.clone());
            self.accounts = self.seen_accounts.len();
        }
    }

    /// Records that could not be decoded.
    pub fn undecodable(&self) -> u64 {
        self.kinds.get("undecodable").copied().unwrap_or_default()
    }

    /// In words.
    pub fn text(&self) -> String {
        let Self { records, duplicates, left_out, .. } = self;
        let undecodable = match self.undecodable() {
            0 => String::new(),
            count => format!(", {count} undecodable"),
        };
        format!("{records} records{undecodable}; {left_out} others left out, {duplicates} duplicates dropped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_wire::lsn::CommitLsn;
    use penstock_wire::position::Seq;

    fn header(source: u16, previous: u64, seq: u64) -> Header {
        let at = |seq| Position { epoch: 1, commit_lsn: CommitLsn::new(7), seq: Seq(seq) };
        Header { source, position: at(seq), previous: at(previous), ..Header::default() }
    }

    #[test]
    fn dead_letters_come_in_any_order_and_each_position_once() {
        let mut summary = Summary::new(false);
        for (source, seq, fresh) in
            [(1, 24, true), (1, 8, true), (1, 24, false), (2, 8, true), (1, 8, false), (1, 16, true)]
        {
            assert_eq!(summary.read(0, 5, Some(&header(source, 0, seq))), fresh, "{source} {seq}");
        }
        assert_eq!((summary.duplicates, summary.holes), (2, 0));
        let last = &summary.partitions[&0].last_positions;
        assert_eq!(last.values().map(|at| at.0.seq.0).collect::<Vec<_>>(), [24, 8]);
    }

    #[test]
    fn positions_that_were_there_are_dropped_per_source_and_partition() {
        let mut summary = Summary::new(true);
        for (partition, source, previous, seq, fresh) in [
            (0, 1, 0, 8, true),
            (0, 1, 8, 16, true),
            (0, 1, 8, 16, false),
            (0, 1, 0, 8, false),
            (0, 2, 0, 8, true),
            (1, 1, 0, 8, true),
            (0, 1, 16, 24, true),
        ] {
            assert_eq!(
                summary.read(partition, 5, Some(&header(source, previous, seq))),
                fresh,
                "{partition} {source} {seq}"
            );
        }
        assert_eq!((summary.duplicates, summary.holes), (2, 0));
        assert_eq!(summary.partitions[&0].records, 6);
    }

    #[test]
    fn a_record_whose_predecessor_was_not_read_stands_behind_a_hole() {
        let mut summary = Summary::new(true);
        summary.read(0, 100, Some(&header(1, 800, 808)));
        assert_eq!(summary.holes, 0, "where the reading began nothing is known of what came before");
        summary.read(0, 102, Some(&header(1, 816, 824)));
        assert_eq!(summary.holes, 1);
    }
}
