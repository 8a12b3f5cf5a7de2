//! The statement that reads a chunk.
//!
//! Values come from the database itself, as its types print them, and go back as literals of the columns' exact types:
//! quoted here, whatever is in them. A column that is not captured is not in the statement, so that nothing secret is read
//! and no right to it is needed.

use penstock_core::backfill::interface::{ChunkColumn, ChunkRequest};
use penstock_wire::account::GLOBAL;

use crate::catalog::from_sql;
use crate::catalog::relation::Described;
use crate::config::{TableName, quote_identifier, quote_literal};

/// The request does not fit the table as it is now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A key column is gone.
    #[error("the table has no column {0}")]
    Column(String),
    /// A bound of the range has another number of columns than the key.
    #[error("a range bound with {found} columns where the key has {expected}")]
    Bound {
        /// Of the key.
        expected: usize,
        /// Of the bound.
        found: usize,
    },
}

/// `COPY (SELECT …) TO STDOUT`: at most `rows_max` rows of the range, in key order.
pub(super) fn copy_sql(request: &ChunkRequest, described: &Described) -> Result<String, Unfit> {
    let table = TableName::new(&request.table.0, &request.table.1);
    let mut conditions = account_conditions(request.account.as_deref(), &request.account_column);
    let types = key_types(request, described)?;
    for (operator, bound) in [(">", &request.after), ("<=", &request.until)] {
        if !bound.is_empty() {
            conditions.push(beyond(&request.key, &types, operator, bound)?);
        }
    }
    let order = request.key.iter().map(|name| of_row(name)).collect::<Vec<_>>().join(", ");
    Ok(format!(
        "COPY (SELECT {} FROM {}{} ORDER BY {order} LIMIT {}) TO STDOUT",
        list_sql(&request.columns),
        from_sql(&table, described.partitioned),
        where_sql(&conditions),
        request.rows_max,
    ))
}

/// What a chunk reads, without its range: for the planner to estimate.
pub(super) fn select_sql(
    table: &TableName,
    partitioned: bool,
    columns: &[ChunkColumn],
    account: Option<(&str, &str)>,
) -> String {
    // The planner knows how often a value occurs, not what a condition on its text does.
    let condition = account.map(|(column, account)| match account {
        GLOBAL => format!("{} IS NULL", of_row(column)),
        account => format!("{} = {}", of_row(column), quote_literal(account)),
    });
    let conditions: Vec<String> = condition.into_iter().collect();
    format!("SELECT {} FROM {}{}", list_sql(columns), from_sql(table, partitioned), where_sql(&conditions))
}

/// Accounts are equal where their texts are: a collation may think otherwise. The first condition is for an index.
fn account_conditions(account: Option<&str>, column: &str) -> Vec<String> {
    let column = of_row(column);
    match account {
        None => Vec::new(),
        Some(GLOBAL) => vec![format!("{column} IS NULL")],
        Some(account) => {
            let literal = quote_literal(account);
            vec![format!("{column} = {literal}"), format!("{column}::text COLLATE \"C\" = {literal}")]
        }
    }
}

/// By key column, its type as SQL takes it.
fn key_types<'a>(request: &ChunkRequest, described: &'a Described) -> Result<Vec<&'a str>, Unfit> {
    let type_of = |name: &String| {
        let column = described.relation.columns.iter().position(|column| column.name == *name);
        let type_name = column.and_then(|index| described.types.get(index)).map(String::as_str);
        type_name.ok_or_else(|| Unfit::Column(name.clone()))
    };
    request.key.iter().map(type_of).collect()
}

/// A comparison of rows, which an index on the key answers.
fn beyond(key: &[String], types: &[&str], operator: &str, bound: &[String]) -> Result<String, Unfit> {
    if bound.len() != key.len() {
        return Err(Unfit::Bound { expected: key.len(), found: bound.len() });
    }
    let columns: Vec<String> = key.iter().map(|name| of_row(name)).collect();
    let literals = bound.iter().zip(types).map(|(text, type_name)| format!("{}::{type_name}", quote_literal(text)));
    let literals: Vec<String> = literals.collect();
    Ok(format!("({}) {operator} ({})", columns.join(", "), literals.join(", ")))
}

fn list_sql(columns: &[ChunkColumn]) -> String {
    let value = |column: &ChunkColumn| if column.captured { of_row(&column.name) } else { "NULL".to_owned() };
    columns.iter().map(value).collect::<Vec<_>>().join(", ")
}

