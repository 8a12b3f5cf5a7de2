//! What a start asks of partitions, on a real broker: where they begin and end, and for whom.

use std::time::Duration;

use penstock::kafka::client::Brokers;
use penstock::kafka::ends::{Place, beginnings, ends, places};
use penstock::kafka::readers::Readers;
use penstock::kafka::topics;
use penstock_testbed::cluster::unique_name;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Builder;

use crate::scene::stack;

const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn partitions_begin_where_records_are_kept_and_end_where_the_reader_sees() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bootstrap = &stack().bootstrap;
    let topic = unique_name("ends");
    let brokers =
        Brokers { bootstrap: bootstrap.clone(), properties: Default::default(), transaction_timeout: TIMEOUT };
    let readers = Readers::of(&brokers).expect("clients");
    readers.introduce(&topic);
    let described = || runtime.block_on(topics::describe_with(readers.clone(), &topic));
    assert_eq!(described().expect("an answer"), None, "asking has not made the topic");

    let client = || ClientConfig::new().set("bootstrap.servers", bootstrap).clone();
    let admin: AdminClient<DefaultClientContext> = client().create().expect("a client");
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    let new = NewTopic::new(&topic, 2, TopicReplication::Fixed(1));
    runtime.block_on(admin.create_topics([&new], &options)).expect("create the topic");
    let producer: BaseProducer = client().set("transactional.id", &topic).create().expect("a producer");
    producer.init_transactions(TIMEOUT).expect("initialise");
    let transaction = |records: &[(i32, usize)]| {
        producer.begin_transaction().expect("begin");
        for (partition, count) in records {
            for _ in 0..*count {
                let record: BaseRecord<'_, str, str> = BaseRecord::to(&topic).partition(*partition).payload("x");
                producer.send(record).map_err(|(error, _)| error).expect("produce");
            }
        }
        producer.flush(TIMEOUT).expect("deliver");
    };
    transaction(&[(0, 5), (1, 3)]);
    producer.commit_transaction(TIMEOUT).expect("commit");
    // With the marker, partition 0 has six offsets and partition 1 four; one more record has no end.
    transaction(&[(1, 1)]);
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&topic, 0, Offset::Offset(2)).expect("an offset");
    runtime.block_on(admin.delete_records(&before, &options)).expect("delete records");

    let asked = places(&topic, 2);
    let offsets = |answer: Result<std::collections::BTreeMap<Place, i64>, _>| {
        answer.expect("an answer").into_values().collect::<Vec<i64>>()
    };
    assert_eq!(offsets(beginnings(readers.committed(), &asked)), [2, 0]);
    assert_eq!(offsets(ends(readers.everything(), &asked)), [6, 5]);
    assert_eq!(offsets(ends(readers.committed(), &asked)), [6, 4]);
    let state = described().expect("an answer").expect("the topic");
    assert_eq!(state.offsets, [(2, 6), (0, 5)]);
    assert_eq!(state.id.len(), 22, "{}", state.id);
    producer.abort_transaction(TIMEOUT).expect("abort");
}
