//! The two consumers: changes, of the partitions that are this instance's, and progress, all of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::config::{Assignment, Config};
use super::engine::{Begin, Shared};
use super::error::{ConnectError, kafka};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Told of partitions that come and go.
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    topic: String,
    /// Where partitions end, as the consumer was last told with what it fetched.
    ends: Mutex<BTreeMap<u32, End>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct End {
    offset: i64,
    /// This offset is the end, as far as a reader can come: markers of Kafka's transactions stand behind the last record.
    read: Option<i64>,
}

impl Context {
    /// A partition was read to its end.
    pub(super) fn read_to_end(&self, partition: u32) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let end = ends.entry(partition).or_default();
        end.read = Some(end.offset);
    }

    /// How many offsets a partition has that were not read.
    pub(super) fn lag(&self, partition: u32, read_to: i64) -> i64 {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let end = ends.get(&partition).copied().unwrap_or_default();
        match end.read {
            Some(read) if read >= end.offset => 0,
            Some(_) | None => end.offset.saturating_sub(read_to).max(0),
        }
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, partition) in &topic.partitions {
            // Of a reader of committed records it is the last stable offset.
            let offset = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
            if let Ok(number) = u32::try_from(*number) {
                ends.entry(number).or_default().offset = offset;
            }
        }
    }
}

impl ConsumerContext for Context {
    /// Called from `poll`, on the reader's thread.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<u32> = numbers(list);
        let done = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                tracing::info!(?partitions, "partitions were given to this instance");
                let mut engine = self.shared.lock();
                for partition in &partitions {
                    engine.replica.assign(*partition, super::now());
                    // Read from where it is gone on with, once it is known where it ends.
                    engine.to_read.insert(*partition, Begin::Kept);
                }
                self.shared.hand_out(&mut engine);
                drop(engine);
                place(&self.topic, &partitions, Offset::Beginning).and_then(|list| consumer.incremental_assign(&list))
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                tracing::info!(?partitions, "partitions were taken from this instance");
                let mut engine = self.shared.lock();
                for partition in &partitions {
                    engine.replica.revoke(*partition, super::now());
                    engine.to_read.remove(partition);
                    engine.catch_up.revoke(*partition);
                    self.shared.metrics.forget(*partition);
                }
                self.shared.hand_out(&mut engine);
                drop(engine);
                consumer.incremental_unassign(list)
            }
            other => {
                tracing::warn!(error = %RDKafkaErrorCode::from(other), "the group cannot share its partitions out");
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::error!(%error, "partitions cannot be taken or given");
        }
    }
}

fn numbers(list: &TopicPartitionList) -> Vec<u32> {
    list.elements().iter().filter_map(|element| u32::try_from(element.partition()).ok()).collect()
}

/// A list of partitions, each at an offset.
pub(super) fn place(topic: &str, partitions: &[u32], offset: Offset) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, i32::try_from(*partition).unwrap_or(i32::MAX), offset)?;
    }
    Ok(list)
}

fn base(config: &Config) -> ClientConfig {
    let mut client = ClientConfig::new();
    for (key, value) in &config.kafka.properties {
        client.set(key, value);
    }
    client
        .set("bootstrap.servers", config.kafka.brokers.join(","))
        .set("group.id", &config.kafka.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "100")
        .set("fetch.queue.backoff.ms", "5")
        .set("partition.assignment.strategy", "cooperative-sticky");
    client
}

/// Reads the change topic.
pub(super) fn changes(config: &Config, shared: &Arc<Shared>) -> Result<BaseConsumer<Context>, ConnectError> {
    let mut client = base(config);
    let isolation = if config.kafka.read_uncommitted { "read_uncommitted" } else { "read_committed" };
    client.set("isolation.level", isolation).set("queued.max.messages.kbytes", "65536");
    client.set("statistics.interval.ms", "1000");
    let (topic, ends) = (config.kafka.topic.clone(), Mutex::default());
    let context = Context { shared: Arc::clone(shared), topic, ends };
    BaseConsumer::from_config_and_context(&client, context).map_err(kafka("setting up a consumer"))
}

