//! Tables as the stream describes them: which columns make the account and the key, and how rows are encoded.
//!
//! A table's shape is true only at its place in the stream. It comes from the Relation message; what that lacks is
//! immutable for a type's OID or pinned when the table was first captured. The replica identity is judged again at every
//! Relation message, because an ALTER announces itself nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use penstock_wire::event::Op;
use penstock_wire::lsn::CommitLsn;
use penstock_wire::plan::Plan;
use penstock_wire::progress::KeyPin;
use penstock_wire::table::{ColumnShape, SourceInfo, TableShape};
use penstock_wire::types::{Decimal, NoDecimal, TypeInfo, ValueKind};

use crate::fault::TableFault;
use crate::pgoutput::{Relation, ReplicaIdentity};

/// What the configuration says about tables.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Account column of tables that name none of their own.
    pub account_column: String,
    /// By (schema, table).
    pub tables: BTreeMap<(String, String), TableRules>,
}

/// What the configuration says about one table. Columns by name.
#[derive(Clone, Debug, Default)]
pub struct TableRules {
    /// Overrides the general account column.
    pub account_column: Option<String>,
    /// Absent from schema, before and after.
    pub exclude: BTreeSet<String>,
    /// An update that changes only these is dropped.
    pub ignore: BTreeSet<String>,
    /// May arrive as "unchanged" although they can be stored out of line.
    pub accept_unchanged: BTreeSet<String>,
    /// Excluded columns that the table may lack.
    pub accept_absent: BTreeSet<String>,
    /// Numeric columns that travel as an Avro decimal.
    pub decimal: BTreeSet<String>,
}

/// What the catalog adds to a Relation message; one entry a column, in its order.
#[derive(Clone, Debug)]
pub struct CatalogFacts {
    /// Each column's type, immutable for its OID.
    pub types: Vec<TypeInfo>,
    /// Whether the column's type has variable length, so that values can be stored out of line.
    pub variable_length: Vec<bool>,
    /// Primary key columns in key order; used only where none is pinned.
    pub primary_key: Vec<String>,
}

/// A table as it is at this place of the stream.
#[derive(Debug)]
pub struct Table {
    /// As the stream sent it.
    pub relation: Relation,
    /// How its rows are encoded.
    pub plan: Plan,
    /// Index of the account column.
    pub account: usize,
    /// Indexes of the key columns, in key order.
    pub key: Vec<usize>,
    /// By column: an update of only such columns is dropped. Empty if there are none.
    pub ignored: Vec<bool>,
    order_commit: CommitLsn,
    order: u64,
    counts: Counts,
}

/// Envelopes made of a table's rows, by what they say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that appeared.
    pub created: u64,
    /// Rows that changed.
    pub updated: u64,
    /// Rows that went.
    pub deleted: u64,
    /// Rows that were read by a backfill.
    pub read: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

/// What the records of an event change in a table, to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    order_commit: CommitLsn,
    order: u64,
    counts: Counts,
}

impl Table {
    /// Goes on numbering where an older version of the same table stopped.
    pub(crate) fn follows(&mut self, older: &Self) {
        (self.order_commit, self.order) = (older.order_commit, older.order);
    }

    /// The next `data_collection_order` (1-based) within the transaction that commits at `commit`.
    pub fn next_order(&mut self, commit: CommitLsn) -> u64 {
        if self.order_commit != commit {
            self.order_commit = commit;
            self.order = 0;
        }
        self.order += 1;
        self.order
    }

    /// Counts an envelope.
    pub(crate) fn count(&mut self, op: Op) {
        match op {
            Op::Create => self.counts.created += 1,
            Op::Update => self.counts.updated += 1,
            Op::Delete => self.counts.deleted += 1,
            Op::Read => self.counts.read += 1,
        }
    }

    /// Counts a dead letter.
    pub(crate) fn count_dead_letter(&mut self) {
        self.counts.dead_letters += 1;
    }

    /// Before the records of an event are made.
    pub(crate) fn mark(&self) -> Mark {
        Mark { order_commit: self.order_commit, order: self.order, counts: self.counts }
    }

    /// The records that were made since are not to be.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        let Mark { order_commit, order, counts } = mark;
        (self.order_commit, self.order, self.counts) = (order_commit, order, counts);
    }

    /// What was counted since the last time.
    pub(crate) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }
}

