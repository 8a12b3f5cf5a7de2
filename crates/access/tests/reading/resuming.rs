//! Stopping, and going on from a checkpoint.

use penstock_access::knowledge::Reason;
use penstock_access::partition::{Kind, Partition, RebuildReason, ResumePoint, Void};

use super::stream::{COMMITTED, Reader, Stream, UNCOMMITTED, at, catch_up, drain, following, read, rebuild, s, why};

/// Writes the resume point down, reads it again, and goes on.
fn stop_and_resume(reader: &Reader) -> Reader {
    let point = reader.resume_point().expect("a resume point");
    let text = serde_json::to_string(&point).expect("it can be written");
    let read: ResumePoint = serde_json::from_str(&text).expect("it can be read");
    assert_eq!(read, point);
    let resumed = Partition::resume(read, COMMITTED, s(0));
    assert_eq!(resumed.read_to(), point.offset());
    resumed
}

#[test]
fn a_resumed_reader_knows_nothing_until_it_was_at_the_end_and_progress_is_reached() {
    let (reader, stream) = following(COMMITTED);
    let mut reader = stop_and_resume(&reader);
    let point = reader.resume_point().expect("a resume point");
    assert_eq!(why(&reader, "a"), Some(Reason::Rebuilding));
    reader.handle_progress(&stream.progress(0), s(0));
    drain(&mut reader);
    assert_eq!(why(&reader, "a"), Some(Reason::Rebuilding));
    reader.handle_end(stream.offset, s(0));
    drain(&mut reader);
    assert_eq!(why(&reader, "a"), None);
    let mut reader: Reader = Partition::resume(point, COMMITTED, s(0));
    reader.handle_end(stream.offset, s(0));
    assert!(drain(&mut reader).learned > 0);
    assert_eq!(why(&reader, "a"), Some(Reason::Stale));
}

#[test]
fn held_records_are_read_again_and_applied_ones_dropped() {
    for options in [COMMITTED, UNCOMMITTED] {
        let (mut reader, mut one) = following(options);
        let mut two = Stream { source: 2, offset: one.offset, ..Stream::old() };
        let held = two.commit(7, &["b:one", "b:two"]);
        read(&mut reader, held.iter().take(1).cloned());
        one.offset = two.offset;
        let applied = one.commit(20, &["a:three"]);
        assert_eq!(read(&mut reader, applied.clone()).words(), [["three"]]);
        let mut resumed = stop_and_resume(&reader);
        assert_eq!(resumed.read_to(), held[0].offset);
        let again = [held[0].clone(), applied[0].clone(), held[1].clone()];
        let given = read(&mut resumed, again);
        assert_eq!((given.words(), given.rebuild), (vec![vec!["one", "two"]], None));
    }
}

#[test]
fn records_compacted_under_a_checkpoint_mean_rebuild() {
    let (reader, mut stream) = following(COMMITTED);
    stream.commit(20, &["compacted"]);
    let next = stream.commit(30, &["next"]);
    let mut resumed = stop_and_resume(&reader);
    let reason = RebuildReason::Compacted { source: 1, after: at(1, 10, 8), to: at(1, 20, 8) };
    assert_eq!(read(&mut resumed, next).reason(), Some(&reason));
    let (reader, mut stream) = following(COMMITTED);
    stream.commit(20, &["compacted"]);
    let mut resumed = stop_and_resume(&reader);
    assert_eq!(catch_up(&mut resumed, &stream).reason(), Some(&reason), "the partition's last record");
}

#[test]
fn an_adopted_position_is_kept() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
    let records = stream.commit(10, &["one"]);
    read(&mut reader, records);
    stream.commit(20, &["compacted"]);
    catch_up(&mut reader, &stream);
    let mut resumed = stop_and_resume(&reader);
    let given = catch_up(&mut resumed, &stream);
    assert!(given.rebuild.is_none(), "{given:?}");
    assert_eq!(why(&resumed, "a"), None);
    let next = stream.commit(30, &["next"]);
    assert_eq!(read(&mut resumed, next).words(), [["next"]]);
}

