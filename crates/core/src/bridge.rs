//! The bridge as a state machine: from WAL frames to records, delivery reports, commits and confirmed LSNs.
//!
//! ```text
//! handle_wal ─▶ pgoutput ─▶ relation ─▶ route ─▶ outlet ─▶ ledger.admit ──▶ Action::Produce
//! handle_delivered ─▶ ledger.settle ─▶ (whole group delivered) ──▶ Action::Commit(progress)
//! handle_committed ─▶ ledger.committed ──▶ the next group may be committed
//! handle_readable ─▶ ledger.readable ──▶ Action::Confirm(end LSN)
//! ```
//!
//! **Groups.** Whole Postgres transactions are gathered into one Kafka transaction ([`crate::group`] says how many). While a
//! group waits for its reports and its commit, the next one fills; its records are not produced before the commit is asked
//! for, because a Kafka producer has one open transaction.
//!
//! **Parts.** Told to split, the bridge closes a group in the middle of a transaction, once its Kafka transaction has come
//! of age. Progress then holds how far each partition has come; the end LSN, and with it the slot, stays.
//!
//! **Invariants.** The confirmed LSN is the end of a committed group that readers can read, never more. A record is produced once per session;
//! any failure ends the session, and the next one starts from what is durable. Nothing is decided by a clock but when to
//! close a group and when to write a heartbeat.
//!
//! It does not know sockets, brokers, catalogs or registries; those are the shell's (`penstock`).

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use penstock_wire::control::{Control, ControlKey};
use penstock_wire::lsn::{CommitLsn, EndLsn, Lsn};
use penstock_wire::position::{Part, Position, Seq};
use penstock_wire::progress::Progress;

use crate::backfill::Backfill;
use crate::batch::Batch;
use crate::ddl;
use crate::ddl::message::Ddl;
use crate::emit::{ControlPlace, Emit, Open, put_control};
use crate::fault::Fault;
use crate::group::{Filled, Timing};
use crate::history::{History, Known};
pub use crate::interface::{Action, ClockSample, Settings, Stop, Wal};
use crate::ledger::{Delivered, LastCommit, Ledger};
use crate::limits::{BATCH_BYTES, BEHIND_US};
use crate::outlet::Outlet;
use crate::oversize::{Attempt, Suspect, Watch};
use crate::pgoutput::{self, Begin, Commit, LogicalMessage, Message, Relation};
use crate::relation::{CatalogFacts, Counts, Table};
use crate::resume::{progress_record, start_of};
use crate::samples::ClockSamples;
use crate::tables::Tables;

mod altering;
mod reloading;

#[derive(Debug)]
enum Stream {
    /// Between transactions.
    Between,
    /// In one that is already delivered.
    Skipping { begin: Begin, events: u64 },
    /// In one that is being delivered.
    Within(Open),
}

/// A frame that waits.
#[derive(Debug)]
struct Held {
    start: Lsn,
    sent_at_us: i64,
    payload: Vec<u8>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Bridge {
    settings: Settings,
    progress: Progress,
    history: History,
    skipped: u64,
    stream: Stream,
    read_to: EndLsn,
    tables: Tables,
    outlet: Outlet,
    ledger: Ledger,
    backfill: Backfill,
    samples: ClockSamples,
    /// Batches of the group that may not be produced before its predecessor's commit is asked for.
    waiting: VecDeque<Batch>,
    actions: VecDeque<Action>,
    timing: Timing,
    watch: Watch,
    suspect: Option<Suspect>,
    /// A frame whose relation is asked about.
    held: Option<Held>,
    /// What is pinned as of the group that is being committed.
    closing: Progress,
    /// The open group has to close before the transaction that has begun.
    apart: bool,
    shutting_down: bool,
    /// It stops for this, once what precedes it is durable.
    halting: Option<Box<Fault>>,
    stopped: bool,
}

impl Bridge {
    /// Resumes behind `progress`, at time `now`.
    pub fn new(settings: Settings, progress: Progress, now: Duration) -> Self {
        let start = start_of(&progress, settings.partitioner.count());
        Self {
            outlet: Outlet::new(&start, settings.source.number, progress.epoch, settings.limits.record_bytes_max),
            history: History::new(&progress),
            skipped: 0,
            stream: Stream::Between,
            read_to: start.end_lsn,
            tables: Tables::new(&progress),
            ledger: Ledger::new(start),
            backfill: Backfill::new(&progress, settings.session.clone()),
            samples: ClockSamples::default(),
            waiting: VecDeque::new(),
            actions: VecDeque::new(),
            timing: Timing::new(now),
            watch: Watch::default(),
            suspect: None,
            held: None,
            closing: progress.clone(),
            apart: false,
            shutting_down: false,
            halting: None,
            stopped: false,
            settings,
            progress,
        }
    }

