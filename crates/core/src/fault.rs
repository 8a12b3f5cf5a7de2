//! Why the bridge stops, and what the operator can do about it.
//!
//! Every fault here halts: trying again would meet the same bytes. Errors of sockets and brokers, which do pass, belong
//! to the shell. No fault carries a row value.

use std::time::Duration;

use penstock_wire::account::AccountError;
use penstock_wire::lsn::{CommitLsn, EndLsn};
use penstock_wire::plan::{PlanError, ValueError};
use penstock_wire::position::Position;
use penstock_wire::types::{NoDecimal, Refusal};

use crate::continuity::accepting;
use crate::ddl::message::DdlError;
use crate::pgoutput::DecodeError;
use crate::relation::AccountColumns;
use crate::watch::Loss;

/// What stops the bridge.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Bytes that are no message.
    #[error("malformed replication message after {after}: {source}")]
    Decode {
        /// Everything before it was read.
        after: EndLsn,
        /// What is wrong with them.
        source: DecodeError,
    },
    /// A message where the protocol allows none.
    #[error("out of sequence after {after}: {what}")]
    Sequence {
        /// Everything before it was read.
        after: EndLsn,
        /// What came where.
        what: &'static str,
    },
    /// A change of a table whose shape was never sent.
    #[error("change of relation {relation} at {position}, whose shape the server never sent")]
    UnknownRelation {
        /// Its OID.
        relation: u32,
        /// Where.
        position: Position,
    },
    /// A table that cannot be captured as it is now.
    #[error("table {schema}.{table} cannot be captured: {source}")]
    Table {
        /// Its schema.
        schema: String,
        /// Its name.
        table: String,
        /// Why.
        source: Box<TableFault>,
    },
    /// A row that cannot be delivered.
    #[error("row of {schema}.{table} at {position} cannot be delivered: {source}")]
    Row {
        /// Its schema.
        schema: String,
        /// Its table.
        table: String,
        /// Where.
        position: Position,
        /// Why.
        source: Box<RowFault>,
    },
    /// A transaction that the brokers abort by their timeout whenever it is tried.
    #[error(
        "transaction {xid} at {commit_lsn} is too large for one Kafka transaction: the brokers aborted it by their timeout \
         of {} ms, twice, the last time with {records} records ({bytes} bytes) of it delivered",
        .timeout.as_millis()
    )]
    Oversized {
        /// The transaction.
        commit_lsn: CommitLsn,
        /// Its transaction id.
        xid: u32,
        /// Records of it that were delivered within the timeout.
        records: u64,
        /// Bytes of their keys and values.
        bytes: usize,
        /// The timeout of Kafka transactions.
        timeout: Duration,
    },
    /// The publication does not send what it must, from a place of the stream on.
    #[error("publication {publication} was altered: it {what}")]
    Publication {
        /// Its name.
        publication: String,
        /// What it does not do, or should not.
        what: String,
    },
    /// A message of the event triggers that this bridge cannot use.
    #[error("after {after}: {source}")]
    Ddl {
        /// Everything before it was read.
        after: EndLsn,
        /// Why not.
        source: DdlError,
    },
    /// The server's history is not the one that was delivered.
    #[error(
        "the server's history is not the one that was delivered: {what} at {commit_lsn}; it was restored to an older state or replaced"
    )]
    History {
        /// The transaction that shows it.
        commit_lsn: CommitLsn,
        /// What was found.
        what: String,
        /// Where progress ended when the bridge started.
        end: EndLsn,
    },
}

