//! Poison rows: rows that cannot be delivered, and what is written instead where the bridge is told to go on.
//!
//! The whole event becomes a *dead letter*: the row as Postgres sent it, without excluded columns, in a topic of its own.
//! Its place in the change topic is taken by a control record for the account it belongs to, of a move for both accounts;
//! for everyone, where an account cannot be told or has a name that no control record can hold.
//!
//! Invariants: what is poison, and what is written of it, is a function of the row, the table and the limits, never of what
//! a partition holds already; a reason names columns, never values; a dead letter fits its topic, or is an error.
//!
//! Only what is wrong with one row is poison. A table that cannot be captured, a message that cannot be read, and a row
//! that is not of its table's shape stop the bridge whatever it is told.

use std::collections::BTreeMap;

use penstock_wire::account::Account;
use penstock_wire::column::Column;
use penstock_wire::control::{Control, ControlKey};
use penstock_wire::dead_letter::{DeadLetter, lossless_text};
use penstock_wire::event::{Event, Op, Transaction};
use penstock_wire::lsn::CommitLsn;
use penstock_wire::partition::PartitionId;
use penstock_wire::plan::ValueError;
use penstock_wire::position::{Part, Seq};
use penstock_wire::types::{ValueKind, put_postgres_text};

use crate::bridge::Settings;
use crate::fault::RowFault;
use crate::pgoutput::{OldTuple, Relation, Tuple};
use crate::relation::Table;
use crate::route::{self, RowEvent, Version};

/// What happens to a poison row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The bridge stops; all accounts wait.
    Halt,
    /// It goes to the dead-letter topic, and the bridge goes on.
    DeadLetter {
        /// Registry id of the dead letters' schema.
        schema_id: u32,
        /// Largest dead letter, key and value together, in bytes.
        bytes_max: usize,
    },
}

/// Columns left out of a dead letter that its reason names; further ones are counted.
const NAMED_MAX: usize = 8;

/// What a reason goes on with where columns are left out.
const LEFT_OUT: &str = "; left out, because they do not fit: ";

/// Bytes that the length of a text, or of a map, takes at most in Avro, with the branch of a union.
const LENGTH_BYTES: usize = 11;

/// Whether it is the row that is at fault.
pub(crate) fn is_of_row(fault: &RowFault) -> bool {
    match fault {
        RowFault::Value(ValueError::Column { .. })
        | RowFault::Account(_)
        | RowFault::AccountUnknown
        | RowFault::TooLarge { .. } => true,
        RowFault::Value(ValueError::Width { .. } | ValueError::NotRegistered)
        | RowFault::Columns { .. }
        | RowFault::OldRowMissing => false,
    }
}

/// Whom a poison row concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concerned<'a> {
    /// The account of every version of the row.
    One(Account<'a>),
    /// The account that it left, and the one that it would have come to.
    Two(Account<'a>, Account<'a>),
    /// Nobody can tell.
    Everyone,
}

/// Whose row it is.
pub(crate) fn concerned<'a>(table: &Table, event: RowEvent<'a>) -> Concerned<'a> {
    let (old, new) = versions(table, event);
    match (old.map(|old| old.map(|old| old.account)), new.map(|new| new.map(|new| new.account))) {
        (Some(Ok(old)), Some(Ok(new))) if old != new => Concerned::Two(old, new),
        (Some(Ok(account)), None | Some(Ok(_))) | (None, Some(Ok(account))) => Concerned::One(account),
        (Some(Err(_)), _) | (_, Some(Err(_))) | (None, None) => Concerned::Everyone,
    }
}

type Versions<'a> = (Option<Result<Version<'a>, RowFault>>, Option<Result<Version<'a>, RowFault>>);

/// The row as it was and as it is, as far as the event tells.
fn versions<'a>(table: &Table, event: RowEvent<'a>) -> Versions<'a> {
    match event {
        RowEvent::Insert(new) | RowEvent::Read(new) => (None, Some(route::new_version(table, new))),
        RowEvent::Update { old, new } => {
            (old.map(|old| route::old_version(table, old)), Some(route::new_version(table, new)))
        }
        RowEvent::Delete(old) => (Some(route::old_version(table, old)), None),
    }
}

/// Why, for people: what is wrong, and with which version of the row.
pub(crate) fn reason(table: &Table, event: RowEvent<'_>, fault: &RowFault) -> String {
    match is_of_old(table, event, fault) {
        true => format!("the row as it was: {fault}"),
        false => fault.to_string(),
    }
}

