//! Rows that cannot be delivered: what is written of them, who is told, and what stops.

use penstock_core::bridge::Stop;
use penstock_core::fault::{Fault, RowFault};
use penstock_core::oversize::{Oversize, Policy, Suspect};
use penstock_core::resume::behind_readable;
use penstock_wire::control::{Control, ControlKey, ControlKind};
use penstock_wire::framing;
use penstock_wire::lsn::{CommitLsn, EndLsn};
use penstock_wire::position::Position;
use penstock_wire::progress::PartitionProgress;
use proptest::prelude::*;

use crate::parts::{AGE, play};
use crate::world::{
    Large, Letter, NOW, Produced, Row, World, begin, commit, delete_row, insert, insert_note, insert_row, one_insert,
    relation, truncate, update, update_row,
};

/// Not UTF-8, so of no text.
const BAD: &[u8] = b"\xff";

fn dead_letters() -> Large {
    Large { record_bytes_max: Some(300), dead_letter_bytes_max: Some(300), ..Large::default() }
}

/// Feeds one transaction, and has it delivered.
fn deliver(world: &mut World, at: u64, events: &[Vec<u8>]) {
    world.feed(&begin(at, 7));
    world.feed(&relation());
    events.iter().for_each(|event| world.feed(event));
    world.feed(&commit(at, at + 100));
    world.drained();
    world.deliver();
    world.committed();
}

/// The controls among the records: partition, seq, account in key and value, detail.
fn controls(records: &[Produced]) -> Vec<(u32, u64, String, Option<String>, String)> {
    let mut told = Vec::new();
    for (partition, key, value, header) in records {
        let (_, body) = framing::split(key).unwrap();
        let Ok(key) = ControlKey::decode(body) else { continue };
        let (_, body) = framing::split(value.as_ref().unwrap()).unwrap();
        let control = Control::decode(body).unwrap();
        assert_eq!((control.kind, key.kind), (ControlKind::DeadLetter, ControlKind::DeadLetter));
        assert_eq!((control.schema.as_str(), control.table.as_str()), ("public", "t"));
        told.push((*partition, header.position.seq.0, key.account, control.account, control.detail.unwrap()));
    }
    told.sort();
    told
}

/// A row event between two good rows: op, reason and columns of the dead letter, whether it has a key, and where and for
/// whom the controls stand.
fn check(event: Vec<u8>, op: &str, reason: &str, columns: Row<'_>, has_key: bool, quarantined: &[(Option<&str>, u64)]) {
    let mut world = World::with(100, dead_letters());
    deliver(&mut world, 100, &[insert("1", Some("a")), event, insert("3", Some("a"))]);
    assert_eq!(world.confirmed, [200], "{:?}", world.stopped);
    let [letter] = world.letters.as_slice() else { panic!("{:?}", world.letters) };
    assert_eq!((letter.value.schema.as_str(), letter.value.table.as_str()), ("public", "t"));
    assert_eq!((letter.value.op.as_str(), letter.value.reason.as_str()), (op, reason));
    let lossless = penstock_wire::dead_letter::lossless_text;
    let kept: Vec<Option<String>> = letter.value.columns.values().cloned().collect();
    let [id, account, note] = columns;
    assert_eq!(letter.value.columns.keys().collect::<Vec<_>>(), ["account", "id", "note"]);
    assert_eq!(kept, [account, id, note].map(|bytes| Some(lossless(bytes))));
    assert_eq!(!letter.key.is_empty(), has_key);
    assert_eq!((letter.header.position.seq.0, letter.header.previous), (16, Position::ZERO));
    assert!(!letter.header.end_of_transaction, "it belongs to no partition of the change topic");

    let told = controls(&world.records);
    let whom: Vec<(Option<&str>, u64)> = told.iter().map(|control| (control.3.as_deref(), control.1)).collect();
    let mut expected = quarantined.to_vec();
    expected.sort_by_key(|(account, seq)| {
        let partition = told.iter().find(|control| (control.3.as_deref(), control.1) == (*account, *seq));
        (partition.map(|control| control.0), *seq)
    });
    assert_eq!(whom, expected, "{told:?}");
    for (_, _, in_key, in_value, detail) in &told {
        assert_eq!((in_key.as_str(), detail.as_str()), (in_value.as_deref().unwrap_or_default(), reason));
    }
    // The good rows keep their places and are numbered as if nothing had stood between them.
    let good: Vec<u64> = world
        .records
        .iter()
        .filter(|record| [8, 24].contains(&record.3.position.seq.0))
        .map(|r| r.3.position.seq.0)
        .collect();
    assert_eq!(good, [8, 24]);
    let orders =
        |count: u64| world.records.iter().filter(|r| r.2.as_ref().is_some_and(|v| ends_with_orders(v, count))).count();
    assert_eq!((orders(1), orders(2), orders(3)), (1, 1, 0), "total_order has no hole");
    let counts: Vec<_> = world.bridge.take_counts().map(|(_, counts)| counts).collect();
    let counted = counts.iter().map(|c| (c.created, c.updated, c.deleted, c.dead_letters)).collect::<Vec<_>>();
    assert_eq!(counted, [(2, 0, 0, 1)]);
}