fn where_sql(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

fn of_row(column: &str) -> String {
    format!("r.{}", quote_identifier(column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_core::backfill::interface::Mark;
    use penstock_core::pgoutput::{Relation, RelationColumn, ReplicaIdentity};

    fn described(columns: &[(&str, &str)], partitioned: bool) -> Described {
        let column = |(name, _): &(&str, &str)| RelationColumn {
            in_identity: true,
            name: (*name).to_owned(),
            type_oid: 0,
            type_modifier: -1,
        };
        Described {
            relation: Relation {
                id: 1,
                schema: "s".to_owned(),
                table: "t".to_owned(),
                identity: ReplicaIdentity::Full,
                columns: columns.iter().map(column).collect(),
            },
            partitioned,
            types: columns.iter().map(|(_, type_name)| (*type_name).to_owned()).collect(),
        }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn request(after: &[&str], until: &[&str], account: Option<&str>) -> ChunkRequest {
        let column = |name: &str, captured| ChunkColumn { name: name.to_owned(), captured };
        ChunkRequest {
            number: 1,
            table: ("s".to_owned(), "t".to_owned()),
            account: account.map(str::to_owned),
            account_column: "acc".to_owned(),
            key: texts(&["b", "a"]),
            columns: vec![column("a", true), column("secret", false), column("b", true), column("acc", true)],
            after: texts(after),
            until: texts(until),
            rows_max: 7,
            bytes_max: 1,
            low: Mark::new("s 1"),
            high: Mark::new("s 2"),
        }
    }

    const COLUMNS: &[(&str, &str)] =
        &[("a", "character varying(3)"), ("secret", "text"), ("b", "integer"), ("acc", "uuid")];

    #[test]
    fn a_chunk_is_bounded_by_key_range_account_and_number() {
        let list = "COPY (SELECT r.\"a\", NULL, r.\"b\", r.\"acc\" FROM";
        let end = "ORDER BY r.\"b\", r.\"a\" LIMIT 7) TO STDOUT";
        let check = |request: ChunkRequest, partitioned: bool, between: &str| {
            let sql = copy_sql(&request, &described(COLUMNS, partitioned)).unwrap();
            assert_eq!(sql, format!("{list} {between} {end}"));
        };
        check(request(&[], &[], None), false, "ONLY \"s\".\"t\" AS r");
        check(request(&[], &[], None), true, "\"s\".\"t\" AS r");
        check(
            request(&["1", "x'y"], &["9", "a\\b"], None),
            false,
            "ONLY \"s\".\"t\" AS r WHERE (r.\"b\", r.\"a\") > ('1'::integer, 'x''y'::character varying(3)) \
             AND (r.\"b\", r.\"a\") <= ('9'::integer, E'a\\\\b'::character varying(3))",
        );
        check(
            request(&[], &[], Some("o'k")),
            false,
            "ONLY \"s\".\"t\" AS r WHERE r.\"acc\" = 'o''k' AND r.\"acc\"::text COLLATE \"C\" = 'o''k'",
        );
        check(request(&[], &[], Some("global")), false, "ONLY \"s\".\"t\" AS r WHERE r.\"acc\" IS NULL");
    }

    #[test]
    fn a_request_that_does_not_fit_the_table_is_told() {
        let gone = copy_sql(&request(&[], &[], None), &described(&COLUMNS[..2], false));
        assert_eq!(gone, Err(Unfit::Column("b".to_owned())));
        let short = copy_sql(&request(&["1"], &[], None), &described(COLUMNS, false));
        assert_eq!(short, Err(Unfit::Bound { expected: 2, found: 1 }));
    }

    #[test]
    fn the_planner_is_asked_without_a_range() {
        let columns = request(&[], &[], None).columns;
        let table = TableName::new("s", "t\"");
        let sql = select_sql(&table, false, &columns, Some(("acc", "7")));
        assert_eq!(
            sql,
            "SELECT r.\"a\", NULL, r.\"b\", r.\"acc\" FROM ONLY \"s\".\"t\"\"\" AS r WHERE r.\"acc\" = '7'"
        );
        let sql = select_sql(&table, true, &columns[..1], Some(("acc", GLOBAL)));
        assert_eq!(sql, "SELECT r.\"a\" FROM \"s\".\"t\"\"\" AS r WHERE r.\"acc\" IS NULL");
    }
}