/// Whether an update is refused for what the row was before it.
fn is_of_old(table: &Table, event: RowEvent<'_>, fault: &RowFault) -> bool {
    let RowEvent::Update { .. } = event else { return false };
    match (versions(table, event), fault) {
        ((_, Some(Err(_))), _) | (_, RowFault::TooLarge { .. }) => false,
        ((Some(Err(_)), _), _) => true,
        ((Some(Ok(old)), _), _) => !can_be_told(table, old),
        ((None, _), _) => false,
    }
}

/// Whether the old row could be told at all.
fn can_be_told(table: &Table, old: Version<'_>) -> bool {
    let alone = Event {
        op: Op::Delete,
        before: Some(old.columns),
        after: None,
        commit_time_us: 0,
        commit_lsn: CommitLsn::default(),
        seq: Seq(0),
        transaction: Some(Transaction { xid: 0, total_order: 0, data_collection_order: 0 }),
        row_lsn: None,
    };
    let mut scratch = Vec::new();
    table.plan.encode_key(old.columns, old.account, &mut scratch).is_ok()
        && table.plan.encode_envelope(&alone, &mut scratch).is_ok()
}

/// A control record that says whose row was not delivered, and where it stands.
#[derive(Debug)]
pub(crate) struct Quarantine {
    pub(crate) partition: PartitionId,
    pub(crate) part: Part,
    pub(crate) key: ControlKey,
    pub(crate) control: Control,
}

impl Quarantine {
    fn new(
        table: &Table,
        (partition, part): (PartitionId, Part),
        account: Option<Account<'_>>,
        reason: &str,
        settings: &Settings,
    ) -> Self {
        let Relation { schema, table, .. } = &table.relation;
        let account = account.map(Account::as_str);
        let control = Control::dead_letter(schema, table, account, reason.to_owned());
        let key = ControlKey::of_table(settings.source.number, control.kind, schema, table);
        Self { partition, part, key: key.of_account(account.unwrap_or_default()), control }
    }

    fn fits(&self, settings: &Settings) -> bool {
        let (key_id, value_id) = settings.control_schema_ids;
        let mut bytes = Vec::new();
        self.key.encode(key_id, &mut bytes);
        self.control.encode(value_id, &mut bytes);
        bytes.len() <= settings.limits.record_bytes_max
    }
}

/// The control records of a poison row, at least one. The dead letter is shipped together with the first.
pub(crate) fn quarantines(table: &Table, event: RowEvent<'_>, reason: &str, settings: &Settings) -> Vec<Quarantine> {
    let partitioner = settings.partitioner;
    let of = |account: Account<'_>, part| {
        Quarantine::new(table, (partitioner.partition(account), part), Some(account), reason, settings)
    };
    let named = match concerned(table, event) {
        Concerned::One(account) => vec![of(account, Part::Record)],
        // At the places of a move's delete and create: the two may share a partition.
        Concerned::Two(old, new) => vec![of(old, Part::Record), of(new, Part::Arrival)],
        Concerned::Everyone => Vec::new(),
    };
    // An account's name can be as long as a row: then nobody can be named.
    if !named.is_empty() && named.iter().all(|quarantine| quarantine.fits(settings)) {
        return named;
    }
    let everyone = partitioner.all();
    everyone.map(|partition| Quarantine::new(table, (partition, Part::Record), None, reason, settings)).collect()
}

/// A dead letter as it is produced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    /// The row's key; empty if it could not be made, or would leave no room for anything else.
    pub(crate) key: Vec<u8>,
    /// Framed Avro.
    pub(crate) value: Vec<u8>,
}

