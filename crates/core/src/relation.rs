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
    pub account_column: AccountColumns,
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

/// The names that a table's account column has had, the oldest first.
///
/// The WAL holds rows from before and after a RENAME COLUMN, sometimes in one transaction: what counts at a place is the
/// first of the names that the table has there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountColumns(Vec<String>);

impl AccountColumns {
    /// In this order.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// The one that counts for a table that has columns of which `has` is true.
    pub fn of(&self, has: impl Fn(&str) -> bool) -> Option<&str> {
        self.0.iter().map(String::as_str).find(|name| has(name))
    }

    /// Whether the name is one of them.
    pub fn lists(&self, name: &str) -> bool {
        self.0.iter().any(|listed| listed == name)
    }

    /// Each in double quotes, as a list in the configuration has them.
    pub fn quoted(&self) -> String {
        let quoted: Vec<String> = self.0.iter().map(|name| format!("{name:?}")).collect();
        quoted.join(", ")
    }
}

impl From<&str> for AccountColumns {
    fn from(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }
}

impl std::fmt::Display for AccountColumns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join(" or "))
    }
}

/// What the configuration says about one table. Columns by name.
#[derive(Clone, Debug, Default)]
pub struct TableRules {
    /// Overrides the general account column.
    pub account_column: Option<AccountColumns>,
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
    /// The registry's id of the schema that keys in the topic are written with, if there are any.
    pub pinned_key_schema: Option<u32>,
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
    /// Goes on numbering and counting where an older version of the same table stopped.
    pub(crate) fn follows(&mut self, older: &Self) {
        (self.order_commit, self.order) = (older.order_commit, older.order);
        self.counts = older.counts;
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
    if !rules.captures(&relation.schema, &relation.table) {
        return Err(TableFault::NotAskedFor);
    }
    let none = TableRules::default();
    let own = rules.tables.get(&(relation.schema.clone(), relation.table.clone())).unwrap_or(&none);
    let absent = |name: &&String| !relation.columns.iter().any(|column| column.name == **name);
    if let Some(name) = own.exclude.difference(&own.accept_absent).find(absent) {
        return Err(TableFault::ExcludedAbsent(name.clone()));
    }
    let account_columns = own.account_column.as_ref().unwrap_or(&rules.account_column);
    let captured =
        |name: &str| relation.columns.iter().position(|c| c.name == name).filter(|_| !own.exclude.contains(name));
    let account = account_columns.of(|name| captured(name).is_some()).and_then(captured);
    let account = account.ok_or_else(|| TableFault::NoAccountColumn(account_columns.clone()))?;
    check_account(&relation.columns[account].name, account_columns, pin)?;
    let key_names = pin.map_or(&facts.primary_key, |pin| &pin.columns);
    if key_names.is_empty() {
        return Err(TableFault::NoKey);
    }
    let missing = |name: &String| match pin {
        Some(_) => TableFault::KeyColumnMissing(name.clone()),
        None => TableFault::KeyColumnLater(name.clone()),
    };
    let key =
        key_names.iter().map(|name| captured(name).ok_or_else(|| missing(name))).collect::<Result<Vec<_>, _>>()?;
    if !own.accept_missing {
        check_key(facts, pin)?;
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
        pinned_key_schema: pin.map(|pin| pin.key_schema_id),
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

/// Rows that were written by another column's account would stay with it for ever. A renamed column is listed under both names.
fn check_account(found: &str, columns: &AccountColumns, pin: Option<&KeyPin>) -> Result<(), TableFault> {
    let pinned = pin.map(|pin| pin.account_column.as_str()).filter(|pinned| !pinned.is_empty());
    match pinned {
        Some(pinned) if pinned != found && !columns.lists(pinned) => {
            Err(TableFault::AccountColumn { pinned: pinned.to_owned(), found: found.to_owned() })
        }
        Some(_) | None => Ok(()),
    }
}

/// Under REPLICA IDENTITY FULL the stream does not tell the primary key, and a topic whose keys are not unique any more
/// folds two rows into one. The catalog may be ahead of this place: that stops the bridge sooner, never too late.
fn check_key(facts: &CatalogFacts, pin: Option<&KeyPin>) -> Result<(), TableFault> {
    match pin {
        Some(pin) if !facts.primary_key.is_empty() && facts.primary_key != pin.columns => {
            Err(TableFault::KeyColumns { pinned: pin.columns.clone(), found: facts.primary_key.clone() })
        }
        Some(_) | None => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgoutput::RelationColumn;

    fn relation(columns: &[&str]) -> Relation {
        let column = |name: &&str| RelationColumn {
            in_identity: true,
            name: (*name).to_owned(),
            type_oid: 25,
            type_modifier: -1,
        };
        Relation {
            id: 16_384,
            schema: "public".into(),
            table: "t".into(),
            identity: ReplicaIdentity::Full,
            columns: columns.iter().map(column).collect(),
        }
    }

    fn compiled(columns: &[&str], rules: &Rules, pinned: Option<&[&str]>, key: &[&str]) -> Result<Table, TableFault> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let text = TypeInfo { kind: ValueKind::Text, pg_type: "text".into(), pg_base: None };
        let facts = CatalogFacts {
            types: vec![text; columns.len()],
            variable_length: vec![true; columns.len()],
            primary_key: names(key),
        };
        let pin = pinned.map(|columns| KeyPin {
            schema: "public".into(),
            table: "t".into(),
            columns: names(columns),
            key_schema_id: 7,
            ..KeyPin::default()
        });
        let source = SourceInfo { name: "main".into(), number: 1, database: "db".into() };
        compile(&relation(columns), &facts, rules, &source, "test", pin.as_ref(), false)
    }

    #[test]
    fn the_first_of_the_accounts_names_that_the_table_has_counts() {
        let account = AccountColumns::new(["account".to_owned(), "tenant".to_owned()]);
        let rules = Rules { account_column: account.clone(), ..Rules::default() };
        for (columns, index) in [
            (["id", "account"].as_slice(), 1),
            (&["tenant", "id"], 0),
            // Both are there: a new column is filled before the old one goes.
            (&["id", "tenant", "account"], 2),
        ] {
            assert_eq!(compiled(columns, &rules, None, &["id"]).unwrap().account, index, "{columns:?}");
        }
        let fault = compiled(&["id", "other"], &rules, None, &["id"]).unwrap_err();
        assert!(matches!(&fault, TableFault::NoAccountColumn(columns) if *columns == account));
        assert_eq!(fault.to_string(), "it has no account column account or tenant");

        let excluded = TableRules { exclude: ["account".to_owned()].into(), ..TableRules::default() };
        let tables = [(("public".to_owned(), "t".to_owned()), excluded)].into();
        let rules = Rules { tables, ..rules };
        let table = compiled(&["id", "account", "tenant"], &rules, None, &["id"]).unwrap();
        assert_eq!(table.account, 2, "an excluded column is nobody's account");
    }

    #[test]
    fn keys_are_made_of_the_pinned_columns_or_not_at_all() {
        let rules = Rules { account_column: "account".into(), ..Rules::default() };
        let found = |columns: &[&str], pinned: Option<&[&str]>, key: &[&str]| {
            compiled(columns, &rules, pinned, key).map(|table| (table.key, table.pinned_key_schema))
        };
        let columns = ["account", "id", "other"];
        assert_eq!(found(&columns, None, &["id"]).unwrap(), (vec![1], None));
        assert_eq!(found(&columns, Some(&["id"]), &["id"]).unwrap(), (vec![1], Some(7)));
        assert_eq!(found(&columns, Some(&["id"]), &[]).unwrap(), (vec![1], Some(7)), "the table is gone by now");
        let fault = |columns: &[&str], pinned: Option<&[&str]>, key: &[&str]| found(columns, pinned, key).unwrap_err();
        assert!(matches!(fault(&["account", "ident"], Some(&["id"]), &["ident"]), TableFault::KeyColumnMissing(_)));
        assert!(matches!(fault(&columns, Some(&["id"]), &["other"]), TableFault::KeyColumns { .. }));
        assert!(matches!(fault(&columns, Some(&["id"]), &["id", "account"]), TableFault::KeyColumns { .. }));
        assert!(matches!(fault(&columns, Some(&["id", "other"]), &["other", "id"]), TableFault::KeyColumns { .. }));
        assert!(matches!(fault(&columns, None, &["ident"]), TableFault::KeyColumnLater(_)));
    }
}
