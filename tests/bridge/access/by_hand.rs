//! Records that no bridge has written, and a place for them in the order.

use std::time::Duration;

use penstock_wire::header::{HEADER_NAME, Header};
use penstock_wire::lsn::CommitLsn;
use penstock_wire::position::{Position, Seq};
use rdkafka::ClientConfig;
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::reader::Record;
use crate::scene::{PATIENCE, Scene};

/// A transaction of one record that follows all others of its partition.
pub fn next_header(records: &[Record], partition: i32) -> Header {
    let last = records.iter().rfind(|record| record.partition == partition).expect("the partition has records");
    let Position { epoch, commit_lsn, .. } = last.header.position;
    Header {
        end_of_transaction: true,
        identity_only: false,
        source: last.header.source,
        // The next real commit is further off than a byte.
        position: Position { epoch, commit_lsn: CommitLsn::new(commit_lsn.0.0 + 1), seq: Seq(8) },
        previous: last.header.position,
    }
}

/// Writes a record into the change topic. `header`: the bytes of `penstock`, if it is to have one.
pub fn produce(scene: &Scene, partition: i32, key: &[u8], value: Option<&[u8]>, header: Option<&[u8]>) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &scene.world.bootstrap).create().expect("a producer");
    let mut headers = OwnedHeaders::new();
    if let Some(header) = header {
        headers = headers.insert(KafkaHeader { key: HEADER_NAME, value: Some(header) });
    }
    let mut record = BaseRecord::<[u8], [u8]>::to(&scene.world.topic).partition(partition).key(key).headers(headers);
    record.payload = value;
    producer.send(record).map_err(|(error, _)| error).expect("queue a record");
    producer.flush(PATIENCE).expect("it is written");
}

/// A transaction that is aborted: read by nobody, and it takes offsets.
pub fn produce_aborted(bootstrap: &str, topic: &str, partition: i32) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", format!("{topic}-by-hand"))
        .create()
        .expect("a producer");
    producer.init_transactions(PATIENCE).expect("begin");
    producer.begin_transaction().expect("begin");
    let record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition).key(b"aborted").payload(b"aborted");
    producer.send(record).map_err(|(error, _)| error).expect("queue a record");
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
    producer.abort_transaction(PATIENCE).expect("abort");
}
