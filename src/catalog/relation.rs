//! A table as the replication stream would describe it now, in one quick query.
//!
//! For rows that are read outside of the stream: the stream's own messages tell what a table was at their place, this tells
//! what it is, which is the same only while a lock keeps it from changing. Column lists and generated columns that a
//! publication sends are not regarded: the findings refuse both.

use penstock_core::pgoutput::{Relation, RelationColumn, ReplicaIdentity};
use penstock_core::relation::CatalogFacts;
use penstock_wire::types::{TypeInfo, ValueKind};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::error::CatalogError;
use super::session::{Catalog, column};
use super::types::ResolvedType;
use crate::config::TableName;

pub(crate) const RELATION: &str = "what the table is like";

/// One row a column, or one without a column; none if there is no such table. An index that can be deferred, or is not valid,
/// is no replica identity.
pub(crate) const RELATION_SQL: &str = "
SELECT c.oid, c.relkind::text AS kind, c.relreplident::text AS identity,
       a.attname::text AS name, a.atttypid AS type_oid, a.atttypmod AS modifier,
       format_type(a.atttypid, a.atttypmod) AS type_name,
       c.relreplident = 'f' OR EXISTS (
           SELECT FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
            WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate AND k.number = a.attnum AND k.place <= i.indnkeyatts
              AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
       ) AS in_identity
  FROM pg_class c
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
 WHERE c.oid = to_regclass($1)
 ORDER BY a.attnum";

/// A table, and what its message leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) relation: Relation,
    /// Its rows are those of its partitions.
    pub(crate) partitioned: bool,
    /// By column, the type as SQL takes it.
    pub(crate) types: Vec<String>,
}

impl Catalog {
    /// The table as the stream would describe it, and what its message leaves out; `None` if there is none of the name.
    pub async fn describe(&mut self, table: &TableName) -> Result<Option<(Relation, CatalogFacts)>, CatalogError> {
        let rows = self.ask(RELATION, RELATION_SQL, &[&table.to_sql()]).await?;
        let Some(Described { relation, .. }) = read(table, &rows)? else { return Ok(None) };
        let facts = self.facts(&relation).await?;
        Ok(Some((relation, facts)))
    }

    /// What the catalog adds to a relation's message.
    pub async fn facts(&mut self, relation: &Relation) -> Result<CatalogFacts, CatalogError> {
        let wanted: Vec<_> = relation.columns.iter().map(|column| (column.type_oid, column.type_modifier)).collect();
        let types = self.types(&wanted).await?;
        let primary_key = self.primary_key(relation.id).await?;
        let mut facts = CatalogFacts { types: Vec::new(), variable_length: Vec::new(), primary_key };
        for (resolved, column) in types.into_iter().zip(&relation.columns) {
            // Dropped since, and nothing in the stream has told of it: its text is what is left of it.
            let resolved = resolved.unwrap_or_else(|| {
                tracing::warn!(
                    table = relation.table,
                    column = column.name,
                    type_oid = column.type_oid,
                    "the type of a column is gone; its values travel as text"
                );
                let info = TypeInfo { kind: ValueKind::String, pg_type: "unknown".to_owned(), pg_base: None };
                ResolvedType { info, out_of_line: true }
            });
            facts.types.push(resolved.info);
            facts.variable_length.push(resolved.out_of_line);
        }
        Ok(facts)
    }
}

/// Asks within whatever transaction the client is in, without preparing anything.
pub(crate) async fn ask(client: &tokio_postgres::Client, table: &TableName) -> Result<Vec<Row>, tokio_postgres::Error> {
    client.query_typed(RELATION_SQL, &[(&table.to_sql(), Type::TEXT)]).await
}

/// The answer to [`RELATION_SQL`].
pub(crate) fn read(table: &TableName, rows: &[Row]) -> Result<Option<Described>, CatalogError> {
    let Some(first) = rows.first() else { return Ok(None) };
    let identity: String = column(first, RELATION, "identity")?;
    let relation = Relation {
        id: column(first, RELATION, "oid")?,
        schema: table.schema.clone(),
        table: table.table.clone(),
        identity: match identity.as_str() {
            "f" => ReplicaIdentity::Full,
            "i" => ReplicaIdentity::Index,
            "n" => ReplicaIdentity::Nothing,
            _ => ReplicaIdentity::Default,
        },
        columns: Vec::new(),
    };
    let kind: String = column(first, RELATION, "kind")?;
    let mut described = Described { relation, partitioned: kind == "p", types: Vec::new() };
    for row in rows {
        if let Some(name) = column::<Option<String>>(row, RELATION, "name")? {
            described.types.push(column(row, RELATION, "type_name")?);
            described.relation.columns.push(RelationColumn {
                in_identity: column(row, RELATION, "in_identity")?,
                name,
                type_oid: column(row, RELATION, "type_oid")?,
                type_modifier: column(row, RELATION, "modifier")?,
            });
        }
    }
    Ok(Some(described))
}
