//! Changes of a row's schema that Avro's rules allow and that give older bytes another meaning.
//!
//! Avro lets a reader take a string for bytes and bytes for a string, and looks at no decimal's scale. A registry that goes
//! by these rules accepts a column that turns from string to decimal, or gets another scale, and a reader that resolves
//! older records to the new schema reads wrong numbers. So the registry is asked about another change of the same fields,
//! one that no rule can take for harmless: what it says to that is what its rule means.
//!
//! Pure: two schemas in, the fields and the question out.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::difference::{is_before, row_fields};

/// What is asked instead, and about which fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// By their Avro names.
    pub(super) fields: Vec<String>,
    /// The new schema, but with a type for these fields that nothing resolves to.
    pub(super) question: String,
}

/// How a field's bytes are understood, as far as Avro would confuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// A string, or bytes that are no number.
    Plain,
    Decimal {
        scale: u64,
    },
}

/// What changes from one envelope's schema to the next; `None` if nothing does, or the texts are no envelopes.
pub(super) fn change(before: &str, after: &str) -> Option<Change> {
    let before: Value = serde_json::from_str(before).ok()?;
    let mut after: Value = serde_json::from_str(after).ok()?;
    let meanings: BTreeMap<&str, Meaning> = row_fields(&before)?
        .iter()
        .filter_map(|field| Some((field.get("name")?.as_str()?, meaning(field.get("type")?)?)))
        .collect();
    let mut changed = Vec::new();
    for field in fields_mut(&mut after)? {
        let (Some(name), Some(new)) = (field.get("name").and_then(Value::as_str), field.get("type").and_then(meaning))
        else {
            continue;
        };
        if meanings.get(name).is_some_and(|old| *old != new) {
            changed.push(name.to_owned());
            if let Some(kind) = field.get_mut("type") {
                *kind = json!(["null", "boolean"]);
            }
        }
    }
    (!changed.is_empty()).then(|| Change { fields: changed, question: after.to_string() })
}

fn fields_mut(envelope: &mut Value) -> Option<&mut Vec<Value>> {
    let before = envelope.get_mut("fields")?.as_array_mut()?.iter_mut().find(|field| is_before(field))?;
    before.get_mut("type")?.as_array_mut()?.iter_mut().find_map(|branch| branch.get_mut("fields")?.as_array_mut())
}

/// Of a nullable scalar.
fn meaning(kind: &Value) -> Option<Meaning> {
    let [_, value] = kind.as_array()?.as_slice() else { return None };
    let name = value.as_str().or_else(|| value.get("type")?.as_str())?;
    match (name, value.get("logicalType").and_then(Value::as_str)) {
        ("bytes", Some("decimal")) => {
            Some(Meaning::Decimal { scale: value.get("scale").and_then(Value::as_u64).unwrap_or(0) })
        }
        ("string" | "bytes", _) => Some(Meaning::Plain),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRING: &str = r#""string""#;
    const BYTES: &str = r#"{"type":"bytes"}"#;
    const LONG: &str = r#""long""#;

    fn decimal(precision: u32, scale: u32) -> String {
        format!(r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#)
    }

    fn envelope(fields: &[(&str, &str)]) -> String {
        let field =
            |(name, kind): &(&str, &str)| format!(r#"{{"name":"{name}","type":["null",{kind}],"default":null}}"#);
        let fields: Vec<String> = fields.iter().map(field).collect();
        format!(
            r#"{{"type":"record","name":"Envelope","fields":[{{"name":"op","type":"string"}},{{"name":"before","type":["null",
               {{"type":"record","name":"Value","fields":[{}]}}]}},{{"name":"after","type":["null","Value"]}}]}}"#,
            fields.join(",")
        )
    }

    fn changed(before: &str, after: &str) -> bool {
        let change = change(&envelope(&[("a", before)]), &envelope(&[("a", after)]));
        assert!(change.as_ref().is_none_or(|change| change.fields == ["a"]));
        change.is_some()
    }

    #[test]
    fn strings_decimals_and_scales_are_not_the_same() {
        let two = decimal(12, 2);
        for (before, after) in [
            (STRING, two.as_str()),
            (&two, STRING),
            (&two, BYTES),
            (BYTES, &two),
            (&two, &decimal(12, 4)),
            (&two, &decimal(12, 0)),
        ] {
            assert!(changed(before, after), "{before} to {after}");
        }
    }

    #[test]
    fn what_keeps_its_meaning_or_is_refused_by_any_rule_is_not_asked_about() {
        let two = decimal(12, 2);
        for (before, after) in [
            (STRING, STRING),
            (&two, &two),
            (&two, &decimal(14, 2)),
            (&two, &decimal(6, 2)),
            (LONG, &two),
            (&two, LONG),
            (STRING, r#"{"type":"string","logicalType":"uuid"}"#),
            (STRING, BYTES),
        ] {
            assert!(!changed(before, after), "{before} to {after}");
        }
    }

    #[test]
    fn the_question_is_the_new_schema_with_another_type_for_what_changed() {
        let (two, three) = (decimal(12, 2), decimal(12, 3));
        let before = envelope(&[("same", &two), ("gone", &two), ("text", STRING), ("scale", &two)]);
        let after = envelope(&[("same", &two), ("text", &two), ("scale", &three), ("new", &three)]);
        let found = change(&before, &after).unwrap();
        assert_eq!(found.fields, ["text", "scale"]);
        let asked: Value = serde_json::from_str(&found.question).unwrap();
        let expected = envelope(&[("same", &two), ("text", "\"boolean\""), ("scale", "\"boolean\""), ("new", &three)]);
        assert_eq!(asked, serde_json::from_str::<Value>(&expected).unwrap());
    }

    #[test]
    fn what_is_no_envelope_does_not_change() {
        let other = envelope(&[("a", STRING)]);
        for text in
            ["", "{", "[]", "\"string\"", r#"{"fields":7}"#, r#"{"fields":[{"name":"before","type":"string"}]}"#]
        {
            assert_eq!(change(text, &other), None, "{text}");
            assert_eq!(change(&other, text), None, "{text}");
        }
    }
}
