//! A process that runs the bridge, as thin as the real shell: it opens in the one correct order, streams, and begins again
//! after whatever fails.

use std::time::Duration;

use penstock_core::bridge::{Bridge, Settings};
use penstock_core::limits::Limits;
use penstock_core::poison::Policy;
use penstock_core::resume::{self, Decision, Others, Pinned, Server, Slot, Topic};
use penstock_wire::framing;
use penstock_wire::header::Header;
use penstock_wire::lsn::{EndLsn, Lsn};
use penstock_wire::progress::{PartitionProgress, Progress};
use penstock_wire::table::SourceInfo;

use crate::broker::{PARTITIONS, PROGRESS, Refused, View, Written};
use crate::checker::broken;
use crate::outside::{BEGIN_US, Outside, partitioner};
use crate::postgres::FIRST_LSN;
use crate::producer::Producer;
use crate::streaming::{End, Streaming};
use crate::tables;
use crate::walsender::Connection;

pub const SOURCE: &str = "main";
/// Bytes between the decoder and their reports, above which intake pauses.
pub const IN_FLIGHT_BYTES_MAX: usize = 6_000;

/// A process, if it runs.
#[derive(Debug)]
pub struct Node {
    pub number: usize,
    pub process: Option<Process>,
}

#[derive(Debug)]
pub struct Process {
    pub is_paused: bool,
    sessions: u64,
    connection: Option<Connection>,
    stage: Stage,
    /// It has made the slot, and no progress was ever written.
    is_first: bool,
}

#[derive(Debug)]
enum Stage {
    /// Step 1, and a standby's only one.
    Slot,
    Fence,
    /// Nothing of ours may be without an end in the progress topic.
    SettleProgress(Producer),
    Decide(Producer),
    /// The same in the change topic.
    SettleChanges(Producer, Box<Progress>),
    Stream(Box<Streaming>),
}

impl Node {
    pub fn new(number: usize) -> Self {
        Self { number, process: None }
    }

    pub fn start(&mut self, is_first: bool) {
        let stage = Stage::Slot;
        self.process = Some(Process { is_paused: false, sessions: 0, connection: None, stage, is_first });
    }

    /// Killed. What the network has taken may still arrive; Postgres sees the socket close, sooner or later.
    pub fn kill(&mut self, outside: &mut Outside) -> Option<Connection> {
        let process = self.process.take()?;
        let number = self.number;
        outside.say(|| format!("bridge {number}: killed"));
        match process.stage {
            Stage::SettleProgress(producer) | Stage::Decide(producer) | Stage::SettleChanges(producer, _) => {
                producer.abandon(&mut outside.random, &mut outside.network);
            }
            Stage::Stream(streaming) => {
                streaming.producer.abandon(&mut outside.random, &mut outside.network);
                streaming.loader.abandon(&mut outside.postgres);
            }
            Stage::Slot | Stage::Fence => {}
        }
        process.connection
    }

    pub fn is_streaming(&self) -> bool {
        self.process.as_ref().is_some_and(|process| matches!(process.stage, Stage::Stream(_)))
    }

    pub fn connection(&mut self) -> Option<&mut Connection> {
        self.process.as_mut()?.connection.as_mut()
    }

    pub fn streaming(&mut self) -> Option<&mut Streaming> {
        match &mut self.process.as_mut()?.stage {
            Stage::Stream(streaming) => Some(streaming),
            _ => None,
        }
    }

    /// One step of whatever it is doing.
    pub fn step(&mut self, outside: &mut Outside) {
        let number = self.number;
        let Some(process) = self.process.as_mut().filter(|process| !process.is_paused) else { return };
        match process.step(number, outside) {
            Ok(()) => {}
            Err(End::Session(why)) => {
                outside.say(|| format!("bridge {number}: session ended: {why}"));
                process.end_session(outside);
            }
            Err(End::Process) => {
                outside.say(|| format!("bridge {number}: stopped in order"));
                process.end_session(outside);
                self.process = None;
            }
        }
    }
}

