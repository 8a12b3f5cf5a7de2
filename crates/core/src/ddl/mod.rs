//! What DDL that pgoutput does not announce leads to: judged message by message, at its place in the stream.
//!
//! The messages come from event triggers ([`message`]). What is decided goes out as effects: a table is to be loaded again,
//! readers are told to drop a table's rows, or the bridge stops. What a table was at its place in the stream is remembered
//! for the session, so that a bridge that lags behind later DDL describes it as it was.
//!
//! Invariants: only tables count that the configured publication sends or that were captured before. What is pinned (names
//! with their OIDs, leaves) changes here and where a table is registered, nowhere else; it goes into the progress record
//! that covers the message, never into an earlier one. A message of a transaction that is delivered already describes, and
//! leads to nothing.
//!
//! It does not load tables and does not ask the catalog.

pub mod message;

use std::collections::{BTreeMap, BTreeSet};

use penstock_wire::progress::KeyPin;

use crate::fault::{Fault, TableFault};
use crate::pgoutput::Relation;
use crate::relation::{CatalogFacts, Rules};
pub use message::PREFIX;
use message::{Ddl, Named, Published, TableRef, Told, Unpublished};

/// Command that makes a partition, empty.
const CREATE_TABLE: &str = "CREATE TABLE";

/// Pinned keys by schema and table.
pub(crate) type Pins = BTreeMap<(String, String), KeyPin>;

/// What follows from a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The topic's rows of a table are not the database's any more.
    Reload { schema: String, table: String, why: String },
    /// A table is gone, and its rows with it.
    Truncate { schema: String, table: String },
    /// The relation with this OID is gone.
    Forget(u32),
    /// The relation with this OID has this name now. The server does not always say so: not if its schema was renamed.
    Rename { oid: u32, schema: String, table: String },
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    /// By OID: what the catalog said last.
    described: BTreeMap<u32, Told>,
    /// By OID: the highest column number that was told, dropped columns included.
    columns: BTreeMap<u32, i16>,
    /// OIDs whose rewrite was told, and the command's end not yet.
    rewritten: BTreeSet<u32>,
    /// Captured tables that this transaction took out of the publication.
    unpublished: BTreeSet<TableRef>,
}

impl Announced {
    /// The leaves of a partitioned table, as far as they were told.
    pub(crate) fn leaves(&self, oid: u32) -> Vec<u32> {
        self.described.get(&oid).map(|told| told.table.leaves.clone()).unwrap_or_default()
    }

    /// What a Relation message lacks, as it was at this place of the stream.
    pub(crate) fn facts(&self, relation: &Relation) -> Option<CatalogFacts> {
        self.described.get(&relation.id)?.table.facts(relation)
    }

    /// Of a transaction that is delivered already: what it described is true of what comes behind it.
    pub(crate) fn recall(&mut self, ddl: Ddl) {
        match ddl {
            Ddl::Table(told) => {
                self.describe(*told);
            }
            Ddl::Drop(named) => {
                self.described.remove(&named.oid);
            }
            Ddl::Truncate(_) | Ddl::Rewrite(_) | Ddl::Publication(_) | Ddl::Unpublish(_) | Ddl::Unknown(_) => {}
        }
    }

    /// Judges a message.
    pub(crate) fn judge(&mut self, ddl: Ddl, rules: &Rules, pins: &mut Pins) -> Result<Vec<Effect>, Fault> {
        match ddl {
            Ddl::Table(told) => self.table(*told, rules, pins),
            Ddl::Drop(named) => {
                self.described.remove(&named.oid);
                Ok(dropped(&named.schema, &named.name, named.oid, pins))
            }
            Ddl::Truncate(root) => {
                let name = (root.schema, root.name);
                let captured = pins.get(&name).is_some_and(|pin| pin.table_oid == root.oid);
                Ok(if captured { vec![reload(&name, "a partition was truncated")] } else { Vec::new() })
            }
            Ddl::Rewrite(rewritten) => {
                if rewritten.changes_rows() {
                    self.rewritten.insert(rewritten.oid);
                }
                Ok(Vec::new())
            }
            Ddl::Publication(published) => self.publication(&published, rules, pins),
            Ddl::Unpublish(Unpublished { publication, table }) => {
                if publication == rules.publication && rules.captures(&table.schema, &table.name) {
                    self.unpublished.insert(table);
                }
                Ok(Vec::new())
            }
            Ddl::Unknown(untold) => {
                let why = format!("a trigger could not tell what {} did", untold.tag);
                Ok(pins.keys().map(|name| reload(name, &why)).collect())
            }
        }
    }

