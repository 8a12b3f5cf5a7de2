//! The publication: which operations of which tables the server sends.
//!
//! Two readings that are equal describe the same stream; the bridge compares them while it runs, for a change of a
//! publication sends no message.

use std::collections::BTreeMap;

use super::error::CatalogError;
use super::session::{Catalog, column};
use crate::config::TableName;

const PUBLICATION: &str = "what the publication holds";

const PUBLICATION_SQL: &str = "
SELECT oid, puballtables AS all_tables, pubinsert AS insert, pubupdate AS update, pubdelete AS delete,
       pubtruncate AS truncate, pubviaroot AS via_root,
       coalesce(to_jsonb(p) ->> 'pubgencols', 'n') <> 'n' AS generated_columns
  FROM pg_publication p WHERE pubname = $1";

/// `attnames` of the view lists all columns where there is no list; whether there is one stands in the table itself.
/// Its columns come through JSON: Postgres 14 has neither lists nor filters.
const PUBLISHED_SQL: &str = "
SELECT t.schemaname::text AS schema, t.tablename::text AS table,
       CASE WHEN (to_jsonb(r) -> 'prattrs') <> 'null'
            THEN ARRAY(SELECT jsonb_array_elements_text(to_jsonb(t) -> 'attnames')) END AS columns,
       to_jsonb(t) ->> 'rowfilter' AS row_filter
  FROM pg_publication_tables t
  JOIN pg_publication p ON p.pubname = t.pubname
  JOIN pg_namespace n ON n.nspname = t.schemaname
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
  LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
 WHERE t.pubname = $1";

/// A publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    pub name: String,
    /// Another one under the same name has another.
    pub oid: u32,
    pub all_tables: bool,
    pub insert: bool,
    pub update: bool,
    pub delete: bool,
    pub truncate: bool,
    /// Rows of partitions are sent as the partitioned table's.
    pub via_root: bool,
    /// Postgres 18 and newer: stored generated columns are sent.
    pub generated_columns: bool,
    pub tables: BTreeMap<TableName, Published>,
}

/// How a table is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The column list; `None` is all columns.
    pub columns: Option<Vec<String>>,
    /// The WHERE clause.
    pub row_filter: Option<String>,
}

impl Catalog {
    /// The publication of this name, if there is one.
    pub async fn publication(&mut self, name: &str) -> Result<Option<Publication>, CatalogError> {
        let rows = self.ask(PUBLICATION, PUBLICATION_SQL, &[&name]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let flag = |name| column::<bool>(row, PUBLICATION, name);
        Ok(Some(Publication {
            name: name.to_owned(),
            oid: column(row, PUBLICATION, "oid")?,
            all_tables: flag("all_tables")?,
            insert: flag("insert")?,
            update: flag("update")?,
            delete: flag("delete")?,
            truncate: flag("truncate")?,
            via_root: flag("via_root")?,
            generated_columns: flag("generated_columns")?,
            tables: self.published(name).await?,
        }))
    }

    async fn published(&mut self, name: &str) -> Result<BTreeMap<TableName, Published>, CatalogError> {
        let mut tables = BTreeMap::new();
        for row in self.ask(PUBLICATION, PUBLISHED_SQL, &[&name]).await? {
            let schema: String = column(&row, PUBLICATION, "schema")?;
            let table: String = column(&row, PUBLICATION, "table")?;
            let published = Published {
                columns: column(&row, PUBLICATION, "columns")?,
                row_filter: column(&row, PUBLICATION, "row_filter")?,
            };
            tables.insert(TableName::new(schema, table), published);
        }
        Ok(tables)
    }
}
