//! The reader's thread: both consumers, the registry and the clock, handed in one after the other.
//!
//! Before a partition's first record counts, where it ends is asked for, and then it is read from its beginning: when Kafka
//! next reports the partition's end, everything below what was asked for has been handed in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_wire::decode::WriterSchema;
use penstock_wire::framing;
use penstock_wire::header::{CONTROL_HEADER_NAME, HEADER_NAME};
use penstock_wire::progress::Progress;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use super::checkpoint::Keeper;
use super::engine::{Begin, Shared};
use super::kafka::{self, Context};
use super::now;
use super::registry::{Answer, Registry};
use crate::catch_up::CaughtUp;
use crate::replica::{RawRecord, UnknownSchema};

/// The longest time without a look at the clock.
const TURN: Duration = Duration::from_millis(20);
/// Records that are handed in before progress and the clock are looked at again.
const RECORDS_PER_TURN: usize = 2_000;
const SEEK_TIMEOUT: Duration = Duration::from_secs(10);
const COMMIT_EVERY: Duration = Duration::from_secs(5);
const COUNT_EVERY: Duration = Duration::from_secs(1);
const TOLD_EVERY: Duration = Duration::from_secs(2);
/// Target of the log lines that a program with a progress bar leaves out.
pub const CATCHING_UP: &str = "penstock_access::catching_up";
const REGISTRY_PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) changes: BaseConsumer<Context>,
    pub(super) progress: BaseConsumer,
    pub(super) registry: Registry,
    pub(super) topic: String,
    pub(super) keeper: Option<Keeper>,
    /// Where partitions ended when they were begun.
    pub(super) ends: BTreeMap<u32, i64>,
    pub(super) progress_schemas: BTreeMap<u32, Option<WriterSchema>>,
    pub(super) committed: Instant,
    pub(super) counted: Instant,
    pub(super) told: Instant,
    pub(super) records: u64,
}

impl Reader {
    /// Until it is stopped.
    pub(super) fn run(mut self) {
        while !self.shared.lock().stopped {
            self.begin_partitions();
            self.read_changes();
            self.shared.metrics.read(self.records);
            self.read_progress();
            self.shared.with(|replica, now| replica.handle_time(now));
            self.count();
            if let Some(keeper) = &mut self.keeper {
                keeper.keep_due(&self.shared);
            }
        }
        self.commit(CommitMode::Sync);
        if let Some(keeper) = self.keeper.take() {
            keeper.close(&self.shared);
        }
    }

    /// Begins to read where the replica wants to begin.
    fn begin_partitions(&mut self) {
        let wanted: Vec<(u32, Begin)> = self.shared.lock().to_read.iter().map(|(of, begin)| (*of, *begin)).collect();
        for (partition, begin) in wanted {
            // A partition that was only just assigned cannot be sought in yet.
            if let Err(error) = self.begin_partition(partition, begin) {
                tracing::debug!(partition, %error, "the partition cannot be begun yet");
            }
        }
    }

    fn begin_partition(&mut self, partition: u32, begin: Begin) -> KafkaResult<()> {
        let end = kafka::end(&self.changes, &self.topic, partition)?;
        let first = kafka::first(&self.changes, &self.topic, partition)?;
        let begin = match begin {
            Begin::Kept => self.resume(partition, first, end),
            Begin::First | Begin::At(_) => begin,
        };
        let (from, offset) = match begin {
            Begin::At(offset) => (offset, Offset::Offset(offset)),
            Begin::First | Begin::Kept => (first, Offset::Beginning),
        };
        self.shared.lock().to_read.insert(partition, begin);
        self.changes.seek(&self.topic, i32::try_from(partition).unwrap_or(i32::MAX), offset, SEEK_TIMEOUT)?;
        self.ends.insert(partition, end);
        let mut engine = self.shared.lock();
        engine.to_read.remove(&partition);
        engine.catch_up.begin(partition, from, end, now());
        Ok(())
    }

    /// Gives the replica what was kept of a partition, if it fits, and says where it is gone on with.
    fn resume(&mut self, partition: u32, first: i64, end: i64) -> Begin {
        let Some(checkpoint) = self.keeper.as_mut().and_then(|keeper| keeper.load(partition)) else {
            return Begin::First;
        };
        let offset = checkpoint.point.offset();
        if !(first..=end).contains(&offset) {
            // Kafka would put a reader anywhere else without a word.
            tracing::warn!(
                partition,
                offset,
                first,
                end,
                "the checkpoint is discarded, the topic has no such offset: the partition is read from its beginning"
            );
            return Begin::First;
        }
        tracing::info!(partition, offset, end, accounts = checkpoint.accounts.len(), "going on from a checkpoint");
        self.shared.with(|replica, now| replica.resume(checkpoint.point, checkpoint.accounts, now));
        Begin::At(offset)
    }

    fn read_changes(&mut self) {
        let mut wait = TURN;
        for _ in 0..RECORDS_PER_TURN {
            let Some(polled) = self.changes.poll(wait) else { return };
            wait = Duration::ZERO;
            // The message borrows its consumer, and everything else of the reader is needed beside it.
            let (shared, registry) = (&self.shared, &self.registry);
            match polled {
                Ok(message) => {
                    self.records += 1;
                    take(shared, registry, &message);
                }
                Err(KafkaError::PartitionEOF(partition)) => {
                    let partition = u32::try_from(partition).unwrap_or(u32::MAX);
                    let begun = !shared.lock().to_read.contains_key(&partition);
                    if let Some(end) = self.ends.remove(&partition).filter(|_| begun) {
                        shared.with(|replica, now| replica.handle_end(partition, end, now));
                        shared.lock().catch_up.advance(partition, end);
                    }
                    self.changes.context().read_to_end(partition);
                }
                Err(error) => tracing::warn!(%error, "reading changes"),
            }
        }
    }

