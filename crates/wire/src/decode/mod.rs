//! Reading records with the schema they were written with: generic, complete, and not for hot paths.
//!
//! Invariant: every function is total; bytes from outside give a value or an error. Values are what the writer's schema
//! says, except where a function names another schema to resolve to.

mod envelope;
mod fields;
mod json;
mod scales;

pub use envelope::{Envelope, Row, Source, TransactionPlace};
pub(crate) use fields::Fields;
pub use json::to_json;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;

use crate::avro::take_bytes;
use scales::Scales;

/// A record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// apache-avro refuses the schema's text.
    #[error("the writer's schema is not valid Avro")]
    Schema(#[source] Box<apache_avro::Error>),
    /// The bytes are not what the schema describes, or don't resolve to the reader's.
    #[error("the bytes are not a record of this schema")]
    Datum(#[source] Box<apache_avro::Error>),
    /// The record ends before the bytes do: another schema wrote them.
    #[error("{0} bytes follow the record: it was written with another schema")]
    Trailing(usize),
    /// The schema is valid, but of another kind of record.
    #[error("field {field:?} is missing or not {expected}: not the kind of record that was asked for")]
    Field {
        /// Its name.
        field: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A key does not begin with an account.
    #[error("the key does not begin with the text of an account")]
    Account,
}

/// A schema by which records were written, parsed once per registry id.
#[derive(Clone, Debug)]
pub struct WriterSchema {
    schema: apache_avro::Schema,
    /// Of the decimals in an envelope's rows.
    scales: Scales,
}

impl WriterSchema {
    /// Parses the registry's text.
    pub fn parse(json: &str) -> Result<Self, DecodeError> {
        let schema = apache_avro::Schema::parse_str(json).map_err(|error| DecodeError::Schema(Box::new(error)))?;
        Ok(Self { scales: Scales::of_envelope(&schema), schema })
    }

    /// Reads a record (what follows the frame) as it was written.
    pub fn read(&self, body: &[u8]) -> Result<Value, DecodeError> {
        self.read_as(None, body)
    }

    /// Reads a record and resolves it to another version of its schema.
    pub fn read_resolved(&self, reader: &Self, body: &[u8]) -> Result<Value, DecodeError> {
        self.read_as(Some(&reader.schema), body)
    }

    fn read_as(&self, reader: Option<&apache_avro::Schema>, body: &[u8]) -> Result<Value, DecodeError> {
        let datum = |error| DecodeError::Datum(Box::new(error));
        let reading = GenericDatumReader::builder(&self.schema).maybe_reader_schema(reader).build().map_err(datum)?;
        let mut input = Input(body);
        let value = reading.read_value(&mut input).map_err(datum)?;
        if input.0.is_empty() { Ok(value) } else { Err(DecodeError::Trailing(input.0.len())) }
    }
}

/// A record's bytes, which fail at their end instead of reporting it.
///
/// apache-avro 0.22 takes a plain end of input in place of a union's branch for null: a record cut off before its last
/// nullable fields would read as if they were null.
struct Input<'a>(&'a [u8]);

impl std::io::Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() && !buffer.is_empty() {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the record is cut off"));
        }
        self.0.read(buffer)
    }
}

/// The account in a key (what follows the frame), without knowing the key's schema: `__account` is always first.
pub fn account_of_key(body: &[u8]) -> Result<&str, DecodeError> {
    let mut input = body;
    let account = take_bytes(&mut input).ok_or(DecodeError::Account)?;
    std::str::from_utf8(account).map_err(|_| DecodeError::Account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_sliced_off_a_key() {
        assert_eq!(account_of_key(&[4, b'a', b'1', 9, 9]).ok(), Some("a1"));
        assert_eq!(account_of_key(&[0]).ok(), Some(""));
        for body in [[].as_slice(), &[1], &[4, b'a'], &[2, 0xff], &[0xff]] {
            assert!(account_of_key(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn a_record_cut_off_before_a_nullable_field_is_refused() {
        let schema = r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null","long"]}]}"#;
        let schema = WriterSchema::parse(schema).unwrap();
        assert!(schema.read(&[0]).is_ok());
        assert!(matches!(schema.read(&[]), Err(DecodeError::Datum(_))));
    }

    #[test]
    fn bytes_of_another_schema_are_refused() {
        let schema = WriterSchema::parse(r#""long""#).unwrap();
        assert_eq!(schema.read(&[2]).unwrap(), Value::Long(1));
        assert!(matches!(schema.read(&[2, 2]), Err(DecodeError::Trailing(1))));
        assert!(matches!(schema.read(&[]), Err(DecodeError::Datum(_))));
        assert!(matches!(WriterSchema::parse("{"), Err(DecodeError::Schema(_))));
    }
}
