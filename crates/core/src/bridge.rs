//! The bridge as a state machine: from WAL frames to records, delivery reports, commits and confirmed LSNs.
//!
//! ```text
//! handle_wal ─▶ pgoutput ─▶ relation ─▶ route ─▶ outlet ─▶ ledger.admit ──▶ Action::Produce
//! handle_delivered ─▶ ledger.settle ─▶ (whole group delivered) ──▶ Action::Commit(progress)
//! handle_committed ─▶ ledger.committed ──▶ the next group may be committed
//! handle_readable ─▶ ledger.readable ──▶ Action::Confirm(end LSN)
//! ```
//!
//! **Groups.** Whole Postgres transactions are gathered into one Kafka transaction. While a group waits for its reports
//! and its commit, the next one fills; its records are not produced before the commit is asked for, because a Kafka
//! producer has one open transaction. A group closes when the previous commit has returned and one of these holds: what
//! has been received is used up and its commits are young (lowest latency); the source is quiet; or, while an old backlog
//! is read, the group has reached a bound (highest throughput).
//!
//! **Invariants.** The confirmed LSN is the end of a committed group that readers can read, never more. A record is produced once per session;
//! any failure ends the session, and the next one starts from what is durable. Nothing is decided by a clock but when to
//! close a group and when to write a heartbeat.
//!
//! It does not know sockets, brokers, catalogs or registries; those are the shell's (`penstock`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use penstock_wire::control::{Control, ControlKey};
use penstock_wire::lsn::{CommitLsn, EndLsn, Lsn};
use penstock_wire::partition::Partitioner;
use penstock_wire::position::{Part, Seq};
use penstock_wire::progress::{KeyPin, Progress, TypePin};
use penstock_wire::table::SourceInfo;

use crate::batch::Batch;
use crate::emit::{ControlPlace, Emit, Open, put_control};
use crate::fault::{Fault, TableFault};
use crate::ledger::{Delivered, GroupEnd, LastCommit, Ledger};
use crate::limits::{BATCH_BYTES, BEHIND_US, GROUP_TRANSACTIONS_MAX, Limits};
use crate::outlet::Outlet;
use crate::pgoutput::{self, Begin, Commit, Message, Relation};
use crate::relation::{self, CatalogFacts, Counts, Rules, Table};
use crate::resume::{SkippedHistory, progress_record, start_of};

/// First OID that Postgres gives to what users create; names of types below it never change.
const FIRST_USER_OID: u32 = 16_384;

/// What a bridge is configured with for its whole life.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The source, as records name it.
    pub source: SourceInfo,
    /// The pinned partition count.
    pub partitioner: Partitioner,
    /// Avro namespace of the tables' schemas, pinned.
    pub namespace: String,
    /// Whether keys carry `__source`, pinned.
    pub source_in_key: bool,
    /// Registry ids of the control records' key and value schemas.
    pub control_schema_ids: (u32, u32),
    /// What the configuration says about tables.
    pub rules: Rules,
    /// Bounds.
    pub limits: Limits,
}

/// What the shell must do, in this order.
#[derive(Debug)]
pub enum Action {
    /// Produce these records in the open Kafka transaction, beginning one if there is none.
    Produce(Batch),
    /// Describe the relation from the catalog, register its schemas, answer with [`Bridge::handle_schema_ready`].
    NeedSchema(Relation),
    /// Produce this progress record in the same Kafka transaction and commit it.
    Commit(Box<Progress>),
    /// Everything before it is durable and can be read: the slot may be told, now and in every later status update.
    Confirm(GroupEnd),
    /// Nothing more will come.
    Stopped(Stop),
}

/// Why nothing more will come.
#[derive(Debug)]
pub enum Stop {
    /// As asked; everything read is committed and confirmed.
    Shutdown,
    /// It must not go on.
    Fault(Box<Fault>),
}

/// One frame of the replication stream.
#[derive(Clone, Copy, Debug)]
pub enum Wal<'a> {
    /// A pgoutput message.
    Data {
        /// WAL position of the change; neither unique nor monotonic.
        start: Lsn,
        /// Server's clock when it was sent, Unix microseconds.
        sent_at_us: i64,
        /// The message.
        payload: &'a [u8],
    },
    /// Everything committed before `wal_end` has been sent.
    Keepalive {
        /// An exclusive end; one byte more loses a commit.
        wal_end: EndLsn,
    },
}

/// A reading of the server's clock and of its WAL position, taken after the clock: once everything before `lsn` is
/// delivered, the topic is as fresh as `clock_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    /// The server's WAL position.
    pub lsn: EndLsn,
    /// The server's clock, Unix microseconds.
    pub clock_us: i64,
}

