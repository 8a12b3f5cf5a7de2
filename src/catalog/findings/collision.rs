//! Names that are one and the same in Avro: of two tables, and of two columns of a table.

use std::collections::BTreeMap;

use penstock_wire::name::{avro_name, avro_table_name};

use super::{Facts, Findings};
use crate::catalog::Table;
use crate::config::{Config, TableName, quote_identifier};

pub(super) fn check(facts: &Facts<'_>, config: &Config, findings: &mut Findings) {
    let mut named: BTreeMap<String, &TableName> = BTreeMap::new();
    for table in facts.captured(config) {
        check_columns(table, config, findings);
        let avro = avro_table_name(&table.name.schema, &table.name.table);
        if let Some(other) = named.insert(avro.clone(), &table.name) {
            let what = format!("its records would have the names of {other}'s: both become {avro} in Avro");
            let remedy =
                format!("ALTER TABLE {} RENAME TO …; Or list one of them in tables.leave_out", table.name.to_sql());
            findings.stop(format!("table {}", table.name), what, remedy);
        }
    }
}

fn check_columns(table: &Table, config: &Config, findings: &mut Findings) {
    let mut named: BTreeMap<String, &str> = BTreeMap::new();
    let travels = |name: &str| !config.tables.exclude.contains(&table.name.column(name));
    for column in table.columns.iter().filter(|column| !column.generated && travels(&column.name)) {
        let avro = avro_name(&column.name).into_owned();
        if let Some(other) = named.insert(avro.clone(), &column.name) {
            let what = format!("its columns {other} and {} both become {avro} in Avro", column.name);
            let (name, column) = (table.name.to_sql(), quote_identifier(&column.name));
            let remedy =
                format!("ALTER TABLE {name} RENAME COLUMN {column} TO …; Or list one of them in tables.exclude");
            findings.stop(format!("table {}", table.name), what, remedy);
        }
    }
}
