//! Topics that compaction has been through: what it has removed is missed, or known not to matter.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use penstock_access::account;
use penstock_access::decode::Names;
use penstock_access::partition::{Isolation, Options as PartitionOptions, RebuildReason};
use penstock_access::replica::{Options, Output, RawRecord, Replica};
use penstock_access::rows::Micros;
use penstock_testbed::cluster::Addresses;
use penstock_testbed::kafka::Kafka;
use penstock_wire::account::Account;
use penstock_wire::decode::WriterSchema;
use penstock_wire::framing;
use penstock_wire::header::{CONTROL_HEADER_NAME, HEADER_NAME};
use penstock_wire::partition::Partitioner;
use penstock_wire::progress::Progress;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use super::by_hand::produce_aborted;
use super::*;
use crate::bad_input::kafka::Operator;
use crate::reader::{each_message, schema_text};
use crate::scene::{PARTITIONS, stack, world_on};

/// A scene on a broker that compacts often.
fn scene_on_its_own_broker() -> (Kafka, Scene) {
    let kafka = Kafka::builder().property("log.cleaner.backoff.ms", 100).start().expect("a broker of its own");
    let addresses = Addresses { bootstrap: kafka.bootstrap(), ..stack().clone() };
    let scene = scene_of(world_on(&addresses, &schema(), CAPTURE));
    (kafka, scene)
}

fn partitioner() -> Partitioner {
    Partitioner::new(PARTITIONS).expect("a count")
}

fn partition() -> u32 {
    partitioner().partition(Account::from_column(Some(ACCOUNT.as_bytes())).expect("an account")).number()
}

/// Keys in the account's partition, with how many records stand under each, and whether the last one is a tombstone.
fn keys(world: &World) -> BTreeMap<Vec<u8>, (usize, bool)> {
    let mut keys: BTreeMap<Vec<u8>, (usize, bool)> = BTreeMap::new();
    each_message(&world.bootstrap, &world.topic, "read_committed", |message| {
        if message.partition() == i32::try_from(partition()).expect("a partition") {
            let entry = keys.entry(message.key().expect("every record has a key").to_vec()).or_default();
            *entry = (entry.0 + 1, message.payload().is_none());
        }
    });
    keys
}

/// Has the broker remove all that compaction may remove: older versions, and tombstones too. Records that nobody sees make
/// it begin new segments.
fn compact(world: &World) {
    let operator = Operator::new(&world.bootstrap);
    let at_once = [
        ("segment.ms", "1"),
        ("min.compaction.lag.ms", "0"),
        ("delete.retention.ms", "0"),
        ("min.cleanable.dirty.ratio", "0"),
    ];
    operator.set_all(&world.topic, &at_once);
    let number = i32::try_from(partition()).expect("a partition");
    let is_compact = || {
        produce_aborted(&world.bootstrap, &world.topic, number);
        keys(world).values().all(|(records, is_tombstone)| *records == 1 && !is_tombstone)
    };
    wait("the topic to be compacted", PATIENCE, is_compact).unwrap_or_else(|late| panic!("{late}: {:?}", keys(world)));
    // As readers rely on it: who reads slower than tombstones are kept begins anew.
    operator.set_all(&world.topic, &[("min.compaction.lag.ms", "0"), ("delete.retention.ms", "86400000")]);
}

/// The reading side without the shell: a replica that is handed records as they stand in Kafka.
struct ByHand<'a> {
    world: &'a World,
    replica: Replica,
    /// Why the partition had to be read again.
    rebuilds: Vec<RebuildReason>,
}

impl<'a> ByHand<'a> {
    fn new(world: &'a World) -> Self {
        let replica = Replica::new(Options {
            account: account::Options::default(),
            partition: PartitionOptions {
                isolation: Isolation::ReadCommitted,
                stale_after: Duration::from_secs(600),
                compaction_lag: Duration::ZERO,
                tombstone_retention: Duration::from_secs(86_400),
            },
            names: Names::default(),
            partitions: partitioner(),
        });
        Self { world, replica, rebuilds: Vec::new() }
    }

