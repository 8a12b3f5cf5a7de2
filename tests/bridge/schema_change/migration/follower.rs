//! A reader that follows the topic while it grows, and folds it to rows.
//!
//! An old one reads with the schemas it was given, by Avro's resolution; a new one with the schema of each record, which must
//! be in the registry by the time that the record can be read. Avro's resolution goes by the types below logical types;
//! apache-avro's refuses logical types that differ, so they are taken away first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use apache_avro::BigDecimal;
use apache_avro::types::Value;
use penstock_wire::decode::{Envelope, WriterSchema};
use penstock_wire::event::Op;
use penstock_wire::framing;
use penstock_wire::header::CONTROL_HEADER_NAME;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::reader::schema_text;
use crate::scene::{PARTITIONS, plain};
use crate::world::World;

/// Columns and their values as text, by table and id.
pub(super) type Rows = BTreeMap<(String, String), BTreeMap<String, String>>;

pub(super) struct Follower {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Rows>,
}

impl Follower {
    /// Begins at the beginning. `known`: the reader's own schemas by table; without any it takes each record's.
    pub(super) fn start(world: &World, known: BTreeMap<String, String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut following = Following {
            registry_url: world.registry_url.clone(),
            known: known.iter().map(|(table, text)| (table.clone(), parse(&without_logical_types(text)))).collect(),
            writers: BTreeMap::new(),
            rows: Rows::new(),
        };
        let (bootstrap, topic, stopped) = (world.bootstrap.clone(), world.topic.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            following.follow(&bootstrap, &topic, &stopped);
            following.rows
        });
        Self { stop, thread }
    }

    /// Reads to the end, and gives the rows.
    pub(super) fn finish(self) -> Rows {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a reader that could read everything")
    }
}

struct Following {
    registry_url: String,
    known: BTreeMap<String, WriterSchema>,
    /// Each record's schema, as it is and without logical types.
    writers: BTreeMap<u32, (WriterSchema, WriterSchema)>,
    rows: Rows,
}

impl Following {
    fn follow(&mut self, bootstrap: &str, topic: &str, stop: &AtomicBool) {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "test-follower")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "20")
            .create()
            .expect("create a consumer");
        let partitions = i32::try_from(PARTITIONS).expect("few partitions");
        let mut next: BTreeMap<i32, i64> = (0..partitions).map(|partition| (partition, 0)).collect();
        loop {
            // Assigned anew, a partition tells its end again.
            let is_last = stop.load(Ordering::Relaxed);
            let mut assignment = TopicPartitionList::new();
            for (partition, offset) in &next {
                assignment.add_partition_offset(topic, *partition, Offset::Offset(*offset)).expect("assign");
            }
            consumer.assign(&assignment).expect("assign");
            let mut left = next.len();
            while left > 0 {
                match consumer.poll(Duration::from_secs(30)).expect("records, or the end of them") {
                    Ok(message) => {
                        next.insert(message.partition(), message.offset() + 1);
                        self.read(&message);
                    }
                    Err(KafkaError::PartitionEOF(_)) => left -= 1,
                    Err(error) => panic!("read {topic}: {error}"),
                }
            }
            if is_last {
                return;
            }
        }
    }

    fn read(&mut self, message: &impl Message) {
        let headers = message.headers().expect("every record has headers");
        let is_control = headers.iter().any(|header| header.key == CONTROL_HEADER_NAME);
        let Some(value) = message.payload().filter(|_| !is_control) else { return };
        let (id, body) = framing::split(value).expect("a framed value");
        let url = &self.registry_url;
        let (writer, bare) = self.writers.entry(id).or_insert_with(|| {
            let text = schema_text(url, id);
            (parse(&text), parse(&without_logical_types(&text)))
        });
        let envelope = Envelope::decode(writer, body).expect("an envelope");
        let table = envelope.source.table.clone();
        let is_loaded = envelope.op == Op::Read;
        let [before, after] = match self.known.get(&table) {
            Some(reader) => resolved(bare.read_resolved(reader, body).expect("it resolves to the old schema")),
            None => [envelope.before, envelope.after].map(|row| row.map(|row| row.0)),
        };
        let id = |row: &[(String, Value)]| {
            let id = row.iter().find(|(name, _)| name == "id").map(|(_, value)| text(value));
            (table.clone(), id.expect("an id"))
        };
        if let Some(before) = before {
            assert!(self.rows.remove(&id(&before)).is_some(), "a change of a row that is not there: {:?}", id(&before));
        }
        if let Some(after) = after {
            let columns = after.iter().map(|(name, value)| (name.clone(), text(value))).collect();
            let held = self.rows.insert(id(&after), columns);
            assert!(held.is_none() || is_loaded, "a row twice: {:?}", id(&after));
        }
    }
}

fn parse(schema: &str) -> WriterSchema {
    WriterSchema::parse(schema).expect("an Avro schema")
}

fn without_logical_types(schema: &str) -> String {
    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(object) => {
                object.remove("logicalType");
                object.values_mut().for_each(strip);
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut schema: serde_json::Value = serde_json::from_str(schema).expect("JSON");
    strip(&mut schema);
    schema.to_string()
}

/// The old and the new row of an envelope that was resolved to another schema.
fn resolved(envelope: Value) -> [Option<Vec<(String, Value)>>; 2] {
    let Value::Record(fields) = envelope else { panic!("no record") };
    ["before", "after"].map(|wanted| {
        let value = fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())?;
        match inner(value) {
            Value::Record(row) => Some(row.into_iter().map(|(name, value)| (name, inner(value))).collect()),
            _ => None,
        }
    })
}

fn inner(value: Value) -> Value {
    match value {
        Value::Union(_, inner) => *inner,
        other => other,
    }
}

/// As a SELECT prints it. Bytes are the one decimal there is, whose scale never changes.
fn text(value: &Value) -> String {
    const SCALE: i64 = 2;
    match value {
        Value::Bytes(bytes) => {
            let unscaled: apache_avro::Decimal = bytes.clone().into();
            BigDecimal::new(unscaled.into(), SCALE).to_string()
        }
        other => plain(other),
    }
}
