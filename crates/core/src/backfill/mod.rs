//! Backfill: rows that the stream does not bring, read in chunks and merged into it in their place.
//!
//! ```text
//! requested ─ survey ─▶ begin mark ─▶ reload_begin ─▶ chunk, chunk, … ─▶ end mark ─▶ reload_end ─▶ done
//! chunk:  low mark ── lock, snapshot, rows ── high mark
//!            └──── keys the stream touches ────┘ their rows are dropped; the rest stands at the high mark
//! ```
//!
//! **What makes a chunk right.** Whatever was delivered before its low mark is visible to its snapshot ([`visibility`]);
//! what comes between the marks is remembered by key, and wins; what comes behind the high mark stands behind the rows. A
//! TRUNCATE, a DDL or another shape between the marks voids it. A chunk that is void is read again between new marks.
//!
//! **What makes a reload right.** Between `reload_begin` and `reload_end` every row of the scope comes again, from a chunk
//! or because the stream touched it; so at the end a reader may delete what is older than the begin.
//!
//! How far reloads have come is sealed with the transaction that brings the rows ([`Remembered`]), so that progress and
//! rows are one Kafka transaction. Marks carry the session's name: after a restart those of the one before mean nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use penstock_wire::column::Column;
use penstock_wire::lsn::EndLsn;
use penstock_wire::position::Position;
use penstock_wire::progress::Progress;
use penstock_wire::reload::{Reload, ReloadState, Scope};

use crate::limits::Limits;
use crate::pgoutput::Relation;
use crate::relation::{Rules, Table};

pub mod interface;
pub(crate) mod place;
mod read;
mod reloads;
pub mod request;
pub mod rows;
mod schedule;
pub mod snapshot;
mod visibility;

use interface::{Ask, Chunk, Mark, Surveyed, Undescribed, Unsurveyed};
use read::Read;
use reloads::Reloads;
pub(crate) use reloads::reopen;
pub use reloads::{FIRST_LOAD, Remembered};
use visibility::{Doubt, Visibility};

/// A chunk that was void, or could not be read, is read again after this, and after twice as long each time …
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// … but never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a mark that has come stands for.
#[derive(Debug)]
pub(crate) enum Due {
    /// The reload of this id begins here.
    Begin(String, Scope),
    /// The rows of a chunk stand here.
    Rows(Box<Placed>),
    /// The reload of this id ends here; it began there.
    End(String, Scope, Position),
}

/// A valid chunk, and the table its rows are encoded by.
#[derive(Debug)]
pub(crate) struct Placed {
    read: Read,
    chunk: Chunk,
    table: Table,
    row_bytes: usize,
}

#[derive(Debug)]
enum Purpose {
    Begin(String),
    Low(u64),
    High(u64),
    End(String),
}

#[derive(Debug)]
enum Described {
    Asked,
    /// With what a row of the last chunk had, in bytes.
    Ready(Box<Table>, usize),
}

/// When a range, or a reload, may be read on.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    not_before: Duration,
    failures: u32,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Backfill {
    session: String,
    reloads: Reloads,
    marks: u64,
    expected: BTreeMap<Mark, Purpose>,
    /// By id: whether the answer has come.
    surveyed: BTreeMap<String, bool>,
    tables: BTreeMap<(String, String), Described>,
    reads: BTreeMap<u64, Read>,
    ranges: BTreeMap<(String, usize), Pace>,
    rates: BTreeMap<String, Duration>,
    visibility: Visibility,
    /// A chunk was refused because of transactions whose sessions may be idle.
    asks_idle: bool,
    waits: Option<String>,
}

impl Backfill {
    /// Goes on with what progress remembers. `session` is a name that no session had before.
    pub(crate) fn new(progress: &Progress, session: String) -> Self {
        Self {
            session,
            reloads: Reloads::new(progress),
            marks: 0,
            expected: BTreeMap::new(),
            surveyed: BTreeMap::new(),
            tables: BTreeMap::new(),
            reads: BTreeMap::new(),
            ranges: BTreeMap::new(),
            rates: BTreeMap::new(),
            visibility: Visibility::default(),
            asks_idle: false,
            waits: None,
        }
    }

