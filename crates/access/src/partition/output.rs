//! What a partition tells whoever drives it.

use std::sync::Arc;

use penstock_wire::position::Position;

use super::doubts::Concerned;
use super::transaction::{Held, Notice, Poison, Transaction};
use super::{Partition, Phase};

/// One output. Their order matters: apply each before asking for the next.
#[derive(Clone, Debug, PartialEq)]
pub enum Output<T> {
    /// To be applied, in whole.
    Transaction(Transaction<T>),
    /// Before the next transaction of this source is applied: changes may be missing before it. Told in a rebuild too.
    Doubted { source: u16 },
    /// [`Partition::knowledge`](super::Partition::knowledge) may answer otherwise than before.
    Learned(Learned),
    /// The state cannot be continued. The partition takes nothing more: read it from the beginning, into an empty state.
    Rebuild(Rebuild),
    /// A human should know. Nothing has to be done for what is granted to stay right.
    Problem(Problem),
}

/// Whose knowledge may be another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Learned {
    /// Every account's, also of those that were never met.
    Everyone,
    Account(Arc<str>),
}

/// Why the partition has to be read from the beginning, and what is to be left out then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuild {
    pub reason: RebuildReason,
    /// To be handed to [`Partition::rebuild`](super::Partition::rebuild).
    pub voids: Vec<Void>,
}

/// Why a state cannot be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebuildReason {
    /// Records that were not read yet are gone: of this source, behind `after`, up to `to`.
    Compacted { source: u16, after: Position, to: Position },
    /// What was applied never came to be.
    Voided(Void),
    /// Reading from the beginning took longer than tombstones are kept.
    TooSlow,
    /// The topic is another one under the same name. Offsets and positions mean nothing any more.
    TopicReplaced,
}

impl RebuildReason {
    /// Names of all reasons, for counting.
    pub const NAMES: [&str; 4] = ["compacted", "voided", "too_slow", "topic_replaced"];

    /// Which of [`RebuildReason::NAMES`] it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Compacted { .. } => "compacted",
            Self::Voided(_) => "voided",
            Self::TooSlow => "too_slow",
            Self::TopicReplaced => "topic_replaced",
        }
    }
}

/// Positions of a source that a later epoch has declared void: those above `after`, in epochs below `epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Void {
    pub source: u16,
    pub after: Position,
    pub epoch: u32,
}

impl Void {
    pub(super) fn holds(&self, source: u16, position: Position) -> bool {
        self.source == source && self.after < position && position.epoch < self.epoch
    }
}

/// Something is wrong with the partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub partition: u32,
    /// Of the record that it was met at; None: it was met in progress.
    pub offset: Option<i64>,
    /// Source and position, where they are known.
    pub position: Option<(u16, Position)>,
    pub kind: ProblemKind,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProblemKind {
    #[error("records behind {after} are missing and are too young to be compacted: they are lost")]
    Lost { after: Position },
    #[error("a record cannot be read: {reason}")]
    Undecodable { account: Option<Arc<str>>, reason: String },
    #[error("the bridge could not deliver a row: {reason}")]
    DeadLetter { account: Option<Arc<str>>, reason: String },
    #[error("a record whose place in the order is not known: {reason}")]
    NoHeader { reason: String },
    #[error("a transaction of more than {bytes} bytes is held until its end")]
    LargeTransaction { bytes: usize },
    #[error("progress of source {source_number} has no entry for the partition")]
    NoEntry { source_number: u16 },
}

impl<T> Partition<T> {
    /// What follows from what was handed in; `None` once nothing does.
    pub fn poll_output(&mut self) -> Option<Output<T>> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if !self.ended.is_empty() {
                self.count_reloads();
            } else if let Some(held) = self.whole.pop_front() {
                self.tell(held);
            } else if !self.settle() && !self.compare() {
                return None;
            }
        }
    }

    /// Gives out a whole transaction. What it puts in doubt is in doubt before it is applied, what it proves is proven
    /// after.
    fn tell(&mut self, held: Held<T>) {
        let Some((transaction, notices)) = held.into_whole() else { return };
        let number = transaction.source;
        for notice in notices {
            match notice {
                Notice::Doubt(position) => {
                    self.sources.get_mut(&number).expect("it was met").doubts.doubt(position);
                    self.outputs.push_back(Output::Doubted { source: number });
                    self.concern(Concerned::Everyone);
                }
                Notice::Poison(poison) => self.poison(number, poison),
                Notice::Reloaded(scope, begin) => self.ended.push((number, scope, begin)),
            }
        }
        for account in transaction.accounts.keys() {
            if !self.accounts.get(account).is_some_and(|sources| sources.contains(&number)) {
                self.accounts.entry(Arc::clone(account)).or_default().insert(number);
                // It was judged by all sources until now.
                self.concern(Concerned::Account(Arc::clone(account)));
            }
        }
        self.outputs.push_back(Output::Transaction(transaction));
    }

    fn poison(&mut self, number: u16, poison: Poison) {
        let concerned = self.sources.get_mut(&number).expect("it was met").doubts.poison(&poison);
        self.concern(concerned);
        let Poison { offset, position, account, reason, dead_letter, .. } = poison;
        let kind = match dead_letter {
            true => ProblemKind::DeadLetter { account, reason },
            false => ProblemKind::Undecodable { account, reason },
        };
        self.report(Some(offset), Some((number, position)), kind);
    }

    fn count_reloads(&mut self) {
        for (number, scope, begin) in std::mem::take(&mut self.ended) {
            let concerned = self.sources.get_mut(&number).expect("it was met").doubts.reloaded(&scope, begin);
            self.concern(concerned);
        }
        self.misplaced &= self.sources.values().any(|source| source.doubts.everyone.is_some());
    }

    pub(super) fn concern(&mut self, concerned: Concerned) {
        // Before, nobody is told anything but that it is being rebuilt.
        if self.phase == Phase::Live {
            match concerned {
                Concerned::Everyone => self.outputs.push_back(Output::Learned(Learned::Everyone)),
                Concerned::Account(account) => self.outputs.push_back(Output::Learned(Learned::Account(account))),
            }
        }
    }

    pub(super) fn report(&mut self, offset: Option<i64>, position: Option<(u16, Position)>, kind: ProblemKind) {
        self.outputs.push_back(Output::Problem(Problem { partition: self.number, offset, position, kind }));
    }
}