/// Begins to read: what the group gives, or what the configuration says.
pub(super) fn begin(
    config: &Config,
    consumer: &BaseConsumer<Context>,
    partitions: u32,
    shared: &Shared,
) -> Result<(), ConnectError> {
    let topic = &config.kafka.topic;
    let wanted: Vec<u32> = match config.kafka.assignment {
        Assignment::Group => return consumer.subscribe(&[topic]).map_err(kafka("joining the group")),
        Assignment::All => (0..partitions).collect(),
        Assignment::Partitions => config.kafka.partitions.clone(),
    };
    if let Some(partition) = wanted.iter().find(|partition| **partition >= partitions) {
        return Err(ConnectError::NoPartition { topic: topic.clone(), partition: *partition });
    }
    let mut engine = shared.lock();
    for partition in &wanted {
        engine.replica.assign(*partition, super::now());
        engine.to_read.insert(*partition, Begin::Kept);
    }
    shared.hand_out(&mut engine);
    drop(engine);
    let list = place(topic, &wanted, Offset::Beginning).map_err(kafka("assigning partitions"))?;
    consumer.assign(&list).map_err(kafka("assigning partitions"))
}

/// Reads the progress topic from its beginning; always committed records only.
pub(super) fn progress(config: &Config) -> Result<BaseConsumer, ConnectError> {
    let mut client = base(config);
    client.set("isolation.level", "read_committed");
    let consumer: BaseConsumer = client.create().map_err(kafka("setting up a consumer"))?;
    let topic = config.progress_topic();
    let partitions: Vec<u32> = (0..partitions(&consumer, &topic)?).collect();
    let list = place(&topic, &partitions, Offset::Beginning).map_err(kafka("assigning progress"))?;
    consumer.assign(&list).map_err(kafka("assigning progress"))?;
    Ok(consumer)
}

/// How many partitions a topic has.
pub(super) fn partitions<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Result<u32, ConnectError> {
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).map_err(kafka("asking for the topic"))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
    let count = found.map_or(0, |found| found.partitions().len());
    match u32::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(ConnectError::NoTopic(topic.to_owned())),
    }
}

/// The first offset that the partition still has. Blocks for a while.
pub(super) fn first(consumer: &BaseConsumer<Context>, topic: &str, partition: u32) -> KafkaResult<i64> {
    let number = i32::try_from(partition).unwrap_or(i32::MAX);
    consumer.fetch_watermarks(topic, number, TIMEOUT).map(|(first, _)| first)
}

/// The offset behind the last record that this consumer can get now. Blocks for a while.
pub(super) fn end(consumer: &BaseConsumer<Context>, topic: &str, partition: u32) -> KafkaResult<i64> {
    // Kafka takes the "time" -1 for the end, which is how librdkafka writes it, and answers as the isolation level says.
    let asked = place(topic, &[partition], Offset::End)?;
    let answered = consumer.offsets_for_times(asked, TIMEOUT)?;
    match answered.elements().first().map(|element| element.offset()) {
        Some(Offset::Offset(offset)) => Ok(offset),
        _ => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset)),
    }
}

/// How long the change topic keeps what compaction may remove.
pub(super) struct Settings {
    pub(super) compaction_lag: Duration,
    pub(super) tombstone_retention: Duration,
}

/// Asks the brokers. Without the right to ask, Kafka's own defaults are taken: no lag, so that no hole is taken for a loss,
/// and tombstones that are kept for a day.
pub(super) fn settings(config: &Config) -> Result<Settings, ConnectError> {
    let client: AdminClient<DefaultClientContext> = base(config).create().map_err(kafka("setting up a client"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ConnectError::Thread)?;
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let topic = [ResourceSpecifier::Topic(&config.kafka.topic)];
    let described = runtime.block_on(client.describe_configs(&topic, &options));
    let resources = described.map_err(kafka("asking for the topic's settings"))?;
    let entries: Vec<_> = resources.into_iter().flatten().flat_map(|resource| resource.entries).collect();
    if entries.is_empty() {
        tracing::warn!("the topic's settings cannot be read: lost records may be taken for compacted ones");
    }
    let millis = |name: &str, default| {
        let entry = entries.iter().find(|entry| entry.name == name).and_then(|entry| entry.value.as_deref());
        Duration::from_millis(entry.and_then(|value| value.parse().ok()).unwrap_or(default))
    };
    Ok(Settings {
        compaction_lag: millis("min.compaction.lag.ms", 0),
        tombstone_retention: millis("delete.retention.ms", 86_400_000),
    })
}
