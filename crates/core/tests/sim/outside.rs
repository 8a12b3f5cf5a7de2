//! All that processes have around them: servers, network, registry, time, chance, and who watches.

use std::collections::BTreeMap;

use penstock_core::relation::Table;
use penstock_wire::control::{Control, ControlKey};
use penstock_wire::partition::Partitioner;
use penstock_wire::progress::Progress;

use crate::broker::{Broker, PARTITIONS, PROGRESS};
use crate::checker::Checker;
use crate::postgres::{Event, Postgres};
use crate::producer::Request;
use crate::random::Random;
use crate::truth::Truth;

/// When a run begins: microseconds since 1970.
pub const BEGIN_US: i64 = 1_700_000_000_000_000;

pub struct Outside {
    pub postgres: Postgres,
    pub broker: Broker,
    pub network: Vec<Request>,
    pub registry: Registry,
    pub checker: Checker,
    pub truth: Truth,
    pub random: Random,
    /// Microseconds since 1970.
    pub now: i64,
    /// Numbers connections.
    pub connections: u64,
    /// Nothing fails any more.
    pub is_calm: bool,
    /// The database held rows before the slot was made.
    pub had_rows: bool,
    trace: Option<Vec<String>>,
}

/// Schemas by their ids.
#[derive(Debug, Default)]
pub struct Registry {
    ids: BTreeMap<String, u32>,
    texts: BTreeMap<u32, String>,
}

impl Registry {
    pub fn new() -> Self {
        let mut registry = Self::default();
        for schema in [ControlKey::schema(), Control::schema(), Progress::schema()] {
            registry.register(schema);
        }
        registry
    }

    pub fn register(&mut self, schema: &str) -> u32 {
        let next = u32::try_from(self.ids.len()).expect("few schemas") + 1;
        let id = *self.ids.entry(schema.to_owned()).or_insert(next);
        self.texts.insert(id, schema.to_owned());
        id
    }

    pub fn of_table(&mut self, table: &Table) -> (u32, u32) {
        (self.register(table.plan.key_schema()), self.register(table.plan.envelope_schema()))
    }

    pub fn schema(&self, id: u32) -> Option<&str> {
        self.texts.get(&id).map(String::as_str)
    }
}

impl Outside {
    pub fn new(postgres: Postgres, random: Random, traced: bool) -> Self {
        let truth = Truth::new(&postgres.newest, BEGIN_US);
        Self {
            postgres,
            broker: Broker::new(),
            network: Vec::new(),
            registry: Registry::new(),
            checker: Checker::new(partitioner()),
            truth,
            random,
            now: BEGIN_US,
            connections: 0,
            is_calm: false,
            had_rows: false,
            trace: traced.then(Vec::new),
        }
    }

    /// So many times in a thousand, unless nothing fails any more.
    pub fn fails(&mut self, permille: usize) -> bool {
        !self.is_calm && self.random.permille(permille)
    }

    pub fn commit(&mut self, events: Vec<Event>, visible: bool) {
        let commit = self.postgres.commit(events, visible, self.now, &mut self.random);
        self.checker.committed(commit);
        self.truth.committed(commit);
        let (lsn, end, xid, events) = (commit.lsn, commit.end, commit.xid, commit.events.len());
        self.say(|| format!("postgres: commit {lsn}..{end} xid {xid}, {events} events, visible {visible}"));
    }

    /// What a record was written to, whoever wrote it.
    pub fn written(&mut self, place: usize) {
        let stored = self.broker.logs[place].stored.last().expect("it was written just now");
        let offset = stored.offset;
        if place == PROGRESS {
            self.say(|| format!("broker: progress at {offset}"));
            return;
        }
        let position = stored.record.header().position;
        self.checker.written(place, &stored.record);
        self.say(|| format!("broker: {position} at {place}/{offset}"));
    }

    pub fn write_marker(&mut self) {
        let Some(place) = self.broker.write_marker(&mut self.random) else { return };
        self.say(|| format!("broker: marker in {place}"));
        if place < PARTITIONS {
            self.checker.readable(place, &self.broker.logs[place]);
        }
    }

    pub fn say(&mut self, line: impl FnOnce() -> String) {
        let now = self.now - BEGIN_US;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:>12} {}", line()));
        }
    }

    pub fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }
}

pub fn partitioner() -> Partitioner {
    Partitioner::new(u32::try_from(PARTITIONS).expect("few partitions")).expect("a partition count")
}