#[test]
fn what_compaction_left_of_a_held_transaction_is_no_loss_when_it_is_read_again() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
    let records = stream.commit(10, &["one"]);
    read(&mut reader, records);
    stream.commit(20, &["compacted"]);
    let mut held = stream.commit(30, &["held", "flagged"]);
    let flagged = held.pop();
    read(&mut reader, held.clone());
    reader.handle_end(stream.offset - 1, s(0));
    let mut progress = stream.progress(0);
    (progress.partitions[0].last, progress.partitions[0].next_offset) = (at(1, 30, 8), stream.offset - 1);
    progress.end_lsn = penstock_wire::lsn::EndLsn::new(30);
    reader.handle_progress(&progress, s(0));
    drain(&mut reader);
    let mut resumed = stop_and_resume(&reader);
    held.extend(flagged);
    let given = read(&mut resumed, held);
    assert_eq!((given.words(), given.rebuild), (vec![vec!["held", "flagged"]], None));
}

#[test]
fn doubts_and_reloads_are_kept() {
    // What is written before the stop, which reload ends after it, what is said of "a" at the end.
    type Write = fn(&mut Stream) -> Vec<penstock_access::partition::Record<super::stream::Word>>;
    let gap: Write = |stream| {
        let begin = Some(stream.last);
        vec![stream.epoch(2, begin, "complete: the rest is told by the gap"), stream.gap()]
    };
    let letter: Write = |stream| vec![stream.dead_letter(20, Some("a"), "t")];
    let of_nobody: Write = |stream| vec![stream.dead_letter(20, None, "t")];
    let unreadable: Write =
        |stream| vec![stream.record(20, 8, true, Some("a"), Kind::Undecodable { reason: String::new(), row: None })];
    let half_proven: Write = |stream| {
        let begin = Some(stream.last);
        let mut records = vec![stream.epoch(2, begin, "incomplete: slot lost")];
        records.extend(stream.reload(20, "t"));
        records
    };
    let cases: [(Write, &str, Option<Reason>); 9] = [
        (gap, "t", Some(Reason::Unproven)),
        (gap, ":a", None),
        (letter, "u", Some(Reason::Quarantined)),
        (letter, "t", None),
        (of_nobody, ":a", Some(Reason::Quarantined)),
        (of_nobody, "", None),
        (unreadable, ":a", None),
        (half_proven, "u", None),
        (half_proven, "t", Some(Reason::Unproven)),
    ];
    for (index, (write, reload, reason)) in cases.into_iter().enumerate() {
        let (mut reader, mut stream) = following(COMMITTED);
        let records = write(&mut stream);
        read(&mut reader, records);
        catch_up(&mut reader, &stream);
        let before = why(&reader, "a");
        let mut resumed = stop_and_resume(&reader);
        catch_up(&mut resumed, &stream);
        assert_eq!(why(&resumed, "a"), before, "case {index}");
        let records = stream.reload(40, reload);
        read(&mut resumed, records);
        catch_up(&mut resumed, &stream);
        assert_eq!(why(&resumed, "a"), reason, "case {index}");
    }
}

#[test]
fn a_load_that_was_incomplete_is_so_until_progress_that_says_otherwise_is_reached() {
    let (mut reader, mut stream) = following(COMMITTED);
    let mut progress = stream.progress(0);
    progress.load_complete = false;
    reader.handle_progress(&progress, s(0));
    drain(&mut reader);
    let mut resumed = stop_and_resume(&reader);
    stream.time = -5;
    let loaded = stream.commit(20, &["a:loaded"]);
    resumed.handle_progress(&stream.progress(0), s(0));
    resumed.handle_end(resumed.read_to(), s(0));
    drain(&mut resumed);
    assert_eq!(why(&resumed, "a"), Some(Reason::Unproven));
    read(&mut resumed, loaded);
    catch_up(&mut resumed, &stream);
    assert_eq!(why(&resumed, "a"), None);
}

#[test]
fn whose_account_it_is_is_kept() {
    let (mut reader, mut one) = following(COMMITTED);
    let mut two = Stream { source: 2, offset: one.offset, ..Stream::old() };
    let records = two.commit(7, &["b:row"]);
    read(&mut reader, records);
    one.offset = two.offset;
    let mut resumed = stop_and_resume(&reader);
    catch_up(&mut resumed, &one);
    assert_eq!((why(&resumed, "a"), why(&resumed, "b")), (None, Some(Reason::Stale)));
}

