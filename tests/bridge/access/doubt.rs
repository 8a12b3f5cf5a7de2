//! Accounts of which something could not be read: what was taken away is gone, nothing is given, and nobody else notices.

use penstock_wire::account::Account;
use penstock_wire::partition::Partitioner;

use super::by_hand::{next_header, produce};
use super::*;
use crate::reader::Record;
use crate::scene::PARTITIONS;

const R1: &str = "00000000-0000-4000-8000-000000000b01";
const R2: &str = "00000000-0000-4000-8000-000000000b02";
/// What Postgres can hold and no Avro timestamp can.
const LATE: &str = "294276-12-31 23:59:59";

/// How the account's record comes to be one that nobody can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poison {
    /// It stands in the topic as bytes that mean nothing.
    ByHand,
    /// The bridge could not write it.
    DeadLetter,
}

/// The rows of an account like the scene's, in the same partition: the tag in the middle of their ids, and the rows.
fn neighbour() -> (String, String) {
    let partitioner = Partitioner::new(PARTITIONS).expect("a count");
    let partition =
        |text: &str| partitioner.partition(Account::from_column(Some(text.as_bytes())).expect("an account")).number();
    let tags = (1..100).map(|n| format!("-4000-80{n:02}-"));
    let beside = |tag: &String| partition(&ACCOUNT.replace("-4000-8000-", tag)) == partition(ACCOUNT);
    let tag = tags.into_iter().find(beside).expect("one of a hundred is in this partition");
    let rows = ROWS.replace("-4000-8000-", &tag).replace("'slug'", "'neighbour'");
    // Their connections are made from all resources: only from their own.
    let rows = rows.replace(
        "FROM resources;",
        &format!("FROM resources WHERE account_id = '{}';", ACCOUNT.replace("-4000-8000-", &tag)),
    );
    (tag, rows)
}

fn policy(id: &str, account: &str, group: &str, resource: &str) -> String {
    format!(
        "INSERT INTO policies (id, account_id, actor_group_id, resource_id, inserted_at, updated_at)
         VALUES ('{id}', '{account}', '{group}', '{resource}', now(), now());"
    )
}

/// A record of the account's in `policies`, the last one.
fn of_policies(records: &[Record]) -> Record {
    let is_one = |record: &&Record| {
        record.account == ACCOUNT && record.change().is_some_and(|change| change.source.table == "policies")
    };
    records.iter().rfind(is_one).expect("the account has policies").clone()
}

fn poison(scene: &mut Scene, how: Poison) {
    match how {
        Poison::ByHand => {
            let records = scene.records();
            let like = of_policies(&records);
            let value = like.raw.as_ref().expect("it is no tombstone");
            let header = next_header(&records, like.partition).encode();
            produce(scene, like.partition, &like.key, Some(&value[..9]), Some(&header));
        }
        Poison::DeadLetter => {
            scene.sql(&format!("UPDATE policies SET inserted_at = '{LATE}' WHERE resource_id = '{R2}'"));
        }
    }
}

