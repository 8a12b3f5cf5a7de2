//! A Postgres with one table, whose commits are in the WAL before they are visible, if a test says so.

use std::collections::{BTreeMap, BTreeSet};

use penstock_core::backfill::interface::{Chunk, ChunkRequest, MARK_PREFIX};
use penstock_core::backfill::rows::Rows;
use penstock_core::pgoutput::{self, Message, Relation};

use crate::world::{self, insert_note};

/// Account and note of each row, by id.
pub type Table = BTreeMap<u32, (String, String)>;

/// So that ids wrap around in the midst of a history.
const FIRST_XID: u64 = u32::MAX as u64 - 20;

/// What a transaction does to the table.
#[derive(Clone, Debug)]
pub enum Change {
    Put(u32, &'static str, String),
    /// From one key to another.
    Rekey(u32, u32),
    Delete(u32),
    Truncate,
}

#[derive(Debug)]
struct Transaction {
    commit: u64,
    end: u64,
    xid: u32,
    messages: Vec<Vec<u8>>,
    effect: Effect,
    visible: bool,
}

/// Rows put and rows removed.
#[derive(Clone, Debug, Default)]
struct Effect {
    emptied: bool,
    removed: BTreeSet<u32>,
    put: Table,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Database {
    transactions: Vec<Transaction>,
    next_lsn: u64,
    next_xid: u64,
    held: Vec<u64>,
}

impl Database {
    /// Holds these rows from before any slot.
    pub fn new(rows: Table) -> Self {
        let effect = Effect { put: rows, ..Effect::default() };
        let (commit, end, xid, messages, visible) = (1, 2, 3, Vec::new(), true);
        let before = Transaction { commit, end, xid, messages, effect, visible };
        Self { transactions: vec![before], next_lsn: 100, next_xid: FIRST_XID, held: Vec::new() }
    }

    /// The rows, visible or not.
    pub fn newest(&self) -> Table {
        self.table(|_| true)
    }

    /// The rows as of a commit, visible or not.
    pub fn at(&self, commit: u64) -> Table {
        self.table(|transaction| transaction.commit <= commit)
    }

    /// What a snapshot taken now sees.
    fn visible(&self) -> Table {
        self.table(|transaction| transaction.visible)
    }

    fn table(&self, seen: impl Fn(&Transaction) -> bool) -> Table {
        let mut rows = Table::new();
        for Transaction { effect, .. } in self.transactions.iter().filter(|transaction| seen(transaction)) {
            if effect.emptied {
                rows.clear();
            }
            rows.retain(|id, _| !effect.removed.contains(id));
            rows.extend(effect.put.clone());
        }
        rows
    }

    /// An id for a transaction that ends at once.
    pub fn take_xid(&mut self) -> u64 {
        self.next_xid += 1;
        self.next_xid - 1
    }

    /// An id for a transaction that does nothing and never ends.
    pub fn hold_xid(&mut self) {
        let xid = self.take_xid();
        self.held.push(xid);
    }

    /// A row vanishes, and no record tells of it.
    pub fn forget(&mut self, id: u32) {
        self.transactions.iter_mut().for_each(|transaction| {
            transaction.effect.put.remove(&id);
        });
    }

    /// Rows that a transaction may touch: a lock is held until its holder is visible.
    fn is_free(&self, change: &Change) -> bool {
        let mut held = self.transactions.iter().filter(|transaction| !transaction.visible).map(|held| &held.effect);
        let touches =
            |effect: &Effect, id: &u32| effect.emptied || effect.removed.contains(id) || effect.put.contains_key(id);
        match change {
            Change::Truncate => held.next().is_none(),
            Change::Put(id, ..) | Change::Delete(id) => !held.any(|effect| touches(effect, id)),
            Change::Rekey(from, to) => !held.any(|effect| touches(effect, from) || touches(effect, to)),
        }
    }

    /// Commits changes; those whose rows are locked are left out.
    pub fn commit(&mut self, changes: &[Change], visible: bool) {
        let (mut effect, mut messages) = (Effect::default(), vec![world::relation()]);
        let mut rows = self.newest();
        for change in changes.iter().filter(|change| self.is_free(change)) {
            match change {
                Change::Put(id, account, note) => {
                    let new = ((*account).to_owned(), note.clone());
                    messages.push(match rows.insert(*id, new.clone()) {
                        None => insert_note(&id.to_string(), Some(account), note),
                        Some(old) => update((*id, &old), (*id, &new)),
                    });
                    effect.put.insert(*id, new);
                }
                Change::Rekey(from, to) if rows.contains_key(from) && !rows.contains_key(to) => {
                    let row = rows.remove(from).expect("it is there");
                    messages.push(update((*from, &row), (*to, &row)));
                    effect.put.remove(from);
                    effect.removed.insert(*from);
                    rows.insert(*to, row.clone());
                    effect.put.insert(*to, row);
                }
                Change::Delete(id) => {
                    let Some(old) = rows.remove(id) else { continue };
                    messages.push([b"D\0\0\x40\0O".to_vec(), tuple(*id, &old)].concat());
                    effect.put.remove(id);
                    effect.removed.insert(*id);
                }
                Change::Truncate => {
                    rows.clear();
                    messages.push(world::truncate());
                    effect = Effect { emptied: true, ..Effect::default() };
                }
                Change::Rekey(..) => {}
            }
        }
        self.append(messages, effect, visible);
    }