    pub(crate) fn reloads(&self) -> &[Reload] {
        self.reloads.all()
    }

    /// Why no chunk of a live reload is accepted, if none is.
    pub(crate) fn waits(&self) -> Option<&str> {
        self.waits.as_deref()
    }

    /// What the transaction that ends now makes durable.
    pub(crate) fn remembered(&mut self) -> Arc<Remembered> {
        self.reloads.remembered()
    }

    pub(crate) fn tables(&mut self) -> impl Iterator<Item = &mut Table> {
        self.tables.values_mut().filter_map(|described| match described {
            Described::Ready(table, _) => Some(&mut **table),
            Described::Asked => None,
        })
    }

    /// Everything, unless that is under way or somebody decided against it.
    pub(crate) fn load_everything(&mut self) {
        self.reloads.load_everything();
    }

    /// The first load was decided against.
    pub(crate) fn decline_load(&mut self) {
        self.reloads.decline_load();
    }

    /// A table has to be read again, because of something the stream does not tell.
    /// `place` names where.
    pub(crate) fn reload_table(&mut self, table: (String, String), place: &str, why: &str) {
        self.reads.values_mut().filter(|read| read.table == table).for_each(|read| read.void("the table was altered"));
        self.reloads.reload_table(table, place, why);
    }

    /// An operator's message; `place` names a reload that has no name of its own.
    pub(crate) fn request(&mut self, content: &[u8], place: String) {
        if let Some(cancelled) = self.reloads.request(content, place) {
            self.forget(&cancelled);
        }
    }

    /// Whatever was under way for a reload means nothing any more.
    fn forget(&mut self, id: &str) {
        self.reads.retain(|_, read| read.reload != id);
        let reads = &self.reads;
        self.expected.retain(|_, purpose| match purpose {
            Purpose::Begin(reload) | Purpose::End(reload) => reload != id,
            Purpose::Low(number) | Purpose::High(number) => reads.contains_key(number),
        });
        self.ranges.retain(|(reload, _), _| reload != id);
        self.rates.remove(id);
        self.surveyed.remove(id);
    }

    fn refuse(&mut self, id: &str, why: String) {
        self.reloads.change(id, |reload| (reload.state, reload.detail) = (ReloadState::Refused, why));
        self.forget(id);
    }

    pub(crate) fn handle_barrier(&mut self, xid: u64) {
        self.visibility.barrier(xid);
    }

    pub(crate) fn handle_idle(&mut self, xids: Vec<u64>) {
        self.visibility.excuse(xids);
    }

    pub(crate) fn handle_surveyed(&mut self, id: &str, surveyed: Surveyed) {
        self.surveyed.insert(id.to_owned(), true);
        match surveyed {
            Ok(ranges) => self.reloads.change(id, |reload| {
                if reload.begin == Position::ZERO {
                    reload.ranges = ranges;
                }
            }),
            Err(Unsurveyed::NotCaptured(why) | Unsurveyed::Refused(why)) => self.refuse(id, why),
        }
    }

    pub(crate) fn handle_described(&mut self, name: &(String, String), described: Result<Table, Undescribed>) {
        match described {
            Ok(table) => {
                self.tables.insert(name.clone(), Described::Ready(Box::new(table), 0));
            }
            Err(Undescribed::Gone) => {
                self.tables.remove(name);
                self.reloads.table_is_gone(name);
            }
            Err(Undescribed::Refused(why)) => {
                self.tables.remove(name);
                self.reloads.reading(name).iter().for_each(|id| self.refuse(id, why.clone()));
            }
        }
    }

    /// The rows between two marks, before the second of them was written.
    pub(crate) fn handle_chunk(&mut self, chunk: Chunk) {
        if let Some(read) = self.reads.get_mut(&chunk.number) {
            read.chunk = Some(chunk);
        }
    }

