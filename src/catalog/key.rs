//! A table's primary key, by OID: what a relation message lacks under REPLICA IDENTITY FULL.

use super::error::CatalogError;
use super::session::{Catalog, column};

const KEY: &str = "what the primary key of a relation is";

const KEY_SQL: &str = "
SELECT a.attname::text AS name
  FROM pg_index i
  CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
 WHERE i.indrelid = $1::oid AND i.indisprimary AND k.place <= i.indnkeyatts
 ORDER BY k.place";

impl Catalog {
    /// The columns in key order; empty without a primary key.
    pub async fn primary_key(&mut self, table_oid: u32) -> Result<Vec<String>, CatalogError> {
        let rows = self.ask(KEY, KEY_SQL, &[&table_oid]).await?;
        rows.iter().map(|row| column(row, KEY, "name")).collect()
    }
}
