//! The third rule: what is missing, and whether it was compacted, lost, or is still to come.

use penstock_access::knowledge::{Knowledge, Reason};
use penstock_access::partition::{Options, ProblemKind, RebuildReason};

use super::stream::{COMMITTED, LAG, Stream, UNCOMMITTED, at, catch_up, drain, following, read, rebuild, s, why};

const BOTH: [Options; 2] = [COMMITTED, UNCOMMITTED];

#[test]
fn rule_3_resuming_a_record_that_follows_another_than_the_last_read_means_rebuild() {
    for options in BOTH {
        let (mut reader, mut stream) = following(options);
        stream.commit(20, &["compacted"]);
        let next = stream.commit(30, &["next"]);
        let given = read(&mut reader, next);
        assert!(given.transactions.is_empty());
        let reason = RebuildReason::Compacted { source: 1, after: at(1, 10, 8), to: at(1, 20, 8) };
        assert_eq!(given.reason(), Some(&reason));
        assert_eq!(why(&reader, "a"), Some(Reason::Rebuilding));
        let later = stream.commit(40, &["later"]);
        assert!(read(&mut reader, later).transactions.is_empty(), "it takes nothing more");
    }
}

#[test]
fn rule_3_resuming_an_end_below_progress_means_rebuild() {
    for options in BOTH {
        let (mut reader, mut stream) = following(options);
        stream.commit(20, &["compacted"]);
        reader.handle_end(stream.offset, s(0));
        reader.handle_progress(&stream.progress(0), s(0));
        let reason = RebuildReason::Compacted { source: 1, after: at(1, 10, 8), to: at(1, 20, 8) };
        assert_eq!(drain(&mut reader).reason(), Some(&reason));
    }
}

#[test]
fn rule_3_an_end_below_progress_is_no_loss_before_its_offset_was_passed() {
    let (mut reader, mut stream) = following(COMMITTED);
    stream.time = -5;
    let late = stream.commit(20, &["late"]);
    reader.handle_end(stream.offset - 1, s(0));
    reader.handle_progress(&stream.progress(0), s(0));
    assert!(drain(&mut reader).rebuild.is_none());
    // What is known is what was known before.
    assert_eq!(reader.knowledge("a", s(9)), Knowledge::Known { as_of: s(0) });
    assert_eq!(read(&mut reader, late).words(), [["late"]]);
    assert_eq!(why(&reader, "a"), None);
}

#[test]
fn rule_3_rebuilding_holes_are_normal() {
    for options in BOTH {
        let (mut reader, mut stream) = (rebuild(options), Stream::old());
        let mut records = stream.commit(10, &["one"]);
        stream.commit(20, &["compacted"]);
        records.extend(stream.commit(30, &["two"]));
        let given = read(&mut reader, records);
        assert_eq!(given.words(), [["one"], ["two"]]);
        assert!(given.problems.is_empty());
        catch_up(&mut reader, &stream);
        assert_eq!(why(&reader, "a"), None);
    }
}

#[test]
fn rule_3_rebuilding_loss_is_proven_behind_a_record_that_is_too_young_to_have_lost_anything() {
    let lag = LAG.as_secs() as i64;
    for (age, lost) in [(lag + 1, false), (lag, false), (lag - 1, true), (0, true), (-5, true)] {
        let (mut reader, mut stream) = (rebuild(COMMITTED), Stream { time: -age, ..Stream::old() });
        let mut records = stream.commit(10, &["one"]);
        stream.commit(20, &["lost"]);
        records.extend(stream.commit(30, &["two"]));
        let given = read(&mut reader, records);
        assert_eq!(given.words(), [["one"], ["two"]], "it goes on: a rebuild would find no more");
        let problem = ProblemKind::Lost { after: at(1, 10, 8) };
        assert_eq!(given.problems, if lost { vec![problem] } else { Vec::new() }, "age {age}");
        catch_up(&mut reader, &stream);
        assert_eq!(why(&reader, "a"), lost.then_some(Reason::Unproven), "age {age}");
        let reload = stream.reload(40, "");
        read(&mut reader, reload);
        catch_up(&mut reader, &stream);
        assert_eq!(why(&reader, "a"), None, "a reload makes it good");
    }
}

