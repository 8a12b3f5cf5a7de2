//! What the role may read of a captured table.
//!
//! Changes come without any right to SELECT. Rows from before the slot do not: whether there are any, and what they are, only
//! a SELECT tells.

use super::Findings;
use crate::catalog::{Column, Kind, Table};
use crate::config::{Config, quote_identifier};

pub(super) fn check(table: &Table, role: &str, config: &Config, findings: &mut Findings) {
    if !matches!(table.kind, Kind::Ordinary | Kind::Partitioned) {
        return;
    }
    let excluded = |column: &Column| config.tables.exclude.contains(&table.name.column(&column.name));
    let travels = |column: &&Column| !column.generated && !excluded(column);
    if table.schema_usable && table.columns.iter().filter(travels).all(|column| column.readable) {
        return;
    }
    let what = format!("role {role} may not read it, so nobody can tell whether it held rows before the first start");
    let role = quote_identifier(role);
    let usage = match table.schema_usable {
        true => String::new(),
        false => format!("GRANT USAGE ON SCHEMA {} TO {role}; ", quote_identifier(&table.name.schema)),
    };
    // What is excluded is secret: it is not asked for.
    let columns = match table.columns.iter().any(excluded) {
        true => {
            let names = table.columns.iter().filter(travels).map(|column| quote_identifier(&column.name));
            format!(" ({})", names.collect::<Vec<_>>().join(", "))
        }
        false => String::new(),
    };
    let remedy = format!("{usage}GRANT SELECT{columns} ON {} TO {role};", table.name.to_sql());
    findings.warn(format!("table {}", table.name), what, remedy);
}
