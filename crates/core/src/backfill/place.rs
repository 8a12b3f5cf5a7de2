//! Where backfilled rows and the ends of a reload stand in the stream.
//!
//! Row `n` of a chunk (from 0) stands at its high mark's commit, behind the mark's own event. Rows are numbered before touched
//! ones are dropped, so that holes in `n` are normal.

use penstock_wire::account::{Account, GLOBAL};
use penstock_wire::control::{Control, ControlKey, ControlKind};
use penstock_wire::event::{Event, Op};
use penstock_wire::partition::PartitionId;
use penstock_wire::position::{Part, Position, Seq};
use penstock_wire::reload::Scope;

use super::Placed;
use crate::bridge::Settings;
use crate::emit::{ControlPlace, put_control};
use crate::fault::{Fault, RowFault};
use crate::ledger::Ledger;
use crate::outlet::{Outlet, Place};
use crate::pgoutput::{Begin, Tuple};
use crate::relation::Table;
use crate::route::{self, Change};

/// What rows and controls are written with and to.
pub(crate) struct Placing<'b> {
    pub(crate) begin: Begin,
    /// The mark's event.
    pub(crate) event: u64,
    pub(crate) settings: &'b Settings,
    pub(crate) outlet: &'b mut Outlet,
    pub(crate) ledger: &'b mut Ledger,
}

impl Placing<'_> {
    /// Where the mark itself stands.
    pub(crate) fn position(&self) -> Position {
        self.outlet.position(self.begin.commit_lsn, Seq::of_event(self.event, Part::Record))
    }

    /// One control record in each partition that the scope lies in.
    pub(crate) fn control(&mut self, kind: ControlKind, scope: &Scope, reload_begin: Position) -> Result<(), Fault> {
        let Settings { partitioner, source, .. } = self.settings;
        let control = Control::reload(kind, scope, reload_begin);
        let key = ControlKey::of_reload(source.number, kind, scope);
        let seq = Seq::of_event(self.event, Part::Record);
        let Begin { commit_lsn, commit_time_us, .. } = self.begin;
        let place = ControlPlace { commit_lsn, seq, commit_time_us };
        let position = self.position();
        let partitions: Vec<PartitionId> = match &scope.account {
            Some(account) if account == GLOBAL => vec![partitioner.partition(Account::NONE)],
            Some(account) => {
                let account = Account::from_column(Some(account.as_bytes()));
                vec![partitioner.partition(account.expect("a text that is not the reserved one"))]
            }
            None => partitioner.all().collect(),
        };
        for partition in partitions {
            put_control(self.settings, self.outlet, self.ledger, (partition, place), &key, &control)
                .map_err(|source| fault(&control.schema, &control.table, position, source))?;
        }
        Ok(())
    }

    /// The rows that no record between the marks was about.
    pub(crate) fn rows(&mut self, placed: &mut Placed) -> Result<(), Fault> {
        let Placed { read, chunk, table, .. } = placed;
        let (mut columns, mut key) = (Vec::new(), Vec::new());
        for row in 0..chunk.rows.len() {
            chunk.rows.read(row, &mut columns);
            let tuple = Tuple(std::mem::take(&mut columns));
            let seq = Seq::of_event(self.event + 1 + row as u64, Part::Record);
            let is_touched = |key: &[u8]| read.any_touched() && read.is_touched(key);
            let put = self.row(table, &tuple, seq, &mut key, is_touched);
            let position = self.outlet.position(self.begin.commit_lsn, seq);
            put.map_err(|source| fault(&table.relation.schema, &table.relation.table, position, source))?;
            columns = tuple.0;
        }
        Ok(())
    }

    fn row(
        &mut self,
        table: &mut Table,
        tuple: &Tuple<'_>,
        seq: Seq,
        key: &mut Vec<u8>,
        is_touched: impl FnOnce(&[u8]) -> bool,
    ) -> Result<(), RowFault> {
        let Change::Create(version) = route::insert(table, tuple)? else { unreachable!("an inserted row is created") };
        key.clear();
        table.plan.encode_key(version.columns, version.account, key)?;
        if is_touched(key) {
            return Ok(());
        }
        let Begin { commit_lsn, commit_time_us, .. } = self.begin;
        let partition = self.settings.partitioner.partition(version.account);
        let place = Place { partition, commit_lsn, seq, commit_time_us, identity_only: false, control: None };
        let event = Event {
            op: Op::Read,
            before: None,
            after: Some(version.columns),
            commit_time_us,
            commit_lsn,
            seq,
            transaction: None,
            row_lsn: None,
        };
        let plan = &table.plan;
        let encode_key = |out: &mut Vec<u8>| {
            out.extend_from_slice(key);
            Ok::<(), RowFault>(())
        };
        let encode_value = |out: &mut Vec<u8>| plan.encode_envelope(&event, out).map_err(RowFault::from);
        if self.outlet.put(self.ledger, place, encode_key, Some(encode_value))? {
            table.count(Op::Read);
        }
        Ok(())
    }
}

fn fault(schema: &str, table: &str, position: Position, source: RowFault) -> Fault {
    Fault::Row { schema: schema.to_owned(), table: table.to_owned(), position, source: Box::new(source) }
}
