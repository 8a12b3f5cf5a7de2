//! One reading of a partition from its beginning: the account as it becomes, and the channel that is opened in it.
//!
//! Time is that of the commits: between two of them the account's deadlines come, and what they push.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use penstock_wire::progress::Progress;

use super::proof::{Proof, Stretch, Trail};
use super::{Ending, HistoryError, Options, Outcome, Past, Point, Told, Wanted};
use crate::account::Account;
use crate::account::snapshot::{FlowHistory, History as OfRow};
use crate::change::Commit;
use crate::channel::push::Push;
use crate::channel::{Event, Refusal};
use crate::decode::{self, Names};
use crate::knowledge::{Knowledge, Reason};
use crate::partition::{self, Partition, Void};
use crate::replica::{Subscriber, changes_of};
use crate::rows::{Micros, RowId, Table};

/// One reading from the beginning.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) partition: Partition<decode::Event>,
    account: Account,
    /// Where its rows come from.
    pub(super) source: Option<u16>,
    is_mixed: bool,
    pub(super) trails: BTreeMap<u16, Trail>,
    endings: BTreeMap<u16, Ending>,
    /// Before the next transaction of these changes may be missing.
    pub(super) doubted: BTreeSet<u16>,
    /// Why not everything of the account was known when the last record was taken.
    doubt: Option<Reason>,
    /// Nothing was applied since then.
    is_resting: bool,
    begun: Option<Begun>,
    told: Vec<Told>,
    is_over: bool,
}

/// What was found at the first point.
#[derive(Clone, Debug)]
struct Begun {
    ending: Ending,
    at: Micros,
    doubt: Option<Reason>,
    ended_flows: usize,
    rows: BTreeSet<(Table, RowId)>,
    refusal: Option<Refusal>,
}

impl Run {
    pub(super) fn new(
        wanted: &Wanted,
        options: &Options,
        progress: &[Progress],
        voids: Vec<Void>,
        now: Micros,
    ) -> Self {
        let mut partition = Partition::rebuild(wanted.partition, options.partition, voids, now);
        for of_source in progress {
            partition.handle_progress(of_source, now);
        }
        Self {
            partition,
            account: Account::new(&wanted.account, Arc::clone(&options.account)),
            source: None,
            is_mixed: false,
            trails: BTreeMap::new(),
            endings: BTreeMap::new(),
            doubted: BTreeSet::new(),
            doubt: None,
            is_resting: true,
            begun: None,
            told: Vec::new(),
            is_over: false,
        }
    }

    pub(super) fn is_decided(&self) -> bool {
        let Some(trail) = self.source.and_then(|source| self.trails.get(&source)) else { return false };
        let is_whole = trail.proof() == Proof::Whole && trail.hole_between().is_none();
        self.begun.is_some() && trail.stretch == Stretch::Behind && is_whole
    }

    pub(super) fn apply(
        &mut self,
        transaction: partition::Transaction<decode::Event>,
        wanted: &Wanted,
        names: &Names,
    ) -> Result<(), HistoryError> {
        let partition::Transaction { source, position, time_ms, next_offset, .. } = transaction;
        let ending = Ending { position, time_ms, next_offset };
        let stretch = self.stretch(source, &ending, wanted)?;
        let is_its = transaction.accounts.contains_key(&wanted.account);
        if stretch > Stretch::Before && (self.source == Some(source) || (self.source.is_none() && is_its)) {
            self.begin(wanted, None);
        }
        let no_rows = BTreeSet::new();
        let rows = self.begun.as_ref().map_or(&no_rows, |begun| &begun.rows);
        self.trails.entry(source).or_insert_with(Trail::new).end(position, stretch, rows);
        if stretch == Stretch::Behind {
            return Ok(());
        }
        self.endings.insert(source, ending);
        if is_its {
            let first = *self.source.get_or_insert(source);
            self.is_mixed |= first != source;
        }
        if self.source != Some(source) || self.is_over {
            return Ok(());
        }
        let time_us = time_ms.saturating_mul(1000);
        (self.doubt, self.is_resting) = (self.partition.doubt(self.account.id()), false);
        self.learn();
        if self.doubted.remove(&source) {
            self.account.end_all_flows(Micros(time_us));
        }
        let mut changes = Vec::new();
        for entry in transaction.entries(&wanted.account) {
            // What cannot be read of a row is told by whoever follows the topic.
            drop(changes_of(entry.clone(), names, &mut changes));
        }
        if !changes.is_empty() {
            self.account.apply(&Commit { position, time_us, changes }, Micros(time_us));
        }
        self.account.settle(Micros(time_us));
        self.told_by_clock(Micros(time_us));
        Ok(())
    }

