//! From one event to its records: numbered, placed, encoded and admitted.

use std::collections::BTreeMap;

use penstock_wire::control::{Control, ControlKey};
use penstock_wire::event::{Event, Op, Transaction};
use penstock_wire::lsn::{CommitLsn, Lsn};
use penstock_wire::partition::PartitionId;
use penstock_wire::position::{Part, Position, Seq};

use crate::backfill::Backfill;
use crate::bridge::Settings;
use crate::fault::{Fault, RowFault};
use crate::ledger::Ledger;
use crate::outlet::{Outlet, Place};
use crate::pgoutput::{Begin, Message, Relation};
use crate::relation::Table;
use crate::route::{self, Change, Version};
use crate::tables::LeftOut;

/// A transaction that is being delivered.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) begin: Begin,
    /// Events so far, before any filter.
    pub(crate) events: u64,
    /// Envelopes so far: the last `total_order`.
    pub(crate) envelopes: u64,
    /// Bytes that the open group held when it began.
    pub(crate) bytes_before: usize,
}

/// Everything one event touches while its records are made.
pub(crate) struct Emit<'b> {
    pub(crate) open: &'b mut Open,
    pub(crate) row_lsn: Lsn,
    pub(crate) tables: &'b mut BTreeMap<u32, Table>,
    pub(crate) left_out: &'b mut BTreeMap<u32, LeftOut>,
    pub(crate) settings: &'b Settings,
    pub(crate) outlet: &'b mut Outlet,
    pub(crate) ledger: &'b mut Ledger,
    pub(crate) backfill: &'b mut Backfill,
    /// A table, by schema and name, one of whose changes was left out because it lacks the old row.
    pub(crate) incomplete: Option<(String, String)>,
}

