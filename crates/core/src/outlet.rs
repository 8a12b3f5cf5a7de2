//! Where decided records become bytes: positions, the chain of previous positions, sizes, admission.

use penstock_wire::header::Header;
use penstock_wire::lsn::CommitLsn;
use penstock_wire::partition::PartitionId;
use penstock_wire::position::{Position, Seq};

use crate::batch::{Batch, Builder, Envelope};
use crate::fault::RowFault;
use crate::ledger::{GroupEnd, Ledger};

/// Encodes into the open batch and admits to the ledger, in one step, so that neither can be forgotten.
#[derive(Debug)]
pub struct Outlet {
    builder: Builder,
    /// By partition: where its newest record stands.
    chain: Vec<Position>,
    /// By partition: where the record before that stands.
    before: Vec<Position>,
    /// Up to this commit a partition may hold records already.
    repeated_to: CommitLsn,
    source: u16,
    epoch: u32,
    record_bytes_max: usize,
}

/// Where and when a record stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Where it goes.
    pub partition: PartitionId,
    /// The transaction's commit record.
    pub commit_lsn: CommitLsn,
    /// Its place in the transaction.
    pub seq: Seq,
    /// Commit time, Unix microseconds.
    pub commit_time_us: i64,
    /// `before` holds identity columns only.
    pub identity_only: bool,
    /// The kind, of control records.
    pub control: Option<&'static str>,
}

impl Outlet {
    /// Continues each partition's chain behind `start`. What is put again at or below it is dropped.
    pub fn new(start: &GroupEnd, source: u16, epoch: u32, record_bytes_max: usize) -> Self {
        let partitions = u32::try_from(start.partitions.len()).expect("a partition count is 32 bits");
        let chain: Vec<Position> = start.partitions.iter().map(|end| end.last).collect();
        let delivered = chain.iter().filter(|last| last.epoch == epoch).map(|last| last.commit_lsn);
        let repeated_to = delivered.max().unwrap_or_default();
        let (builder, before) = (Builder::new(partitions), chain.clone());
        Self { builder, chain, before, repeated_to, source, epoch, record_bytes_max }
    }

    /// The position of a place.
    pub fn position(&self, commit_lsn: CommitLsn, seq: Seq) -> Position {
        Position { epoch: self.epoch, commit_lsn, seq }
    }

    /// Bytes not yet shipped.
    pub fn waiting_bytes(&self) -> usize {
        self.builder.bytes()
    }

    /// Records not yet shipped.
    pub fn waiting_records(&self) -> usize {
        self.builder.records()
    }

    /// The key of the record that was put last, before anything is shipped.
    pub fn newest_key(&self) -> &[u8] {
        self.builder.newest_key()
    }

    /// Appends one record. `key` and `value` append to the buffer; without `value` the record is a tombstone. Tells whether
    /// it was: not if its partition holds it already.
    ///
    /// On an error nothing was appended and nothing admitted.
    pub fn put<E: Into<RowFault>>(
        &mut self,
        ledger: &mut Ledger,
        place: Place,
        key: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        value: Option<impl FnOnce(&mut Vec<u8>) -> Result<(), E>>,
    ) -> Result<bool, RowFault> {
        let position = self.position(place.commit_lsn, place.seq);
        if place.commit_lsn <= self.repeated_to && position <= self.chain[place.partition.index()] {
            return Ok(false);
        }
        let buffer = self.builder.buffer();
        let start = buffer.len();
        let has_value = value.is_some();
        let mut key_end = start;
        let written = key(buffer).and_then(|()| {
            key_end = buffer.len();
            value.map_or(Ok(()), |value| value(buffer))
        });
        let bytes = buffer.len() - start;
        let max = self.record_bytes_max;
        let sized = match written {
            Ok(()) if bytes > max => Err(RowFault::TooLarge { bytes, max }),
            Ok(()) => Ok(()),
            Err(fault) => Err(fault.into()),
        };
        if let Err(fault) = sized {
            buffer.truncate(start);
            return Err(fault);
        }
        let ticket = ledger.admit(place.partition, position, bytes);
        let previous = std::mem::replace(&mut self.chain[place.partition.index()], position);
        self.before[place.partition.index()] = previous;
        let header = Header {
            end_of_transaction: false,
            identity_only: place.identity_only,
            source: self.source,
            position,
            previous,
        };
        let timestamp_ms = place.commit_time_us.div_euclid(1000);
        let envelope = Envelope { partition: place.partition, header, control: place.control, timestamp_ms };
        self.builder.finish(&envelope, key_end, has_value, ticket);
        Ok(true)
    }

    /// A part of the open transaction was closed: what is still held back belongs to the group behind it.
    pub fn carry_over(&mut self, ledger: &mut Ledger) {
        for (partition, bytes, ticket) in self.builder.held() {
            ledger.carry_over(ticket, partition, self.before[partition.index()], bytes);
        }
    }

    /// Flags the transaction's last record in each partition.
    pub fn seal(&mut self) {
        self.builder.seal();
    }

    /// What may be produced already.
    pub fn ship(&mut self) -> Option<Batch> {
        self.builder.ship()
    }
}