    /// Hands in the account's partition from `offset` on, its end, and progress.
    fn read_from(&mut self, offset: i64) {
        let (bootstrap, topic, url) = (&self.world.bootstrap, &self.world.topic, &self.world.registry_url);
        let replica = &mut self.replica;
        let number = i32::try_from(partition()).expect("a partition");
        let end = end(self.world, number);
        each_message(bootstrap, topic, "read_committed", |message| {
            if message.partition() == number && message.offset() >= offset {
                hand_in(replica, url, message);
            }
        });
        self.replica.handle_end(partition(), end, now());
        let replica = &mut self.replica;
        each_message(bootstrap, &format!("{topic}.progress"), "read_committed", |message| {
            let (id, body) = framing::split(message.payload().expect("progress")).expect("framed");
            let writer = WriterSchema::parse(&schema_text(url, id)).expect("a schema");
            replica.handle_progress(&Progress::decode_with(&writer, body).expect("progress"), now());
        });
        while let Some(output) = self.replica.poll_output() {
            if let Output::Read { partition: of, why } = output {
                assert_eq!(of, partition());
                self.rebuilds.push(why);
            }
        }
    }

    fn authorize(&self, resource: Uuid) -> Answer {
        let flow = Uuid::from_u128(1);
        self.replica.authorize(&Request { client: CLIENT, token: TOKEN, resource, online: &[GATEWAY], flow }, now())
    }
}

/// Where the partition ends: behind what is left of it.
fn end(world: &World, partition: i32) -> i64 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.bootstrap)
        .set("group.id", "test-end")
        .create()
        .expect("a consumer");
    consumer.fetch_watermarks(&world.topic, partition, PATIENCE).expect("ask where it ends").1
}

fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Micros(i64::try_from(since.as_micros()).expect("before 294,000"))
}

fn hand_in(replica: &mut Replica, registry_url: &str, message: &BorrowedMessage<'_>) {
    let header = |name: &str| message.headers().and_then(|all| all.iter().find(|one| one.key == name));
    let record = RawRecord {
        partition: u32::try_from(message.partition()).expect("a partition"),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().expect("a timestamp"),
        header: header(HEADER_NAME).and_then(|header| header.value),
        is_control: header(CONTROL_HEADER_NAME).is_some(),
        key: message.key().unwrap_or_default(),
        value: message.payload(),
    };
    while let Err(unknown) = replica.handle_record(&record, now()) {
        replica.handle_schema(unknown.0, Some(&schema_text(registry_url, unknown.0)));
    }
}