/// The envelope's last fields: total_order, data_collection_order, no unchanged columns.
fn ends_with_orders(value: &[u8], order: u64) -> bool {
    let zigzag = u8::try_from(2 * order).unwrap();
    value.ends_with(&[zigzag, zigzag, 0])
}

const NOTE: &str = "column \"note\" of type text: the text is not UTF-8";
const KEY: &str = "column \"id\" of type text: the text is not UTF-8";
const GLOBAL: &str = "the account column holds the text \"global\", which is reserved for rows without an account";
const EVERYONE: [(Option<&str>, u64); 3] = [(None, 16); 3];

#[test]
fn every_kind_of_poison_becomes_a_dead_letter_and_controls_for_those_it_concerns() {
    let good: Row<'_> = [b"2", b"a", b"n"];
    let a: &[(Option<&str>, u64)] = &[(Some("a"), 16)];
    let large = [b'x'; 400];
    let (bad, of_no_account): (Row<'_>, Row<'_>) = ([b"2", b"a", BAD], [b"2", b"global", b"n"]);
    check(insert_row(bad), "c", NOTE, bad, true, a);
    check(insert_row([BAD, b"a", b"n"]), "c", KEY, [BAD, b"a", b"n"], false, a);
    check(insert_row(of_no_account), "c", GLOBAL, of_no_account, false, &EVERYONE);
    check(update_row(good, bad), "u", NOTE, bad, true, a);
    check(update_row(bad, good), "u", &format!("the row as it was: {NOTE}"), good, true, a);
    check(update_row(good, of_no_account), "u", GLOBAL, of_no_account, false, &EVERYONE);
    check(update_row(of_no_account, good), "u", &format!("the row as it was: {GLOBAL}"), good, true, &EVERYONE);
    check(delete_row(bad), "d", NOTE, bad, true, a);
    check(delete_row([BAD, b"a", b"n"]), "d", KEY, [BAD, b"a", b"n"], false, a);
    // A move whose arrival fails, although its departure does not; the two accounts may share a partition.
    for to in ["b", "c", "d", "e", "f", "g"] {
        let moved: Row<'_> = [b"2", to.as_bytes(), BAD];
        check(update_row(good, moved), "u", NOTE, moved, true, &[(Some("a"), 16), (Some(to), 18)]);
    }
    // To another key, within the account.
    check(update_row(good, [b"4", b"a", BAD]), "u", NOTE, [b"4", b"a", BAD], true, a);
    // Too large as an update, not as a row.
    let wide: Row<'_> = [b"2", b"a", &large[..120]];
    let mut world = World::with(100, dead_letters());
    deliver(&mut world, 100, &[insert_row(wide), update_row(wide, [b"2", b"a", &large[..110]])]);
    assert_eq!(world.letters.len(), 1);
    assert!(world.letters[0].value.reason.ends_with("bytes; the topic takes 300"), "{:?}", world.letters);
    assert_eq!(world.letters[0].value.columns["note"].as_ref().map(String::len), Some(110));
}

#[test]
fn an_account_whose_name_fits_no_control_record_concerns_everyone() {
    let name = [b'a'; 200];
    let mut world = World::with(100, dead_letters());
    deliver(&mut world, 100, &[insert_row([b"1", &name, BAD])]);
    assert_eq!(controls(&world.records).iter().map(|control| control.0).collect::<Vec<_>>(), [0, 1, 2]);
    let [letter] = world.letters.as_slice() else { panic!("{:?}", world.letters) };
    assert!(letter.key.is_empty(), "a key that leaves no room for the row is left out");
    assert!(letter.value.reason.ends_with("; left out, because they do not fit: \"account\""), "{letter:?}");
}

#[test]
fn what_cannot_be_told_even_as_a_dead_letter_halts() {
    let tight = Large { dead_letter_bytes_max: Some(60), ..dead_letters() };
    let mut world = World::with(100, tight);
    world.feed(&begin(100, 7));
    world.feed(&relation());
    world.feed(&insert_row([b"1", b"a", BAD]));
    expect_row_fault(&world);
    assert!(world.letters.is_empty());
}

