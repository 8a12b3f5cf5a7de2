//! Records on their way to the producer: one buffer for many, and the look-ahead for the end flag.
//!
//! A record's header says whether it is the last of its transaction in its partition, which is known only when the
//! next record of that partition, or the commit, has been seen. So the youngest record of every partition stays in the
//! buffer until then; everything older may be shipped at any time.

use penstock_wire::header::{HEADER_LENGTH, Header, set_end_of_transaction};
use penstock_wire::partition::PartitionId;

use crate::ledger::Ticket;

/// Encoded records in the order they must be produced.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    partition: PartitionId,
    start: usize,
    key_end: usize,
    value_end: Option<usize>,
    header: [u8; HEADER_LENGTH],
    control: Option<&'static str>,
    timestamp_ms: i64,
    ticket: Ticket,
}

/// One record, borrowing its bytes from the batch.
#[derive(Debug)]
pub struct Record<'a> {
    /// Where it goes.
    pub partition: PartitionId,
    /// Framed Avro key.
    pub key: &'a [u8],
    /// Framed Avro value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The header `penstock`.
    pub header: [u8; HEADER_LENGTH],
    /// The header `penstock.control`, on control records.
    pub control: Option<&'static str>,
    /// Commit time, Unix milliseconds.
    pub timestamp_ms: i64,
    /// To be handed back with the delivery report.
    pub ticket: Ticket,
}

/// What a record is besides its bytes.
#[derive(Debug)]
pub struct Envelope {
    /// Where it goes.
    pub partition: PartitionId,
    /// Its header; the end flag is set later.
    pub header: Header,
    /// Its kind, on control records.
    pub control: Option<&'static str>,
    /// Commit time, Unix milliseconds.
    pub timestamp_ms: i64,
}

impl Batch {
    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes the records out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Record<'_>> {
        let bytes = &self.bytes;
        self.slots.drain(..).map(move |slot| Record {
            partition: slot.partition,
            key: &bytes[slot.start..slot.key_end],
            value: slot.value_end.map(|end| &bytes[slot.key_end..end]),
            header: slot.header,
            control: slot.control,
            timestamp_ms: slot.timestamp_ms,
            ticket: slot.ticket,
        })
    }
}

impl Slot {
    fn end(&self) -> usize {
        self.value_end.unwrap_or(self.key_end)
    }
}

/// The batch being filled, with each partition's youngest record.
#[derive(Debug)]
pub struct Builder {
    batch: Batch,
    youngest: Vec<Option<usize>>,
}

impl Builder {
    /// For a topic of `partitions` partitions.
    pub fn new(partitions: u32) -> Self {
        Self { batch: Batch::default(), youngest: vec![None; partitions as usize] }
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.batch.bytes.len()
    }

    /// Records waiting.
    pub fn records(&self) -> usize {
        self.batch.slots.len()
    }

