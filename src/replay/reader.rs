//! Where each partition is read from and to, and the consumer that reads them.
//!
//! The end is fixed before the first record is read: the high watermark, or under `read_committed` the last stable
//! offset. Offsets of Kafka's own transaction markers never come as records, so a partition is through at a record before
//! its end or when Kafka reports its end, whichever comes first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use penstock_wire::account::{Account, GLOBAL};
use penstock_wire::partition::{PartitionCountError, Partitioner};
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::selection::Span;
use crate::kafka::client::{Brokers, IsolationLevel};

const TIMEOUT: Duration = Duration::from_secs(15);

/// The first offset of a partition that is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// The first that is kept.
    #[default]
    Beginning,
    /// This one, or the first that is kept behind it.
    Offset(i64),
    /// This many before the end.
    BeforeEnd(i64),
}

/// What is read.
#[derive(Clone, Debug)]
pub struct Extent {
    pub topic: String,
    pub isolation: IsolationLevel,
    /// Only these partitions; empty: all.
    pub partitions: BTreeSet<u32>,
    pub begin: Begin,
    /// The first offset of every partition that is not read.
    pub to_offset: Option<i64>,
    /// Go on behind the end.
    pub follow: bool,
}

/// A partition and its offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub partition: i32,
    /// The first offset that is read.
    pub from: i64,
    /// The first offset that is not; `None` if it goes on for ever.
    pub end: Option<i64>,
}

/// Why a topic cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// A call failed.
    #[error("{step}: {source}")]
    Kafka {
        /// What was being done.
        step: &'static str,
        /// librdkafka's error.
        #[source]
        source: KafkaError,
    },
    /// Kafka has no topic of that name.
    #[error("topic {0:?} does not exist")]
    NoTopic(String),
    /// A partition was named that the topic does not have.
    #[error("topic {topic:?} has partitions 0 to {last}; there is no partition {asked}")]
    NoPartition { topic: String, asked: u32, last: usize },
    /// Nothing came although the end was not reached.
    #[error("Kafka sent nothing for {0} s, and the end of the topic was not reached")]
    Silent(u64),
    /// A partition count that accounts cannot be placed by.
    #[error(transparent)]
    Partitions(#[from] PartitionCountError),
}

pub(super) fn kafka(step: &'static str) -> impl FnOnce(KafkaError) -> ReaderError {
    move |source| ReaderError::Kafka { step, source }
}

/// Connects, and finds out where each partition begins and ends. `accounts` and `time_ms` leave out what cannot hold
/// anything that is wanted.
pub async fn open(
    brokers: &Brokers,
    extent: &Extent,
    accounts: &BTreeSet<String>,
    time_ms: Span<i64>,
) -> Result<(Arc<StreamConsumer>, Vec<Stretch>), ReaderError> {
    let mut config = brokers.reader(extent.isolation);
    // At the end of a partition the broker answers only after this time: it is what finding the end costs.
    config.set("fetch.wait.max.ms", "50").set("queued.max.messages.kbytes", "32768");
    // A full queue is soon emptied here; by default librdkafka would not look again for a second.
    config.set("fetch.queue.backoff.ms", "5");
    let consumer: StreamConsumer = config.create().map_err(kafka("configure a reader"))?;
    let consumer = Arc::new(consumer);
    let (asking, extent, accounts) = (Arc::clone(&consumer), extent.clone(), accounts.clone());
    // librdkafka's questions block.
    let found = tokio::task::spawn_blocking(move || stretches(&asking, &extent, &accounts, time_ms)).await;
    let stretches = match found {
        Ok(stretches) => stretches?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    Ok((consumer, stretches))
}

/// Begins to read.
pub fn assign(consumer: &StreamConsumer, topic: &str, stretches: &[Stretch]) -> Result<(), ReaderError> {
    let mut assignment = TopicPartitionList::new();
    for stretch in stretches {
        let from = Offset::Offset(stretch.from);
        assignment.add_partition_offset(topic, stretch.partition, from).map_err(kafka("assign partitions"))?;
    }
    consumer.assign(&assignment).map_err(kafka("assign partitions"))
}

fn stretches(
    consumer: &StreamConsumer,
    extent: &Extent,
    accounts: &BTreeSet<String>,
    time_ms: Span<i64>,
) -> Result<Vec<Stretch>, ReaderError> {
    let partitions = wanted_partitions(consumer, extent, accounts)?;
    let by_time = match time_ms.from {
        Some(from) => Some(offsets_for_time(consumer, &extent.topic, &partitions, from)?),
        None => None,
    };
    let mut stretches = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let watermarks = consumer.fetch_watermarks(&extent.topic, partition, TIMEOUT);
        let (low, high) = watermarks.map_err(kafka("fetch watermarks"))?;
        let begin = match extent.begin {
            Begin::Beginning => low,
            Begin::Offset(offset) => offset,
            Begin::BeforeEnd(records) => high.saturating_sub(records),
        };
        let at_time = by_time.as_ref().map(|offsets| first_at_time(offsets, &extent.topic, partition, high));
        let from = begin.max(low).max(at_time.unwrap_or(low));
        let end = match (extent.follow, extent.to_offset) {
            (true, to) => to,
            (false, to) => Some(to.map_or(high, |to| to.min(high))),
        };
        if end.is_none_or(|end| from < end) {
            stretches.push(Stretch { partition, from, end });
        }
    }
    Ok(stretches)
}

