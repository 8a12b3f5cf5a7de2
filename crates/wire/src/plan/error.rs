//! Why a table cannot be captured, and why a row cannot be encoded. The caller knows which table; these
//! name the column and what to do about it, and never hold row data.

use crate::types::Refusal;

/// The table cannot be captured as it is described.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The namespace is not a dotted Avro name.
    #[error("namespace {0:?} is not made of names [A-Za-z_][A-Za-z0-9_]* joined by dots")]
    Namespace(String),
    /// Postgres has no such names; the caller's shape is wrong.
    #[error("a schema, table or column name is empty")]
    EmptyName,
    /// Two columns have the same Avro name.
    #[error("columns {first:?} and {second:?} both become the Avro name {avro:?}; exclude or rename one of them")]
    Collision {
        /// The column that comes first.
        first: String,
        /// The column that meets it.
        second: String,
        /// The name both would have.
        avro: String,
    },
    /// No key columns.
    #[error("no key: the table needs a primary key, or key columns in the configuration")]
    NoKey,
    /// A key or account index beyond the columns.
    #[error("the {role} column is not in the relation")]
    Missing {
        /// "key" or "account".
        role: &'static str,
    },
    /// A key or account column is excluded by configuration.
    #[error("{role} column {column:?} is excluded by configuration; it must travel")]
    Excluded {
        /// "key" or "account".
        role: &'static str,
        /// The column.
        column: String,
    },
    /// A column stands twice in the key.
    #[error("column {column:?} stands twice in the key")]
    RepeatedKey {
        /// The column.
        column: String,
    },
    /// A key column has a name of the wire contract.
    #[error("a key column must not be called {column:?}, which every key has already; rename it")]
    ReservedKey {
        /// The column.
        column: String,
    },
    /// A key column would travel as a decimal.
    #[error("key column {column:?} must not travel as a decimal: numeric in keys is a string")]
    DecimalKey {
        /// The column.
        column: String,
    },
    /// The account column's type has no canonical text that equality follows.
    #[error(
        "account column {column:?} is of type {pg_type}; an account is uuid, text, varchar, smallint, integer or bigint"
    )]
    AccountType {
        /// The column.
        column: String,
        /// Its type.
        pg_type: String,
    },
    /// apache-avro refuses the schema: a defect of this crate.
    #[error("the schema made for the table is not valid Avro")]
    Schema(#[source] Box<apache_avro::Error>),
}

/// A row that cannot be encoded. Names the column, its type and the reason; never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A column's value has no place in the record.
    #[error("column {column:?} of type {pg_type}: {reason}")]
    Column {
        /// The column's name in Postgres.
        column: String,
        /// Its type's name.
        pg_type: String,
        /// Why.
        reason: Refusal,
    },
    /// The row does not fit the relation the plan was compiled for.
    #[error("a row of {found} columns, where the relation has {expected}")]
    Width {
        /// Columns of the relation.
        expected: usize,
        /// Columns of the row.
        found: usize,
    },
    /// The schemas have no registry ids yet.
    #[error("encoded before the table's schemas were registered")]
    NotRegistered,
}
