//! When groups and parts close, and when the bridge stops.

use std::time::Duration;

use super::Bridge;
use super::frames::Stream;
use crate::group::Filled;
use crate::interface::{Action, Stop};
use crate::oversize::Suspect;
use crate::resume::progress_record;

impl Bridge {
    /// Ships, closes and commits as far as what has come in allows.
    pub(super) fn advance(&mut self, now: Duration) {
        if self.stopped {
            return;
        }
        if let Some(end) = self.ledger.take_commit() {
            let progress = progress_record(&self.closing, end);
            self.actions.push_back(Action::Commit(Box::new(progress)));
            if !self.waiting.is_empty() {
                self.watch.produced(true, now);
            }
            self.actions.extend(self.waiting.drain(..).map(Action::Produce));
        }
        if self.ledger.is_busy() {
            return;
        }
        if self.halting.is_some() {
            return self.halt(now);
        }
        match &self.stream {
            Stream::Within(_) if self.apart => self.close(now),
            Stream::Within(open) if open.events > 0 && self.is_part_due(now) => self.close_part(now),
            Stream::Between if self.may_close(now) => self.close(now),
            Stream::Between if self.is_finished() => self.stop(Stop::Shutdown),
            Stream::Within(_) | Stream::Between | Stream::Skipping { .. } => {}
        }
    }

    fn may_close(&self, now: Duration) -> bool {
        let mut limits = self.settings.limits;
        if let Some(suspect) = self.pending_suspect() {
            limits.group_bytes_max = limits.group_bytes_max.min(suspect.bytes_max);
        }
        let group = Filled {
            size: self.ledger.open_size(),
            ahead: self.ledger.open_end().end_lsn > self.ledger.committed_end(),
            ended: !self.wants_wal(),
            last: self.shutting_down,
        };
        self.timing.closes(group, &limits, now)
    }

    /// Whether the group closes in the middle of its last transaction.
    fn is_part_due(&self, now: Duration) -> bool {
        let Some(age_max) = self.settings.limits.part_age_max else { return false };
        let (_, bytes, _) = self.ledger.open_size();
        self.watch.age(now).is_some_and(|age| age >= age_max)
            || self.pending_suspect().is_some_and(|suspect| bytes >= suspect.bytes_max)
    }

    fn pending_suspect(&self) -> Option<Suspect> {
        self.suspect.filter(|suspect| !self.ledger.durable().covers(suspect.commit_lsn))
    }

    fn close(&mut self, now: Duration) {
        self.ship(now);
        self.closing.clone_from(&self.progress);
        self.ledger.close();
        self.closed(now);
    }

    /// The youngest record of each partition stays behind, so that the flag will stand on the last.
    fn close_part(&mut self, now: Duration) {
        self.ship(now);
        let Stream::Within(open) = &self.stream else { unreachable!("a part ends within a transaction") };
        if self.watch.age(now).is_none() {
            // Nothing but what is held back: more has to come.
            return;
        }
        let through = self.last_commit(open);
        self.watch.sealed(open.begin, self.ledger.open_size().1.saturating_sub(open.bytes_before));
        self.closing.clone_from(&self.progress);
        self.ledger.close_part(through);
        self.outlet.carry_over(&mut self.ledger);
        self.closed(now);
    }

    fn closed(&mut self, now: Duration) {
        self.timing.closed(now);
        self.watch.closed();
        self.apart = false;
        if let Stream::Within(open) = &mut self.stream {
            open.bytes_before = 0;
            self.timing.transaction(now);
        }
        // A group without records, a heartbeat, has nothing to wait for.
        self.advance(now);
    }

    fn is_finished(&self) -> bool {
        self.shutting_down && self.ledger.open_end().end_lsn == self.ledger.durable()
    }

    pub(super) fn ship(&mut self, now: Duration) {
        let Some(batch) = self.outlet.ship() else { return };
        self.watch.produced(self.ledger.is_busy(), now);
        if self.ledger.is_closing() {
            self.waiting.push_back(batch);
        } else {
            self.actions.push_back(Action::Produce(batch));
        }
    }

    /// Stops at a transaction that must not be delivered. As long as nothing of it is in the open group, that is delivered
    /// first; where others share the group with its beginning, a new session has to deliver them.
    fn halt(&mut self, now: Duration) {
        if !self.ledger.is_settled() {
            return;
        }
        let (_, bytes, _) = self.ledger.open_size();
        if matches!(&self.stream, Stream::Within(open) if open.bytes_before > 0 && open.bytes_before == bytes) {
            return self.close(now);
        }
        let Some(fault) = self.halting.take() else { return };
        match &self.stream {
            Stream::Within(open) if open.bytes_before > 0 => self.stop(Stop::Apart(open.begin.commit_lsn)),
            Stream::Within(_) | Stream::Between | Stream::Skipping { .. } => self.stop(Stop::Fault(fault)),
        }
    }

    pub(super) fn stop(&mut self, stop: Stop) {
        if !self.stopped {
            self.stopped = true;
            self.actions.push_back(Action::Stopped(stop));
        }
    }
}