/// The partitions that are asked for and can hold an account that is asked for.
fn wanted_partitions(
    consumer: &StreamConsumer,
    extent: &Extent,
    accounts: &BTreeSet<String>,
) -> Result<Vec<i32>, ReaderError> {
    let metadata = consumer.fetch_metadata(Some(&extent.topic), TIMEOUT).map_err(kafka("fetch metadata"))?;
    let found = metadata.topics().iter().find(|topic| topic.name() == extent.topic);
    let count = found.filter(|topic| topic.error().is_none()).map_or(0, |topic| topic.partitions().len());
    if count == 0 {
        return Err(ReaderError::NoTopic(extent.topic.clone()));
    }
    let partitioner = Partitioner::new(u32::try_from(count).unwrap_or(u32::MAX))?;
    if let Some(asked) = extent.partitions.iter().find(|asked| partitioner.get(**asked).is_none()) {
        return Err(ReaderError::NoPartition { topic: extent.topic.clone(), asked: *asked, last: count - 1 });
    }
    let of_account = |account: &String| partitioner.partition(account_of(account)).number();
    let holding: BTreeSet<u32> = accounts.iter().map(of_account).collect();
    let wanted = partitioner.all().map(penstock_wire::partition::PartitionId::number).filter(|number| {
        let asked = extent.partitions.is_empty() || extent.partitions.contains(number);
        asked && (holding.is_empty() || holding.contains(number))
    });
    Ok(wanted.filter_map(|number| i32::try_from(number).ok()).collect())
}

/// Rows without an account stand where its stand-in's text would.
fn account_of(text: &str) -> Account<'_> {
    match text {
        GLOBAL => Account::NONE,
        text => Account::from_column(Some(text.as_bytes())).unwrap_or(Account::NONE),
    }
}

/// Kafka's answer is the first offset at or after the time; commit times do not rise strictly, but no record before it
/// is younger.
fn offsets_for_time(
    consumer: &StreamConsumer,
    topic: &str,
    partitions: &[i32],
    from_ms: i64,
) -> Result<TopicPartitionList, ReaderError> {
    let mut question = TopicPartitionList::new();
    for partition in partitions {
        let time = Offset::Offset(from_ms.max(0));
        question.add_partition_offset(topic, *partition, time).map_err(kafka("look up a time"))?;
    }
    consumer.offsets_for_times(question, TIMEOUT).map_err(kafka("look up a time"))
}

fn first_at_time(offsets: &TopicPartitionList, topic: &str, partition: i32, high: i64) -> i64 {
    match offsets.find_partition(topic, partition).map(|found| found.offset()) {
        Some(Offset::Offset(offset)) => offset,
        // Nothing is that young.
        _ => high,
    }
}

/// Whether reading can go on after an error that librdkafka reports on the way.
pub fn is_passing(error: &KafkaError) -> bool {
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::ReplicaNotAvailable,
        ) => true,
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_brokers_pass_and_lost_offsets_do_not() {
        let error = KafkaError::MessageConsumption;
        assert!(is_passing(&error(RDKafkaErrorCode::AllBrokersDown)));
        for code in [RDKafkaErrorCode::AutoOffsetReset, RDKafkaErrorCode::UnknownTopicOrPartition] {
            assert!(!is_passing(&error(code)), "{code:?}");
        }
    }

    #[test]
    fn the_stand_in_for_no_account_is_placed_like_its_text() {
        let partitioner = Partitioner::new(12).unwrap();
        assert_eq!(partitioner.partition(account_of("global")), partitioner.partition(Account::NONE));
        assert_ne!(account_of("a"), Account::NONE);
    }
}
