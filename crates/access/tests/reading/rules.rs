//! The six rules of reading, by number; the third stands apart.

use penstock_access::partition::{Effect, Isolation, Kind, Options, Partition, ProblemKind, RebuildReason, Void};
use penstock_wire::control::Control;
use penstock_wire::header::Header;
use penstock_wire::lsn::{CommitLsn, EndLsn};
use penstock_wire::progress::Through;

use super::stream::{
    COMMITTED, RETENTION, Stream, UNCOMMITTED, at, catch_up, drain, following, read, rebuild, s, truncate, why,
};

const BOTH: [Options; 2] = [COMMITTED, UNCOMMITTED];

#[test]
fn rule_1_repeated_records_change_nothing() {
    for options in BOTH {
        let (mut reader, mut stream) = following(options);
        let before = stream.commit(20, &["one", "two"]);
        assert_eq!(read(&mut reader, before.clone()).words(), [["one", "two"]]);
        let mut again = before.clone();
        again.iter_mut().for_each(|record| record.offset += 2);
        for repeated in [before, again] {
            let given = read(&mut reader, repeated);
            assert!(given.transactions.is_empty() && given.rebuild.is_none() && given.problems.is_empty(), "{given:?}");
        }
    }
}

#[test]
fn rule_1_each_source_has_its_own_order() {
    let mut reader = rebuild(COMMITTED);
    let (mut one, mut two) = (Stream::old(), Stream { source: 2, ..Stream::old() });
    let first = one.commit(50, &["one"]);
    two.offset = one.offset;
    let second = two.commit(20, &["two"]);
    assert_eq!(read(&mut reader, first).words(), [["one"]]);
    assert_eq!(read(&mut reader, second).words(), [["two"]]);
    assert_eq!((reader.applied(1), reader.applied(2)), (at(1, 50, 8), at(1, 20, 8)));
}

#[test]
fn rule_1_a_record_at_position_zero_is_nobodys() {
    let (mut reader, mut stream) = (rebuild(UNCOMMITTED), Stream::old());
    let epoch = stream.epoch(1, None, "complete: no rows");
    let mut nobodys = stream.clone().control(0, Control::epoch(None, String::new()));
    nobodys.header = Header { end_of_transaction: true, ..Header::default() };
    stream.offset += 1;
    let first = stream.commit(10, &["first"]);
    let given = read(&mut reader, [epoch, nobodys].into_iter().chain(first));
    assert_eq!((given.words(), given.problems), (vec![vec![], vec!["first"]], vec![]));
    catch_up(&mut reader, &stream);
    assert!(reader.is_live(), "no progress of a source 0 is waited for");
    assert_eq!(why(&reader, "a"), None);
}

#[test]
fn rule_2_sources_that_interleave_are_held_apart() {
    let mut reader = rebuild(COMMITTED);
    let (mut one, mut two) = (Stream::old(), Stream { source: 2, ..Stream::old() });
    let (first, second) = (one.commit(50, &["1a", "1b"]), two.commit(20, &["2a", "2b"]));
    let mixed = [&first[0], &second[0], &first[1], &second[1]].map(Clone::clone);
    assert_eq!(read(&mut reader, mixed).words(), [["1a", "1b"], ["2a", "2b"]]);
}

#[test]
fn rule_2_a_transaction_is_held_until_its_flag() {
    for options in BOTH {
        let (mut reader, mut stream) = following(options);
        let mut records = stream.commit(20, &["one", "two"]);
        let last = records.pop();
        let given = read(&mut reader, records);
        assert!(given.transactions.is_empty());
        assert_eq!(reader.held_bytes(), 10);
        assert_eq!(read(&mut reader, last).words(), [["one", "two"]]);
        assert_eq!(reader.held_bytes(), 0);
    }
}

#[test]
fn rule_2_committed_another_commit_ends_a_transaction_whose_flag_was_compacted() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
    let mut records = stream.commit(20, &["one", "two", "three"]);
    records.pop();
    assert!(read(&mut reader, records).transactions.is_empty());
    let next = stream.commit(30, &["next"]);
    assert_eq!(read(&mut reader, next).words(), [vec!["one", "two"], vec!["next"]]);
}

#[test]
fn rule_2_uncommitted_the_next_record_tells_what_was_written_again() {
    // Of commit 20 three records are read without a flag; the next record names its predecessor.
    let cases: [(u64, &[&str]); 5] = [
        // The flagged record was compacted.
        (32, &["one", "two", "three"]),
        (24, &["one", "two", "three"]),
        // Some of it was aborted and not written again.
        (16, &["one", "two"]),
        (8, &["one"]),
        (0, &[]),
    ];
    for (previous, kept) in cases {
        let (mut reader, mut stream) = (rebuild(UNCOMMITTED), Stream::old());
        let mut records = stream.commit(10, &["first"]);
        records.extend(stream.commit(20, &["one", "two", "three", "four"]).into_iter().take(3));
        read(&mut reader, records);
        stream.last = if previous == 0 { at(1, 10, 8) } else { at(1, 20, previous) };
        let next = stream.commit(30, &["next"]);
        let mut expected = vec![kept.to_vec(), vec!["next"]];
        expected.retain(|words| !words.is_empty());
        assert_eq!(read(&mut reader, next).words(), expected, "previous {previous}");
    }
}