fn expect_row_fault(world: &World) -> String {
    match &world.stopped {
        Some(Stop::Fault(fault)) => {
            assert!(matches!(**fault, Fault::Row { .. }), "{fault}");
            format!("{fault} {}", fault.remedy())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_row_of_another_shape_halts_whatever_is_told() {
    let mut world = World::with(100, dead_letters());
    world.feed(&begin(100, 7));
    world.feed(&relation());
    world.feed(b"I\0\0\x40\0N\0\x01n");
    expect_row_fault(&world);
    assert!(matches!(&world.stopped, Some(Stop::Fault(fault))
        if matches!(&**fault, Fault::Row { source, .. } if matches!(**source, RowFault::Columns { .. }))));
}

#[test]
fn what_precedes_a_poison_transaction_is_durable_before_the_bridge_halts() {
    let mut world = World::new(100);
    one_insert(&mut world, 100);
    world.drained();
    world.feed(&begin(150, 8));
    world.feed(&insert("2", Some("a")));
    world.feed(&insert_row([b"3", b"a", BAD]));
    assert!(!world.bridge.wants_wal());
    world.tick(NOW + AGE);
    assert!(world.stopped.is_none(), "its predecessor is on its way");
    world.deliver();
    world.bridge.handle_committed(world.now);
    world.act();
    assert!(world.stopped.is_none(), "nobody can read it yet");
    world.readable();
    assert_eq!(world.confirmed, [150]);
    let told = expect_row_fault(&world);
    assert!(told.contains("All accounts wait") && told.contains("dead_letter"), "{told}");
    world.tick(NOW + 9 * AGE);
    assert_eq!((world.commits.len(), world.confirmed.len()), (1, 1), "nothing of the poison transaction is committed");
}

/// A small transaction, and one whose third row is poison when its first two are with the producer.
fn log_with_others() -> Vec<Vec<u8>> {
    let large = insert_note("2", Some("a"), &"x".repeat(300_000));
    let poison = insert_row([b"3", b"a", BAD]);
    let small = [begin(100, 7), relation(), insert("1", Some("a")), commit(100, 150)];
    [&small[..], &[begin(150, 8), large.clone(), large, poison]].concat()
}

/// Transactions that share a group with the beginning of a poison transaction are delivered by a session that keeps it apart.
#[test]
fn a_poison_transaction_that_others_share_a_group_with_is_kept_apart() {
    let settle = |world: &mut World| {
        while !world.bridge.wants_wal() && world.stopped.is_none() {
            world.deliver();
            world.committed();
        }
    };
    let feed = |world: &mut World| {
        for message in log_with_others() {
            settle(world);
            world.feed(&message);
        }
        settle(world);
    };
    let mut world = World::new(100);
    feed(&mut world);
    let Some(Stop::Apart(commit_lsn)) = world.stopped else { panic!("{:?}", world.stopped) };
    assert_eq!(commit_lsn, CommitLsn::new(150));
    assert!(
        world.commits.is_empty() && !world.records.is_empty(),
        "the two share a Kafka transaction, which is aborted"
    );

    let mut oversize = Oversize::new(Policy::Halt, AGE);
    oversize.keep_apart(commit_lsn);
    let mut world = World::with(100, Large { suspect: oversize.suspect(), ..Large::default() });
    feed(&mut world);
    expect_row_fault(&world);
    assert_eq!(world.confirmed, [150]);
}

/// Small transactions around a large one that holds every kind of poison.
fn log() -> Vec<Vec<u8>> {
    let account = |event: usize| ["a", "b", "c", "d", "e"][event % 5];
    let mut log =
        vec![begin(100, 1), relation(), insert("1", Some("a")), insert_row([b"0", b"b", BAD]), commit(100, 200)];
    log.push(begin(200, 2));
    for event in 0..60 {
        let (id, own) = (event.to_string(), account(event).as_bytes());
        let (good, bad): (Row<'_>, Row<'_>) = ([id.as_bytes(), own, b"n"], [id.as_bytes(), own, BAD]);
        log.push(match event % 12 {
            1 => insert_row(bad),
            3 => update("1", account(event), account(event * event)),
            4 => update_row(good, [id.as_bytes(), account(event * event).as_bytes(), BAD]),
            5 if event > 20 => truncate(),
            6 => insert(&id, Some("global")),
            7 => delete_row(bad),
            8 => update_row([BAD, own, b"n"], good),
            9 => delete_row(good),
            10 => insert_row([id.as_bytes(), own, &[b'x'; 500]]),
            _ => insert_row(good),
        });
    }
    log.extend([commit(200, 300), begin(300, 3), insert_row([b"2", b"b", BAD]), insert("3", None), commit(300, 400)]);
    log
}

fn sorted(world: World) -> (Vec<Produced>, Vec<Letter>) {
    let (mut records, mut letters) = (world.records, world.letters);
    records.sort_by_key(|record| (record.0, record.3.position));
    letters.sort_by_key(|letter| letter.header.position);
    (records, letters)
}

proptest! {
    /// However it is cut into parts, and wherever the bridge dies: the same records, and each dead letter once.
    #[test]
    fn parts_and_deaths_change_no_record_and_no_dead_letter(
        bytes_max in 1_usize..4000,
        steps in proptest::collection::vec(prop_oneof![12 => 0_u8..4, 1 => 4_u8..6], 0..250),
    ) {
        let log = log();
        let (whole, none) = play(&log, dead_letters(), &[]);
        prop_assert_eq!(none, 0);
        prop_assert_eq!(whole.letters.len(), 2 + 5 * 6);
        let suspect = Some(Suspect { commit_lsn: CommitLsn::new(200), bytes_max });
        let (split, _) = play(&log, Large { part_age_max: Some(AGE), suspect, ..dead_letters() }, &steps);
        prop_assert_eq!(sorted(split), sorted(whole));
    }

    /// Whatever part of each partition and of the dead letters readers can read: the rest comes again, as it was, and nothing
    /// else does.
    #[test]
    fn what_a_broker_has_lost_comes_again_as_it_was(
        readable in proptest::collection::vec(0_usize..60, 3),
        letters_kept in proptest::collection::vec(any::<bool>(), 2 + 5 * 6),
    ) {
        let (before, _) = play(&log(), dead_letters(), &[]);
        let (mut missing, mut ends) = (Vec::new(), Vec::new());
        for (partition, readable) in (0..).zip(readable) {
            let records: Vec<&Produced> = before.records.iter().filter(|record| record.0 == partition).collect();
            let (kept, lost) = records.split_at(readable.min(records.len()));
            let last = kept.last().map(|record| record.3.position).unwrap_or_default();
            ends.push(PartitionProgress { partition, last, next_offset: i64::try_from(kept.len()).unwrap() });
            missing.extend(lost.iter().copied().cloned());
        }
        let progress = before.commits.last().unwrap().clone();
        let (_, all) = sorted(before);
        let kept = |index: &usize| letters_kept[*index];
        let known = (0..all.len()).filter(kept).map(|index| all[index].header.position).collect();
        let lost: Vec<Letter> = (0..all.len()).filter(|index| !kept(index)).map(|index| all[index].clone()).collect();
        let progress = behind_readable(progress, ends, !lost.is_empty(), EndLsn::new(100));
        let mut again = World::resume_with(progress, dead_letters());
        again.bridge.know_dead_letters(known);
        log().iter().for_each(|message| again.feed(message));
        again.drained();
        again.deliver();
        again.tick(NOW + AGE);
        again.committed();
        prop_assert_eq!(again.confirmed.last(), Some(&400), "all of it is durable in the end");
        missing.sort_by_key(|record| (record.0, record.3.position));
        prop_assert_eq!(sorted(again), (missing, lost));
    }

    /// A dead letter is never larger than its topic takes; the smallest columns stay, and what is left out is told.
    #[test]
    fn a_dead_letter_fits(bytes_max in 300_usize..900, note in 0_usize..900, id in 1_usize..40) {
        let large = Large { record_bytes_max: Some(200), dead_letter_bytes_max: Some(bytes_max), ..Large::default() };
        let mut world = World::with(100, large);
        let (id, note) = ("i".repeat(id), [&[b'n'].repeat(note), BAD].concat());
        deliver(&mut world, 100, &[insert_row([id.as_bytes(), b"a", &note])]);
        let [letter] = world.letters.as_slice() else { panic!("{:?}", world.stopped) };
        prop_assert!(letter.bytes <= bytes_max, "{} bytes", letter.bytes);
        prop_assert!(letter.value.columns.contains_key("account") && letter.value.columns.contains_key("id"));
        let left_out = letter.value.reason.contains("left out, because they do not fit: \"note\"");
        prop_assert_eq!(letter.value.columns.contains_key("note"), !left_out);
        // What is kept is kept whole.
        let kept = letter.value.columns.get("note").and_then(Option::as_ref);
        prop_assert!(kept.is_none_or(|kept| kept.len() == note.len() - 1 + "\\xff".len()));
    }
}