    /// A logical message in a transaction of its own.
    pub fn message(&mut self, prefix: &str, content: &str) {
        let mut bytes = b"M\x01".to_vec();
        bytes.extend(7_u64.to_be_bytes());
        bytes.extend_from_slice(prefix.as_bytes());
        bytes.push(0);
        bytes.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(content.as_bytes());
        self.append(vec![bytes], Effect::default(), true);
    }

    pub fn mark(&mut self, content: &str) {
        self.message(MARK_PREFIX, content);
    }

    fn append(&mut self, messages: Vec<Vec<u8>>, effect: Effect, visible: bool) {
        let commit = self.next_lsn;
        let end = commit + 10;
        self.next_lsn = end;
        let xid = u32::try_from(self.take_xid() & u64::from(u32::MAX)).unwrap();
        self.transactions.push(Transaction { commit, end, xid, messages, effect, visible });
    }

    /// The oldest commit that is not yet visible becomes so.
    pub fn reveal(&mut self) {
        if let Some(hidden) = self.transactions.iter_mut().find(|transaction| !transaction.visible) {
            hidden.visible = true;
        }
    }

    /// The messages of the first transaction that commits at or behind `from`, and its end.
    pub fn read(&self, from: u64) -> Option<(Vec<Vec<u8>>, u64)> {
        let next = self.transactions.iter().find(|transaction| transaction.commit >= from.max(100))?;
        let mut messages = vec![world::begin(next.commit, next.xid)];
        messages.extend(next.messages.iter().cloned());
        messages.push(world::commit(next.commit, next.end));
        Some((messages, next.end))
    }

    /// Whether a table lock can be had: nobody who emptied the table is still about to become visible.
    pub fn is_lockable(&self) -> bool {
        self.transactions.iter().all(|transaction| transaction.visible || !transaction.effect.emptied)
    }

    /// Reads a chunk as Postgres would now.
    pub fn chunk(&self, request: &ChunkRequest) -> Chunk {
        let bound = |key: &[String]| key.first().map(|id| id.parse::<u32>().unwrap());
        let (after, until) = (bound(&request.after), bound(&request.until));
        let wanted = |(id, (account, _)): &(u32, (String, String))| {
            after.is_none_or(|after| *id > after)
                && until.is_none_or(|until| *id <= until)
                && request.account.as_ref().is_none_or(|wanted| wanted == account)
        };
        let found: Vec<_> = self.visible().into_iter().filter(wanted).take(request.rows_max).collect();
        let mut rows = Rows::new(3);
        for (id, (account, note)) in &found {
            rows.push_line(format!("{id}\t{account}\t{note}\n").as_bytes()).unwrap();
        }
        let exhausted = found.len() < request.rows_max;
        Chunk { number: request.number, snapshot: self.snapshot().parse().unwrap(), relation: shape(), rows, exhausted }
    }

    /// Ids that were given and whose transactions have not ended, but for those behind the newest that has.
    fn snapshot(&self) -> String {
        let wide = |xid: u32| u64::from(xid) + if u64::from(xid) >= FIRST_XID { 0 } else { 1 << 32 };
        let hidden = self.transactions[1..].iter().filter(|transaction| !transaction.visible);
        let open: BTreeSet<u64> = hidden.map(|hidden| wide(hidden.xid)).chain(self.held.iter().copied()).collect();
        let newest_ended = (FIRST_XID..self.next_xid).rev().find(|id| !open.contains(id)).unwrap_or(FIRST_XID);
        let xmax = newest_ended + 1;
        let running: Vec<u64> = open.into_iter().filter(|id| *id < xmax).collect();
        let xmin = running.first().copied().unwrap_or(xmax);
        let list: Vec<String> = running.iter().map(u64::to_string).collect();
        format!("{xmin}:{xmax}:{}", list.join(","))
    }
}

/// The table as the stream describes it. Ids are text there; all have as many digits, so that their order is the numbers'.
pub fn shape() -> Relation {
    match pgoutput::decode(&world::relation()).unwrap() {
        Message::Relation(relation) => relation,
        other => panic!("{other:?}"),
    }
}

fn tuple(id: u32, (account, note): &(String, String)) -> Vec<u8> {
    world::tuple(&[Some(&id.to_string()), Some(account), Some(note)])
}

fn update((old_id, old): (u32, &(String, String)), (new_id, new): (u32, &(String, String))) -> Vec<u8> {
    [b"U\0\0\x40\0O".to_vec(), tuple(old_id, old), b"N".to_vec(), tuple(new_id, new)].concat()
}
