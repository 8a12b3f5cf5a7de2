//! How the fields of two versions of a schema differ, for people: which field, what it was, what it is.
//!
//! Of an envelope the row's fields count, of any other record its own. Properties and the order of fields are no
//! difference. Pure: two texts in.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// The changes, fields by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference(Vec<Change>);

/// One field that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    field: String,
    /// `None`: there was no such field.
    was: Option<Kind>,
    /// `None`: it is gone.
    is: Option<Kind>,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    /// The Avro type, canonical: what decides whether two fields are the same.
    avro: String,
    /// The type in Postgres, where the schema tells it.
    postgres: Option<String>,
}

impl Difference {
    /// From `before` to `after`; `None` if either is no record's schema.
    pub(super) fn between(before: &str, after: &str) -> Option<Self> {
        let (mut old, new) = (kinds(before)?, kinds(after)?);
        let mut changes = Vec::new();
        for (field, is) in new {
            let was = old.remove(&field);
            if was.as_ref().map(|kind| &kind.avro) != Some(&is.avro) {
                changes.push(Change { field, was, is: Some(is) });
            }
        }
        changes.extend(old.into_iter().map(|(field, was)| Change { field, was: Some(was), is: None }));
        changes.sort_by(|one, other| one.field.cmp(&other.field));
        Some(Self(changes))
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Only these fields.
    pub(super) fn only(mut self, fields: &[String]) -> Self {
        self.0.retain(|change| fields.contains(&change.field));
        self
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Change { field, was, is }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            match (was, is) {
                (Some(was), Some(is)) => write!(f, "{separator}{field} was {was} and is {is}")?,
                (Some(was), None) => write!(f, "{separator}{field} was {was} and is gone")?,
                (None, Some(is)) => write!(f, "{separator}{field} is new: {is}")?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.postgres {
            Some(postgres) => write!(f, "{postgres} ({})", self.avro),
            None => f.write_str(&self.avro),
        }
    }
}

/// The fields of an envelope's row, which `before` defines.
pub(super) fn row_fields(envelope: &Value) -> Option<&Vec<Value>> {
    let before = envelope.get("fields")?.as_array()?.iter().find(|field| is_before(field))?;
    before.get("type")?.as_array()?.iter().find_map(|branch| branch.get("fields")?.as_array())
}

/// Whether a field is the one that defines an envelope's row.
pub(super) fn is_before(field: &Value) -> bool {
    field.get("name").and_then(Value::as_str) == Some("before")
}

fn kinds(schema: &str) -> Option<BTreeMap<String, Kind>> {
    let schema: Value = serde_json::from_str(schema).ok()?;
    let fields = match row_fields(&schema) {
        Some(fields) => fields,
        None => schema.get("fields")?.as_array()?,
    };
    let kind = |field: &Value| {
        let postgres = field.get("pg.type").and_then(Value::as_str).map(str::to_owned);
        Some((field.get("name")?.as_str()?.to_owned(), Kind { avro: avro(field.get("type")?), postgres }))
    };
    Some(fields.iter().filter_map(kind).collect())
}

/// `long`, `long timestamp-micros`, `decimal(12,2)`, `array of long or string`; null is not named.
fn avro(kind: &Value) -> String {
    match kind {
        Value::String(name) => name.clone(),
        Value::Array(branches) => {
            let named: Vec<String> =
                branches.iter().filter(|branch| branch.as_str() != Some("null")).map(avro).collect();
            named.join(" or ")
        }
        Value::Object(object) => {
            let text = |name: &str| object.get(name).and_then(Value::as_str);
            let number = |name: &str| object.get(name).and_then(Value::as_u64).unwrap_or_default();
            match (text("type"), text("logicalType")) {
                (_, Some("decimal")) => format!("decimal({},{})", number("precision"), number("scale")),
                (Some("array"), _) => format!("array of {}", object.get("items").map(avro).unwrap_or_default()),
                (Some(plain), Some(logical)) => format!("{plain} {logical}"),
                (Some(plain), None) => plain.to_owned(),
                (None, _) => object.get("type").map(avro).unwrap_or_default(),
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fields: &[(&str, &str)]) -> String {
        let fields: Vec<String> =
            fields.iter().map(|(name, kind)| format!(r#"{{"name":"{name}","type":{kind}}}"#)).collect();
        format!(r#"{{"type":"record","name":"Key","fields":[{}]}}"#, fields.join(","))
    }

    fn envelope(fields: &[(&str, &str, &str)]) -> String {
        let fields = fields.iter().map(|(name, kind, postgres)| {
            format!(r#"{{"name":"{name}","type":["null",{kind}],"default":null,"pg.type":"{postgres}"}}"#)
        });
        let fields = fields.collect::<Vec<_>>().join(",");
        format!(
            r#"{{"type":"record","name":"Envelope","fields":[{{"name":"before","type":["null",
               {{"type":"record","name":"Value","fields":[{fields}]}}]}},{{"name":"op","type":"string"}}]}}"#
        )
    }

    #[test]
    fn every_field_that_differs_is_told_with_both_types() {
        const LONG: &str = r#""long""#;
        const LOCAL: &str = r#"{"type":"long","logicalType":"local-timestamp-micros"}"#;
        const DECIMAL: &str = r#"{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}"#;
        const ARRAY: &str = r#"{"type":"array","items":["null","long"]},"string""#;
        let before = envelope(&[("a", LONG, "bigint"), ("at", LOCAL, "timestamp"), ("gone", ARRAY, "bigint[]")]);
        let after =
            envelope(&[("a", r#""int""#, "integer"), ("at", LONG, "bigint"), ("new", DECIMAL, "numeric(12,2)")]);
        assert_eq!(
            Difference::between(&before, &after).unwrap().to_string(),
            "a was bigint (long) and is integer (int), \
             at was timestamp (long local-timestamp-micros) and is bigint (long), \
             gone was bigint[] (array of long or string) and is gone, new is new: numeric(12,2) (decimal(12,2))"
        );
        let only = Difference::between(&before, &after).unwrap().only(&["new".to_owned()]);
        assert_eq!(only.to_string(), "new is new: numeric(12,2) (decimal(12,2))");
    }

    #[test]
    fn what_readers_cannot_tell_apart_is_no_difference() {
        let text = r#"{"type":"string"}"#;
        let before = envelope(&[("a", "\"string\"", "character varying(20)"), ("b", "\"int\"", "integer")]);
        let after = envelope(&[("b", "\"int\"", "integer"), ("a", text, "text")]);
        assert!(Difference::between(&before, &after).unwrap().is_empty());
    }

    #[test]
    fn a_keys_own_fields_count() {
        let before = key(&[("__account", "\"string\""), ("id", "\"long\"")]);
        let after = key(&[("__account", "\"string\""), ("id", r#"{"type":"string","logicalType":"uuid"}"#)]);
        let found = Difference::between(&before, &after).unwrap();
        assert_eq!(found.to_string(), "id was long and is string uuid");
        assert!(Difference::between(&before, &before).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_record_has_no_difference() {
        for text in ["", "{", "[]", "\"string\"", r#"{"fields":7}"#] {
            assert_eq!(Difference::between(text, &key(&[])), None, "{text}");
            assert_eq!(Difference::between(&key(&[]), text), None, "{text}");
        }
    }
}