#[test]
fn rule_2_at_the_end_a_transaction_is_complete_iff_progress_covers_it() {
    // (epoch, end LSN) of progress over a transaction at (2, 20).
    for (epoch, end_lsn, complete) in [(2, 21, true), (2, 20, false), (2, 19, false), (3, 0, true), (1, 99, false)] {
        for options in BOTH {
            let (mut reader, mut stream) = (rebuild(options), Stream { epoch: 2, ..Stream::old() });
            let records = stream.commit(20, &["one", "two"]);
            read(&mut reader, records.into_iter().take(1));
            reader.handle_end(stream.offset, s(0));
            let mut progress = stream.progress(0);
            (progress.epoch, progress.end_lsn) = (epoch, EndLsn::new(end_lsn));
            let mut words = Vec::new();
            for _ in 0..2 {
                reader.handle_progress(&progress, s(0));
                words.extend(drain(&mut reader).words());
            }
            assert_eq!(!words.is_empty(), complete, "epoch {epoch} end {end_lsn} {options:?}");
        }
    }
}

#[test]
fn rule_2_progress_that_is_ahead_of_what_can_be_read_completes_nothing() {
    let (mut reader, mut stream) = following(COMMITTED);
    stream.time = -5;
    let mut records = stream.commit(20, &["one", "two"]);
    let last = records.pop();
    assert!(read(&mut reader, records).transactions.is_empty());
    // The second record is committed, but its Kafka transaction has no end in this partition yet.
    reader.handle_end(stream.offset - 1, s(0));
    for _ in 0..2 {
        reader.handle_progress(&stream.progress(0), s(0));
        let given = drain(&mut reader);
        assert!(given.transactions.is_empty() && given.rebuild.is_none(), "{given:?}");
    }
    assert_eq!(read(&mut reader, last).words(), [["one", "two"]]);
}

#[test]
fn rule_4_a_rebuild_that_outlasts_tombstones_is_thrown_away() {
    let retention = RETENTION.as_secs() as i64;
    for (took, too_slow) in [(retention, false), (retention + 1, true)] {
        let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
        let records = stream.commit(10, &["one"]);
        read(&mut reader, records);
        assert_eq!(reader.next_deadline().map(|at| at.0), Some(s(retention).0 + 1));
        reader.handle_end(stream.offset, s(took));
        reader.handle_progress(&stream.progress(took), s(took));
        let given = drain(&mut reader);
        assert_eq!(given.reason(), too_slow.then_some(&RebuildReason::TooSlow));
        assert_eq!(reader.is_live(), !too_slow);
        reader.handle_time(s(took + retention));
        assert_eq!(drain(&mut reader).reason(), None, "once it is rebuilt time does not matter");
    }
}

#[test]
fn rule_5_aborted_records_come_again_and_are_dropped() {
    let (mut reader, mut stream) = following(UNCOMMITTED);
    let before = stream.clone();
    let aborted = stream.commit(20, &["one", "two", "three"]);
    let given = read(&mut reader, aborted.into_iter().take(2));
    assert!(given.transactions.is_empty());
    let mut again = Stream { offset: stream.offset + 1, ..before };
    let records = again.commit(20, &["one", "two", "three"]);
    assert_eq!(read(&mut reader, records).words(), [["one", "two", "three"]]);
}

#[test]
fn rule_5_an_epoch_that_begins_below_what_was_applied_means_rebuild_without_the_rest() {
    for options in BOTH {
        let (mut reader, mut stream) = following(options);
        let begin = stream.last;
        let mut records = stream.commit(20, &["void"]);
        records.push(stream.epoch(2, Some(begin), "complete: promoted"));
        records.extend(stream.commit(5, &["valid"]));
        let given = read(&mut reader, records.clone());
        let void = Void { source: 1, after: begin, epoch: 2 };
        assert_eq!(given.reason(), Some(&RebuildReason::Voided(void)));
        let voids = given.rebuild.expect("a rebuild").voids;
        assert_eq!(voids, [void]);
        let mut reader = Partition::rebuild(3, options, voids, s(0));
        let mut start = Stream::old();
        let mut all = vec![start.epoch(1, None, "complete: no rows")];
        all.extend(start.commit(10, &["first"]));
        all.extend(records);
        let given = read(&mut reader, all);
        assert_eq!(given.words(), [vec![], vec!["first"], vec![], vec!["valid"]]);
        catch_up(&mut reader, &stream);
        assert_eq!(why(&reader, "a"), None);
    }
}

