//! Tables as they are now: identity, keys, columns, partitions.
//!
//! For checks and for first captures. What a table was at a place of the stream only the stream's own Relation message
//! tells; of all this only the primary key and what is immutable for a type is used beside it.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use super::error::CatalogError;
use super::session::{Catalog, column};
use crate::config::{TableName, TablePattern};

const TABLES: &str = "which tables there are";

/// A partition is a table of its own only where it is asked for by name or published by itself.
const TABLES_SQL: &str = "
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind, c.relispartition AS is_partition,
       c.relpersistence::text AS persistence, c.relreplident::text AS identity,
       coalesce(not pk.indimmediate, false) AS deferrable, has_schema_privilege(n.oid, 'USAGE') AS schema_usable,
       ARRAY(SELECT a.attname::text FROM unnest(pk.indkey::int2[]) WITH ORDINALITY AS k(number, place)
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
              WHERE k.place <= pk.indnkeyatts ORDER BY k.place) AS primary_key,
       ARRAY(SELECT a.attname::text FROM unnest(ri.indkey::int2[]) WITH ORDINALITY AS k(number, place)
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
              WHERE k.place <= ri.indnkeyatts ORDER BY k.place) AS identity_index
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_index pk ON pk.indrelid = c.oid AND pk.indisprimary
  LEFT JOIN pg_index ri ON ri.indrelid = c.oid AND ri.indisreplident
 WHERE (n.nspname = ANY ($1) AND c.relkind IN ('r', 'p') AND NOT c.relispartition)
    OR (n.nspname::text, c.relname::text) IN (SELECT * FROM unnest($2::text[], $3::text[]))
    OR EXISTS (SELECT FROM pg_publication_tables t
                WHERE t.pubname = $4 AND t.schemaname = n.nspname AND t.tablename = c.relname)";

const COLUMNS: &str = "which columns the tables have";

/// A domain has the modifier and the storage of its base type (one over a domain has none of its own); how a type stores its values is told by `typstorage`, for a column's own
/// setting does not change values that are already stored.
const COLUMNS_SQL: &str = "
WITH RECURSIVE base (oid, base, modifier) AS (
    SELECT oid, oid, -1 FROM pg_type WHERE typtype <> 'd'
    UNION ALL SELECT d.oid, base.base, greatest(base.modifier, d.typtypmod)
                FROM pg_type d JOIN base ON base.oid = d.typbasetype WHERE d.typtype = 'd')
SELECT a.attrelid AS table_oid, a.attname::text AS name, a.attnum AS number, a.atttypid AS type_oid, a.atttypmod AS modifier,
       format_type(a.atttypid, a.atttypmod) AS type_name, base.base AS base_oid,
       format_type(base.base, greatest(base.modifier, a.atttypmod)) AS base_name, a.attnotnull AS not_null,
       a.attgenerated <> '' AS generated, has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable, t.typlen = -1 AND t.typstorage <> 'p' AS out_of_line
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN base ON base.oid = a.atttypid
 WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum";

const PARTITIONS: &str = "which partitions the tables have";

const PARTITIONS_SQL: &str = "
SELECT root.oid AS table_oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       c.relpersistence::text AS persistence, c.relreplident::text AS identity,
       EXISTS (SELECT FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_namespace s ON s.oid = p.pronamespace
                WHERE g.tgrelid = c.oid AND g.tgenabled IN ('O', 'A') AND NOT g.tgisinternal
                  AND (s.nspname, p.proname) = ('penstock', 'tell_truncate')) AS tells_truncate
  FROM unnest($1::oid[]) AS root (oid)
  CROSS JOIN LATERAL pg_partition_tree(root.oid) AS tree
  JOIN pg_class c ON c.oid = tree.relid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE tree.isleaf AND tree.level > 0
 ORDER BY root.oid, n.nspname, c.relname";

/// A table, or what else bears the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub oid: u32,
    pub name: TableName,
    pub kind: Kind,
    /// Part of a partitioned table.
    pub is_partition: bool,
    pub persistence: Persistence,
    pub identity: Identity,
    /// In key order; empty if there is none.
    pub primary_key: Vec<String>,
    /// A deferrable primary key cannot be a replica identity.
    pub primary_key_deferrable: bool,
    /// The role may use the schema that it is in.
    pub schema_usable: bool,
    /// In the table's order, generated ones included.
    pub columns: Vec<Column>,
    /// The leaves that hold a partitioned table's rows.
    pub partitions: Vec<Partition>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub number: i16,
    pub type_oid: u32,
    /// -1 is none.
    pub modifier: i32,
    /// As `format_type` prints it.
    pub type_name: String,
    /// The type, or what a domain is made of in the end.
    pub base_oid: u32,
    /// The same as `format_type` prints it.
    pub base_name: String,
    pub not_null: bool,
    pub generated: bool,
    /// The role may SELECT it.
    pub readable: bool,
    /// Large values of the type are stored outside the row and not sent again when an update leaves them alone.
    pub out_of_line: bool,
}

/// A leaf of a partitioned table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub name: TableName,
    pub kind: Kind,
    pub persistence: Persistence,
    pub identity: Identity,
    /// A trigger tells the stream of its TRUNCATE.
    pub tells_truncate: bool,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ordinary,
    Partitioned,
    /// Lives on another server: no WAL here.
    Foreign,
    /// A view, sequence or the like.
    Other,
}

/// Whether changes reach the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    Permanent,
    Unlogged,
    Temporary,
}

/// What an update or delete sends of the old row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The primary key's columns.
    Default,
    Nothing,
    /// All columns.
    Full,
    /// The columns of an index; empty if the index is gone.
    Index(Vec<String>),
}