#[test]
fn rule_3_a_rebuild_adopts_the_last_position_where_its_record_was_compacted() {
    for options in BOTH {
        let (mut reader, mut stream) = (rebuild(options), Stream::old());
        let records = stream.commit(10, &["one"]);
        read(&mut reader, records);
        stream.commit(20, &["compacted"]);
        reader.handle_end(stream.offset, s(0));
        reader.handle_progress(&stream.progress(0), s(0));
        drain(&mut reader);
        assert_eq!(why(&reader, "a"), Some(Reason::Stale), "its writer may be gone, and the record never readable");
        reader.handle_progress(&stream.progress(-1), s(0));
        drain(&mut reader);
        assert_eq!(why(&reader, "a"), Some(Reason::Stale), "this may have been written before, too");
        reader.handle_progress(&stream.progress(0), s(0));
        drain(&mut reader);
        assert_eq!(why(&reader, "a"), None);
        let next = stream.commit(30, &["next"]);
        let given = read(&mut reader, next);
        assert_eq!((given.words(), given.rebuild), (vec![vec!["next"]], None));
    }
}

#[test]
fn rule_3_nothing_is_adopted_before_its_offset_or_for_an_empty_partition() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
    let records = stream.commit(10, &["one"]);
    read(&mut reader, records);
    stream.commit(20, &["not readable yet"]);
    reader.handle_end(stream.offset - 1, s(0));
    for _ in 0..3 {
        reader.handle_progress(&stream.progress(0), s(0));
        drain(&mut reader);
        assert_eq!(why(&reader, "a"), Some(Reason::Rebuilding));
    }
    let (mut reader, stream) = (rebuild(COMMITTED), Stream::old());
    catch_up(&mut reader, &stream);
    assert_eq!(why(&reader, "a"), None, "an empty partition is known to be empty");
}

#[test]
fn rule_3_what_is_too_young_to_be_compacted_is_waited_for() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream { time: -5, ..Stream::old() });
    let records = stream.commit(10, &["one"]);
    read(&mut reader, records);
    let aborted = stream.clone();
    stream.commit(20, &["aborted"]);
    let given = catch_up(&mut reader, &stream);
    assert!(given.rebuild.is_none(), "a rebuild would find no more");
    assert_eq!(why(&reader, "a"), Some(Reason::Stale));
    // A new bridge has found that it cannot be read, and writes it again.
    let mut again = Stream { offset: stream.offset + 1, ..aborted };
    let records = again.commit(20, &["written again"]);
    assert_eq!(read(&mut reader, records).words(), [["written again"]]);
    catch_up(&mut reader, &again);
    assert_eq!(why(&reader, "a"), None);
}

#[test]
fn rule_3_following_what_is_too_young_to_be_compacted_is_waited_for() {
    let (mut reader, mut stream) = following(COMMITTED);
    stream.time = -5;
    let young = stream.commit(20, &["young"]);
    read(&mut reader, young);
    let before = stream.clone();
    stream.commit(30, &["aborted"]);
    reader.handle_end(stream.offset, s(0));
    reader.handle_progress(&stream.progress(5), s(5));
    assert!(drain(&mut reader).rebuild.is_none(), "a rebuild would find no more");
    assert_eq!(reader.knowledge("a", s(9)), Knowledge::Known { as_of: s(0) });
    assert!(matches!(reader.knowledge("a", s(10)), Knowledge::Unknown { reason: Reason::Stale, .. }));
    let mut again = Stream { offset: stream.offset + 1, ..before };
    again.commit(30, &["written again"]).into_iter().for_each(|record| reader.handle_record(record, s(5)));
    assert_eq!(drain(&mut reader).words(), [["written again"]]);
    assert_eq!(reader.knowledge("a", s(14)), Knowledge::Known { as_of: s(5) });
}

