//! Taking the fields of a decoded record, by name and type.

use apache_avro::types::Value;

use super::DecodeError;
use crate::lsn::CommitLsn;
use crate::position::{Position, Seq};

/// The fields of one record that have not been taken yet.
pub(crate) struct Fields(Vec<(String, Value)>);

impl Fields {
    pub(crate) fn of(value: Value) -> Result<Self, DecodeError> {
        match value {
            Value::Record(fields) => Ok(Self(fields)),
            _ => Err(wrong("", "a record")),
        }
    }

    /// The field's value, out of its union.
    pub(crate) fn take(&mut self, name: &str) -> Result<Value, DecodeError> {
        let field = self.0.iter_mut().find(|(field, _)| field == name).ok_or_else(|| wrong(name, "present"))?;
        Ok(plain(std::mem::replace(&mut field.1, Value::Null)))
    }

    pub(crate) fn long(&mut self, name: &str) -> Result<i64, DecodeError> {
        self.optional_long(name)?.ok_or_else(|| wrong(name, "a number"))
    }

    pub(crate) fn optional_long(&mut self, name: &str) -> Result<Option<i64>, DecodeError> {
        match self.take(name)? {
            Value::Null => Ok(None),
            Value::Long(number) => Ok(Some(number)),
            Value::Int(number) => Ok(Some(i64::from(number))),
            _ => Err(wrong(name, "a number")),
        }
    }

    /// A number that was written with the bits of an unsigned one.
    pub(crate) fn bits(&mut self, name: &str) -> Result<u64, DecodeError> {
        self.long(name).map(i64::cast_unsigned)
    }

    /// A number of a narrower type.
    pub(crate) fn narrow<T: TryFrom<i64>>(&mut self, name: &str) -> Result<T, DecodeError> {
        T::try_from(self.long(name)?).map_err(|_| wrong(name, "within its range"))
    }

    pub(crate) fn boolean(&mut self, name: &str) -> Result<bool, DecodeError> {
        match self.take(name)? {
            Value::Boolean(value) => Ok(value),
            _ => Err(wrong(name, "a boolean")),
        }
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<String, DecodeError> {
        self.optional_text(name)?.ok_or_else(|| wrong(name, "a string"))
    }

    pub(crate) fn optional_text(&mut self, name: &str) -> Result<Option<String>, DecodeError> {
        match self.take(name)? {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text)),
            _ => Err(wrong(name, "a string")),
        }
    }

    pub(crate) fn record(&mut self, name: &str) -> Result<Self, DecodeError> {
        self.optional_record(name)?.ok_or_else(|| wrong(name, "a record"))
    }

    pub(crate) fn optional_record(&mut self, name: &str) -> Result<Option<Self>, DecodeError> {
        match self.take(name)? {
            Value::Null => Ok(None),
            Value::Record(fields) => Ok(Some(Self(fields))),
            _ => Err(wrong(name, "a record")),
        }
    }

    pub(crate) fn records(&mut self, name: &str) -> Result<Vec<Self>, DecodeError> {
        self.items(name)?.into_iter().map(Self::of).collect()
    }

    pub(crate) fn texts(&mut self, name: &str) -> Result<Vec<String>, DecodeError> {
        let text = |item| match item {
            Value::String(text) => Ok(text),
            _ => Err(wrong(name, "an array of strings")),
        };
        self.items(name)?.into_iter().map(text).collect()
    }

    pub(crate) fn narrows<T: TryFrom<i64>>(&mut self, name: &str) -> Result<Vec<T>, DecodeError> {
        let number = |item| match item {
            Value::Long(number) => T::try_from(number).map_err(|_| wrong(name, "numbers within their range")),
            _ => Err(wrong(name, "an array of numbers")),
        };
        self.items(name)?.into_iter().map(number).collect()
    }

    pub(crate) fn position(mut self) -> Result<Position, DecodeError> {
        Ok(Position {
            epoch: self.narrow("epoch")?,
            commit_lsn: CommitLsn::new(self.bits("commit_lsn")?),
            seq: Seq(self.bits("seq")?),
        })
    }

    /// All that is left, out of its unions.
    pub(crate) fn into_plain(self) -> Vec<(String, Value)> {
        self.0.into_iter().map(|(name, value)| (name, plain(value))).collect()
    }

    fn items(&mut self, name: &str) -> Result<Vec<Value>, DecodeError> {
        match self.take(name)? {
            Value::Array(items) => Ok(items.into_iter().map(plain).collect()),
            _ => Err(wrong(name, "an array")),
        }
    }
}

pub(crate) fn wrong(field: &str, expected: &'static str) -> DecodeError {
    DecodeError::Field { field: field.to_owned(), expected }
}

/// The value in a union, whichever branch it is.
fn plain(value: Value) -> Value {
    match value {
        Value::Union(_, inner) => *inner,
        other => other,
    }
}
