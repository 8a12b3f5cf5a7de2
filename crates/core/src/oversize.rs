//! Transactions that are too large for one Kafka transaction, and how that is known.
//!
//! The brokers abort a Kafka transaction that is open for longer than its timeout, and refuse the producer from then on as
//! if a successor had fenced it. A transaction that cannot be delivered within the timeout would start over for ever. It is
//! too large when it was aborted twice, the second time with a Kafka transaction to itself.
//!
//! What aborts small transactions, too, is not held against them: as long as nothing is delivered (a broker that is away, a
//! registry or a source that stalls), size is not the reason. Whether another bridge has taken over instead, only the shell
//! can know: it asks whether this one still holds the slot.
//!
//! A transaction at which the bridge has to stop is kept apart in the same way, so that its predecessors are delivered.
//!
//! [`Watch`] lives with a session and measures; [`Oversize`] lives with the process and judges.

use std::time::Duration;

use penstock_wire::lsn::CommitLsn;

use crate::fault::Fault;
use crate::ledger::Delivered;
use crate::pgoutput::Begin;

/// What happens to a transaction that is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Stop, by name.
    Halt,
    /// Deliver it in parts.
    Split,
}

/// A transaction that was aborted by time once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Which. It gets a Kafka transaction to itself.
    pub commit_lsn: CommitLsn,
    /// Until it is delivered, a Kafka transaction closes at this many bytes (of a part: within the transaction): half of
    /// what was delivered before the abort.
    pub bytes_max: usize,
}

/// A Kafka transaction that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its largest Postgres transaction: commit LSN.
    pub commit_lsn: CommitLsn,
    /// The same one's transaction id.
    pub xid: u32,
    /// For how long it was open.
    pub age: Duration,
    /// The longest time in it without a delivery report.
    pub longest_silence: Duration,
    /// Records that were delivered in it.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Oversize {
    policy: Policy,
    timeout: Duration,
    suspect: Option<Suspect>,
    /// Kept apart for another reason than its size.
    apart: Option<CommitLsn>,
}

impl Oversize {
    /// `timeout` is that of Kafka transactions.
    pub fn new(policy: Policy, timeout: Duration) -> Self {
        Self { policy, timeout, suspect: None, apart: None }
    }

    /// What the next session has to heed.
    pub fn suspect(&self) -> Option<Suspect> {
        let apart = self.apart.map(|commit_lsn| Suspect { commit_lsn, bytes_max: usize::MAX });
        self.suspect.or(apart)
    }

    /// A transaction, all of whose predecessors were met and none of which is a suspect any more, is to have a Kafka
    /// transaction to itself.
    pub fn keep_apart(&mut self, commit_lsn: CommitLsn) {
        (self.suspect, self.apart) = (None, Some(commit_lsn));
    }

    /// Whether the attempt failed because it took too long, provided that nobody has taken over.
    pub fn is_by_time(&self, attempt: &Attempt) -> bool {
        attempt.age >= self.timeout && attempt.longest_silence < self.timeout / 2
    }

    /// An attempt was aborted by time. The transaction is too large if that is the second time; one that is split, only if
    /// its parts cannot become smaller.
    pub fn handle_aborted(&mut self, attempt: &Attempt) -> Result<(), Fault> {
        let before = self.suspect.filter(|suspect| suspect.commit_lsn == attempt.commit_lsn);
        let hopeless = before.is_some_and(|suspect| match self.policy {
            Policy::Halt => true,
            Policy::Split => suspect.bytes_max == 1,
        });
        if hopeless {
            let Attempt { commit_lsn, xid, records, bytes, .. } = *attempt;
            return Err(Fault::Oversized { commit_lsn, xid, records, bytes, timeout: self.timeout });
        }
        let delivered = before.map_or(attempt.bytes, |suspect| suspect.bytes_max.min(attempt.bytes));
        self.suspect = Some(Suspect { commit_lsn: attempt.commit_lsn, bytes_max: (delivered / 2).max(1) });
        Ok(())
    }
}

/// Measures the open Kafka transaction, and remembers the largest transaction of each group.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    open: Option<Run>,
    /// Records of the next group are to be produced once the open Kafka transaction is committed.
    follows: bool,
    closing: Option<Extent>,
    filling: Option<Extent>,
}

#[derive(Debug)]
struct Run {
    began: Duration,
    heard: Duration,
    longest_silence: Duration,
    records: u64,
    bytes: usize,
}

/// A transaction and its bytes in its group.
#[derive(Clone, Copy, Debug)]
struct Extent {
    begin: Begin,
    bytes: usize,
}

impl Run {
    fn new(now: Duration) -> Self {
        Self { began: now, heard: now, longest_silence: Duration::ZERO, records: 0, bytes: 0 }
    }
}

impl Watch {
    /// Records of the open group are handed to the producer; `busy` if another group is not yet committed.
    pub(crate) fn produced(&mut self, busy: bool, now: Duration) {
        if busy {
            self.follows = true;
        } else {
            self.open.get_or_insert(Run::new(now));
        }
    }

