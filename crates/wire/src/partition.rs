//! Which partition an account lives in: what a Java client computes for a string key.

use std::fmt;

use crate::account::Account;

/// A partition of the change topic. Built only by a [`Partitioner`], that is, from the pinned partition count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(u32);

/// Maps accounts to partitions for a partition count that is pinned when the topic is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partitioner {
    count: u32,
}

/// A partition count Kafka cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("partition count {0}; it must be 1 to 2147483647")]
pub struct PartitionCountError(pub u32);

impl PartitionId {
    /// The number, from 0.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The number as an index into per-partition arrays.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Partitioner {
    /// For `count` partitions.
    pub fn new(count: u32) -> Result<Self, PartitionCountError> {
        if count == 0 || i32::try_from(count).is_err() {
            return Err(PartitionCountError(count));
        }
        Ok(Self { count })
    }

    /// How many partitions there are.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// The account's partition: `(murmur2(utf8(account)) & 0x7fffffff) % count`.
    pub fn partition(self, account: Account<'_>) -> PartitionId {
        PartitionId((murmur2(account.as_str().as_bytes()) & 0x7fff_ffff) % self.count)
    }

    /// The partition of that number, if the topic has it.
    pub fn get(self, number: u32) -> Option<PartitionId> {
        (number < self.count).then_some(PartitionId(number))
    }

    /// All partitions in order.
    pub fn all(self) -> impl Iterator<Item = PartitionId> {
        (0..self.count).map(PartitionId)
    }
}

/// MurmurHash2, 32 bits, with the seed Kafka's Java client uses (`org.apache.kafka.common.utils.Utils.murmur2`).
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_kafka_cannot_have_are_refused() {
        assert_eq!(Partitioner::new(0), Err(PartitionCountError(0)));
        assert_eq!(Partitioner::new(1 << 31), Err(PartitionCountError(1 << 31)));
        assert!(Partitioner::new(1).is_ok());
    }

    #[test]
    fn only_existing_partitions_have_an_id() {
        let partitioner = Partitioner::new(3).unwrap();
        assert_eq!(partitioner.get(2).map(PartitionId::number), Some(2));
        assert_eq!(partitioner.get(3), None);
        assert_eq!(partitioner.all().count(), 3);
    }
}
