//! The Avro schemas of a table's key and envelope, as text.
//!
//! Invariant: the same shape gives the same text, byte for byte, on every machine and in every build: the text is written
//! here, field by field, and never left to a JSON library's map order.

use std::borrow::Cow;

use crate::table::{ColumnShape, TableShape};
use crate::types::ValueKind;

/// The wire version, as the `source.version` of every envelope tells it.
pub const WIRE_VERSION: &str = "1";

const SOURCE: &str = concat!(
    r#"{"type":"record","name":"Source","namespace":"penstock.wire","fields":["#,
    r#"{"name":"version","type":"string"},{"name":"connector","type":"string"},{"name":"name","type":"string"},"#,
    r#"{"name":"ts_ms","type":"long"},{"name":"ts_us","type":"long"},{"name":"snapshot","type":"string"},"#,
    r#"{"name":"db","type":"string"},{"name":"schema","type":"string"},{"name":"table","type":"string"},"#,
    r#"{"name":"txId","type":["null","long"],"default":null},{"name":"lsn","type":["null","long"],"default":null},"#,
    r#"{"name":"commit_lsn","type":"long"},{"name":"seq","type":"long"}]}"#,
);

const TRANSACTION: &str = concat!(
    r#"{"type":"record","name":"Transaction","namespace":"penstock.wire","fields":["#,
    r#"{"name":"id","type":"string"},{"name":"total_order","type":"long"},"#,
    r#"{"name":"data_collection_order","type":"long"}]}"#,
);

/// The key's schema. No docs, no defaults, no properties: it must never change.
pub(crate) fn key(namespace: &str, shape: &TableShape, names: &[String]) -> String {
    let mut fields = vec![r#"{"name":"__account","type":"string"}"#.to_owned()];
    if shape.source_in_key {
        fields.push(r#"{"name":"__source","type":"int"}"#.to_owned());
    }
    for index in &shape.key {
        if let (Some(column), Some(name)) = (shape.columns.get(*index), names.get(*index)) {
            fields.push(format!(r#"{{"name":{},"type":{}}}"#, quoted(name), key_type(column.type_info.kind)));
        }
    }
    record("Key", namespace, &fields)
}

/// The envelope's schema.
pub(crate) fn envelope(namespace: &str, shape: &TableShape, names: &[String]) -> String {
    let columns = shape.columns.iter().zip(names).filter(|(column, _)| !column.excluded);
    let value_fields: Vec<String> = columns.map(|(column, name)| value_field(column, name)).collect();
    let value = record("Value", namespace, &value_fields);
    let value_name = quoted(&format!("{namespace}.Value"));
    let fields = [
        format!(r#"{{"name":"before","type":["null",{value}],"default":null}}"#),
        format!(r#"{{"name":"after","type":["null",{value_name}],"default":null}}"#),
        format!(r#"{{"name":"source","type":{SOURCE}}}"#),
        r#"{"name":"op","type":"string"}"#.to_owned(),
        r#"{"name":"ts_ms","type":"long"}"#.to_owned(),
        format!(r#"{{"name":"transaction","type":["null",{TRANSACTION}],"default":null}}"#),
        r#"{"name":"unchanged","type":{"type":"array","items":"string"}}"#.to_owned(),
    ];
    record("Envelope", namespace, &fields)
}

/// Text as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    // A string's Display as a JSON value is its quoted form, and cannot fail.
    serde_json::Value::from(text).to_string()
}

fn record(name: &str, namespace: &str, fields: &[String]) -> String {
    format!(
        r#"{{"type":"record","name":{},"namespace":{},"fields":[{}]}}"#,
        quoted(name),
        quoted(namespace),
        fields.join(",")
    )
}

fn value_field(column: &ColumnShape, name: &str) -> String {
    let info = &column.type_info;
    let mut field = format!(r#"{{"name":{},"type":{},"default":null"#, quoted(name), value_type(info.kind));
    field.push_str(&format!(r#","pg.type":{}"#, quoted(&info.pg_type)));
    if let Some(base) = &info.pg_base {
        field.push_str(&format!(r#","pg.base":{}"#, quoted(base)));
    }
    if column.name != name {
        field.push_str(&format!(r#","pg.name":{}"#, quoted(&column.name)));
    }
    field.push('}');
    field
}

fn value_type(kind: ValueKind) -> String {
    match kind {
        ValueKind::Array(element) => format!(r#"["null",{},"string"]"#, array_type(element.kind())),
        scalar => format!(r#"["null",{}]"#, scalar_type(scalar)),
    }
}

fn key_type(kind: ValueKind) -> String {
    match kind {
        ValueKind::Int2 | ValueKind::Int4 | ValueKind::Int8 => r#""long""#.to_owned(),
        ValueKind::Array(element) => format!(r#"[{},"string"]"#, array_type(element.kind())),
        scalar => scalar_type(scalar).into_owned(),
    }
}

fn array_type(element: ValueKind) -> String {
    format!(r#"{{"type":"array","items":["null",{}]}}"#, scalar_type(element))
}

fn scalar_type(kind: ValueKind) -> Cow<'static, str> {
    Cow::Borrowed(match kind {
        ValueKind::Bool => r#""boolean""#,
        ValueKind::Int2 | ValueKind::Int4 => r#""int""#,
        ValueKind::Int8 => r#""long""#,
        ValueKind::Float4 => r#""float""#,
        ValueKind::Float8 => r#""double""#,
        ValueKind::Uuid => r#"{"type":"string","logicalType":"uuid"}"#,
        ValueKind::Timestamptz => r#"{"type":"long","logicalType":"timestamp-micros"}"#,
        ValueKind::Timestamp => r#"{"type":"long","logicalType":"local-timestamp-micros"}"#,
        ValueKind::Date => r#"{"type":"int","logicalType":"date"}"#,
        ValueKind::Time => r#"{"type":"long","logicalType":"time-micros"}"#,
        ValueKind::Bytea => r#""bytes""#,
        ValueKind::Decimal(decimal) => {
            let (precision, scale) = (decimal.precision(), decimal.scale());
            return Cow::Owned(format!(
                r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#
            ));
        }
        ValueKind::Numeric
        | ValueKind::Text
        | ValueKind::Jsonb
        | ValueKind::Inet
        | ValueKind::Macaddr
        | ValueKind::String
        | ValueKind::Array(_) => r#""string""#,
    })
}