    /// A transaction that was aborted by time before is delivered apart from others. Before the first frame.
    pub fn heed(&mut self, suspect: Suspect) {
        self.suspect = Some(suspect);
    }

    /// Dead letters at these positions can be read already, and are not written again. Before the first frame.
    pub fn know_dead_letters(&mut self, known: BTreeSet<Position>) {
        self.outlet.know_dead_letters(known);
    }

    /// Begins the first epoch: an epoch record in every partition, before anything else. `detail` says whether the topic
    /// will hold every row (`complete: …`) or not (`incomplete: …`).
    pub fn open_epoch(&mut self, detail: &str, clock_us: i64, now: Duration) {
        self.ledger.forget_durable();
        let source = self.settings.source.number;
        let control = Control::epoch(None, detail.to_owned());
        let key = ControlKey::of_source(source, control.kind);
        let place = ControlPlace { commit_lsn: CommitLsn::new(0), seq: Seq(0), commit_time_us: clock_us };
        for partition in self.settings.partitioner.all() {
            put_control(&self.settings, &mut self.outlet, &mut self.ledger, (partition, place), &key, &control)
                .expect("an epoch record is smaller than any bound");
        }
        self.outlet.seal();
        self.ledger.seal(self.read_to, None, clock_us, self.backfill.remembered());
        self.handle_quiet(now);
    }

    /// Everything committed before this is durable in Kafka: what every status update says.
    pub fn durable(&self) -> EndLsn {
        self.ledger.durable()
    }

    /// Everything committed before this has been read.
    pub fn read_to(&self) -> EndLsn {
        self.read_to
    }

    /// Records and bytes between the decoder and their delivery reports.
    pub fn in_flight(&self) -> (u64, usize) {
        (self.ledger.in_flight_records(), self.ledger.in_flight_bytes())
    }

    /// Postgres transactions that are not yet confirmed, and the commit time of the oldest, Unix microseconds.
    pub fn unacknowledged(&self) -> (u64, Option<i64>) {
        self.ledger.unacknowledged()
    }

    /// Envelopes made since the last time, by table.
    pub fn take_counts(&mut self) -> impl Iterator<Item = (&Relation, Counts)> {
        let backfilled = self.backfill.tables().map(|table| {
            let counts = table.take_counts();
            (&table.relation, counts)
        });
        self.tables.take_counts().chain(backfilled)
    }

    /// Transactions read again and dropped, because they are delivered, since the last time.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Whether delivery reports or a commit are outstanding.
    pub fn awaits_kafka(&self) -> bool {
        self.ledger.is_busy() || self.ledger.awaits_reports(self.outlet.waiting_records())
    }

    /// The open Kafka transaction, if it fails now.
    pub fn attempt(&self, now: Duration) -> Option<Attempt> {
        let within = match &self.stream {
            Stream::Within(open) if !self.ledger.is_busy() => Some(open.begin),
            Stream::Within(_) | Stream::Between | Stream::Skipping { .. } => None,
        };
        self.watch.attempt(within, now)
    }

