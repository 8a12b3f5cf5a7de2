//! What was delivered before the start, against what the server sends of it again.
//!
//! Progress remembers one transaction: the last that was delivered, or, where it lies behind progress' end, the one that was
//! delivered in part. A server restored to an older state, whose WAL has grown past progress again, has other transactions
//! there. Nothing here knows rows: which records of a partly delivered transaction are dropped is the outlet's.

use std::cmp::Ordering;

use penstock_wire::lsn::{CommitLsn, EndLsn};
use penstock_wire::position::{Part, Seq};
use penstock_wire::progress::{Progress, Through};

use crate::fault::Fault;
use crate::pgoutput::Begin;

/// What a transaction that begins is to a bridge that resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Delivered: to be skipped.
    Whole,
    /// Delivered up to each partition's last position.
    InPart,
    /// Not at all.
    New,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct History {
    end_lsn: EndLsn,
    through: Through,
    /// `through` is delivered in part, and its rest has not begun.
    awaits_rest: bool,
    last_skipped: Option<Through>,
}

impl History {
    pub(crate) fn new(progress: &Progress) -> Self {
        let Progress { end_lsn, through, .. } = *progress;
        let awaits_rest = through != Through::default() && !end_lsn.covers(through.commit_lsn);
        Self { end_lsn, through, awaits_rest, last_skipped: None }
    }

    /// A transaction begins.
    pub(crate) fn begin(&mut self, begin: &Begin) -> Result<Known, Fault> {
        if self.end_lsn.covers(begin.commit_lsn) {
            return Ok(Known::Whole);
        }
        if !self.awaits_rest {
            // The first one behind progress: the last skipped one must have been the last delivered one.
            return match self.last_skipped.take() {
                Some(last) if last != self.through => {
                    Err(self.fault(last.commit_lsn, "the last delivered transaction is missing"))
                }
                _ => Ok(Known::New),
            };
        }
        match begin.commit_lsn.cmp(&self.through.commit_lsn) {
            // It must turn out to be empty.
            Ordering::Less => Ok(Known::Whole),
            Ordering::Equal if (begin.xid, begin.commit_time_us) == (self.through.xid, self.through.commit_time_us) => {
                self.awaits_rest = false;
                self.last_skipped = None;
                Ok(Known::InPart)
            }
            Ordering::Equal => {
                Err(self.fault(begin.commit_lsn, "another transaction stands where one was delivered in part"))
            }
            Ordering::Greater => Err(self.rest_missing()),
        }
    }

    /// A skipped transaction has ended.
    pub(crate) fn skipped(&mut self, begin: &Begin, events: u64) -> Result<(), Fault> {
        let Some(last_event) = events.checked_sub(1) else { return Ok(()) };
        if self.through.commit_lsn == CommitLsn::default() {
            return Ok(());
        }
        let Begin { commit_lsn, commit_time_us, xid } = *begin;
        let last = Through { commit_lsn, seq: Seq::of_event(last_event, Part::Record), xid, commit_time_us };
        self.last_skipped = Some(last);
        match commit_lsn.cmp(&self.through.commit_lsn) {
            Ordering::Less if self.end_lsn.covers(commit_lsn) => Ok(()),
            Ordering::Equal if last == self.through => Ok(()),
            Ordering::Equal => {
                Err(self.fault(commit_lsn, "another transaction stands where the last delivered one stood"))
            }
            Ordering::Less | Ordering::Greater => {
                Err(self.fault(commit_lsn, "a transaction that was never delivered stands before the delivered end"))
            }
        }
    }

    /// A transaction that was not skipped has ended, with so many events.
    pub(crate) fn ended(&self, begin: &Begin, events: u64) -> Result<(), Fault> {
        let in_part = begin.commit_lsn == self.through.commit_lsn;
        if in_part && Seq::of_event(events, Part::Record) <= self.through.seq {
            return Err(self.fault(begin.commit_lsn, "a transaction is shorter than what was delivered of it"));
        }
        Ok(())
    }

    /// Everything committed before `end` has been sent.
    pub(crate) fn keepalive(&self, end: EndLsn) -> Result<(), Fault> {
        if self.awaits_rest && end.covers(self.through.commit_lsn) { Err(self.rest_missing()) } else { Ok(()) }
    }

    fn rest_missing(&self) -> Fault {
        self.fault(self.through.commit_lsn, "the transaction that was delivered in part is missing")
    }

    fn fault(&self, commit_lsn: CommitLsn, what: &str) -> Fault {
        Fault::History { commit_lsn, what: what.to_owned(), end: self.end_lsn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(end: u64) -> History {
        let through = Through { commit_lsn: CommitLsn::new(80), seq: Seq(16), xid: 3, commit_time_us: 1 };
        History::new(&Progress { end_lsn: EndLsn::new(end), through, ..Progress::default() })
    }

    /// Sends transactions again (commit LSN, xid, events) to a bridge that resumed behind `end`.
    fn send(end: u64, transactions: &[(u64, u32, u64)]) -> Result<Vec<Known>, Fault> {
        let mut history = history(end);
        let mut known = Vec::new();
        for (commit, xid, events) in transactions {
            let begin = Begin { commit_lsn: CommitLsn::new(*commit), commit_time_us: 1, xid: *xid };
            known.push(history.begin(&begin)?);
            match known.last() {
                Some(Known::Whole) => history.skipped(&begin, *events)?,
                _ => history.ended(&begin, *events)?,
            }
        }
        Ok(known)
    }

    #[test]
    fn a_restored_server_is_known_by_its_transactions() {
        let next = (100, 9, 1);
        let check = |skipped: &[(u64, u32, u64)]| send(100, &[skipped, &[next]].concat());
        assert!(check(&[(60, 1, 4), (80, 3, 2)]).is_ok());
        assert!(check(&[]).is_ok(), "nothing was read again: nothing contradicts");
        assert!(check(&[(80, 3, 2), (90, 9, 0)]).is_ok(), "a transaction without events says nothing");
        assert!(check(&[(80, 4, 2)]).is_err(), "another transaction at the same place");
        assert!(check(&[(80, 3, 3)]).is_err(), "the same transaction with more in it");
        assert!(check(&[(80, 3, 2), (90, 5, 1)]).is_err(), "one that was never delivered");
        assert!(check(&[(60, 1, 4)]).is_err(), "the last delivered one is missing");
    }

    #[test]
    fn the_rest_of_a_transaction_delivered_in_part_is_awaited() {
        use Known::{InPart, New, Whole};
        assert_eq!(send(70, &[(60, 1, 4), (75, 2, 0), (80, 3, 9), (90, 4, 1)]).unwrap(), [Whole, Whole, InPart, New]);
        assert_eq!(send(70, &[(80, 3, 2)]).unwrap(), [InPart], "nothing may be left but its flags");
        assert!(send(70, &[(75, 2, 1)]).is_err(), "one before it that was never delivered");
        assert!(send(70, &[(80, 4, 9)]).is_err(), "another transaction at the same place");
        assert!(send(70, &[(80, 3, 1)]).is_err(), "less than was delivered of it");
        assert!(send(70, &[(90, 4, 1)]).is_err(), "it is missing");
        assert!(history(70).keepalive(EndLsn::new(80)).is_ok());
        assert!(history(70).keepalive(EndLsn::new(81)).is_err(), "it is missing");
        assert!(history(81).keepalive(EndLsn::new(90)).is_ok(), "it was delivered whole");
    }
}
