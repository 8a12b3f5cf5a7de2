//! Where decided records become bytes: positions, the chain of previous positions, sizes, admission.
//!
//! The records of one event are drafted first, and admitted only once all of them are: an event is told whole or not at all.
//! Whether a record can be made does not depend on whether its partition holds it already: one that does is made, too, and
//! dropped.

use std::collections::BTreeSet;

use penstock_wire::header::Header;
use penstock_wire::lsn::CommitLsn;
use penstock_wire::partition::PartitionId;
use penstock_wire::position::{Position, Seq};

use crate::batch::{Batch, Builder, Envelope, Topic};
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
    /// In the buffer behind what is admitted, in order.
    drafts: Vec<Draft>,
    /// Dead letters that readers can read already.
    known_letters: BTreeSet<Position>,
    source: u16,
    epoch: u32,
    record_bytes_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Draft {
    topic: Topic,
    with_next: bool,
    place: Place,
    start: usize,
    key_end: usize,
    value_end: Option<usize>,
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
        Self {
            builder,
            chain,
            before,
            repeated_to,
            drafts: Vec::new(),
            known_letters: BTreeSet::new(),
            source,
            epoch,
            record_bytes_max,
        }
    }

    /// The position of a place.
    pub fn position(&self, commit_lsn: CommitLsn, seq: Seq) -> Position {
        Position { epoch: self.epoch, commit_lsn, seq }
    }

    /// Dead letters at these positions are not to be written again.
    pub fn know_dead_letters(&mut self, known: BTreeSet<Position>) {
        self.known_letters = known;
    }

    /// Whether the place's dead letter is written already.
    pub fn knows_dead_letter(&self, place: &Place) -> bool {
        self.known_letters.contains(&self.position(place.commit_lsn, place.seq))
    }

    /// Bytes not yet shipped.
    pub fn waiting_bytes(&self) -> usize {
        self.builder.bytes()
    }

    /// Records not yet shipped.
    pub fn waiting_records(&self) -> usize {
        self.builder.records()
    }

    /// The keys of the rows that are drafted and not repeated.
    pub fn drafted_keys(&self) -> impl Iterator<Item = &[u8]> {
        let of_rows = |draft: &&Draft| {
            draft.topic == Topic::Changes && draft.place.control.is_none() && draft.value_end.is_some()
        };
        self.drafts.iter().filter(of_rows).map(|draft| &self.builder.appended()[draft.start..draft.key_end])
    }

    /// Whether the place's partition holds what stands there already.
    fn holds(&self, place: &Place) -> bool {
        place.commit_lsn <= self.repeated_to
            && self.position(place.commit_lsn, place.seq) <= self.chain[place.partition.index()]
    }

    /// Drafts one record. `key` and `value` append to the buffer; without `value` the record is a tombstone. Tells whether
    /// it will be admitted: not if its partition holds it already.
    ///
    /// On an error this record is not drafted; what was drafted before it still is.
    pub fn draft<E: Into<RowFault>>(
        &mut self,
        place: Place,
        key: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        value: Option<impl FnOnce(&mut Vec<u8>) -> Result<(), E>>,
    ) -> Result<bool, RowFault> {
        let repeated = self.holds(&place);
        let buffer = self.builder.buffer();
        let start = buffer.len();
        let has_value = value.is_some();
        let mut key_end = start;
        let written = key(buffer).and_then(|()| {
            key_end = buffer.len();
            value.map_or(Ok(()), |value| value(buffer))
        });
        let end = buffer.len();
        let (bytes, max) = (end - start, self.record_bytes_max);
        let sized = match written {
            Ok(()) if bytes > max => Err(RowFault::TooLarge { bytes, max }),
            Ok(()) => Ok(()),
            Err(fault) => Err(fault.into()),
        };
        if sized.is_err() || repeated {
            buffer.truncate(start);
            return sized.map(|()| false);
        }
        let value_end = has_value.then_some(end);
        self.drafts.push(Draft { topic: Topic::Changes, with_next: false, place, start, key_end, value_end });
        Ok(true)
    }

    /// Drafts a dead letter, whose control record at `place` is drafted next. Its size is the caller's affair; an empty key
    /// is none.
    pub fn draft_dead_letter(&mut self, place: Place, key: &[u8], value: &[u8]) {
        // A control record that its partition holds already is not there to be waited for.
        let with_next = !self.holds(&place);
        let buffer = self.builder.buffer();
        let start = buffer.len();
        buffer.extend_from_slice(key);
        buffer.extend_from_slice(value);
        let (key_end, value_end) = (start + key.len(), Some(buffer.len()));
        self.drafts.push(Draft { topic: Topic::DeadLetters, with_next, place, start, key_end, value_end });
    }

    /// Forgets what is drafted.
    pub fn discard(&mut self) {
        if let Some(first) = self.drafts.first() {
            self.builder.buffer().truncate(first.start);
        }
        self.drafts.clear();
    }

    /// Makes records of what is drafted, all of it.
    pub fn admit(&mut self, ledger: &mut Ledger) {
        for Draft { topic, with_next, place, start, key_end, value_end } in self.drafts.drain(..) {
            let Place { partition, commit_lsn, seq, identity_only, control, commit_time_us } = place;
            let position = Position { epoch: self.epoch, commit_lsn, seq };
            let bytes = value_end.unwrap_or(key_end) - start;
            let (ticket, previous) = match topic {
                Topic::Changes => {
                    let previous = std::mem::replace(&mut self.chain[partition.index()], position);
                    self.before[partition.index()] = previous;
                    (ledger.admit(partition, position, bytes), previous)
                }
                // Its topic has no chain.
                Topic::DeadLetters => (ledger.admit_dead_letter(bytes), Position::ZERO),
            };
            let header = Header { end_of_transaction: false, identity_only, source: self.source, position, previous };
            let timestamp_ms = commit_time_us.div_euclid(1000);
            let envelope = Envelope { topic, with_next, partition, header, control, timestamp_ms };
            self.builder.finish(&envelope, key_end, value_end, ticket);
        }
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
