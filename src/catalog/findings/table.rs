//! Captured tables: account, key, identity; and names in the configuration that mean nothing.

use penstock_wire::types::{Decimal, NoDecimal, TypeInfo, ValueKind, builtin};

use super::{Facts, Findings};
use crate::catalog::{Column, Identity, Kind, Persistence, Table};
use crate::config::{ColumnName, Config, quote_identifier};

/// Types whose canonical text can name an account: uuid, text, varchar, int2, int4, int8.
const ACCOUNT_TYPES: [u32; 6] = [2950, 25, 1043, 21, 23, 20];

/// Names that record keys have themselves.
const RESERVED_KEYS: [&str; 2] = ["__account", "__source"];

pub(super) fn check(table: &Table, config: &Config, findings: &mut Findings) {
    let subject = format!("table {}", table.name);
    match table.kind {
        Kind::Ordinary | Kind::Partitioned => {}
        Kind::Foreign => {
            return findings.stop(
                subject,
                "it lives on another server",
                "capture it there; remove it from tables.capture",
            );
        }
        Kind::Other => return findings.stop(subject, "it is not a table", "remove it from tables.capture"),
    }
    check_persistence(table, &subject, findings);
    check_key(table, config, &subject, findings);
    check_account(table, config, &subject, findings);
    check_identity(table, config, &subject, findings);
    check_columns(table, config, &subject, findings);
    check_decimals(table, config, &subject, findings);
}

fn check_persistence(table: &Table, subject: &str, findings: &mut Findings) {
    let leaves = table.partitions.iter().map(|partition| (&partition.name, partition.persistence));
    for (name, persistence) in std::iter::once((&table.name, table.persistence)).chain(leaves) {
        match persistence {
            Persistence::Permanent => {}
            Persistence::Unlogged => {
                let remedy = format!("ALTER TABLE {} SET LOGGED; Or list the table in tables.leave_out", name.to_sql());
                findings.stop(subject, format!("{name} is unlogged: its changes never reach the WAL"), remedy);
            }
            Persistence::Temporary => {
                findings.stop(
                    subject,
                    format!("{name} is temporary: its changes never reach the WAL"),
                    "remove it from tables.capture",
                );
            }
        }
    }
}

fn check_key(table: &Table, config: &Config, subject: &str, findings: &mut Findings) {
    if table.primary_key.is_empty() {
        let remedy =
            format!("ALTER TABLE {} ADD PRIMARY KEY (…); Or list the table in tables.leave_out", table.name.to_sql());
        findings.stop(subject, "it has no primary key: a record's key would be unknown", remedy);
    }
    for name in &table.primary_key {
        if RESERVED_KEYS.contains(&name.as_str()) {
            let remedy = format!("ALTER TABLE {} RENAME COLUMN {} TO …;", table.name.to_sql(), quote_identifier(name));
            findings.stop(
                subject,
                format!("its key column {name} bears a name that record keys have themselves"),
                remedy,
            );
        }
        check_needed(table, config, name, "key", subject, findings);
    }
}

fn check_account(table: &Table, config: &Config, subject: &str, findings: &mut Findings) {
    let names = config.tables.account_columns(&table.name);
    let Some((name, column)) = account_of(table, config) else {
        let newest = names.last().map(String::as_str).unwrap_or_default();
        let near = super::did_you_mean(newest, table.columns.iter().map(|column| column.name.as_str()));
        let name = names.join(" or ");
        let remedy = format!(
            "name the column that tells the account ([tables.{:?}] account_column = \"…\"; if it was renamed, a list: the older name, then the newer), or list the table in tables.leave_out",
            table.name.to_string()
        );
        return findings.stop(subject, format!("it has no account column {name}{near}"), remedy);
    };
    if !ACCOUNT_TYPES.contains(&column.base_oid) {
        let what = format!(
            "its account column {name} is of type {}, under which equal accounts can have different texts",
            column.type_name
        );
        let remedy = "use a column of type uuid, text, varchar, int2, int4 or int8";
        findings.stop(subject, what, remedy);
    }
    if !table.primary_key.iter().any(|key| key == name) {
        check_needed(table, config, name, "account", subject, findings);
    }
}