    /// The transaction ends: a table that has left the publication is not missed any longer than that.
    pub(crate) fn commit(&mut self, rules: &Rules) -> Result<Vec<Effect>, Fault> {
        self.rewritten.clear();
        let mut effects = Vec::new();
        for TableRef { schema, name } in std::mem::take(&mut self.unpublished) {
            if !rules.accepts_missing(&schema, &name) {
                return Err(fault(&schema, &name, TableFault::Unpublished));
            }
            effects.push(reload(&(schema, name), "it was taken out of the publication, and that is accepted"));
        }
        Ok(effects)
    }

    fn table(&mut self, told: Told, rules: &Rules, pins: &mut Pins) -> Result<Vec<Effect>, Fault> {
        let name = (told.named.schema.clone(), told.named.name.clone());
        let oid = told.named.oid;
        let mut effects = renamed(&name, oid, rules, pins)?;
        let published = told.table.publications.contains(&rules.publication) && rules.captures(&name.0, &name.1);
        let mut why = Vec::new();
        let known = self.described.get(&oid).map(|told| told.table.leaves.clone()).unwrap_or_default();
        if published && bears(&name, oid, pins) {
            why.push("another table bears its name now".to_owned());
        }
        let pin = pins.get_mut(&name).filter(|pin| pin.table_oid == oid);
        let captured = published || pin.is_some() && rules.captures(&name.0, &name.1);
        why.extend(leaves(pin.as_ref().map_or(&known, |pin| &pin.leaves), &told));
        if let Some(pin) = pin {
            // Rows that other columns told apart may have borne one key of the topic.
            let is_other = |key: &[String]| !pin.columns.is_empty() && key != pin.columns;
            let was_other = self.described.get(&oid).is_some_and(|before| is_other(&before.table.key));
            if (was_other || is_other(&told.table.key)) && rules.accepts_missing(&name.0, &name.1) {
                why.push("its primary key is or was made of other columns, and that is accepted".to_owned());
            }
            pin.leaves.clone_from(&told.table.leaves);
        }
        if captured && told.table.persistence == "u" && !rules.accepts_missing(&name.0, &name.1) {
            return Err(fault(&name.0, &name.1, TableFault::Unlogged));
        }
        let tree = std::iter::once(&oid).chain(&told.table.leaves);
        if tree.filter(|oid| self.rewritten.remove(*oid)).count() > 0 {
            why.push(format!("{} wrote its rows anew", told.tag));
        }
        let filled = self.describe(told);
        if !filled.is_empty() {
            why.push(format!("its rows have got a default in {}", filled.join(", ")));
        }
        if captured {
            effects.extend(why.iter().map(|why| reload(&name, why)));
        }
        Ok(effects)
    }

    /// Remembers the description. Gives the columns that are new to rows which were there before.
    fn describe(&mut self, told: Told) -> Vec<String> {
        let oid = told.named.oid;
        let known = self.columns.get(&oid).copied().unwrap_or(0);
        let columns = told.table.columns.iter();
        // A column that was told of before has its default from then; it is named again when it is altered.
        let filled = columns.clone().filter(|column| column.number > known && told.table.filled.contains(&column.name));
        let filled = filled.map(|column| column.name.clone()).collect();
        let highest = columns.map(|column| column.number).max().unwrap_or(0);
        self.columns.insert(oid, highest.max(known));
        self.described.insert(oid, told);
        filled
    }

