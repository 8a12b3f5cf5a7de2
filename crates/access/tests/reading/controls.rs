//! What control records and poison do to what is known.

use penstock_access::knowledge::{Knowledge, Reason};
use penstock_access::partition::{Effect, Kind, Output, ProblemKind};
use penstock_wire::control::{Control, ControlKind};
use penstock_wire::position::Position;

use super::stream::{
    COMMITTED, Reader, Stream, at, catch_up, drain, following, read, rebuild, s, scope, truncate, why,
};

#[test]
fn a_truncate_concerns_every_account_and_carries_its_place() {
    let (mut reader, mut stream) = following(COMMITTED);
    let record = stream.record(20, 8, true, None, truncate());
    let given = read(&mut reader, [record]);
    let entry = given.transactions[0].entries("anyone").next().expect("an entry");
    assert_eq!(entry.position, at(1, 20, 8));
    assert_eq!(entry.effect, Effect::Truncate { schema: "public".to_owned(), table: "t".to_owned() });
}

#[test]
fn a_reload_sweeps_its_scope_at_its_end_and_nothing_at_its_begin() {
    for (of, concerned) in [("", "anyone"), ("t", "anyone"), (":a", "a"), ("t:a", "a")] {
        let (mut reader, mut stream) = following(COMMITTED);
        let [begun, ended] = stream.reload(20, of);
        let given = read(&mut reader, [begun]);
        assert!(given.transactions[0].everyone.is_empty() && given.transactions[0].accounts.is_empty());
        let given = read(&mut reader, [ended]);
        let sweep = Effect::Sweep { scope: scope(of), begin: at(1, 20, 8) };
        let effects: Vec<_> = given.transactions[0].entries(concerned).map(|entry| entry.effect.clone()).collect();
        assert_eq!(effects, [sweep], "{of:?}");
        assert_eq!(given.transactions[0].entries("b").count(), usize::from(concerned == "anyone"), "{of:?}");
    }
}

/// What makes accounts unproven, and which reloads make that good for account "a".
#[test]
fn unproven_accounts_are_proven_by_reloads_that_began_later_and_cover_them() {
    let cases: [(&[&str], bool); 8] = [
        (&[], false),
        (&[""], true),
        (&[":a"], true),
        (&[":b"], false),
        (&["t"], false),
        (&["t", "u"], true),
        (&["t", "u:a"], true),
        (&["t", "u:b"], false),
    ];
    for is_gap in [true, false] {
        for (reloads, proven) in cases {
            let (mut reader, mut stream) = following(COMMITTED);
            let begin = Some(stream.last);
            let mut records = Vec::new();
            match is_gap {
                true => {
                    records.push(stream.epoch(2, begin, "complete: the rest is told by the gap"));
                    records.push(stream.gap());
                }
                false => records.push(stream.epoch(2, begin, "incomplete: slot lost")),
            }
            let given = read(&mut reader, records);
            assert!(given.learned > 0 && given.rebuild.is_none());
            catch_up(&mut reader, &stream);
            assert_eq!(why(&reader, "a"), Some(Reason::Unproven));
            for (index, of) in reloads.iter().enumerate() {
                let reload = stream.reload(30 + 10 * index as u64, of);
                read(&mut reader, reload);
            }
            catch_up(&mut reader, &stream);
            assert_eq!(why(&reader, "a"), (!proven).then_some(Reason::Unproven), "gap: {is_gap} {reloads:?}");
        }
    }
}

#[test]
fn a_reload_that_began_before_a_gap_proves_nothing() {
    for of in ["", ":a"] {
        let (mut reader, mut stream) = following(COMMITTED);
        let begin = at(1, 20, 8);
        let mut records = vec![stream.control(20, Control::reload(ControlKind::ReloadBegin, &scope(of), begin))];
        let last = Some(stream.last);
        records.push(stream.epoch(2, last, "complete: the rest is told by the gap"));
        records.push(stream.gap());
        records.push(stream.reload_end(30, of, begin));
        read(&mut reader, records);
        catch_up(&mut reader, &stream);
        assert_eq!(why(&reader, "a"), Some(Reason::Unproven), "{of:?}");
    }
}

