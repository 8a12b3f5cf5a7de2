//! That what happens is counted and handed out. What happens is the replica's, which is tested elsewhere.

use std::time::Duration;

use penstock_wire::partition::Partitioner;
use penstock_wire::position::Position;
use penstock_wire::progress::Progress;
use uuid::Uuid;

use super::*;
use crate::knowledge::Reason;
use crate::partition;
use crate::replica::{Options, RawRecord};

fn shared() -> Shared {
    let partition = partition::Options {
        isolation: partition::Isolation::ReadCommitted,
        stale_after: Duration::from_secs(10),
        compaction_lag: Duration::ZERO,
        tombstone_retention: Duration::from_secs(3_600),
    };
    let partitions = Partitioner::new(1).expect("partitions");
    let options = Options { account: Default::default(), partition, names: Default::default(), partitions };
    let shared = Shared::new("changes", Replica::new(options), Metrics::new());
    shared.with(|replica, now| replica.assign(0, now));
    shared
}

#[track_caller]
fn assert_counted(shared: &Shared, series: &str) {
    let text = shared.metrics.text();
    assert!(text.contains(&format!("\npenstock_access_{series}\n")), "{series} is not in\n{text}");
}

/// A progress record of a topic with this id.
fn progress(topic_id: &str) -> Progress {
    Progress { source_number: 1, epoch: 1, topic_id: topic_id.to_owned(), ..Progress::default() }
}

#[test]
fn problems_and_rebuilds_are_counted_by_their_kinds() {
    let shared = shared();
    let record =
        RawRecord { partition: 0, offset: 3, timestamp_ms: 0, header: None, is_control: false, key: b"k", value: None };
    shared.with(|replica, now| replica.handle_record(&record, now)).expect("no schema is needed");
    assert_counted(&shared, "problems_total{kind=\"no_header\"} 1");
    assert_counted(&shared, "rebuilds_total{why=\"topic_replaced\"} 0");
    shared.with(|replica, now| replica.handle_progress(&progress("one"), now));
    shared.with(|replica, now| replica.handle_progress(&progress("another"), now));
    // Once by the old reading, and once by the new one, which is told what was heard last.
    assert_counted(&shared, "problems_total{kind=\"no_entry\"} 2");
    assert_counted(&shared, "rebuilds_total{why=\"topic_replaced\"} 1");
    assert!(matches!(shared.lock().to_read.get(&0), Some(Begin::First)), "it is read again");
}

#[test]
fn a_channel_that_is_not_read_overflows_once_and_is_opened_anew() {
    let shared = shared();
    let subscriber = Subscriber::Gateway { id: Uuid::nil(), token: None };
    let (number, _) = shared.lock().open(None, subscriber);
    shared.hand_out(&mut shared.lock());
    assert_counted(&shared, "pushes_total{push=\"stale\"} 1");
    let first = *shared.lock().by_channel.first_key_value().expect("it is open").0;
    let push = || Event::Push(Message { at: Position::ZERO, deadline: None, push: Push::NotAssigned {} });
    let overflows = (0..2 * QUEUE_MAX).filter(|_| shared.lock().tell(first, push())).count();
    assert_eq!(overflows, 1);
    // What waited is dropped, and it begins anew, as another channel, once its reader comes.
    assert!(matches!(shared.lock().next(number), Next::Nothing));
    shared.hand_out(&mut shared.lock());
    let next = shared.lock().next(number);
    let is_stale = |message: &Message| matches!(message.push, Push::Stale { reason: Reason::Rebuilding, .. });
    assert!(matches!(&next, Next::Message(message) if is_stale(message)), "{next:?}");
    assert_ne!(*shared.lock().by_channel.first_key_value().expect("it is open").0, first);
}

/// Half of what a transaction does may be done by then.
#[test]
fn behind_a_panic_nothing_is_known_and_every_channel_is_over() {
    let shared = shared();
    let (number, _) = shared.lock().open(None, Subscriber::Gateway { id: Uuid::nil(), token: None });
    let reason = shared.with(|replica, now| replica.doubt("a", now));
    assert_eq!(reason, Some(Reason::Rebuilding));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        shared.with(|_, _| panic!("in the middle of something"));
    }));
    assert!(panicked.is_err());
    for _ in 0..2 {
        let reason = shared.with(|replica, now| replica.doubt("a", now));
        assert_eq!(reason, Some(Reason::NotAssigned));
    }
    assert!(shared.has_ended.load(Ordering::Relaxed));
    let mut engine = shared.lock();
    let mut next = std::iter::from_fn(|| match engine.next(number) {
        Next::Over => None,
        next => Some(next),
    });
    assert!(next.by_ref().take(10).count() < 10, "the channel ends");
}