impl Table {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether the old row of an update or delete holds the column.
    pub fn identity_holds(&self, column: &str) -> bool {
        match &self.identity {
            Identity::Full => true,
            Identity::Nothing => false,
            Identity::Default => !self.primary_key_deferrable && self.primary_key.iter().any(|name| name == column),
            Identity::Index(columns) => columns.iter().any(|name| name == column),
        }
    }
}

impl Catalog {
    /// The tables that the patterns mean and those that the publication holds.
    ///
    /// A pattern that names one table finds whatever bears the name, so that a check can say why it is not fit.
    pub async fn tables(
        &mut self,
        patterns: &[TablePattern],
        publication: &str,
    ) -> Result<BTreeMap<TableName, Table>, CatalogError> {
        let mut schemas = Vec::new();
        let (mut table_schemas, mut table_names) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match pattern {
                TablePattern::Schema(schema) => schemas.push(schema.as_str()),
                TablePattern::Table(name) => {
                    table_schemas.push(name.schema.as_str());
                    table_names.push(name.table.as_str());
                }
            }
        }
        let rows = self.ask(TABLES, TABLES_SQL, &[&schemas, &table_schemas, &table_names, &publication]).await?;
        let mut tables = rows.iter().map(read_table).collect::<Result<Vec<_>, _>>()?;
        let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
        let mut columns = self.columns(&oids).await?;
        let mut partitions = self.partitions(&tables).await?;
        for table in &mut tables {
            table.columns = columns.remove(&table.oid).unwrap_or_default();
            table.partitions = partitions.remove(&table.oid).unwrap_or_default();
        }
        Ok(tables.into_iter().map(|table| (table.name.clone(), table)).collect())
    }

    async fn columns(&mut self, oids: &[u32]) -> Result<BTreeMap<u32, Vec<Column>>, CatalogError> {
        let mut columns: BTreeMap<u32, Vec<Column>> = BTreeMap::new();
        for row in self.ask(COLUMNS, COLUMNS_SQL, &[&oids]).await? {
            columns.entry(column(&row, COLUMNS, "table_oid")?).or_default().push(read_column(&row)?);
        }
        Ok(columns)
    }

    async fn partitions(&mut self, tables: &[Table]) -> Result<BTreeMap<u32, Vec<Partition>>, CatalogError> {
        let roots = tables.iter().filter(|table| table.kind == Kind::Partitioned);
        let roots: Vec<u32> = roots.map(|table| table.oid).collect();
        let mut partitions: BTreeMap<u32, Vec<Partition>> = BTreeMap::new();
        if roots.is_empty() {
            return Ok(partitions);
        }
        for row in self.ask(PARTITIONS, PARTITIONS_SQL, &[&roots]).await? {
            let partition = Partition {
                name: read_name(&row, PARTITIONS)?,
                kind: kind(&column::<String>(&row, PARTITIONS, "kind")?),
                persistence: persistence(&column::<String>(&row, PARTITIONS, "persistence")?),
                // Which columns a partition's index has does not matter: only FULL is the same for all of them.
                identity: identity(&column::<String>(&row, PARTITIONS, "identity")?, Vec::new()),
                tells_truncate: column(&row, PARTITIONS, "tells_truncate")?,
            };
            partitions.entry(column(&row, PARTITIONS, "table_oid")?).or_default().push(partition);
        }
        Ok(partitions)
    }
}

fn read_table(row: &Row) -> Result<Table, CatalogError> {
    let text = |name| column::<String>(row, TABLES, name);
    Ok(Table {
        oid: column(row, TABLES, "oid")?,
        name: read_name(row, TABLES)?,
        kind: kind(&text("kind")?),
        is_partition: column(row, TABLES, "is_partition")?,
        persistence: persistence(&text("persistence")?),
        identity: identity(&text("identity")?, column(row, TABLES, "identity_index")?),
        primary_key: column(row, TABLES, "primary_key")?,
        primary_key_deferrable: column(row, TABLES, "deferrable")?,
        schema_usable: column(row, TABLES, "schema_usable")?,
        columns: Vec::new(),
        partitions: Vec::new(),
    })
}

fn read_name(row: &Row, question: &'static str) -> Result<TableName, CatalogError> {
    let (schema, name): (String, String) = (column(row, question, "schema")?, column(row, question, "name")?);
    Ok(TableName::new(schema, name))
}

fn read_column(row: &Row) -> Result<Column, CatalogError> {
    Ok(Column {
        name: column(row, COLUMNS, "name")?,
        number: column(row, COLUMNS, "number")?,
        type_oid: column(row, COLUMNS, "type_oid")?,
        modifier: column(row, COLUMNS, "modifier")?,
        type_name: column(row, COLUMNS, "type_name")?,
        base_oid: column(row, COLUMNS, "base_oid")?,
        base_name: column(row, COLUMNS, "base_name")?,
        not_null: column(row, COLUMNS, "not_null")?,
        generated: column(row, COLUMNS, "generated")?,
        readable: column(row, COLUMNS, "readable")?,
        out_of_line: column(row, COLUMNS, "out_of_line")?,
    })
}

fn kind(letter: &str) -> Kind {
    match letter {
        "r" => Kind::Ordinary,
        "p" => Kind::Partitioned,
        "f" => Kind::Foreign,
        _ => Kind::Other,
    }
}

fn persistence(letter: &str) -> Persistence {
    match letter {
        "u" => Persistence::Unlogged,
        "t" => Persistence::Temporary,
        _ => Persistence::Permanent,
    }
}

fn identity(letter: &str, index: Vec<String>) -> Identity {
    match letter {
        "f" => Identity::Full,
        "i" => Identity::Index(index),
        "n" => Identity::Nothing,
        _ => Identity::Default,
    }
}
