//! An account as it was: its state at a point of the topic's history, and what a channel would have been told from there.
//!
//! ```text
//! records from the beginning ─▶ Partition ─▶ whole transactions ─▶ Account, with the commits' times for a clock ─▶ pushes
//!                            └▶ Trail: is anything missing that was there then? ─▶ proof, or a refusal
//! ```
//!
//! A state machine without a clock, like [`Replica`](crate::replica::Replica), and made of the same parts: hand in the
//! newest progress of each source, then the records of the account's partition in offset order until it
//! [is decided](History::is_decided) or the partition's end is reached, then ask for the [outcome](History::finish).
//!
//! Invariants: a state is given out only where it is proven to be what a reader had that had read to there. What an
//! announcement authorised is not in the topic, and so in no outcome.

mod finder;
mod point;
mod proof;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use penstock_wire::control::ControlKind;
use penstock_wire::position::Position;
use penstock_wire::progress::Progress;

use crate::account::snapshot::{FlowHistory, History as OfRow};
use crate::account::{self, Account};
use crate::change::{Action, Commit};
use crate::channel::push::{Message, Push};
use crate::channel::{Event, Refusal};
use crate::decode::{self, Names};
use crate::knowledge::{Knowledge, Reason};
use crate::partition::{self, Kind, Output, Partition, Record, Void};
use crate::replica::{RawRecord, Subscriber, UnknownSchema, Written, changes_of};
use crate::rows::{Micros, RowId, Table};

pub use finder::Finder;
pub use point::{Ending, Point, PointParseError};
use proof::{Proof, Stretch, Trail, Trait};

/// What is wanted of which account.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// As it stands in keys.
    pub account: Arc<str>,
    /// The number of its partition.
    pub partition: u32,
    pub from: Point,
    /// Whose channel, and until when; None: the state at `from` is all that is wanted.
    pub replay: Option<(Subscriber, Point)>,
}

/// What a history is read with.
#[derive(Clone, Debug)]
pub struct Options {
    pub account: Arc<account::Options>,
    pub partition: partition::Options,
    pub names: Names,
}

/// An account at a point.
#[derive(Debug)]
pub struct Past {
    /// Ask it by `at`: nothing later is known of it.
    pub account: Account,
    /// The last transaction of its source that is in it.
    pub ending: Ending,
    /// The instant that it was brought to: the point, if that is one, else when that transaction was committed.
    pub at: Micros,
}

/// A push that a channel would have got.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// When: at a commit, or at a deadline.
    pub time: Micros,
    pub message: Message,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub past: Past,
    /// In order; of a state alone, none.
    pub told: Vec<Told>,
}

/// Why a past cannot be told.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HistoryError {
    #[error("the topic does not reach {0} yet. Ask again when it does")]
    NotYet(Point),
    #[error("{from} lies behind {to}")]
    Reversed { from: Point, to: Point },
    #[error("account {0} has no row in the topic at that point")]
    NoAccount(Arc<str>),
    #[error("account {0} has rows of several sources, whose positions cannot be compared")]
    TwoSources(Arc<str>),
    #[error(
        "compaction has removed records that tell the state at {point}; its rows can be told from {until} on, which is \
         {} as a point", place(*.until)
    )]
    Compacted { point: Point, until: Position },
    #[error(
        "compaction has removed records from before {point}: its rows can be told, but not which of {flows} flows had \
         ended by then. Choose a point from which the topic keeps its full history"
    )]
    FlowsCompacted { point: Point, flows: usize },
    #[error("compaction has removed records before {at} that were pushed from. Begin at {} or later", place(*.at))]
    CompactedBetween { at: Position },
    #[error("at {point} a reader did not know the account either ({reason:?}): rows were missing or unreadable")]
    Doubted { point: Point, reason: Reason },
    #[error("at {from} the channel could not be opened: {refusal}. Its token can be given")]
    Refused { from: Point, refusal: Refusal },
    #[error("the topic was made anew under its old name, or progress is another topic's")]
    TopicReplaced,
}

fn place(position: Position) -> String {
    Point::Commit { epoch: position.epoch, lsn: position.commit_lsn }.to_string()
}

