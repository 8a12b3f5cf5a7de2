//! Where partitions begin and end: for everybody, and for a `read_committed` reader.
//!
//! A `read_committed` reader's end is the *last stable offset*: the first record of the oldest transaction without an end, or the end of the
//! partition. One request per broker tells it for any number of partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

const TIMEOUT: Duration = Duration::from_secs(5);

/// A partition of a topic.
pub type Place = (String, i32);

/// The partitions of a topic from the first one on.
pub fn places(topic: &str, partitions: i32) -> Vec<Place> {
    (0..partitions).map(|partition| (topic.to_owned(), partition)).collect()
}

/// The offset behind the last record this kind of reader can get, by partition. Blocks for 5 s at most.
pub fn ends<'p>(
    reader: &BaseConsumer,
    places: impl IntoIterator<Item = &'p Place>,
) -> Result<BTreeMap<Place, i64>, KafkaError> {
    ask(reader, places, Offset::End)
}

/// The first offset that is kept, by partition. Blocks for 5 s at most.
pub fn beginnings<'p>(
    reader: &BaseConsumer,
    places: impl IntoIterator<Item = &'p Place>,
) -> Result<BTreeMap<Place, i64>, KafkaError> {
    ask(reader, places, Offset::Beginning)
}

/// Whether a reader that began at `from`, and was told that it is at the partition's end, has read up to `end`. A broker that
/// became the leader a moment ago may know of less than is there, and call that the end; what is lacking comes later, and
/// then it is told of the end again.
pub fn has_reached<C: ConsumerContext>(
    reader: &BaseConsumer<C>,
    (topic, partition): &Place,
    from: i64,
    end: i64,
) -> Result<bool, KafkaError> {
    let positions = reader.position()?;
    // Behind the last record, or the last end of a transaction; no offset where nothing was read.
    let position = positions.find_partition(topic, *partition).map(|element| element.offset());
    Ok(matches!(position, Some(Offset::Offset(position)) if position >= end) || from >= end)
}

/// Kafka takes "times" of -1 and -2 for the end and the beginning, which is how librdkafka writes them.
fn ask<'p>(
    reader: &BaseConsumer,
    places: impl IntoIterator<Item = &'p Place>,
    time: Offset,
) -> Result<BTreeMap<Place, i64>, KafkaError> {
    let mut asked = TopicPartitionList::new();
    for (topic, partition) in places {
        asked.add_partition_offset(topic, *partition, time)?;
    }
    if asked.count() == 0 {
        return Ok(BTreeMap::new());
    }
    let answered = reader.offsets_for_times(asked, TIMEOUT)?;
    let mut found = BTreeMap::new();
    for element in answered.elements() {
        element.error()?;
        let Offset::Offset(offset) = element.offset() else {
            return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset));
        };
        found.insert((element.topic().to_owned(), element.partition()), offset);
    }
    Ok(found)
}