    fn publication(&mut self, published: &Published, rules: &Rules, pins: &mut Pins) -> Result<Vec<Effect>, Fault> {
        if published.name != rules.publication {
            return Ok(Vec::new());
        }
        let state = &published.publication;
        let mut effects = Vec::new();
        if let Some(what) = state.lacks() {
            // Changes of tables that were never captured are missing, too, and have no name yet: one word is needed at least.
            let accepted = rules.tables.values().any(|table| table.accept_missing)
                && pins.keys().all(|(schema, table)| rules.accepts_missing(schema, table));
            if !accepted {
                return Err(Fault::Publication { publication: published.name.clone(), what });
            }
            effects
                .extend(pins.keys().map(|name| reload(name, &format!("the publication {what}, and that is accepted"))));
        }
        let captured = |table: &&TableRef| rules.captures(&table.schema, &table.name);
        if let Some(TableRef { schema, name }) = state.restricted.iter().find(captured)
            && !rules.accepts_missing(schema, name)
        {
            return Err(fault(schema, name, TableFault::Restricted));
        }
        for Named { schema, name, oid } in &state.added {
            self.unpublished.remove(&TableRef { schema: schema.clone(), name: name.clone() });
            if rules.captures(schema, name) {
                let name = (schema.clone(), name.clone());
                bears(&name, *oid, pins);
                effects.push(reload(&name, "it came into the publication"));
            }
        }
        Ok(effects)
    }
}

/// A published table bears this name. Whether another one did until now.
///
/// Its key is pinned once it is written; until then the pin says no more than whose the name is.
fn bears(name: &(String, String), oid: u32, pins: &mut Pins) -> bool {
    let new = || KeyPin { schema: name.0.clone(), table: name.1.clone(), table_oid: oid, ..KeyPin::default() };
    let pin = pins.entry(name.clone()).or_insert_with(new);
    let former = std::mem::replace(&mut pin.table_oid, oid);
    if former != oid {
        pin.leaves = Vec::new();
    }
    ![0, oid].contains(&former)
}

/// The table bore another name until now: what bears that name, if anything does, is to be read again, and so is this one.
fn renamed(name: &(String, String), oid: u32, rules: &Rules, pins: &mut Pins) -> Result<Vec<Effect>, Fault> {
    let Some((former, pin)) = pins.iter_mut().find(|(other, pin)| pin.table_oid == oid && *other != name) else {
        return Ok(Vec::new());
    };
    if !rules.keep_secrets(former, name) {
        return Err(fault(&name.0, &name.1, TableFault::Renamed { from: format!("{}.{}", former.0, former.1) }));
    }
    (pin.table_oid, pin.leaves) = (0, Vec::new());
    let to = format!("it is {}.{} now", name.0, name.1);
    let from = format!("it was {}.{} until now", former.0, former.1);
    let rename = Effect::Rename { oid, schema: name.0.clone(), table: name.1.clone() };
    Ok(vec![rename, reload(former, &to), reload(name, &from)])
}

/// Partitions that joined with rows, or left with theirs.
fn leaves(known: &[u32], told: &Told) -> Option<String> {
    let found = &told.table.leaves;
    let left = known.iter().any(|leaf| !found.contains(leaf));
    let joined = told.tag != CREATE_TABLE && found.iter().any(|leaf| !known.contains(leaf));
    match (left, joined) {
        (false, false) => None,
        (true, _) => Some("a partition was detached".to_owned()),
        (false, true) => Some("a partition was attached".to_owned()),
    }
}

fn dropped(schema: &str, table: &str, oid: u32, pins: &mut Pins) -> Vec<Effect> {
    let mut effects = vec![Effect::Forget(oid)];
    if let Some((root, pin)) = pins.iter_mut().find(|(_, pin)| pin.leaves.contains(&oid)) {
        pin.leaves.retain(|leaf| *leaf != oid);
        effects.push(reload(root, "a partition was dropped"));
    }
    // Where no OID is pinned, by an older writer, the name has to do: too many rows are dropped rather than too few.
    let name = (schema.to_owned(), table.to_owned());
    if let Some(pin) = pins.get_mut(&name).filter(|pin| pin.table_oid == oid || pin.table_oid == 0) {
        (pin.table_oid, pin.leaves) = (0, Vec::new());
        // Also where no row of it was written: a reload may have begun.
        effects.push(Effect::Truncate { schema: name.0, table: name.1 });
    }
    effects
}

fn reload(name: &(String, String), why: &str) -> Effect {
    Effect::Reload { schema: name.0.clone(), table: name.1.clone(), why: why.to_owned() }
}

fn fault(schema: &str, table: &str, source: TableFault) -> Fault {
    Fault::Table { schema: schema.to_owned(), table: table.to_owned(), source: Box::new(source) }
}

#[cfg(test)]
mod tests;
