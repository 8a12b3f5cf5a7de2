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
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use super::engine::Shared;
use super::kafka::{self, Context};
use super::now;
use super::registry::{Answer, Registry};
use crate::replica::{RawRecord, UnknownSchema};

/// The longest time without a look at the clock.
const TURN: Duration = Duration::from_millis(20);
/// Records that are handed in before progress and the clock are looked at again.
const RECORDS_PER_TURN: usize = 2_000;
const SEEK_TIMEOUT: Duration = Duration::from_secs(10);
const COMMIT_EVERY: Duration = Duration::from_secs(5);
const COUNT_EVERY: Duration = Duration::from_secs(1);
const TOLD_EVERY: Duration = Duration::from_secs(2);
const REGISTRY_PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) changes: BaseConsumer<Context>,
    pub(super) progress: BaseConsumer<kafka::Progress>,
    pub(super) registry: Registry,
    pub(super) topic: String,
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
        }
        self.commit(CommitMode::Sync);
    }

    /// Begins to read where the replica wants to begin.
    fn begin_partitions(&mut self) {
        let wanted: Vec<u32> = self.shared.lock().to_read.iter().copied().collect();
        for partition in wanted {
            let begun = kafka::end(&self.changes, &self.topic, partition).and_then(|end| {
                let number = i32::try_from(partition).unwrap_or(i32::MAX);
                self.changes.seek(&self.topic, number, Offset::Beginning, SEEK_TIMEOUT)?;
                Ok(end)
            });
            match begun {
                Ok(end) => {
                    self.ends.insert(partition, end);
                    self.shared.lock().to_read.remove(&partition);
                }
                // A partition that was only just assigned cannot be sought in yet.
                Err(error) => tracing::debug!(partition, %error, "the partition cannot be begun yet"),
            }
        }
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
                    let begun = !shared.lock().to_read.contains(&partition);
                    if let Some(end) = self.ends.remove(&partition).filter(|_| begun) {
                        shared.with(|replica, now| replica.handle_end(partition, end, now));
                    }
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
                    let progress = read(&message, &self.registry, &mut self.progress_schemas);
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
        let (mut rebuilding, mut behind) = (0_usize, 0);
        for partition in engine.replica.assigned() {
            let Some(reading) = engine.replica.reading(partition) else { continue };
            let number = i32::try_from(partition).unwrap_or(i32::MAX);
            // As librdkafka remembers it from its last fetch: nothing is asked.
            let high = self.changes.fetch_watermarks(&self.topic, number, Duration::ZERO).map_or(0, |(_, high)| high);
            let lag = high.saturating_sub(reading.read_to()).max(0);
            metrics.lag(partition, lag);
            behind += if reading.is_live() { 0 } else { lag };
            rebuilding += usize::from(!reading.is_live());
        }
        drop(engine);
        self.shared.health();
        if rebuilding > 0 && self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            tracing::info!(records = self.records, partitions = rebuilding, behind, "rebuilding");
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
        if engine.stopped || engine.to_read.contains(&partition) {
            return;
        }
        let now = now();
        let taken = engine.replica.handle_record(&record, now);
        shared.hand_out_timed(&mut engine, record.timestamp_ms, now);
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
    match registry.schema(id) {
        Answer::Schema(schema) => Some(Some(schema)),
        Answer::Unknown => Some(None),
        Answer::Away(reason) => {
            tracing::warn!(schema = id, reason, "waiting for the schema registry");
            // Time goes on: what is not known any more is told.
            shared.with(|replica, now| replica.handle_time(now));
            std::thread::sleep(REGISTRY_PAUSE);
            None
        }
    }
}

fn read(
    message: &BorrowedMessage<'_>,
    registry: &Registry,
    schemas: &mut BTreeMap<u32, Option<WriterSchema>>,
) -> Result<Progress, String> {
    let (id, body) = framing::split(message.payload().unwrap_or_default()).map_err(|error| error.to_string())?;
    if let std::collections::btree_map::Entry::Vacant(vacant) = schemas.entry(id) {
        match registry.schema(id) {
            Answer::Schema(schema) => vacant.insert(WriterSchema::parse(&schema).ok()),
            Answer::Unknown => vacant.insert(None),
            Answer::Away(reason) => return Err(reason),
        };
    }
    let writer = schemas.get(&id).and_then(Option::as_ref).ok_or_else(|| format!("schema {id} cannot be read with"))?;
    Progress::decode_with(writer, body).map_err(|error| error.to_string())
}