#[derive(Debug)]
enum Stream {
    /// Between transactions.
    Between,
    /// In one that is already delivered.
    Skipping { begin: Begin, events: u64 },
    /// In one that is being delivered.
    Within(Open),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Bridge {
    settings: Settings,
    progress: Progress,
    history: SkippedHistory,
    skipped: u64,
    stream: Stream,
    read_to: EndLsn,
    tables: BTreeMap<u32, Table>,
    key_pins: BTreeMap<(String, String), KeyPin>,
    awaiting_schema: Option<u32>,
    outlet: Outlet,
    ledger: Ledger,
    samples: VecDeque<ClockSample>,
    /// Batches of the group that may not be produced before its predecessor's commit is asked for.
    waiting: VecDeque<Batch>,
    actions: VecDeque<Action>,
    /// All that was received has been handled, as long as no new frame came.
    drained: bool,
    /// Nothing more has come for a moment.
    quiet: bool,
    /// What is read now was committed long before it was sent.
    behind: bool,
    group_opened: Option<Duration>,
    last_commit_asked: Duration,
    shutting_down: bool,
    stopped: bool,
}

impl Bridge {
    /// Resumes behind `progress`, at time `now`.
    pub fn new(settings: Settings, progress: Progress, now: Duration) -> Self {
        let start = start_of(&progress, settings.partitioner.count());
        let pins = progress.key_pins.iter().map(|pin| ((pin.schema.clone(), pin.table.clone()), pin.clone()));
        Self {
            outlet: Outlet::new(&start, settings.source.number, progress.epoch, settings.limits.record_bytes_max),
            history: SkippedHistory::new(&progress),
            skipped: 0,
            stream: Stream::Between,
            read_to: start.end_lsn,
            tables: BTreeMap::new(),
            key_pins: pins.collect(),
            awaiting_schema: None,
            ledger: Ledger::new(start),
            samples: VecDeque::new(),
            waiting: VecDeque::new(),
            actions: VecDeque::new(),
            drained: false,
            quiet: false,
            behind: false,
            group_opened: None,
            last_commit_asked: now,
            shutting_down: false,
            stopped: false,
            settings,
            progress,
        }
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
        self.ledger.seal(self.read_to, None, clock_us);
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
        self.tables.values_mut().map(|table| {
            let counts = table.take_counts();
            (&table.relation, counts)
        })
    }

    /// Transactions read again and dropped, because they are delivered, since the last time.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// Whether delivery reports or a commit are outstanding.
    pub fn awaits_kafka(&self) -> bool {
        self.ledger.is_busy() || self.ledger.awaits_reports(self.outlet.waiting_records())
    }

