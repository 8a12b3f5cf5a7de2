//! When a group closes: how many Postgres transactions share a Kafka transaction.
//!
//! A group closes when the previous commit has returned and one of these holds: what has been received is used up and its
//! commits are young (lowest latency); the source is quiet; or, while an old backlog is read, the group has reached a bound
//! (highest throughput). A group without records is a heartbeat.
//!
//! It knows of no records and no parts of transactions: the bridge asks it between transactions.

use std::time::Duration;

use crate::limits::{GROUP_TRANSACTIONS_MAX, Limits};

/// What decides besides the group itself: what came lately, and since when the group is open.
#[derive(Debug)]
pub(crate) struct Timing {
    /// All that was received has been handled, as long as no new frame came.
    drained: bool,
    /// Nothing more has come for a moment.
    quiet: bool,
    /// What is read now was committed long before it was sent.
    behind: bool,
    opened: Option<Duration>,
    last_closed: Duration,
}

/// The open group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    /// Records, bytes, transactions.
    pub(crate) size: (u64, usize, u64),
    /// It would make something durable.
    pub(crate) ahead: bool,
    /// It takes no more.
    pub(crate) ended: bool,
    /// Nothing comes after it.
    pub(crate) last: bool,
}

impl Timing {
    pub(crate) fn new(now: Duration) -> Self {
        Self { drained: false, quiet: false, behind: false, opened: None, last_closed: now }
    }

    /// A frame came.
    pub(crate) fn frame(&mut self) {
        (self.drained, self.quiet) = (false, false);
    }

    /// Everything received has been handled.
    pub(crate) fn drained(&mut self) {
        self.drained = true;
    }

    /// Nothing more has come for a moment.
    pub(crate) fn quiet(&mut self) {
        self.quiet = true;
    }

    /// What is sent now was committed long before, or was not.
    pub(crate) fn behind(&mut self, behind: bool) {
        self.behind = behind;
    }

    /// A transaction begins.
    pub(crate) fn transaction(&mut self, now: Duration) {
        self.opened.get_or_insert(now);
    }

    /// The group was closed.
    pub(crate) fn closed(&mut self, now: Duration) {
        (self.opened, self.last_closed) = (None, now);
    }

    /// Whether the group closes, between transactions and with no other group on its way.
    pub(crate) fn closes(&self, group: Filled, limits: &Limits, now: Duration) -> bool {
        let (records, bytes, transactions) = group.size;
        let full = records >= limits.group_records_max as u64
            || bytes >= limits.group_bytes_max
            || transactions >= GROUP_TRANSACTIONS_MAX
            || self.opened.is_some_and(|opened| now.saturating_sub(opened) >= limits.group_age_max);
        let ended = self.quiet || (self.drained && !self.behind) || group.ended || group.last;
        let idle = now.saturating_sub(self.last_closed) >= limits.heartbeat;
        (records > 0 && (full || ended)) || idle || (group.last && group.ahead)
    }
}