#[test]
fn a_record_without_a_place_is_remembered() {
    let (mut reader, mut stream) = following(COMMITTED);
    reader.handle_misplaced(stream.offset, "header version 2".to_owned(), s(0));
    drain(&mut reader);
    stream.offset += 1;
    let mut resumed = stop_and_resume(&reader);
    let mut two = Stream { source: 2, offset: stream.offset, ..Stream::old() };
    let mut records = vec![two.epoch(1, None, "complete: no rows")];
    stream.offset = two.offset;
    records.extend(stream.reload(20, ""));
    read(&mut resumed, records);
    two.offset = stream.offset;
    catch_up(&mut resumed, &stream);
    catch_up(&mut resumed, &two);
    assert_eq!(why(&resumed, "a"), Some(Reason::Quarantined), "it may have been of source 2");
}

#[test]
fn how_young_the_last_record_is_is_kept() {
    let (mut reader, mut stream) = following(COMMITTED);
    stream.time = -5;
    let young = stream.commit(20, &["young"]);
    read(&mut reader, young);
    let mut resumed = stop_and_resume(&reader);
    stream.commit(30, &["aborted"]);
    let given = catch_up(&mut resumed, &stream);
    assert!(given.rebuild.is_none(), "a rebuild would find no more");
    assert_eq!(why(&resumed, "a"), Some(Reason::Stale));
}

#[test]
fn the_hole_that_a_record_without_a_place_leaves_is_excused_after_a_stop_too() {
    let (mut reader, mut stream) = following(COMMITTED);
    stream.time = -5;
    let young = stream.commit(20, &["young"]);
    read(&mut reader, young);
    reader.handle_misplaced(stream.offset, "header version 2".to_owned(), s(0));
    drain(&mut reader);
    let mut resumed = stop_and_resume(&reader);
    stream.commit(30, &["misplaced"]);
    let next = stream.commit(40, &["next"]);
    let given = read(&mut resumed, next);
    assert_eq!((given.words(), given.rebuild), (vec![vec!["next"]], None));
    stream.commit(50, &["lost"]);
    let next = stream.commit(60, &["next"]);
    assert!(read(&mut resumed, next).rebuild.is_some(), "one hole is excused");
}

#[test]
fn what_is_void_is_kept_for_a_later_rebuild() {
    let (_, mut stream) = following(COMMITTED);
    let void = Void { source: 1, after: stream.last, epoch: 2 };
    let mut reader = Partition::rebuild(3, COMMITTED, vec![void], s(0));
    let begin = Some(stream.last);
    let epoch = stream.epoch(2, begin, "complete: promoted");
    read(&mut reader, [epoch]);
    catch_up(&mut reader, &stream);
    let mut resumed = stop_and_resume(&reader);
    stream.commit(20, &["compacted"]);
    let next = stream.commit(30, &["next"]);
    let rebuild = read(&mut resumed, next).rebuild.expect("a rebuild");
    assert_eq!(rebuild.voids, [void]);
}

#[test]
fn another_topic_than_the_checkpoints_means_rebuild() {
    let (reader, stream) = following(COMMITTED);
    let mut resumed = stop_and_resume(&reader);
    let mut progress = stream.progress(0);
    progress.topic_id = "another".to_owned();
    resumed.handle_progress(&progress, s(0));
    assert_eq!(drain(&mut resumed).reason(), Some(&RebuildReason::TopicReplaced));
}

#[test]
fn there_is_nothing_to_go_on_with_during_a_rebuild_or_before_every_output_was_taken() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
    let records = stream.commit(10, &["one"]);
    read(&mut reader, records);
    assert_eq!(reader.resume_point(), None);
    catch_up(&mut reader, &stream);
    assert!(reader.resume_point().is_some());
    let next = stream.commit(20, &["next"]);
    next.into_iter().for_each(|record| reader.handle_record(record, s(0)));
    assert_eq!(reader.resume_point(), None);
    reader.poll_output();
    drain(&mut reader);
    assert!(reader.resume_point().is_some());
    reader.handle_assignment_lost();
    drain(&mut reader);
    assert_eq!(reader.resume_point(), None);
}