#[test]
fn a_gap_concerns_accounts_of_its_source_and_such_as_were_never_met() {
    let (mut reader, mut one) = following(COMMITTED);
    let mut two = Stream { source: 2, offset: one.offset, ..Stream::old() };
    let mut records = vec![two.epoch(1, None, "complete: no rows")];
    records.extend(two.commit(7, &["b:row"]));
    let begin = Some(two.last);
    records.push(two.epoch(2, begin, "incomplete: slot lost"));
    records.push(two.gap());
    read(&mut reader, records);
    one.offset = two.offset;
    catch_up(&mut reader, &one);
    catch_up(&mut reader, &two);
    assert_eq!(why(&reader, "a"), None);
    assert_eq!(why(&reader, "b"), Some(Reason::Unproven));
    assert_eq!(why(&reader, "never met"), Some(Reason::Unproven));
}

#[test]
fn a_load_that_progress_calls_incomplete_leaves_everything_unproven_that_was_not_loaded_alone() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
    let mut records = vec![stream.epoch(1, None, "complete: told otherwise by progress")];
    records.extend(stream.commit(10, &["a:1", "b:1"]));
    read(&mut reader, records);
    let progress = |stream: &Stream, load_complete| {
        let mut progress = stream.progress(0);
        progress.load_complete = load_complete;
        progress
    };
    reader.handle_end(stream.offset, s(0));
    reader.handle_progress(&progress(&stream, false), s(0));
    drain(&mut reader);
    assert_eq!(why(&reader, "a"), Some(Reason::Unproven));
    let reload = stream.reload(20, ":a");
    read(&mut reader, reload);
    reader.handle_progress(&progress(&stream, false), s(0));
    drain(&mut reader);
    assert_eq!((why(&reader, "a"), why(&reader, "b")), (None, Some(Reason::Unproven)));
    let reload = stream.reload(30, "");
    read(&mut reader, reload);
    reader.handle_progress(&progress(&stream, false), s(0));
    drain(&mut reader);
    assert_eq!(why(&reader, "b"), Some(Reason::Unproven), "progress has the last word");
    reader.handle_progress(&progress(&stream, true), s(0));
    assert!(drain(&mut reader).learned > 0);
    assert_eq!(why(&reader, "b"), None);
    reader.handle_progress(&progress(&stream, false), s(0));
    assert!(drain(&mut reader).learned > 0);
    assert_eq!(why(&reader, "b"), Some(Reason::Unproven), "a bridge that begins its load anew says so");
}

#[test]
fn what_was_loaded_alone_counts_for_its_epoch_only_and_that_is_told() {
    let (mut reader, mut stream) = following(COMMITTED);
    let reload = stream.reload(20, ":a");
    read(&mut reader, reload);
    let mut progress = stream.progress(0);
    progress.load_complete = false;
    reader.handle_progress(&progress, s(0));
    drain(&mut reader);
    assert_eq!(why(&reader, "a"), None);
    let begin = Some(stream.last);
    let epoch = stream.epoch(2, begin, "complete: promoted");
    read(&mut reader, [epoch]);
    let mut progress = stream.progress(0);
    progress.load_complete = false;
    reader.handle_progress(&progress, s(0));
    assert!(drain(&mut reader).learned > 0);
    assert_eq!(why(&reader, "a"), Some(Reason::Unproven));
}

