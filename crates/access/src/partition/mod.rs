//! Reading one partition of the change topic: records in, whole transactions out, and what may be believed of them.
//!
//! ```text
//! records  ─▶ chain (repeated? a hole?) ─▶ held until whole ─▶ transactions, in order
//! progress ─▶ claims ─▶ how far each source is known ────────▶ knowledge: known as of, or why not
//! controls ─▶ doubts (unproven, quarantined; reloads) ───────┘
//! ```
//!
//! A state machine without a clock: `handle_…` takes what happened and the time, `poll_output` gives what follows, until it
//! gives nothing; only then is the next thing handed in, or a question answered.
//!
//! Invariants, asserted: positions of a source rise in what is given out; nothing is given out before its transaction is
//! whole. Not asserted, because it rests on input: what is doubted is denied. Sources of a topic share nothing here but
//! offsets: each has its own order.
//!
//! What it does not do: keep rows (the accounts do), seek, or wait.

mod chain;
mod claims;
mod doubts;
mod figures;
mod knowledge;
mod output;
mod record;
mod resume;
mod settle;
mod source;
mod transaction;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use penstock_wire::position::Position;
use penstock_wire::progress::Progress;
use penstock_wire::reload::Scope;
use serde::{Deserialize, Serialize};

pub use output::{Learned, Output, Problem, ProblemKind, Rebuild, RebuildReason, Void};
pub use record::{Kind, Record};
pub use resume::ResumePoint;
pub use transaction::{Effect, Entry, Transaction};

use crate::limits::HELD_BYTES_ALARM;
use crate::rows::Micros;
use chain::Link;
use doubts::Concerned;
use knowledge::Standing;
use source::{Source, begin_of_epoch};
use transaction::Held;

/// Which records Kafka hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// Those of committed Kafka transactions.
    ReadCommitted,
    /// All, as soon as they are written: the lowest latency. Progress has to be read committed all the same.
    ReadUncommitted,
}

/// What the topic and its reader were set up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How the change topic is read.
    pub isolation: Isolation,
    /// A source of which nothing was heard for this long is not believed any more.
    pub stale_after: Duration,
    /// The topic's `min.compaction.lag.ms`.
    pub compaction_lag: Duration,
    /// The topic's `delete.retention.ms`.
    pub tombstone_retention: Duration,
}

/// See the module's documentation. `T` is what was decoded of a row.
#[derive(Debug)]
pub struct Partition<T> {
    number: u32,
    options: Options,
    phase: Phase,
    now: Micros,
    /// Every record below this offset was handed in.
    read_to: i64,
    /// What the last rebuild has read: all that compaction has left below this offset was seen.
    rebuilt_to: i64,
    /// The partition was read to an end since this began.
    was_at_end: bool,
    topic_id: Option<String>,
    sources: BTreeMap<u16, Source<T>>,
    /// Whose rows were met in which sources.
    accounts: BTreeMap<Arc<str>, BTreeSet<u16>>,
    voids: BTreeSet<Void>,
    /// A record without a place was met, and not every source was reloaded since.
    misplaced: bool,
    /// Whole, and not given out.
    whole: VecDeque<Held<T>>,
    outputs: VecDeque<Output<T>>,
    /// Reloads that ended in the transaction that was given out last: they count once it is applied.
    ended: Vec<(u16, Scope, Position)>,
    told: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Reading from the beginning since then.
    Rebuilding { since: Micros },
    /// Following.
    Live,
    /// A rebuild was asked for.
    Broken,
    /// Another instance has the partition.
    Released,
}

pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl<T> Partition<T> {
    /// Begins at the partition's first record, with an empty state. `voids` are those of the [`Rebuild`] that asked for it;
    /// none if nothing did.
    pub fn rebuild(number: u32, options: Options, voids: Vec<Void>, now: Micros) -> Self {
        Self {
            number,
            options,
            phase: Phase::Rebuilding { since: now },
            now,
            read_to: 0,
            rebuilt_to: 0,
            was_at_end: false,
            topic_id: None,
            sources: BTreeMap::new(),
            accounts: BTreeMap::new(),
            voids: voids.into_iter().collect(),
            misplaced: false,
            whole: VecDeque::new(),
            outputs: VecDeque::new(),
            ended: Vec::new(),
            told: Standing::default(),
        }
    }

    /// The partition's number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Every record below this offset was handed in.
    pub fn read_to(&self) -> i64 {
        self.read_to
    }

    /// Bytes of keys and values of transactions whose end was not read yet.
    pub fn held_bytes(&self) -> usize {
        let held = self.sources.values().map(|source| source.held.bytes()).sum::<usize>();
        held + self.whole.iter().map(Held::bytes).sum::<usize>()
    }

    /// The last transaction of a source that was given out ended here.
    pub fn applied(&self, source: u16) -> Position {
        self.sources.get(&source).map_or(Position::ZERO, |source| source.applied)
    }

    /// Up to here changes of the account may not have been seen, or not in full: compaction took them while the partition was
    /// read, or they could not be read or delivered. `concerns`: whether a poison record of that schema and table does.
    pub fn unseen_to(&self, source: u16, account: &str, concerns: impl Fn(&str, &str) -> bool) -> Position {
        let Some(source) = self.sources.get(&source) else { return Position::ZERO };
        let poisoned = source.doubts.poisoned_at(account, concerns);
        source.missing_to.max(poisoned)
    }

    /// Neither rebuilding, nor waiting for a rebuild, nor given away.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Takes the next record of the partition. One that was handed in before changes nothing.
    pub fn handle_record(&mut self, record: Record<T>, now: Micros) {
        self.pass(now);
        if !self.reads() {
            return;
        }
        self.read_to = self.read_to.max(record.offset.saturating_add(1));
        let header = record.header;
        self.meet(header.source);
        let isolation = self.options.isolation;
        let source = self.sources.get_mut(&header.source).expect("it was met");
        match source.chain.link(&header) {
            Link::Repeated => return,
            Link::Next => {}
            Link::Hole => {
                if !self.fall_into_hole(&record) {
                    return;
                }
            }
        }
        let source = self.sources.get_mut(&header.source).expect("it was met");
        source.excused = false;
        let ended = source.end_before(&record, isolation);
        source.chain.advance(&header, record.timestamp_ms);
        self.give_out(ended);
        if self.voids.iter().any(|void| void.holds(header.source, header.position)) || !self.check_epoch(&record) {
            return;
        }
        let source = self.sources.get_mut(&header.source).expect("it was met");
        let before = source.held.bytes();
        let (offset, ended) = (record.offset, source.hold(record));
        let after = ended.as_ref().map_or(source.held.bytes(), Held::bytes);
        if before <= HELD_BYTES_ALARM && after > HELD_BYTES_ALARM {
            let kind = ProblemKind::LargeTransaction { bytes: HELD_BYTES_ALARM };
            self.report(Some(offset), Some((header.source, header.position)), kind);
        }
        self.give_out(ended);
    }

    /// Takes a record that has no readable header, and so no source and no position. It may be anybody's.
    pub fn handle_misplaced(&mut self, offset: i64, reason: String, now: Micros) {
        self.pass(now);
        if !self.reads() {
            return;
        }
        self.read_to = self.read_to.max(offset.saturating_add(1));
        self.misplaced = true;
        for source in self.sources.values_mut() {
            source.excused = true;
            source.doubts.poison_everyone(source.chain.end());
        }
        self.concern(Concerned::Everyone);
        self.report(Some(offset), None, ProblemKind::NoHeader { reason });
    }

    /// Takes a progress record of any source of the topic, in the order of the progress topic.
    pub fn handle_progress(&mut self, progress: &Progress, now: Micros) {
        self.pass(now);
        if !self.reads() {
            return;
        }
        match &self.topic_id {
            None => self.topic_id = Some(progress.topic_id.clone()),
            Some(topic) if *topic == progress.topic_id => {}
            Some(_) => return self.break_off(RebuildReason::TopicReplaced),
        }
        let number = progress.source_number;
        self.meet(number);
        let source = self.sources.get_mut(&number).expect("it was met");
        let Some(claim) = source.claims.take(progress, self.number, now) else {
            return self.report(None, None, ProblemKind::NoEntry { source_number: number });
        };
        if source.chain.retract(claim) {
            source.claims.forget_reached();
        }
    }

    /// The partition was seen to end at `offset`, and everything below that was handed in. Of `read_committed` that is the
    /// last stable offset, else the high watermark.
    pub fn handle_end(&mut self, offset: i64, now: Micros) {
        self.pass(now);
        if self.reads() {
            self.read_to = self.read_to.max(offset);
            self.was_at_end = true;
        }
    }

    /// Time has passed.
    pub fn handle_time(&mut self, now: Micros) {
        self.pass(now);
    }

    /// The partition was given to another instance. Nothing is taken any more.
    pub fn handle_assignment_lost(&mut self) {
        self.phase = Phase::Released;
        self.whole.clear();
    }

    /// Time goes on, or back. What is not fresh any more is told before anything that is read then is given out.
    fn pass(&mut self, now: Micros) {
        if now < self.now {
            let by_us = self.now.0.saturating_sub(now.0);
            self.sources.values_mut().for_each(|source| source.claims.clock_went_back(by_us));
        }
        self.now = now;
        if self.phase == Phase::Live && self.next_deadline().is_some_and(|at| at <= now) {
            self.compare();
        }
    }

    fn reads(&self) -> bool {
        match self.phase {
            Phase::Rebuilding { .. } | Phase::Live => true,
            Phase::Broken | Phase::Released => false,
        }
    }

    fn meet(&mut self, number: u16) {
        let misplaced = self.misplaced;
        self.sources.entry(number).or_insert_with(|| {
            let mut source = Source::default();
            if misplaced {
                source.excused = true;
                source.doubts.poison_everyone(Position::ZERO);
            }
            source
        });
    }

    /// Records between the source's last one and this one are not there. Whether reading goes on.
    fn fall_into_hole(&mut self, record: &Record<T>) -> bool {
        let (number, position) = (record.header.source, record.header.position);
        let source = self.sources.get_mut(&number).expect("it was met");
        let after = source.chain.end();
        source.missing_to = record.header.previous;
        let lost = source.chain.is_young(self.now, micros(self.options.compaction_lag));
        match self.phase {
            // What left the hole is told, and nobody is granted anything for it.
            Phase::Rebuilding { .. } | Phase::Live if lost && source.excused => true,
            Phase::Rebuilding { .. } if lost => {
                source.doubts.doubt(record.header.previous);
                self.outputs.push_back(Output::Doubted { source: number });
                self.report(Some(record.offset), Some((number, position)), ProblemKind::Lost { after });
                true
            }
            Phase::Rebuilding { .. } => true,
            Phase::Live => {
                let to = record.header.previous;
                self.break_off(RebuildReason::Compacted { source: number, after, to });
                false
            }
            Phase::Broken | Phase::Released => false,
        }
    }

    /// A new epoch says up to where the one before it counts. Whether reading goes on.
    fn check_epoch(&mut self, record: &Record<T>) -> bool {
        let number = record.header.source;
        let applied = self.applied(number);
        let Some(begin) = begin_of_epoch(record).filter(|begin| *begin < applied) else { return true };
        self.break_off(RebuildReason::Voided(Void {
            source: number,
            after: begin,
            epoch: record.header.position.epoch,
        }));
        false
    }

    fn give_out(&mut self, ended: Option<Held<T>>) {
        let Some(held) = ended else { return };
        let Some(last) = held.last() else { return };
        let (number, position, time_ms) = (last.header.source, last.header.position, last.timestamp_ms);
        self.sources.get_mut(&number).expect("it was met").applied(position, time_ms);
        self.whole.push_back(held);
    }

    fn break_off(&mut self, reason: RebuildReason) {
        self.phase = Phase::Broken;
        self.whole.clear();
        if let RebuildReason::Voided(void) = reason {
            self.voids.insert(void);
        }
        let voids = self.voids.iter().copied().collect();
        self.outputs.push_back(Output::Rebuild(Rebuild { reason, voids }));
    }
}
