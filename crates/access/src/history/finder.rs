//! Whose row a client or gateway is, where only its id is given.

use std::sync::Arc;

use uuid::Uuid;

use crate::change::Action;
use crate::decode::Names;
use crate::partition::Kind;
use crate::replica::{RawRecord, Subscriber, UnknownSchema, Written};
use crate::rows::{RowId, Table};

/// Looks for the first record that writes the row of a client or gateway.
#[derive(Debug)]
pub struct Finder {
    table: Table,
    row: RowId,
    schemas: Written,
}

impl Finder {
    pub fn new(subscriber: Subscriber, names: Names) -> Self {
        let table = match subscriber {
            Subscriber::Client { .. } => Table::Clients,
            Subscriber::Gateway { .. } => Table::Gateways,
        };
        Self { table, row: RowId::Id(subscriber.row()), schemas: Written::new(names) }
    }

    /// Compiles a schema that [`UnknownSchema`] asked for; one that the registry does not have is `None`.
    pub fn handle_schema(&mut self, id: u32, json: Option<&str>) {
        // A row that cannot be read is looked for in the records behind it.
        let _ = self.schemas.insert(id, json);
    }

    /// The account, if the record writes the row.
    ///
    /// # Errors
    /// Nothing was taken: hand in the schema, and the record again.
    pub fn handle_record(&mut self, raw: &RawRecord<'_>) -> Result<Option<Arc<str>>, UnknownSchema> {
        let Ok(record) = self.schemas.read(raw)? else { return Ok(None) };
        let Kind::Row(event) = record.kind else { return Ok(None) };
        let written = match event.action {
            Action::Insert(id, _) | Action::Update(id, _) | Action::Load(id, _) => Some(id),
            Action::Delete(_) | Action::Truncate | Action::Sweep { .. } => None,
        };
        Ok(record.account.filter(|_| event.table == self.table && written == Some(self.row)))
    }
}

impl Subscriber {
    /// The id of its row.
    pub fn row(&self) -> Uuid {
        match self {
            Self::Client { id, .. } | Self::Gateway { id, .. } => *id,
        }
    }
}