/// The column that tells the account: the first of its names that the table has by now.
fn account_of<'a>(table: &'a Table, config: &'a Config) -> Option<(&'a str, &'a Column)> {
    let names = config.tables.account_columns(&table.name);
    names.iter().find_map(|name| table.column(name).map(|column| (name.as_str(), column)))
}

/// A column that every record needs must be there, be sent, and count.
fn check_needed(table: &Table, config: &Config, name: &str, role: &str, subject: &str, findings: &mut Findings) {
    let column = table.name.column(name);
    if config.tables.exclude.contains(&column) {
        let what = format!("its {role} column {name} is excluded, and every record needs it");
        findings.stop(subject, what, format!("remove \"{column}\" from tables.exclude"));
    }
    if config.tables.ignore_updates.contains(&column) {
        let what =
            format!("updates of its {role} column {name} are ignored: rows would stay where they no longer belong");
        findings.stop(subject, what, format!("remove \"{column}\" from tables.ignore_updates"));
    }
    if table.column(name).is_some_and(|column| column.generated) {
        findings.stop(
            subject,
            format!("its {role} column {name} is generated, and the stream leaves those out"),
            "use an ordinary column",
        );
    }
}

fn check_identity(table: &Table, config: &Config, subject: &str, findings: &mut Findings) {
    let leaves = table.partitions.iter().filter(|partition| partition.identity != Identity::Full);
    let wanting: Vec<String> = leaves.map(|partition| full(&partition.name)).collect();
    if !table.partitions.is_empty() {
        // The old row is that of the partition, under the partition's own identity.
        if !wanting.is_empty() {
            let what =
                format!("{} of its {} partitions lack REPLICA IDENTITY FULL", wanting.len(), table.partitions.len());
            findings.stop(subject, what, wanting.join(" "));
        }
        if table.identity != Identity::Full {
            findings.stop(
                subject,
                "its own REPLICA IDENTITY is not FULL: later partitions get it from here, and the stream names it",
                full(&table.name),
            );
        }
        return;
    }
    if table.identity == Identity::Full {
        return;
    }
    let mut needed: Vec<&str> = table.primary_key.iter().map(String::as_str).collect();
    if let Some((account, _)) = account_of(table, config).filter(|(name, _)| !needed.contains(name)) {
        needed.push(account);
    }
    let lacking: Vec<&str> = needed.into_iter().filter(|name| !table.identity_holds(name)).collect();
    if !lacking.is_empty() {
        let what = format!(
            "its replica identity lacks {}: a delete or a move would not say which row or account it concerns",
            lacking.join(", ")
        );
        return findings.stop(subject, what, full(&table.name));
    }
    let tolerated =
        |column: &ColumnName| config.tables.exclude.contains(column) || config.tables.accept_unchanged.contains(column);
    let large = table.columns.iter().filter(|column| column.out_of_line && !column.generated);
    let large =
        large.filter(|column| !table.identity_holds(&column.name) && !tolerated(&table.name.column(&column.name)));
    let large: Vec<&str> = large.map(|column| column.name.as_str()).collect();
    if !large.is_empty() {
        let what = format!(
            "large values of {} are not sent again when an update leaves them alone, and its replica identity is not FULL",
            large.join(", ")
        );
        let remedy =
            format!("{} Or list the columns in tables.accept_unchanged, or in tables.exclude", full(&table.name));
        findings.stop(subject, what, remedy);
    }
    if config.tables.ignore_updates.iter().any(|column| column.table == table.name) {
        let what = "without REPLICA IDENTITY FULL nobody can tell what an update changed: tables.ignore_updates has no effect on it";
        findings.warn(subject, what, full(&table.name));
    }
}

fn full(table: &crate::config::TableName) -> String {
    format!("ALTER TABLE {} REPLICA IDENTITY FULL;", table.to_sql())
}

