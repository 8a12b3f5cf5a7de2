//! Databases, bridges, a broker that compacts and forgets, and readers that start, stop and lag as they like.
//!
//! After every step, whatever a reader calls known is a state that the database had; a reader that nothing was compacted
//! under holds exactly what the topic told, in whole transactions; and in the end everybody knows everything, also where
//! compaction has taken the end.

mod bridge;
mod broker;
mod database;
mod reader;

use penstock_access::partition::Options;
use penstock_access::rows::Micros;
use proptest::prelude::*;

use crate::stream::{COMMITTED, UNCOMMITTED, s};
use bridge::Source;
use broker::{Broker, PARTITIONS};
use database::Deed;
use reader::Reader;

/// Who reads what, and how.
const READERS: [(usize, Options); 4] = [(0, COMMITTED), (0, UNCOMMITTED), (1, COMMITTED), (1, UNCOMMITTED)];

#[derive(Clone, Debug)]
enum Action {
    Commit {
        source: usize,
        deeds: Vec<Deed>,
    },
    Reload {
        source: usize,
        scope: u8,
    },
    Produce {
        source: usize,
        commits: usize,
        split: Option<usize>,
    },
    Finish {
        source: usize,
        late: u8,
    },
    Abort {
        source: usize,
    },
    Markers {
        source: usize,
    },
    Crash {
        source: usize,
    },
    FailOver {
        source: usize,
        lost: usize,
        gap: bool,
    },
    Heartbeat {
        source: usize,
    },
    /// Milliseconds.
    Advance(i64),
    Compact {
        partition: usize,
        share: u8,
    },
    Lose {
        partition: usize,
        index: usize,
    },
    Read {
        reader: usize,
        records: usize,
        progress: usize,
    },
    ReadAgain {
        reader: usize,
        back: i64,
    },
    Checkpoint {
        reader: usize,
    },
    Resume {
        reader: usize,
    },
    Begin {
        reader: usize,
    },
}

#[derive(Debug)]
struct World {
    broker: Broker,
    sources: Vec<Source>,
    readers: Vec<Reader>,
    now: Micros,
}

impl World {
    fn new(rows_before: [bool; 2]) -> Self {
        let (mut broker, now) = (Broker::default(), s(0));
        let source = |(number, rows_before)| Source::new(number, rows_before, &mut broker, now);
        let sources = [1, 2].into_iter().zip(rows_before).map(source).collect();
        let readers = READERS.map(|(partition, options)| Reader::new(partition, options, &broker, now)).into();
        Self { broker, sources, readers, now }
    }

    fn step(&mut self, action: Action) {
        // No two commits share an instant.
        self.now.0 += 1000;
        let (broker, now) = (&mut self.broker, self.now);
        match action {
            Action::Commit { source, deeds } => self.sources[source].commit(&deeds, now),
            Action::Reload { source, scope } => self.sources[source].reload(scope, now),
            Action::Produce { source, commits, split } => self.sources[source].produce(broker, commits, split),
            Action::Finish { source, late } => self.sources[source].finish(broker, late, now),
            Action::Abort { source } => self.sources[source].abort(broker),
            Action::Markers { source } => self.sources[source].write_markers(broker),
            Action::Crash { source } => self.sources[source].crash(broker, now),
            Action::FailOver { source, lost, gap } => self.sources[source].fail_over(broker, lost, gap, now),
            Action::Heartbeat { source } => self.sources[source].heartbeat(broker, now),
            Action::Advance(ms) => self.now.0 += ms * 1000,
            Action::Compact { partition, share } => broker.logs[partition].compact(now, share),
            Action::Lose { partition, index } => broker.logs[partition].lose(index),
            Action::Read { reader, records, progress } => {
                self.readers[reader].read(broker, &self.sources, (records, progress), now);
            }
            Action::ReadAgain { reader, back } => self.readers[reader].read_again(broker, &self.sources, back, now),
            Action::Checkpoint { reader } => self.readers[reader].keep_checkpoint(),
            Action::Resume { reader } => self.readers[reader].resume(broker, now),
            Action::Begin { reader } => self.readers[reader].begin(Vec::new(), broker, now),
        }
    }

    /// Everything is delivered, what may be in doubt is loaded again.
    fn end(&mut self) {
        for source in &mut self.sources {
            source.reload(0, self.now);
            source.deliver_everything(&mut self.broker, self.now);
        }
        self.settle();
    }