/// Compiles a table, or says why it cannot be captured.
pub fn compile(
    relation: &Relation,
    facts: &CatalogFacts,
    rules: &Rules,
    source: &SourceInfo,
    namespace: &str,
    pin: Option<&KeyPin>,
    source_in_key: bool,
) -> Result<Table, TableFault> {
    let none = TableRules::default();
    let own = rules.tables.get(&(relation.schema.clone(), relation.table.clone())).unwrap_or(&none);
    let absent = |name: &&String| !relation.columns.iter().any(|column| column.name == **name);
    if let Some(name) = own.exclude.difference(&own.accept_absent).find(absent) {
        return Err(TableFault::ExcludedAbsent(name.clone()));
    }
    let account_column = own.account_column.as_ref().unwrap_or(&rules.account_column);
    let captured =
        |name: &str| relation.columns.iter().position(|c| c.name == name).filter(|_| !own.exclude.contains(name));
    let account = captured(account_column).ok_or_else(|| TableFault::NoAccountColumn(account_column.clone()))?;
    let key_names = pin.map_or(&facts.primary_key, |pin| &pin.columns);
    if key_names.is_empty() {
        return Err(TableFault::NoKey);
    }
    let missing = |name: &String| TableFault::KeyColumnMissing(name.clone());
    let key =
        key_names.iter().map(|name| captured(name).ok_or_else(|| missing(name))).collect::<Result<Vec<_>, _>>()?;
    check_identity(relation, facts, own, account, &key)?;
    let types = chosen_types(relation, facts, own, &key)?;
    let columns = relation.columns.iter().zip(types).map(|(column, type_info)| ColumnShape {
        name: column.name.clone(),
        type_info,
        excluded: own.exclude.contains(&column.name),
    });
    let shape = TableShape {
        namespace: namespace.to_owned(),
        schema: relation.schema.clone(),
        table: relation.table.clone(),
        columns: columns.collect(),
        account,
        key: key.clone(),
        source_in_key,
    };
    let ignored = match own.ignore.is_empty() {
        true => Vec::new(),
        false => relation.columns.iter().map(|column| own.ignore.contains(&column.name)).collect(),
    };
    let plan = Plan::compile(&shape, source)?;
    Ok(Table {
        relation: relation.clone(),
        plan,
        account,
        key,
        ignored,
        order_commit: CommitLsn::default(),
        order: 0,
        counts: Counts::default(),
    })
}

/// The columns' types, with the kind that the configuration chose.
///
/// A chosen column that the table does not have here is no fault: the stream may be behind the ALTER that adds it.
fn chosen_types(
    relation: &Relation,
    facts: &CatalogFacts,
    rules: &TableRules,
    key: &[usize],
) -> Result<Vec<TypeInfo>, TableFault> {
    let columns = relation.columns.iter().zip(&facts.types).enumerate();
    let types = columns.map(|(index, (column, type_info))| {
        let mut type_info = type_info.clone();
        if rules.decimal.contains(&column.name) && !rules.exclude.contains(&column.name) {
            let decimal = match key.contains(&index) {
                true => Err(NoDecimal::Key),
                false => Decimal::of(&type_info),
            };
            let refused = |reason| TableFault::Decimal { column: column.name.clone(), reason };
            type_info.kind = ValueKind::Decimal(decimal.map_err(refused)?);
        }
        Ok(type_info)
    });
    types.collect()
}

fn check_identity(
    relation: &Relation,
    facts: &CatalogFacts,
    rules: &TableRules,
    account: usize,
    key: &[usize],
) -> Result<(), TableFault> {
    if relation.identity == ReplicaIdentity::Full {
        return Ok(());
    }
    let held = |index: usize| relation.identity != ReplicaIdentity::Nothing && relation.columns[index].in_identity;
    if let Some(lacking) = std::iter::once(account).chain(key.iter().copied()).find(|index| !held(*index)) {
        return Err(TableFault::IdentityLacks(relation.columns[lacking].name.clone()));
    }
    let tolerated = |name: &String| rules.exclude.contains(name) || rules.accept_unchanged.contains(name);
    let out_of_line = relation
        .columns
        .iter()
        .zip(&facts.variable_length)
        .find(|(column, variable)| **variable && !column.in_identity && !tolerated(&column.name));
    match out_of_line {
        Some((column, _)) => Err(TableFault::OutOfLine(column.name.clone())),
        None => Ok(()),
    }
}