/// See the module's documentation.
#[derive(Debug)]
pub struct History {
    wanted: Wanted,
    options: Options,
    now: Micros,
    schemas: Written,
    progress: Vec<Progress>,
    run: Run,
    voids: Option<Vec<Void>>,
    broken: Option<HistoryError>,
}

/// One reading from the beginning.
#[derive(Debug)]
struct Run {
    partition: Partition<decode::Event>,
    account: Account,
    /// Where its rows come from.
    source: Option<u16>,
    is_mixed: bool,
    trails: BTreeMap<u16, Trail>,
    endings: BTreeMap<u16, Ending>,
    /// Before the next transaction of these changes may be missing.
    doubted: BTreeSet<u16>,
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

impl History {
    /// `now`: the reader's clock, microseconds since 1970; it judges what is too young to be compacted.
    pub fn new(wanted: Wanted, options: Options, progress: Vec<Progress>, now: Micros) -> Self {
        let schemas = Written::new(options.names.clone());
        let run = Run::new(&wanted, &options, &progress, Vec::new(), now);
        Self { wanted, options, now, schemas, progress, run, voids: None, broken: None }
    }

    /// Compiles a schema that [`UnknownSchema`] asked for; one that the registry does not have is `None`.
    pub fn handle_schema(&mut self, id: u32, json: Option<&str>) {
        // What it lacks makes rows that grant nothing, as in the live state, which tells of it.
        let _ = self.schemas.insert(id, json);
    }

    /// Takes the next record of the partition.
    ///
    /// # Errors
    /// Nothing was taken: hand in the schema, and the record again.
    pub fn handle_record(&mut self, raw: &RawRecord<'_>) -> Result<(), UnknownSchema> {
        match self.schemas.read(raw)? {
            Ok(record) => self.take(record),
            Err(reason) => {
                self.run.partition.handle_misplaced(raw.offset, reason, self.now);
                self.drive();
            }
        }
        Ok(())
    }

    fn take(&mut self, record: Record<decode::Event>) {
        let trail = self.run.trails.entry(record.header.source).or_insert_with(Trail::new);
        trail.read(&record.header, shows(&record, &self.wanted.account));
        self.run.partition.handle_record(record, self.now);
        self.drive();
    }

    /// Nothing more has to be read.
    pub fn is_decided(&self) -> bool {
        self.broken.is_some() || self.voids.is_some() || self.run.is_decided()
    }

    /// A later epoch has declared void what was read: read again from the partition's beginning. Whether that is so; it
    /// is begun with that.
    pub fn begins_again(&mut self) -> bool {
        let Some(voids) = self.voids.take() else { return false };
        self.run = Run::new(&self.wanted, &self.options, &self.progress, voids, self.now);
        true
    }

    /// What came of it. `end`: the partition's end, or any offset up to which it was read if it is decided.
    ///
    /// # Errors
    /// If it cannot be proven.
    pub fn finish(mut self, end: i64) -> Result<Outcome, HistoryError> {
        let is_decided = self.run.is_decided();
        if !is_decided && self.broken.is_none() {
            self.run.partition.handle_end(end, self.now);
            self.drive();
        }
        if let Some(error) = self.broken {
            return Err(error);
        }
        let Self { wanted, mut run, progress, .. } = self;
        if !is_decided {
            reached(&wanted, run.source, &progress, end)?;
            run.begin(&wanted, run.clock_of(wanted.from, &progress));
            let last = wanted.replay.map_or(wanted.from, |(_, to)| to);
            run.run_clock(last, &progress);
            run.finish_trails(&wanted, &progress);
        } else if let Some((_, Point::Time(to))) = wanted.replay {
            run.told_by_clock(to);
        }
        run.outcome(&wanted)
    }

