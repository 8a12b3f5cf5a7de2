//! A broker's logs: Kafka transactions that stay open, end or are forgotten, and compaction.

use std::collections::{BTreeMap, BTreeSet};

use penstock_access::partition::{Isolation, Kind, Record};
use penstock_access::rows::Micros;
use penstock_wire::progress::Progress;

use super::database::Op;
use crate::stream::{LAG, RETENTION};

pub const PARTITIONS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Open,
    Committed,
    Aborted,
}

#[derive(Clone, Debug)]
struct Stored {
    transaction: u64,
    key: String,
    record: Record<Op>,
    /// Of a tombstone: when compaction first passed it.
    cleaned_at: Option<Micros>,
}

/// One partition's log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    stored: Vec<Stored>,
    end: i64,
    fates: BTreeMap<u64, Fate>,
    pub is_compacted: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Broker {
    pub logs: [Log; PARTITIONS],
    pub progress: Vec<Progress>,
    transactions: u64,
}

impl Broker {
    pub fn begin(&mut self) -> u64 {
        self.transactions += 1;
        self.transactions
    }

    /// The newest progress of each source, as compaction leaves it.
    pub fn newest_progress(&self) -> Vec<Progress> {
        let by_source: BTreeMap<u16, &Progress> = self.progress.iter().map(|one| (one.source_number, one)).collect();
        by_source.into_values().cloned().collect()
    }
}

impl Log {
    /// The record's offset.
    pub fn append(&mut self, transaction: u64, key: String, mut record: Record<Op>) -> i64 {
        record.offset = self.end;
        self.end += 1;
        self.fates.entry(transaction).or_insert(Fate::Open);
        self.stored.push(Stored { transaction, key, record, cleaned_at: None });
        self.end - 1
    }

    /// Writes the marker that ends a transaction, if it is open here.
    pub fn decide(&mut self, transaction: u64, fate: Fate) {
        if let Some(open) = self.fates.get_mut(&transaction).filter(|fate| **fate == Fate::Open) {
            *open = fate;
            self.end += 1;
        }
    }

    fn fate(&self, stored: &Stored) -> Fate {
        self.fates[&stored.transaction]
    }

    fn stable_end(&self) -> i64 {
        let open = self.stored.iter().find(|stored| self.fate(stored) == Fate::Open);
        open.map_or(self.end, |stored| stored.record.offset)
    }

    pub fn end(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadCommitted => self.stable_end(),
            Isolation::ReadUncommitted => self.end,
        }
    }

    /// Up to so many records from an offset on.
    pub fn fetch(&self, from: i64, isolation: Isolation, records: usize) -> Vec<Record<Op>> {
        let end = self.end(isolation);
        let readable = self.stored.iter().filter(|stored| {
            let handed_out = isolation == Isolation::ReadUncommitted || self.fate(stored) == Fate::Committed;
            (from..end).contains(&stored.record.offset) && handed_out
        });
        readable.take(records).map(|stored| stored.record.clone()).collect()
    }

    /// Compacts up to a share (of 256) of what may be compacted: what stands before the first open transaction and the
    /// first record that is too young.
    pub fn compact(&mut self, now: Micros, share: u8) {
        let old = |stored: &Stored| {
            now.0 - stored.record.timestamp_ms * 1000 > i64::try_from(LAG.as_micros()).expect("a short time")
        };
        let stable = self.stable_end();
        let dirty = self.stored.iter().take_while(|stored| old(stored) && stored.record.offset < stable).count();
        let cleaned = (dirty * (usize::from(share) + 1)).div_ceil(256);
        let rest = self.stored.split_off(cleaned);
        let prefix = std::mem::take(&mut self.stored);
        let before = prefix.len();
        let mut later = BTreeSet::new();
        let mut kept: Vec<Stored> = Vec::new();
        for mut stored in prefix.into_iter().rev() {
            let aborted = self.fate(&stored) == Fate::Aborted;
            if aborted || !later.insert(stored.key.clone()) {
                continue;
            }
            if matches!(stored.record.kind, Kind::Tombstone(_)) {
                let since = stored.cleaned_at.get_or_insert(now).0;
                if now.0 - since > i64::try_from(RETENTION.as_micros()).expect("a short time") {
                    continue;
                }
            }
            kept.push(stored);
        }
        kept.reverse();
        self.is_compacted |= kept.len() < before;
        kept.extend(rest);
        self.stored = kept;
    }

    /// Loses a committed record, but not a source's first, behind which nothing would tell.
    pub fn lose(&mut self, index: usize) {
        let mut met = BTreeSet::new();
        let mut candidates = Vec::new();
        for (place, stored) in self.stored.iter().enumerate() {
            let is_committed = self.fate(stored) == Fate::Committed;
            if is_committed && !met.insert(stored.record.header.source) {
                candidates.push(place);
            }
        }
        if !candidates.is_empty() {
            self.stored.remove(candidates[index % candidates.len()]);
            self.is_compacted = true;
        }
    }
}
