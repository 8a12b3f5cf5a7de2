//! The tables the stream has described, and what is pinned of them.
//!
//! A relation is captured in three steps: the server describes it, the catalog adds what it leaves out, the registry gives
//! its schemas their ids. The last two wait until a change needs them: the server describes partitions, too, whose rows then
//! come as their root's, and relations of transactions that are delivered already. Until all is known no frame may come.
//! Keys and names of types are pinned at first sight.

use std::collections::BTreeMap;

use penstock_wire::name::avro_table_name;
use penstock_wire::progress::{KeyPin, Progress, TypePin};
use penstock_wire::types::TypeInfo;

use crate::bridge::Settings;
use crate::ddl::message::Ddl;
use crate::ddl::{Announced, Effect, Pins};
use crate::fault::{Fault, TableFault};
use crate::pgoutput::{Message, Relation};
use crate::relation::{self, CatalogFacts, Counts, Rules, Table};
use crate::watch::{self, Loss, Seen};

/// First OID that Postgres gives to what users create; names of types below it never change.
const FIRST_USER_OID: u32 = 16_384;

/// A relation whose changes are left out.
#[derive(Debug)]
pub(crate) struct LeftOut {
    pub(crate) schema: String,
    pub(crate) table: String,
    /// Readers were told.
    pub(crate) told: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Tables {
    /// By relation OID.
    known: BTreeMap<u32, Table>,
    /// By OID: relations that no change has needed since the server described them.
    pending: BTreeMap<u32, Relation>,
    /// By OID: what pending relations were until now.
    replaced: BTreeMap<u32, Table>,
    /// By OID.
    left_out: BTreeMap<u32, LeftOut>,
    key_pins: Pins,
    announced: Announced,
    awaited: Option<u32>,
}

impl Tables {
    pub(crate) fn new(progress: &Progress) -> Self {
        let pins = progress.key_pins.iter().map(|pin| ((pin.schema.clone(), pin.table.clone()), pin.clone()));
        Self {
            known: BTreeMap::new(),
            pending: BTreeMap::new(),
            replaced: BTreeMap::new(),
            left_out: BTreeMap::new(),
            key_pins: pins.collect(),
            announced: Announced::default(),
            awaited: None,
        }
    }

