//! Decimals with their scale, which only the schema knows: apache-avro gives the unscaled integer alone.

use std::collections::BTreeMap;

use apache_avro::schema::{DecimalSchema, RecordSchema, Schema, UnionSchema};
use apache_avro::types::Value;
use apache_avro::{BigDecimal, Decimal};

/// The scale of each field of a row that is a decimal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scales(BTreeMap<String, i64>);

impl Scales {
    /// Of an envelope's rows; none for any other schema.
    pub(super) fn of_envelope(envelope: &Schema) -> Self {
        let Schema::Record(envelope) = envelope else { return Self::default() };
        // `before` defines the row's record, `after` only names it.
        let Some(Schema::Union(before)) = field(envelope, "before") else { return Self::default() };
        let row = before.variants().iter().find_map(|variant| match variant {
            Schema::Record(row) => Some(row),
            _ => None,
        });
        let fields = row.into_iter().flat_map(|row| &row.fields);
        Self(fields.filter_map(|field| Some((field.name.clone(), scale(&field.schema)?))).collect())
    }

    /// The field's value; a decimal as the number it is.
    pub(super) fn apply(&self, field: &str, value: Value) -> Value {
        match (value, self.0.get(field)) {
            (Value::Decimal(unscaled), Some(scale)) => Value::BigDecimal(scaled(unscaled, *scale)),
            (value, _) => value,
        }
    }
}

fn scaled(unscaled: Decimal, scale: i64) -> BigDecimal {
    BigDecimal::new(unscaled.into(), scale)
}

fn field<'s>(record: &'s RecordSchema, name: &str) -> Option<&'s Schema> {
    record.fields.iter().find(|field| field.name == name).map(|field| &field.schema)
}

fn scale(schema: &Schema) -> Option<i64> {
    match schema {
        Schema::Decimal(DecimalSchema { scale, .. }) => i64::try_from(*scale).ok(),
        Schema::Union(union) => in_union(union),
        _ => None,
    }
}

fn in_union(union: &UnionSchema) -> Option<i64> {
    union.variants().iter().find_map(|variant| match variant {
        Schema::Decimal(_) => scale(variant),
        _ => None,
    })
}
