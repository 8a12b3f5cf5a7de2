//! Reloads, one property each.

use std::time::Duration;

use penstock_core::backfill::FIRST_LOAD;
use penstock_core::backfill::interface::{Ask, Undescribed};
use penstock_core::bridge::Stop;
use penstock_core::pgoutput::Relation;
use penstock_core::resume::behind_readable;
use penstock_wire::account::Account;
use penstock_wire::control::{Control, ControlKey};
use penstock_wire::decode::Envelope;
use penstock_wire::framing;
use penstock_wire::lsn::EndLsn;
use penstock_wire::partition::Partitioner;
use penstock_wire::position::{Position, Seq};
use penstock_wire::progress::PartitionProgress;
use penstock_wire::reload::{Reload, ReloadRange, ReloadState, Scope};

use super::database::{Change, shape};
use super::{Reading, World, rows};
use crate::world::{Large, Letter, facts};

/// All rows are loaded and read.
fn loaded(ids: std::ops::Range<u32>) -> World {
    let mut world = World::new(rows(ids));
    world.bridge.load_everything(Duration::ZERO);
    world.act();
    world.settle();
    assert_eq!(world.reader().0, world.database.newest());
    world
}

/// Steps of everybody until `reached`.
fn until(world: &mut World, what: &str, reached: impl Fn(&World) -> bool) {
    for _ in 0..1_000 {
        if reached(world) {
            return;
        }
        world.pass(Duration::from_millis(100));
        if !world.kafka() && !world.stream() {
            world.shell(0);
        }
    }
    panic!("never: {what}; {:?}", world.bridge.reloads());
}

fn rows_read(world: &World, id: &str) -> u64 {
    let reload = world.bridge.reloads().iter().find(|reload| reload.id == id).expect("it is remembered");
    reload.ranges.iter().map(|range| range.rows).sum()
}

fn reload(world: &World, id: &str) -> Reload {
    world.bridge.reloads().iter().find(|reload| reload.id == id).expect("it is remembered").clone()
}

#[test]
fn rows_stand_behind_their_mark_and_are_numbered_before_touched_ones_are_dropped() {
    let mut world = World::new(rows(10..13));
    world.bridge.load_everything(Duration::ZERO);
    world.act();
    // The first range's chunk is read; row 11 changes before its high mark.
    until(&mut world, "a chunk is read", |world| matches!(world.reading[..], [Reading::Marked(_), ..]));
    world.database.commit(&[Change::Put(11, "d", "new".into())], true);
    world.settle();
    let schema = world.schema.as_ref().unwrap();
    let mut read: Vec<(String, Seq)> = Vec::new();
    for record in world.topic.iter().filter(|record| record.control.is_none()) {
        let Some(value) = &record.value else { continue };
        let envelope = Envelope::decode(schema, framing::split(value).unwrap().1).unwrap();
        if envelope.source.snapshot == "incremental" {
            assert_eq!((envelope.source.xid, envelope.source.row_lsn, envelope.transaction), (None, None, None));
            assert_eq!(
                (envelope.source.commit_lsn, envelope.source.seq),
                (record.header.position.commit_lsn, record.header.position.seq)
            );
            let id = format!("{:?}", envelope.after.unwrap().get("id").unwrap());
            read.push((id, record.header.position.seq));
        }
    }
    read.sort();
    let expected = [("10", 16), ("12", 32)].map(|(id, seq)| (format!("String(\"{id}\")"), Seq(seq)));
    assert_eq!(read, expected, "row 11 has its number and is not there");
}

