//! A `read_committed` reader that knows nothing of the bridge: what is in the topic, in order.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_wire::control::Control;
use penstock_wire::dead_letter::DeadLetter;
use penstock_wire::decode::{Envelope, WriterSchema, account_of_key};
use penstock_wire::framing;
use penstock_wire::header::{CONTROL_HEADER_NAME, HEADER_NAME, Header};
use penstock_wire::partition::Partitioner;
use penstock_wire::position::Position;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// One record.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub header: Header,
    pub key: Vec<u8>,
    /// Empty for control records about no account.
    pub account: String,
    pub timestamp_ms: i64,
    pub raw: Option<Vec<u8>>,
    pub content: Content,
}

/// What a record says.
#[derive(Clone, Debug)]
pub enum Content {
    Change(Box<Envelope>),
    Tombstone,
    Control(Control),
}

impl Record {
    pub fn change(&self) -> Option<&Envelope> {
        match &self.content {
            Content::Change(envelope) => Some(envelope),
            Content::Tombstone | Content::Control(_) => None,
        }
    }
}

/// Reads the whole topic, up to its last stable offsets, and checks what holds for every topic: positions rise in every
/// partition, each names its source's one before it, accounts are where they belong.
pub fn read(bootstrap: &str, registry_url: &str, topic: &str) -> Vec<Record> {
    let mut schemas = Schemas { url: registry_url.to_owned(), known: BTreeMap::new() };
    let mut records = Vec::new();
    let partitions = each_message(bootstrap, topic, "read_committed", |message| {
        records.push(decode(message, &mut schemas));
    });
    records.sort_by_key(|record| (record.partition, record.offset));
    check_every_topic(&records, u32::try_from(partitions).expect("few partitions"));
    records
}

/// A dead letter: its place in the order of its source, its key if it has one, the Kafka timestamp, and what it says.
#[derive(Clone, Debug)]
pub struct Letter {
    pub header: Header,
    pub key: Option<Vec<u8>>,
    pub timestamp_ms: i64,
    pub value: DeadLetter,
}

/// The dead letters that belong to a change topic, by position, read with the schema that the registry tells. Checks that
/// each stands there once.
pub fn read_dead_letters(bootstrap: &str, registry_url: &str, topic: &str) -> Vec<Letter> {
    let mut schemas = Schemas { url: registry_url.to_owned(), known: BTreeMap::new() };
    let mut letters: Vec<Letter> = Vec::new();
    each_message(bootstrap, &format!("{topic}.dead_letter"), "read_committed", |message| {
        let named = |name: &str| {
            let mut headers = message.headers().expect("every record has headers").iter();
            headers.find(|header| header.key == name).and_then(|header| header.value)
        };
        assert!(named(CONTROL_HEADER_NAME).is_none(), "a dead letter is no control record");
        let (id, body) = framing::split(message.payload().expect("a dead letter has a value")).expect("framed");
        letters.push(Letter {
            header: Header::decode(named(HEADER_NAME).expect("every record has the header")).expect("a header"),
            key: message.key().map(<[u8]>::to_vec),
            timestamp_ms: message.timestamp().to_millis().expect("a timestamp"),
            value: DeadLetter::decode_with(schemas.get(id), body).expect("a dead letter"),
        });
    });
    letters.sort_by_key(|letter| letter.header.position);
    let twice = letters.windows(2).find(|pair| pair[0].header.position == pair[1].header.position);
    assert!(twice.is_none(), "a dead letter stands there twice: {twice:?}");
    letters
}

/// Gives every message of a topic, up to where it ends for this isolation level. How many partitions there are.
pub fn each_message(
    bootstrap: &str,
    topic: &str,
    isolation: &str,
    mut give: impl FnMut(&BorrowedMessage<'_>),
) -> usize {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "test-reader")
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        // The end of a partition is told only by a fetch that waited in vain.
        .set("fetch.wait.max.ms", "20")
        .create()
        .expect("create a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(30)).expect("fetch metadata");
    let partitions = metadata.topics()[0].partitions().len();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        let partition = i32::try_from(partition).expect("few partitions");
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("assign");
    }
    consumer.assign(&assignment).expect("assign");
    let mut ended = vec![false; partitions];
    while ended.contains(&false) {
        match consumer.poll(Duration::from_secs(30)) {
            Some(Ok(message)) => {
                ended[usize::try_from(message.partition()).expect("a partition")] = false;
                give(&message);
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended[usize::try_from(partition).expect("a partition")] = true
            }
            Some(Err(KafkaError::MessageConsumption(code))) => eprintln!("reader: {code}"),
            Some(Err(error)) => panic!("read {topic}: {error}"),
            None => panic!("read {topic}: nothing for 30 s"),
        }
    }
    partitions
}