impl Emit<'_> {
    /// Makes the records of one message, which is a change.
    pub(crate) fn change(&mut self, message: Message<'_>) -> Result<(), Fault> {
        match message {
            Message::Truncate { relations } => relations.into_iter().try_for_each(|relation| self.truncate(relation)),
            Message::Insert { relation, new } => self.row(relation, |table| route::insert(table, &new)),
            Message::Delete { relation, old } => self.row(relation, |table| route::delete(table, &old)),
            Message::Update { relation, old, mut new } => {
                route::fill_unchanged(&mut new, old.as_ref());
                self.row(relation, |table| route::update(table, old.as_ref(), &new))
            }
            Message::Begin(_)
            | Message::Commit(_)
            | Message::Relation(_)
            | Message::Logical(_)
            | Message::Origin
            | Message::Type => {
                unreachable!("the bridge handles what is no change of a table")
            }
        }
    }

    /// Counts an event; returns its index.
    pub(crate) fn event(&mut self) -> u64 {
        self.open.events += 1;
        self.open.events - 1
    }

    fn row<'a>(
        &mut self,
        relation: u32,
        decide: impl FnOnce(&Table) -> Result<Change<'a>, RowFault>,
    ) -> Result<(), Fault> {
        let event = self.event();
        let position = self.outlet.position(self.open.begin.commit_lsn, Seq::of_event(event, Part::Record));
        // Taken out so that the table can be numbered while the rest of self is written to.
        let Some(mut table) = self.tables.remove(&relation) else {
            return match self.left_out.get_mut(&relation) {
                None => Err(Fault::UnknownRelation { relation, position }),
                Some(LeftOut { told: true, .. }) => Ok(()),
                Some(left_out) => {
                    left_out.told = true;
                    let (schema, table) = (left_out.schema.clone(), left_out.table.clone());
                    self.rows_gone(event, &schema, &table)
                }
            };
        };
        let written = decide(&table).and_then(|change| self.write(&mut table, event, change));
        let Relation { schema, table: name, .. } = &table.relation;
        let written = match written {
            Err(RowFault::OldRowMissing) if self.settings.rules.accepts_missing(schema, name) => {
                self.incomplete = Some((schema.clone(), name.clone()));
                Ok(())
            }
            other => other.map_err(|source| row_fault(schema, name, position, source)),
        };
        self.tables.insert(relation, table);
        written
    }

    fn write(&mut self, table: &mut Table, event: u64, change: Change<'_>) -> Result<(), RowFault> {
        match change {
            Change::Create(after) => self.envelope(table, event, Part::Record, Op::Create, None, Some(after)),
            Change::Update { before, after } => {
                self.envelope(table, event, Part::Record, Op::Update, before, Some(after))
            }
            Change::Delete(before) => self.departure(table, event, before),
            Change::Move { from, to } => {
                self.departure(table, event, from)?;
                self.envelope(table, event, Part::Arrival, Op::Create, None, Some(to))
            }
            Change::Ignored => Ok(()),
        }
    }

    fn departure(&mut self, table: &mut Table, event: u64, before: Version<'_>) -> Result<(), RowFault> {
        self.envelope(table, event, Part::Record, Op::Delete, Some(before), None)?;
        let place = self.place(before, event, Part::Tombstone, false);
        let plan = &table.plan;
        let key = |out: &mut Vec<u8>| plan.encode_key(before.columns, before.account, out);
        let none: Option<fn(&mut Vec<u8>) -> _> = None;
        self.outlet.put(self.ledger, place, key, none).map(|_| ())
    }

    fn envelope(
        &mut self,
        table: &mut Table,
        event: u64,
        part: Part,
        op: Op,
        before: Option<Version<'_>>,
        after: Option<Version<'_>>,
    ) -> Result<(), RowFault> {
        let Some(version) = after.or(before) else { unreachable!("an envelope has a row") };
        let Begin { commit_lsn, commit_time_us, xid } = self.open.begin;
        self.open.envelopes += 1;
        let data_collection_order = table.next_order(commit_lsn);
        let transaction = Transaction { xid, total_order: self.open.envelopes, data_collection_order };
        let place = self.place(version, event, part, before.is_some_and(|before| before.identity_only));
        let event = Event {
            op,
            before: before.map(|before| before.columns),
            after: after.map(|after| after.columns),
            commit_time_us,
            commit_lsn,
            seq: place.seq,
            transaction: Some(transaction),
            row_lsn: Some(self.row_lsn),
        };
        let plan = &table.plan;
        let key = |out: &mut Vec<u8>| plan.encode_key(version.columns, version.account, out);
        let value = |out: &mut Vec<u8>| plan.encode_envelope(&event, out);
        // Numbered although it may be delivered already, counted only if it is not.
        if self.outlet.put(self.ledger, place, key, Some(value))? {
            table.count(op);
            if self.backfill.watches() {
                self.backfill.touch(table.relation.id, self.outlet.newest_key());
            }
        }
        Ok(())
    }

    fn place(&self, version: Version<'_>, event: u64, part: Part, identity_only: bool) -> Place {
        Place {
            partition: self.settings.partitioner.partition(version.account),
            commit_lsn: self.open.begin.commit_lsn,
            seq: Seq::of_event(event, part),
            commit_time_us: self.open.begin.commit_time_us,
            identity_only,
            control: None,
        }
    }

    fn truncate(&mut self, relation: u32) -> Result<(), Fault> {
        let event = self.event();
        let position = self.outlet.position(self.open.begin.commit_lsn, Seq::of_event(event, Part::Record));
        let (schema, table) = match (self.tables.get(&relation), self.left_out.get(&relation)) {
            (Some(table), _) => (table.relation.schema.clone(), table.relation.table.clone()),
            (None, Some(left_out)) => (left_out.schema.clone(), left_out.table.clone()),
            (None, None) => return Err(Fault::UnknownRelation { relation, position }),
        };
        self.backfill.void(relation, "the table was emptied meanwhile");
        self.rows_gone(event, &schema, &table)
    }

    /// One control record in every partition, at the same position.
    pub(crate) fn rows_gone(&mut self, event: u64, schema: &str, table: &str) -> Result<(), Fault> {
        let seq = Seq::of_event(event, Part::Record);
        let position = self.outlet.position(self.open.begin.commit_lsn, seq);
        let control = Control::truncate(schema, table);
        let key = ControlKey::of_table(self.settings.source.number, control.kind, schema, table);
        let Begin { commit_lsn, commit_time_us, .. } = self.open.begin;
        let place = ControlPlace { commit_lsn, seq, commit_time_us };
        for partition in self.settings.partitioner.all() {
            put_control(self.settings, self.outlet, self.ledger, (partition, place), &key, &control)
                .map_err(|source| row_fault(schema, table, position, source))?;
        }
        Ok(())
    }
}

fn row_fault(schema: &str, table: &str, position: Position, source: RowFault) -> Fault {
    Fault::Row { schema: schema.to_owned(), table: table.to_owned(), position, source: Box::new(source) }
}

/// Where a control record stands, in whichever partition.
#[derive(Clone, Copy)]
pub(crate) struct ControlPlace {
    pub(crate) commit_lsn: CommitLsn,
    pub(crate) seq: Seq,
    pub(crate) commit_time_us: i64,
}

/// Appends a control record to one partition.
pub(crate) fn put_control(
    settings: &Settings,
    outlet: &mut Outlet,
    ledger: &mut Ledger,
    (partition, at): (PartitionId, ControlPlace),
    key: &ControlKey,
    control: &Control,
) -> Result<(), RowFault> {
    let ControlPlace { commit_lsn, seq, commit_time_us } = at;
    let kind = Some(control.kind.as_str());
    let place = Place { partition, commit_lsn, seq, commit_time_us, identity_only: false, control: kind };
    let (key_id, value_id) = settings.control_schema_ids;
    let encode_key = |out: &mut Vec<u8>| {
        key.encode(key_id, out);
        Ok::<(), RowFault>(())
    };
    let encode_value = |out: &mut Vec<u8>| {
        control.encode(value_id, out);
        Ok(())
    };
    outlet.put(ledger, place, encode_key, Some(encode_value)).map(|_| ())
}