    fn read_progress(&mut self) {
        for _ in 0..RECORDS_PER_TURN {
            let Some(polled) = self.progress.poll(Duration::ZERO) else { return };
            match polled {
                Ok(message) => {
                    let tick = || self.shared.with(|replica, now| replica.handle_time(now));
                    let progress = read(&message, &self.registry, &mut self.progress_schemas, tick);
                    match progress {
                        Ok(progress) => self.shared.with(|replica, now| replica.handle_progress(&progress, now)),
                        Err(reason) => {
                            tracing::warn!(offset = message.offset(), reason, "a progress record that cannot be read");
                        }
                    }
                }
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(error) => tracing::warn!(%error, "reading progress"),
            }
        }
    }

    fn count(&mut self) {
        if self.committed.elapsed() >= COMMIT_EVERY {
            self.commit(CommitMode::Async);
        }
        if self.counted.elapsed() < COUNT_EVERY {
            return;
        }
        self.counted = Instant::now();
        let metrics = &self.shared.metrics;
        let engine = self.shared.lock();
        for partition in engine.replica.assigned() {
            let Some(reading) = engine.replica.reading(partition) else { continue };
            metrics.lag(partition, self.changes.context().lag(partition, reading.read_to()));
        }
        let catching_up = engine.catch_up.figures(now());
        drop(engine);
        self.shared.health();
        if let Some(figures) = catching_up.filter(|_| self.told.elapsed() >= TOLD_EVERY) {
            self.told = Instant::now();
            let CaughtUp { partitions, records, percent, rate, left } = figures;
            let (percent, rate) = (percent.round() as u64, rate.round() as u64);
            let left_s = left.map(|left| left.as_secs());
            tracing::info!(target: CATCHING_UP, partitions, records, percent, rate, left_s, "reading what is in the topic");
        }
    }

    /// What lag tools look at; the state's own positions rule.
    fn commit(&mut self, mode: CommitMode) {
        self.committed = Instant::now();
        let engine = self.shared.lock();
        let mut offsets = rdkafka::TopicPartitionList::new();
        for partition in engine.replica.assigned() {
            let read_to = engine.replica.reading(partition).map_or(0, super::super::replica::Reading::read_to);
            let number = i32::try_from(partition).unwrap_or(i32::MAX);
            if read_to > 0 {
                let _ = offsets.add_partition_offset(&self.topic, number, Offset::Offset(read_to));
            }
        }
        drop(engine);
        if offsets.count() > 0
            && let Err(error) = self.changes.commit(&offsets, mode)
        {
            tracing::debug!(%error, "offsets cannot be committed");
        }
    }
}

/// Hands in a record; waits for a schema it needs, for as long as the registry is away.
fn take(shared: &Shared, registry: &Registry, message: &BorrowedMessage<'_>) {
    let header = |name: &str| message.headers().and_then(|all| all.iter().find(|one| one.key == name));
    let partition = u32::try_from(message.partition()).unwrap_or(u32::MAX);
    let record = RawRecord {
        partition,
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        header: header(HEADER_NAME).and_then(|header| header.value),
        is_control: header(CONTROL_HEADER_NAME).is_some(),
        key: message.key().unwrap_or_default(),
        value: message.payload(),
    };
    loop {
        let mut engine = shared.lock();
        // It was read before the partition is begun again.
        if engine.stopped || engine.to_read.contains_key(&partition) {
            return;
        }
        let now = now();
        let taken = engine.replica.handle_record(&record, now);
        shared.hand_out_timed(&mut engine, record.timestamp_ms, now);
        if taken.is_ok() {
            engine.catch_up.count();
            engine.catch_up.advance(partition, record.offset.saturating_add(1));
        }
        drop(engine);
        match taken {
            Ok(()) => return,
            Err(UnknownSchema(id)) => {
                if let Some(schema) = ask(shared, registry, id) {
                    shared.with(|replica, _| replica.handle_schema(id, schema.as_deref()));
                }
            }
        }
    }
}

/// A schema, or that there is none; nothing where the registry is away.
#[expect(clippy::option_option, reason = "no answer, and the answer that there is none")]
fn ask(shared: &Shared, registry: &Registry, id: u32) -> Option<Option<String>> {
    // What is not known any more is told.
    let tick = || shared.with(|replica, now| replica.handle_time(now));
    match registry.schema(id, tick) {
        Answer::Schema(schema) => Some(Some(schema)),
        Answer::Unknown => Some(None),
        Answer::Away(reason) => {
            tracing::warn!(schema = id, reason, "waiting for the schema registry");
            tick();
            std::thread::sleep(REGISTRY_PAUSE);
            None
        }
    }
}

fn read(
    message: &BorrowedMessage<'_>,
    registry: &Registry,
    schemas: &mut BTreeMap<u32, Option<WriterSchema>>,
    tick: impl FnMut(),
) -> Result<Progress, String> {
    let (id, body) = framing::split(message.payload().unwrap_or_default()).map_err(|error| error.to_string())?;
    if let std::collections::btree_map::Entry::Vacant(vacant) = schemas.entry(id) {
        match registry.schema(id, tick) {
            Answer::Schema(schema) => vacant.insert(WriterSchema::parse(&schema).ok()),
            Answer::Unknown => vacant.insert(None),
            Answer::Away(reason) => return Err(reason),
        };
    }
    let writer = schemas.get(&id).and_then(Option::as_ref).ok_or_else(|| format!("schema {id} cannot be read with"))?;
    Progress::decode_with(writer, body).map_err(|error| error.to_string())
}
