//! Restarts: from a checkpoint, and from the beginning where that would not be right.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use penstock_access::service::Access;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value as Json;
use tokio::runtime::Runtime;

use super::program::Program;
use super::{
    ACCOUNT, CLIENT, RESOURCES, TOKEN, complete, config_of, configuration_text, connect, consumer, records, runtime,
    scene,
};
use crate::scene::{PARTITIONS, PATIENCE, Scene, wait_for_loads};
use crate::world::wait;

const FLOW: &str = "INSERT INTO flows (id, account_id, policy_id, client_id, gateway_id, resource_id, token_id,
        actor_group_membership_id, client_remote_ip, client_user_agent, gateway_remote_ip, inserted_at)
    VALUES ('00000000-0000-4000-8000-0000000000f9', '00000000-0000-4000-8000-0000000000a0',
        '00000000-0000-4000-8000-0000000000f1', '00000000-0000-4000-8000-0000000000c1',
        '00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-000000000b01',
        '00000000-0000-4000-8000-0000000000e1', '00000000-0000-4000-8000-0000000000a3', '192.0.2.1', 'x', '192.0.2.2', now())";

/// With checkpoints in a folder; the one that is written when it is closed is the only one.
fn keeping(scene: &Scene, folder: &Path) -> String {
    configuration_text(
        &scene.world,
        "",
        &format!("[checkpoint]\nfolder = {:?}\nevery = 3600\n", folder.display().to_string()),
    )
}

/// What is known of the account, but for when.
fn state(access: &Access) -> Json {
    let mut show = serde_json::to_value(access.show(ACCOUNT).expect("the account")).expect("JSON");
    show["as_of"].take();
    show
}

/// Everything that was committed so far is known to it.
fn up_to_date(scene: &mut Scene, access: &Access, is_it: impl Fn(&Json) -> bool) {
    scene.world.wait_confirmed(&mut scene.bridge, PATIENCE);
    wait("the change", PATIENCE, || is_it(&state(access)) && access.doubt(ACCOUNT).is_none())
        .unwrap_or_else(|late| panic!("{late}: {}", state(access)));
}

fn authorized(state: &Json) -> usize {
    state["gateways"][0]["authorized"].as_array().map_or(0, Vec::len)
}

/// The partition that has the account's records.
fn partition(access: &Access) -> u32 {
    access.look(|replica| replica.partition_of(ACCOUNT))
}

fn file(folder: &Path, partition: u32) -> std::path::PathBuf {
    folder.join(format!("partition-{partition}.checkpoint"))
}

/// A consumer that has kept everything and is gone. Gives the account's partition.
fn kept(scene: &mut Scene, folder: &Path, runtime: &Runtime) -> u32 {
    wait_for_loads(scene);
    let access = complete(scene, connect(&config_of(&keeping(scene, folder)), runtime));
    up_to_date(scene, &access, |state| state["tables"]["policies"] == 1);
    let partition = partition(&access);
    runtime.block_on(access.close());
    partition
}

#[test]
fn a_restart_reads_only_what_is_new_and_what_had_ended_stays_so() {
    let (mut scene, runtime, folder) = (scene(), runtime(), tempfile::tempdir().expect("a folder"));
    wait_for_loads(&scene);
    let access = complete(&scene, connect(&config_of(&keeping(&scene, folder.path())), &runtime));
    let mut ended = access.ended_flows();
    scene.sql(FLOW);
    up_to_date(&mut scene, &access, |state| authorized(state) == 1);
    scene.sql("UPDATE resources SET address = 'b.example'");
    up_to_date(&mut scene, &access, |state| authorized(state) == 0);
    assert_eq!(runtime.block_on(ended.next()).1.id.to_string(), "00000000-0000-4000-8000-0000000000f9");
    drop(ended);
    let partition = partition(&access);
    let read_to = access.look(|replica| replica.reading(partition).expect("it is assigned").read_to());
    runtime.block_on(access.close());

    let mode = std::fs::metadata(file(folder.path(), partition)).expect("a checkpoint").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "state is nobody else's to read");
    // For tools that watch lag, with every partition assigned by hand too.
    assert_eq!(committed(&scene, "penstock-access", partition), Some(read_to));

    // An update that a bookkeeping column makes wakes nothing.
    scene.sql("UPDATE flows SET client_remote_ip = '192.0.2.9'; UPDATE actors SET name = 'another'");
    let access = connect(&config_of(&keeping(&scene, folder.path())), &runtime);
    let rebuilt = consumer(&scene, &runtime);
    for access in [&access, &rebuilt] {
        up_to_date(&mut scene, access, |state| state["position"] != Json::Null);
    }
    wait("the same state", PATIENCE, || state(&access) == state(&rebuilt))
        .unwrap_or_else(|late| panic!("{late}: {} {}", state(&access), state(&rebuilt)));
    assert_eq!(records(&access), 2, "what is new");
    assert!(records(&rebuilt) > 14, "each row was read: {}", records(&rebuilt));
    assert_eq!(authorized(&state(&access)), 0, "the flow has ended, whatever updates its row");
    runtime.block_on(access.close());
    runtime.block_on(rebuilt.close());
    scene.stop();
}

