//! The database: rows, commits in the WAL, transactions that are not yet visible, and a replication slot.
//!
//! What it keeps of a commit is what a checker may ask: what it did, when, and where it stands.

use std::collections::{BTreeMap, BTreeSet};

use penstock_core::backfill::interface::{Chunk, ChunkRequest};
use penstock_core::backfill::rows::Rows;

use crate::random::Random;
use crate::tables::{Key, Row, TABLES, by_name};

/// Rows by table and key.
pub type State = BTreeMap<(usize, Key), Row>;

/// So that ids wrap around in the midst of a history.
const FIRST_XID: u64 = u32::MAX as u64 - 40;
/// Where the slot begins.
pub const FIRST_LSN: u64 = 1000;

/// Something that a transaction does, as the stream tells it.
#[derive(Clone, Debug)]
pub enum Event {
    Insert(usize, Row),
    /// The old row, and the new one.
    Update(usize, Row, Row),
    Delete(usize, Row),
    Truncate(Vec<usize>),
    /// Prefix and content.
    Message(String, String),
}

/// A transaction in the WAL.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Where its commit record starts, and where it ends.
    pub lsn: u64,
    pub end: u64,
    pub xid: u64,
    pub time_us: i64,
    pub events: Vec<Event>,
    /// Of its rows, which says nothing.
    pub row_lsn: u64,
}

#[derive(Debug)]
pub struct Slot {
    pub confirmed: u64,
    /// The connection that has it.
    pub holder: Option<u64>,
}

#[derive(Debug)]
pub struct Postgres {
    pub commits: Vec<Commit>,
    /// As of the last commit, visible or not.
    pub newest: State,
    visible: State,
    /// Indexes of commits that are not yet visible.
    hidden: Vec<usize>,
    pub slot: Slot,
    /// Where the WAL ends.
    pub flushed: u64,
    next_xid: u64,
    /// Ids of transactions that have begun, and not ended.
    begun: Vec<u64>,
    /// Tables that are locked against TRUNCATE, by the lock's number.
    locks: BTreeMap<u64, usize>,
    next_lock: u64,
}

impl Postgres {
    /// Holds these rows from before the slot.
    pub fn new(rows: State) -> Self {
        Self {
            commits: Vec::new(),
            newest: rows.clone(),
            visible: rows,
            hidden: Vec::new(),
            slot: Slot { confirmed: FIRST_LSN, holder: None },
            flushed: FIRST_LSN,
            next_xid: FIRST_XID,
            begun: Vec::new(),
            locks: BTreeMap::new(),
            next_lock: 0,
        }
    }

    pub fn take_xid(&mut self) -> u64 {
        self.next_xid += 1;
        self.next_xid - 1
    }

    /// The WAL grows by something that nobody captures.
    pub fn write_elsewhere(&mut self, bytes: u64) {
        self.flushed += bytes;
    }

    /// A transaction begins that will commit some time. Few do at once.
    pub fn begin(&mut self) {
        if self.begun.len() < 3 {
            let xid = self.take_xid();
            self.begun.push(xid);
        }
    }

    /// Those of these transactions whose commit has not begun.
    pub fn idle(&self, of: &[u64]) -> Vec<u64> {
        of.iter().copied().filter(|xid| self.begun.contains(xid)).collect()
    }

    /// Whoever has begun ends without a trace.
    pub fn roll_back(&mut self) {
        self.begun.clear();
    }

    /// A transaction commits, one that has begun before or a new one. Unless it is visible at once, its rows are locked until
    /// it is.
    pub fn commit(&mut self, events: Vec<Event>, visible: bool, now: i64, random: &mut Random) -> &Commit {
        let xid = match random.permille(500) && !self.begun.is_empty() {
            true => self.begun.remove(random.below(self.begun.len())),
            false => self.take_xid(),
        };
        events.iter().for_each(|event| apply(&mut self.newest, event));
        if visible {
            events.iter().for_each(|event| apply(&mut self.visible, event));
        } else {
            self.hidden.push(self.commits.len());
        }
        // Often where the last one ended, byte for byte.
        let lsn = self.flushed;
        let end = lsn + random.between(1, 40);
        let row_lsn = lsn.saturating_sub(random.between(0, 60));
        self.flushed = end;
        self.commits.push(Commit { lsn, end, xid, time_us: now, events, row_lsn });
        self.commits.last().expect("it was pushed just now")
    }

    /// A transaction that is not yet visible becomes so. Since its rows are locked until then, the order does not matter.
    pub fn reveal(&mut self, random: &mut Random) {
        if !self.hidden.is_empty() {
            let index = self.hidden.swap_remove(random.below(self.hidden.len()));
            self.commits[index].events.iter().for_each(|event| apply(&mut self.visible, event));
        }
    }

