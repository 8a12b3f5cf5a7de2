//! Where partitions end: for everybody, and for a `read_committed` reader.
//!
//! The second is the *last stable offset*: the first record of the oldest transaction without an end, or the end of the
//! partition. One request per broker tells it for any number of partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{Brokers, IsolationLevel};

const TIMEOUT: Duration = Duration::from_secs(5);

/// A partition of a topic.
pub type Place = (String, i32);

/// Asks for ends as one kind of reader sees them.
pub struct Ends {
    consumer: BaseConsumer,
}

impl std::fmt::Debug for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ends").finish_non_exhaustive()
    }
}

impl Ends {
    /// Connects lazily; fails only on a configuration librdkafka refuses.
    pub fn of(brokers: &Brokers, isolation_level: IsolationLevel) -> Result<Self, KafkaError> {
        Ok(Self { consumer: brokers.reader(isolation_level).create()? })
    }

    /// The offset behind the last record this kind of reader can get, by partition. Blocks for 5 s at most.
    pub fn ask<'p>(&self, places: impl IntoIterator<Item = &'p Place>) -> Result<BTreeMap<Place, i64>, KafkaError> {
        let mut asked = TopicPartitionList::new();
        for (topic, partition) in places {
            // A "time" of -1 stands for the end.
            asked.add_partition_offset(topic, *partition, Offset::End)?;
        }
        if asked.count() == 0 {
            return Ok(BTreeMap::new());
        }
        let answered = self.consumer.offsets_for_times(asked, TIMEOUT)?;
        let mut ends = BTreeMap::new();
        for element in answered.elements() {
            element.error()?;
            let Offset::Offset(end) = element.offset() else {
                return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset));
            };
            ends.insert((element.topic().to_owned(), element.partition()), end);
        }
        Ok(ends)
    }
}