/// Why a table cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum TableFault {
    /// The publication has it, the configuration has not.
    #[error("it is published, but the configuration does not ask for it")]
    NotAskedFor,
    /// None of the configured names is a column's.
    #[error("it has no account column {0}")]
    NoAccountColumn(AccountColumns),
    /// No primary key and none pinned.
    #[error("it has no primary key")]
    NoKey,
    /// A key column is gone, has another name or is excluded.
    #[error("key column {0:?}, pinned when the table was first captured, is not among its columns")]
    KeyColumnMissing(String),
    /// Nothing is pinned yet, and what the catalog calls the key by now was no column of these rows.
    #[error("its primary key has column {0:?} by now, which was not among its columns when these rows were written")]
    KeyColumnLater(String),
    /// Rows are identified by other columns than the topic's keys are made of.
    #[error("its primary key is ({}) by now; keys in the topic are made of ({})", .found.join(", "), .pinned.join(", "))]
    KeyColumns {
        /// The columns that keys are made of.
        pinned: Vec<String>,
        /// The primary key in the catalog.
        found: Vec<String>,
    },
    /// Rows in the topic belong to accounts by another column.
    #[error("rows in the topic belong to the accounts in column {pinned:?}, and the configuration asks for {found:?}")]
    AccountColumn {
        /// The column that the topic's rows were placed by.
        pinned: String,
        /// The one that counts by the configuration.
        found: String,
    },
    /// The same key schema has another id.
    #[error(
        "the registry gives its key schema the id {found}, and keys in the topic are written with {pinned}; a table's key bytes never change"
    )]
    KeySchema {
        /// The pinned id.
        pinned: u32,
        /// What the registry answers now.
        found: u32,
    },
    /// Old rows do not tell where they belong.
    #[error(
        "its replica identity does not hold {0:?}, so a delete or a move would not say which row or account it concerns"
    )]
    IdentityLacks(String),
    /// A value could arrive as "unchanged" and be lost to compaction.
    #[error(
        "column {0:?} can be stored out of line and its replica identity is not FULL: an update could arrive without its value"
    )]
    OutOfLine(String),
    /// A column that must never leave the database has another name now, or is gone; nobody can tell which.
    #[error(
        "it has no column {0:?}, which tables.exclude names: it was renamed or dropped, and under another name it would leave the database"
    )]
    ExcludedAbsent(String),
    /// The same relation under another name: rules, keys and schemas go by names.
    #[error("it was {from} until now: a renamed table begins anew for readers, and its rules go by its name")]
    Renamed {
        /// `schema.table`.
        from: String,
    },
    /// Another captured table has the same name once both are escaped.
    #[error("its records would have the names of {other}'s: both become {avro:?} in Avro")]
    RecordName {
        /// `schema.table`.
        other: String,
        /// The escaped name of both.
        avro: String,
    },
    /// Another table bears the name, and nothing in the stream has told of it.
    #[error(
        "it is another table than the one that was captured (OID {found}, not {pinned}): that one was dropped or renamed, and the stream does not say what became of its rows"
    )]
    Recreated {
        /// The pinned OID.
        pinned: u32,
        /// What the stream sends now.
        found: u32,
    },
    /// The catalog shows what nothing in the stream has told.
    #[error(transparent)]
    Lost(#[from] Loss),
    /// Taken out of the publication.
    #[error("it was taken out of the publication: its changes from there on are not in the stream")]
    Unpublished,
    /// Published with a row filter or a column list.
    #[error("it was given a row filter or a column list in the publication: some of its changes are not in the stream")]
    Restricted,
    /// Made unlogged.
    #[error("it was made unlogged: its changes from there on are not in the stream")]
    Unlogged,
    /// A column that was chosen to travel as a decimal cannot.
    #[error("column {column:?} cannot travel as a decimal: {reason}")]
    Decimal {
        /// The column.
        column: String,
        /// Why.
        reason: NoDecimal,
    },
    /// No schema or encoder can be made of it.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// Why a row cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum RowFault {
    /// A value outside its type's range on the wire.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The account column's value names no account.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The account column's value was not sent.
    #[error("the account column was not sent")]
    AccountUnknown,
    /// An update or a delete without what it must tell of the old row.
    #[error(
        "the old row was not sent: the replica identity of the table, or of the partition that held the row, was not FULL"
    )]
    OldRowMissing,
    /// More or fewer columns than the table has.
    #[error("{found} columns where the table has {expected}")]
    Columns {
        /// What the relation says.
        expected: usize,
        /// What came.
        found: usize,
    },
    /// Larger than the topic takes.
    #[error("its record has {bytes} bytes; the topic takes {max}")]
    TooLarge {
        /// Key and value together.
        bytes: usize,
        /// The bound.
        max: usize,
    },
}

impl Fault {
    /// What the operator can do, in one sentence or two.
    pub fn remedy(&self) -> String {
        match self {
            Self::Decode { .. } | Self::Sequence { .. } | Self::UnknownRelation { .. } => {
                "Nothing was lost and nothing is acknowledged past it. Check that the server is Postgres 14 or later and \
                 that nothing stands between it and Penstock; then report this with the server's version."
                    .into()
            }
            Self::Table { schema, table, source } => source.remedy(schema, table),
            Self::Row { schema, table, source, .. } => source.remedy(schema, table),
            Self::Oversized { .. } => {
                "Nothing is acknowledged past it; all accounts wait behind it. Raise transaction.max.timeout.ms of the brokers \
                 and kafka.transaction_timeout_ms, or have it delivered in parts: faults.oversized_transaction = \"split\"."
                    .into()
            }
            Self::Publication { publication, .. } => format!(
                "ALTER PUBLICATION {publication} SET (publish = 'insert, update, delete, truncate'); and list every captured table of which changes may be missing in tables.accept_missing: they are loaded again. Take them out of the list afterwards."
            ),
            Self::Ddl { .. } => {
                "Run the version of Penstock whose `setup` installed the event triggers, or a newer one.".into()
            }
            Self::History { end, .. } => format!(
                "Do not delete anything. Point source.url at the right server. If the server was restored on purpose, the topic holds commits that it no longer has: {}",
                accepting("gap", *end)
            ),
        }
    }
}

