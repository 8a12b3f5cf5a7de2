//! As of when, and for how long, what was read is believed.

use penstock_access::knowledge::{Knowledge, Reason};
use penstock_access::partition::{Options, ProblemKind};
use penstock_access::rows::Micros;

use super::stream::{COMMITTED, Reader, Stream, catch_up, drain, following, read, rebuild, s, why};

fn as_of(reader: &Reader) -> Option<Micros> {
    match reader.knowledge("a", s(0)) {
        Knowledge::Known { as_of } => Some(as_of),
        Knowledge::Unknown { as_of, .. } => as_of,
    }
}

#[test]
fn what_was_read_is_believed_until_the_clock_behind_it_is_too_old() {
    // Clock of progress, when it came, until when (exclusively) it is believed; in seconds.
    for (clock, received, until) in [(0, 0, 10), (-4, 0, 6), (-10, 0, 0), (-60, 0, -50), (3600, 0, 10), (2, 1, 11)] {
        let (mut reader, stream) = following(COMMITTED);
        reader.handle_progress(&stream.progress(clock), s(received));
        drain(&mut reader);
        let known = |at: Micros| matches!(reader.knowledge("a", at), Knowledge::Known { .. });
        assert_eq!(known(s(received)), until > received, "clock {clock}");
        assert!(known(Micros(s(until).0 - 1)), "clock {clock}");
        assert!(!known(s(until)), "clock {clock}");
    }
}

#[test]
fn silence_is_told_once_at_the_deadline_and_so_is_its_end() {
    let (mut reader, stream) = following(COMMITTED);
    assert_eq!(reader.next_deadline(), Some(s(10)));
    reader.handle_time(Micros(s(10).0 - 1));
    assert_eq!(drain(&mut reader).learned, 0);
    reader.handle_time(s(10));
    assert_eq!(drain(&mut reader).learned, 1);
    assert_eq!(reader.next_deadline(), None, "time alone changes nothing any more");
    reader.handle_time(s(11));
    assert_eq!(drain(&mut reader).learned, 0);
    reader.handle_progress(&stream.progress(12), s(12));
    assert_eq!(drain(&mut reader).learned, 1);
    reader.handle_progress(&stream.progress(13), s(13));
    assert_eq!(drain(&mut reader).learned, 0, "a clock that goes on is no news");
    assert_eq!(reader.next_deadline(), Some(s(23)));
}

#[test]
fn progress_counts_only_once_its_records_are_read() {
    let (mut reader, mut stream) = following(COMMITTED);
    stream.time = -1;
    let mut records = stream.commit(20, &["one"]);
    let first = stream.progress(1);
    records.extend(stream.commit(30, &["two"]));
    let second = stream.progress(2);
    reader.handle_progress(&first, s(0));
    reader.handle_progress(&second, s(0));
    drain(&mut reader);
    assert_eq!(as_of(&reader), Some(s(0)));
    let last = records.pop();
    read(&mut reader, records);
    assert_eq!(as_of(&reader), Some(s(1)));
    read(&mut reader, last);
    assert_eq!(as_of(&reader), Some(s(2)));
}

#[test]
fn a_reader_that_is_always_a_little_behind_is_fresh() {
    // Progress comes with every Kafka transaction, and of several with the same clock the first is reached first.
    let (mut reader, mut stream) = following(COMMITTED);
    stream.time = -1;
    let mut behind = std::collections::VecDeque::new();
    for commit in 0..5000_u64 {
        behind.extend(stream.commit(100 + commit, &["row"]));
        reader.handle_progress(&stream.progress((commit / 500) as i64), s((commit / 500) as i64));
        if behind.len() > 1500 {
            reader.handle_record(behind.pop_front().expect("a record"), s((commit / 500) as i64));
        }
        drain(&mut reader);
    }
    assert_eq!(as_of(&reader), Some(s(6)));
}

#[test]
fn nothing_is_known_before_the_end_was_reached_once() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
    let records = stream.commit(10, &["one"]);
    read(&mut reader, records);
    reader.handle_progress(&stream.progress(0), s(0));
    drain(&mut reader);
    assert_eq!(why(&reader, "a"), Some(Reason::Rebuilding));
    reader.handle_end(stream.offset, s(0));
    drain(&mut reader);
    assert_eq!(why(&reader, "a"), None);
}

#[test]
fn every_source_counts_for_its_own_accounts_and_all_for_those_never_met() {
    let (mut reader, mut one) = following(COMMITTED);
    let mut two = Stream { source: 2, offset: one.offset, ..Stream::old() };
    let records = two.commit(7, &["b:row"]);
    read(&mut reader, records);
    one.offset = two.offset;
    catch_up(&mut reader, &one);
    assert_eq!((why(&reader, "a"), why(&reader, "b")), (None, Some(Reason::Stale)), "source 2 was not heard of");
    assert_eq!(why(&reader, "never met"), Some(Reason::Stale));
    reader.handle_progress(&two.progress(-3), s(0));
    drain(&mut reader);
    assert_eq!((why(&reader, "b"), why(&reader, "never met")), (None, None));
    assert_eq!(reader.knowledge("never met", s(0)), Knowledge::Known { as_of: s(-3) });
    assert_eq!(reader.knowledge("a", s(8)), Knowledge::Known { as_of: s(0) });
    let stale = Knowledge::Unknown { reason: Reason::Stale, as_of: Some(s(-3)) };
    assert_eq!((reader.knowledge("b", s(8)), reader.knowledge("never met", s(8))), (stale, stale));
}

#[test]
fn a_source_is_not_rebuilt_before_its_progress_is_known() {
    let mut reader = rebuild(COMMITTED);
    let (mut one, mut two) = (Stream::old(), Stream { source: 2, ..Stream::old() });
    let mut records = one.commit(50, &["a:one"]);
    two.offset = one.offset;
    records.extend(two.commit(20, &["b:two"]));
    one.offset = two.offset;
    read(&mut reader, records);
    catch_up(&mut reader, &one);
    assert_eq!(why(&reader, "a"), Some(Reason::Rebuilding));
    catch_up(&mut reader, &two);
    assert_eq!(why(&reader, "a"), None);
}

#[test]
fn progress_without_the_partition_says_nothing() {
    let (mut reader, mut stream) = (rebuild(COMMITTED), Stream::old());
    let records = stream.commit(10, &["one"]);
    read(&mut reader, records);
    reader.handle_end(stream.offset, s(0));
    let mut progress = stream.progress(0);
    progress.partitions[0].partition = 4;
    reader.handle_progress(&progress, s(0));
    let given = drain(&mut reader);
    assert_eq!(given.problems, [ProblemKind::NoEntry { source_number: 1 }]);
    assert_eq!(why(&reader, "a"), Some(Reason::Rebuilding));
}

#[test]
fn clocks_beyond_all_bounds_overflow_nothing() {
    for clock in [i64::MIN, i64::MAX] {
        let (mut reader, stream) = following(Options { stale_after: std::time::Duration::MAX, ..COMMITTED });
        let mut progress = stream.progress(0);
        progress.postgres_clock_us = clock;
        reader.handle_progress(&progress, Micros(i64::MAX));
        drain(&mut reader);
        reader.handle_time(Micros(i64::MIN));
        drain(&mut reader);
        assert!(reader.next_deadline().is_some());
    }
}
