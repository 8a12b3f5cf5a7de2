//! The publication, and whether it holds what the configuration asks for.

use super::{Facts, Findings};
use crate::catalog::{Kind, Publication};
use crate::config::{Config, TableName, TablePattern, quote_identifier};

pub(super) fn check(facts: &Facts<'_>, config: &Config, findings: &mut Findings) {
    let subject = format!("publication {}", config.source.publication);
    for pattern in &config.tables.capture {
        let found = facts.tables.keys().any(|name| pattern.matches(name));
        if !found {
            let known = facts.tables.keys().map(|name| name.table.as_str());
            let near = match pattern {
                TablePattern::Table(name) => super::did_you_mean(&name.table, known),
                TablePattern::Schema(_) => String::new(),
            };
            findings.stop(
                format!("table {pattern}"),
                format!("there is no such table{near}"),
                "correct tables.capture, or create the table",
            );
        }
    }
    match (facts.publication, facts.slot) {
        (Some(publication), _) => {
            check_operations(publication, &subject, findings);
            check_tables(publication, facts, config, findings);
        }
        (None, None) if config.tables.capture.is_empty() => {
            findings.stop(
                subject,
                "there is no such publication, and nothing tells what to publish",
                "set tables.capture = [\"schema.*\"]",
            );
        }
        (None, None) => findings.left_to_setup(subject, "there is no such publication"),
        (None, Some(slot)) => {
            let what = format!(
                "it is gone, but slot {} is there: a slot does not see a publication that is younger than itself",
                slot.name
            );
            findings.stop(subject, what, "set source.publication to the one the slot was made for; if it was dropped, changes are lost: drop the slot, set up anew and load again");
        }
    }
}

fn check_operations(publication: &Publication, subject: &str, findings: &mut Findings) {
    let name = quote_identifier(&publication.name);
    let operations = [
        ("insert", publication.insert),
        ("update", publication.update),
        ("delete", publication.delete),
        ("truncate", publication.truncate),
    ];
    let missing: Vec<&str> = operations.iter().filter(|(_, sent)| !sent).map(|(operation, _)| *operation).collect();
    if !missing.is_empty() {
        let remedy = format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');");
        findings.stop(subject, format!("it does not send {}", missing.join(", ")), remedy);
    }
    if publication.generated_columns {
        let remedy = format!("ALTER PUBLICATION {name} SET (publish_generated_columns = none);");
        findings.stop(subject, "it sends generated columns, which records do not have", remedy);
    }
    if publication.tables.is_empty() {
        let remedy = format!("ALTER PUBLICATION {name} ADD TABLE …; with the tables to capture");
        findings.stop(subject, "it holds no table", remedy);
    }
}

fn check_tables(publication: &Publication, facts: &Facts<'_>, config: &Config, findings: &mut Findings) {
    let name = quote_identifier(&publication.name);
    for (table, published) in &publication.tables {
        let again = || {
            let table = table.to_sql();
            format!(
                "BEGIN; ALTER PUBLICATION {name} DROP TABLE {table}; ALTER PUBLICATION {name} ADD TABLE {table}; COMMIT;"
            )
        };
        if published.columns.is_some() {
            let what = "it is published with a column list, under which the application's own updates can fail";
            findings.stop(table_subject(table), what, format!("{} To keep columns back, use tables.exclude", again()));
        }
        if let Some(filter) = &published.row_filter {
            findings.stop(table_subject(table), format!("it is published with a row filter: {filter}"), again());
        }
        let is_partition = facts.tables.get(table).is_some_and(|table| table.is_partition);
        if is_partition && !publication.via_root {
            let remedy = format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = true);");
            findings.stop(table_subject(table), "it is a partition, sent as a table of its own", remedy);
        } else if !config.tables.captures(table) {
            let remedy = format!(
                "change tables.capture or tables.leave_out, or: ALTER PUBLICATION {name} DROP TABLE {};",
                table.to_sql()
            );
            findings.stop(table_subject(table), "it is published, but the configuration does not ask for it", remedy);
        }
    }
    for table in facts.tables.values().filter(|table| !publication.tables.contains_key(&table.name)) {
        let wanted = config.tables.captures(&table.name) && matches!(table.kind, Kind::Ordinary | Kind::Partitioned);
        let by_name = wanted && config.tables.capture.contains(&TablePattern::Table(table.name.clone()));
        let by_schema = wanted && !table.is_partition;
        let leaves_published = table.kind == Kind::Partitioned
            && !table.partitions.is_empty()
            && table.partitions.iter().all(|partition| publication.tables.contains_key(&partition.name));
        let remedy = format!("ALTER PUBLICATION {name} ADD TABLE {};", table.name.to_sql());
        let what = "it is not in the publication: its changes are not captured";
        match (by_name, by_schema) {
            _ if leaves_published => {} // Complained about at its partitions.
            (true, _) => findings.stop(table_subject(&table.name), what, remedy),
            (false, true) => findings.warn(table_subject(&table.name), what, remedy),
            (false, false) => {}
        }
    }
}

fn table_subject(table: &TableName) -> String {
    format!("table {table}")
}
