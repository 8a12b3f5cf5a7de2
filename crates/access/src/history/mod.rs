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

mod error;
mod finder;
mod point;
mod proof;
mod run;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use penstock_wire::control::ControlKind;
use penstock_wire::progress::Progress;

use crate::account::{self, Account};
use crate::change::Action;
use crate::channel::push::Message;
use crate::decode::{self, Names};
use crate::partition::{self, Kind, Output, Record, Void};
use crate::replica::{RawRecord, Subscriber, UnknownSchema, Written};
use crate::rows::Micros;

pub use error::HistoryError;
pub use finder::Finder;
pub use point::{Ending, Point, PointParseError};
use proof::{Trail, Trait};
use run::Run;

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
