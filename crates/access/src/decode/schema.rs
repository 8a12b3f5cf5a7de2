//! A writer's schema, as far as the bridge uses Avro: from its JSON to a tree that values are read with.
//!
//! Names are resolved once. Recursive types, maps, fixed and Avro's own enums are in no schema of the bridge, and refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::input::{Input, Malformed};

/// A type, and how a value of it is read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    Null,
    Boolean,
    /// int and long: they are written alike.
    Long,
    /// A long that counts microseconds since 1970.
    Micros,
    Float,
    Double,
    Bytes,
    Text,
    Array(Box<Type>),
    /// Null or a text, and so on: what columns are, one step instead of two. Null comes first.
    NullableText,
    NullableMicros,
    NullableLong,
    NullableDouble,
    /// An array of [`Self::NullableText`].
    Texts,
    /// Any other.
    Union(Box<[Type]>),
    Record(Arc<Record>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    /// With its namespace.
    pub(super) name: String,
    pub(super) fields: Box<[Field]>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) of: Type,
}

/// A value where it stands in the record; nothing is copied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Raw<'a> {
    /// The schema has no such field.
    Absent,
    Null,
    /// Listed in `unchanged`: null stands there, and is not the value.
    Unchanged,
    Micros(i64),
    Number(f64),
    /// Not looked at: it may not be UTF-8.
    Text(&'a [u8]),
    /// The blocks of [`Type::Texts`].
    Texts(&'a [u8]),
    /// There is a value, of a type that no column of the access domain has.
    Other,
}

/// A schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    #[error("the schema is not JSON")]
    Json(#[source] serde_json::Error),
    #[error("{at:?} is {found}, which no schema of Penstock is")]
    Unsupported { at: String, found: String },
    /// A record of a table of the access domain, but not of the form that the wire contract gives it.
    #[error("{record}: {what}")]
    Form { record: String, what: &'static str },
}

/// The full name of a schema that is a record.
pub(super) fn record_name(schema: &Json) -> Option<String> {
    let text = |key: &str| schema.get(key).and_then(Json::as_str);
    text("type").filter(|kind| *kind == "record")?;
    Some(full_name(text("name")?, text("namespace").unwrap_or_default()))
}

/// Parses a schema that is a record.
pub(super) fn record(schema: &Json) -> Result<Arc<Record>, SchemaError> {
    match Parser::default().of(schema, "", "the schema")? {
        Type::Record(record) => Ok(record),
        _ => Err(unsupported("the schema", "no record")),
    }
}

impl Type {
    #[inline(always)]
    pub(super) fn read<'a>(&self, input: &mut Input<'a>) -> Result<Raw<'a>, Malformed> {
        match self {
            Self::NullableText => nullable(input, |input| input.bytes().map(Raw::Text)),
            Self::NullableMicros => nullable(input, |input| input.long().map(Raw::Micros)),
            Self::NullableLong => nullable(input, |input| input.long().map(|_| Raw::Other)),
            Self::NullableDouble => nullable(input, |input| input.array().map(f64::from_le_bytes).map(Raw::Number)),
            Self::Text => input.bytes().map(Raw::Text),
            Self::Long => input.long().map(|_| Raw::Other),
            other => other.read_other(input),
        }
    }

    #[inline(never)]
    fn read_other<'a>(&self, input: &mut Input<'a>) -> Result<Raw<'a>, Malformed> {
        Ok(match self {
            Self::Null => Raw::Null,
            Self::Micros => Raw::Micros(input.long()?),
            Self::Float => Raw::Number(f64::from(f32::from_le_bytes(input.array()?))),
            Self::Double => Raw::Number(f64::from_le_bytes(input.array()?)),
            Self::Texts => Raw::Texts(texts(input)?),
            Self::Boolean => {
                input.byte()?;
                Raw::Other
            }
            Self::Bytes => {
                input.bytes()?;
                Raw::Other
            }
            Self::Array(items) => {
                each(input, |input| items.read(input).map(|_| ()))?;
                Raw::Other
            }
            Self::Union(branches) => {
                let branch = usize::try_from(input.long()?).ok().and_then(|index| branches.get(index));
                return branch.ok_or(Malformed)?.read(input);
            }
            Self::Record(record) => {
                record.skip(input)?;
                Raw::Other
            }
            Self::NullableText | Self::NullableMicros | Self::NullableLong | Self::NullableDouble => {
                return self.read(input);
            }
            Self::Text | Self::Long => return self.read(input),
        })
    }

    /// A union; the ones that columns are made of in their short form.
    fn union(branches: Box<[Self]>) -> Self {
        match &*branches {
            [Self::Null, Self::Text] => Self::NullableText,
            [Self::Null, Self::Micros] => Self::NullableMicros,
            [Self::Null, Self::Long] => Self::NullableLong,
            [Self::Null, Self::Double] => Self::NullableDouble,
            _ => Self::Union(branches),
        }
    }

    fn is_union(&self) -> bool {
        matches!(
            self,
            Self::Union(_) | Self::NullableText | Self::NullableMicros | Self::NullableLong | Self::NullableDouble
        )
    }
}