    fn stretch(&self, source: u16, ending: &Ending, wanted: &Wanted) -> Result<Stretch, HistoryError> {
        let before = self.trails.get(&source).map_or(Stretch::Before, |trail| trail.stretch);
        let to = wanted.replay.map(|(_, to)| to);
        Ok(match to {
            Some(to) if before == Stretch::Before && wanted.from.takes(ending) => {
                if !to.takes(ending) {
                    return Err(HistoryError::Reversed { from: wanted.from, to });
                }
                Stretch::Before
            }
            None if before == Stretch::Before && wanted.from.takes(ending) => Stretch::Before,
            Some(to) if before < Stretch::Behind && to.takes(ending) => Stretch::Between,
            Some(_) | None => Stretch::Behind,
        })
    }

    /// The first point is reached, and everything before it is applied. `clock`: how late it is by then, if not the last
    /// commit's time.
    pub(super) fn begin(&mut self, wanted: &Wanted, clock: Option<Micros>) {
        let Some(ending) = self.source.and_then(|source| self.endings.get(&source)).copied() else { return };
        if self.begun.is_some() {
            return;
        }
        let committed = Micros(ending.time_ms.saturating_mul(1000));
        let at = match wanted.from {
            Point::Time(time) => time,
            Point::Offset(_) | Point::Commit { .. } | Point::End => clock.unwrap_or(committed),
        };
        let snapshot = self.account.snapshot();
        let has_ended = |history: &OfRow| *history == OfRow::Flow(FlowHistory::Ended);
        let ended_flows = snapshot.rows.iter().filter(|row| has_ended(&row.history)).count();
        let rows = snapshot.rows.iter().map(|row| (row.table, row.id)).collect();
        // What the transaction behind the point puts in doubt was not in doubt at the point.
        if !self.is_resting {
            self.doubt = self.partition.doubt(self.account.id());
        }
        self.begun = Some(Begun { ending, at, doubt: self.doubt, ended_flows, rows, refusal: None });
        self.learn();
        self.account.handle_time(at);
        let opened = match wanted.replay.map(|(subscriber, _)| subscriber) {
            None => return,
            Some(Subscriber::Client { id, token, options }) => {
                self.account.subscribe_client(id, token, options, at).map(drop)
            }
            Some(Subscriber::Gateway { id, token }) => self.account.subscribe_gateway(id, token, at).map(drop),
        };
        if let (Err(refusal), Some(begun)) = (opened, &mut self.begun) {
            begun.refusal = Some(refusal);
        }
        self.told_by_clock(at);
    }

    /// What a reader that had read so far would have known of the account, had it been up to date.
    fn learn(&mut self) {
        let Some(begun) = &self.begun else { return };
        let ending = self.source.and_then(|source| self.endings.get(&source));
        let as_of = ending.map_or(begun.at, |ending| Micros(ending.time_ms.saturating_mul(1000)).max(begun.at));
        let knowledge = match self.doubt {
            None => Knowledge::Known { as_of },
            Some(reason) => Knowledge::Unknown { reason, as_of: Some(as_of) },
        };
        self.account.set_knowledge(knowledge, false, as_of);
        self.take_pushes(as_of);
    }

    /// Everything that followed from a record was taken.
    pub(super) fn rest(&mut self) {
        if self.source.is_none_or(|source| !self.is_behind(source)) {
            self.doubt = self.partition.doubt(self.account.id());
            self.learn();
        }
        self.is_resting = true;
    }

    fn is_behind(&self, source: u16) -> bool {
        self.trails.get(&source).is_some_and(|trail| trail.stretch == Stretch::Behind)
    }