    pub(crate) fn handle_chunk_failed(&mut self, number: u64, why: String, now: Duration) {
        if let Some(read) = self.reads.remove(&number) {
            self.again(&read, why, now);
        }
    }

    /// A transaction was delivered.
    pub(crate) fn delivered(&mut self, xid: u32) {
        self.reads.values_mut().for_each(|read| read.delivered(xid));
        if !self.visibility.delivered(xid) {
            self.reads.values_mut().for_each(|read| read.void("too many transactions were delivered meanwhile"));
        }
    }

    /// Whether records between marks are of interest.
    pub(crate) fn watches(&self) -> bool {
        !self.reads.is_empty()
    }

    /// A record about this key was put.
    pub(crate) fn touch(&mut self, oid: u32, key: &[u8]) {
        self.reads.values_mut().for_each(|read| read.touch(oid, key));
    }

    /// A table was emptied, altered or replaced: a chunk between its marks says nothing sure of it.
    pub(crate) fn void(&mut self, oid: u32, why: &'static str) {
        self.reads.values_mut().for_each(|read| read.void_if(oid, why));
    }

    /// The stream describes a table; between two marks it must be the one the chunk was read of.
    pub(crate) fn reshaped(&mut self, relation: &Relation) {
        let name = (relation.schema.clone(), relation.table.clone());
        let same = match self.tables.get(&name) {
            Some(Described::Ready(table, _)) => is_same(&table.relation, relation),
            Some(Described::Asked) | None => false,
        };
        if !same {
            self.void(relation.id, "the table's shape changed meanwhile");
        }
    }

    /// A mark has come. What it stands for; `None` if it is another session's, or of something given up.
    pub(crate) fn mark(&mut self, content: &[u8], now: Duration) -> Option<Due> {
        let content = std::str::from_utf8(content).ok()?;
        match self.expected.remove(&Mark(content.to_owned()))? {
            Purpose::Begin(id) => self.reloads.live(&id).map(|reload| Due::Begin(id, reload.scope.clone())),
            Purpose::Low(number) => {
                self.reads.get_mut(&number)?.opens();
                None
            }
            Purpose::High(number) => {
                let read = self.reads.remove(&number)?;
                self.placed(read, now).map(|placed| Due::Rows(Box::new(placed)))
            }
            Purpose::End(id) => self.reloads.live(&id).map(|reload| Due::End(id, reload.scope.clone(), reload.begin)),
        }
    }

    /// Takes what a valid chunk needs; what is not valid is read again.
    fn placed(&mut self, mut read: Read, now: Duration) -> Option<Placed> {
        let Some(chunk) = read.chunk.take() else {
            self.again(&read, "its high mark came before its rows".to_owned(), now);
            return None;
        };
        let doubt = self.visibility.is_ready().then(|| self.visibility.judge(&chunk.snapshot, &read.must_see));
        let doubt = match (read.is_void(), doubt) {
            (Some(why), _) => Some(why.to_owned()),
            (None, None) => Some("what was delivered before is not known any more".to_owned()),
            (None, Some(Err(Doubt::Unseen(xid)))) => {
                Some(format!("transaction {xid} is delivered, and not yet visible to others"))
            }
            (None, Some(Err(Doubt::Blocked(xid)))) => {
                self.asks_idle = true;
                Some(format!("transaction {xid} ran before this began, and neither ended nor was seen idle since"))
            }
            (None, Some(Ok(()))) => None,
        };
        if let Some(why) = doubt {
            self.again(&read, why, now);
            return None;
        }
        match self.tables.remove(&read.table) {
            Some(Described::Ready(table, row_bytes)) if table.relation == chunk.relation => {
                Some(Placed { read, chunk, table: *table, row_bytes })
            }
            Some(Described::Asked) => {
                self.tables.insert(read.table.clone(), Described::Asked);
                self.again(&read, "the table is being described anew".to_owned(), now);
                None
            }
            // Described again before the next chunk.
            Some(Described::Ready(..)) | None => {
                self.again(&read, "the table changed its shape".to_owned(), now);
                None
            }
        }
    }

