//! What a reload has to read: the tables of its scope, parted into ranges of keys.
//!
//! Ranges are read side by side, so a large table becomes several. Where they part decides nothing but how even they are.
//! One account's rows are not parted.

use std::collections::BTreeMap;

use penstock_core::backfill::interface::{ChunkColumn, Surveyed, Unsurveyed};
use penstock_wire::account::GLOBAL;
use penstock_wire::reload::{ReloadRange, Scope};

use super::sql::select_sql;
use crate::catalog::{Catalog, CatalogError, Column, Kind, Table};
use crate::config::{Config, TableName, quote_identifier};
use crate::run::describe;
use crate::schema::captured;

/// A range is worth a worker of its own from so many rows on.
const RANGE_ROWS_MIN: u64 = 50_000;
/// Ranges of a table, for each worker: the last ones to end are then short.
const RANGES_PER_WORKER: usize = 2;

/// The ranges of a scope. Inner errors are final; outer ones may be worth another try.
pub(crate) async fn survey(catalog: &mut Catalog, config: &Config, scope: &Scope) -> Result<Surveyed, CatalogError> {
    let tables = match tables(catalog, config, scope).await? {
        Ok(tables) => tables,
        Err(refused) => return Ok(Err(refused)),
    };
    let mut ranges = Vec::new();
    let mut alien = None;
    for table in tables.values() {
        match of_table(catalog, config, table, scope.account.as_deref()).await? {
            Ok(of_table) => ranges.extend(of_table),
            // A table whose account column cannot hold the account has no rows of it.
            Err(Found::Alien(why)) if scope.table.is_none() => alien = Some(why),
            Err(Found::Alien(why) | Found::Unfit(why)) => return Ok(Err(Unsurveyed::Refused(why))),
        }
    }
    match alien {
        Some(why) if ranges.is_empty() => Ok(Err(Unsurveyed::Refused(why))),
        Some(_) | None => Ok(Ok(ranges)),
    }
}

/// An error that waiting does not mend, for an operator.
pub(super) fn refused(error: &CatalogError) -> String {
    format!("{}; {}", describe(error), error.advice())
}

/// Why a table gives no ranges.
enum Found {
    /// The account's text is no value of its account column.
    Alien(String),
    /// It cannot be read.
    Unfit(String),
}

async fn tables(
    catalog: &mut Catalog,
    config: &Config,
    scope: &Scope,
) -> Result<Result<BTreeMap<TableName, Table>, Unsurveyed>, CatalogError> {
    let mut tables = captured(config, catalog).await?;
    tables.retain(|name, _| config.tables.captures(name));
    let Some((schema, table)) = &scope.table else { return Ok(Ok(tables)) };
    let name = TableName::new(schema, table);
    if let Some(root) = tables.values().find(|root| root.partitions.iter().any(|leaf| leaf.name == name)) {
        return Ok(Err(Unsurveyed::Refused(format!("{name} is a partition of {}: reload that table", root.name))));
    }
    Ok(match tables.remove(&name) {
        Some(table) => Ok(BTreeMap::from([(name, table)])),
        None => Err(Unsurveyed::NotCaptured(format!(
            "{name} is not a captured table: see tables.capture and publication {}",
            config.source.publication
        ))),
    })
}

async fn of_table(
    catalog: &mut Catalog,
    config: &Config,
    table: &Table,
    account: Option<&str>,
) -> Result<Result<Vec<ReloadRange>, Found>, CatalogError> {
    if let Err(found) = fitting(config, table) {
        return Ok(Err(found));
    }
    let account_column = account_column(config, table);
    if let (Some(account), Some(column)) = (account, account_column)
        && let Err(found) = judge_account(catalog, table, &column.base_name, account).await?
    {
        return Ok(Err(found));
    }
    let account = account_column.zip(account).map(|(column, account)| (column.name.as_str(), account));
    let columns = columns(config, table);
    let select = select_sql(&table.name, table.kind == Kind::Partitioned, &columns, account);
    let rows = match catalog.estimated_rows(&select).await {
        Ok(rows) => rows,
        Err(error) if error.sqlstate() == Some("42501") => {
            return Ok(Err(Found::Unfit(format!("{}; {}", describe(&error), grants(config, table)))));
        }
        Err(error) => return Err(error),
    };
    let parts = match account {
        Some(_) => 1,
        None => parts(rows, config.backfill.workers * RANGES_PER_WORKER),
    };
    let keys = if parts > 1 { catalog.parting_keys(table, rows, parts).await? } else { Vec::new() };
    Ok(Ok(ranges(&table.name, keys, rows)))
}

/// The first of the names that the table has.
fn account_column<'a>(config: &Config, table: &'a Table) -> Option<&'a Column> {
    config.tables.account_columns(&table.name).iter().find_map(|name| table.column(name))
}