fn check_columns(table: &Table, config: &Config, subject: &str, findings: &mut Findings) {
    let account = account_of(table, config).map(|(name, _)| name);
    let counted = |name: &str| Some(name) == account || table.primary_key.iter().any(|key| key == name);
    let excluded = |name: &str| config.tables.exclude.contains(&table.name.column(name));
    let generated =
        table.columns.iter().filter(|column| column.generated && !counted(&column.name) && !excluded(&column.name));
    for column in generated {
        let what =
            format!("its column {} is generated: the stream leaves it out, and records do not have it", column.name);
        findings.warn(
            subject,
            what,
            format!("list \"{}\" in tables.exclude to say that you know", table.name.column(&column.name)),
        );
    }
}

fn check_decimals(table: &Table, config: &Config, subject: &str, findings: &mut Findings) {
    for chosen in config.tables.decimal.iter().filter(|column| column.table == table.name) {
        if config.tables.exclude.contains(chosen) {
            continue;
        }
        let Some(column) = table.column(&chosen.column) else { continue };
        let info = TypeInfo {
            kind: builtin(column.base_oid).unwrap_or(ValueKind::String),
            pg_type: column.type_name.clone(),
            pg_base: Some(column.base_name.clone()),
        };
        let decimal = match table.primary_key.contains(&column.name) {
            true => Err(NoDecimal::Key),
            false => Decimal::of(&info),
        };
        let Err(reason) = decimal else { continue };
        let mut remedy = format!("remove \"{chosen}\" from tables.decimal");
        if reason == NoDecimal::Undeclared && column.base_oid == column.type_oid {
            let (table, column) = (table.name.to_sql(), quote_identifier(&column.name));
            remedy = format!("ALTER TABLE {table} ALTER COLUMN {column} TYPE numeric(…, …); Or {remedy}");
        }
        findings.stop(subject, format!("its column {} cannot travel as a decimal: {reason}", column.name), remedy);
    }
}

/// Names of columns and tables that the configuration has rules for, and that do not exist.
pub(super) fn check_names(facts: &Facts<'_>, config: &Config, findings: &mut Findings) {
    let wrong = |column: &ColumnName| match facts.tables.get(&column.table) {
        None => Some(format!(
            "{column} is not a column of a captured table{}",
            near_table(facts, &column.table.to_string())
        )),
        Some(table) if table.column(&column.column).is_some() => None,
        Some(table) => {
            let near = super::did_you_mean(&column.column, table.columns.iter().map(|column| column.name.as_str()));
            Some(format!("table {} has no column {}{near}", column.table, column.column))
        }
    };
    for what in config.tables.exclude.difference(&config.tables.accept_absent).filter_map(wrong) {
        // A misspelt name would let a secret out, and so would a column that has another name now.
        findings.stop(
            "tables.exclude",
            what,
            "correct the name; if the column was dropped or renamed, list it in tables.accept_absent, too, and the new name in both",
        );
    }
    for what in config.tables.decimal.difference(&config.tables.accept_absent).filter_map(wrong) {
        // Readers would be promised a decimal and get a string.
        let remedy = "correct the name, or remove it; if the column was renamed or dropped, list it in tables.accept_absent, too";
        findings.stop("tables.decimal", what, remedy);
    }
    for what in config.tables.ignore_updates.iter().filter_map(wrong) {
        findings.warn("tables.ignore_updates", what, "correct the name, or remove it");
    }
    for what in config.tables.accept_unchanged.iter().filter_map(wrong) {
        findings.warn("tables.accept_unchanged", what, "correct the name, or remove it");
    }
    for (table, _) in config.tables.with_own_account_columns() {
        if !facts.tables.contains_key(table) {
            let near = near_table(facts, &table.to_string());
            findings.warn(
                format!("tables.{:?}", table.to_string()),
                format!("there is no such captured table{near}"),
                "correct the name, or remove the section",
            );
        }
    }
}

fn near_table(facts: &Facts<'_>, name: &str) -> String {
    let known: Vec<String> = facts.tables.keys().map(ToString::to_string).collect();
    super::did_you_mean(name, known.iter().map(String::as_str))
}
