//! The checks a shape must pass before a plan is made of it. Each refusal says what an operator can do.

use std::collections::BTreeMap;

use super::{KeyColumn, PlanError};
use crate::name::{avro_name, avro_table_name, is_avro_name};
use crate::table::{ColumnShape, TableShape};
use crate::types::{TypeInfo, ValueKind};

/// Names that every key has already.
const RESERVED_KEY_NAMES: [&str; 2] = ["__account", "__source"];

/// `<namespace>.<schema>.<table>`, escaped.
pub(super) fn record_namespace(shape: &TableShape) -> Result<String, PlanError> {
    if !shape.namespace.split('.').all(is_avro_name) {
        return Err(PlanError::Namespace(shape.namespace.clone()));
    }
    if shape.schema.is_empty() || shape.table.is_empty() {
        return Err(PlanError::EmptyName);
    }
    Ok(format!("{}.{}", shape.namespace, avro_table_name(&shape.schema, &shape.table)))
}

/// The columns' Avro names, of which no two that travel may be the same.
pub(super) fn avro_names(shape: &TableShape) -> Result<Vec<String>, PlanError> {
    if shape.columns.iter().any(|column| column.name.is_empty()) {
        return Err(PlanError::EmptyName);
    }
    let names: Vec<String> = shape.columns.iter().map(|column| avro_name(&column.name).into_owned()).collect();
    let mut taken = BTreeMap::new();
    for (column, name) in shape.columns.iter().zip(&names).filter(|(column, _)| !column.excluded) {
        if let Some(first) = taken.insert(name, column) {
            return Err(PlanError::Collision {
                first: first.name.clone(),
                second: column.name.clone(),
                avro: name.clone(),
            });
        }
    }
    Ok(names)
}

pub(super) fn key_columns(shape: &TableShape) -> Result<Vec<KeyColumn>, PlanError> {
    if shape.key.is_empty() {
        return Err(PlanError::NoKey);
    }
    let mut key: Vec<KeyColumn> = Vec::with_capacity(shape.key.len());
    for index in &shape.key {
        let column = travelling(shape, *index, "key")?;
        if RESERVED_KEY_NAMES.contains(&column.name.as_str()) {
            return Err(PlanError::ReservedKey { column: column.name.clone() });
        }
        if matches!(column.type_info.kind, ValueKind::Decimal(_)) {
            return Err(PlanError::DecimalKey { column: column.name.clone() });
        }
        if key.iter().any(|earlier| earlier.index == *index) {
            return Err(PlanError::RepeatedKey { column: column.name.clone() });
        }
        key.push(KeyColumn { index: *index, kind: column.type_info.kind });
    }
    Ok(key)
}

pub(super) fn check_account(shape: &TableShape) -> Result<(), PlanError> {
    let column = travelling(shape, shape.account, "account")?;
    if is_account_type(&column.type_info) {
        return Ok(());
    }
    Err(PlanError::AccountType { column: column.name.clone(), pg_type: column.type_info.pg_type.clone() })
}

/// Types whose equality is that of their text. citext and bpchar compare otherwise than they print.
fn is_account_type(info: &TypeInfo) -> bool {
    match info.kind {
        ValueKind::Uuid | ValueKind::Int2 | ValueKind::Int4 | ValueKind::Int8 => true,
        ValueKind::Text => {
            let name = info.pg_base.as_deref().unwrap_or(&info.pg_type);
            name == "text" || name.starts_with("character varying")
        }
        ValueKind::Bool
        | ValueKind::Float4
        | ValueKind::Float8
        | ValueKind::Numeric
        | ValueKind::Decimal(_)
        | ValueKind::Timestamptz
        | ValueKind::Timestamp
        | ValueKind::Date
        | ValueKind::Time
        | ValueKind::Bytea
        | ValueKind::Jsonb
        | ValueKind::Inet
        | ValueKind::Macaddr
        | ValueKind::String
        | ValueKind::Array(_) => false,
    }
}

fn travelling<'s>(shape: &'s TableShape, index: usize, role: &'static str) -> Result<&'s ColumnShape, PlanError> {
    match shape.columns.get(index) {
        None => Err(PlanError::Missing { role }),
        Some(column) if column.excluded => Err(PlanError::Excluded { role, column: column.name.clone() }),
        Some(column) => Ok(column),
    }
}
