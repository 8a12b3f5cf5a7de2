//! The topics, read from their beginning by one who wants to know something once, beside any group.
//!
//! Only committed records are read, whatever the configuration says: nothing here is in a hurry.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use penstock_wire::decode::WriterSchema;
use penstock_wire::framing;
use penstock_wire::header::{CONTROL_HEADER_NAME, HEADER_NAME};
use penstock_wire::progress::Progress;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use super::config::Config;
use super::error::{ConnectError, kafka as failed};
use super::kafka;
use super::past::PastError;
use super::registry::{Answer, Registry};
use crate::replica::RawRecord;

/// How long the registry may be away, and Kafka may be silent, before that is an error.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
const TURN: Duration = Duration::from_millis(20);
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// A consumer of the change topic.
pub(super) struct Log {
    consumer: BaseConsumer<kafka::Progress>,
    topic: String,
    /// Where each partition ended when it was begun.
    ends: BTreeMap<u32, i64>,
    begun: Instant,
    told: Instant,
    heard: Instant,
    records: u64,
}

/// What came of one look.
pub(super) enum Polled<'a> {
    Message(BorrowedMessage<'a>),
    /// Everything in the partition below this offset was handed out.
    End {
        partition: u32,
        offset: i64,
    },
    Nothing,
}

impl Log {
    /// Begins to read partitions.
    pub(super) fn open(config: &Config, partitions: &[u32]) -> Result<Self, PastError> {
        let consumer = kafka::committed(config)?;
        let topic = config.kafka.topic.clone();
        let mut ends = BTreeMap::new();
        for partition in partitions {
            let end = kafka::end(&consumer, &topic, *partition).map_err(failed("asking where a partition ends"))?;
            ends.insert(*partition, end);
        }
        let now = Instant::now();
        let log = Self { consumer, topic, ends, begun: now, told: now, heard: now, records: 0 };
        log.rewind()?;
        Ok(log)
    }

    /// Where a partition ended when this was opened.
    pub(super) fn end(&self, partition: u32) -> i64 {
        self.ends.get(&partition).copied().unwrap_or(0)
    }

    /// Reads from the beginning again.
    pub(super) fn rewind(&self) -> Result<(), ConnectError> {
        let partitions: Vec<u32> = self.ends.keys().copied().collect();
        let list = kafka::place(&self.topic, &partitions, Offset::Beginning).map_err(failed("assigning partitions"))?;
        self.consumer.assign(&list).map_err(failed("assigning partitions"))
    }

    /// Reads one partition from its beginning again; what was fetched of it before is dropped.
    pub(super) fn rewind_one(&self, partition: u32) -> Result<(), ConnectError> {
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        let sought = self.consumer.seek(&self.topic, number, Offset::Beginning, PATIENCE);
        sought.map_err(failed("seeking a partition's beginning"))
    }

    /// Waits for a short while at most.
    ///
    /// # Errors
    /// If nothing was heard for half a minute, not even that there is nothing.
    pub(super) fn poll(&mut self) -> Result<Polled<'_>, PastError> {
        self.tell();
        let heard = self.heard;
        let polled = self.consumer.poll(TURN);
        if polled.is_some() {
            self.heard = Instant::now();
        }
        match polled {
            None => Ok(Polled::Nothing),
            Some(Ok(message)) => {
                self.records += 1;
                Ok(Polled::Message(message))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                let partition = u32::try_from(partition).unwrap_or(u32::MAX);
                Ok(Polled::End { partition, offset: self.ends.get(&partition).copied().unwrap_or(0) })
            }
            Some(Err(error)) if heard.elapsed() > PATIENCE => Err(failed("reading changes")(error).into()),
            Some(Err(error)) => {
                tracing::warn!(%error, "reading changes");
                self.heard = heard;
                Ok(Polled::Nothing)
            }
        }
    }

    fn tell(&mut self) {
        if self.told.elapsed() < TOLD_EVERY {
            return;
        }
        self.told = Instant::now();
        let total: i64 = self.ends.values().sum();
        let read = i64::try_from(self.records).unwrap_or(i64::MAX);
        // Offsets that compaction has freed and transaction markers count in the total, and never come.
        tracing::info!(records = read, of_at_most = total, seconds = self.begun.elapsed().as_secs(), "reading");
    }
}

