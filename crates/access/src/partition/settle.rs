//! What progress and time make of what was read: whether anything is missing at the end, what is whole, what is fresh.

use penstock_wire::position::Position;

use super::output::RebuildReason;
use super::source::Source;
use super::{Partition, Phase, micros};

impl<T> Partition<T> {
    /// Holds what was read against what progress says. Whether anything came of it.
    pub(super) fn settle(&mut self) -> bool {
        if !self.reads() {
            return false;
        }
        if let Some(reason) = self.unfit() {
            self.break_off(reason);
            return true;
        }
        self.adopt();
        let mut ended = Vec::new();
        for source in self.sources.values_mut() {
            let chain = source.chain;
            source.claims.settle(|claim| chain.reaches(claim));
            ended.extend(source.end_by_progress());
        }
        let progressed = !ended.is_empty();
        ended.into_iter().for_each(|held| self.give_out(Some(held)));
        if !progressed && self.is_rebuilt() {
            (self.phase, self.rebuilt_to) = (Phase::Live, self.read_to);
        }
        if self.phase == Phase::Live {
            let read = self.sources.values_mut().filter(|source| source.held.is_empty());
            read.for_each(|source| source.missing_to = Position::ZERO);
        }
        progressed
    }

    /// Why the state cannot be continued, as far as time and progress tell.
    fn unfit(&self) -> Option<RebuildReason> {
        match self.phase {
            Phase::Rebuilding { since } => {
                let took = self.now.0.saturating_sub(since.0);
                (took > micros(self.options.tombstone_retention)).then_some(RebuildReason::TooSlow)
            }
            Phase::Live => self.sources.iter().find_map(|(number, source)| {
                let (chain, lag) = (&source.chain, micros(self.options.compaction_lag));
                // Records that are too young to be compacted are on their way, and a rebuild would not find them either.
                let missing = source.claims.open().find(|claim| {
                    let adoptable = claim.is_passed_at(self.rebuilt_to);
                    claim.is_passed_at(self.read_to) && !adoptable && claim.last > chain.end()
                })?;
                let (source, after, to) = (*number, chain.end(), missing.last);
                (!chain.is_young(self.now, lag)).then_some(RebuildReason::Compacted { source, after, to })
            }),
            Phase::Broken | Phase::Released => None,
        }
    }

    /// Believes progress where it says that records were there which compaction has taken before they could be read.
    fn adopt(&mut self) {
        let seen_to = match self.phase {
            Phase::Rebuilding { .. } => self.read_to,
            Phase::Live | Phase::Broken | Phase::Released => self.rebuilt_to,
        };
        for source in self.sources.values_mut() {
            if source.chain.is_young(self.now, micros(self.options.compaction_lag)) {
                continue;
            }
            for claim in source.claims.open().filter(|claim| claim.is_passed_at(seen_to)) {
                if claim.last > source.chain.end() {
                    source.chain.adopt(claim, self.now);
                }
            }
        }
    }

    /// Read from the beginning to an end, and at least as far as progress has named for each source.
    fn is_rebuilt(&self) -> bool {
        let is_passed = |source: &Source<T>| {
            let mut claims = source.claims.reached().into_iter().chain(source.claims.open());
            claims.any(|claim| claim.is_passed_at(self.read_to))
        };
        let rebuilding = matches!(self.phase, Phase::Rebuilding { .. });
        rebuilding && self.was_at_end && !self.sources.is_empty() && self.sources.values().all(is_passed)
    }
}
