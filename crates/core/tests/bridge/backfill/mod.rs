//! Reloads in every order of commits, visibility, reads, deliveries and crashes: what a reader holds is the table.

use std::time::Duration;

use penstock_core::backfill::interface::{Ask, ChunkRequest, Description, REQUEST_PREFIX};
use penstock_core::bridge::{Action, Bridge, Settings, Stop, Wal};
use penstock_core::ledger::Delivered;
use penstock_core::limits::Limits;
use penstock_wire::decode::WriterSchema;
use penstock_wire::lsn::{EndLsn, Lsn};
use penstock_wire::progress::Progress;
use penstock_wire::reload::{ReloadRange, ReloadState};
use proptest::prelude::*;

use crate::world::{EPOCH_2000_US, facts, settings};

mod cases;
mod database;
mod reader;

use database::{Change, Database, Table, shape};
use reader::{Stored, fold};

/// Where a chunk that is being read stands.
#[derive(Debug)]
enum Reading {
    Begin(ChunkRequest),
    Marked(ChunkRequest),
    Read(ChunkRequest),
}

/// A bridge, its database, its shell and its topic.
struct World {
    database: Database,
    bridge: Bridge,
    now: Duration,
    sessions: u32,
    read_to: u64,
    /// What the shell has been asked and has not done.
    asked: Vec<Ask>,
    reading: Vec<Reading>,
    /// In the open Kafka transaction.
    open: Vec<Stored>,
    undelivered: Vec<Delivered>,
    /// With how many of those records it covers: what is produced meanwhile belongs to the next.
    committing: Option<(Progress, usize)>,
    unread: usize,
    topic: Vec<Stored>,
    progress: Progress,
    offsets: [i64; 3],
    schema: Option<WriterSchema>,
    /// Whether sessions of transactions that are not yet visible pass for idle (they must never be asked about in vain).
    idle: bool,
}

fn settings_of(session: u32) -> Settings {
    let limits = Limits { chunk_rows_max: 3, backfill_workers: 3, ..Limits::default() };
    Settings { session: format!("session-{session}"), limits, ..settings(None) }
}

impl World {
    fn new(rows: Table) -> Self {
        let progress = Progress { epoch: 1, end_lsn: EndLsn::new(100), partition_count: 3, ..Progress::default() };
        Self {
            database: Database::new(rows),
            bridge: Bridge::new(settings_of(0), progress.clone(), Duration::ZERO),
            now: Duration::ZERO,
            sessions: 0,
            read_to: 100,
            asked: Vec::new(),
            reading: Vec::new(),
            open: Vec::new(),
            undelivered: Vec::new(),
            committing: None,
            unread: 0,
            topic: Vec::new(),
            progress,
            offsets: [0; 3],
            schema: None,
            idle: false,
        }
    }

    /// Killed; everything that is not in the topic is gone. A commit without its answer may have come through.
    fn crash(&mut self, commit_came_through: bool) {
        if commit_came_through && let Some((progress, records)) = self.committing.take() {
            self.progress = progress;
            self.topic.extend(self.open.drain(..records));
        }
        self.sessions += 1;
        self.bridge = Bridge::new(settings_of(self.sessions), self.progress.clone(), self.now);
        self.read_to = self.progress.end_lsn.raw();
        self.offsets = [0; 3];
        self.progress.partitions.iter().for_each(|entry| self.offsets[entry.partition as usize] = entry.next_offset);
        (self.asked, self.reading, self.open, self.undelivered) = Default::default();
        (self.committing, self.unread) = (None, 0);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.bridge.handle_tick(self.now);
        self.act();
    }

    /// The stream brings the next transaction.
    fn stream(&mut self) -> bool {
        let Some((messages, end)) = self.database.read(self.read_to) else { return false };
        for payload in &messages {
            if !self.bridge.wants_wal() {
                return false;
            }
            self.bridge.handle_wal(Wal::Data { start: Lsn(1), sent_at_us: EPOCH_2000_US, payload }, self.now);
            self.act();
        }
        self.read_to = end;
        self.bridge.handle_drained(self.now);
        self.act();
        true
    }

