//! A replication connection: what the server sends on it, in commit order, and what the client tells the slot.

use std::collections::{BTreeSet, VecDeque};

use penstock_core::bridge::Wal;
use penstock_wire::lsn::{EndLsn, Lsn};

use crate::outside::Outside;
use crate::postgres::{Commit, Event, Postgres};
use crate::random::Random;
use crate::tables::{Row, TABLES};

/// Microseconds from 1970 to 2000, where Postgres counts from.
pub const EPOCH_2000_US: i64 = 946_684_800_000_000;

#[derive(Clone, Debug)]
pub enum Frame {
    Data { start: u64, sent_at_us: i64, payload: Vec<u8> },
    Keepalive { wal_end: u64 },
}

impl Frame {
    pub fn wal(&self) -> Wal<'_> {
        match self {
            Self::Data { start, sent_at_us, payload } => {
                Wal::Data { start: Lsn(*start), sent_at_us: *sent_at_us, payload }
            }
            Self::Keepalive { wal_end } => Wal::Keepalive { wal_end: EndLsn::new(*wal_end) },
        }
    }
}

#[derive(Debug)]
pub struct Connection {
    pub id: u64,
    /// The server still has it.
    pub is_alive: bool,
    /// Sent, and not yet read by the client.
    pub to_client: VecDeque<Frame>,
    /// Status updates that the server has not read: what the slot is told.
    pub to_server: VecDeque<u64>,
    /// The next commit, by index.
    next: usize,
    /// Of the commit that is being sent.
    rest: VecDeque<(u64, Vec<u8>)>,
    /// Everything committed before it is sent.
    sent_to: u64,
    described: BTreeSet<usize>,
}

impl Connection {
    /// Takes the slot: the stream begins at what it was told last.
    pub fn start(id: u64, postgres: &mut Postgres) -> Self {
        assert_eq!(postgres.slot.holder, None, "a slot has one holder");
        postgres.slot.holder = Some(id);
        let confirmed = postgres.slot.confirmed;
        let next = postgres.commits.partition_point(|commit| commit.lsn < confirmed);
        Self {
            id,
            is_alive: true,
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            next,
            rest: VecDeque::new(),
            sent_to: confirmed,
            described: BTreeSet::new(),
        }
    }

    /// The server sends a frame, if there is one to be sent.
    pub fn send(&mut self, postgres: &Postgres, now: i64, random: &mut Random) {
        if !self.is_alive {
            return;
        }
        if self.rest.is_empty() {
            match postgres.commits.get(self.next) {
                Some(commit) if random.permille(850) => self.rest = self.messages(commit, random),
                Some(commit) => {
                    // Up to where the next commit record starts, to the byte.
                    let wal_end = random.between(self.sent_to, commit.lsn);
                    self.to_client.push_back(Frame::Keepalive { wal_end });
                    return;
                }
                None => {
                    self.to_client.push_back(Frame::Keepalive { wal_end: postgres.flushed });
                    self.sent_to = postgres.flushed;
                    return;
                }
            }
        } else if random.permille(60) {
            // In the midst of a transaction, whose commit record was read: it lies behind that.
            let commit = &postgres.commits[self.next];
            self.to_client.push_back(Frame::Keepalive { wal_end: commit.end });
            return;
        }
        if let Some((start, payload)) = self.rest.pop_front() {
            self.to_client.push_back(Frame::Data { start, sent_at_us: now, payload });
        }
        if self.rest.is_empty() {
            self.sent_to = postgres.commits[self.next].end;
            self.next += 1;
        }
    }

    fn messages(&mut self, commit: &Commit, random: &mut Random) -> VecDeque<(u64, Vec<u8>)> {
        let since_2000 = (commit.time_us - EPOCH_2000_US).to_be_bytes();
        let xid = u32::try_from(commit.xid & u64::from(u32::MAX)).expect("32 bits").to_be_bytes();
        let mut messages = VecDeque::new();
        messages.push_back((commit.lsn, [&b"B"[..], &commit.lsn.to_be_bytes(), &since_2000, &xid].concat()));
        for event in &commit.events {
            for table in tables_of(event) {
                // Sent when it is first needed, and again whenever the server's caches were emptied.
                if self.described.insert(table) || random.permille(50) {
                    messages.push_back((0, TABLES[table].relation_message()));
                }
            }
            messages.push_back((commit.row_lsn, message(event)));
        }
        let ends = [commit.lsn.to_be_bytes(), commit.end.to_be_bytes()].concat();
        messages.push_back((commit.lsn, [&b"C\0"[..], &ends, &since_2000].concat()));
        messages
    }

    /// The client sends a status update. Nobody else has the slot as long as the server has this connection; a client that
    /// was given up may say anything.
    pub fn tell(&mut self, durable: u64, outside: &Outside) {
        if self.is_alive {
            outside.checker.confirmed(durable);
        }
        self.to_server.push_back(durable);
    }

    /// The server reads a status update.
    pub fn receive(&mut self, postgres: &mut Postgres) {
        if self.is_alive
            && let Some(told) = self.to_server.pop_front()
        {
            postgres.slot.confirmed = postgres.slot.confirmed.max(told);
        }
    }

    /// The server gives the connection up; the client may not know yet.
    pub fn drop_it(&mut self, postgres: &mut Postgres) {
        self.is_alive = false;
        if postgres.slot.holder == Some(self.id) {
            postgres.slot.holder = None;
        }
    }
}

fn tables_of(event: &Event) -> Vec<usize> {
    match event {
        Event::Insert(table, _) | Event::Update(table, ..) | Event::Delete(table, _) => vec![*table],
        Event::Truncate(tables) => tables.clone(),
        Event::Message(..) => Vec::new(),
    }
}

fn message(event: &Event) -> Vec<u8> {
    let of = |kind: &[u8], table: usize| [kind, &TABLES[table].oid.to_be_bytes()].concat();
    match event {
        Event::Insert(table, row) => [of(b"I", *table), b"N".to_vec(), tuple(row)].concat(),
        Event::Update(table, old, new) => {
            [of(b"U", *table), b"O".to_vec(), tuple(old), b"N".to_vec(), tuple(new)].concat()
        }
        Event::Delete(table, old) => [of(b"D", *table), b"O".to_vec(), tuple(old)].concat(),
        Event::Truncate(tables) => {
            let count = u32::try_from(tables.len()).expect("few tables").to_be_bytes();
            let oids = tables.iter().flat_map(|table| TABLES[*table].oid.to_be_bytes());
            [&b"T"[..], &count, &[0]].concat().into_iter().chain(oids).collect()
        }
        Event::Message(prefix, content) => {
            let length = u32::try_from(content.len()).expect("a short message").to_be_bytes();
            [b"M\x01\0\0\0\0\0\0\0\x01", prefix.as_bytes(), b"\0", &length, content.as_bytes()].concat()
        }
    }
}

fn tuple(row: &Row) -> Vec<u8> {
    let mut bytes = u16::try_from(row.len()).expect("few columns").to_be_bytes().to_vec();
    for cell in row {
        match cell {
            None => bytes.push(b'n'),
            Some(text) => {
                bytes.push(b't');
                bytes.extend(u32::try_from(text.len()).expect("a short value").to_be_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    bytes
}
