//! What of a source a `read_committed` reader can read: its last record in every partition.
//!
//! Progress says how far each partition has come; this is where the partition itself is asked. They differ only where a
//! coordinator has forgotten partitions of a transaction (see [`super::witness`]): a partition then lacks what progress
//! says it has, or has what progress does not know of. What is gone for `read_uncommitted` readers as well was compacted, and
//! is not lacking, if it was a tombstone. Any other last record of a source has no successor under its key that compaction
//! could have kept instead: it was aborted, and compaction takes what was aborted before anything else.
//!
//! To be asked when every predecessor is fenced and nothing of ours is without an end. Blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use penstock_wire::header::{HEADER_NAME, Header};
use penstock_wire::position::Position;
use penstock_wire::progress::PartitionProgress;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::client::{Brokers, IsolationLevel};
use super::ends::{Place, beginnings, ends, has_reached};
use super::readers::Readers;

const TIMEOUT: Duration = Duration::from_secs(15);
/// Records to go back where the last one is lacking; more each time until one is found.
const LOOK_BACK: i64 = 1024;

/// The source's last readable record in every partition that `claimed` names, in its order. Reads what lies behind what is
/// claimed: a few groups at most.
pub fn last_readable(
    brokers: &Brokers,
    readers: &Readers,
    topic: &str,
    source: u16,
    claimed: &[PartitionProgress],
) -> Result<Vec<PartitionProgress>, KafkaError> {
    let reader = Reader { consumer: readers.committed(), topic, source };
    let begins = claimed.iter().filter_map(|entry| Some((number(entry)?, (entry.next_offset - 1).max(0))));
    let found = reader.scan(begins.collect(), &BTreeMap::new())?;
    let mut readable = Vec::with_capacity(claimed.len());
    for entry in claimed {
        readable.push(match number(entry).and_then(|partition| found.get(&partition)) {
            Some(last) => PartitionProgress { partition: entry.partition, ..*last },
            None if entry.next_offset == 0 => *entry,
            None if entry.last.seq.is_tombstone() && !holds(brokers, topic, source, entry)? => *entry,
            None => reader.before(entry)?,
        });
    }
    Ok(readable)
}

fn number(entry: &PartitionProgress) -> Option<i32> {
    i32::try_from(entry.partition).ok()
}

/// Whether the claimed record stands where it is claimed to stand, for whoever reads everything.
fn holds(brokers: &Brokers, topic: &str, source: u16, entry: &PartitionProgress) -> Result<bool, KafkaError> {
    let consumer: BaseConsumer = brokers.reader(IsolationLevel::ReadUncommitted).create()?;
    let raw = Reader { consumer: &consumer, topic, source };
    let Some(partition) = number(entry).filter(|_| entry.next_offset > 0) else { return Ok(false) };
    let bounds = BTreeMap::from([(partition, entry.next_offset)]);
    let found = raw.scan(BTreeMap::from([(partition, entry.next_offset - 1)]), &bounds)?;
    Ok(found.get(&partition).is_some_and(|found| found.last == entry.last))
}

struct Reader<'a> {
    consumer: &'a BaseConsumer,
    topic: &'a str,
    source: u16,
}

impl Reader<'_> {
    /// The source's last record from each partition's offset on, before its bound if there is one.
    fn scan(
        &self,
        from: BTreeMap<i32, i64>,
        bounds: &BTreeMap<i32, i64>,
    ) -> Result<BTreeMap<i32, PartitionProgress>, KafkaError> {
        let mut found = BTreeMap::new();
        let mut open: BTreeSet<i32> = from.keys().copied().collect();
        let mut assignment = TopicPartitionList::new();
        let places: Vec<Place> = from.keys().map(|partition| (self.topic.to_owned(), *partition)).collect();
        let (starts, ends) = (beginnings(self.consumer, &places)?, ends(self.consumer, &places)?);
        for (place, offset) in places.iter().zip(from.values()) {
            let start = starts.get(place).ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset))?;
            assignment.add_partition_offset(self.topic, place.1, Offset::Offset(*offset.max(start)))?;
        }
        let is_through = |partition: i32| {
            let place = (self.topic.to_owned(), partition);
            let (from, end) = (from.get(&partition), ends.get(&place));
            has_reached(self.consumer, &place, from.copied().unwrap_or_default(), end.copied().unwrap_or_default())
        };
        self.consumer.assign(&assignment)?;
        while !open.is_empty() {
            match self.consumer.poll(TIMEOUT) {
                Some(Ok(message)) => {
                    let partition = message.partition();
                    if bounds.get(&partition).is_some_and(|bound| message.offset() >= *bound) {
                        open.remove(&partition);
                    } else if let Some(last) = self.position(&message).filter(|_| open.contains(&partition)) {
                        let next_offset = message.offset() + 1;
                        found.insert(partition, PartitionProgress { partition: 0, last, next_offset });
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if is_through(partition)? {
                        open.remove(&partition);
                    }
                }
                Some(Err(error)) => return Err(error),
                None => return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)),
            }
        }
        self.consumer.unassign()?;
        Ok(found)
    }

    /// The source's last record before the claimed one.
    fn before(&self, entry: &PartitionProgress) -> Result<PartitionProgress, KafkaError> {
        let nothing = PartitionProgress { partition: entry.partition, ..PartitionProgress::default() };
        let Some(partition) = number(entry) else { return Ok(nothing) };
        let bounds = BTreeMap::from([(partition, entry.next_offset - 1)]);
        let mut look_back = LOOK_BACK;
        loop {
            let from = entry.next_offset.saturating_sub(look_back).max(0);
            if let Some(last) = self.scan(BTreeMap::from([(partition, from)]), &bounds)?.get(&partition) {
                return Ok(PartitionProgress { partition: entry.partition, ..*last });
            }
            if from == 0 {
                return Ok(nothing);
            }
            look_back = look_back.saturating_mul(8);
        }
    }

    /// The record's position, if it is the source's.
    fn position(&self, message: &BorrowedMessage<'_>) -> Option<Position> {
        let headers = message.headers()?;
        let header = headers.iter().find(|header| header.key == HEADER_NAME)?;
        let header = Header::decode(header.value?).ok()?;
        (header.source == self.source && header.position != Position::default()).then_some(header.position)
    }
}
