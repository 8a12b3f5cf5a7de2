//! One source's share of the partition: what was read of it, what is held, what was applied, what is in doubt.

use penstock_wire::control::ControlKind;
use penstock_wire::position::Position;

use super::Isolation;
use super::chain::Chain;
use super::claims::{Claim, Claims};
use super::doubts::Doubts;
use super::record::{Kind, Record};
use super::transaction::Held;
use crate::rows::Micros;

#[derive(Clone, Debug)]
pub(super) struct Source<T> {
    pub(super) chain: Chain,
    /// The last transaction that was given out ended here …
    pub(super) applied: Position,
    /// … with a record of this timestamp.
    pub(super) applied_at_ms: Option<i64>,
    pub(super) held: Held<T>,
    pub(super) claims: Claims,
    pub(super) doubts: Doubts,
    /// A record that may be this source's could not be placed since its last one: the hole that it leaves is told already.
    pub(super) excused: bool,
    /// Up to here records were missing, whatever took them. Where compaction did, what made them go follows before the end.
    pub(super) missing_to: Position,
}

impl<T> Default for Source<T> {
    fn default() -> Self {
        Self::new(Chain::default())
    }
}

impl<T> Source<T> {
    pub(super) fn new(chain: Chain) -> Self {
        Self {
            applied: chain.read,
            applied_at_ms: chain.read_at_ms,
            chain,
            held: Held::new(),
            claims: Claims::default(),
            doubts: Doubts::default(),
            excused: false,
            missing_to: Position::ZERO,
        }
    }

    /// The transaction that the next record ends by being of another, if there is one.
    pub(super) fn end_before(&mut self, next: &Record<T>, isolation: Isolation) -> Option<Held<T>> {
        let position = next.header.position;
        if self.held.commit().is_none_or(|commit| commit == (position.epoch, position.commit_lsn)) {
            return None;
        }
        let mut held = self.release();
        match isolation {
            Isolation::ReadCommitted => {}
            // The writer tells what it wrote last before this record. What was read above that was aborted, and not written
            // again; up to that it is whole.
            Isolation::ReadUncommitted => held.cut_above(next.header.previous),
        }
        if let Some(begin) = begin_of_epoch(next) {
            held.cut_above(begin);
        }
        (!held.is_empty()).then_some(held)
    }

    /// Takes the next record. The transaction, if this was its last one.
    pub(super) fn hold(&mut self, record: Record<T>) -> Option<Held<T>> {
        let position = record.header.position;
        self.held.flagged = record.header.end_of_transaction;
        self.held.push(record);
        let in_parts = |claim: &Claim| claim.splits((position.epoch, position.commit_lsn));
        let waits = !self.held.flagged || self.claims.newest().is_some_and(in_parts);
        (!waits).then(|| self.release())
    }

    /// The held transaction, if progress says that nothing more of it can come.
    pub(super) fn end_by_progress(&mut self) -> Option<Held<T>> {
        let commit = self.held.commit()?;
        let reached = self.claims.reached().is_some_and(|claim| claim.covers(commit));
        // A flag says that it is whole here, progress that it is whole everywhere.
        let newest = self.held.flagged && self.claims.newest().is_some_and(|claim| !claim.splits(commit));
        (reached || newest).then(|| self.release())
    }

    fn release(&mut self) -> Held<T> {
        std::mem::replace(&mut self.held, Held::new())
    }

    /// A transaction was given out.
    pub(super) fn applied(&mut self, position: Position, time_ms: i64) {
        assert!(position > self.applied, "position {position} is not above {}", self.applied);
        (self.applied, self.applied_at_ms) = (position, Some(time_ms));
    }

    /// Where and when a reader that has applied what this one has would go on: behind this position.
    pub(super) fn resting_place(&self) -> (Position, Option<i64>) {
        match self.held.first() {
            None => (self.chain.read, self.chain.read_at_ms),
            // What was written before the held records was read past, or compacted.
            Some(first) => (self.applied.max(first.header.previous), self.applied_at_ms),
        }
    }

    /// Rows of the account may be missing.
    pub(super) fn is_unproven(&self, account: &str) -> bool {
        let proven = |after| self.doubts.is_proven(account, after, self.claims.tables());
        if self.doubts.unproven.is_some_and(|after| !proven(after)) {
            return true;
        }
        let Some(newest) = self.claims.newest() else { return false };
        // Rows from before the slot are missing, but not those of an account that was read since.
        let opened = Position { epoch: newest.epoch, ..Position::ZERO };
        !self.claims.is_loaded() && !self.doubts.is_proven_alone(account, opened, self.claims.tables())
    }

    /// The source's rows were told up to an instant that is young enough.
    pub(super) fn is_fresh(&self, now: Micros, stale_after: std::time::Duration) -> bool {
        self.claims.stale_at(stale_after).is_some_and(|at| now < at)
    }
}

/// The last position of the epoch before that is valid, if the record begins an epoch and there was one.
pub(super) fn begin_of_epoch<T>(record: &Record<T>) -> Option<Position> {
    match &record.kind {
        Kind::Control(control) if control.kind == ControlKind::Epoch => control.begin,
        Kind::Control(_) | Kind::Row(_) | Kind::Tombstone(_) | Kind::Skipped | Kind::Undecodable { .. } => None,
    }
}
