//! The encode plan of a table: from a row of the replication stream straight to the bytes of its key and envelope.
//!
//! Compiled once per relation version; on the hot path it allocates nothing, looks nothing up and builds no value tree.
//!
//! Invariants: a plan is a function of [`TableShape`] and [`SourceInfo`] alone, so the same WAL gives the same bytes;
//! output is whole or absent (a refused row leaves the buffer as it was); an error names the column, never its value.
//! A plan does not route, compare, or decide what is sent.

mod envelope;
mod error;
mod shape;

pub use error::{PlanError, ValueError};

use crate::account::Account;
use crate::avro::{put_bytes, put_long};
use crate::column::Column;
use crate::framing;
use crate::schema;
use crate::table::{ColumnShape, SourceInfo, TableShape};
use crate::types::{self, Refusal, ValueKind};

/// How rows of one relation version are written.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `<namespace>.<schema>.<table>`, escaped.
    record_namespace: String,
    columns: Vec<ColumnShape>,
    slots: Vec<Slot>,
    key: Vec<KeyColumn>,
    source_in_key: Option<u16>,
    key_schema: String,
    envelope_schema: String,
    ids: Option<SchemaIds>,
    /// version, connector and name of `source`.
    source_head: Vec<u8>,
    /// db, schema and table of `source`.
    source_names: Vec<u8>,
    /// Each column's Avro name as it is listed in `unchanged`.
    listed_names: Vec<Vec<u8>>,
}

/// What happens to one column of a row.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Excluded,
    Travels(ValueKind),
}

#[derive(Clone, Copy, Debug)]
struct KeyColumn {
    index: usize,
    kind: ValueKind,
}

#[derive(Clone, Copy, Debug)]
struct SchemaIds {
    key: u32,
    value: u32,
}

/// A column that was refused, before the error is dressed with names.
struct RefusedAt {
    index: usize,
    reason: Refusal,
}

impl Plan {
    /// Checks the shape and writes the schemas.
    pub fn compile(shape: &TableShape, source: &SourceInfo) -> Result<Self, PlanError> {
        let record_namespace = shape::record_namespace(shape)?;
        let names = shape::avro_names(shape)?;
        let key = shape::key_columns(shape)?;
        shape::check_account(shape)?;
        let key_schema = schema::key(&record_namespace, shape, &names);
        let envelope_schema = schema::envelope(&record_namespace, shape, &names);
        for text in [&key_schema, &envelope_schema] {
            apache_avro::Schema::parse_str(text).map_err(|source| PlanError::Schema(Box::new(source)))?;
        }
        let slot = |column: &ColumnShape| match column.excluded {
            true => Slot::Excluded,
            false => Slot::Travels(column.type_info.kind),
        };
        Ok(Self {
            record_namespace,
            slots: shape.columns.iter().map(slot).collect(),
            columns: shape.columns.clone(),
            key,
            source_in_key: shape.source_in_key.then_some(source.number),
            key_schema,
            envelope_schema,
            ids: None,
            source_head: strings(&[schema::WIRE_VERSION, "postgresql", &source.name]),
            source_names: strings(&[&source.database, &shape.schema, &shape.table]),
            listed_names: names.iter().map(|name| strings(&[name])).collect(),
        })
    }

    /// The key's schema, as it is registered: JSON, never normalised.
    pub fn key_schema(&self) -> &str {
        &self.key_schema
    }

    /// The envelope's schema, as it is registered.
    pub fn envelope_schema(&self) -> &str {
        &self.envelope_schema
    }

    /// `<namespace>.<schema>.<table>` as the records' Avro namespace. Two tables of a topic must not share it.
    pub fn record_namespace(&self) -> &str {
        &self.record_namespace
    }

    /// The registry subject of the key (`TopicRecordNameStrategy`).
    pub fn key_subject(&self, topic: &str) -> String {
        format!("{topic}-{}.Key", self.record_namespace)
    }

    /// The registry subject of the envelope.
    pub fn envelope_subject(&self, topic: &str) -> String {
        format!("{topic}-{}.Envelope", self.record_namespace)
    }

    /// Sets the ids the registry gave; nothing can be encoded before.
    pub fn registered(&mut self, key_schema_id: u32, value_schema_id: u32) {
        self.ids = Some(SchemaIds { key: key_schema_id, value: value_schema_id });
    }

    /// The key columns' names in Postgres, in key order: what progress pins.
    pub fn key_columns(&self) -> impl Iterator<Item = &str> {
        self.key.iter().filter_map(|key| self.columns.get(key.index)).map(|column| column.name.as_str())
    }

    /// The columns of `row` that travel, each with its index, its name in Postgres, and how its value is written. Excluded
    /// ones are not among them.
    pub fn travelling<'r>(
        &'r self,
        row: &'r [Column<'r>],
    ) -> impl Iterator<Item = (usize, &'r str, ValueKind, Column<'r>)> {
        let columns = self.slots.iter().zip(&self.columns).zip(row).enumerate();
        columns.filter_map(|(index, ((slot, shape), column))| match slot {
            Slot::Excluded => None,
            Slot::Travels(kind) => Some((index, shape.name.as_str(), *kind, *column)),
        })
    }

    /// Appends the framed key of `row`.
    pub fn encode_key(&self, row: &[Column<'_>], account: Account<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
        let ids = self.ids()?;
        self.check_width(row)?;
        let start = out.len();
        framing::put_header(ids.key, out);
        put_bytes(out, account.as_str().as_bytes());
        if let Some(number) = self.source_in_key {
            put_long(out, i64::from(number));
        }
        for key in &self.key {
            let column = row.get(key.index).copied().unwrap_or(Column::Unchanged);
            if let Err(reason) = types::put_bare(key.kind, column, out) {
                out.truncate(start);
                return Err(self.refused(&RefusedAt { index: key.index, reason }));
            }
        }
        Ok(())
    }

    fn ids(&self) -> Result<SchemaIds, ValueError> {
        self.ids.ok_or(ValueError::NotRegistered)
    }

    fn check_width(&self, row: &[Column<'_>]) -> Result<(), ValueError> {
        if row.len() == self.columns.len() {
            return Ok(());
        }
        Err(ValueError::Width { expected: self.columns.len(), found: row.len() })
    }

    #[cold]
    fn refused(&self, refused: &RefusedAt) -> ValueError {
        let column = self.columns.get(refused.index);
        ValueError::Column {
            column: column.map(|column| column.name.clone()).unwrap_or_default(),
            pg_type: column.map(|column| column.type_info.pg_type.clone()).unwrap_or_default(),
            reason: refused.reason,
        }
    }
}

/// Avro strings, one after the other.
fn strings(texts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for text in texts {
        put_bytes(&mut out, text.as_bytes());
    }
    out
}