    /// The range is read again, later.
    fn again(&mut self, read: &Read, why: String, now: Duration) {
        self.expected.retain(|mark, _| !read.marks.contains(mark));
        let pace = self.ranges.entry((read.reload.clone(), read.range)).or_default();
        let pause = FIRST_PAUSE.saturating_mul(1 << pace.failures.min(10)).min(LONGEST_PAUSE);
        *pace = Pace { not_before: now + pause, failures: pace.failures + 1 };
        self.waits = Some(format!("{}.{}: {why}", read.table.0, read.table.1));
    }

    /// The rows of a chunk have been put: the range goes on behind the last of them.
    pub(crate) fn accepted(&mut self, placed: Placed, rows_per_second: u64, now: Duration) {
        let Placed { read, chunk, table, mut row_bytes } = placed;
        let rows = chunk.rows.len();
        let last = rows.checked_sub(1).map(|row| key_of(&chunk, row, &table.key));
        if let Some(bytes) = chunk.rows.bytes().checked_div(rows) {
            row_bytes = bytes;
        }
        self.tables.insert(read.table.clone(), Described::Ready(Box::new(table), row_bytes));
        self.ranges.remove(&(read.reload.clone(), read.range));
        self.waits = None;
        let mut rate = rows_per_second;
        self.reloads.change(&read.reload, |reload| {
            if reload.rows_per_second > 0 {
                rate = reload.rows_per_second;
            }
            if let Some(range) = reload.ranges.get_mut(read.range) {
                range.rows += rows as u64;
                range.done = chunk.exhausted;
                range.after = last.unwrap_or_default();
            }
        });
        if rate > 0 {
            let pause = Duration::from_secs_f64(rows as f64 / rate as f64);
            let next = self.rates.entry(read.reload).or_default();
            *next = (*next).max(now) + pause;
        }
    }

    /// The `reload_begin` stands at this position.
    pub(crate) fn begun(&mut self, id: &str, at: Position) {
        self.reloads.begun(id, at);
    }

    /// The `reload_end` stands at this position. `durable` is what a start can no longer go back behind.
    pub(crate) fn ended(&mut self, id: &str, at: Position, durable: EndLsn) {
        self.reloads.ended(id, at, durable);
        self.forget(id);
    }

    /// What to do next.
    pub(crate) fn asks(&mut self, limits: &Limits, rules: &Rules, now: Duration) -> Vec<Ask> {
        if self.reloads.is_idle() {
            self.visibility.sleep();
            self.waits = None;
            return Vec::new();
        }
        schedule::asks(self, limits, rules, now)
    }
}

/// The key of a row, column by column, as Postgres prints it.
fn key_of(chunk: &Chunk, row: usize, key: &[usize]) -> Vec<String> {
    let mut columns = Vec::new();
    chunk.rows.read(row, &mut columns);
    let text = |index: &usize| match columns[*index] {
        Column::Text(text) => String::from_utf8(text.to_vec()).expect("the encoder has taken the key as UTF-8"),
        Column::Null | Column::Unchanged | Column::Binary(_) => unreachable!("the encoder has taken the key as text"),
    };
    key.iter().map(text).collect()
}

/// Whether rows of both are encoded alike. The identity says nothing about that.
fn is_same(one: &Relation, other: &Relation) -> bool {
    let columns = |relation: &Relation| -> Vec<(String, u32, i32)> {
        let column =
            |column: &crate::pgoutput::RelationColumn| (column.name.clone(), column.type_oid, column.type_modifier);
        relation.columns.iter().map(column).collect()
    };
    (one.id, &one.schema, &one.table) == (other.id, &other.schema, &other.table) && columns(one) == columns(other)
}
