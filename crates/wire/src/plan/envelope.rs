//! The envelope: both rows, where they come from, and what Postgres did not send.

use super::{Plan, RefusedAt, Slot, ValueError};
use crate::avro::{put_bits, put_bytes, put_length, put_long};
use crate::column::Column;
use crate::decimal;
use crate::event::{Event, Op, Transaction};
use crate::framing;
use crate::types::{self, Refusal};

impl Plan {
    /// Appends the framed envelope of `event`.
    ///
    /// # Panics
    /// If a backfilled row names a transaction, or any other event names none: the caller's invariant.
    pub fn encode_envelope(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
        let backfilled = event.op == Op::Read;
        assert_eq!(
            backfilled,
            event.transaction.is_none(),
            "op {:?} with transaction {:?}",
            event.op,
            event.transaction
        );
        let ids = self.ids()?;
        for row in [event.before, event.after].into_iter().flatten() {
            self.check_width(row)?;
        }
        let start = out.len();
        out.reserve(self.size_hint(event));
        framing::put_header(ids.value, out);
        if let Err(refused) = self.put_rows(event, out) {
            out.truncate(start);
            return Err(self.refused(&refused));
        }
        self.put_source(event, out);
        put_bytes(out, event.op.as_str().as_bytes());
        put_long(out, milliseconds(event.commit_time_us));
        put_transaction(event, out);
        self.put_unchanged(event, out);
        Ok(())
    }

    fn put_rows(&self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), RefusedAt> {
        match event.before {
            None => out.push(0),
            Some(row) => {
                out.push(2);
                if let Some(index) = self.unchanged(row).next() {
                    return Err(RefusedAt { index, reason: Refusal::NotSent });
                }
                self.put_row(row, out)?;
            }
        }
        match event.after {
            None => out.push(0),
            Some(row) => {
                out.push(2);
                self.put_row(row, out)?;
            }
        }
        Ok(())
    }

    #[inline]
    fn put_row(&self, row: &[Column<'_>], out: &mut Vec<u8>) -> Result<(), RefusedAt> {
        for (index, (slot, column)) in self.slots.iter().zip(row).enumerate() {
            match slot {
                Slot::Excluded => {}
                Slot::Travels(kind) => {
                    types::put_nullable(*kind, *column, out).map_err(|reason| RefusedAt { index, reason })?;
                }
            }
        }
        Ok(())
    }

    fn put_source(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.source_head);
        put_long(out, milliseconds(event.commit_time_us));
        put_long(out, event.commit_time_us);
        put_bytes(out, if event.transaction.is_some() { b"false" } else { b"incremental" });
        out.extend_from_slice(&self.source_names);
        match event.transaction {
            Some(transaction) => {
                out.push(2);
                put_long(out, i64::from(transaction.xid));
            }
            None => out.push(0),
        }
        match event.transaction.and(event.row_lsn) {
            Some(lsn) => {
                out.push(2);
                put_bits(out, lsn.0);
            }
            None => out.push(0),
        }
        put_bits(out, event.commit_lsn.raw());
        put_bits(out, event.seq.0);
    }

    /// Lists the columns of the new row that Postgres did not send, by the names they have in the schema.
    fn put_unchanged(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        let row = event.after.unwrap_or_default();
        let count = self.unchanged(row).count();
        if count > 0 {
            put_length(out, count);
            for name in self.unchanged(row).filter_map(|index| self.listed_names.get(index)) {
                out.extend_from_slice(name);
            }
        }
        out.push(0);
    }

    fn unchanged<'r>(&'r self, row: &'r [Column<'_>]) -> impl Iterator<Item = usize> + 'r {
        let columns = self.slots.iter().zip(row).enumerate();
        columns
            .filter(|(_, (slot, column))| matches!((slot, column), (Slot::Travels(_), Column::Unchanged)))
            .map(|(index, _)| index)
    }

    /// Room for the envelope without growing on the way: text is never shorter than what it becomes, lengths aside.
    fn size_hint(&self, event: &Event<'_>) -> usize {
        let rows = [event.before, event.after].into_iter().flatten().flatten();
        let values: usize = rows.map(|column| column.len() + 8).sum();
        values + self.source_head.len() + self.source_names.len() + 160
    }
}

fn put_transaction(event: &Event<'_>, out: &mut Vec<u8>) {
    let Some(Transaction { xid, total_order, data_collection_order }) = event.transaction else {
        out.push(0);
        return;
    };
    out.push(2);
    put_transaction_id(xid, event.commit_lsn.raw(), out);
    put_bits(out, total_order);
    put_bits(out, data_collection_order);
}

/// Milliseconds of a time in microseconds, rounded down on both sides of 1970.
fn milliseconds(micros: i64) -> i64 {
    micros.div_euclid(1000)
}

/// The string `<xid>:<commit LSN>`, both decimal.
fn put_transaction_id(xid: u32, commit_lsn: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(0);
    decimal::put(out, u64::from(xid));
    out.push(b':');
    decimal::put(out, commit_lsn);
    // At most 31 characters, so the length takes the one byte that was kept for it.
    let length = out.len() - start - 1;
    out[start] = (length * 2).to_le_bytes()[0];
}
