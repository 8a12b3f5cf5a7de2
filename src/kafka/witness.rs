//! Sees with a reader's eyes that what was committed can be read.
//!
//! A commit that has returned is decided, and its records become readable when the coordinator has written its marker into
//! every partition. A coordinator that restarts between the two can forget partitions whose leader it does not know yet
//! (Kafka 4.4 calls them "likely deleted"): the commit has returned, and readers never see its records; should the next
//! transaction of the same producer be aborted, its marker aborts them too. So the slot is told of a commit only after
//! its records are below the last stable offset of their partitions. See decision 0010.
//!
//! It has a thread and a reader of its own: the producer does not wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use penstock_wire::header::{HEADER_NAME, Header};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Headers as _;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::sync::mpsc::UnboundedSender;

use super::client::{Brokers, IsolationLevel};
use super::ends::{Place, ends};
use super::sink::{SinkError, SinkEvent};

/// Markers are written within milliseconds; asking is cheap.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// After this it is asked whose transaction has no end. Another source's may take its time.
const PATIENCE: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);

/// A commit that has returned: the offset behind its last record, by partition.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) ends: BTreeMap<Place, i64>,
}

/// See the module's documentation.
pub(super) struct Witness {
    brokers: Brokers,
    source: (String, u16),
    claims: Receiver<Claim>,
    events: UnboundedSender<SinkEvent>,
    /// Made before there is anything to see: the first commit should not wait for a client to connect.
    reader: Option<BaseConsumer>,
}

impl Witness {
    pub(super) fn new(
        brokers: Brokers,
        source: (String, u16),
        claims: Receiver<Claim>,
        events: UnboundedSender<SinkEvent>,
    ) -> Self {
        let reader = brokers.questions(IsolationLevel::ReadCommitted).create().ok();
        Self { brokers, source, claims, events, reader }
    }

    /// Reports [`SinkEvent::Readable`] for every claim, in their order, until there is nobody to claim or to listen.
    pub(super) fn watch(mut self) {
        let mut unproven: VecDeque<Claim> = VecDeque::new();
        let mut pause = FIRST_PAUSE;
        let mut asked_since = Instant::now();
        while !self.events.is_closed() {
            match self.claims.recv_timeout(if unproven.is_empty() { LONGEST_PAUSE } else { pause }) {
                Ok(claim) => {
                    if unproven.is_empty() {
                        asked_since = Instant::now();
                    }
                    unproven.push_back(claim);
                    unproven.extend(self.claims.try_iter());
                    pause = FIRST_PAUSE;
                }
                Err(RecvTimeoutError::Timeout) => pause = (pause * 2).min(LONGEST_PAUSE),
                Err(RecvTimeoutError::Disconnected) if unproven.is_empty() => return,
                // What was committed last is still to be seen.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(pause),
            }
            let Some(first) = unproven.front() else { continue };
            match self.unreadable(first) {
                Ok(None) => {
                    unproven.pop_front();
                    (pause, asked_since) = (FIRST_PAUSE, Instant::now());
                    // The loop is gone when nobody listens; there is nobody left to tell.
                    let _ = self.events.send(SinkEvent::Readable);
                }
                Ok(Some((place, stable))) if asked_since.elapsed() > PATIENCE => match self.is_ours(&place, stable) {
                    Ok(true) => {
                        let (topic, partition) = place;
                        let _ = self.events.send(SinkEvent::Failed(SinkError::Unreadable { topic, partition }));
                        return;
                    }
                    Ok(false) => {
                        let (topic, partition) = &place;
                        tracing::warn!(topic, partition, "another source's open transaction hides what is committed");
                        asked_since = Instant::now();
                    }
                    Err(error) => self.ask_anew(&error),
                },
                Ok(Some(_)) => {}
                Err(error) => self.ask_anew(&error),
            }
        }
    }

    /// A new client has better chances than one that may have lost its last broker for good.
    fn ask_anew(&mut self, error: &KafkaError) {
        self.reader = None;
        tracing::info!(%error, "cannot ask for the last stable offsets; asking again");
        std::thread::sleep(LONGEST_PAUSE);
    }

    /// A partition in which not all of the claim can be read, and its last stable offset.
    fn unreadable(&mut self, claim: &Claim) -> Result<Option<(Place, i64)>, KafkaError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            reader => reader.insert(self.brokers.questions(IsolationLevel::ReadCommitted).create()?),
        };
        let stable = ends(reader, claim.ends.keys())?;
        let late = |(place, end): (&Place, &i64)| {
            let stable = stable.get(place).copied().unwrap_or_default();
            (stable < *end).then(|| (place.clone(), stable))
        };
        Ok(claim.ends.iter().find_map(late))
    }

    /// Whose transaction begins at the last stable offset. One without a record there is nobody's.
    fn is_ours(&self, (topic, partition): &Place, stable: i64) -> Result<bool, KafkaError> {
        let (name, number) = &self.source;
        let consumer: BaseConsumer = self.brokers.reader(IsolationLevel::ReadUncommitted).create()?;
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, *partition, Offset::Offset(stable))?;
        consumer.assign(&assignment)?;
        let Some(message) = consumer.poll(TIMEOUT) else { return Ok(false) };
        let message = message?;
        let header = message.headers().and_then(|headers| headers.iter().find(|header| header.key == HEADER_NAME));
        match header.and_then(|header| Header::decode(header.value?).ok()) {
            Some(header) => Ok(header.source == *number),
            // Progress has no header; its key is the source's name.
            None => Ok(message.key() == Some(name.as_bytes())),
        }
    }
}