#[test]
fn a_folder_that_another_process_uses_is_refused() {
    let (scene, runtime, folder) = (scene(), runtime(), tempfile::tempdir().expect("a folder"));
    let access = connect(&config_of(&keeping(&scene, folder.path())), &runtime);
    let mut second = watch(&scene, folder.path());
    assert_eq!(second.wait(PATIENCE).code(), Some(2), "the configuration has to be another");
    let log = second.log();
    assert!(log.contains("in use by another process") && log.contains("checkpoint.folder"), "{log}");
    runtime.block_on(access.close());
    scene.stop();
}

/// What a client is told first by a process that finds this folder: the ids of its resources; and the process's log.
fn told(scene: &Scene, folder: &Path) -> (Vec<String>, String) {
    let mut program = watch(scene, folder);
    let mut init = None;
    wait("an init", PATIENCE, || {
        init = program.lines().into_iter().find(|line| line["push"] == "init");
        init.is_some()
    })
    .unwrap_or_else(|late| panic!("{late}: {:?}", program.lines()));
    program.interrupt();
    program.wait(PATIENCE);
    let resources = init.expect("it was told")["payload"]["resources"].take();
    let id = |resource: &Json| resource["id"].as_str().expect("an id").to_owned();
    (resources.as_array().expect("a list").iter().map(id).collect(), program.log())
}

fn watch(scene: &Scene, folder: &Path) -> Program {
    let (client, token) = (CLIENT.to_string(), TOKEN.to_string());
    Program::start_with(&keeping(scene, folder), &["watch", "--client", &client, "--token", &token])
}

#[test]
fn a_file_that_is_damaged_is_discarded_and_the_partition_rebuilt() {
    let (mut scene, runtime, folder) = (scene(), runtime(), tempfile::tempdir().expect("a folder"));
    let partition = kept(&mut scene, folder.path(), &runtime);
    let granted = [RESOURCES[0].to_string()];
    let (resources, log) = told(&scene, folder.path());
    assert_eq!(resources, granted);
    assert!(log.contains("going on from a checkpoint") && !log.contains("discarded"), "{log}");
    let path = file(folder.path(), partition);
    let mut bytes = std::fs::read(&path).expect("a checkpoint");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).expect("damage it");
    let (resources, log) = told(&scene, folder.path());
    assert_eq!(resources, granted);
    assert!(log.contains("the checkpoint is discarded") && log.contains("its checksum is wrong"), "{log}");
    // What it has written in the end is sound again.
    let (resources, log) = told(&scene, folder.path());
    assert_eq!(resources, granted);
    assert!(!log.contains("discarded"), "{log}");
    scene.stop();
}

#[test]
fn what_was_compacted_under_a_checkpoint_is_read_anew() {
    let (mut scene, runtime, folder) = (scene(), runtime(), tempfile::tempdir().expect("a folder"));
    let partition = kept(&mut scene, folder.path(), &runtime);
    // The policy's end, and its tombstone, are what compaction takes.
    scene.sql("DELETE FROM policies");
    let compact = [
        ("min.compaction.lag.ms", "0"),
        ("delete.retention.ms", "0"),
        ("min.cleanable.dirty.ratio", "0.0001"),
        ("segment.ms", "100"),
    ];
    alter(&scene, &compact, &runtime);
    // A segment that is still written to is not compacted: each row begins another.
    let from = end(&scene, partition);
    let mut number = 0;
    wait("compaction", PATIENCE * 2, || {
        number += 1;
        scene.sql(&format!("UPDATE actors SET name = 'name {number}'"));
        std::thread::sleep(std::time::Duration::from_millis(200));
        !has_tombstone(&scene, partition, from)
    })
    .expect("Kafka compacts");
    alter(&scene, &[("min.compaction.lag.ms", "0"), ("delete.retention.ms", "604800000")], &runtime);
    scene.world.wait_confirmed(&mut scene.bridge, PATIENCE);
    let (resources, log) = told(&scene, folder.path());
    assert!(log.contains("going on from a checkpoint") && log.contains("read again from its beginning"), "{log}");
    assert!(log.contains("Compacted"), "{log}");
    assert!(resources.is_empty(), "the policy is gone: {resources:?}");
    scene.stop();
}

