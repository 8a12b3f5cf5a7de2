//! The database of a source: what transactions do to rows, and the records that this will lead to.

use std::collections::BTreeMap;
use std::sync::Arc;

use penstock_access::partition::Kind;
use penstock_access::rows::Micros;
use penstock_wire::control::{Control, ControlKind};
use penstock_wire::position::Position;
use penstock_wire::reload::Scope;

use super::bridge::Source;
use super::broker::PARTITIONS;

pub const ACCOUNTS: u8 = 4;
pub const TABLES: [&str; 2] = ["t", "u"];
const KEYS: u8 = 4;

/// What a record tells of a row: its value, or that it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    pub table: u8,
    pub key: u8,
    pub value: Option<u64>,
}

/// Rows by account, table and key.
pub type State = BTreeMap<(Arc<str>, u8, u8), u64>;

/// What a transaction may do: a number each for what, account, table and key.
pub type Deed = (u8, u8, u8, u8);

#[derive(Clone, Debug)]
pub struct Planned {
    pub partition: usize,
    pub seq: u64,
    pub key: String,
    pub account: Option<Arc<str>>,
    pub kind: Kind<Op>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Plain,
    /// Of a reload; these do not come again as they were if they are aborted.
    Begin(u64),
    Chunk(u64),
    End(u64),
}

#[derive(Clone, Debug)]
pub struct Commit {
    pub lsn: u64,
    pub time: Micros,
    pub sort: Sort,
    pub records: Vec<Planned>,
}

/// A state that the database had, from then on.
#[derive(Clone, Debug)]
pub struct Past {
    pub time: Micros,
    pub lsn: u64,
    pub epoch: u32,
    pub state: State,
}

impl Source {
    pub fn account(&self, index: u8) -> Arc<str> {
        format!("s{}a{}", self.number, index % ACCOUNTS).into()
    }

    pub fn accounts_of(&self, partition: usize) -> impl Iterator<Item = Arc<str>> {
        (0..ACCOUNTS)
            .filter(move |index| usize::from(*index) % PARTITIONS == partition)
            .map(|index| self.account(index))
    }

    fn partition_of(&self, account: &str) -> usize {
        (0..PARTITIONS).find(|p| self.accounts_of(*p).any(|one| *one == *account)).expect("an account of this source")
    }

    pub fn remember(&mut self, time: Micros, lsn: u64) {
        self.history.push(Past { time, lsn, epoch: self.epoch, state: self.rows.clone() });
    }

    fn next_lsn(&self) -> u64 {
        let logged = self.wal.last().map_or(1, |commit| commit.lsn);
        10 + logged.max(self.history.last().map_or(1, |past| past.lsn))
    }

    fn append(&mut self, time: Micros, sort: Sort, records: Vec<Planned>) {
        let lsn = self.next_lsn();
        self.wal.push(Commit { lsn, time, sort, records });
        self.remember(time, lsn);
    }

    fn row_key(account: &str, table: u8, key: u8) -> String {
        format!("{account}/{table}/{key}")
    }

    pub fn commit(&mut self, deeds: &[Deed], now: Micros) {
        let mut records = Vec::new();
        for (event, deed) in (0..).zip(deeds) {
            self.perform(*deed, 8 * (1 + event), &mut records);
        }
        self.append(now, Sort::Plain, records);
    }