/// A message in the parts that a replica takes.
pub(super) fn raw<'a>(message: &'a BorrowedMessage<'_>) -> RawRecord<'a> {
    let header = |name: &str| message.headers().and_then(|all| all.iter().find(|one| one.key == name));
    RawRecord {
        partition: u32::try_from(message.partition()).unwrap_or(u32::MAX),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        header: header(HEADER_NAME).and_then(|header| header.value),
        is_control: header(CONTROL_HEADER_NAME).is_some(),
        key: message.key().unwrap_or_default(),
        value: message.payload(),
    }
}

/// A schema; None: there is none with that id.
///
/// # Errors
/// If the registry stays away.
pub(super) fn schema(registry: &Registry, id: u32) -> Result<Option<String>, PastError> {
    let begun = Instant::now();
    loop {
        match registry.schema(id, || {}) {
            Answer::Schema(schema) => return Ok(Some(schema)),
            Answer::Unknown => return Ok(None),
            Answer::Away(reason) if begun.elapsed() > PATIENCE => return Err(PastError::RegistryAway(reason)),
            Answer::Away(reason) => {
                tracing::warn!(schema = id, reason, "waiting for the schema registry");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// Reads the progress topic, as far as it goes when asked.
pub(super) struct ProgressLog {
    consumer: BaseConsumer<kafka::Progress>,
    schemas: BTreeMap<u32, Option<WriterSchema>>,
    heard: Instant,
}

impl ProgressLog {
    pub(super) fn open(config: &Config) -> Result<Self, PastError> {
        Ok(Self { consumer: kafka::progress(config)?, schemas: BTreeMap::new(), heard: Instant::now() })
    }

    /// Reads on to the topic's end, in its order. One that cannot be read is left out: others follow within a second.
    pub(super) fn read(&mut self, registry: &Registry, mut take: impl FnMut(Progress)) -> Result<(), PastError> {
        self.heard = Instant::now();
        loop {
            match self.consumer.poll(TURN) {
                Some(Ok(message)) => {
                    if let Some(progress) = decode(&message, registry, &mut self.schemas)? {
                        take(progress);
                    }
                    self.heard = Instant::now();
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) if self.heard.elapsed() > PATIENCE => {
                    return Err(failed("reading progress")(error).into());
                }
                Some(Err(error)) => tracing::warn!(%error, "reading progress"),
                None if self.heard.elapsed() > PATIENCE => return Err(PastError::Silent),
                None => {}
            }
        }
    }

    /// What has come since the last look; waits for nothing.
    pub(super) fn read_new(&mut self, registry: &Registry, mut take: impl FnMut(Progress)) -> Result<(), PastError> {
        while let Some(polled) = self.consumer.poll(Duration::ZERO) {
            match polled {
                Ok(message) => {
                    if let Some(progress) = decode(&message, registry, &mut self.schemas)? {
                        take(progress);
                    }
                }
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(error) => tracing::warn!(%error, "reading progress"),
            }
        }
        Ok(())
    }
}

fn decode(
    message: &BorrowedMessage<'_>,
    registry: &Registry,
    schemas: &mut BTreeMap<u32, Option<WriterSchema>>,
) -> Result<Option<Progress>, PastError> {
    let Ok((id, body)) = framing::split(message.payload().unwrap_or_default()) else { return Ok(None) };
    if let std::collections::btree_map::Entry::Vacant(vacant) = schemas.entry(id) {
        vacant.insert(schema(registry, id)?.and_then(|json| WriterSchema::parse(&json).ok()));
    }
    let writer = schemas.get(&id).and_then(Option::as_ref);
    Ok(writer.and_then(|writer| Progress::decode_with(writer, body).ok()))
}
