//! Reads the newest progress record of a source, or of all the others. An older one is never the answer.
//!
//! Called after `init_transactions` has fenced every predecessor: what is to be found then is final. A transaction of
//! another source that is still open hides records behind it from `read_committed`, so the last stable offset has to
//! reach the high watermark first.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_wire::framing;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::ends::{Place, beginnings, ends, has_reached};
use super::readers::Readers;

const TIMEOUT: Duration = Duration::from_secs(15);
/// Progress is written about once a second: the newest record is near the end. Doubled until one is found.
const LOOK_BACK: i64 = 256;

/// The value of a progress record, as it stands in the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Registry id of the schema it was written with.
    pub schema_id: u32,
    /// Avro bytes.
    pub body: Vec<u8>,
}

/// Why progress cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProgressError {
    /// A call failed.
    #[error("{step}: {source}")]
    Kafka {
        /// What was being done.
        step: &'static str,
        /// librdkafka's error.
        #[source]
        source: KafkaError,
    },
    /// Another source's transaction is open before the end of the topic.
    #[error("a transaction is open on the progress topic at offset {stable_end} of {end}; waiting for it to end")]
    OpenTransaction {
        /// The last stable offset.
        stable_end: i64,
        /// The high watermark.
        end: i64,
    },
    /// The newest record under a source's name is no framed Avro.
    #[error("the record of {source_name:?} at offset {offset} of the progress topic is no progress: {error}")]
    Malformed {
        /// Its key.
        source_name: String,
        /// Where it stands.
        offset: i64,
        /// What is wrong with its frame.
        error: framing::FramingError,
    },
}

fn kafka(step: &'static str) -> impl FnOnce(KafkaError) -> ProgressError {
    move |source| ProgressError::Kafka { step, source }
}

/// The newest progress of `source_name`, or `None` if it never wrote any. Blocks for seconds at most; an open
/// transaction of another source is an error to be retried.
pub fn read_newest(readers: &Readers, topic: &str, source_name: &str) -> Result<Option<Stored>, ProgressError> {
    let (start, end) = stable_bounds(readers, topic)?;
    let mut look_back = LOOK_BACK;
    loop {
        let from = end.saturating_sub(look_back).max(start);
        let newest = newest_between(readers.committed(), topic, (from, end), |key| key == source_name.as_bytes())?;
        if !newest.is_empty() || from == start {
            return newest.into_values().next().map(|raw| raw.framed(source_name)).transpose();
        }
        look_back = look_back.saturating_mul(4);
    }
}

/// The newest progress of every source but `source_name`, by name: reads the whole topic, because a source may have
/// stopped long ago. Blocks; an open transaction is an error to be retried.
pub fn read_others(
    readers: &Readers,
    topic: &str,
    source_name: &str,
) -> Result<BTreeMap<String, Stored>, ProgressError> {
    let bounds = stable_bounds(readers, topic)?;
    let newest = newest_between(readers.committed(), topic, bounds, |key| key != source_name.as_bytes())?;
    // A source's name is UTF-8: another key is no bridge's. A source whose progress was deleted by hand was given up.
    let named = newest.into_iter().filter_map(|(key, raw)| Some((String::from_utf8(key).ok()?, raw)));
    let known = named.filter(|(_, raw)| !raw.value.is_empty());
    known.map(|(name, raw)| raw.framed(&name).map(|stored| (name, stored))).collect()
}

/// A record's offset and value; a tombstone's is empty.
struct Raw {
    offset: i64,
    value: Vec<u8>,
}

impl Raw {
    fn framed(self, source_name: &str) -> Result<Stored, ProgressError> {
        let (source_name, offset) = (source_name.to_owned(), self.offset);
        let (schema_id, body) =
            framing::split(&self.value).map_err(|error| ProgressError::Malformed { source_name, offset, error })?;
        Ok(Stored { schema_id, body: body.to_vec() })
    }
}

/// The offsets of the first record kept and behind the last one, where nothing in the topic is hidden from a
/// `read_committed` reader.
fn stable_bounds(readers: &Readers, topic: &str) -> Result<(i64, i64), ProgressError> {
    let committed = readers.committed();
    let place = (topic.to_owned(), 0);
    let only = |offsets: BTreeMap<Place, i64>| {
        let missing = KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset);
        offsets.get(&place).copied().ok_or(missing).map_err(kafka("fetch watermarks"))
    };
    let end = only(ends(readers.everything(), [&place]).map_err(kafka("fetch watermarks"))?)?;
    let stable_end = only(ends(committed, [&place]).map_err(kafka("fetch watermarks"))?)?;
    let start = only(beginnings(committed, [&place]).map_err(kafka("fetch watermarks"))?)?;
    if stable_end < end {
        return Err(ProgressError::OpenTransaction { stable_end, end });
    }
    Ok((start, end))
}

/// The newest records under the wanted keys, once everything between the bounds has been read.
fn newest_between(
    consumer: &BaseConsumer,
    topic: &str,
    (from, end): (i64, i64),
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<BTreeMap<Vec<u8>, Raw>, ProgressError> {
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Offset(from)).map_err(kafka("assign"))?;
    consumer.assign(&assignment).map_err(kafka("assign"))?;
    let (place, mut newest) = ((topic.to_owned(), 0), BTreeMap::new());
    loop {
        match consumer.poll(TIMEOUT) {
            Some(Ok(message)) => {
                if let Some(key) = message.key().filter(|key| wanted(key)) {
                    let value = message.payload().unwrap_or_default().to_vec();
                    newest.insert(key.to_vec(), Raw { offset: message.offset(), value });
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {
                if has_reached(consumer, &place, from, end).map_err(kafka("ask for the position"))? {
                    return Ok(newest);
                }
            }
            Some(Err(error)) => return Err(kafka("read progress")(error)),
            None => {
                let code = RDKafkaErrorCode::OperationTimedOut;
                return Err(kafka("read progress")(KafkaError::MessageConsumption(code)));
            }
        }
    }
}