#[test]
fn a_row_that_vanished_unnoticed_is_gone_at_the_end_of_a_reload_and_not_before() {
    let mut world = loaded(10..20);
    world.database.forget(12);
    world.request(r#"{"reload": {"id": "repair", "table": "public.t"}}"#);
    until(&mut world, "rows are read", |world| {
        world.bridge.reloads().iter().any(|reload| reload.id == "repair") && rows_read(world, "repair") >= 6
    });
    while world.kafka() {}
    assert!(world.held().contains_key(&12), "nothing vanishes before the end");
    world.settle();
    assert_eq!(world.state("repair"), ReloadState::Done);
    assert_eq!(world.held(), world.database.newest());
}

#[test]
fn a_reload_of_one_account_is_told_in_its_partition_and_spares_the_others() {
    let mut world = loaded(10..30);
    world.database.forget(13);
    world.database.forget(14);
    let before = world.topic.len();
    world.request(r#"{"reload": {"id": "one", "account": "b"}}"#);
    world.settle();
    let held = world.held();
    assert!(!held.contains_key(&13) && held.contains_key(&14), "13 was of account b, 14 of c");
    let told = &world.topic[before..];
    let partitions: std::collections::BTreeSet<u32> = told.iter().map(|record| record.partition).collect();
    assert_eq!(partitions.len(), 1, "only the account's partition hears of it");
    let controls: Vec<&str> = told.iter().filter_map(|record| record.control).collect();
    assert_eq!(controls, ["reload_begin", "reload_end"]);
    let first = told.iter().find(|record| record.control.is_some()).unwrap();
    let control = Control::decode(framing::split(first.value.as_ref().unwrap()).unwrap().1).unwrap();
    assert_eq!((control.account.as_deref(), control.begin), (Some("b"), Some(first.header.position)));
    let key = ControlKey::decode(framing::split(&first.key).unwrap().1).unwrap();
    assert_eq!((key.account.as_str(), key.schema.as_str(), key.table.as_str()), ("b", "", ""));
}

#[test]
fn a_killed_reload_goes_on_behind_the_last_chunk_that_is_in_the_topic() {
    let mut world = World::new(rows(10..30));
    world.bridge.load_everything(Duration::ZERO);
    world.act();
    let committed = |world: &World| -> u64 {
        let ranges = world.progress.reloads.iter().flat_map(|reload| &reload.ranges);
        ranges.map(|range| range.rows).sum()
    };
    until(&mut world, "some rows are in the topic", |world| committed(world) >= 6);
    let (rows, begin) = (committed(&world), reload(&world, FIRST_LOAD).begin);
    world.crash(false);
    world.settle();
    assert_eq!(world.reader().0, world.database.newest());
    assert_eq!(rows_read(&world, FIRST_LOAD), 20, "{rows} of them before, none of them twice");
    assert_eq!(reload(&world, FIRST_LOAD).begin, begin);
}

#[test]
fn pause_resume_and_cancel_are_obeyed_and_survive_a_start() {
    let mut world = loaded(10..30);
    world.request(r#"{"reload": {"id": "x", "table": "public.t"}}"#);
    world.request(r#"{"pause": "x"}"#);
    until(&mut world, "it is paused", |world| {
        world.progress.reloads.iter().any(|reload| reload.id == "x" && reload.state == ReloadState::Paused)
    });
    world.crash(false);
    for _ in 0..200 {
        world.pass(Duration::from_millis(100));
        while world.kafka() || world.stream() || world.shell(0) {}
    }
    assert_eq!((world.state("x"), rows_read(&world, "x")), (ReloadState::Paused, 0));
    world.request(r#"{"resume": "x"}"#);
    world.settle();
    assert_eq!((world.state("x"), rows_read(&world, "x")), (ReloadState::Done, 20));

    let ends = world.reader().1;
    world.request(r#"{"reload": {"id": "y", "table": "public.t"}}"#);
    until(&mut world, "it runs", |world| {
        world.bridge.reloads().iter().any(|r| r.id == "y" && r.state == ReloadState::Running)
    });
    world.request(r#"{"cancel": "y"}"#);
    world.settle();
    assert_eq!(world.state("y"), ReloadState::Cancelled);
    assert_eq!(world.reader().1, ends, "it gets no end");
}

#[test]
fn a_message_that_is_not_understood_is_shown_and_one_written_twice_counts_once() {
    let mut world = loaded(10..13);
    world.request(r#"{"reload": {"tabel": "public.t"}}"#);
    world.request(r#"{"reload": {"id": "x"}}"#);
    world.request(r#"{"reload": {"id": "x"}}"#);
    world.settle();
    let refused = world.bridge.reloads().iter().find(|reload| reload.state == ReloadState::Refused).unwrap();
    assert!(refused.detail.contains("tabel"), "{}", refused.detail);
    assert_eq!(world.bridge.reloads().iter().filter(|reload| reload.id == "x").count(), 1);
}

#[test]
fn a_transaction_from_before_the_start_blocks_until_it_is_seen_idle() {
    let mut world = World::new(rows(10..13));
    world.database.take_xid();
    world.database.commit(&[Change::Put(20, "a", "hidden".into())], false);
    // Another one, so that the hidden id is listed as running.
    world.database.commit(&[Change::Put(21, "a", "seen".into())], true);
    while world.stream() {}
    while world.kafka() {}
    world.crash(false);
    world.bridge.load_everything(world.now);
    world.act();
    for _ in 0..100 {
        world.pass(Duration::from_secs(1));
        while world.kafka() || world.stream() || world.shell(0) {}
    }
    assert_eq!(rows_read(&world, FIRST_LOAD), 0);
    let waits = world.bridge.backfill_waits().expect("it says what it waits for");
    assert!(waits.contains("ran before this began"), "{waits}");
    world.database.reveal();
    world.settle();
    assert_eq!(world.reader().0, world.database.newest());
}

#[test]
fn an_idle_transaction_blocks_nothing() {
    let mut world = World::new(rows(10..13));
    world.database.hold_xid();
    world.database.commit(&[Change::Put(21, "a", "seen".into())], true);
    world.idle = true;
    world.bridge.load_everything(Duration::ZERO);
    world.act();
    world.settle();
    assert_eq!(world.state(FIRST_LOAD), ReloadState::Done);
}

#[test]
fn a_rate_is_kept() {
    let mut world = loaded(10..30);
    world.request(r#"{"reload": {"id": "slow", "rows_per_second": 3}}"#);
    until(&mut world, "it runs", |world| {
        world.bridge.reloads().iter().any(|r| r.id == "slow" && r.state == ReloadState::Running)
    });
    let began = world.now;
    world.settle();
    // Twenty rows at three a second, of which the last chunks of the two ranges are not waited for.
    assert!(world.now - began >= Duration::from_secs(4), "{:?}", world.now - began);
}

#[test]
fn a_table_that_is_gone_has_nothing_to_read_and_one_that_cannot_be_read_is_refused() {
    for (undescribed, state) in
        [(Undescribed::Gone, ReloadState::Done), (Undescribed::Refused("GRANT it".to_owned()), ReloadState::Refused)]
    {
        let mut world = World::new(rows(10..13));
        world.bridge.load_everything(Duration::ZERO);
        world.act();
        until(&mut world, "a description is asked for", |world| {
            world.asked.iter().any(|ask| matches!(ask, Ask::Describe { .. }))
        });
        world.asked.retain(|ask| !matches!(ask, Ask::Describe { .. }));
        world.bridge.handle_described(("public".into(), "t".into()), Err(undescribed), world.now);
        world.act();
        world.settle();
        assert_eq!(world.state(FIRST_LOAD), state);
        assert_eq!(world.progress.load_complete, state == ReloadState::Done);
    }
}

#[test]
fn two_tables_that_have_one_name_in_avro_are_not_both_loaded() {
    let mut world = World::new(rows(10..13));
    world.bridge.load_everything(Duration::ZERO);
    world.act();
    until(&mut world, "a survey is asked for", |world| world.asked.iter().any(|ask| matches!(ask, Ask::Survey { .. })));
    world.asked.retain(|ask| !matches!(ask, Ask::Survey { .. }));
    let relation = |table: &str| Relation { table: table.to_owned(), ..shape() };
    let range = |table: &str| ReloadRange { schema: "public".into(), table: table.into(), ..ReloadRange::default() };
    world.bridge.handle_surveyed(FIRST_LOAD, Ok(vec![range("t-x"), range("t_x002D_x")]), world.now);

    // Nothing is pinned of either when both are described.
    let described: Vec<_> = ["t-x", "t_x002D_x"]
        .map(|table| world.bridge.describe_for_backfill(&relation(table), facts(3)).unwrap())
        .into();
    for table in described {
        let name = (table.relation.schema.clone(), table.relation.table.clone());
        world.bridge.handle_described(name, Ok((table, (10, 11))), world.now);
    }
    let first_load = world.bridge.reloads().iter().find(|reload| reload.id == FIRST_LOAD).unwrap();
    assert_eq!(first_load.state, ReloadState::Refused);
    let why = "its records would have the names of public.t-x's: both become \"public.t_x002D_x\" in Avro";
    assert!(first_load.detail.contains(why), "{}", first_load.detail);
    let later = world.bridge.describe_for_backfill(&relation("t_x002D_x"), facts(3));
    assert!(later.unwrap_err().to_string().contains(why));
}

#[test]
fn what_cannot_be_read_now_is_read_again() {
    let mut world = World::new(rows(10..13));
    world.bridge.load_everything(Duration::ZERO);
    world.act();
    until(&mut world, "a chunk is being read", |world| !world.reading.is_empty());
    let Some(Reading::Begin(request) | Reading::Marked(request) | Reading::Read(request)) = world.reading.pop() else {
        unreachable!("it is being read")
    };
    world.bridge.handle_chunk_failed(request.number, "55P03: a lock could not be had".into(), world.now);
    assert!(world.bridge.backfill_waits().unwrap().contains("55P03"));
    world.settle();
    assert_eq!(world.reader().0, world.database.newest());
}

#[test]
fn who_went_on_without_the_load_is_not_loaded_for_at_the_next_start() {
    let mut world = World::new(rows(10..13));
    world.bridge.decline_load(Duration::ZERO);
    world.database.commit(&[Change::Put(21, "a", "new".into())], true);
    world.settle();
    world.crash(false);
    world.bridge.load_everything(world.now);
    world.act();
    world.settle();
    assert_eq!((world.state(FIRST_LOAD), world.progress.load_complete), (ReloadState::Cancelled, false));
    world.request(r#"{"reload": {"id": "all"}}"#);
    world.settle();
    assert!(world.progress.load_complete, "loading everything later completes it");
    assert_eq!(world.reader().0, world.database.newest());
}

#[test]
fn a_reload_whose_records_a_broker_has_lost_begins_anew() {
    let world = loaded(10..30);
    let end = reload(&world, FIRST_LOAD).end;
    let last = |partition: &PartitionProgress| PartitionProgress { last: Position::ZERO, ..*partition };
    let here = world.progress.partitions.clone();
    let gone: Vec<PartitionProgress> = here.iter().map(last).collect();
    let check = |readable: &[PartitionProgress], letters_lost: bool, confirmed: u64, state: ReloadState| {
        let readable = readable.to_vec();
        let progress = behind_readable(world.progress.clone(), readable, letters_lost, EndLsn::new(confirmed));
        let again = progress.reloads.iter().find(|reload| reload.id == FIRST_LOAD).unwrap().clone();
        assert_eq!((again.state, progress.load_complete), (state, state == ReloadState::Done), "{confirmed}");
        assert_eq!(again.scope, Scope::default());
    };
    let at_the_end = end.commit_lsn.raw();
    for (readable, letters_lost) in [(&gone, false), (&here, true), (&gone, true)] {
        check(readable, letters_lost, at_the_end, ReloadState::Requested);
        check(readable, letters_lost, at_the_end + 1, ReloadState::Done);
    }
    check(&here, false, at_the_end, ReloadState::Done);
}

fn dead_letters() -> Large {
    Large { record_bytes_max: Some(300), dead_letter_bytes_max: Some(300), ..Large::default() }
}

fn too_large() -> String {
    "x".repeat(400)
}

/// Positions, partitions and accounts of the dead letters' control records.
fn quarantines(world: &World) -> Vec<(Position, u32, Option<String>)> {
    let controls = world.topic.iter().filter(|record| record.control == Some("dead_letter"));
    let told = controls.map(|record| {
        let control = Control::decode(framing::split(record.value.as_ref().unwrap()).unwrap().1).unwrap();
        (record.header.position, record.partition, control.account)
    });
    told.collect()
}

#[test]
fn a_row_of_a_chunk_that_cannot_be_delivered_becomes_a_dead_letter_and_the_load_goes_on() {
    let mut table = rows(10..20);
    // Chunks are 10 to 12, 13 and 14; and 15 to 17, 18 and 19. One is the last of its chunk, and has a key to go on behind.
    table.insert(11, ("global".to_owned(), "old".to_owned()));
    table.insert(12, ("a".to_owned(), too_large()));
    let mut world = World::with(table.clone(), dead_letters());
    world.bridge.load_everything(Duration::ZERO);
    world.act();
    world.settle();
    assert_eq!(world.state(FIRST_LOAD), ReloadState::Done);
    assert!(world.progress.load_complete);
    assert_eq!(rows_read(&world, FIRST_LOAD), 10);
    table.retain(|id, _| ![11, 12].contains(id));
    assert_eq!(world.reader().0, table, "the others are there");

    world.letters.sort_by_key(|letter| letter.header.position);
    let [of_nobody, large] = world.letters.as_slice() else { panic!("{:?}", world.letters) };
    let told = |letter: &Letter| (letter.value.op.clone(), letter.value.columns["id"].clone(), letter.key.is_empty());
    assert_eq!(told(of_nobody), ("r".into(), Some("11".into()), true));
    assert_eq!(told(large), ("r".into(), Some("12".into()), false));
    assert!(large.value.reason.contains("the topic takes 300"), "{large:?}");
    assert_eq!(
        (of_nobody.header.position.seq, large.header.position.seq),
        (Seq(24), Seq(32)),
        "as the rows would have"
    );
    let (first, second) = (of_nobody.header.position, large.header.position);
    let mut quarantined = quarantines(&world);
    quarantined.sort();
    let everyone = (0..3).map(|partition| (first, partition, None));
    let account = Account::from_column(Some(b"a")).unwrap();
    let partition = Partitioner::new(3).unwrap().partition(account).number();
    let expected: Vec<_> = everyone.chain([(second, partition, Some("a".to_owned()))]).collect();
    assert_eq!(quarantined, expected);
    let counts: Vec<_> = world.bridge.take_counts().map(|(_, counts)| (counts.read, counts.dead_letters)).collect();
    assert_eq!(counts, [(8, 2)]);
}

#[test]
fn a_row_of_a_chunk_that_cannot_be_delivered_halts_and_leaves_nothing_of_its_chunk_in_the_way() {
    let mut table = rows(10..14);
    table.insert(12, ("a".to_owned(), too_large()));
    let mut world = World::with(table, Large { record_bytes_max: Some(300), ..Large::default() });
    world.bridge.load_everything(Duration::ZERO);
    world.act();
    until(&mut world, "a chunk is read", |world| matches!(world.reading[..], [Reading::Marked(_), ..]));
    while world.kafka() {}
    // The first of these is on its way when the second comes, so the second and the mark share a group.
    world.database.commit(&[Change::Put(20, "a", "one".into())], true);
    world.database.commit(&[Change::Put(21, "a", "two".into())], true);
    world.may_stop = true;
    for _ in 0..2 {
        let first = |reading: &Reading| matches!(reading, Reading::Read(_));
        let first = world.reading.iter().position(first).unwrap_or(0);
        world.shell(world.asked.len() + first);
    }
    while world.bridge.wants_wal() && world.stream() {}
    assert!(world.committing.is_none() && world.stopped.is_none(), "what precedes it is on its way");
    while world.kafka() {}
    let Some(Stop::Fault(fault)) = &world.stopped else { panic!("{:?}", world.stopped) };
    assert!(fault.to_string().contains("the topic takes 300"), "{fault}");
    let mut held: Vec<u32> = world.held().into_keys().collect();
    held.sort_unstable();
    assert_eq!(held, [20, 21], "what precedes it is delivered, no row of its chunk is");
    assert!(world.letters.is_empty() && quarantines(&world).is_empty());
    assert_eq!(rows_read(&world, FIRST_LOAD), 0, "a later start reads it again");

    // By then it is to be set aside.
    (world.large, world.may_stop) = (dead_letters(), false);
    world.crash(false);
    world.bridge.load_everything(world.now);
    world.act();
    world.settle();
    assert_eq!(world.state(FIRST_LOAD), ReloadState::Done);
    assert_eq!(world.letters.len(), 1);
    assert_eq!(world.held().into_keys().collect::<Vec<_>>(), [10, 11, 13, 20, 21]);
}

#[test]
fn a_poison_row_that_the_stream_has_overtaken_does_not_matter_and_a_poison_event_overtakes_nothing() {
    let mut table = rows(10..14);
    table.insert(11, ("a".to_owned(), too_large()));
    let mut world = World::with(table, dead_letters());
    world.bridge.load_everything(Duration::ZERO);
    world.act();
    until(&mut world, "a chunk is read", |world| matches!(world.reading[..], [Reading::Marked(_), ..]));
    world.shell(world.asked.len());
    // The delete is poison, like its row; the insert is not. Nor is the departure of a move whose arrival is.
    world.database.commit(&[Change::Delete(11), Change::Put(11, "a", "new".into())], true);
    world.database.commit(&[Change::Put(12, "d", too_large())], true);
    world.settle();
    let ops: Vec<&str> = world.letters.iter().map(|letter| letter.value.op.as_str()).collect();
    assert_eq!(ops, ["d", "u"], "{:?}", world.letters);
    let held = world.held();
    assert_eq!(held[&11], ("a".to_owned(), "new".to_owned()));
    assert_eq!(held[&12], ("a".to_owned(), "old".to_owned()), "as it was read, and its account is in doubt");
}

#[test]
fn a_key_that_is_no_text_halts_only_where_the_next_chunk_would_begin_behind_it() {
    // Chunks of the range up to 14: 10 to 12, and 13 and 14, behind which nothing is left.
    for (garbled, halts) in [(11, false), (12, true), (14, false)] {
        let mut world = World::with(rows(10..15), dead_letters());
        world.database.garbled = Some(garbled);
        world.may_stop = halts;
        world.bridge.load_everything(Duration::ZERO);
        world.act();
        if halts {
            until(&mut world, "it stops", |world| world.stopped.is_some());
            assert!(matches!(&world.stopped, Some(Stop::Fault(fault)) if fault.to_string().contains("UTF-8")));
            assert!(world.letters.is_empty());
        } else {
            world.settle();
            assert_eq!((world.state(FIRST_LOAD), world.letters.len()), (ReloadState::Done, 1), "{garbled}");
            assert!(world.progress.load_complete);
            assert_eq!(
                world.held().into_keys().collect::<Vec<_>>(),
                (10..15).filter(|id| *id != garbled).collect::<Vec<_>>()
            );
        }
    }
}