impl TableFault {
    fn remedy(&self, schema: &str, table: &str) -> String {
        match self {
            Self::NoAccountColumn(columns) => {
                format!(
                    "If its account column was renamed, name both, the older one first: [tables.\"{schema}.{table}\"] account_column = [{}, \"the new name\"]. Else name the column that holds the account there, or take the table out of the publication.",
                    columns.quoted()
                )
            }
            Self::NotAskedFor => format!(
                "ALTER PUBLICATION … DROP TABLE {schema}.{table}; keeps later rows of it out. Rows that it holds already stand in the WAL: add \"{schema}.{table}\" to tables.capture (and take it out of tables.leave_out) to have them delivered, for there is no way past them that says nothing. What must not leave the database of it goes into tables.exclude."
            ),
            Self::NoKey => {
                format!(
                    "ALTER TABLE {schema}.{table} ADD PRIMARY KEY (…), or take the table out of the publication. If it was dropped, list \"{schema}.{table}\" in tables.accept_missing: its changes are left out, and readers are told to drop its rows. Take it out of the list afterwards."
                )
            }
            Self::KeyColumnMissing(_) => format!(
                "Keys already written cannot change, and rows of {schema}.{table} that were written without this column stand in the WAL: giving it back now does not bring the bridge past them. Begin a new topic (kafka.topic, source.slot) and load it."
            ),
            Self::KeyColumnLater(_) => format!(
                "Rename the key's columns of {schema}.{table} back to what they were until the bridge has captured the table; a key that is captured keeps its columns."
            ),
            Self::KeyColumns { pinned, .. } => format!(
                "Keys already written cannot change. Make ({}) the primary key of {schema}.{table} again, under these names; if rows were written in between, list \"{schema}.{table}\" in tables.accept_missing, too: the table is loaded again behind them. Take it out of the list afterwards. If the table needs the other key, begin a new topic (kafka.topic, source.slot) and load it.",
                pinned.join(", ")
            ),
            Self::AccountColumn { pinned, found } => format!(
                "If {schema}.{table} had {pinned:?} renamed to {found:?}, list both in its account_column, the older first. If rows are to belong to other accounts, begin a new topic (kafka.topic, source.slot) and load it: nothing in the stream moves the rows that are in this one."
            ),
            Self::KeySchema { pinned, .. } => format!(
                "Nothing of {schema}.{table} was written with it. Let registry.url be the registry that the topic was written with, or give that one back its schemas: id {pinned} must be this key's. If they are lost, begin a new topic (kafka.topic, source.slot) and load it."
            ),
            Self::IdentityLacks(_) | Self::OutOfLine(_) => format!(
                "ALTER TABLE {schema}.{table} REPLICA IDENTITY FULL; changes made since it was taken away are not complete in the WAL. To go on behind them, list \"{schema}.{table}\" in tables.accept_missing: they are left out, and the table is loaded again. Take it out of the list afterwards."
            ),
            Self::ExcludedAbsent(column) => format!(
                "List \"{schema}.{table}.{column}\" in tables.accept_absent. If it was renamed, list the new name in tables.exclude and in tables.accept_absent, too, before the bridge starts again."
            ),
            Self::Renamed { from } => format!(
                "Rename {schema}.{table} back to {from} if nothing of it was written meanwhile. Or go on with the new name: give it {from}'s rules in the configuration, tables.exclude first of all, and list \"{schema}.{table}\" in tables.accept_missing: both names are loaded again. Take it out of that list afterwards."
            ),
            Self::Lost(Loss::Renamed { schema: to, table: now }) => format!(
                "Rename it back. Or give {to}.{now} the rules of {schema}.{table} in the configuration, tables.exclude first of all, and list \"{schema}.{table}\" in tables.accept_missing: both names are loaded again. Take it out of that list afterwards. With Penstock's event triggers (`penstock setup`) the bridge goes on by itself."
            ),
            Self::Lost(Loss::Gone | Loss::Replaced { .. }) | Self::Recreated { .. } => format!(
                "List \"{schema}.{table}\" in tables.accept_missing: readers' rows of it are replaced by a reload. Take it out of the list afterwards. With Penstock's event triggers (`penstock setup`) the bridge goes on by itself."
            ),
            Self::Unpublished => format!(
                "To go on without it, list \"{schema}.{table}\" in tables.leave_out. To capture it further, add it to the publication again and list it in tables.accept_missing: it is loaded again. Take it out of that list afterwards."
            ),
            Self::Restricted => format!(
                "Take the table out of the publication and add it again without filter or list, in one transaction; and list \"{schema}.{table}\" in tables.accept_missing: it is loaded again. Take it out of that list afterwards."
            ),
            Self::Unlogged => format!(
                "ALTER TABLE {schema}.{table} SET LOGGED; and list \"{schema}.{table}\" in tables.accept_missing: it is loaded again. Take it out of that list afterwards."
            ),
            Self::RecordName { other, .. } => format!(
                "Rename {schema}.{table} (its changes up to then cannot be captured), or take it out of the publication; {other} was captured first."
            ),
            Self::Decimal { column, reason: NoDecimal::Undeclared } => format!(
                "Take \"{schema}.{table}.{column}\" out of tables.decimal, or wait with it until the bridge is past the ALTER TABLE that gives the column precision and scale."
            ),
            Self::Decimal { column, reason: NoDecimal::NotNumeric | NoDecimal::Key } => {
                format!("Take \"{schema}.{table}.{column}\" out of tables.decimal.")
            }
            Self::Plan(_) => format!("Rename or exclude the column of {schema}.{table} that is named above."),
        }
    }
}