impl Process {
    fn step(&mut self, number: usize, outside: &mut Outside) -> Result<(), End> {
        let stage = std::mem::replace(&mut self.stage, Stage::Slot);
        self.stage = match stage {
            Stage::Slot => self.take_slot(number, outside),
            Stage::Fence => match self.fence(number, outside) {
                Ok(epoch) => {
                    outside.say(|| format!("bridge {number}: producer {epoch}"));
                    Stage::SettleProgress(Producer::new(epoch))
                }
                Err(_) => Stage::Fence,
            },
            Stage::SettleProgress(producer) => match settled(&producer, &[PROGRESS], outside)? {
                true => Stage::Decide(producer),
                false => Stage::SettleProgress(producer),
            },
            Stage::Decide(producer) => match self.decide(outside) {
                Some(progress) => Stage::SettleChanges(producer, Box::new(progress)),
                None => self.stream(producer, first_progress(!outside.had_rows), number, outside),
            },
            Stage::SettleChanges(producer, progress) => match settled(&producer, &[0, 1, 2], outside)? {
                true => {
                    let readable = readable(&progress, outside);
                    let confirmed = EndLsn::new(outside.postgres.slot.confirmed);
                    let progress = resume::behind_readable(*progress, readable, false, confirmed);
                    self.stream(producer, progress, number, outside)
                }
                false => Stage::SettleChanges(producer, progress),
            },
            Stage::Stream(mut streaming) => {
                let connection = self.connection.as_mut().expect("it streams");
                let done = streaming.step(connection, number, outside);
                self.is_first &= streaming.bridge.durable() == EndLsn::default();
                self.stage = Stage::Stream(streaming);
                return done;
            }
        };
        Ok(())
    }

    fn fence(&self, number: usize, outside: &mut Outside) -> Result<u32, Refused> {
        let own = self.connection.as_ref().map(|connection| connection.id);
        if outside.postgres.slot.holder.is_some_and(|holder| Some(holder) != own) && own.is_none() {
            broken!(G5, "bridge {number} waits for the slot, and fences whoever has it");
        }
        outside.broker.initialise()
    }

    fn take_slot(&mut self, number: usize, outside: &mut Outside) -> Stage {
        if outside.postgres.slot.holder.is_some() {
            return Stage::Slot;
        }
        outside.connections += 1;
        let connection = Connection::start(outside.connections, &mut outside.postgres);
        let confirmed = outside.postgres.slot.confirmed;
        outside.say(|| format!("bridge {number}: has the slot, confirmed {confirmed}"));
        self.connection = Some(connection);
        Stage::Fence
    }

    /// Progress to go on behind; `None` is a first start.
    fn decide(&self, outside: &Outside) -> Option<Progress> {
        let newest = outside.broker.logs[PROGRESS].fetch(0, View::Committed).last();
        let stored = newest.map(|stored| read_progress(&stored.record));
        if stored.is_none() && self.is_first {
            return None;
        }
        let slot = &outside.postgres.slot;
        let slot = Slot { name: "slot".into(), confirmed: EndLsn::new(slot.confirmed), lost: false };
        let ends = (0..PARTITIONS).map(|place| outside.broker.logs[place].end(View::Everything)).collect();
        let topic = Topic { id: "topic".into(), ends };
        let server = Server { flushed: Lsn(outside.postgres.flushed), ..server() };
        match resume::decide(&pinned(), &server, Some(&slot), stored, &Others::new(), Some(&topic)) {
            Ok(Decision::Resume(progress)) => Some(*progress),
            Ok(Decision::FirstStart) => broken!(G6, "a first start was inferred"),
            Err(refusal) => broken!(G6, "the start was refused, though nothing was lost: {refusal}"),
        }
    }

    fn stream(&mut self, producer: Producer, progress: Progress, number: usize, outside: &mut Outside) -> Stage {
        let (end, is_first) = (progress.end_lsn, progress.partitions.is_empty());
        outside.say(|| format!("bridge {number}: streams behind {end}"));
        self.sessions += 1;
        let session = format!("bridge {number} session {} at {}", self.sessions, outside.connections);
        let load_complete = progress.load_complete;
        let mut bridge = Bridge::new(settings(session), progress, Duration::ZERO);
        if is_first {
            let detail = if load_complete { "complete: empty" } else { "incomplete: a reload follows" };
            bridge.open_epoch(detail, false, BEGIN_US, Duration::ZERO);
        }
        bridge.load_everything(Duration::ZERO);
        Stage::Stream(Box::new(Streaming::new(bridge, producer, outside.now)))
    }