/// What compiling the table would refuse is told by then; this is what a range needs.
fn fitting(config: &Config, table: &Table) -> Result<(), Found> {
    match table.kind {
        Kind::Ordinary | Kind::Partitioned => {}
        Kind::Foreign | Kind::Other => return Err(Found::Unfit(format!("{} is not a table", table.name))),
    }
    if table.primary_key.is_empty() {
        let what = format!("{} has no primary key, and rows are read in its order; add one", table.name);
        return Err(Found::Unfit(what));
    }
    if account_column(config, table).is_none() {
        let names = config.tables.account_columns(&table.name).join(" or ");
        let what = format!("{} has no account column {names}; see tables.account_column", table.name);
        return Err(Found::Unfit(what));
    }
    Ok(())
}

/// An account is known by its text as Postgres prints it: another way to write the same value names another account.
async fn judge_account(
    catalog: &mut Catalog,
    table: &Table,
    type_name: &str,
    account: &str,
) -> Result<Result<(), Found>, CatalogError> {
    if account == GLOBAL {
        return Ok(Ok(()));
    }
    Ok(match catalog.printed(account, type_name).await? {
        Some(printed) if printed == account => Ok(()),
        Some(printed) => {
            Err(Found::Unfit(format!("account {account:?} is written {printed:?} in {}: ask for that", table.name)))
        }
        None => Err(Found::Alien(format!("account {account:?} is no {type_name}, as {}'s accounts are", table.name))),
    })
}

fn columns(config: &Config, table: &Table) -> Vec<ChunkColumn> {
    let columns = table.columns.iter().filter(|column| !column.generated);
    let column = |name: &String| ChunkColumn {
        name: name.clone(),
        captured: !config.tables.exclude.contains(&table.name.column(name)),
    };
    columns.map(|found| column(&found.name)).collect()
}

fn grants(config: &Config, table: &Table) -> String {
    let role = quote_identifier(&config.source.server.user);
    let columns = columns(config, table);
    let what = match columns.iter().all(|column| column.captured) {
        true => "SELECT".to_owned(),
        false => {
            let captured = columns.iter().filter(|column| column.captured);
            format!("SELECT ({})", captured.map(|column| quote_identifier(&column.name)).collect::<Vec<_>>().join(", "))
        }
    };
    format!(
        "GRANT USAGE ON SCHEMA {} TO {role}; GRANT {what} ON {} TO {role}; where row security applies, also ALTER ROLE \
         {role} BYPASSRLS",
        quote_identifier(&table.name.schema),
        table.name.to_sql(),
    )
}

fn parts(rows: u64, parts_max: usize) -> usize {
    let worth = usize::try_from(rows / RANGE_ROWS_MIN).unwrap_or(usize::MAX);
    worth.clamp(1, parts_max.max(1))
}

/// One range more than there are keys: each holds its last key, and begins behind the last key of the one before.
fn ranges(table: &TableName, keys: Vec<Vec<String>>, rows: u64) -> Vec<ReloadRange> {
    let count = keys.len() as u64 + 1;
    let mut after = Vec::new();
    let ends = keys.into_iter().chain([Vec::new()]);
    let range = |(index, until): (usize, Vec<String>)| ReloadRange {
        schema: table.schema.clone(),
        table: table.table.clone(),
        after: std::mem::replace(&mut after, until.clone()),
        until,
        rows: 0,
        rows_estimated: rows / count + u64::from((index as u64) < rows % count),
        done: false,
    };
    ends.enumerate().map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_without_a_gap() {
        let table = TableName::new("s", "t");
        let key = |text: &str| vec![text.to_owned(), "x".to_owned()];
        let told = |keys: &[&str], rows: u64| {
            let ranges = ranges(&table, keys.iter().map(|text| key(text)).collect(), rows);
            let first = |key: &[String]| key.first().cloned().unwrap_or_default();
            let tell = |range: &ReloadRange| (first(&range.after), first(&range.until), range.rows_estimated);
            ranges.iter().map(tell).collect::<Vec<_>>()
        };
        let text = str::to_owned;
        assert_eq!(told(&[], 7), [(text(""), text(""), 7)]);
        assert_eq!(
            told(&["c", "f"], 8),
            [(text(""), text("c"), 3), (text("c"), text("f"), 3), (text("f"), text(""), 2)]
        );
    }

    #[test]
    fn a_table_is_parted_by_what_is_worth_a_worker() {
        for (rows, workers, expected) in
            [(0, 8, 1), (49_999, 8, 1), (99_999, 8, 1), (100_000, 8, 2), (10_000_000, 8, 8), (u64::MAX, 0, 1)]
        {
            assert_eq!(parts(rows, workers), expected, "{rows}");
        }
    }
}