#[test]
fn a_topic_that_begins_behind_a_checkpoint_is_read_anew() {
    let (mut scene, runtime, folder) = (scene(), runtime(), tempfile::tempdir().expect("a folder"));
    let partition = kept(&mut scene, folder.path(), &runtime);
    scene.sql("UPDATE policies SET resource_id = '00000000-0000-4000-8000-000000000b02'");
    scene.sql("UPDATE actors SET name = 'another'");
    scene.world.wait_confirmed(&mut scene.bridge, PATIENCE);
    alter(&scene, &[("cleanup.policy", "compact,delete")], &runtime);
    // All but the last record, and the marker behind it.
    let mut before = TopicPartitionList::new();
    let offset = Offset::Offset(end(&scene, partition) - 2);
    before.add_partition_offset(&scene.world.topic, i32::try_from(partition).expect("few"), offset).expect("a place");
    let deleted = runtime.block_on(admin(&scene).delete_records(&before, &AdminOptions::new())).expect("an answer");
    assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");

    // Of what stood there nothing is known any more: nothing is granted for it, least of all what had been.
    let mut program = watch(&scene, folder.path());
    assert_eq!(program.wait(PATIENCE).code(), Some(1), "{:?}", program.lines());
    assert!(program.lines().iter().all(|line| line["push"] != "init"), "{:?}", program.lines());
    let log = program.log();
    assert!(log.contains("the topic has no such offset") && log.contains("no such client"), "{log}");
    scene.stop();
}

fn client(scene: &Scene) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &scene.world.bootstrap);
    client
}

fn admin(scene: &Scene) -> AdminClient<DefaultClientContext> {
    client(scene).create().expect("an admin client")
}

/// Changes settings of the topic; what is not named is as by default.
fn alter(scene: &Scene, settings: &[(&str, &str)], runtime: &Runtime) {
    let mut alteration = AlterConfig::new(ResourceSpecifier::Topic(&scene.world.topic));
    alteration = alteration.set("cleanup.policy", "compact");
    for (name, value) in settings {
        alteration = alteration.set(name, value);
    }
    let altered = runtime.block_on(admin(scene).alter_configs(&[alteration], &AdminOptions::new()));
    assert!(altered.expect("an answer").iter().all(Result::is_ok), "the topic's settings cannot be changed");
}

fn reader(scene: &Scene, group: &str) -> BaseConsumer {
    let mut client = client(scene);
    client.set("group.id", group).set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    client.create().expect("a consumer")
}

fn end(scene: &Scene, partition: u32) -> i64 {
    assert!(partition < PARTITIONS);
    let number = i32::try_from(partition).expect("few");
    reader(scene, "watcher").fetch_watermarks(&scene.world.topic, number, PATIENCE).expect("an answer").1
}

/// What the group has committed for a partition.
fn committed(scene: &Scene, group: &str, partition: u32) -> Option<i64> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(&scene.world.topic, i32::try_from(partition).expect("few"));
    let told = reader(scene, group).committed_offsets(asked, PATIENCE).expect("an answer");
    match told.elements().first().map(|element| element.offset()) {
        Some(Offset::Offset(offset)) => Some(offset),
        _ => None,
    }
}

/// Whether a tombstone is between the offset that the partition had before and its end.
fn has_tombstone(scene: &Scene, partition: u32, before: i64) -> bool {
    use rdkafka::Message as _;
    let (reader, mut place) = (reader(scene, "watcher"), TopicPartitionList::new());
    let number = i32::try_from(partition).expect("few");
    place.add_partition_offset(&scene.world.topic, number, Offset::Beginning).expect("a place");
    reader.assign(&place).expect("assigned");
    let mut found = false;
    loop {
        match reader.poll(PATIENCE) {
            Some(Ok(message)) => found |= message.payload().is_none() && message.offset() < before + 100,
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => return found,
            other => panic!("{other:?}"),
        }
    }
}
