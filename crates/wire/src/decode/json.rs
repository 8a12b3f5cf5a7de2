//! Decoded values as JSON, for people: `replay` prints it. Not a wire form, and not read back.
//!
//! Numbers stay what they are on the wire (times in microseconds, dates in days). What JSON has no number for (NaN and
//! the infinities), bytes and decimals are text, as Postgres prints them.

use std::collections::BTreeMap;

use apache_avro::types::Value;
use serde_json::Value as Json;

/// The value as JSON; unions vanish.
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(value) => Json::from(*value),
        Value::Int(number) | Value::Date(number) | Value::TimeMillis(number) => Json::from(*number),
        Value::Long(number)
        | Value::TimeMicros(number)
        | Value::TimestampMillis(number)
        | Value::TimestampMicros(number)
        | Value::TimestampNanos(number)
        | Value::LocalTimestampMillis(number)
        | Value::LocalTimestampMicros(number)
        | Value::LocalTimestampNanos(number) => Json::from(*number),
        Value::Float(number) => float(*number, f64::from(*number)),
        Value::Double(number) => float(*number, *number),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => Json::from(hex(bytes)),
        Value::String(text) | Value::Enum(_, text) => Json::from(text.as_str()),
        Value::Uuid(uuid) => Json::from(uuid.to_string()),
        Value::Union(_, inner) => to_json(inner),
        Value::Array(items) => Json::from_iter(items.iter().map(to_json)),
        Value::Map(entries) => {
            let sorted = BTreeMap::from_iter(entries);
            Json::from_iter(sorted.into_iter().map(|(name, value)| (name.as_str(), to_json(value))))
        }
        Value::Record(fields) => Json::from_iter(fields.iter().map(|(name, value)| (name.as_str(), to_json(value)))),
        Value::BigDecimal(number) => Json::from(number.to_plain_string()),
        // Penstock writes none of these; a decimal has its scale when a row is decoded.
        Value::Decimal(_) | Value::Duration(_) => Json::from(format!("{value:?}")),
    }
}

/// The shortest text of a float4 is another than that of the same number as a double, so the text decides.
fn float(printed: impl std::fmt::Display, number: f64) -> Json {
    if number.is_nan() {
        return Json::from("NaN");
    }
    if number.is_infinite() {
        return Json::from(if number > 0.0 { "Infinity" } else { "-Infinity" });
    }
    printed.to_string().parse().map_or(Json::Null, |shortest: f64| Json::from(shortest))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("\\x");
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use apache_avro::BigDecimal;

    use super::*;

    #[test]
    fn values_are_readable() {
        for (value, json) in [
            (Value::Union(1, Box::new(Value::Long(7))), "7"),
            (Value::Float(0.1), "0.1"),
            (Value::Double(f64::NEG_INFINITY), "\"-Infinity\""),
            (Value::Double(f64::NAN), "\"NaN\""),
            (Value::Bytes(vec![0, 255]), "\"\\\\x00ff\""),
            (Value::BigDecimal(BigDecimal::new((-1200).into(), 2)), "\"-12.00\""),
            (Value::BigDecimal(BigDecimal::new(0.into(), 9)), "\"0.000000000\""),
            (Value::Array(vec![Value::Null, Value::Boolean(true)]), "[null,true]"),
            (Value::Record(vec![("a".into(), Value::Int(1))]), r#"{"a":1}"#),
        ] {
            assert_eq!(to_json(&value).to_string(), json);
        }
    }
}