    fn perform(&mut self, (what, account, table, key): Deed, seq: u64, records: &mut Vec<Planned>) {
        self.counter += 1;
        let (account, other) = (self.account(account), self.account(account + 1 + what % 3));
        let (table, key, value) = (table % 2, key % KEYS, self.counter);
        let place = (Arc::clone(&account), table, key);
        let put = Op { table, key, value: Some(value) };
        let gone = Op { value: None, ..put.clone() };
        let partition = self.partition_of(&account);
        let row = |seq, partition, account: &Arc<str>, kind| {
            let key = Self::row_key(account, table, key);
            Planned { partition, seq, key, account: Some(Arc::clone(account)), kind }
        };
        match what % 32 {
            0..=13 => {
                self.rows.insert(place, value);
                records.push(row(seq, partition, &account, Kind::Row(put)));
            }
            14..=21 => {
                if self.rows.remove(&place).is_some() {
                    records.push(row(seq, partition, &account, Kind::Row(gone.clone())));
                    records.push(row(seq + 1, partition, &account, Kind::Tombstone(gone)));
                }
            }
            22..=25 => {
                if self.rows.remove(&place).is_some() {
                    self.rows.insert((Arc::clone(&other), table, key), value);
                    records.push(row(seq, partition, &account, Kind::Row(gone.clone())));
                    records.push(row(seq + 1, partition, &account, Kind::Tombstone(gone)));
                    let arrival = self.partition_of(&other);
                    records.push(row(seq + 2, arrival, &other, Kind::Row(put)));
                }
            }
            26 | 27 => {
                self.rows.retain(|(_, of, _), _| *of != table);
                let control = Control::truncate("public", TABLES[usize::from(table)]);
                records.extend(self.everywhere(seq, &control));
            }
            28 => {
                self.rows.insert(place, value);
                let kind = Kind::Undecodable { reason: "garbled".to_owned(), row: None };
                records.push(row(seq, partition, &account, kind));
            }
            29 => {
                self.rows.insert(place, value);
                let table = TABLES[usize::from(table)];
                let control = Control::dead_letter("public", table, Some(&account), String::new());
                records.push(self.control(seq, partition, &control));
            }
            30 => {
                self.rows.insert(place, value);
                let control = Control::dead_letter("public", TABLES[usize::from(table)], None, String::new());
                records.extend(self.everywhere(seq, &control));
            }
            _ => records
                .push(Planned { key: format!("{account}/other"), ..row(seq, partition, &account, Kind::Skipped) }),
        }
    }

    pub fn control(&self, seq: u64, partition: usize, control: &Control) -> Planned {
        let Control { kind, schema, table, account, .. } = control;
        let key = format!("{kind:?}/{}/{schema}/{table}/{account:?}", self.number);
        Planned { partition, seq, key, account: None, kind: Kind::Control(control.clone()) }
    }

    fn everywhere(&self, seq: u64, control: &Control) -> Vec<Planned> {
        (0..PARTITIONS).map(|partition| self.control(seq, partition, control)).collect()
    }

    /// Asks for a reload: of everything, a table, an account, or one's rows of a table.
    pub fn reload(&mut self, scope: u8, now: Micros) {
        let table = (scope & 1 != 0).then(|| ("public".to_owned(), TABLES[usize::from(scope >> 2) % 2].to_owned()));
        let account = (scope & 2 != 0).then(|| self.account(scope >> 3).to_string());
        let scope = Scope { table, account };
        let id = self.next_lsn();
        self.reloads.insert(id, (scope.clone(), Position::ZERO));
        let of_account = |name: &str| scope.account.as_ref().is_none_or(|account| account == name);
        let of_table = |table: u8| scope.table.as_ref().is_none_or(|(_, name)| name == TABLES[usize::from(table)]);
        let within = self.rows.iter().filter(|((account, table, _), _)| of_account(account) && of_table(*table));
        let rows = (0..).zip(within).map(|(n, ((account, table, key), value))| Planned {
            partition: self.partition_of(account),
            seq: 8 * (2 + n),
            key: Self::row_key(account, *table, *key),
            account: Some(Arc::clone(account)),
            kind: Kind::Row(Op { table: *table, key: *key, value: Some(*value) }),
        });
        let rows: Vec<Planned> = rows.collect();
        let controls = |kind| {
            let control = Control::reload(kind, &scope, Position::ZERO);
            let mut records = self.everywhere(8, &control);
            records.retain(|one| {
                scope.account.as_deref().is_none_or(|account| self.partition_of(account) == one.partition)
            });
            records
        };
        let (begin, end) = (controls(ControlKind::ReloadBegin), controls(ControlKind::ReloadEnd));
        self.append(now, Sort::Begin(id), begin);
        self.append(now, Sort::Chunk(id), rows);
        self.append(now, Sort::End(id), end);
    }
}