impl Record {
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    pub(super) fn skip(&self, input: &mut Input<'_>) -> Result<(), Malformed> {
        for field in &self.fields {
            field.of.read(input)?;
        }
        Ok(())
    }
}

/// Calls `item` for each item of an array, which takes it off the input.
pub(super) fn each<'a>(
    input: &mut Input<'a>,
    mut item: impl FnMut(&mut Input<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    loop {
        match input.block()? {
            0 => return Ok(()),
            count => (0..count).try_for_each(|_| item(input))?,
        }
    }
}

/// A value behind the branch of a union that starts with null.
#[inline(always)]
fn nullable<'a>(
    input: &mut Input<'a>,
    value: impl FnOnce(&mut Input<'a>) -> Result<Raw<'a>, Malformed>,
) -> Result<Raw<'a>, Malformed> {
    // Branches 0 and 1, as the bytes that they are written as.
    match input.byte()? {
        0 => Ok(Raw::Null),
        2 => value(input),
        _ => Err(Malformed),
    }
}

/// One item of [`Type::Texts`]; None: null.
pub(super) fn nullable_text<'a>(input: &mut Input<'a>) -> Result<Option<&'a [u8]>, Malformed> {
    match input.byte()? {
        0 => Ok(None),
        2 => input.bytes().map(Some),
        _ => Err(Malformed),
    }
}

/// The bytes of an array of nullable texts.
fn texts<'a>(input: &mut Input<'a>) -> Result<&'a [u8], Malformed> {
    let start = input.0;
    each(input, |input| nullable_text(input).map(|_| ()))?;
    start.get(..start.len() - input.0.len()).ok_or(Malformed)
}

/// Named types; None: being defined.
#[derive(Default)]
struct Parser(BTreeMap<String, Option<Arc<Record>>>);

impl Parser {
    fn of(&mut self, json: &Json, namespace: &str, at: &str) -> Result<Type, SchemaError> {
        match json {
            Json::String(name) => self.named(name, None, namespace, at),
            Json::Array(branches) => {
                let branches = branches.iter().map(|branch| self.of(branch, namespace, at));
                let branches = branches.collect::<Result<Box<[Type]>, SchemaError>>()?;
                if branches.iter().any(Type::is_union) {
                    return Err(unsupported(at, "a union in a union"));
                }
                Ok(Type::union(branches))
            }
            Json::Object(object) => match object.get("type") {
                Some(Json::String(kind)) if kind == "record" => self.record(json, namespace, at),
                Some(Json::String(kind)) if kind == "array" => {
                    let items = object.get("items").ok_or_else(|| unsupported(at, "an array of nothing"))?;
                    Ok(match self.of(items, namespace, at)? {
                        Type::NullableText => Type::Texts,
                        // An array of these could have any number of items in no bytes at all.
                        Type::Null | Type::Record(_) => return Err(unsupported(at, "an array of records or nulls")),
                        items => Type::Array(Box::new(items)),
                    })
                }
                Some(Json::String(name)) => {
                    let logical = object.get("logicalType").and_then(Json::as_str);
                    self.named(name, logical, namespace, at)
                }
                Some(nested) => self.of(nested, namespace, at),
                None => Err(unsupported(at, "without a type")),
            },
            Json::Null | Json::Bool(_) | Json::Number(_) => Err(unsupported(at, "no type")),
        }
    }

    fn named(&self, name: &str, logical: Option<&str>, namespace: &str, at: &str) -> Result<Type, SchemaError> {
        Ok(match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "long" if matches!(logical, Some("timestamp-micros" | "local-timestamp-micros")) => Type::Micros,
            "int" | "long" => Type::Long,
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "string" => Type::Text,
            name => match self.0.get(&full_name(name, namespace)) {
                Some(Some(record)) => Type::Record(record.clone()),
                Some(None) => return Err(unsupported(at, "part of itself")),
                None => return Err(unsupported(at, name)),
            },
        })
    }

    fn record(&mut self, json: &Json, namespace: &str, at: &str) -> Result<Type, SchemaError> {
        let text = |key: &str| json.get(key).and_then(Json::as_str);
        let name = text("name").ok_or_else(|| unsupported(at, "a record without a name"))?;
        let name = full_name(name, text("namespace").unwrap_or(namespace));
        let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        if self.0.insert(name.clone(), None).is_some() {
            return Err(unsupported(at, "defined twice"));
        }
        let fields = json.get("fields").and_then(Json::as_array).ok_or_else(|| unsupported(at, "without fields"))?;
        let fields = fields.iter().map(|field| {
            let missing = || unsupported(&name, "a record with a field that has no name or no type");
            let field_name = field.get("name").and_then(Json::as_str).ok_or_else(missing)?;
            let of = self.of(field.get("type").ok_or_else(missing)?, &namespace, field_name)?;
            Ok(Field { name: field_name.to_owned(), of })
        });
        let fields = fields.collect::<Result<_, SchemaError>>()?;
        let record = Arc::new(Record { name: name.clone(), fields });
        self.0.insert(name, Some(record.clone()));
        Ok(Type::Record(record))
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

#[cold]
fn unsupported(at: &str, found: &str) -> SchemaError {
    SchemaError::Unsupported { at: at.to_owned(), found: found.to_owned() }
}
