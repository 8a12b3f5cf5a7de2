//! Records gathered until their transaction is whole, and what is made of them then.

use std::collections::BTreeMap;
use std::sync::Arc;

use penstock_wire::control::{Control, ControlKind};
use penstock_wire::lsn::CommitLsn;
use penstock_wire::position::Position;
use penstock_wire::reload::Scope;

use super::record::{Kind, Record};

/// All that a Postgres transaction did in the partition, or all that compaction left of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction<T> {
    /// The source's number.
    pub source: u16,
    /// Of its last record that was read.
    pub position: Position,
    /// When Postgres committed it, milliseconds since 1970.
    pub time_ms: i64,
    /// The offset behind its last record that was read.
    pub next_offset: i64,
    /// What concerns one account, in the order in which it happened; by account.
    pub accounts: BTreeMap<Arc<str>, Vec<Entry<T>>>,
    /// What concerns every account of the source in this partition, in the order in which it happened.
    pub everyone: Vec<Entry<T>>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<T> {
    pub position: Position,
    /// For reports: where its record stands.
    pub offset: i64,
    pub effect: Effect<T>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect<T> {
    Row(T),
    Tombstone(T),
    /// Rows of the table whose version is older than the entry's position are gone.
    Truncate {
        schema: String,
        table: String,
    },
    /// Rows of the scope whose version is older than `begin` are gone.
    Sweep {
        scope: Scope,
        begin: Position,
    },
}

/// What the transaction says about what is known, beside its rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Notice {
    /// Changes before this may be missing.
    Doubt(Position),
    Poison(Poison),
    /// A reload has ended.
    Reloaded(Scope, Position),
}

/// A record that cannot be read, or a row that could not be delivered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Poison {
    pub(super) offset: i64,
    pub(super) position: Position,
    /// None: it may be anybody's.
    pub(super) account: Option<Arc<str>>,
    /// Schema and table, if they are known.
    pub(super) table: Option<(String, String)>,
    pub(super) reason: String,
    /// The bridge could not deliver it. Else it is this reader that cannot read it.
    pub(super) dead_letter: bool,
}

/// Records of a transaction whose end was not yet seen.
#[derive(Clone, Debug)]
pub(super) struct Held<T> {
    records: Vec<Record<T>>,
    bytes: usize,
    /// Its flag was read, and still it is not known to be whole.
    pub(super) flagged: bool,
}

impl<T> Held<T> {
    pub(super) fn new() -> Self {
        Self { records: Vec::new(), bytes: 0, flagged: false }
    }

    pub(super) fn push(&mut self, record: Record<T>) {
        self.bytes += record.bytes;
        self.records.push(record);
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn first(&self) -> Option<&Record<T>> {
        self.records.first()
    }

    pub(super) fn last(&self) -> Option<&Record<T>> {
        self.records.last()
    }

    /// Epoch and commit of the transaction.
    pub(super) fn commit(&self) -> Option<(u32, CommitLsn)> {
        let first = self.first()?.header.position;
        Some((first.epoch, first.commit_lsn))
    }

    /// Drops records above a position: they were never written again.
    pub(super) fn cut_above(&mut self, position: Position) {
        self.records.retain(|record| record.header.position <= position);
        self.bytes = self.records.iter().map(|record| record.bytes).sum();
    }

    /// The transaction is whole. What it says of rows, and what it says of what is known.
    pub(super) fn into_whole(self) -> Option<(Transaction<T>, Vec<Notice>)> {
        let last = self.records.last()?;
        let mut transaction = Transaction {
            source: last.header.source,
            position: last.header.position,
            time_ms: last.timestamp_ms,
            next_offset: last.offset + 1,
            accounts: BTreeMap::new(),
            everyone: Vec::new(),
        };
        let mut notices = Vec::new();
        for record in self.records {
            transaction.take(record, &mut notices);
        }
        Some((transaction, notices))
    }
}

impl<T> Transaction<T> {
    /// What an account has to do, whether rows of it were touched or not, in the order in which it happened.
    pub fn entries(&self, account: &str) -> impl Iterator<Item = &Entry<T>> {
        let own = self.accounts.get(account).map_or(&[][..], Vec::as_slice);
        let (mut own, mut everyone) = (own.iter().peekable(), self.everyone.iter().peekable());
        std::iter::from_fn(move || match (own.peek(), everyone.peek()) {
            (Some(one), Some(all)) if all.position < one.position => everyone.next(),
            (Some(_), _) => own.next(),
            (None, _) => everyone.next(),
        })
    }

