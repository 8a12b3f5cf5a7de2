//! What progress records of one source say about the partition, and which of it was reached.

use std::collections::VecDeque;
use std::time::Duration;

use penstock_wire::lsn::{CommitLsn, EndLsn};
use penstock_wire::position::Position;
use penstock_wire::progress::Progress;

use super::micros;
use crate::limits::CLAIMS_PENDING_MAX;
use crate::rows::Micros;

/// One progress record, as it concerns the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Counts the source's progress records as they came, from 1.
    pub(super) number: u64,
    pub(super) epoch: u32,
    pub(super) end_lsn: EndLsn,
    through: CommitLsn,
    /// The source's newest record in the partition.
    pub(super) last: Position,
    /// The offset behind it; 0 if there is none.
    pub(super) next_offset: i64,
    /// Postgres' clock that `end_lsn` has passed.
    pub(super) clock: Micros,
    /// When it was read, by this reader's clock.
    received: Micros,
    pub(super) load_complete: bool,
}

impl Claim {
    /// None: the record has no entry for the partition.
    pub(super) fn new(progress: &Progress, partition: u32, number: u64, now: Micros) -> Option<Self> {
        let entry = progress.partitions.iter().find(|entry| entry.partition == partition)?;
        Some(Self {
            number,
            epoch: progress.epoch,
            end_lsn: progress.end_lsn,
            through: progress.through.commit_lsn,
            last: entry.last,
            next_offset: entry.next_offset,
            clock: Micros(progress.postgres_clock_us),
            received: now,
            load_complete: progress.load_complete,
        })
    }

    /// The transaction is delivered in full.
    pub(super) fn covers(&self, (epoch, commit): (u32, CommitLsn)) -> bool {
        epoch < self.epoch || (epoch == self.epoch && self.end_lsn.covers(commit))
    }

    /// The transaction is on its way in parts.
    pub(super) fn splits(&self, (epoch, commit): (u32, CommitLsn)) -> bool {
        let delivering = self.through != CommitLsn::default() && !self.end_lsn.covers(self.through);
        delivering && epoch == self.epoch && commit == self.through
    }

    /// A reader may stand behind every record that it speaks of only from this offset on.
    pub(super) fn is_passed_at(&self, offset: i64) -> bool {
        self.next_offset <= offset
    }
}

/// The claims that matter: the newest, the newest that was reached, and those between them.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    newest: Option<Claim>,
    pending: VecDeque<Claim>,
    reached: Option<Claim>,
    count: u64,
    /// The source's captured tables, as schema and name.
    tables: Vec<(String, String)>,
    /// Counts how often these were others.
    tables_changed: u64,
    /// A checkpoint said that rows from before the slot were missing.
    restored_unloaded: bool,
}

impl Claims {
    /// None: the record has no entry for the partition, and is not taken.
    pub(super) fn take(&mut self, progress: &Progress, partition: u32, now: Micros) -> Option<&Claim> {
        let claim = Claim::new(progress, partition, self.count + 1, now)?;
        self.count = claim.number;
        let pins = || progress.key_pins.iter().map(|pin| (pin.schema.as_str(), pin.table.as_str()));
        if !self.tables.iter().map(|(schema, table)| (schema.as_str(), table.as_str())).eq(pins()) {
            self.tables = pins().map(|(schema, table)| (schema.to_owned(), table.to_owned())).collect();
            self.tables_changed += 1;
        }
        if let Some(before) = self.newest.take() {
            self.set_aside(before, &claim);
        }
        Some(self.newest.insert(claim))
    }

    /// Of claims with the same reading of the clock the first says enough: it is reached first.
    fn set_aside(&mut self, before: Claim, next: &Claim) {
        // A bridge that has begun again may know less than the one before it. What that one said need not come to be.
        if next.last < before.last {
            self.pending.clear();
            return;
        }
        let same = |of: &Claim| of.clock == before.clock && of.load_complete == before.load_complete;
        let is_reached = self.reached.as_ref().is_some_and(|reached| reached.number >= before.number || same(reached));
        if is_reached || self.pending.back().is_some_and(same) {
            return;
        }
        if self.pending.len() == CLAIMS_PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back(before);
    }

    /// Moves on to the newest claim that was reached.
    pub(super) fn settle(&mut self, reaches: impl Fn(&Claim) -> bool) {
        if let Some(newest) = self.newest.as_ref().filter(|newest| reaches(newest)) {
            if self.reached.as_ref() != Some(newest) {
                self.reached = Some(newest.clone());
            }
            self.pending.clear();
            return;
        }
        let behind = self.pending.iter().position(|claim| !reaches(claim)).unwrap_or(self.pending.len());
        self.reached = self.pending.drain(..behind).next_back().or(self.reached.take());
    }

    /// What was reached turned out to be wrong.
    pub(super) fn forget_reached(&mut self) {
        self.reached = None;
    }

    /// The reader's clock was set back: what came is as old as it was.
    pub(super) fn clock_went_back(&mut self, by_us: i64) {
        let claims = self.newest.iter_mut().chain(&mut self.pending).chain(&mut self.reached);
        claims.for_each(|claim| claim.received.0 = claim.received.0.saturating_sub(by_us));
    }

    pub(super) fn newest(&self) -> Option<&Claim> {
        self.newest.as_ref()
    }

    pub(super) fn reached(&self) -> Option<&Claim> {
        self.reached.as_ref()
    }

    /// Those that were not reached, in the order in which they came.
    pub(super) fn open(&self) -> impl Iterator<Item = &Claim> {
        let of_newest = self.newest.iter().filter(|newest| self.reached.as_ref() != Some(newest));
        self.pending.iter().chain(of_newest)
    }

    pub(super) fn tables(&self) -> &[(String, String)] {
        &self.tables
    }

    pub(super) fn tables_changed(&self) -> u64 {
        self.tables_changed
    }

    /// The state is that of this instant, or of a later one.
    pub(super) fn as_of(&self) -> Option<Micros> {
        self.reached.as_ref().map(|claim| claim.clock)
    }

    /// From this instant on the source counts as silent. A clock that is ahead of the reader's gains nothing: a claim is no
    /// younger than its arrival.
    pub(super) fn stale_at(&self, stale_after: Duration) -> Option<Micros> {
        let since = self.reached.as_ref().map(|claim| claim.clock.0.min(claim.received.0))?;
        Some(Micros(since.saturating_add(micros(stale_after))))
    }

    /// Rows from before the slot are in the topic, as far as was read, and as is known today.
    pub(super) fn is_loaded(&self) -> bool {
        let read = self.reached.as_ref().map_or(!self.restored_unloaded, |claim| claim.load_complete);
        read && self.newest.as_ref().is_none_or(|claim| claim.load_complete)
    }

    /// Of a checkpoint: rows from before the slot were missing then.
    pub(super) fn restored(is_loaded: bool) -> Self {
        Self { restored_unloaded: !is_loaded, ..Self::default() }
    }
}