    /// Whether the next frame may be handed in. If not, something has to come back first.
    pub fn wants_wal(&self) -> bool {
        let shipped = self.ledger.in_flight_bytes().saturating_sub(self.outlet.waiting_bytes());
        let finished = self.shutting_down && matches!(self.stream, Stream::Between);
        !self.stopped
            && self.halting.is_none()
            && !finished
            && !self.apart
            && !self.tables.awaits_schema()
            && shipped < self.settings.limits.in_flight_bytes_max
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// One frame. Only while [`Self::wants_wal`].
    pub fn handle_wal(&mut self, wal: Wal<'_>, now: Duration) {
        assert!(!self.tables.awaits_schema(), "a frame was handed in while a schema is awaited");
        self.timing.frame();
        let handled = match wal {
            Wal::Data { start, sent_at_us, payload } => self.message(start, sent_at_us, payload, now),
            Wal::Keepalive { wal_end } => self.keepalive(wal_end),
        };
        self.handled(handled, now);
    }

    fn handled(&mut self, handled: Result<(), Fault>, now: Duration) {
        match handled {
            Ok(()) if self.outlet.waiting_bytes() >= BATCH_BYTES || !self.wants_wal() => self.ship(now),
            Ok(()) => {}
            // The row is wrong, not the stream: what precedes its transaction is good.
            Err(fault @ Fault::Row { .. }) => self.halting = Some(Box::new(fault)),
            Err(fault) => self.stop(Stop::Fault(Box::new(fault))),
        }
        self.advance(now);
    }

    /// Everything received has been handed in.
    pub fn handle_drained(&mut self, now: Duration) {
        self.timing.drained();
        self.advance(now);
    }

    /// Nothing more has come for a moment.
    pub fn handle_quiet(&mut self, now: Duration) {
        self.timing.quiet();
        self.advance(now);
    }

    /// Positive delivery reports, in any order. A negative one is the end of the session, not an event.
    pub fn handle_delivered(&mut self, reports: impl IntoIterator<Item = Delivered>, now: Duration) {
        for report in reports {
            self.watch.delivered(&report, now);
            self.ledger.settle(report);
        }
        self.advance(now);
    }

    /// The commit that was asked for has returned.
    pub fn handle_committed(&mut self, now: Duration) {
        self.ledger.committed();
        self.watch.committed(now);
        self.advance(now);
    }

    /// The oldest commit that was not yet readable is.
    pub fn handle_readable(&mut self, now: Duration) {
        let end = self.ledger.readable();
        self.actions.push_back(Action::Confirm(end));
        self.advance(now);
    }

    /// The relation that was asked about can be captured, and its schemas have these registry ids.
    pub fn handle_schema_ready(&mut self, table: Table, key_schema_id: u32, value_schema_id: u32, now: Duration) {
        let handled = match self.tables.registered(table, (key_schema_id, value_schema_id), &mut self.progress) {
            Ok(effects) => {
                self.load_again(effects);
                self.resume_held(now)
            }
            Err(fault) => Err(fault),
        };
        self.handled(handled, now);
    }

    /// A reading of the server's clock.
    pub fn handle_clock(&mut self, sample: ClockSample) {
        self.samples.push(sample);
    }

    /// Time has passed; call it at least every 100 ms.
    pub fn handle_tick(&mut self, now: Duration) {
        self.ask_backfill(now);
        self.advance(now);
    }

    /// Finish what has begun, take no new transaction.
    pub fn handle_shutdown(&mut self, now: Duration) {
        self.shutting_down = true;
        self.advance(now);
    }

    /// Compiles a relation with what the catalog says about it; the answer goes to [`Self::handle_schema_ready`].
    pub fn describe(&mut self, relation: &Relation, facts: CatalogFacts) -> Result<Table, Fault> {
        self.tables.describe(relation, facts, &self.settings, &mut self.progress)
    }

    fn message(&mut self, start: Lsn, sent_at_us: i64, payload: &[u8], now: Duration) -> Result<(), Fault> {
        let message = pgoutput::decode(payload).map_err(|source| Fault::Decode { after: self.read_to, source })?;
        match (message, &mut self.stream) {
            (Message::Begin(begin), Stream::Between) => {
                self.timing.behind(sent_at_us.saturating_sub(begin.commit_time_us) > BEHIND_US);
                self.begin(begin, now)
            }
            (Message::Begin(_), _) => Err(self.out_of_sequence("Begin inside a transaction")),
            (Message::Commit(commit), _) => self.commit(commit),
            (Message::Relation(relation), _) => {
                self.backfill.reshaped(&relation);
                self.tables.relation(relation);
                Ok(())
            }
            (Message::Origin | Message::Type, _) => Ok(()),
            (Message::Logical(message), _) if !message.transactional => Ok(()),
            (_, Stream::Between) => Err(self.out_of_sequence("a change outside a transaction")),
            (message, Stream::Skipping { events, .. }) => {
                *events += events_of(&message);
                if let Message::Logical(LogicalMessage { prefix: ddl::PREFIX, content, .. }) = message
                    && let Ok(ddl) = Ddl::parse(content)
                {
                    self.tables.recall(ddl);
                }
                Ok(())
            }
            (Message::Logical(message), Stream::Within(open)) => {
                let begin = open.begin;
                self.logical(message, begin, now)
            }
            (message, Stream::Within(_)) => match self.tables.needs(&message) {
                None => self.change(start, message),
                Some(relation) => {
                    self.held = Some(Held { start, sent_at_us, payload: payload.to_vec() });
                    self.actions.push_back(Action::NeedSchema(relation));
                    Ok(())
                }
            },
        }
    }

    fn resume_held(&mut self, now: Duration) -> Result<(), Fault> {
        match self.held.take() {
            Some(Held { start, sent_at_us, payload }) => self.message(start, sent_at_us, &payload, now),
            None => Ok(()),
        }
    }

    fn begin(&mut self, begin: Begin, now: Duration) -> Result<(), Fault> {
        match self.history.begin(&begin)? {
            Known::Whole => {
                self.stream = Stream::Skipping { begin, events: 0 };
                return Ok(());
            }
            // What a partition holds of it is dropped where it is put.
            Known::InPart | Known::New => {}
        }
        if begin.commit_lsn.0 < self.read_to.0 {
            return Err(self.out_of_sequence("a commit before one already read"));
        }
        let (records, bytes_before, _) = self.ledger.open_size();
        // A suspect shares its Kafka transaction neither with what comes before it nor with what comes after.
        let alone = |commit_lsn| begin.commit_lsn == commit_lsn || self.watch.holds(commit_lsn);
        self.apart = records > 0 && self.suspect.is_some_and(|suspect| alone(suspect.commit_lsn));
        self.timing.transaction(now);
        self.stream = Stream::Within(Open { begin, events: 0, envelopes: 0, bytes_before });
        Ok(())
    }

    fn commit(&mut self, commit: Commit) -> Result<(), Fault> {
        if matches!(self.stream, Stream::Within(_)) {
            let effects = self.tables.commit(&self.settings.rules)?;
            self.load_again(effects);
        }
        let stream = std::mem::replace(&mut self.stream, Stream::Between);
        let begun = match &stream {
            Stream::Between => return Err(self.out_of_sequence("Commit outside a transaction")),
            Stream::Skipping { begin, .. } => begin.commit_lsn,
            Stream::Within(open) => open.begin.commit_lsn,
        };
        if begun != commit.commit_lsn || commit.end_lsn.0 <= commit.commit_lsn.0 {
            return Err(self.out_of_sequence("a Commit that is not its Begin's"));
        }
        match stream {
            Stream::Skipping { begin, events } => {
                self.skipped += 1;
                self.history.skipped(&begin, events)?;
            }
            Stream::Between => {}
            Stream::Within(open) => {
                self.history.ended(&open.begin, open.events)?;
                self.backfill.delivered(open.begin.xid);
                self.outlet.seal();
                self.watch.sealed(open.begin, self.ledger.open_size().1.saturating_sub(open.bytes_before));
                self.read_to = commit.end_lsn;
                let last = (open.events > 0).then(|| self.last_commit(&open));
                self.seal(commit.end_lsn, last);
            }
        }
        Ok(())
    }

    fn last_commit(&self, open: &Open) -> LastCommit {
        let seq = Seq::of_event(open.events - 1, Part::Record);
        let last_event = self.outlet.position(open.begin.commit_lsn, seq);
        LastCommit { last_event, xid: open.begin.xid, commit_time_us: open.begin.commit_time_us }
    }

    /// Inside a transaction it says nothing about what is still to come of it, and is ignored.
    fn keepalive(&mut self, wal_end: EndLsn) -> Result<(), Fault> {
        if matches!(self.stream, Stream::Between) && wal_end >= self.read_to {
            self.history.keepalive(wal_end)?;
            self.read_to = wal_end;
            self.seal(wal_end, None);
        }
        Ok(())
    }

    fn seal(&mut self, end: EndLsn, commit: Option<LastCommit>) {
        let clock_us = self.samples.passed(end);
        self.ledger.seal(end, commit, clock_us, self.backfill.remembered());
    }

    fn change(&mut self, start: Lsn, message: Message<'_>) -> Result<(), Fault> {
        let mut emit = self.emit(start);
        emit.change(message)?;
        if let Some((schema, table)) = emit.incomplete {
            self.reload_needed(&schema, &table, "a change of it came without the old row, and that is accepted");
        }
        Ok(())
    }

    fn emit(&mut self, row_lsn: Lsn) -> Emit<'_> {
        let Stream::Within(open) = &mut self.stream else { unreachable!("changes are handled within a transaction") };
        let (tables, left_out) = self.tables.by_oid();
        Emit {
            open,
            row_lsn,
            tables,
            left_out,
            settings: &self.settings,
            outlet: &mut self.outlet,
            ledger: &mut self.ledger,
            backfill: &mut self.backfill,
            incomplete: None,
        }
    }

    /// Ships, closes and commits as far as what has come in allows.
    fn advance(&mut self, now: Duration) {
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

    fn ship(&mut self, now: Duration) {
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

    fn stop(&mut self, stop: Stop) {
        if !self.stopped {
            self.stopped = true;
            self.actions.push_back(Action::Stopped(stop));
        }
    }

    fn out_of_sequence(&self, what: &'static str) -> Fault {
        Fault::Sequence { after: self.read_to, what }
    }
}

/// Events are counted as received, before any filter, so that a changed configuration renumbers nothing.
fn events_of(message: &Message<'_>) -> u64 {
    match message {
        Message::Insert { .. } | Message::Update { .. } | Message::Delete { .. } | Message::Logical(_) => 1,
        Message::Truncate { relations } => relations.len() as u64,
        Message::Begin(_) | Message::Commit(_) | Message::Relation(_) | Message::Origin | Message::Type => 0,
    }
}
