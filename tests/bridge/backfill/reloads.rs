//! Reloads that somebody asks for, from the command line and from psql.

use std::time::Duration;

use penstock_wire::control::ControlKind;

use super::fold::{assert_same, fold, select};
use super::hazards::{state, wait_done};
use crate::reader::Content;
use crate::scene::{A, B, PATIENCE, Scene, tell, world};
use crate::world::{World, wait};

const SCHEMA: &str = "
CREATE TABLE items (id bigint, account_id uuid NOT NULL, n int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE items_old PARTITION OF items FOR VALUES FROM (0) TO (1000);
CREATE TABLE items_new PARTITION OF items FOR VALUES FROM (1000) TO (100000);
ALTER TABLE items REPLICA IDENTITY FULL; ALTER TABLE items_old REPLICA IDENTITY FULL; ALTER TABLE items_new REPLICA IDENTITY FULL;
INSERT INTO items SELECT n, ('00000000-0000-4000-8000-00000000000' || CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END)::uuid, 0
  FROM generate_series(1, 3000) n";
const COLUMNS: &[(&str, &[&str])] = &[("items", &["id", "account_id", "n"])];

fn backfill(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = world.spawn("backfill", arguments, &world.database);
    let code = command.wait(PATIENCE).code();
    (code, command.log())
}

fn loaded() -> Scene {
    let scene = Scene::start(SCHEMA, "");
    wait_done(&scene.world, "first-load");
    scene
}

/// A partition that is detached takes its rows with it, and the stream tells nothing of it.
#[test]
fn rows_that_vanished_unnoticed_are_gone_after_a_reload_of_their_table() {
    let mut scene = loaded();
    scene.sql("ALTER TABLE items DETACH PARTITION items_old");
    let (code, said) = backfill(&scene.world, &["--table", "public.items"]);
    assert_eq!(code, Some(0), "{said}");
    let records = scene.records_and_loads();
    assert_same(&fold(&records, COLUMNS), &select(&scene.world.database, COLUMNS));
    scene.stop();
}

#[test]
fn a_dba_reloads_one_account_from_psql_and_only_its_partition_hears_of_it() {
    let mut scene = loaded();
    let before = scene.records_and_loads().len();
    let request = format!("{{\"reload\": {{\"id\": \"one\", \"account\": \"{A}\"}}}}");
    scene.sql(&format!("SELECT pg_logical_emit_message(true, 'penstock.backfill', '{request}')"));
    wait_done(&scene.world, "one");
    let records = scene.records_and_loads();
    let mut told: Vec<_> = records.clone();
    told.sort_by_key(|record| record.header.position);
    let told = &told[before..];
    assert!(told.iter().all(|record| record.account == A || record.account.is_empty()), "nothing of {B}");
    let kinds = told.iter().filter_map(|record| match &record.content {
        Content::Control(control) => Some(control.kind),
        Content::Change(_) | Content::Tombstone => None,
    });
    let kinds: Vec<ControlKind> = kinds.collect();
    assert_eq!(kinds, [ControlKind::ReloadBegin, ControlKind::ReloadEnd]);
    assert_eq!(told.len(), 1500 + 2);
    assert_same(&fold(&records, COLUMNS), &select(&scene.world.database, COLUMNS));
    scene.stop();
}

#[test]
fn a_reload_is_paused_resumed_and_cancelled() {
    let mut world = world(SCHEMA, "");
    world.set("BACKFILL__CHUNK_ROWS_MAX", "100");
    let mut scene = Scene::of(world);
    wait_done(&scene.world, "first-load");
    let world = &scene.world;
    let (code, said) = backfill(world, &["--all", "--rows-per-second", "500", "--no-wait"]);
    assert_eq!(code, Some(0), "{said}");
    let id = said.lines().last().expect("the id stands in the last line").to_owned();
    wait("it to run", PATIENCE, || state(world, &id).as_deref() == Some("running"))
        .unwrap_or_else(|late| panic!("{late}: {id:?} of {said:?}: {:?}", state(world, &id)));
    assert_eq!(backfill(world, &["pause", &id]).0, Some(0));
    wait("it to pause", PATIENCE, || state(world, &id).as_deref() == Some("paused")).expect("it does");
    scene.bridge.signal("KILL");
    scene.bridge.wait(PATIENCE);
    scene.again();
    let world = &scene.world;
    assert_eq!(state(world, &id).as_deref(), Some("paused"), "a start changes nothing");
    assert_eq!(backfill(world, &["resume", &id]).0, Some(0));
    wait("it to go on", PATIENCE, || state(world, &id).as_deref() == Some("running")).expect("it does");
    assert_eq!(backfill(world, &["cancel", &id]).0, Some(0));
    wait("it to end", PATIENCE, || state(world, &id).as_deref() == Some("cancelled")).expect("it does");
    let ends = scene.records_and_loads().into_iter().filter(
        |record| matches!(&record.content, Content::Control(control) if control.kind == ControlKind::ReloadEnd),
    );
    assert_eq!(ends.count(), 3, "only the first load's, in each partition");
    scene.stop();
}

#[test]
fn what_cannot_be_reloaded_is_refused_with_the_remedy() {
    let scene = loaded();
    let check = |arguments: &[&str], words: &[&str]| {
        let (code, said) = backfill(&scene.world, arguments);
        assert_eq!(code, Some(1), "{said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said}");
        }
    };
    check(&["--table", "public.nowhere"], &["public.nowhere"]);
    check(&["resume", "nobody"], &["nobody"]);
    scene.sql("SELECT pg_logical_emit_message(true, 'penstock.backfill', 'all of it')");
    let mut status = scene.world.spawn("backfill", &["status"], &scene.world.database);
    wait("the request that was not understood to be shown", Duration::from_secs(30), || {
        status = scene.world.spawn("backfill", &["status"], &scene.world.database);
        status.wait(PATIENCE);
        status.log().contains("no JSON object")
    })
    .unwrap_or_else(|late| panic!("{late}: {}", status.log()));
    scene.stop();
}

/// What is asked for stands in every progress record from then on: one that is larger than its topic takes could never be
/// written, and the bridge would come no further.
#[test]
fn a_request_that_no_progress_record_could_hold_is_refused() {
    let mut world = world(SCHEMA, "");
    world.set("LIMITS__RECORD_BYTES_MAX", "100000");
    let mut scene = Scene::of(world);
    wait_done(&scene.world, "first-load");
    for field in ["id", "table", "account", "nonsense"] {
        scene.sql(&format!(
            "SELECT pg_logical_emit_message(true, 'penstock.backfill',
                 json_build_object('reload', json_build_object('{field}', 'public.' || (
                     SELECT string_agg(md5(n::text), '') FROM generate_series(1, 10000) n)))::text)"
        ));
    }
    scene.sql(&format!("INSERT INTO items VALUES (5000, '{A}', 0)"));
    assert_eq!(tell(&scene.records(), &["id"]), ["c (5000)"]);
    scene.stop();
}
