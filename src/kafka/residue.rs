//! What a predecessor left in a topic without an end: found after it was fenced, and aborted.
//!
//! Fencing aborts the predecessor's open transaction, and every partition the coordinator knows of gets its marker. A
//! coordinator that restarts in the middle can forget partitions, of an aborted transaction and of a committed one alike
//! (see [`super::witness`]). The records there belong to nobody's transaction any more, but they carry our producer's id:
//! the end of our next transaction would be theirs, too. So a partition whose last stable offset is not its end gets a
//! transaction of its own, which is aborted. What it takes with it was readable to nobody; what of it was committed is
//! delivered again, because the start goes on behind what is readable (see [`super::readable`]).
//!
//! A partition can also be unstable because another source writes to it at the moment; aborting does it no harm.

use std::collections::BTreeMap;

use rdkafka::error::KafkaError;

use super::ends::{Place, ends};
use super::readers::Readers;

/// Looks for what has no end below an end that was asked for once: what others write behind it does not matter.
#[derive(Debug)]
pub struct Residue {
    readers: Readers,
    bound: BTreeMap<Place, i64>,
}

impl Residue {
    /// Takes the ends of these partitions, which exist, for the bound. Blocks.
    pub fn of(readers: Readers, places: &[Place]) -> Result<Self, KafkaError> {
        let bound = ends(readers.everything(), places)?;
        Ok(Self { readers, bound })
    }

    /// Partitions that hold records without an end below the bound. Blocks.
    pub fn places(&self) -> Result<Vec<Place>, KafkaError> {
        let stable = ends(self.readers.committed(), self.bound.keys())?;
        let unstable = |(place, bound): &(&Place, &i64)| stable.get(*place).is_none_or(|stable| stable < *bound);
        Ok(self.bound.iter().filter(unstable).map(|(place, _)| place.clone()).collect())
    }
}