    /// Whether the next frame may be handed in. If not, something has to come back first.
    pub fn wants_wal(&self) -> bool {
        let shipped = self.ledger.in_flight_bytes().saturating_sub(self.outlet.waiting_bytes());
        let finished = self.shutting_down && matches!(self.stream, Stream::Between);
        !self.stopped
            && !finished
            && self.awaiting_schema.is_none()
            && shipped < self.settings.limits.in_flight_bytes_max
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// One frame. Only while [`Self::wants_wal`].
    pub fn handle_wal(&mut self, wal: Wal<'_>, now: Duration) {
        assert!(self.awaiting_schema.is_none(), "a frame was handed in while a schema is awaited");
        (self.drained, self.quiet) = (false, false);
        let handled = match wal {
            Wal::Data { start, sent_at_us, payload } => self.message(start, sent_at_us, payload, now),
            Wal::Keepalive { wal_end } => {
                self.keepalive(wal_end);
                Ok(())
            }
        };
        match handled {
            Ok(()) if self.outlet.waiting_bytes() >= BATCH_BYTES || !self.wants_wal() => self.ship(),
            Ok(()) => {}
            Err(fault) => self.stop(Stop::Fault(Box::new(fault))),
        }
        self.advance(now);
    }

    /// Everything received has been handed in.
    pub fn handle_drained(&mut self, now: Duration) {
        self.drained = true;
        self.advance(now);
    }

    /// Nothing more has come for a moment.
    pub fn handle_quiet(&mut self, now: Duration) {
        self.quiet = true;
        self.advance(now);
    }

    /// Positive delivery reports, in any order. A negative one is the end of the session, not an event.
    pub fn handle_delivered(&mut self, reports: impl IntoIterator<Item = Delivered>, now: Duration) {
        for report in reports {
            self.ledger.settle(report);
        }
        self.advance(now);
    }

    /// The commit that was asked for has returned.
    pub fn handle_committed(&mut self, now: Duration) {
        self.ledger.committed();
        self.advance(now);
    }

    /// The oldest commit that was not yet readable is.
    pub fn handle_readable(&mut self, now: Duration) {
        let end = self.ledger.readable();
        self.actions.push_back(Action::Confirm(end));
        self.advance(now);
    }

    /// The relation that was asked about can be captured, and its schemas have these registry ids.
    pub fn handle_schema_ready(&mut self, mut table: Table, key_schema_id: u32, value_schema_id: u32, now: Duration) {
        let id = table.relation.id;
        assert_eq!(self.awaiting_schema, Some(id), "schema of a relation that was not asked for");
        self.awaiting_schema = None;
        let name = (table.relation.schema.clone(), table.relation.table.clone());
        let columns = table.key.iter().map(|index| table.relation.columns[*index].name.clone()).collect();
        let (schema, table_name) = name.clone();
        let pin = self.key_pins.entry(name).or_insert(KeyPin { schema, table: table_name, columns, key_schema_id });
        if pin.key_schema_id != key_schema_id {
            let source = TableFault::KeySchema { pinned: pin.key_schema_id, found: key_schema_id };
            self.stop(Stop::Fault(Box::new(table_fault(&table.relation, source))));
            return;
        }
        self.progress.key_pins = self.key_pins.values().cloned().collect();
        table.plan.registered(key_schema_id, value_schema_id);
        self.tables.insert(id, table);
        self.advance(now);
    }

    /// A reading of the server's clock.
    pub fn handle_clock(&mut self, sample: ClockSample) {
        self.samples.push_back(sample);
    }

    /// Time has passed; call it at least every 100 ms.
    pub fn handle_tick(&mut self, now: Duration) {
        self.advance(now);
    }

    /// Finish what has begun, take no new transaction.
    pub fn handle_shutdown(&mut self, now: Duration) {
        self.shutting_down = true;
        self.advance(now);
    }

    /// Compiles a relation with what the catalog says about it; the answer goes to [`Self::handle_schema_ready`].
    pub fn describe(&mut self, relation: &Relation, mut facts: CatalogFacts) -> Result<Table, Fault> {
        self.pin_types(relation, &mut facts);
        let Settings { rules, source, namespace, source_in_key, .. } = &self.settings;
        let pin = self.key_pins.get(&(relation.schema.clone(), relation.table.clone()));
        let compiled = relation::compile(relation, &facts, rules, source, namespace, pin, *source_in_key);
        compiled.map_err(|source| table_fault(relation, source))
    }

    /// Type names can change in the catalog, the ones in records may not: the first seen is kept.
    fn pin_types(&mut self, relation: &Relation, facts: &mut CatalogFacts) {
        for (column, type_info) in relation.columns.iter().zip(&mut facts.types) {
            if column.type_oid >= FIRST_USER_OID {
                let (oid, modifier) = (column.type_oid, column.type_modifier);
                let pins = &mut self.progress.type_pins;
                match pins.iter().find(|pin| (pin.oid, pin.modifier) == (oid, modifier)) {
                    Some(pin) => type_info.pg_type.clone_from(&pin.name),
                    None => pins.push(TypePin { oid, modifier, name: type_info.pg_type.clone() }),
                }
            }
        }
    }

    fn message(&mut self, start: Lsn, sent_at_us: i64, payload: &[u8], now: Duration) -> Result<(), Fault> {
        let message = pgoutput::decode(payload).map_err(|source| Fault::Decode { after: self.read_to, source })?;
        match (message, &mut self.stream) {
            (Message::Begin(begin), Stream::Between) => {
                self.behind = sent_at_us.saturating_sub(begin.commit_time_us) > BEHIND_US;
                self.begin(begin, now)
            }
            (Message::Begin(_), _) => Err(self.out_of_sequence("Begin inside a transaction")),
            (Message::Commit(commit), _) => self.commit(commit),
            (Message::Relation(relation), _) => {
                self.relation(relation);
                Ok(())
            }
            (Message::Origin | Message::Type, _) => Ok(()),
            (Message::Logical(message), _) if !message.transactional => Ok(()),
            (_, Stream::Between) => Err(self.out_of_sequence("a change outside a transaction")),
            (message, Stream::Skipping { events, .. }) => {
                *events += events_of(&message);
                Ok(())
            }
            (message, Stream::Within(_)) => self.change(start, message),
        }
    }

    fn begin(&mut self, begin: Begin, now: Duration) -> Result<(), Fault> {
        if self.progress_end().covers(begin.commit_lsn) {
            self.stream = Stream::Skipping { begin, events: 0 };
            return Ok(());
        }
        self.history.verify()?;
        if begin.commit_lsn.0 < self.read_to.0 {
            return Err(self.out_of_sequence("a commit before one already read"));
        }
        self.group_opened.get_or_insert(now);
        self.stream = Stream::Within(Open { begin, events: 0, envelopes: 0 });
        Ok(())
    }

    fn commit(&mut self, commit: Commit) -> Result<(), Fault> {
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
                self.outlet.seal();
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
    fn keepalive(&mut self, wal_end: EndLsn) {
        if matches!(self.stream, Stream::Between) && wal_end >= self.read_to {
            self.read_to = wal_end;
            self.seal(wal_end, None);
        }
    }

    fn seal(&mut self, end: EndLsn, commit: Option<LastCommit>) {
        let mut clock_us = 0;
        while let Some(sample) = self.samples.front().copied().filter(|sample| sample.lsn <= end) {
            clock_us = sample.clock_us;
            self.samples.pop_front();
        }
        self.ledger.seal(end, commit, clock_us);
    }

    fn relation(&mut self, relation: Relation) {
        if self.tables.get(&relation.id).is_some_and(|known| known.relation == relation) {
            return;
        }
        self.tables.remove(&relation.id);
        self.awaiting_schema = Some(relation.id);
        self.actions.push_back(Action::NeedSchema(relation));
    }

    fn change(&mut self, start: Lsn, message: Message<'_>) -> Result<(), Fault> {
        let Stream::Within(open) = &mut self.stream else { unreachable!("changes are handled within a transaction") };
        let mut emit = Emit {
            open,
            row_lsn: start,
            tables: &mut self.tables,
            settings: &self.settings,
            outlet: &mut self.outlet,
            ledger: &mut self.ledger,
        };
        emit.change(message)
    }

    /// Ships, closes and commits as far as what has come in allows.
    fn advance(&mut self, now: Duration) {
        if self.stopped {
            return;
        }
        if let Some(end) = self.ledger.take_commit() {
            let progress = progress_record(&self.progress, end);
            self.actions.push_back(Action::Commit(Box::new(progress)));
            self.actions.extend(self.waiting.drain(..).map(Action::Produce));
        }
        if self.may_close(now) {
            self.ship();
            self.ledger.close();
            self.group_opened = None;
            self.last_commit_asked = now;
            // A group without records, a heartbeat, has nothing to wait for.
            self.advance(now);
        } else if self.is_finished() {
            self.stop(Stop::Shutdown);
        }
    }

    fn may_close(&self, now: Duration) -> bool {
        if self.ledger.is_busy() || !matches!(self.stream, Stream::Between) {
            return false;
        }
        let (records, bytes, transactions) = self.ledger.open_size();
        let limits = &self.settings.limits;
        let full = records >= limits.group_records_max as u64
            || bytes >= limits.group_bytes_max
            || transactions >= GROUP_TRANSACTIONS_MAX
            || self.group_opened.is_some_and(|opened| now.saturating_sub(opened) >= limits.group_age_max);
        let ended = self.quiet || (self.drained && !self.behind) || self.shutting_down || !self.wants_wal();
        let idle = now.saturating_sub(self.last_commit_asked) >= limits.heartbeat;
        let ahead = self.ledger.open_end().end_lsn > self.ledger.committed_end();
        (records > 0 && (full || ended)) || idle || (self.shutting_down && ahead)
    }

    fn is_finished(&self) -> bool {
        self.shutting_down
            && matches!(self.stream, Stream::Between)
            && !self.ledger.is_busy()
            && self.ledger.open_end().end_lsn == self.ledger.durable()
    }

    fn ship(&mut self) {
        let Some(batch) = self.outlet.ship() else { return };
        if self.ledger.is_closing() {
            self.waiting.push_back(batch);
        } else {
            self.actions.push_back(Action::Produce(batch));
        }
    }

    fn stop(&mut self, stop: Stop) {
        if !self.stopped {
            self.stopped = true;
            self.actions.push_back(Action::Stopped(stop));
        }
    }

    fn progress_end(&self) -> EndLsn {
        self.progress.end_lsn
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

fn table_fault(relation: &Relation, source: TableFault) -> Fault {
    Fault::Table { schema: relation.schema.clone(), table: relation.table.clone(), source: Box::new(source) }
}