    fn take(&mut self, record: Record<T>, notices: &mut Vec<Notice>) {
        let Record { offset, header, account, kind, .. } = record;
        let position = header.position;
        let poison = |account, reason: &str| {
            let reason = reason.to_owned();
            Notice::Poison(Poison { offset, position, account, table: None, reason, dead_letter: false })
        };
        let entry = |effect| Entry { position, offset, effect };
        match (kind, account) {
            (Kind::Row(row), Some(account)) => self.put(account, entry(Effect::Row(row))),
            (Kind::Tombstone(row), Some(account)) => self.put(account, entry(Effect::Tombstone(row))),
            (Kind::Row(_) | Kind::Tombstone(_), None) => notices.push(poison(None, "a row of no account")),
            (Kind::Skipped, _) => {}
            (Kind::Undecodable { reason, row }, account) => {
                notices.push(poison(account.clone(), &reason));
                // An older version must not go on granting what this one may have taken.
                if let (Some(row), Some(account)) = (row, account) {
                    self.put(account, entry(Effect::Tombstone(row)));
                }
            }
            (Kind::Control(control), _) => match self.control(control, position, offset) {
                Ok(notice) => notices.extend(notice),
                Err((account, reason)) => notices.push(poison(account, reason)),
            },
        }
    }

    fn put(&mut self, account: Arc<str>, entry: Entry<T>) {
        self.accounts.entry(account).or_default().push(entry);
    }

    /// On an error: whose, and what is wrong with it.
    fn control(
        &mut self,
        control: Control,
        position: Position,
        offset: i64,
    ) -> Result<Option<Notice>, (Option<Arc<str>>, &'static str)> {
        let Control { kind, schema, table, account, begin, detail } = control;
        let account = account.map(Arc::<str>::from);
        // A scope that is wider than what was meant would clear what nobody has read again.
        if table.is_empty() && !schema.is_empty() {
            return Err((account, "a schema without a table"));
        }
        let named = (!table.is_empty()).then_some((schema, table));
        match kind {
            ControlKind::Truncate => {
                let (schema, table) = named.ok_or((None, "a truncate of no table"))?;
                self.everyone.push(Entry { position, offset, effect: Effect::Truncate { schema, table } });
                Ok(None)
            }
            ControlKind::Epoch if begin.is_none() && position.epoch > 1 => {
                Err((None, "an epoch that does not say what it follows"))
            }
            ControlKind::Epoch => {
                // Only the word itself is trusted to say that nothing is missing.
                let complete = detail.is_some_and(|detail| detail.starts_with("complete:"));
                Ok((!complete).then_some(Notice::Doubt(position)))
            }
            ControlKind::Gap => Ok(Some(Notice::Doubt(position))),
            ControlKind::ReloadBegin => Ok(None),
            ControlKind::ReloadEnd => {
                let begin = begin.filter(|begin| *begin < position);
                let begin = begin.ok_or_else(|| (account.clone(), "the end of a reload that did not begin before"))?;
                let scope = Scope { table: named, account: account.as_deref().map(str::to_owned) };
                let entry = Entry { position, offset, effect: Effect::Sweep { scope: scope.clone(), begin } };
                match account {
                    Some(account) => self.put(account, entry),
                    None => self.everyone.push(entry),
                }
                Ok(Some(Notice::Reloaded(scope, begin)))
            }
            ControlKind::DeadLetter => {
                let reason = detail.unwrap_or_default();
                Ok(Some(Notice::Poison(Poison { offset, position, account, table: named, reason, dead_letter: true })))
            }
        }
    }
}
