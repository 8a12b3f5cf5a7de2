//! Whether tables hold rows, and how many: what a first load would have to bring.

use std::collections::BTreeMap;

use super::error::CatalogError;
use super::session::{Catalog, column, count};
use super::table::Table;
use crate::config::TableName;

const ROWS: &str = "whether the captured tables hold rows";

/// For all tables at once, so that many tables are one question. The estimate of a partitioned table is its leaves'.
const ESTIMATES_SQL: &str = "
SELECT root.oid AS table_oid, sum(c.reltuples)::int8 AS estimate, bool_or(c.reltuples < 0) AS unknown
  FROM unnest($1::oid[]) AS root (oid)
  CROSS JOIN LATERAL (SELECT relid FROM pg_partition_tree(root.oid) UNION SELECT root.oid) AS tree
  JOIN pg_class c ON c.oid = tree.relid AND c.relkind = 'r'
 GROUP BY root.oid";

/// What is known of a table's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// `None` if the role may not read the table: it must be taken to hold some.
    pub any: Option<bool>,
    /// The planner's estimate; `None` until the table was vacuumed or analysed once.
    pub estimate: Option<u64>,
}

impl Catalog {
    /// For each table whether it holds rows now.
    ///
    /// Asked after the slot was made, an answer of none proves that none are missing: rows that were there before and
    /// are gone since were deleted in the stream.
    pub async fn rows(
        &mut self,
        tables: &BTreeMap<TableName, Table>,
    ) -> Result<BTreeMap<TableName, Rows>, CatalogError> {
        let estimates = self.estimates(tables).await?;
        let mut rows = BTreeMap::new();
        for (name, table) in tables {
            let any = self.has_rows(name).await?;
            rows.insert(name.clone(), Rows { any, estimate: estimates.get(&table.oid).copied() });
        }
        Ok(rows)
    }

    /// How many rows the table holds, counted: reads all of it.
    pub async fn count_rows(&mut self, table: &TableName) -> Result<u64, CatalogError> {
        const QUESTION: &str = "how many rows the table holds";
        let row = self.ask_one(QUESTION, &format!("SELECT count(*) AS rows FROM {}", table.to_sql()), &[]).await?;
        Ok(count(&row, QUESTION, "rows")?.unwrap_or_default())
    }

    async fn has_rows(&mut self, table: &TableName) -> Result<Option<bool>, CatalogError> {
        let sql = format!("SELECT EXISTS (SELECT FROM {}) AS any", table.to_sql());
        match self.ask_one(ROWS, &sql, &[]).await {
            Ok(row) => column(&row, ROWS, "any").map(Some),
            Err(error) if error.sqlstate() == Some("42501") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn estimates(&mut self, tables: &BTreeMap<TableName, Table>) -> Result<BTreeMap<u32, u64>, CatalogError> {
        let oids: Vec<u32> = tables.values().map(|table| table.oid).collect();
        let mut estimates = BTreeMap::new();
        for row in self.ask(ROWS, ESTIMATES_SQL, &[&oids]).await? {
            if !column::<bool>(&row, ROWS, "unknown")? {
                estimates.insert(column(&row, ROWS, "table_oid")?, count(&row, ROWS, "estimate")?.unwrap_or_default());
            }
        }
        Ok(estimates)
    }
}
