//! What a reader that keeps every table holds, against a SELECT, row by row.

use std::collections::BTreeMap;

use penstock_testbed::postgres::Address;
use penstock_wire::control::ControlKind;
use penstock_wire::event::Op;
use penstock_wire::position::Position;

use crate::reader::{Content, Record};
use crate::scene::tell_row;

/// By table: the rows, each told as `(a b c)`, how often which.
pub type Tables = BTreeMap<String, BTreeMap<String, u64>>;

/// A held row: table, where its version stands, account, the row told.
struct Held {
    table: String,
    position: Position,
    account: String,
    told: String,
}

/// Folds the topic by the reading rules; `columns` says what is told of each table's rows.
pub fn fold(records: &[Record], columns: &[(&str, &[&str])]) -> Tables {
    let mut held: BTreeMap<(i32, Vec<u8>), Held> = BTreeMap::new();
    for record in records {
        let (partition, position) = (record.partition, record.header.position);
        match &record.content {
            Content::Tombstone => {}
            Content::Control(control) => {
                let of_table = |held: &Held| control.table.is_empty() || control.table == held.table;
                let of_account = |held: &Held| control.account.as_ref().is_none_or(|account| *account == held.account);
                let bound = match control.kind {
                    ControlKind::Truncate => position,
                    ControlKind::ReloadEnd => control.begin.expect("an end tells its begin"),
                    ControlKind::Epoch | ControlKind::Gap | ControlKind::ReloadBegin | ControlKind::DeadLetter => {
                        continue;
                    }
                };
                held.retain(|(at, _), row| {
                    *at != partition || row.position >= bound || !of_table(row) || !of_account(row)
                });
            }
            Content::Change(envelope) => {
                let key = (partition, record.key.clone());
                if envelope.op == Op::Delete {
                    held.remove(&key);
                    continue;
                }
                let row = envelope.after.as_ref().expect("a row");
                let table = envelope.source.table.clone();
                let (_, columns) = columns.iter().find(|(name, _)| *name == table).expect("a table of the test");
                let told = tell_row(row, columns);
                held.insert(key, Held { table, position, account: record.account.clone(), told });
            }
        }
    }
    let mut tables = Tables::new();
    for row in held.into_values() {
        *tables.entry(row.table).or_default().entry(row.told).or_default() += 1;
    }
    tables
}

/// The same of the tables themselves.
pub fn select(database: &Address, columns: &[(&str, &[&str])]) -> Tables {
    let mut tables = Tables::new();
    for (table, columns) in columns {
        let told =
            columns.iter().map(|column| format!("coalesce({column}::text, 'null')")).collect::<Vec<_>>().join(", ");
        let rows = database.psql(&format!("SELECT '(' || concat_ws(' ', {told}) || ')' FROM {table}")).expect("select");
        for row in rows.lines().filter(|line| !line.is_empty()) {
            *tables.entry((*table).to_owned()).or_default().entry(row.to_owned()).or_default() += 1;
        }
    }
    tables
}

/// Fails with the first rows that differ.
pub fn assert_same(folded: &Tables, selected: &Tables) {
    let empty = BTreeMap::new();
    for table in folded.keys().chain(selected.keys()) {
        let (in_topic, in_table) = (folded.get(table).unwrap_or(&empty), selected.get(table).unwrap_or(&empty));
        let ghosts: Vec<_> = in_topic.iter().filter(|(row, count)| in_table.get(*row) != Some(count)).take(5).collect();
        let lost: Vec<_> = in_table.iter().filter(|(row, count)| in_topic.get(*row) != Some(count)).take(5).collect();
        assert!(
            ghosts.is_empty() && lost.is_empty(),
            "{table}: {} rows in the topic, {} in the table; only in the topic: {ghosts:?}; only in the table: {lost:?}",
            in_topic.len(),
            in_table.len()
        );
    }
}