impl RowFault {
    fn remedy(&self, schema: &str, table: &str) -> String {
        let mend = match self {
            Self::Value(ValueError::Column { column, reason: Refusal::NotFinite, .. }) => format!(
                "Take \"{schema}.{table}.{column}\" out of tables.decimal, so that it travels as a string (which the compatibility rule of its subject must allow), then start again; CHECK ({column} <> 'NaN') keeps such values out."
            ),
            Self::Value(ValueError::Column { column, .. }) => format!(
                "List \"{schema}.{table}.{column}\" in tables.exclude, then start again; that cannot be done with the account column or a column of the key."
            ),
            Self::Account(_) => {
                "The account column cannot be excluded, and what stands in the WAL cannot be changed; a CHECK keeps such values out.".into()
            }
            Self::AccountUnknown => {
                format!("Check the replica identity of {schema}.{table} with `penstock check`, then start again.")
            }
            Self::OldRowMissing => {
                return format!(
                    "ALTER TABLE … REPLICA IDENTITY FULL, of {schema}.{table} and of every partition of it. The change is in the WAL as it is: to go on behind it, list \"{schema}.{table}\" in tables.accept_missing; it is left out, and the table is loaded again. Take it out of the list afterwards."
                );
            }
            Self::Value(ValueError::Width { .. } | ValueError::NotRegistered) | Self::Columns { .. } => {
                return format!(
                    "All accounts wait behind this row of {schema}.{table}. Check the replica identity with `penstock check`, then start again."
                );
            }
            Self::TooLarge { .. } => format!(
                "Raise max.message.bytes of the topic and limits.record_bytes_max, or list the large column of {schema}.{table} in tables.exclude (not the account column or one of the key), then start again."
            ),
        };
        format!(
            "All accounts wait behind this row of {schema}.{table}; everything committed before its transaction is delivered. {mend} Or have such rows set aside: faults.poison = \"dead_letter\" writes them to the dead-letter topic, tells their accounts' readers, and goes on."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_remedy_of_a_poison_row_names_the_other_choice_and_no_other_does() {
        let column = |reason| ValueError::Column { column: "c".into(), pg_type: "text".into(), reason };
        let poison = [
            RowFault::Value(column(Refusal::NotFinite)),
            RowFault::Value(column(Refusal::OutOfRange)),
            RowFault::Account(AccountError::Reserved),
            RowFault::AccountUnknown,
            RowFault::TooLarge { bytes: 2, max: 1 },
        ];
        for fault in poison {
            let remedy = fault.remedy("s", "t");
            assert!(crate::poison::is_of_row(&fault), "{fault}");
            assert!(remedy.contains("faults.poison = \"dead_letter\"") && remedy.contains("s.t"), "{remedy}");
            assert!(remedy.starts_with("All accounts wait"), "{remedy}");
        }
        for fault in [RowFault::Columns { expected: 1, found: 2 }, RowFault::Value(ValueError::NotRegistered)] {
            assert!(!crate::poison::is_of_row(&fault), "{fault}");
            assert!(!fault.remedy("s", "t").contains("dead_letter"), "{fault}");
        }
    }
}
