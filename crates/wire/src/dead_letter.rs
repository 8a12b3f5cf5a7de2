//! A row that could not be delivered, kept for people: its columns as the text Postgres sent, and the reason.
//!
//! Lives in its own topic, under the row's key if that could be made. Excluded columns are not in it either: the caller
//! leaves them out. A column that was not sent is absent; NULL is null.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use apache_avro::types::Value;

use crate::avro::{put_bytes, put_length};
use crate::decode::{DecodeError, Fields, WriterSchema};
use crate::framing;
use crate::record::{own_schema, put_optional_text};

/// The value of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Schema in Postgres.
    pub schema: String,
    /// Table in Postgres.
    pub table: String,
    /// The operation's letter.
    pub op: String,
    /// Why it could not be delivered.
    pub reason: String,
    /// By Postgres' column name. Bytes that are not UTF-8 stand as [`lossless_text`] writes them.
    pub columns: BTreeMap<String, Option<String>>,
}

/// The value's schema.
pub const DEAD_LETTER_SCHEMA: &str = concat!(
    r#"{"type":"record","name":"DeadLetter","namespace":"penstock.wire","fields":["#,
    r#"{"name":"schema","type":"string"},{"name":"table","type":"string"},{"name":"op","type":"string"},"#,
    r#"{"name":"reason","type":"string"},{"name":"columns","type":{"type":"map","values":["null","string"]}}]}"#,
);

static DEAD_LETTER: LazyLock<WriterSchema> = LazyLock::new(|| own_schema(DEAD_LETTER_SCHEMA));

impl DeadLetter {
    /// The value's schema.
    pub const fn schema() -> &'static str {
        DEAD_LETTER_SCHEMA
    }

    /// Appends the framed value. Columns stand in the order of their names.
    pub fn encode(&self, schema_id: u32, out: &mut Vec<u8>) {
        framing::put_header(schema_id, out);
        for text in [&self.schema, &self.table, &self.op, &self.reason] {
            put_bytes(out, text.as_bytes());
        }
        if !self.columns.is_empty() {
            put_length(out, self.columns.len());
            for (name, text) in &self.columns {
                put_bytes(out, name.as_bytes());
                put_optional_text(out, text.as_deref());
            }
        }
        out.push(0);
    }

    /// Reads a value (what follows the frame) that was written with [`DEAD_LETTER_SCHEMA`].
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_with(&DEAD_LETTER, body)
    }

    /// Reads a value that was written with another version of the schema.
    pub fn decode_with(writer: &WriterSchema, body: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(writer.read_resolved(&DEAD_LETTER, body)?)?;
        Ok(Self {
            schema: fields.text("schema")?,
            table: fields.text("table")?,
            op: fields.text("op")?,
            reason: fields.text("reason")?,
            columns: columns(fields.take("columns")?)?,
        })
    }
}

/// Bytes as text: UTF-8 as it is, every byte that is none as `\xHH`.
pub fn lossless_text(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

fn columns(value: Value) -> Result<BTreeMap<String, Option<String>>, DecodeError> {
    let wrong = || DecodeError::Field { field: "columns".to_owned(), expected: "a map of nullable strings" };
    let Value::Map(entries) = value else { return Err(wrong()) };
    let text = |value| match value {
        Value::Union(_, inner) => match *inner {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    };
    entries.into_iter().map(|(name, value)| Ok((name, text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        for columns in
            [BTreeMap::new(), BTreeMap::from([("id".to_owned(), Some("1".to_owned())), ("größe".to_owned(), None)])]
        {
            let letter = DeadLetter {
                schema: "access".into(),
                table: "grants".into(),
                op: "u".into(),
                reason: "too large".into(),
                columns,
            };
            let mut out = Vec::new();
            letter.encode(3, &mut out);
            let (id, body) = framing::split(&out).unwrap();
            assert_eq!(id, 3);
            assert_eq!(DeadLetter::decode(body).unwrap(), letter);
            for end in 0..body.len() {
                assert!(DeadLetter::decode(&body[..end]).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_shown() {
        assert_eq!(lossless_text("é".as_bytes()), "é");
        assert_eq!(lossless_text(b"a\xff\xc3b"), "a\\xff\\xc3b");
    }
}