#[test]
fn rule_3_progress_that_says_less_than_what_was_adopted_takes_back_all_that_rests_on_it() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
    let records = stream.commit(10, &["one"]);
    read(&mut reader, records);
    let before = stream.clone();
    stream.commit(20, &["aborted"]);
    stream.commit(30, &["aborted"]);
    catch_up(&mut reader, &stream);
    assert_eq!(why(&reader, "a"), None);
    // A new bridge has written the first of them again; neither it nor anything else of it was read yet.
    let mut again = Stream { offset: stream.offset + 2, ..before };
    let records = again.commit(20, &["written again"]);
    reader.handle_progress(&again.progress(0), s(0));
    drain(&mut reader);
    assert_eq!(why(&reader, "a"), Some(Reason::Stale));
    assert_eq!(read(&mut reader, records).words(), [["written again"]]);
    assert_eq!(why(&reader, "a"), None);
}

#[test]
fn rule_3_nothing_is_adopted_from_progress_that_was_taken_back() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
    let records = stream.commit(10, &["one"]);
    read(&mut reader, records);
    let before = stream.clone();
    stream.commit(20, &["aborted"]);
    stream.commit(30, &["aborted"]);
    for progress in [stream.progress(-2), stream.progress(-1), before.progress(-3)] {
        reader.handle_progress(&progress, s(0));
    }
    reader.handle_end(stream.offset, s(0));
    drain(&mut reader);
    let mut again = Stream { offset: stream.offset + 2, ..before };
    let records = again.commit(20, &["written again"]);
    reader.handle_progress(&again.progress(0), s(0));
    drain(&mut reader);
    assert_eq!(reader.knowledge("a", s(0)), Knowledge::Known { as_of: s(-3) });
    assert_eq!(read(&mut reader, records).words(), [["written again"]]);
    assert_eq!(reader.knowledge("a", s(0)), Knowledge::Known { as_of: s(0) });
}

#[test]
fn rule_3_what_a_rebuild_has_read_past_is_adopted_from_later_progress_too() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
    let records = stream.commit(10, &["one"]);
    read(&mut reader, records);
    let first = stream.progress(-1);
    stream.commit(20, &["compacted"]);
    reader.handle_end(stream.offset, s(0));
    reader.handle_progress(&first, s(0));
    drain(&mut reader);
    assert!(reader.is_live());
    let given = catch_up(&mut reader, &stream);
    assert!(given.rebuild.is_none(), "another rebuild would read the same");
    assert_eq!(reader.knowledge("a", s(0)), Knowledge::Known { as_of: s(0) });
    stream.commit(30, &["compacted"]);
    assert!(catch_up(&mut reader, &stream).rebuild.is_some(), "what came behind the rebuild was never read past");
}

#[test]
fn rule_3_nothing_is_dropped_by_an_adopted_position() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
    let records = stream.commit(10, &["one"]);
    read(&mut reader, records);
    let before = stream.clone();
    stream.commit(20, &["aborted"]);
    catch_up(&mut reader, &stream);
    // The record comes before the progress that tells of it.
    let mut again = Stream { offset: stream.offset + 1, ..before };
    let records = again.commit(20, &["written again"]);
    assert_eq!(read(&mut reader, records).words(), [["written again"]]);
}

#[test]
fn rule_3_an_adopted_position_is_given_up_when_progress_takes_it_back() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
    let records = stream.commit(10, &["one"]);
    read(&mut reader, records);
    let before = stream.clone();
    stream.commit(20, &["aborted"]);
    catch_up(&mut reader, &stream);
    assert_eq!(why(&reader, "a"), None, "nothing tells that it was not compacted");
    reader.handle_progress(&before.progress(-20), s(0));
    drain(&mut reader);
    assert_eq!(why(&reader, "a"), Some(Reason::Stale));
    let mut again = Stream { offset: stream.offset + 1, ..before };
    let records = again.commit(20, &["written again"]);
    assert_eq!(read(&mut reader, records).words(), [["written again"]]);
    catch_up(&mut reader, &again);
    assert_eq!(why(&reader, "a"), None);
}
