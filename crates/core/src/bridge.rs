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
//! Here stands what comes in and goes out; what a frame does is in `frames`, when a group closes in `closing`.
//!
//! It does not know sockets, brokers, catalogs or registries; those are the shell's (`penstock`).

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use penstock_wire::control::{Control, ControlKey};
use penstock_wire::lsn::{CommitLsn, EndLsn};
use penstock_wire::partition::PartitionId;
use penstock_wire::position::{Position, Seq};
use penstock_wire::progress::Progress;

use crate::backfill::Backfill;
use crate::batch::Batch;
use crate::emit::{ControlPlace, put_control};
use crate::fault::Fault;
use crate::group::Timing;
use crate::history::History;
pub use crate::interface::{Action, ClockSample, Settings, Stop, Wal};
use crate::ledger::{Delivered, Ledger};
use crate::limits::BATCH_BYTES;
use crate::outlet::Outlet;
use crate::oversize::{Attempt, Suspect, Watch};
use crate::pgoutput::Relation;
use crate::relation::{CatalogFacts, Counts, Table};
use crate::resume::start_of;
use crate::samples::ClockSamples;
use crate::tables::Tables;

mod altering;
mod closing;
mod frames;
mod reloading;

use frames::{Held, Stream};

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

    /// Begins progress' epoch: an epoch record in every partition, before anything else. `detail` says whether the topic
    /// will hold every row (`complete: …`) or not (`incomplete: …`). `gap`: a gap record follows each.
    pub fn open_epoch(&mut self, detail: &str, gap: bool, clock_us: i64, now: Duration) {
        let epoch = self.progress.epoch;
        self.ledger.begin_epoch(epoch);
        let ends: Vec<Position> = self.progress.partitions.iter().map(|entry| entry.last).collect();
        let begin = |partition: PartitionId| {
            (epoch > 1).then(|| ends.get(partition.number() as usize).copied().unwrap_or_default())
        };
        self.put_everywhere(Seq(0), clock_us, |partition| Control::epoch(begin(partition), detail.to_owned()));
        if gap {
            self.put_everywhere(Seq(8), clock_us, |_| Control::gap(detail.to_owned()));
        }
        self.ledger.seal(self.read_to, None, clock_us, self.backfill.remembered());
        self.handle_quiet(now);
    }

    /// A control record in every partition, the last of its transaction.
    fn put_everywhere(&mut self, seq: Seq, clock_us: i64, control: impl Fn(PartitionId) -> Control) {
        let place = ControlPlace { commit_lsn: CommitLsn::new(0), seq, commit_time_us: clock_us };
        for partition in self.settings.partitioner.all() {
            let control = control(partition);
            let key = ControlKey::of_source(self.settings.source.number, control.kind);
            put_control(&self.settings, &mut self.outlet, &mut self.ledger, (partition, place), &key, &control)
                .expect("an epoch's record is smaller than any bound");
        }
        self.outlet.seal();
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
}