    /// Those that are captured, and those whose changes are left out.
    pub(crate) fn by_oid(&mut self) -> (&mut BTreeMap<u32, Table>, &mut BTreeMap<u32, LeftOut>) {
        (&mut self.known, &mut self.left_out)
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

    /// The server describes a relation. Nothing happens if it is known as it is.
    pub(crate) fn relation(&mut self, relation: Relation) {
        let id = relation.id;
        if self.known.get(&id).is_some_and(|known| known.relation == relation) {
            return;
        }
        if let Some(older) = self.known.remove(&id) {
            self.replaced.insert(id, older);
        }
        self.pending.insert(id, relation);
        self.judge_partitions();
    }

    /// The newest description of the relation, if there was one.
    fn forget(&mut self, oid: u32) -> Option<Relation> {
        let known = self.known.remove(&oid);
        let replaced = self.replaced.remove(&oid);
        let relation = self.pending.remove(&oid).or(known.or(replaced).map(|table| table.relation));
        self.judge_partitions();
        relation
    }

    /// Which old rows are not whole, for every table that is known.
    fn judge_partitions(&mut self) {
        for table in self.known.values_mut() {
            table.partial = self.pending.values().filter_map(|leaf| relation::partial(&table.relation, leaf)).collect();
        }
    }

    /// The first relation of a change that has to be asked about before the change can be told.
    pub(crate) fn needs(&mut self, change: &Message<'_>) -> Option<Relation> {
        if self.pending.is_empty() {
            return None;
        }
        let pending = |id: &u32| self.pending.get(id).cloned();
        let relation = match change {
            Message::Insert { relation, .. } | Message::Update { relation, .. } | Message::Delete { relation, .. } => {
                pending(relation)
            }
            Message::Truncate { relations } => relations.iter().find_map(pending),
            Message::Begin(_)
            | Message::Commit(_)
            | Message::Relation(_)
            | Message::Logical(_)
            | Message::Origin
            | Message::Type => None,
        }?;
        self.awaited = Some(relation.id);
        Some(relation)
    }

    /// Nobody can say any more what the key of the relation that was asked about is, and it is accepted that its changes are
    /// missing: they are left out. Whether that is so.
    pub(crate) fn leaves_out(&mut self, relation: &Relation, facts: &CatalogFacts, rules: &Rules) -> bool {
        let name = (relation.schema.clone(), relation.table.clone());
        let keyless = facts.primary_key.is_empty() && self.key_pins.get(&name).is_none_or(|pin| pin.key_schema_id == 0);
        if !keyless || !rules.accepts_missing(&name.0, &name.1) {
            return false;
        }
        self.awaited = None;
        self.pending.remove(&relation.id);
        self.left_out.entry(relation.id).or_insert(LeftOut { schema: name.0, table: name.1, told: false });
        true
    }

    /// What the stream itself has told of a relation beyond its message, at this place.
    pub(crate) fn told(&self, relation: &Relation) -> Option<CatalogFacts> {
        self.announced.facts(relation)
    }

    /// A message about DDL, in a transaction that is delivered already.
    pub(crate) fn recall(&mut self, ddl: Ddl) {
        self.announced.recall(ddl);
    }

    /// A message about DDL: what follows from it.
    pub(crate) fn judge(&mut self, ddl: Ddl, rules: &Rules, progress: &mut Progress) -> Result<Vec<Effect>, Fault> {
        let effects = self.announced.judge(ddl, rules, &mut self.key_pins)?;
        for effect in &effects {
            match effect {
                Effect::Forget(oid) => {
                    self.forget(*oid);
                }
                Effect::Rename { oid, schema, table } => {
                    if let Some(relation) = self.forget(*oid) {
                        let (schema, table) = (schema.clone(), table.clone());
                        self.relation(Relation { schema, table, ..relation });
                    }
                }
                Effect::Reload { .. } | Effect::Truncate { .. } => {}
            }
        }
        // A name that nobody bears and nothing was written under.
        self.key_pins.retain(|_, pin| (pin.table_oid, pin.key_schema_id) != (0, 0));
        progress.key_pins = self.key_pins.values().cloned().collect();
        Ok(effects)
    }

    /// Tables that are not what was pinned, as the catalog shows: what is accepted is pinned no longer and to be loaded again.
    pub(crate) fn lost(&mut self, seen: &Seen, rules: &Rules, progress: &mut Progress) -> Result<Vec<Effect>, Fault> {
        let mut effects = Vec::new();
        for (pin, loss) in watch::losses(&progress.key_pins, seen, rules) {
            let former = (pin.schema.clone(), pin.table.clone());
            let to = match &loss {
                Loss::Renamed { schema, table } => Some((schema.clone(), table.clone())),
                Loss::Gone | Loss::Replaced { .. } => None,
            };
            let secret = to.as_ref().is_none_or(|to| rules.keep_secrets(&former, to));
            if !secret || !rules.accepts_missing(&pin.schema, &pin.table) {
                let source = Box::new(TableFault::Lost(loss));
                return Err(Fault::Table { schema: pin.schema.clone(), table: pin.table.clone(), source });
            }
            if let Some(pin) = self.key_pins.get_mut(&former) {
                (pin.table_oid, pin.leaves) = (0, Vec::new());
            }
            effects.push(reload((&pin.schema, &pin.table), &format!("{loss}; and that is accepted")));
            if let Some((schema, table)) = to {
                effects.push(reload((&schema, &table), "it had another name until now, and that is accepted"));
            }
        }
        progress.key_pins = self.key_pins.values().cloned().collect();
        Ok(effects)
    }

    /// A transaction that is delivered ends: what follows from it.
    pub(crate) fn commit(&mut self, rules: &Rules) -> Result<Vec<Effect>, Fault> {
        self.announced.commit(rules)
    }

    /// Compiles a relation with what the catalog says about it.
    pub(crate) fn describe(
        &self,
        relation: &Relation,
        facts: CatalogFacts,
        settings: &Settings,
        progress: &mut Progress,
    ) -> Result<Table, Fault> {
        let rules = &settings.rules;
        let name = (relation.schema.clone(), relation.table.clone());
        let pinned = self.key_pins.iter().find(|(other, pin)| pin.table_oid == relation.id && **other != name);
        let older = self.replaced.get(&relation.id).map(|table| &table.relation);
        let older = older.map(|older| (older.schema.clone(), older.table.clone())).filter(|older| *older != name);
        if let Some(former) = older.or_else(|| pinned.map(|(other, _)| other.clone()))
            && !(rules.accepts_missing(&relation.schema, &relation.table) && rules.keep_secrets(&former, &name))
        {
            let from = format!("{}.{}", former.0, former.1);
            return Err(table_fault(relation, TableFault::Renamed { from }));
        }
        let pin = self.key_pins.get(&name);
        if let Some(KeyPin { table_oid: pinned, .. }) = pin.filter(|pin| ![0, relation.id].contains(&pin.table_oid))
            && !rules.accepts_missing(&relation.schema, &relation.table)
        {
            let source = TableFault::Recreated { pinned: *pinned, found: relation.id };
            return Err(table_fault(relation, source));
        }
        self.compile(relation, facts, settings, progress)
    }

    /// The same for a backfill, which reads the table that bears the name now: the stream may not have come to it.
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
        // A pin without a key holds the name only.
        let key = pin.filter(|pin| pin.key_schema_id != 0);
        let compiled = relation::compile(relation, &facts, rules, source, namespace, key, *source_in_key);
        compiled.map_err(|source| table_fault(relation, source))
    }