    fn drive(&mut self) {
        while let Some(output) = self.run.partition.poll_output() {
            match output {
                Output::Transaction(transaction) => {
                    if let Err(error) = self.run.apply(transaction, &self.wanted, &self.options.names) {
                        self.broken = Some(error);
                        return;
                    }
                }
                Output::Doubted { source } => {
                    self.run.doubted.insert(source);
                }
                Output::Rebuild(rebuild) => match rebuild.reason {
                    partition::RebuildReason::Voided(_) => self.voids = Some(rebuild.voids),
                    partition::RebuildReason::TopicReplaced => self.broken = Some(HistoryError::TopicReplaced),
                    // Time stands still here, and nothing is read behind the end.
                    partition::RebuildReason::TooSlow | partition::RebuildReason::Compacted { .. } => {}
                },
                // Who watches the live state is told of these.
                Output::Problem(_) | Output::Learned(_) => {}
            }
        }
        self.run.rest();
    }
}

/// What a record shows of the account's rows.
fn shows(record: &Record<decode::Event>, account: &Arc<str>) -> Trait {
    let is_its = record.account.as_ref().is_none_or(|of| of == account);
    match &record.kind {
        Kind::Row(event) | Kind::Tombstone(event) if is_its => match &event.action {
            Action::Insert(id, _) => Trait::Insert(event.table, *id),
            Action::Update(id, _) | Action::Load(id, _) | Action::Delete(id) => Trait::Row(event.table, *id),
            Action::Truncate | Action::Sweep { .. } => Trait::Control,
        },
        Kind::Control(control) => match control.kind {
            ControlKind::ReloadBegin => Trait::Nothing,
            _ if control.account.as_deref().is_some_and(|of| of != &**account) => Trait::Nothing,
            _ => Trait::Control,
        },
        Kind::Undecodable { .. } if is_its => Trait::Control,
        Kind::Row(_) | Kind::Tombstone(_) | Kind::Undecodable { .. } | Kind::Skipped => Trait::Nothing,
    }
}

/// The topic must reach the points: what comes later may still lie before them.
fn reached(wanted: &Wanted, source: Option<u16>, progress: &[Progress], end: i64) -> Result<(), HistoryError> {
    let of_source = || progress.iter().filter(|of| source.is_none_or(|source| of.source_number == source));
    let to = wanted.replay.map(|(_, to)| to);
    for point in [Some(wanted.from), to].into_iter().flatten() {
        let is_reached = match point {
            Point::Offset(offset) => offset < end,
            Point::Time(time) => of_source().all(|of| time.0 <= of.postgres_clock_us),
            Point::Commit { epoch, lsn } => {
                of_source().all(|of| epoch < of.epoch || (epoch == of.epoch && of.end_lsn.covers(lsn)))
            }
            Point::End => true,
        };
        if !is_reached || of_source().next().is_none() {
            return Err(HistoryError::NotYet(point));
        }
    }
    Ok(())
}

impl Run {
    fn new(wanted: &Wanted, options: &Options, progress: &[Progress], voids: Vec<Void>, now: Micros) -> Self {
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

    fn is_decided(&self) -> bool {
        let Some(trail) = self.source.and_then(|source| self.trails.get(&source)) else { return false };
        let is_whole = trail.proof() == Proof::Whole && trail.hole_between().is_none();
        self.begun.is_some() && trail.stretch == Stretch::Behind && is_whole
    }

    fn apply(
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
    fn begin(&mut self, wanted: &Wanted, clock: Option<Micros>) {
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
    fn rest(&mut self) {
        if self.source.is_none_or(|source| !self.is_behind(source)) {
            self.doubt = self.partition.doubt(self.account.id());
            self.learn();
        }
        self.is_resting = true;
    }

    fn is_behind(&self, source: u16) -> bool {
        self.trails.get(&source).is_some_and(|trail| trail.stretch == Stretch::Behind)
    }

    fn told_by_clock(&mut self, now: Micros) {
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
    fn clock_of(&self, point: Point, progress: &[Progress]) -> Option<Micros> {
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

    fn run_clock(&mut self, to: Point, progress: &[Progress]) {
        if let Some(to) = self.clock_of(to, progress).filter(|_| self.begun.is_some()) {
            self.told_by_clock(to);
        }
    }

    /// Holds against progress what was read last.
    fn finish_trails(&mut self, wanted: &Wanted, progress: &[Progress]) {
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

    fn outcome(self, wanted: &Wanted) -> Result<Outcome, HistoryError> {
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