    /// The producer is destroyed, everything in memory dropped, the copy ended with what is durable.
    fn end_session(&mut self, outside: &mut Outside) {
        let mut durable = EndLsn::default();
        match std::mem::replace(&mut self.stage, Stage::Slot) {
            Stage::SettleProgress(producer) | Stage::Decide(producer) | Stage::SettleChanges(producer, _) => {
                producer.abandon(&mut outside.random, &mut outside.network);
            }
            Stage::Stream(streaming) => {
                durable = streaming.bridge.durable();
                streaming.producer.abandon(&mut outside.random, &mut outside.network);
                streaming.loader.abandon(&mut outside.postgres);
            }
            Stage::Slot | Stage::Fence => {}
        }
        if let Some(mut connection) = self.connection.take() {
            connection.tell(durable.raw(), outside);
            while !connection.to_server.is_empty() && connection.is_alive && !outside.fails(200) {
                connection.receive(&mut outside.postgres);
            }
            connection.drop_it(&mut outside.postgres);
        }
    }
}

/// Whether everything in these places has its end; if not, what is ours is aborted.
fn settled(producer: &Producer, places: &[usize], outside: &mut Outside) -> Result<bool, End> {
    let unstable = |place: &&usize| {
        let log = &outside.broker.logs[**place];
        log.end(View::Committed) < log.end(View::Everything)
    };
    let unstable: Vec<usize> = places.iter().filter(unstable).copied().collect();
    if unstable.is_empty() {
        return Ok(true);
    }
    let header = Header { end_of_transaction: true, ..Header::default() }.encode();
    let (key, value) = (b"nobody's".to_vec(), Some(Vec::new()));
    let record = Written { key, value, header: Some(header), control: Some("epoch"), timestamp_ms: 0 };
    match outside.broker.abort_residue(producer.epoch, &unstable, &record) {
        Ok(()) | Err(Refused::Busy) => Ok(false),
        Err(Refused::Fenced | Refused::NoTransaction) => Err(End::Session("fenced while settling")),
    }
}

/// What readers can read of each partition.
fn readable(progress: &Progress, outside: &Outside) -> Vec<PartitionProgress> {
    let last = |entry: &PartitionProgress| {
        let log = &outside.broker.logs[entry.partition as usize];
        let found = |stored: &crate::broker::Stored| PartitionProgress {
            partition: entry.partition,
            last: stored.record.header().position,
            next_offset: stored.offset + 1,
        };
        let claimed = (entry.next_offset - 1).max(0);
        if let Some(stored) = log.fetch(claimed, View::Committed).last() {
            return found(stored);
        }
        // Compaction leaves the newest record under a key, unless it is a tombstone: else it was aborted.
        let is_there = log.fetch(claimed, View::Everything).next().is_some_and(|stored| stored.offset == claimed);
        if entry.next_offset > 0 && (is_there || entry.last.seq.0 % 8 != 1) {
            let before = log.fetch(0, View::Committed).last();
            return before.map_or(PartitionProgress { partition: entry.partition, ..Default::default() }, found);
        }
        *entry
    };
    progress.partitions.iter().map(last).collect()
}

pub fn read_progress(record: &Written) -> Progress {
    let (_, body) = framing::split(record.value.as_deref().expect("progress has no tombstones")).expect("framed");
    Progress::decode(body).expect("progress")
}

fn server() -> Server {
    Server { system_identifier: 7, database_oid: 5, timeline: 1, flushed: Lsn(0) }
}

fn pinned() -> Pinned {
    Pinned { source_number: 1, slot: "slot".into(), partitions: 3, namespace: "sim".into(), source_in_key: false }
}

fn first_progress(load_complete: bool) -> Progress {
    let (server, pinned) = (server(), pinned());
    Progress {
        system_identifier: server.system_identifier,
        database_oid: server.database_oid,
        slot: pinned.slot,
        source_number: pinned.source_number,
        timeline: server.timeline,
        epoch: 1,
        partition_count: pinned.partitions,
        topic_id: "topic".into(),
        end_lsn: EndLsn::new(FIRST_LSN),
        load_complete,
        namespace: pinned.namespace,
        ..Progress::default()
    }
}

fn settings(session: String) -> Settings {
    Settings {
        source: SourceInfo { name: SOURCE.into(), number: 1, database: "db".into() },
        partitioner: partitioner(),
        namespace: "sim".into(),
        source_in_key: false,
        // As the registry numbers them.
        control_schema_ids: (1, 2),
        rules: tables::rules(),
        session,
        limits: Limits {
            in_flight_bytes_max: IN_FLIGHT_BYTES_MAX,
            group_bytes_max: 8_000,
            group_records_max: 30,
            chunk_rows_max: 4,
            backfill_workers: 3,
            ..Limits::default()
        },
        poison: Policy::Halt,
    }
}