fn decode(message: &impl Message, schemas: &mut Schemas) -> Record {
    let headers = message.headers().expect("every record has headers");
    let named = |name: &str| headers.iter().find(|header| header.key == name).and_then(|header| header.value);
    let header = Header::decode(named(HEADER_NAME).expect("every record has the header")).expect("a header");
    let key = message.key().expect("every record has a key").to_vec();
    let (_, key_body) = framing::split(&key).expect("a framed key");
    let account = account_of_key(key_body).expect("every key begins with the account").to_owned();
    let raw = message.payload().map(<[u8]>::to_vec);
    let content = match &raw {
        None => Content::Tombstone,
        Some(value) => {
            let (id, body) = framing::split(value).expect("a framed value");
            match named(CONTROL_HEADER_NAME) {
                Some(kind) => {
                    let control = Control::decode(body).expect("a control record");
                    assert_eq!(kind, control.kind.as_str().as_bytes());
                    Content::Control(control)
                }
                None => Content::Change(Box::new(Envelope::decode(schemas.get(id), body).expect("an envelope"))),
            }
        }
    };
    let timestamp_ms = message.timestamp().to_millis().expect("a timestamp");
    let (partition, offset) = (message.partition(), message.offset());
    Record { partition, offset, header, key, account, timestamp_ms, raw, content }
}

fn check_every_topic(records: &[Record], partitions: u32) {
    let partitioner = Partitioner::new(partitions).expect("a partition count");
    // By partition and source: each source has a chain of its own.
    let mut last: BTreeMap<(i32, u16), Position> = BTreeMap::new();
    let mut open: BTreeMap<(i32, u16), Position> = BTreeMap::new();
    for record in records {
        let position = record.header.position;
        let at = format!("partition {} offset {} position {position}", record.partition, record.offset);
        let chain = (record.partition, record.header.source);
        let before = last.insert(chain, position).unwrap_or_default();
        assert!(before < position, "{at}: doubled or out of order behind {before}");
        assert_eq!(record.header.previous, before, "{at}: the chain is broken, a record is missing");
        if let Some(unfinished) = open.get(&chain) {
            let same = unfinished.commit_lsn == position.commit_lsn && unfinished.epoch == position.epoch;
            assert!(same, "{at}: a transaction before it has no end flag");
        }
        match record.header.end_of_transaction {
            true => drop(open.remove(&chain)),
            false => drop(open.insert(chain, position)),
        }
        if !record.account.is_empty() {
            let account = penstock_wire::account::Account::from_column(match record.account.as_str() {
                "global" => None,
                other => Some(other.as_bytes()),
            });
            let expected = partitioner.partition(account.expect("an account")).number();
            assert_eq!(
                u32::try_from(record.partition),
                Ok(expected),
                "{at}: account {} in the wrong partition",
                record.account
            );
        }
        if let Content::Change(envelope) = &record.content {
            assert_eq!(envelope.source.commit_lsn, position.commit_lsn, "{at}: the envelope is of another commit");
            assert_eq!(envelope.source.seq, position.seq, "{at}: the envelope has another seq");
            assert_eq!(envelope.ts_ms, record.timestamp_ms, "{at}: the timestamp is not the commit's");
        }
    }
    assert!(open.is_empty(), "transactions without end: {open:?}");
}

struct Schemas {
    url: String,
    known: BTreeMap<u32, WriterSchema>,
}

impl Schemas {
    fn get(&mut self, id: u32) -> &WriterSchema {
        let url = &self.url;
        self.known.entry(id).or_insert_with(|| fetch(url, id))
    }
}

/// The writer's schema, from the registry alone.
fn fetch(url: &str, id: u32) -> WriterSchema {
    WriterSchema::parse(&schema_text(url, id)).expect("an Avro schema")
}

/// What the registry knows under an id.
pub fn schema_text(url: &str, id: u32) -> String {
    use penstock::health::Health;
    use penstock::registry::{Registry, RegistryOptions};
    let options =
        RegistryOptions { url: url.to_owned(), login: None, ca_certificate: None, timeout: Duration::from_secs(30) };
    let registry = Registry::new(&options).expect("a registry");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(registry.schema(id, &Health::default())).expect("a schema")
}