    /// A record of the open Kafka transaction is delivered.
    pub(crate) fn delivered(&mut self, report: &Delivered, now: Duration) {
        if let Some(open) = &mut self.open {
            open.longest_silence = open.longest_silence.max(now.saturating_sub(open.heard));
            open.heard = now;
            open.records += 1;
            open.bytes += report.bytes;
        }
    }

    /// A transaction, or a part of one, is complete in the open group.
    pub(crate) fn sealed(&mut self, begin: Begin, bytes: usize) {
        if self.filling.is_none_or(|largest| largest.bytes <= bytes) {
            self.filling = Some(Extent { begin, bytes });
        }
    }

    /// The open group was closed.
    pub(crate) fn closed(&mut self) {
        self.closing = self.filling.take();
    }

    /// The open group holds this transaction, which is the largest in it.
    pub(crate) fn holds(&self, commit_lsn: CommitLsn) -> bool {
        self.filling.is_some_and(|largest| largest.begin.commit_lsn == commit_lsn)
    }

    /// The Kafka transaction is committed.
    pub(crate) fn committed(&mut self, now: Duration) {
        self.open = std::mem::take(&mut self.follows).then(|| Run::new(now));
        self.closing = None;
    }

    /// For how long the Kafka transaction of the open group, which is not closing, has been open.
    pub(crate) fn age(&self, now: Duration) -> Option<Duration> {
        self.open.as_ref().map(|open| now.saturating_sub(open.began))
    }

    /// The open Kafka transaction, if it fails now. `within` is the transaction that is being read, unless a group before
    /// it is not yet committed.
    pub(crate) fn attempt(&self, within: Option<Begin>, now: Duration) -> Option<Attempt> {
        let Run { began, heard, longest_silence, records, bytes } = *self.open.as_ref()?;
        let Begin { commit_lsn, xid, .. } = within.or(self.closing.or(self.filling).map(|largest| largest.begin))?;
        let longest_silence = longest_silence.max(now.saturating_sub(heard));
        Some(Attempt { commit_lsn, xid, age: now.saturating_sub(began), longest_silence, records, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn attempt(commit: u64, bytes: usize) -> Attempt {
        let (age, longest_silence) = (Duration::from_secs(61), Duration::from_secs(1));
        Attempt { commit_lsn: CommitLsn::new(commit), xid: 7, age, longest_silence, records: 3, bytes }
    }

    fn suspect(commit: u64, bytes_max: usize) -> Option<Suspect> {
        Some(Suspect { commit_lsn: CommitLsn::new(commit), bytes_max })
    }

    #[test]
    fn the_same_transaction_twice_is_too_large() {
        let mut oversize = Oversize::new(Policy::Halt, TIMEOUT);
        assert!(oversize.handle_aborted(&attempt(100, 1000)).is_ok());
        assert_eq!(oversize.suspect(), suspect(100, 500));
        assert!(oversize.handle_aborted(&attempt(200, 1000)).is_ok(), "another one");
        let fault = oversize.handle_aborted(&attempt(200, 1000)).unwrap_err();
        assert!(matches!(fault, Fault::Oversized { xid: 7, records: 3, bytes: 1000, .. }), "{fault}");
    }

    #[test]
    fn a_transaction_that_is_kept_apart_is_not_blamed_for_its_size() {
        let mut oversize = Oversize::new(Policy::Halt, TIMEOUT);
        oversize.keep_apart(CommitLsn::new(100));
        assert_eq!(oversize.suspect(), suspect(100, usize::MAX));
        assert!(oversize.handle_aborted(&attempt(100, 1000)).is_ok(), "it is its first time");
        assert_eq!(oversize.suspect(), suspect(100, 500));
        oversize.keep_apart(CommitLsn::new(200));
        assert_eq!(oversize.suspect(), suspect(200, usize::MAX), "the older one is delivered by now");
    }

    #[test]
    fn parts_shrink_until_they_cannot() {
        let mut oversize = Oversize::new(Policy::Split, TIMEOUT);
        for (bytes, bytes_max) in [(1000, 500), (900, 250), (3, 1)] {
            assert!(oversize.handle_aborted(&attempt(100, bytes)).is_ok());
            assert_eq!(oversize.suspect(), suspect(100, bytes_max));
        }
        assert!(oversize.handle_aborted(&attempt(100, 0)).is_err());
    }

    #[test]
    fn only_what_went_on_for_the_whole_timeout_was_aborted_for_its_size() {
        let oversize = Oversize::new(Policy::Halt, TIMEOUT);
        assert!(oversize.is_by_time(&attempt(100, 0)));
        let fenced_early = Attempt { age: Duration::from_secs(59), ..attempt(100, 0) };
        assert!(!oversize.is_by_time(&fenced_early));
        let broker_away = Attempt { longest_silence: Duration::from_secs(30), ..attempt(100, 0) };
        assert!(!oversize.is_by_time(&broker_away));
    }
}
