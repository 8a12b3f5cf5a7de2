//! Postgres types as the wire contract sees them: which Avro type a column becomes and how its bytes are read.
//!
//! Invariants: a kind decides schema and encoding alone, and text and binary input of one value give the same bytes.
//! Readers of Postgres' output are total: bytes that Postgres cannot have printed are refused, never guessed at.
//! Nothing here asks a catalog: what an OID means is immutable for built-in types, and told by the caller for others.

mod array;
mod array_binary;
mod binary;
mod calendar;
mod decimal;
mod float_text;
mod kind;
mod network;
mod numeric;
mod render;
mod text;

pub use decimal::{Decimal, NoDecimal};
pub use kind::{Element, TypeInfo, ValueKind, builtin};

use crate::column::Column;

/// Why a value has no place in the record. Never holds the value itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are not what Postgres prints for the type under the pinned session settings.
    #[error("the bytes are not what Postgres prints for this type")]
    Malformed,
    /// Text that is not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// The value exists in Postgres but not in the Avro type: a timestamp after the year 294246, for instance.
    #[error("the value lies outside the range of the Avro type")]
    OutOfRange,
    /// NaN or an infinity, in a column that travels as a decimal.
    #[error("NaN and the infinities have no place in an Avro decimal")]
    NotFinite,
    /// Binary input of a type whose binary form is not known here.
    #[error("the binary form of this type is not known: stream the table as text")]
    BinaryUnknown,
    /// A key column is NULL.
    #[error("a key column must not be NULL")]
    NullInKey,
    /// The value was not sent, in a place where it must be there.
    #[error("Postgres did not send the value, and nothing else tells it")]
    NotSent,
}

/// Where a value stands in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a union that starts with null: every field of a row, every element of an array.
    Nullable,
    /// In a key: no null branch.
    Bare,
}

impl Place {
    /// Writes the branch of a scalar, if there is a union at all.
    #[inline]
    fn open_scalar(self, out: &mut Vec<u8>) {
        match self {
            Self::Nullable => out.push(2),
            Self::Bare => {}
        }
    }

    /// Writes the branch of an array proper.
    fn open_array(self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Nullable => 2,
            Self::Bare => 0,
        });
    }

    /// Writes the branch of an array that travels as Postgres' literal.
    fn open_literal(self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Nullable => 4,
            Self::Bare => 2,
        });
    }
}

/// Appends a column's value, NULL included, where the schema has `["null", …]`.
///
/// An unchanged value is written as null; that it is one is told beside the row.
#[inline]
pub(crate) fn put_nullable(kind: ValueKind, column: Column<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
    match column {
        Column::Null | Column::Unchanged => {
            out.push(0);
            Ok(())
        }
        Column::Text(text) => text::put(kind, Place::Nullable, text, out),
        Column::Binary(bytes) => binary::put(kind, Place::Nullable, bytes, out),
    }
}

/// Appends a key column's value, which must be there.
#[inline]
pub(crate) fn put_bare(kind: ValueKind, column: Column<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
    match column {
        Column::Null => Err(Refusal::NullInKey),
        Column::Unchanged => Err(Refusal::NotSent),
        Column::Text(text) => text::put(kind, Place::Bare, text, out),
        Column::Binary(bytes) => binary::put(kind, Place::Bare, bytes, out),
    }
}

/// Appends what Postgres would print for a value in binary format: for whoever needs the text of a column of a binary
/// stream (the account, a dead letter). Nothing is appended if the value is refused.
pub fn put_postgres_text(kind: ValueKind, binary: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let start = out.len();
    let rendered = render::put(kind, binary, out);
    if rendered.is_err() {
        out.truncate(start);
    }
    rendered
}