#[test]
fn a_load_is_complete_only_once_the_progress_that_says_so_is_reached() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream { time: -5, ..Stream::old() });
    let records = stream.commit(10, &["a:1"]);
    read(&mut reader, records);
    reader.handle_end(stream.offset, s(0));
    let mut progress = stream.progress(0);
    progress.load_complete = false;
    reader.handle_progress(&progress, s(0));
    drain(&mut reader);
    assert_eq!(why(&reader, "a"), Some(Reason::Unproven));
    let loaded = stream.commit(20, &["a:2"]);
    reader.handle_progress(&stream.progress(0), s(0));
    drain(&mut reader);
    assert_eq!(why(&reader, "a"), Some(Reason::Unproven));
    read(&mut reader, loaded);
    assert_eq!(why(&reader, "a"), None);
    // Progress that takes it back counts at once.
    let unread = stream.commit(30, &["a:3"]);
    let mut progress = stream.progress(0);
    progress.load_complete = false;
    reader.handle_progress(&progress, s(0));
    drain(&mut reader);
    assert_eq!(why(&reader, "a"), Some(Reason::Unproven));
    read(&mut reader, unread);
    assert_eq!(why(&reader, "a"), Some(Reason::Unproven));
}

#[test]
fn poison_quarantines_its_account_or_everyone_until_a_reload_that_began_later_and_covers_it() {
    // Whose poison, which reload, whether account "a" is quarantined then.
    let cases = [
        (Some("a"), "", false),
        (Some("a"), ":a", false),
        (Some("a"), ":b", true),
        (Some("a"), "t", false),
        (Some("a"), "u", true),
        (Some("a"), "t:a", false),
        (Some("a"), "t:b", true),
        (None, "", false),
        (None, "t", true),
        (None, ":a", true),
    ];
    for (account, of, remains) in cases {
        let (mut reader, mut stream) = following(COMMITTED);
        let letter = stream.dead_letter(20, account, "t");
        let given = read(&mut reader, [letter]);
        let problem = ProblemKind::DeadLetter { account: account.map(Into::into), reason: "too large".to_owned() };
        assert_eq!(given.problems, [problem]);
        assert!(given.learned > 0);
        catch_up(&mut reader, &stream);
        assert_eq!(why(&reader, "a"), Some(Reason::Quarantined));
        let others = why(&reader, "other");
        assert_eq!(others, account.is_none().then_some(Reason::Quarantined));
        let reload = stream.reload(30, of);
        let given = read(&mut reader, reload);
        assert!(given.learned > 0 || remains);
        catch_up(&mut reader, &stream);
        assert_eq!(why(&reader, "a"), remains.then_some(Reason::Quarantined), "{account:?} {of:?}");
    }
}

#[test]
fn undecodable_records_quarantine_like_dead_letters() {
    let undecodable = || Kind::Undecodable { reason: "no such type".to_owned(), row: None };
    let no_begin = Control { begin: None, ..Control::reload(ControlKind::ReloadEnd, &scope(":a"), at(1, 1, 8)) };
    let late_begin = Control::reload(ControlKind::ReloadEnd, &scope(""), at(1, 20, 8));
    let no_table =
        Control { schema: "public".to_owned(), ..Control::reload(ControlKind::ReloadEnd, &scope(""), at(1, 1, 8)) };
    let no_begin_of_all = Control { begin: None, ..Control::reload(ControlKind::ReloadEnd, &scope(""), at(1, 1, 8)) };
    // A record, and whether it concerns everyone.
    let cases = [
        (Some("a"), undecodable(), false),
        (None, undecodable(), true),
        (None, Kind::Row("nobody's"), true),
        (None, Kind::Tombstone("nobody's"), true),
        (None, Kind::Control(Control::truncate("", "")), true),
        (None, Kind::Control(no_begin), false),
        (None, Kind::Control(no_begin_of_all), true),
        (None, Kind::Control(late_begin), true),
        (None, Kind::Control(no_table), true),
    ];
    for (account, kind, everyone) in cases {
        let (mut reader, mut stream) = following(COMMITTED);
        let described = format!("{kind:?}");
        let record = stream.record(20, 8, true, account, kind);
        let given = read(&mut reader, [record]);
        assert!(matches!(given.problems[..], [ProblemKind::Undecodable { .. }]), "{described} {:?}", given.problems);
        assert!(given.words().concat().is_empty(), "nothing is made of it");
        catch_up(&mut reader, &stream);
        assert_eq!(why(&reader, "a"), Some(Reason::Quarantined), "{described}");
        assert_eq!(why(&reader, "b"), everyone.then_some(Reason::Quarantined), "{described}");
        let reload = stream.reload(30, "");
        read(&mut reader, reload);
        catch_up(&mut reader, &stream);
        assert_eq!((why(&reader, "a"), why(&reader, "b")), (None, None), "{described}");
    }
}