fn poisoned(how: Poison) {
    let mut world = world(&schema(), CAPTURE);
    world.set("FAULTS__POISON", "dead_letter");
    let (mut scene, runtime) = (scene_of(world), runtime());
    let (tag, rows) = neighbour();
    let other = |id: &str| id.replace("-4000-8000-", &tag);
    scene.sql(&rows);
    let group = "00000000-0000-4000-8000-0000000000a2";
    let of_r2 = "00000000-0000-4000-8000-0000000000f2";
    scene.sql(&policy(of_r2, ACCOUNT, group, R2));
    let access = consumer_with(&scene, &runtime, "", "stale_after = 30");
    let mut client = access.subscribe_client(CLIENT, None, ClientOptions::default());
    assert_eq!(told(&runtime, &mut client), "init [b01 b02]");
    let its = |id: Uuid| Uuid::parse_str(&other(&id.to_string())).expect("an id");
    wait("the neighbour to be complete", PATIENCE, || {
        access.show(&other(ACCOUNT)).is_some_and(|show| show.tables["policies"] == 1)
    })
    .expect("complete");
    let mut next_door = access.subscribe_client(its(CLIENT), None, ClientOptions::default());
    assert_eq!(told(&runtime, &mut next_door), "init [b01]");

    poison(&mut scene, how);
    assert_eq!(told(&runtime, &mut client), "stale Quarantined", "{how:?}");
    for resource in RESOURCES {
        assert_eq!(authorize(&access, resource), Answer::Unavailable { reason: Reason::Quarantined }, "{how:?}");
    }
    // What is taken away is gone at once, and what is given back in vain.
    if how == Poison::ByHand {
        // The row that the record stood for: what it says now nobody knows.
        assert_eq!(told(&runtime, &mut client), "deleted b02", "{how:?}");
    }
    scene.sql(&format!("DELETE FROM policies WHERE resource_id = '{R1}' AND account_id = '{ACCOUNT}'"));
    assert_eq!(told(&runtime, &mut client), "deleted b01", "{how:?}");
    scene.sql(&policy("00000000-0000-4000-8000-0000000000f3", ACCOUNT, group, R1));
    scene.sql(&format!("UPDATE actor_groups SET deleted_at = now() WHERE account_id = '{ACCOUNT}'"));
    if how == Poison::DeadLetter {
        // The row as it was before it could not be delivered: it gives nothing new, and ends with what it stands on.
        assert_eq!(told(&runtime, &mut client), "deleted b02", "{how:?}");
    }
    scene.sql(&format!("UPDATE actor_groups SET deleted_at = NULL WHERE account_id = '{ACCOUNT}'"));
    // Next door all goes on, grants included.
    scene.sql(&policy(&other(of_r2), &other(ACCOUNT), &other(group), &other(R2)));
    assert_eq!(told(&runtime, &mut next_door), "created b02", "{how:?}");
    let online = [its(GATEWAY)];
    let (token, resource) = (its(TOKEN), its(RESOURCES[1]));
    let request = Request { client: its(CLIENT), token, resource, online: &online, flow: Uuid::from_u128(2) };
    assert!(matches!(access.authorize(&request), Answer::Ok { .. }), "{how:?}");
    assert_eq!(authorize(&access, RESOURCES[0]), Answer::Unavailable { reason: Reason::Quarantined }, "{how:?}");

    if how == Poison::DeadLetter {
        scene.sql(&format!("UPDATE policies SET inserted_at = now() WHERE inserted_at = '{LATE}'"));
    }
    let mut reload = scene.world.spawn("backfill", &["--account", ACCOUNT], &scene.world.database);
    assert!(reload.wait(PATIENCE).success(), "{}", reload.log());
    assert_eq!(told(&runtime, &mut client), "fresh", "{how:?}");
    assert_eq!(told(&runtime, &mut client), "created b01", "{how:?}");
    assert_eq!(told(&runtime, &mut client), "created b02", "{how:?}");
    assert!(matches!(authorize(&access, RESOURCES[0]), Answer::Ok { .. }), "{how:?}");
    assert_eq!(heard_by_client(&scene, &runtime, &mut next_door), [""; 0], "{how:?}");
    let reports = access.reports();
    assert!(!reports.is_empty(), "{how:?}");
    for report in &reports {
        assert_eq!(*report.topic, *scene.world.topic, "{report}");
        assert!(report.partition.is_some() && report.offset.is_some() && report.position.is_some(), "{report}");
    }
    runtime.block_on(access.close());
    scene.stop();
}

#[test]
fn an_account_with_a_record_that_cannot_be_decoded_is_given_nothing_until_it_is_reloaded() {
    poisoned(Poison::ByHand);
}

#[test]
fn an_account_with_a_row_that_the_bridge_could_not_deliver_is_given_nothing_until_it_is_reloaded() {
    poisoned(Poison::DeadLetter);
}

/// Whose it is cannot be told: then it may be anybody's in its partition, and only that all is read again makes it good.
#[test]
fn a_record_that_may_be_anybodys_puts_its_partition_in_doubt_until_everything_is_reloaded() {
    let (mut scene, runtime) = (scene(), runtime());
    let access = consumer_with(&scene, &runtime, "", "stale_after = 30");
    let mut client = access.subscribe_client(CLIENT, None, ClientOptions::default());
    assert_eq!(told(&runtime, &mut client), "init [b01]");
    let records = scene.records();
    let partition = of_policies(&records).partition;
    produce(&scene, partition, b"whose", Some(b"what"), None);
    assert_eq!(told(&runtime, &mut client), "stale Quarantined");
    assert_eq!(authorize(&access, RESOURCES[0]), Answer::Unavailable { reason: Reason::Quarantined });
    let mut reload = scene.world.spawn("backfill", &["--account", ACCOUNT], &scene.world.database);
    assert!(reload.wait(PATIENCE).success(), "{}", reload.log());
    // The account's reload is read before this change is, and does not help.
    scene.sql("DELETE FROM policies");
    assert_eq!(told(&runtime, &mut client), "deleted b01");
    assert_eq!(access.doubt(ACCOUNT), Some(Reason::Quarantined));
    scene.sql(&policy("00000000-0000-4000-8000-0000000000f4", ACCOUNT, "00000000-0000-4000-8000-0000000000a2", R1));
    let mut reload = scene.world.spawn("backfill", &["--all"], &scene.world.database);
    assert!(reload.wait(PATIENCE).success(), "{}", reload.log());
    assert_eq!(told(&runtime, &mut client), "fresh");
    assert_eq!(told(&runtime, &mut client), "created b01");
    runtime.block_on(access.close());
    scene.stop();
}
