//! What an encode plan is compiled from: a table as the relation message, the catalog's immutable facts and the pins
//! of the topic describe it. Equal shapes give equal plans, whatever the catalog says by now.

use crate::types::TypeInfo;

/// One column of a relation message, in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnShape {
    /// The name in Postgres.
    pub name: String,
    /// How its value travels and what its type is called.
    pub type_info: TypeInfo,
    /// Left out of schema, before and after. It still occupies a place in every tuple.
    pub excluded: bool,
}

/// A captured table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableShape {
    /// The pinned Avro namespace of the topic, for instance `penstock`. Schema and table are appended to it.
    pub namespace: String,
    /// The schema's name in Postgres.
    pub schema: String,
    /// The table's name in Postgres.
    pub table: String,
    /// All columns of the relation message, in its order.
    pub columns: Vec<ColumnShape>,
    /// Index of the account column.
    pub account: usize,
    /// Indexes of the pinned key columns, in key order.
    pub key: Vec<usize>,
    /// Whether the source number is part of every key of the topic; pinned by `setup`.
    pub source_in_key: bool,
}

/// Which source a row comes from: the same in every record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// Unique and pinned; also the key of the progress record.
    pub name: String,
    /// The source's pinned number, as in the header.
    pub number: u16,
    /// The database's name.
    pub database: String,
}
