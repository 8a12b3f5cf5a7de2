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
    /// Name of the publication that the stream is made of.
    pub publication: String,
    /// The tables that are asked for; `None`: all that are published.
    pub capture: Option<Capture>,
    /// Account column of tables that name none of their own.
    pub account_column: String,
    /// By (schema, table).
    pub tables: BTreeMap<(String, String), TableRules>,
}

/// Which tables the configuration asks for.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    /// Whatever is published is.
    pub any: bool,
    /// Schemas all of whose tables are.
    pub schemas: BTreeSet<String>,
    /// Tables by (schema, table).
    pub tables: BTreeSet<(String, String)>,
    /// Not these.
    pub left_out: BTreeSet<(String, String)>,
}

impl Rules {
    /// Whether the table is asked for.
    pub(crate) fn captures(&self, schema: &str, table: &str) -> bool {
        self.capture.as_ref().is_none_or(|capture| {
            let name = (schema.to_owned(), table.to_owned());
            let asked = capture.any || capture.schemas.contains(schema) || capture.tables.contains(&name);
            asked && !capture.left_out.contains(&name)
        })
    }

    /// What is excluded of a table stays so if it gets another name: rules go by names.
    pub(crate) fn keep_secrets(&self, former: &(String, String), name: &(String, String)) -> bool {
        let excluded = |name| self.tables.get(name).map(|rules| &rules.exclude);
        excluded(former).is_none_or(|former| excluded(name).map_or(former.is_empty(), |now| former.is_subset(now)))
    }

    /// Changes that the stream lacks are accepted: the table is loaded again instead.
    pub(crate) fn accepts_missing(&self, schema: &str, table: &str) -> bool {
        self.tables.get(&(schema.to_owned(), table.to_owned())).is_some_and(|rules| rules.accept_missing)
    }
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
    /// Changes that the stream lacks do not stop the bridge: the table is loaded again.
    pub accept_missing: bool,
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
    /// What an update or a delete sends of the old row holds its account and its key.
    pub(crate) old_rows_tell: bool,
    /// For each partition that does not send whole old rows under this name: by column, whether it sends it.
    pub(crate) partial: Vec<Vec<bool>>,
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
    if !own.accept_missing {
        check_identity(relation, facts, own, account, &key)?;
    }
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
        partial: Vec::new(),
        old_rows_tell: lacking(relation, account, &key).is_none(),
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

/// If `other` may be a partition of `table`, and its old rows, which are sent as whole ones because the table's identity is
/// FULL, hold its own identity's columns only: by column of the table, whether they do.
///
/// The server describes a partition and then sends its rows as the root's; it does not say which relation is a partition of
/// which. One that has the same columns, and none of whose rows have come under its own name, may be.
pub(crate) fn partial(table: &Relation, other: &Relation) -> Option<Vec<bool>> {
    let full = ReplicaIdentity::Full;
    if table.identity != full || other.identity == full || table.columns.len() != other.columns.len() {
        return None;
    }
    let sent = |name: &String| {
        let column = other.columns.iter().find(|column| column.name == *name)?;
        Some(column.in_identity && other.identity != ReplicaIdentity::Nothing)
    };
    table.columns.iter().map(|column| sent(&column.name)).collect()
}

/// The first of the columns that every record needs which the replica identity does not hold.
fn lacking(relation: &Relation, account: usize, key: &[usize]) -> Option<usize> {
    let held = |index: usize| relation.identity != ReplicaIdentity::Nothing && relation.columns[index].in_identity;
    std::iter::once(account).chain(key.iter().copied()).find(|index| !held(*index))
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
    if let Some(lacking) = lacking(relation, account, key) {
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
