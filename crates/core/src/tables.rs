//! The tables the stream has described, and what is pinned of them.
//!
//! A relation is captured in three steps: the server describes it, the catalog adds what it leaves out, the registry gives
//! its schemas their ids. Until the last of them no frame may come. Keys and names of types are pinned at first sight.

use std::collections::BTreeMap;

use penstock_wire::name::avro_table_name;
use penstock_wire::progress::{KeyPin, Progress, TypePin};
use penstock_wire::types::TypeInfo;

use crate::bridge::Settings;
use crate::fault::{Fault, TableFault};
use crate::pgoutput::Relation;
use crate::relation::{self, CatalogFacts, Counts, Table};

/// First OID that Postgres gives to what users create; names of types below it never change.
const FIRST_USER_OID: u32 = 16_384;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Tables {
    /// By relation OID.
    known: BTreeMap<u32, Table>,
    /// What the relation that is asked about was until now.
    replaced: Option<Table>,
    key_pins: BTreeMap<(String, String), KeyPin>,
    awaited: Option<u32>,
}

impl Tables {
    pub(crate) fn new(progress: &Progress) -> Self {
        let pins = progress.key_pins.iter().map(|pin| ((pin.schema.clone(), pin.table.clone()), pin.clone()));
        Self { known: BTreeMap::new(), replaced: None, key_pins: pins.collect(), awaited: None }
    }

    pub(crate) fn known(&mut self) -> &mut BTreeMap<u32, Table> {
        &mut self.known
    }

    /// A relation was asked about, and the answer has not come.
    pub(crate) fn awaits_schema(&self) -> bool {
        self.awaited.is_some()
    }

    /// Envelopes made since the last time, by table.
    pub(crate) fn take_counts(&mut self) -> impl Iterator<Item = (&Relation, Counts)> {
        self.known.values_mut().map(|table| {
            let counts = table.take_counts();
            (&table.relation, counts)
        })
    }

    /// The server describes a relation. Whether it has to be asked about: not if it is known as it is.
    pub(crate) fn asks(&mut self, relation: &Relation) -> bool {
        if self.known.get(&relation.id).is_some_and(|known| known.relation == *relation) {
            return false;
        }
        self.replaced = self.known.remove(&relation.id);
        self.awaited = Some(relation.id);
        true
    }

    /// Compiles a relation with what the catalog says about it.
    pub(crate) fn describe(
        &self,
        relation: &Relation,
        facts: CatalogFacts,
        settings: &Settings,
        progress: &mut Progress,
    ) -> Result<Table, Fault> {
        if let Some(Table { relation: older, .. }) = &self.replaced
            && (&older.schema, &older.table) != (&relation.schema, &relation.table)
        {
            let from = format!("{}.{}", older.schema, older.table);
            return Err(table_fault(relation, TableFault::Renamed { from }));
        }
        self.compile(relation, facts, settings, progress)
    }

    /// The same for a backfill, which has no earlier version of the table to compare with.
    pub(crate) fn compile(
        &self,
        relation: &Relation,
        mut facts: CatalogFacts,
        settings: &Settings,
        progress: &mut Progress,
    ) -> Result<Table, Fault> {
        self.check_record_name(relation)?;
        pin_types(relation, &mut facts, &mut progress.type_pins);
        let Settings { rules, source, namespace, source_in_key, .. } = settings;
        let pin = self.key_pins.get(&(relation.schema.clone(), relation.table.clone()));
        let compiled = relation::compile(relation, &facts, rules, source, namespace, pin, *source_in_key);
        compiled.map_err(|source| table_fault(relation, source))
    }

    /// Subjects and keys go by the escaped name. Every table that ever had a key is pinned.
    fn check_record_name(&self, relation: &Relation) -> Result<(), Fault> {
        let avro = avro_table_name(&relation.schema, &relation.table);
        let others = self.key_pins.keys().filter(|name| **name != (relation.schema.clone(), relation.table.clone()));
        let mut same = others.filter(|(schema, table)| avro_table_name(schema, table) == avro);
        match same.next() {
            None => Ok(()),
            Some((schema, table)) => {
                let other = format!("{schema}.{table}");
                Err(table_fault(relation, TableFault::RecordName { other, avro }))
            }
        }
    }

    /// The schemas of the relation that was asked about have these registry ids: key, value.
    pub(crate) fn registered(
        &mut self,
        mut table: Table,
        ids: (u32, u32),
        progress: &mut Progress,
    ) -> Result<(), Fault> {
        let id = table.relation.id;
        assert_eq!(self.awaited.take(), Some(id), "schema of a relation that was not asked for");
        self.pin(&mut table, ids, progress)?;
        if let Some(older) = self.replaced.take() {
            table.follows(&older);
        }
        self.known.insert(id, table);
        Ok(())
    }

    /// The table's schemas have these registry ids, which must be those of its keys so far.
    pub(crate) fn pin(
        &mut self,
        table: &mut Table,
        (key_schema_id, value_schema_id): (u32, u32),
        progress: &mut Progress,
    ) -> Result<(), Fault> {
        // The stream and a backfill can have described two such tables at once.
        self.check_record_name(&table.relation)?;
        let name = (table.relation.schema.clone(), table.relation.table.clone());
        let columns = table.key.iter().map(|index| table.relation.columns[*index].name.clone()).collect();
        let (schema, table_name) = name.clone();
        let pin = self.key_pins.entry(name).or_insert(KeyPin { schema, table: table_name, columns, key_schema_id });
        if pin.key_schema_id != key_schema_id {
            let source = TableFault::KeySchema { pinned: pin.key_schema_id, found: key_schema_id };
            return Err(table_fault(&table.relation, source));
        }
        progress.key_pins = self.key_pins.values().cloned().collect();
        table.plan.registered(key_schema_id, value_schema_id);
        Ok(())
    }
}

/// Type names can change in the catalog, those of what a domain is made of as well; the ones in records may not: the first
/// seen is kept.
fn pin_types(relation: &Relation, facts: &mut CatalogFacts, pins: &mut Vec<TypePin>) {
    for (column, type_info) in relation.columns.iter().zip(&mut facts.types) {
        if column.type_oid >= FIRST_USER_OID {
            let (oid, modifier) = (column.type_oid, column.type_modifier);
            match pins.iter_mut().find(|pin| (pin.oid, pin.modifier) == (oid, modifier)) {
                Some(pin) => {
                    type_info.pg_type.clone_from(&pin.name);
                    // A pin of an older writer has no base.
                    match &pin.base {
                        Some(base) => type_info.pg_base = Some(base.clone()),
                        None => pin.base.clone_from(&type_info.pg_base),
                    }
                }
                None => {
                    let TypeInfo { pg_type, pg_base, .. } = type_info.clone();
                    pins.push(TypePin { oid, modifier, name: pg_type, base: pg_base });
                }
            }
        }
    }
}

fn table_fault(relation: &Relation, source: TableFault) -> Fault {
    Fault::Table { schema: relation.schema.clone(), table: relation.table.clone(), source: Box::new(source) }
}
