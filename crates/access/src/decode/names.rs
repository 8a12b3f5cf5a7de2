//! Which records are of the access domain, by the names of their schemas.

use std::collections::BTreeMap;

use penstock_wire::name::avro_table_name;

use crate::rows::Table;

/// What the tables are called in Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// `public`, unless configured.
    pub schema: String,
    /// Tables that are called otherwise than [`Table::name`] says.
    pub renamed: BTreeMap<Table, String>,
}

/// What a record of a captured table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Key,
    Envelope,
}

impl Default for Names {
    fn default() -> Self {
        Self { schema: "public".to_owned(), renamed: BTreeMap::new() }
    }
}

impl Names {
    /// The table that is called so in Postgres.
    pub fn table(&self, schema: &str, table: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|candidate| schema == self.schema && table == self.name(*candidate))
    }

    /// What a table is called in Postgres.
    pub(crate) fn name(&self, table: Table) -> &str {
        self.renamed.get(&table).map_or(table.name(), String::as_str)
    }

    /// The table that a record's full name, `<namespace>.<schema>.<table>.<Key or Envelope>`, is of.
    pub(super) fn recognise(&self, record: &str) -> Option<(Table, Kind)> {
        let (table, kind) = record.rsplit_once('.')?;
        let kind = match kind {
            "Key" => Kind::Key,
            "Envelope" => Kind::Envelope,
            _ => return None,
        };
        let found = Table::ALL.into_iter().find(|candidate| {
            let namespace = table.strip_suffix(&avro_table_name(&self.schema, self.name(*candidate)));
            namespace.and_then(|namespace| namespace.strip_suffix('.')).is_some_and(|namespace| !namespace.is_empty())
        });
        Some((found?, kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_known_by_schema_and_table() {
        let default = Names::default();
        let moved = Names {
            schema: "zero-trust".to_owned(),
            renamed: BTreeMap::from([(Table::Clients, "devices".to_owned())]),
        };
        for (names, record, expected) in [
            (&default, "penstock.public.clients.Key", Some((Table::Clients, Kind::Key))),
            (&default, "penstock.public.clients.Envelope", Some((Table::Clients, Kind::Envelope))),
            (&default, "com.example.public.flows.Envelope", Some((Table::Flows, Kind::Envelope))),
            (&default, "public.public.clients.Key", Some((Table::Clients, Kind::Key))),
            (&default, "penstock.public.clients.Value", None),
            (&default, "penstock.public.devices.Key", None),
            (&default, "penstock.private.clients.Key", None),
            (&default, "penstock.notpublic.clients.Key", None),
            (&default, "public.clients.Key", None),
            (&default, ".public.clients.Key", None),
            (&default, "clients.Key", None),
            (&default, "Key", None),
            (&default, "", None),
            (&default, "penstock.wire.ControlKey", None),
            (&moved, "penstock.zero_x002D_trust.devices.Key", Some((Table::Clients, Kind::Key))),
            (&moved, "penstock.zero_x002D_trust.actors.Key", Some((Table::Actors, Kind::Key))),
            (&moved, "penstock.zero_x002D_trust.clients.Key", None),
            (&moved, "penstock.public.devices.Key", None),
        ] {
            assert_eq!(names.recognise(record), expected, "{record}");
        }
    }

    #[test]
    fn every_table_has_a_name_of_its_own() {
        for table in Table::ALL {
            let record = format!("penstock.public.{}.Key", table.name());
            assert_eq!(Names::default().recognise(&record), Some((table, Kind::Key)));
        }
    }
}