    /// Kafka answers.
    fn kafka(&mut self) -> bool {
        if self.unread > 0 {
            self.unread -= 1;
            self.bridge.handle_readable(self.now);
        } else if !self.undelivered.is_empty() {
            let reports = std::mem::take(&mut self.undelivered);
            self.bridge.handle_delivered(reports, self.now);
        } else if let Some((progress, records)) = self.committing.take() {
            self.progress = progress;
            self.topic.extend(self.open.drain(..records));
            self.unread += 1;
            self.bridge.handle_committed(self.now);
        } else {
            return false;
        }
        self.act();
        true
    }

    /// The shell does the next small step of one thing it was asked.
    fn shell(&mut self, which: usize) -> bool {
        let all = self.asked.len() + self.reading.len();
        if all == 0 {
            return false;
        }
        let which = which % all;
        if which < self.asked.len() {
            let ask = self.asked.remove(which);
            self.answer(ask);
        } else {
            let index = which - self.asked.len();
            let reading = self.reading.remove(index);
            let next = match reading {
                Reading::Begin(request) => {
                    self.database.mark(request.low.as_str());
                    Some(Reading::Marked(request))
                }
                Reading::Marked(request) if !self.database.is_lockable() => Some(Reading::Marked(request)),
                Reading::Marked(request) => {
                    let chunk = self.database.chunk(&request);
                    self.bridge.handle_chunk(chunk, self.now);
                    Some(Reading::Read(request))
                }
                Reading::Read(request) => {
                    self.database.mark(request.high.as_str());
                    None
                }
            };
            self.reading.extend(next);
        }
        self.act();
        true
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Barrier => {
                let xid = self.database.take_xid();
                self.bridge.handle_barrier(xid, self.now);
            }
            Ask::Idle(xids) => {
                let idle = if self.idle { xids } else { Vec::new() };
                self.bridge.handle_idle(idle, self.now);
            }
            Ask::Survey { reload, .. } => {
                let range = |after: &[&str], until: &[&str]| ReloadRange {
                    schema: "public".into(),
                    table: "t".into(),
                    after: after.iter().map(|text| (*text).to_owned()).collect(),
                    until: until.iter().map(|text| (*text).to_owned()).collect(),
                    ..ReloadRange::default()
                };
                let ranges = vec![range(&[], &["14"]), range(&["14"], &[])];
                self.bridge.handle_surveyed(&reload, Ok(ranges), self.now);
            }
            Ask::Describe { table } => {
                let Description { relation, facts } = Description { relation: shape(), facts: facts(3) };
                let described = self.bridge.describe_for_backfill(&relation, facts).unwrap();
                self.schema = Some(WriterSchema::parse(described.plan.envelope_schema()).unwrap());
                self.bridge.handle_described(table, Ok((described, (10, 11))), self.now);
            }
            Ask::Mark(mark) => self.database.mark(mark.as_str()),
            Ask::Read(request) => self.reading.push(Reading::Begin(request)),
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.bridge.poll_action() {
            match action {
                Action::Produce(mut batch) => {
                    for record in batch.drain() {
                        let offset = &mut self.offsets[record.partition.index()];
                        let bytes = record.key.len() + record.value.map_or(0, <[u8]>::len);
                        self.open.push(Stored::from(&record));
                        let (ticket, partition) = (record.ticket, record.partition);
                        self.undelivered.push(Delivered { ticket, partition, offset: *offset, bytes });
                        *offset += 1;
                    }
                }
                Action::NeedSchema(relation) => {
                    let table = self.bridge.describe(&relation, facts(3)).unwrap();
                    self.schema = Some(WriterSchema::parse(table.plan.envelope_schema()).unwrap());
                    self.bridge.handle_schema_ready(table, 10, 11, self.now);
                }
                Action::Commit(progress) => self.committing = Some((*progress, self.open.len())),
                Action::Backfill(ask) => self.asked.push(ask),
                Action::Confirm(_) => {}
                Action::Stopped(Stop::Shutdown) => panic!("nobody asked for it"),
                Action::Stopped(Stop::Fault(fault)) => panic!("{fault}"),
            }
        }
    }