#[test]
fn a_last_transaction_whose_tombstone_was_removed_is_known_on_a_rebuild_and_missed_on_a_resume() {
    let (kafka, mut scene) = scene_on_its_own_broker();
    let runtime = runtime();
    scene.records();
    // A reader that stops right before the last transaction.
    let mut stopped = ByHand::new(&scene.world);
    stopped.replica.assign(partition(), now());
    stopped.read_from(0);
    assert!(matches!(stopped.authorize(RESOURCES[0]), Answer::Ok { .. }), "{:?}", stopped.authorize(RESOURCES[0]));
    let (point, saved) = stopped.replica.save(partition()).expect("it can be gone on with");
    scene.sql("DELETE FROM policies");
    let records = scene.records();
    let number = i32::try_from(partition()).expect("a partition");
    let last = records.iter().rfind(|record| record.partition == number).expect("records");
    assert!(last.raw.is_none() && last.header.end_of_transaction, "a tombstone ends the transaction: {last:?}");
    assert_eq!(keys(&scene.world)[&last.key], (3, true), "insert, delete, tombstone");
    compact(&scene.world);
    assert!(!keys(&scene.world).contains_key(&last.key), "nothing tells of the policy any more");

    // From the beginning: progress says how far the partition goes, and that is believed.
    let mut rebuilt = ByHand::new(&scene.world);
    rebuilt.replica.assign(partition(), now());
    rebuilt.read_from(0);
    assert_eq!(rebuilt.authorize(RESOURCES[0]), Answer::Forbidden { violated_properties: Vec::new() });
    assert_eq!(rebuilt.rebuilds, []);
    assert!(rebuilt.replica.save(partition()).is_some(), "it is rebuilt");
    let access = consumer_with(&scene, &runtime, "", "stale_after = 30");
    let mut client = access.subscribe_client(CLIENT, None, ClientOptions::default());
    assert_eq!(told(&runtime, &mut client), "init []");
    assert_eq!(authorize(&access, RESOURCES[0]), Answer::Forbidden { violated_properties: Vec::new() });

    // From where the reader stopped nothing comes, and what it holds still grants: it must not be believed.
    let mut resumed = ByHand::new(&scene.world);
    let offset = point.offset();
    resumed.replica.resume(point, saved, now());
    resumed.read_from(offset);
    assert!(matches!(resumed.rebuilds[..], [RebuildReason::Compacted { .. }]), "{:?}", resumed.rebuilds);
    assert_eq!(resumed.replica.doubt(ACCOUNT, now()), Some(Reason::Rebuilding));
    assert!(matches!(resumed.authorize(RESOURCES[0]), Answer::Unavailable { .. }));
    resumed.read_from(0);
    assert_eq!(resumed.authorize(RESOURCES[0]), Answer::Forbidden { violated_properties: Vec::new() });
    runtime.block_on(access.close());
    scene.stop();
    drop(kafka);
}

#[test]
fn a_flow_to_a_resource_that_had_another_address_stays_ended_when_compaction_has_removed_that() {
    let (kafka, scene) = scene_on_its_own_broker();
    let runtime = runtime();
    scene.sql(GATEWAY_TOKEN);
    scene.sql(
        "INSERT INTO policies (id, account_id, actor_group_id, resource_id, inserted_at, updated_at)
         VALUES ('00000000-0000-4000-8000-0000000000f2', '00000000-0000-4000-8000-0000000000a0',
                 '00000000-0000-4000-8000-0000000000a2', '00000000-0000-4000-8000-000000000b02', now(), now())",
    );
    scene.sql(&format!("{}; {}", insert_flow("f01", "f1", "b01"), insert_flow("f02", "f2", "b02")));
    let access = consumer_with(&scene, &runtime, "", "stale_after = 30");
    let mut gateway = access.subscribe_gateway(GATEWAY, None);
    assert_eq!(told(&runtime, &mut gateway), "init [c1-b01 c1-b02]");
    scene.sql("UPDATE resources SET address = 'b.example' WHERE id = '00000000-0000-4000-8000-000000000b01'");
    assert_eq!(told(&runtime, &mut gateway), "reject c1 b01");
    runtime.block_on(access.close());
    compact(&scene.world);

    let access =
        runtime.block_on(Access::connect(&configuration(&scene.world, "", "stale_after = 30"))).expect("connect");
    let mut ended = access.ended_flows();
    wait("the state to be complete", PATIENCE, || has_read_all(&access, &scene) && access.doubt(ACCOUNT).is_none())
        .expect("complete");
    let mut gateway = access.subscribe_gateway(GATEWAY, None);
    // The other resource is as it was, and so is its flow.
    assert_eq!(told(&runtime, &mut gateway), "init [c1-b02]");
    let flow =
        runtime.block_on(async { timeout(PATIENCE, ended.next()).await }).expect("it is told whose row to delete");
    assert_eq!(short(flow.1.id), "f01");
    // Whatever updates it.
    scene.sql("UPDATE flows SET expires_at = NULL, client_user_agent = 'b'");
    assert_eq!(heard_by_gateway(&scene, &runtime, &mut gateway), ["init [c1-b02]"]);
    scene.sql(&insert_flow("f03", "f1", "b01"));
    assert_eq!(told(&runtime, &mut gateway), "authorize c1 b01");
    runtime.block_on(access.close());
    scene.stop();
    drop(kafka);
}