#[test]
fn an_epoch_that_does_not_say_what_it_follows_is_poison() {
    let (mut reader, mut stream) = following(COMMITTED);
    let record = stream.epoch(2, None, "complete: trust me");
    read(&mut reader, [record]);
    catch_up(&mut reader, &stream);
    assert_eq!(why(&reader, "a"), Some(Reason::Quarantined));
}

#[test]
fn rows_beside_poison_are_applied() {
    let (mut reader, mut stream) = following(COMMITTED);
    let mut records = stream.commit(20, &["a:one", "a:two"]);
    records[1].kind = Kind::Undecodable { reason: "no such type".to_owned(), row: None };
    assert_eq!(read(&mut reader, records).words(), [["one"]], "revocations among them must not wait");
}

#[test]
fn a_row_that_cannot_be_read_is_dropped_where_its_key_can() {
    let (mut reader, mut stream) = following(COMMITTED);
    let mut records = stream.commit(20, &["a:one", "a:two"]);
    records[1].kind = Kind::Undecodable { reason: "no such type".to_owned(), row: Some("two") };
    let given = read(&mut reader, records);
    let effects: Vec<_> = given.transactions[0].entries("a").map(|entry| entry.effect.clone()).collect();
    assert_eq!(effects, [Effect::Row("one"), Effect::Tombstone("two")], "its older version may grant what it takes");
}

#[test]
fn poison_is_known_before_its_transaction_and_a_reload_counts_after_it() {
    let (mut reader, mut stream) = following(COMMITTED);
    let mut records = stream.commit(20, &["a:one", "a:two"]);
    records[1].kind = Kind::Undecodable { reason: "no such type".to_owned(), row: None };
    let [begun, ended] = stream.reload(30, ":a");
    records.extend([begun, ended]);
    let transactions = |reader: &mut Reader| loop {
        match reader.poll_output().expect("a transaction") {
            Output::Transaction(_) => return why(reader, "a"),
            Output::Learned(_) | Output::Problem(_) => {}
            Output::Doubted { source } => panic!("source {source} is doubted"),
            Output::Rebuild(rebuild) => panic!("{rebuild:?}"),
        }
    };
    records.into_iter().for_each(|record| reader.handle_record(record, s(0)));
    let reasons = [(); 3].map(|()| transactions(&mut reader));
    assert_eq!(reasons, [Some(Reason::Quarantined); 3]);
    drain(&mut reader);
    assert_eq!(why(&reader, "a"), None);
}

