//! The partition of an account is the one a Java client computes for the same string key.
//!
//! The vectors were made by `org.apache.kafka.common.utils.Utils.murmur2` of Kafka's own client.

use penstock_wire::account::Account;
use penstock_wire::partition::Partitioner;
use serde_json::Value;

#[test]
fn accounts_are_where_the_java_client_puts_them() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../golden/partition.json")).unwrap();
    assert!(vectors.len() > 100, "{} vectors", vectors.len());
    for vector in vectors {
        let text = vector["account"].as_str().unwrap();
        let account = match text {
            "global" => Account::NONE,
            text => Account::from_column(Some(text.as_bytes())).unwrap(),
        };
        let number = |field: &str| u32::try_from(vector[field].as_u64().unwrap()).unwrap();
        let partitioner = Partitioner::new(number("partitions")).unwrap();
        assert_eq!(partitioner.partition(account).number(), number("partition"), "{vector}");
    }
}
