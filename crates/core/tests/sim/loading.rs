//! What the shell does for a backfill: each thing that was asked for takes its time, and they overtake each other.

use std::time::Duration;

use penstock_core::backfill::interface::{Ask, ChunkRequest, Description, MARK_PREFIX};
use penstock_core::bridge::Bridge;
use penstock_wire::reload::{ReloadRange, Scope};

use crate::outside::Outside;
use crate::postgres::{Event, Postgres};
use crate::tables::{TABLES, by_name, uuid};

/// Where a chunk that is being read stands.
#[derive(Debug)]
enum Reading {
    Begin(ChunkRequest),
    Marked(ChunkRequest),
    /// Read, under a lock of that number.
    Locked(ChunkRequest, u64),
}

#[derive(Debug, Default)]
pub struct Loader {
    asked: Vec<Ask>,
    reading: Vec<Reading>,
}

impl Loader {
    pub fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Read(request) => self.reading.push(Reading::Begin(request)),
            ask => self.asked.push(ask),
        }
    }

    /// Its connections are closed.
    pub fn abandon(self, postgres: &mut Postgres) {
        for reading in self.reading {
            if let Reading::Locked(_, lock) = reading {
                postgres.unlock(lock);
            }
        }
    }

    /// Does one thing of all that is asked for.
    pub fn step(&mut self, bridge: &mut Bridge, now: Duration, outside: &mut Outside) {
        let all = self.asked.len() + self.reading.len();
        if all == 0 {
            return;
        }
        let chosen = outside.random.below(all);
        match chosen.checked_sub(self.asked.len()) {
            None => {
                let ask = self.asked.swap_remove(chosen);
                self.answer(ask, bridge, now, outside);
            }
            Some(index) => {
                let reading = self.reading.swap_remove(index);
                self.read(reading, bridge, now, outside);
            }
        }
    }

    fn answer(&mut self, ask: Ask, bridge: &mut Bridge, now: Duration, outside: &mut Outside) {
        match ask {
            Ask::Barrier => {
                let xid = outside.postgres.take_xid();
                bridge.handle_barrier(xid, now);
            }
            Ask::Idle(xids) => bridge.handle_idle(outside.postgres.idle(&xids), now),
            Ask::Survey { reload, scope } => bridge.handle_surveyed(&reload, Ok(ranges(&scope, outside)), now),
            Ask::Describe { table } => {
                let definition = &TABLES[by_name(&table.1).expect("a table")];
                let description = Description { relation: definition.relation(), facts: definition.facts() };
                let compiled = bridge.describe_for_backfill(&description.relation, description.facts);
                let compiled = compiled.unwrap_or_else(|fault| panic!("a table was refused: {fault}"));
                let ids = outside.registry.of_table(&compiled);
                bridge.handle_described(table, Ok((compiled, ids)), now);
            }
            Ask::Mark(mark) => write_mark(mark.as_str(), outside),
            Ask::Read(_) => unreachable!("it is read step by step"),
        }
    }

    fn read(&mut self, reading: Reading, bridge: &mut Bridge, now: Duration, outside: &mut Outside) {
        match reading {
            Reading::Begin(request) => {
                write_mark(request.low.as_str(), outside);
                self.reading.push(Reading::Marked(request));
            }
            Reading::Marked(request) if outside.fails(20) => {
                bridge.handle_chunk_failed(request.number, "the connection was lost".to_owned(), now);
            }
            Reading::Marked(request) => {
                let table = by_name(&request.table.1).expect("a table");
                match outside.postgres.lock(table) {
                    Some(lock) => {
                        let chunk = outside.postgres.chunk(&request);
                        let (name, rows) = (TABLES[table].name, chunk.rows.len());
                        outside.say(|| format!("postgres: a chunk of {rows} rows of {name}"));
                        bridge.handle_chunk(chunk, now);
                        self.reading.push(Reading::Locked(request, lock));
                    }
                    None => self.reading.push(Reading::Marked(request)),
                }
            }
            Reading::Locked(request, lock) => {
                write_mark(request.high.as_str(), outside);
                outside.postgres.unlock(lock);
            }
        }
    }
}

/// In a transaction of its own, which waits for no standby.
fn write_mark(content: &str, outside: &mut Outside) {
    outside.commit(vec![Event::Message(MARK_PREFIX.to_owned(), content.to_owned())], true);
}

/// Of each table one range, or two.
fn ranges(scope: &Scope, outside: &mut Outside) -> Vec<ReloadRange> {
    let mut ranges = Vec::new();
    for (table, definition) in TABLES.iter().enumerate() {
        if scope.table.as_ref().is_some_and(|(_, name)| name != definition.name) {
            continue;
        }
        let of = |after: Vec<String>, until: Vec<String>| ReloadRange {
            schema: "public".to_owned(),
            table: definition.name.to_owned(),
            after,
            until,
            ..ReloadRange::default()
        };
        let width = definition.key_width();
        if width == 1 && outside.random.permille(300) {
            let middle = vec![uuid(table, outside.random.below(8))];
            ranges.push(of(Vec::new(), middle.clone()));
            ranges.push(of(middle, Vec::new()));
        } else {
            ranges.push(of(Vec::new(), Vec::new()));
        }
    }
    ranges
}