    fn request(&mut self, content: &str) {
        self.database.message(REQUEST_PREFIX, content);
    }

    /// Until nothing moves any more: all is visible, and no reload is live.
    fn settle(&mut self) {
        for _ in 0..20_000 {
            self.database.reveal();
            self.pass(Duration::from_millis(100));
            let moved = self.kafka() | self.stream() | self.shell(0);
            let live = self.bridge.reloads().iter().any(|reload| !reload.state.is_finished());
            if !moved && !live && self.committing.is_none() {
                return;
            }
        }
        panic!("it never ends: {:?}, {:?}", self.bridge.reloads(), self.bridge.backfill_waits());
    }

    /// The rows as a reader of everything holds them, and how many reloads it has seen end, over all partitions.
    fn reader(&self) -> (Table, usize) {
        let truth = |commit| self.database.at(commit);
        self.schema.as_ref().map_or((Table::new(), 0), |schema| fold(&self.topic, schema, Some(truth)))
    }

    /// The rows as a reader holds them, right or not.
    fn held(&self) -> Table {
        fold(&self.topic, self.schema.as_ref().expect("a row was written"), None::<fn(u64) -> Table>).0
    }

    fn state(&self, id: &str) -> ReloadState {
        self.bridge.reloads().iter().find(|reload| reload.id == id).expect("the reload is remembered").state
    }
}

fn rows(ids: impl IntoIterator<Item = u32>) -> Table {
    ids.into_iter().map(|id| (id, (account(id).to_owned(), "old".to_owned()))).collect()
}

fn account(number: u32) -> &'static str {
    ["a", "b", "c", "d"][number as usize % 4]
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Change>, bool),
    Reveal,
    Stream,
    Kafka,
    Shell(usize),
    Pass,
    Crash(bool),
}

fn change() -> impl Strategy<Value = Change> {
    let id = || 10..30_u32;
    prop_oneof![
        8 => (id(), 0..4_u32, 0..100_u32).prop_map(|(id, to, note)| Change::Put(id, account(to), format!("n{note}"))),
        3 => (id(), id()).prop_map(|(from, to)| Change::Rekey(from, to)),
        4 => id().prop_map(Change::Delete),
        1 => Just(Change::Truncate),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop::collection::vec(change(), 1..4), any::<bool>()).prop_map(|(changes, visible)| Step::Commit(changes, visible)),
        2 => Just(Step::Reveal),
        12 => Just(Step::Stream),
        12 => Just(Step::Kafka),
        14 => (0..8_usize).prop_map(Step::Shell),
        6 => Just(Step::Pass),
        1 => any::<bool>().prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn what_a_reader_holds_after_a_load_is_the_table(
        steps in prop::collection::vec(step(), 50..250),
        ids in prop::collection::btree_set(10..30_u32, 0..20),
    ) {
        let mut world = World::new(rows(ids));
        world.bridge.load_everything(Duration::ZERO);
        world.act();
        for step in steps {
            match step {
                Step::Commit(changes, visible) => world.database.commit(&changes, visible),
                Step::Reveal => world.database.reveal(),
                Step::Stream => { world.stream(); }
                Step::Kafka => { world.kafka(); }
                Step::Shell(which) => { world.shell(which); }
                Step::Pass => world.pass(Duration::from_millis(40)),
                Step::Crash(through) => {
                    world.crash(through);
                    // As a start does while the load is incomplete.
                    if !world.progress.load_complete {
                        world.bridge.load_everything(world.now);
                        world.act();
                    }
                }
            }
        }
        world.settle();
        prop_assert_eq!(world.reader().0, world.database.newest());
        prop_assert_eq!(world.state("first-load"), ReloadState::Done);
        prop_assert!(world.progress.load_complete);
    }
}