    /// Where key and value are appended; [`Self::finish`] makes a record of what was.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.batch.bytes
    }

    /// Makes a record of the bytes appended since the last one: a key up to `key_end`, and behind it the value.
    pub fn finish(&mut self, envelope: &Envelope, key_end: usize, has_value: bool, ticket: Ticket) {
        let start = self.batch.slots.last().map_or(0, Slot::end);
        let end = self.batch.bytes.len();
        assert!(start < key_end && key_end <= end, "key {start}..{key_end} of a buffer of {end} bytes");
        assert!(has_value || key_end == end, "a tombstone with a value of {} bytes", end - key_end);
        self.youngest[envelope.partition.index()] = Some(self.batch.slots.len());
        self.batch.slots.push(Slot {
            partition: envelope.partition,
            start,
            key_end,
            value_end: has_value.then_some(end),
            header: envelope.header.encode(),
            control: envelope.control,
            timestamp_ms: envelope.timestamp_ms,
            ticket,
        });
    }

    /// The key of the record that was finished last, as long as it waits.
    pub fn newest_key(&self) -> &[u8] {
        self.batch.slots.last().map_or(&[], |slot| &self.batch.bytes[slot.start..slot.key_end])
    }

    /// The records that [`Self::ship`] holds back: partition, bytes and ticket of each.
    pub fn held(&mut self) -> impl Iterator<Item = (PartitionId, usize, &mut Ticket)> {
        let youngest = &self.youngest;
        let slots = self.batch.slots.iter_mut().enumerate();
        let held = slots.filter(|(index, slot)| youngest[slot.partition.index()] == Some(*index));
        held.map(|(_, slot)| (slot.partition, slot.end() - slot.start, &mut slot.ticket))
    }

    /// The transaction is complete: flags its last record in every partition.
    pub fn seal(&mut self) {
        for youngest in &mut self.youngest {
            if let Some(index) = youngest.take() {
                set_end_of_transaction(&mut self.batch.slots[index].header);
            }
        }
    }

    /// Takes everything that may be produced already; what is held back stays, in order.
    pub fn ship(&mut self) -> Option<Batch> {
        let held: Vec<usize> = {
            let mut held: Vec<usize> = self.youngest.iter().flatten().copied().collect();
            held.sort_unstable();
            held
        };
        if held.len() == self.batch.slots.len() {
            return None;
        }
        let Batch { bytes, slots } = std::mem::take(&mut self.batch);
        let mut shipped = Vec::with_capacity(slots.len() - held.len());
        for (index, slot) in slots.into_iter().enumerate() {
            if held.binary_search(&index).is_ok() {
                self.hold(slot, &bytes);
            } else {
                shipped.push(slot);
            }
        }
        Some(Batch { bytes, slots: shipped })
    }

    fn hold(&mut self, slot: Slot, bytes: &[u8]) {
        let start = self.batch.bytes.len();
        let moved = |offset: usize| offset - slot.start + start;
        self.batch.bytes.extend_from_slice(&bytes[slot.start..slot.end()]);
        self.youngest[slot.partition.index()] = Some(self.batch.slots.len());
        let (key_end, value_end) = (moved(slot.key_end), slot.value_end.map(moved));
        self.batch.slots.push(Slot { start, key_end, value_end, ..slot });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_wire::partition::Partitioner;

    fn push(builder: &mut Builder, partition: u32, name: &str) {
        let partition = Partitioner::new(3).unwrap().get(partition).unwrap();
        let envelope = Envelope { partition, header: Header::default(), control: None, timestamp_ms: 0 };
        builder.buffer().extend_from_slice(name.as_bytes());
        let key_end = builder.buffer().len();
        builder.buffer().extend_from_slice(b"value");
        builder.finish(&envelope, key_end, true, Ticket::from_raw(0));
    }

    /// `name@partition`, with `!` behind it where the end flag is set.
    fn shipped(builder: &mut Builder) -> Vec<String> {
        let Some(mut batch) = builder.ship() else { return Vec::new() };
        let describe = |record: Record<'_>| {
            assert_eq!(record.value, Some(&b"value"[..]));
            let flag = if Header::decode(&record.header).unwrap().end_of_transaction { "!" } else { "" };
            format!("{}@{}{flag}", std::str::from_utf8(record.key).unwrap(), record.partition)
        };
        batch.drain().map(describe).collect()
    }

    #[test]
    fn the_youngest_of_each_partition_is_held_back_until_the_commit() {
        let mut builder = Builder::new(3);
        for (partition, name) in [(0, "a"), (1, "b"), (0, "c"), (1, "d"), (2, "e")] {
            push(&mut builder, partition, name);
        }
        assert_eq!(shipped(&mut builder), ["a@0", "b@1"]);
        push(&mut builder, 0, "f");
        assert_eq!(shipped(&mut builder), ["c@0"]);
        assert!(shipped(&mut builder).is_empty());
        builder.seal();
        assert_eq!(shipped(&mut builder), ["d@1!", "e@2!", "f@0!"]);
        assert_eq!(builder.bytes(), 0);
    }

    #[test]
    fn several_transactions_share_a_batch() {
        let mut builder = Builder::new(3);
        push(&mut builder, 0, "a");
        push(&mut builder, 0, "b");
        builder.seal();
        push(&mut builder, 0, "c");
        assert_eq!(shipped(&mut builder), ["a@0", "b@0!"]);
        builder.seal();
        assert_eq!(shipped(&mut builder), ["c@0!"]);
    }
}