    /// The last thing that every partition is told is a delete, at the end of a transaction that did more, and compaction
    /// takes the delete and its tombstone. Readers begin again, from the beginning and from before the delete.
    fn age(&mut self) {
        const PUT: u8 = 0;
        const DELETE: u8 = 14;
        let first = [(PUT, 0, 0, 0), (PUT, 1, 0, 0)];
        let last = [(PUT, 0, 0, 1), (PUT, 1, 0, 1), (DELETE, 0, 0, 0), (DELETE, 1, 0, 0)];
        for deeds in [&first[..], &last[..]] {
            self.readers.iter_mut().for_each(Reader::keep_checkpoint);
            for source in &mut self.sources {
                self.now.0 += 1000;
                source.commit(deeds, self.now);
                source.deliver_everything(&mut self.broker, self.now);
            }
            self.settle();
        }
        for _ in 0..2 {
            self.now.0 += 6_000_000_000;
            self.broker.logs.iter_mut().for_each(|log| log.compact(self.now, 255));
        }
        self.readers.iter_mut().for_each(|reader| reader.resume(&self.broker, self.now));
        self.settle();
        self.readers.iter_mut().for_each(|reader| reader.begin(Vec::new(), &self.broker, self.now));
        self.settle();
    }

    /// Everybody reads to the end, and then knows everything.
    fn settle(&mut self) {
        let rebuilds: Vec<usize> = self.readers.iter().map(|reader| reader.rebuilds).collect();
        // A reader of what was never committed may find so in every epoch.
        let epochs: usize = self.sources.iter().map(|source| source.epoch as usize).sum();
        for _ in 0..8 + epochs {
            self.now.0 += 1_000_000;
            for source in &mut self.sources {
                source.heartbeat(&mut self.broker, self.now);
            }
            for reader in &mut self.readers {
                reader.read(&self.broker, &self.sources, (usize::MAX, usize::MAX), self.now);
            }
        }
        for (reader, before) in self.readers.iter().zip(rebuilds) {
            reader.check_end(&self.sources, self.now);
            let rebuilds = reader.rebuilds - before;
            assert!(rebuilds <= 2 + epochs, "it was rebuilt {rebuilds} times at the end");
        }
    }
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    // Poison is rare: it hides everything else.
    let what = prop_oneof![20 => 0..28_u8, 1 => 28..32_u8];
    prop::collection::vec((what, 0..4_u8, 0..2_u8, 0..4_u8), 1..6)
}

/// Actions that do not let so much time pass that anything may be compacted.
fn quick_action() -> impl Strategy<Value = Action> {
    let source = || 0..2_usize;
    let reader = || 0..READERS.len();
    prop_oneof![
        8 => (source(), deeds()).prop_map(|(source, deeds)| Action::Commit { source, deeds }),
        1 => (source(), any::<u8>()).prop_map(|(source, scope)| Action::Reload { source, scope }),
        6 => (source(), 0..4_usize, prop::option::weighted(0.2, 0..16_usize))
            .prop_map(|(source, commits, split)| Action::Produce { source, commits, split }),
        6 => (source(), prop_oneof![3 => Just(0), 1 => any::<u8>()])
            .prop_map(|(source, late)| Action::Finish { source, late }),
        1 => source().prop_map(|source| Action::Abort { source }),
        1 => source().prop_map(|source| Action::Markers { source }),
        1 => source().prop_map(|source| Action::Crash { source }),
        2 => source().prop_map(|source| Action::Heartbeat { source }),
        2 => prop::sample::select(vec![200, 1_500, 4_000]).prop_map(Action::Advance),
        10 => (reader(), prop_oneof![1..6_usize, Just(usize::MAX)], prop_oneof![0..3_usize, Just(usize::MAX)])
            .prop_map(|(reader, records, progress)| Action::Read { reader, records, progress }),
        1 => (reader(), 0..12_i64).prop_map(|(reader, back)| Action::ReadAgain { reader, back }),
        2 => reader().prop_map(|reader| Action::Checkpoint { reader }),
        1 => reader().prop_map(|reader| Action::Resume { reader }),
        1 => reader().prop_map(|reader| Action::Begin { reader }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        20 => quick_action(),
        1 => (0..2_usize, 0..3_usize, prop::bool::weighted(0.3))
            .prop_map(|(source, lost, gap)| Action::FailOver { source, lost, gap }),
        3 => prop::sample::select(vec![400_000, 1_200_000, 6_000_000]).prop_map(Action::Advance),
        3 => (0..PARTITIONS, prop_oneof![any::<u8>(), Just(255)])
            .prop_map(|(partition, share)| Action::Compact { partition, share }),
    ]
}

fn lossy_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        30 => quick_action(),
        1 => (0..PARTITIONS, any::<usize>()).prop_map(|(partition, index)| Action::Lose { partition, index }),
    ]
}

fn run(rows_before: [bool; 2], actions: Vec<Action>) {
    let mut world = World::new(rows_before);
    actions.into_iter().for_each(|action| world.step(action));
    world.end();
    world.age();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_a_reader_calls_known_is_what_the_database_held(
        rows_before in any::<[bool; 2]>(),
        actions in prop::collection::vec(action(), 1..150),
    ) {
        run(rows_before, actions);
    }

    #[test]
    fn what_was_lost_is_noticed(
        rows_before in any::<[bool; 2]>(),
        actions in prop::collection::vec(lossy_action(), 1..120),
    ) {
        run(rows_before, actions);
    }
}
