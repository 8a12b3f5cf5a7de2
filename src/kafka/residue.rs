//! What a predecessor left in the topic without an end: found after it was fenced, and aborted.
//!
//! Fencing aborts the predecessor's open transaction, and every partition the coordinator knows of gets its marker. A
//! broker that is killed again and again in the middle seems to be able to forget one: seen once, in the offsets of a
//! topic, its cause inferred. The records there belong to nobody's transaction any more, but
//! they carry our producer's id: our next commit would commit them too, beside their repetition. So a partition whose last
//! stable offset is not its end gets a transaction of its own, which is aborted, and takes the residue with it.
//!
//! A partition can also be unstable because another source writes to it at the moment; aborting does it no harm.

use std::time::Duration;

use penstock_wire::partition::PartitionId;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::client::{Brokers, IsolationLevel};
use super::sink::Topics;

const TIMEOUT: Duration = Duration::from_secs(15);

/// Partitions of the change topic, which exists, that hold records behind their last stable offset. Blocks.
pub fn partitions(brokers: &Brokers, topics: &Topics) -> Result<Vec<PartitionId>, KafkaError> {
    let everything: BaseConsumer = brokers.reader(IsolationLevel::ReadUncommitted).create()?;
    let committed: BaseConsumer = brokers.reader(IsolationLevel::ReadCommitted).create()?;
    let mut unstable = Vec::new();
    for partition in topics.partitioner.all() {
        let number = i32::try_from(partition.number()).expect("partition counts are 31 bits");
        let (_, end) = everything.fetch_watermarks(&topics.changes, number, TIMEOUT)?;
        let (_, stable_end) = committed.fetch_watermarks(&topics.changes, number, TIMEOUT)?;
        if stable_end < end {
            unstable.push(partition);
        }
    }
    Ok(unstable)
}
