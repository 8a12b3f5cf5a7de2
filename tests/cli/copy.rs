//! Copies of a topic's records under another name, with what a topic should not hold: duplicates, holes, garbage, records
//! of transactions that never end. Somebody else than the bridge must have written such a topic.

use std::time::Duration;

use penstock_testbed::cluster::unique_name;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A topic of one partition.
pub struct Copy {
    pub topic: String,
    producer: BaseProducer,
}

impl Copy {
    pub fn new(bootstrap: &str) -> Self {
        let topic = format!("{}.copy", unique_name("c"));
        let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().expect("a client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
        let created =
            runtime.block_on(admin.create_topics([&new], &AdminOptions::new().operation_timeout(Some(TIMEOUT))));
        created.expect("create a topic").into_iter().next().expect("an answer").expect("the topic is created");
        let producer: BaseProducer = client(bootstrap).set("transactional.id", &topic).create().expect("a producer");
        producer.init_transactions(TIMEOUT).expect("initialise transactions");
        Self { topic, producer }
    }

    /// Writes the records in a transaction of their own and commits it.
    pub fn write(&self, records: &[&OwnedMessage]) {
        self.begin(records);
        self.producer.commit_transaction(TIMEOUT).expect("commit");
    }

    /// Writes the records and leaves their transaction open.
    pub fn begin(&self, records: &[&OwnedMessage]) {
        self.producer.begin_transaction().expect("begin");
        for record in records {
            let mut copy: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic).partition(0);
            copy = copy.timestamp(record.timestamp().to_millis().expect("a time"));
            copy.key = record.key();
            copy.payload = record.payload();
            copy.headers = record.headers().cloned();
            self.producer.send(copy).map_err(|(error, _)| error).expect("produce");
        }
        self.producer.flush(TIMEOUT).expect("flush");
    }

    /// Ends the open transaction as if it had never been.
    pub fn abort(&self) {
        self.producer.abort_transaction(TIMEOUT).expect("abort");
    }
}

/// All records of a partition.
pub fn records(bootstrap: &str, topic: &str, partition: i32) -> Vec<OwnedMessage> {
    let mut config = client(bootstrap);
    config.set("group.id", "copy").set("enable.partition.eof", "true").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
    consumer.assign(&assignment).expect("assign");
    let mut records = Vec::new();
    loop {
        match consumer.poll(TIMEOUT).expect("a record or the end") {
            Ok(message) => records.push(message.detach()),
            Err(KafkaError::PartitionEOF(_)) => return records,
            Err(error) => panic!("{error}"),
        }
    }
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}