#[test]
fn rule_5_what_was_only_held_above_an_epochs_begin_is_dropped() {
    // Whether the record that is void counts as the one before the epoch's, as it does where it was committed.
    for (options, committed) in [(COMMITTED, true), (UNCOMMITTED, true), (UNCOMMITTED, false)] {
        let (mut reader, mut stream) = following(options);
        let begin = stream.last;
        let mut records = stream.commit(20, &["void", "never written"]);
        records.pop();
        stream.last = if committed { at(1, 20, 8) } else { begin };
        records.push(stream.epoch(2, Some(begin), "complete: promoted"));
        let given = read(&mut reader, records);
        assert_eq!((given.words(), given.rebuild), (vec![vec![]], None), "{options:?} {committed}");
    }
}

#[test]
fn rule_5_an_epoch_that_follows_what_was_read_goes_on() {
    for options in BOTH {
        let (mut reader, mut stream) = following(options);
        let begin = stream.last;
        let records = [stream.epoch(2, Some(begin), "complete: promoted")];
        assert!(read(&mut reader, records).rebuild.is_none());
        let next = stream.commit(5, &["next"]);
        assert_eq!(read(&mut reader, next).words(), [["next"]]);
        catch_up(&mut reader, &stream);
        assert_eq!(why(&reader, "a"), None);
    }
}

#[test]
fn rule_6_a_split_transaction_waits_for_progress_that_covers_it() {
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
        let (mut reader, mut stream) = following(Options { isolation, ..COMMITTED });
        let covered = EndLsn::new(20);
        let mut records = stream.clone().commit(20, &["one", "two"]);
        let last = records.pop();
        let mut part = stream.clone();
        part.commit(20, &["one"]);
        let mut progress = part.progress(0);
        progress.end_lsn = covered;
        progress.through = Through { commit_lsn: CommitLsn::new(20), ..Through::default() };
        read(&mut reader, records);
        reader.handle_end(part.offset, s(0));
        reader.handle_progress(&progress, s(0));
        assert!(drain(&mut reader).transactions.is_empty(), "a part is no whole");
        assert_eq!(why(&reader, "a"), None, "what is held is younger than the clock of this progress");
        assert!(read(&mut reader, last).transactions.is_empty(), "its last part may not be committed");
        stream.commit(20, &["one", "two"]);
        reader.handle_progress(&stream.progress(1), s(1));
        assert_eq!(drain(&mut reader).words(), [["one", "two"]]);
    }
}

#[test]
fn rule_6_a_split_transaction_is_whole_when_the_next_one_follows() {
    let (mut reader, mut stream) = following(COMMITTED);
    let mut progress = stream.progress(0);
    progress.through = Through { commit_lsn: CommitLsn::new(20), ..Through::default() };
    reader.handle_progress(&progress, s(0));
    let records = stream.commit(20, &["one", "two"]);
    assert!(read(&mut reader, records).transactions.is_empty());
    let next = stream.commit(30, &["next"]);
    assert_eq!(read(&mut reader, next).words(), [vec!["one", "two"], vec!["next"]]);
}

#[test]
fn a_transaction_is_given_out_by_account_and_in_order() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
    let mut records = stream.commit(20, &["b:1", "a:2", "b:3"]);
    records[2].header.end_of_transaction = false;
    records.push(stream.record(20, 32, false, None, truncate()));
    records.push(stream.record(20, 40, true, Some("a"), Kind::Tombstone("5")));
    let given = read(&mut reader, records);
    let [transaction] = &given.transactions[..] else { panic!("{given:?}") };
    assert_eq!((transaction.position, transaction.next_offset), (at(1, 20, 40), 5));
    let order =
        |account: &str| -> Vec<u64> { transaction.entries(account).map(|entry| entry.position.seq.0).collect() };
    assert_eq!((order("a"), order("b"), order("c")), (vec![16, 32, 40], vec![8, 24, 32], vec![32]));
    let of_a: Vec<_> = transaction.entries("a").map(|entry| &entry.effect).collect();
    assert!(matches!(of_a[..], [Effect::Row("2"), Effect::Truncate { .. }, Effect::Tombstone("5")]), "{of_a:?}");
}

#[test]
fn a_transaction_larger_than_the_alarm_is_told_once_and_held() {
    let (mut reader, mut stream) = following(COMMITTED);
    let mut records = stream.commit(20, &["1", "2", "3", "4"]);
    records.iter_mut().for_each(|record| record.bytes = 100 * 1024 * 1024);
    let last = records.pop();
    let given = read(&mut reader, records);
    assert!(matches!(given.problems[..], [ProblemKind::LargeTransaction { .. }]), "{:?}", given.problems);
    assert!(given.transactions.is_empty());
    assert_eq!(read(&mut reader, last).words(), [["1", "2", "3", "4"]]);
}

#[test]
fn another_topic_under_the_same_name_means_rebuild() {
    let (mut reader, mut stream) = following(COMMITTED);
    let mut progress = stream.progress(0);
    progress.topic_id = "another".to_owned();
    reader.handle_progress(&progress, s(0));
    assert_eq!(drain(&mut reader).reason(), Some(&RebuildReason::TopicReplaced));
    let next = stream.commit(20, &["next"]);
    assert!(read(&mut reader, next).transactions.is_empty(), "it takes nothing more");
}
