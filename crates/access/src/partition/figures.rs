//! What operators are told of a partition.

use super::{Partition, Phase};
use crate::rows::Micros;

impl<T> Partition<T> {
    /// It was read to its end, and every source was heard of lately.
    pub fn is_fresh(&self, now: Micros) -> bool {
        let of_source = |source: &super::Source<T>| source.is_fresh(now, self.options.stale_after);
        self.phase == Phase::Live && self.was_at_end && !self.sources.is_empty() && self.sources.values().all(of_source)
    }

    /// A record that may be anybody's could not be read or delivered, and not everything was loaded again since.
    pub fn is_quarantined(&self) -> bool {
        self.sources.values().any(|source| source.doubts.everyone.is_some())
    }

    /// Every source is known up to this instant, or a later one; None: one of them is not known at all, or there is none.
    pub fn as_of(&self) -> Option<Micros> {
        self.sources.values().map(|source| source.claims.as_of()).min().flatten()
    }

    /// When the newest transaction that was given out was committed, milliseconds since 1970.
    pub fn applied_ms(&self) -> Option<i64> {
        self.sources.values().filter_map(|source| source.applied_at_ms).max()
    }
}