    pub fn reveal_all(&mut self, random: &mut Random) {
        while !self.hidden.is_empty() {
            self.reveal(random);
        }
    }

    fn hidden_events(&self) -> impl Iterator<Item = &Event> {
        self.hidden.iter().flat_map(|index| &self.commits[*index].events)
    }

    /// Whether a row can be had: nobody who touched it is still about to become visible.
    pub fn is_free(&self, table: usize, key: &Key) -> bool {
        let touches = |of: usize, row: &Row| of == table && TABLES[of].key_of(row) == *key;
        !self.hidden_events().any(|event| match event {
            Event::Insert(of, row) | Event::Delete(of, row) => touches(*of, row),
            Event::Update(of, old, new) => touches(*of, old) || touches(*of, new),
            Event::Truncate(tables) => tables.contains(&table),
            Event::Message(..) => false,
        })
    }

    /// Whether a whole table can be had for oneself.
    pub fn is_untouched(&self, table: usize) -> bool {
        let is_locked = self.locks.values().any(|locked| *locked == table);
        !is_locked
            && !self.hidden_events().any(|event| match event {
                Event::Insert(of, _) | Event::Delete(of, _) | Event::Update(of, ..) => *of == table,
                Event::Truncate(tables) => tables.contains(&table),
                Event::Message(..) => false,
            })
    }

    /// Locks a table against TRUNCATE; `None` while somebody who emptied it is about to become visible.
    pub fn lock(&mut self, table: usize) -> Option<u64> {
        let emptied = |event: &Event| matches!(event, Event::Truncate(tables) if tables.contains(&table));
        if self.hidden_events().any(emptied) {
            return None;
        }
        self.next_lock += 1;
        self.locks.insert(self.next_lock, table);
        Some(self.next_lock)
    }

    pub fn unlock(&mut self, lock: u64) {
        self.locks.remove(&lock);
    }

    /// Reads a chunk as Postgres would now.
    pub fn chunk(&self, request: &ChunkRequest) -> Chunk {
        let table = by_name(&request.table.1).expect("a table");
        let definition = &TABLES[table];
        let wanted = |(of, key): &(usize, Key), row: &Row| {
            *of == table
                && (request.after.is_empty() || *key > request.after)
                && (request.until.is_empty() || *key <= request.until)
                && request.account.as_ref().is_none_or(|account| account == definition.account_of(row))
        };
        let found: Vec<&Row> = self.visible.iter().filter(|(key, row)| wanted(key, row)).map(|(_, row)| row).collect();
        let exhausted = found.len() < request.rows_max;
        let mut rows = Rows::new(definition.width());
        for row in found.into_iter().take(request.rows_max) {
            let cells: Vec<&str> = row.iter().map(|cell| cell.as_deref().unwrap_or("\\N")).collect();
            rows.push_line(format!("{}\n", cells.join("\t")).as_bytes()).expect("values without escapes");
        }
        let snapshot = self.snapshot().parse().expect("a snapshot's text");
        Chunk { number: request.number, snapshot, relation: definition.relation(), rows, exhausted }
    }

    /// As `pg_current_snapshot()` prints it: what runs behind the newest that has ended is not listed.
    fn snapshot(&self) -> String {
        let hidden = self.hidden.iter().map(|index| self.commits[*index].xid);
        let open: BTreeSet<u64> = hidden.chain(self.begun.iter().copied()).collect();
        let newest_ended = (FIRST_XID - 1..self.next_xid).rev().find(|xid| !open.contains(xid));
        let xmax = newest_ended.expect("the first is none's") + 1;
        let running: Vec<u64> = open.into_iter().filter(|xid| *xid < xmax).collect();
        let xmin = running.first().copied().unwrap_or(xmax);
        let list: Vec<String> = running.iter().map(u64::to_string).collect();
        format!("{xmin}:{xmax}:{}", list.join(","))
    }
}

/// What an event does to rows.
pub fn apply(rows: &mut State, event: &Event) {
    let key = |table: &usize, row: &Row| (*table, TABLES[*table].key_of(row));
    match event {
        Event::Insert(table, row) => drop(rows.insert(key(table, row), row.clone())),
        Event::Update(table, old, new) => {
            rows.remove(&key(table, old));
            rows.insert(key(table, new), new.clone());
        }
        Event::Delete(table, row) => drop(rows.remove(&key(table, row))),
        Event::Truncate(tables) => rows.retain(|(table, _), _| !tables.contains(table)),
        Event::Message(..) => {}
    }
}
