//! A progress topic that somebody else has written to, who may not.

use std::time::Duration;

use penstock_testbed::cluster::unique_name;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{delivered, insert, stopped};
use crate::scene::{PATIENCE, Scene, expect_last_words};

/// Not framed; framed with a schema that nobody has registered; no Avro of the schema that it names.
const GARBAGE: [(&[u8], &str); 3] = [
    (b"garbage", "is no progress"),
    (b"\0\0\x0f\xff\xffgarbage", "knows no schema 1048575"),
    (b"\0\0\0\0\x01garbage", "cannot be read"),
];
const REMEDY: &str = "take the right to write to the progress topic";

fn write(scene: &Scene, key: &str, value: Option<&[u8]>) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &scene.world.bootstrap).create().expect("a producer");
    let topic = format!("{}.progress", scene.world.topic);
    let record: BaseRecord<'_, str, [u8]> = BaseRecord::to(&topic).partition(0).key(key);
    let record = match value {
        Some(value) => record.payload(value),
        None => record,
    };
    producer.send(record).map_err(|(error, _)| error).expect("send");
    producer.flush(Duration::from_secs(30)).expect("flush");
}

#[test]
fn what_stands_there_under_other_keys_stops_no_source_but_one_that_begins() {
    let mut scene = stopped();
    for (value, _) in GARBAGE {
        write(&scene, "nobody", Some(value));
    }
    write(&scene, "", Some(b""));
    scene.again();
    insert(&scene, &[3]);
    assert_eq!(delivered(&mut scene), ["1", "2", "3"]);

    // Whether its number is free cannot be known.
    let mut second = scene.world.twin();
    second.topic.clone_from(&scene.world.topic);
    second.source = unique_name("second");
    second.set("SOURCE__NUMBER", "7");
    for (value, why) in GARBAGE {
        write(&scene, "nobody", Some(value));
        expect_last_words(&mut second.run(), 1, &["\"nobody\"", why, REMEDY, "tombstone"]);
    }
    write(&scene, "nobody", None);
    let mut bridge = second.run();
    second.wait_ready(&mut bridge, PATIENCE);
    assert!(bridge.stop().success());
    drop(second);
    scene.stop();
}

#[test]
fn what_stands_there_under_the_sources_own_key_stops_it() {
    let mut scene = stopped();
    let source = scene.world.source.clone();
    let empty: (&[u8], &str) = (b"", "is no progress");
    for (value, why) in GARBAGE.into_iter().chain([empty]) {
        write(&scene, &source, Some(value));
        scene.bridge = scene.world.run();
        scene.expect_halt(&[&format!("{source:?}"), why, REMEDY, "byte for byte"]);
    }
    write(&scene, &source, None);
    scene.bridge = scene.world.run();
    scene.expect_halt(&[&format!("{source:?}"), "is no progress", REMEDY]);
}
