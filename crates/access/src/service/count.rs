//! The plainest reader of a topic there is: what a rebuild is measured against.

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;

use super::config::Config;
use super::error::{ConnectError, kafka};
use super::kafka::{self, Progress};

/// How long nothing may come.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// How many committed records the change topic holds, and how many bytes of keys and values. Looks at nothing else. Blocks.
///
/// # Errors
/// If the topic cannot be read to its end.
#[doc(hidden)]
pub fn count(config: &Config) -> Result<(u64, u64), ConnectError> {
    let consumer: BaseConsumer<Progress> = kafka::committed(config)?;
    let topic = &config.kafka.topic;
    let mut open: std::collections::BTreeSet<i32> = (0..).take(kafka::partitions(&consumer, topic)? as usize).collect();
    let all: Vec<u32> = open.iter().filter_map(|partition| u32::try_from(*partition).ok()).collect();
    let list = kafka::place(topic, &all, Offset::Beginning).map_err(kafka("assigning partitions"))?;
    consumer.assign(&list).map_err(kafka("assigning partitions"))?;
    let (mut records, mut bytes) = (0, 0);
    while !open.is_empty() {
        match consumer.poll(PATIENCE) {
            Some(Ok(message)) => {
                records += 1;
                bytes += (message.key_len() + message.payload_len()) as u64;
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(source)) => return Err(ConnectError::Kafka { step: "reading the topic", source }),
            None => {
                let source = KafkaError::MessageConsumption(rdkafka::types::RDKafkaErrorCode::OperationTimedOut);
                return Err(ConnectError::Kafka { step: "reading the topic", source });
            }
        }
    }
    Ok((records, bytes))
}