    /// Subjects and keys go by the escaped name. Every table that ever had a key is pinned.
    fn check_record_name(&self, relation: &Relation) -> Result<(), Fault> {
        let avro = avro_table_name(&relation.schema, &relation.table);
        // A pin without a key holds the name only: no record bears it.
        let others = self.key_pins.iter().filter(|(name, pin)| {
            pin.key_schema_id != 0 && **name != (relation.schema.clone(), relation.table.clone())
        });
        let mut same = others.filter(|((schema, table), _)| avro_table_name(schema, table) == avro);
        match same.next() {
            None => Ok(()),
            Some(((schema, table), _)) => {
                let other = format!("{schema}.{table}");
                Err(table_fault(relation, TableFault::RecordName { other, avro }))
            }
        }
    }

    /// The schemas of the relation that was asked about have these registry ids: key, value. What follows from a change of
    /// names that nothing has announced, and that is accepted.
    pub(crate) fn registered(
        &mut self,
        mut table: Table,
        ids: (u32, u32),
        progress: &mut Progress,
    ) -> Result<Vec<Effect>, Fault> {
        let id = table.relation.id;
        assert_eq!(self.awaited.take(), Some(id), "schema of a relation that was not asked for");
        self.pin_key(&mut table, ids)?;
        let effects = self.pin_table(&table.relation);
        progress.key_pins = self.key_pins.values().cloned().collect();
        self.pending.remove(&id);
        self.left_out.remove(&id);
        if let Some(older) = self.replaced.remove(&id) {
            table.follows(&older);
        }
        self.known.insert(id, table);
        self.judge_partitions();
        Ok(effects)
    }

    /// The schemas of a table that a backfill reads have these registry ids. Which table bears the name is the stream's to
    /// say.
    pub(crate) fn registered_for_backfill(
        &mut self,
        table: &mut Table,
        ids: (u32, u32),
        progress: &mut Progress,
    ) -> Result<(), Fault> {
        self.pin_key(table, ids)?;
        progress.key_pins = self.key_pins.values().cloned().collect();
        Ok(())
    }

    /// Whether records of a table of this name were written, or are to be.
    pub(crate) fn has_pinned(&self, name: &(String, String)) -> bool {
        self.key_pins.contains_key(name)
    }

    /// The ids are those of the table's keys so far, or become theirs.
    fn pin_key(&mut self, table: &mut Table, (key_schema_id, value_schema_id): (u32, u32)) -> Result<(), Fault> {
        // The stream and a backfill can have described two such tables at once.
        self.check_record_name(&table.relation)?;
        let Relation { id, schema, table: name, columns, .. } = &table.relation;
        let account_column = columns[table.account].name.clone();
        let key_columns: Vec<_> = table.key.iter().map(|index| columns[*index].name.clone()).collect();
        let new = || KeyPin {
            schema: schema.clone(),
            table: name.clone(),
            table_oid: *id,
            leaves: self.announced.leaves(*id),
            ..KeyPin::default()
        };
        let pin = self.key_pins.entry((schema.clone(), name.clone())).or_insert_with(new);
        pin.account_column = account_column;
        if pin.key_schema_id == 0 {
            (pin.columns, pin.key_schema_id) = (key_columns, key_schema_id);
        }
        if pin.key_schema_id != key_schema_id {
            let source = TableFault::KeySchema { pinned: pin.key_schema_id, found: key_schema_id };
            return Err(table_fault(&table.relation, source));
        }
        table.plan.registered(key_schema_id, value_schema_id);
        Ok(())
    }

    /// The relation bears its name from here on.
    fn pin_table(&mut self, relation: &Relation) -> Vec<Effect> {
        let id = relation.id;
        let name = (relation.schema.clone(), relation.table.clone());
        let mut effects = Vec::new();
        if let Some(pin) = self.key_pins.get_mut(&name).filter(|pin| pin.table_oid != id) {
            if pin.table_oid != 0 {
                let why = "another table bears its name now, and that is accepted";
                effects.push(reload((&pin.schema, &pin.table), why));
            }
            (pin.table_oid, pin.leaves) = (id, self.announced.leaves(id));
        }
        let others = self.key_pins.iter_mut().filter(|(other, pin)| pin.table_oid == id && **other != name);
        for (former, pin) in others {
            (pin.table_oid, pin.leaves) = (0, Vec::new());
            effects.push(reload((&former.0, &former.1), "it has another name now, and that is accepted"));
            effects.push(reload((&name.0, &name.1), "it had another name until now, and that is accepted"));
        }
        effects
    }
}

fn reload((schema, table): (&str, &str), why: &str) -> Effect {
    Effect::Reload { schema: schema.to_owned(), table: table.to_owned(), why: why.to_owned() }
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
