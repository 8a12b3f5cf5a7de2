//! The decode plan of a table's keys.

use uuid::Uuid;

use super::columns::uuid;
use super::input::{Input, Malformed};
use super::schema::{Record, SchemaError, Type};
use crate::rows::{RowId, Table};

/// How keys of one schema are read.
#[derive(Debug)]
pub(super) struct KeyPlan {
    pub(super) table: Table,
    has_source: bool,
    /// The columns' places in the row's id.
    columns: Box<[usize]>,
}

/// The source's number, and the row.
pub(super) type Read = (Option<i64>, RowId);

impl KeyPlan {
    pub(super) fn compile(table: Table, key: &Record) -> Result<Self, SchemaError> {
        let form = |what| SchemaError::Form { record: key.name.clone(), what };
        let [account, fields @ ..] = &*key.fields else { return Err(form("a key without columns")) };
        if account.name != "__account" || account.of != Type::Text {
            return Err(form("a key that does not begin with the account"));
        }
        let (has_source, fields) = match fields {
            [source, rest @ ..] if source.name == "__source" && source.of == Type::Long => (true, rest),
            fields => (false, fields),
        };
        let names = columns(table);
        let place = |field: &super::schema::Field| {
            let place = names.iter().position(|name| *name == field.name);
            place.filter(|_| field.of == Type::Text)
        };
        let places: Option<Box<[usize]>> = fields.iter().map(place).collect();
        let places = places.filter(|places| places.len() == names.len());
        let columns =
            places.ok_or_else(|| form("the table's primary key is not made of the uuids that it should be"))?;
        Ok(Self { table, has_source, columns })
    }

    /// Reads what follows the account.
    #[inline]
    pub(super) fn read(&self, mut input: Input<'_>) -> Result<Read, Malformed> {
        let source = if self.has_source { Some(input.long()?) } else { None };
        let mut ids = [Uuid::nil(); 2];
        for place in &self.columns {
            ids[*place] = uuid(input.bytes()?).ok_or(Malformed)?;
        }
        let [first, second] = ids;
        if !input.0.is_empty() {
            return Err(Malformed);
        }
        Ok((
            source,
            match self.table {
                Table::ResourceConnections => RowId::Connection { resource: first, gateway_group: second },
                _ => RowId::Id(first),
            },
        ))
    }
}

fn columns(table: Table) -> &'static [&'static str] {
    match table {
        Table::ResourceConnections => &["resource_id", "gateway_group_id"],
        _ => &["id"],
    }
}