    pub(super) fn told_by_clock(&mut self, now: Micros) {
        if !self.is_over {
            self.account.handle_time(now);
        }
        self.take_pushes(now);
    }

    fn take_pushes(&mut self, now: Micros) {
        while let Some((_, event)) = self.account.poll_push() {
            match event {
                Event::Push(message) if !self.is_over => {
                    self.is_over = matches!(message.push, Push::Disconnect { .. });
                    let time = message.deadline.map_or(now, Micros::from_seconds);
                    self.told.push(Told { time, message });
                }
                Event::Push(_) => {}
                Event::Refused(refusal) => {
                    self.is_over = true;
                    if let Some(begun) = &mut self.begun {
                        begun.refusal.get_or_insert(refusal);
                    }
                }
            }
        }
    }

    /// How late it is at a point.
    pub(super) fn clock_of(&self, point: Point, progress: &[Progress]) -> Option<Micros> {
        match point {
            Point::Time(time) => Some(time),
            Point::End => {
                let mut of_source =
                    progress.iter().filter(|of| self.source.is_none_or(|of_it| of_it == of.source_number));
                of_source.next().map(|of| Micros(of.postgres_clock_us))
            }
            Point::Offset(_) | Point::Commit { .. } => None,
        }
    }

    pub(super) fn run_clock(&mut self, to: Point, progress: &[Progress]) {
        if let Some(to) = self.clock_of(to, progress).filter(|_| self.begun.is_some()) {
            self.told_by_clock(to);
        }
    }

    /// Holds against progress what was read last.
    pub(super) fn finish_trails(&mut self, wanted: &Wanted, progress: &[Progress]) {
        let rows = self.begun.as_ref().map_or_else(BTreeSet::new, |begun| begun.rows.clone());
        for of_source in progress {
            let Some(entry) = of_source.partitions.iter().find(|entry| entry.partition == wanted.partition) else {
                continue;
            };
            // When it was committed is not known: before this, at the latest.
            let time_ms = of_source.postgres_clock_us.div_euclid(1000);
            let ending = Ending { position: entry.last, time_ms, next_offset: entry.next_offset };
            let to = wanted.replay.map(|(_, to)| to);
            let stretch = match to {
                _ if wanted.from.takes(&ending) => Stretch::Before,
                Some(to) if to.takes(&ending) => Stretch::Between,
                Some(_) | None => Stretch::Behind,
            };
            let trail = self.trails.entry(of_source.source_number).or_insert_with(Trail::new);
            trail.finish(entry.last, stretch, &rows);
        }
    }

    pub(super) fn outcome(self, wanted: &Wanted) -> Result<Outcome, HistoryError> {
        let point = wanted.from;
        let of_source = |number: &u16| self.source.is_none_or(|source| source == *number);
        let trails = || self.trails.iter().filter(|(number, _)| of_source(number)).map(|(_, trail)| trail);
        let lost = trails().filter_map(|trail| match trail.proof() {
            Proof::Lost { until } => Some(until),
            Proof::Whole | Proof::Rows => None,
        });
        if self.is_mixed {
            return Err(HistoryError::TwoSources(Arc::clone(&wanted.account)));
        }
        if let Some(until) = lost.max() {
            return Err(HistoryError::Compacted { point, until });
        }
        let Some(begun) = self.begun else { return Err(HistoryError::NoAccount(Arc::clone(&wanted.account))) };
        let is_partial = trails().any(|trail| trail.proof() == Proof::Rows);
        if is_partial && begun.ended_flows > 0 {
            return Err(HistoryError::FlowsCompacted { point, flows: begun.ended_flows });
        }
        if let Some(at) = trails().filter_map(Trail::hole_between).max().filter(|_| wanted.replay.is_some()) {
            return Err(HistoryError::CompactedBetween { at });
        }
        if let Some(refusal) = begun.refusal {
            return Err(HistoryError::Refused { from: point, refusal });
        }
        if let Some(reason) = begun.doubt.filter(|_| wanted.replay.is_none()) {
            return Err(HistoryError::Doubted { point, reason });
        }
        let past = Past { account: self.account, ending: begun.ending, at: begun.at };
        Ok(Outcome { past, told: self.told })
    }
}
