//! How many rows there are to read, and keys that part them evenly.
//!
//! The one place where values of rows come through the catalog's connection: keys, as their types print them. Both answers
//! are estimates; nothing is right or wrong by them.

use std::time::Duration;

use super::error::CatalogError;
use super::session::Catalog;
use super::table::{Kind, Table};
use crate::config::{TableName, quote_identifier, quote_literal};

const ESTIMATE: &str = "how many rows there are to read";
const PRINTED: &str = "how a value is printed";
const SAMPLE: &str = "which keys part the table evenly";
/// A sample reads some hundred blocks; in a large table it goes through the numbers of all of them.
const SAMPLE_LIMIT: Duration = Duration::from_secs(120);
/// Rows of a sample: enough that ranges differ little, few enough to be sorted in memory.
const SAMPLE_ROWS: f64 = 8_000.0;

impl Catalog {
    /// The planner's estimate of what a SELECT gives. Needs every right that the SELECT itself needs.
    pub async fn estimated_rows(&mut self, select: &str) -> Result<u64, CatalogError> {
        let sql = format!("EXPLAIN (FORMAT JSON) {select}");
        let rows = self.ask_texts(ESTIMATE, &sql, super::session::ANSWER_TIMEOUT).await?;
        let text = rows.into_iter().flatten().flatten().next().unwrap_or_default();
        let plan: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let number = plan.pointer("/0/Plan/Plan Rows").and_then(serde_json::Value::as_u64);
        number.ok_or_else(|| CatalogError::Answer { question: ESTIMATE, what: "a plan without rows".to_owned() })
    }

    /// How a type prints the value that is written like this; `None` if it is none of its values.
    pub async fn printed(&mut self, text: &str, type_name: &str) -> Result<Option<String>, CatalogError> {
        // A length would cut the text off; texts are printed as they are.
        let bare = if type_name.starts_with("character varying") { "text" } else { type_name };
        let sql = format!("SELECT {}::{bare}", quote_literal(text));
        match self.ask_texts(PRINTED, &sql, super::session::ANSWER_TIMEOUT).await {
            Ok(rows) => Ok(rows.into_iter().flatten().flatten().next()),
            Err(error) if error.sqlstate().is_some_and(|code| code.starts_with("22")) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keys that part a table of about `rows` rows into `parts`, in key order, column by column as Postgres prints them; at
    /// most `parts - 1`, none if too few rows were met to tell.
    pub async fn parting_keys(
        &mut self,
        table: &Table,
        rows: u64,
        parts: usize,
    ) -> Result<Vec<Vec<String>>, CatalogError> {
        let texts = self.ask_texts(SAMPLE, &sample_sql(table, rows, parts), SAMPLE_LIMIT).await?;
        // A NULL is in no key: a row that holds one is not taken.
        Ok(texts.into_iter().filter_map(|key| key.into_iter().collect()).collect())
    }
}

/// A table in a FROM clause, as `r`: rows of a table that inherits from it are that table's, rows of partitions are its own.
pub(crate) fn from_sql(table: &TableName, partitioned: bool) -> String {
    let only = if partitioned { "" } else { "ONLY " };
    format!("{only}{} AS r", table.to_sql())
}

fn sample_sql(table: &Table, rows: u64, parts: usize) -> String {
    let key = |prefix: &str| {
        let columns = table.primary_key.iter().map(|name| format!("{prefix}{}", quote_identifier(name)));
        columns.collect::<Vec<_>>().join(", ")
    };
    let percent = (100.0 * SAMPLE_ROWS / rows.max(1) as f64).clamp(0.0001, 100.0);
    format!(
        "WITH numbered AS (\
         SELECT {of_row}, row_number() OVER (ORDER BY {of_row}) AS \"place of row\", count(*) OVER () AS \"count of rows\" \
         FROM {from} TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1)) \
         SELECT {bare} FROM numbered \
         WHERE \"count of rows\" >= {parts} * 10 AND \"place of row\" IN \
         (SELECT \"count of rows\" * part / {parts} FROM generate_series(1, {parts} - 1) AS part) \
         ORDER BY \"place of row\"",
        of_row = key("r."),
        bare = key(""),
        from = from_sql(&table.name, table.kind == Kind::Partitioned),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Identity, Persistence};

    #[test]
    fn a_sample_is_bounded_and_in_key_order() {
        let mut table = Table {
            oid: 1,
            name: TableName::new("public", "t"),
            kind: Kind::Ordinary,
            is_partition: false,
            persistence: Persistence::Permanent,
            identity: Identity::Full,
            primary_key: vec!["b".to_owned(), "a\"".to_owned()],
            primary_key_deferrable: false,
            schema_usable: true,
            columns: Vec::new(),
            partitions: Vec::new(),
        };
        let sql = sample_sql(&table, 8_000_000, 8);
        for part in [
            "SELECT r.\"b\", r.\"a\"\"\", row_number() OVER (ORDER BY r.\"b\", r.\"a\"\"\")",
            "FROM ONLY \"public\".\"t\" AS r TABLESAMPLE SYSTEM (0.1) REPEATABLE (1)",
            "SELECT \"b\", \"a\"\"\" FROM numbered",
            "generate_series(1, 8 - 1)",
        ] {
            assert!(sql.contains(part), "{part} is not in {sql}");
        }
        table.kind = Kind::Partitioned;
        assert!(sample_sql(&table, 0, 8).contains("FROM \"public\".\"t\" AS r TABLESAMPLE SYSTEM (100)"));
    }
}