impl Letter {
    /// Of the row as it is, of a delete as it was. Columns that do not fit are left out, the largest first; that is told in
    /// the reason.
    pub(crate) fn new(
        table: &Table,
        event: RowEvent<'_>,
        reason: &str,
        schema_id: u32,
        bytes_max: usize,
    ) -> Result<Self, RowFault> {
        let (op, version, columns) = match event {
            RowEvent::Read(new) => ("r", route::new_version(table, new), sent(table, new, false)),
            RowEvent::Insert(new) => ("c", route::new_version(table, new), sent(table, new, false)),
            RowEvent::Update { new, .. } => ("u", route::new_version(table, new), sent(table, new, false)),
            RowEvent::Delete(old) => ("d", route::old_version(table, old), sent_before(table, old)),
        };
        let key = key(table, version, bytes_max);
        let room = bytes_max.saturating_sub(key.len());
        let mut letter = DeadLetter {
            schema: table.relation.schema.clone(),
            table: table.relation.table.clone(),
            op: op.to_owned(),
            reason: reason.to_owned(),
            columns: BTreeMap::new(),
        };
        let mut value = Vec::new();
        letter.encode(schema_id, &mut value);
        let room = room.saturating_sub(value.len() + LENGTH_BYTES);
        if !fill(&mut letter.columns, &columns, room).is_empty() {
            letter.columns.clear();
            let left_out = fill(&mut letter.columns, &columns, room.saturating_sub(longest_list(&columns)));
            letter.reason = format!("{reason}{LEFT_OUT}{}", listed(&left_out));
        }
        value.clear();
        letter.encode(schema_id, &mut value);
        match key.len() + value.len() {
            bytes if bytes > bytes_max => Err(RowFault::TooLarge { bytes, max: bytes_max }),
            _ => Ok(Self { key, value }),
        }
    }
}

/// The row's key, if it can be made and leaves room for more.
fn key(table: &Table, version: Result<Version<'_>, RowFault>, bytes_max: usize) -> Vec<u8> {
    let mut key = Vec::new();
    let made = version.is_ok_and(|row| table.plan.encode_key(row.columns, row.account, &mut key).is_ok());
    if !made || key.len() > bytes_max / 2 {
        key.clear();
    }
    key
}

/// A column as it is kept: its name, how its values are written, its value.
type Sent<'a> = (&'a str, ValueKind, Column<'a>);

fn sent<'a>(table: &'a Table, Tuple(columns): &'a Tuple<'a>, identity_only: bool) -> Vec<Sent<'a>> {
    let was_sent = |index: usize, column: Column<'_>| {
        let known = !identity_only || table.relation.columns.get(index).is_some_and(|column| column.in_identity);
        known && column != Column::Unchanged
    };
    let travelling = table.plan.travelling(columns).filter(|(index, _, _, column)| was_sent(*index, *column));
    travelling.map(|(_, name, kind, column)| (name, kind, column)).collect()
}

fn sent_before<'a>(table: &'a Table, old: &'a OldTuple<'a>) -> Vec<Sent<'a>> {
    match old {
        OldTuple::Identity(columns) => sent(table, columns, true),
        OldTuple::Full(columns) => sent(table, columns, false),
    }
}

/// Takes as many columns as fit into `room` bytes, the smallest first. Gives the names of the others, the largest first.
fn fill<'a>(taken: &mut BTreeMap<String, Option<String>>, columns: &[Sent<'a>], mut room: usize) -> Vec<&'a str> {
    let mut smallest_first = columns.to_vec();
    smallest_first.sort_by_key(|(name, _, column)| (column.len(), *name));
    let mut left_out = Vec::new();
    for (name, kind, column) in smallest_first {
        let before = name.len() + 2 * LENGTH_BYTES;
        // What is larger as it was sent is never made a text of.
        let fits = |bytes: usize| left_out.is_empty() && bytes.saturating_add(before) <= room;
        let text = fits(column.len()).then(|| text(kind, column));
        match text.filter(|text| fits(text.as_ref().map_or(0, String::len))) {
            Some(text) => {
                room -= before + text.as_ref().map_or(0, String::len);
                taken.insert(name.to_owned(), text);
            }
            None => left_out.push(name),
        }
    }
    left_out.reverse();
    left_out
}

fn text(kind: ValueKind, column: Column<'_>) -> Option<String> {
    match column {
        Column::Null | Column::Unchanged => None,
        Column::Text(bytes) => Some(lossless_text(bytes)),
        Column::Binary(bytes) => {
            let mut text = Vec::new();
            let rendered = put_postgres_text(kind, bytes, &mut text);
            Some(lossless_text(if rendered.is_ok() { &text } else { bytes }))
        }
    }
}

fn listed(names: &[&str]) -> String {
    let named: Vec<String> = names.iter().take(NAMED_MAX).map(|name| format!("{name:?}")).collect();
    match names.len().saturating_sub(NAMED_MAX) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Bytes that a list of any of these columns takes at most, with what introduces it.
fn longest_list(columns: &[Sent<'_>]) -> usize {
    let mut lengths: Vec<usize> = columns.iter().map(|(name, _, _)| format!("{name:?}, ").len()).collect();
    lengths.sort_unstable_by(|one, other| other.cmp(one));
    lengths.iter().take(NAMED_MAX).sum::<usize>() + LEFT_OUT.len() + format!(" and {} more", columns.len()).len()
}