#[test]
fn a_record_without_a_place_quarantines_everyone_until_each_source_is_reloaded() {
    let (mut reader, mut one) = following(COMMITTED);
    one.time = -5;
    let young = one.commit(15, &["young"]);
    read(&mut reader, young);
    let mut two = Stream { source: 2, offset: one.offset, ..Stream::old() };
    let mut records = two.epoch(1, None, "complete: no rows");
    read(&mut reader, [records.clone()]);
    // It is a record of source 1, which its next one names as its predecessor.
    one.commit(20, &["misplaced"]);
    one.offset = two.offset + 1;
    reader.handle_misplaced(two.offset, "header version 2".to_owned(), s(0));
    let given = drain(&mut reader);
    assert!(given.learned > 0 && matches!(given.problems[..], [ProblemKind::NoHeader { .. }]), "{given:?}");
    let next = one.commit(30, &["next"]);
    let given = read(&mut reader, next);
    assert_eq!((given.words(), given.rebuild), (vec![vec!["next"]], None), "a rebuild would only meet it again");
    let reload = one.reload(40, "");
    read(&mut reader, reload);
    two.offset = one.offset;
    catch_up(&mut reader, &one);
    catch_up(&mut reader, &two);
    assert_eq!(why(&reader, "a"), Some(Reason::Quarantined), "it may have been of source 2");
    // A source that is met now may have written it, too.
    let mut three = Stream { source: 3, ..two.clone() };
    three.last = Position::ZERO;
    records = three.epoch(1, None, "complete: no rows");
    read(&mut reader, [records]);
    two.offset = three.offset;
    let reload = two.reload(40, "");
    read(&mut reader, reload);
    catch_up(&mut reader, &two);
    catch_up(&mut reader, &three);
    assert_eq!(why(&reader, "a"), Some(Reason::Quarantined), "it may have been of source 3");
    three.offset = two.offset;
    let reload = three.reload(40, "");
    read(&mut reader, reload);
    catch_up(&mut reader, &three);
    assert_eq!(why(&reader, "a"), None);
}

#[test]
fn a_record_without_a_place_excuses_no_compaction() {
    let (mut reader, mut stream) = following(COMMITTED);
    reader.handle_misplaced(stream.offset, "header version 2".to_owned(), s(0));
    stream.commit(20, &["compacted"]);
    let next = stream.commit(30, &["next"]);
    assert!(read(&mut reader, next).rebuild.is_some());
}

#[test]
fn the_first_of_several_reasons_is_told() {
    let (mut reader, mut stream) = following(COMMITTED);
    let told = |reader: &Reader| match reader.knowledge("a", s(100)) {
        Knowledge::Unknown { reason, .. } => Some(reason),
        Knowledge::Known { .. } => None,
    };
    assert_eq!(told(&reader), Some(Reason::Stale));
    let letter = stream.dead_letter(20, Some("a"), "t");
    read(&mut reader, [letter]);
    assert_eq!(told(&reader), Some(Reason::Quarantined));
    let begin = Some(stream.last);
    let records = [stream.epoch(2, begin, "incomplete: slot lost")];
    read(&mut reader, records);
    assert_eq!(told(&reader), Some(Reason::Unproven));
    stream.commit(20, &["compacted"]);
    let next = stream.commit(30, &["next"]);
    read(&mut reader, next);
    assert_eq!(told(&reader), Some(Reason::Rebuilding));
    reader.handle_assignment_lost();
    assert!(drain(&mut reader).learned > 0);
    assert_eq!(told(&reader), Some(Reason::NotAssigned));
}

#[test]
fn what_may_be_missing_is_told_before_what_comes_behind_it_in_a_rebuild_too() {
    for rebuilding in [false, true] {
        let (mut reader, mut stream) =
            if rebuilding { (rebuild(COMMITTED), Stream::old()) } else { following(COMMITTED) };
        let mut records = stream.commit(20, &["a:before"]);
        let begin = stream.last;
        records.push(stream.epoch(2, Some(begin), "a gap was accepted"));
        records.extend(stream.commit(30, &["a:behind"]));
        records.into_iter().for_each(|record| reader.handle_record(record, s(0)));
        let mut told = Vec::new();
        while let Some(output) = reader.poll_output() {
            match output {
                Output::Transaction(transaction) => told.extend(transaction.accounts.keys().map(ToString::to_string)),
                Output::Doubted { source } => told.push(format!("source {source}")),
                Output::Learned(_) | Output::Problem(_) => {}
                Output::Rebuild(rebuild) => panic!("{rebuild:?}"),
            }
        }
        assert_eq!(told, ["a", "source 1", "a"], "rebuilding: {rebuilding}");
    }
}
