//! What a reader may say of an account at an instant.

use std::collections::BTreeMap;

use penstock_wire::lsn::EndLsn;

use super::output::{Learned, Output};
use super::source::Source;
use super::{Partition, Phase, micros};
use crate::knowledge::{Knowledge, Reason};
use crate::rows::Micros;

/// What answers rest on; whoever drives this is told when it is another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// It follows, and was at an end.
    pub(super) live: bool,
    pub(super) released: bool,
    pub(super) sources: BTreeMap<u16, SourceStanding>,
}

/// Likewise, of one source. Doubts are told when they come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SourceStanding {
    fresh: bool,
    loaded: bool,
    /// Of progress: what was loaded alone in an earlier one counts no more.
    epoch: Option<u32>,
    tables_changed: u64,
}

impl<T> Partition<T> {
    /// What may be said of an account at `now`. Ask between outputs and behind the last, not before the first.
    ///
    /// An account that was never met may be in any source: what is doubted of one of them is doubted of it.
    pub fn knowledge(&self, account: &str, now: Micros) -> Knowledge {
        let known = self.accounts.get(account);
        let of_account = |number: &u16| known.is_none_or(|sources| sources.contains(number));
        let sources = || self.sources.iter().filter(|(number, _)| of_account(number)).map(|(_, source)| source);
        let clocks = || sources().map(|source| source.claims.as_of());
        let as_of = clocks().min().flatten();
        match (self.reason(account, sources, now), as_of) {
            (None, Some(as_of)) => Knowledge::Known { as_of },
            (None, None) => Knowledge::Unknown { reason: Reason::Stale, as_of },
            (Some(reason), as_of) => Knowledge::Unknown { reason, as_of },
        }
    }

    /// What a source committed before this is applied, of this partition; None: nothing is known of it.
    pub fn delivered(&self, source: u16) -> Option<EndLsn> {
        self.sources.get(&source)?.claims.reached().map(|claim| claim.end_lsn)
    }

    /// Why not everything of an account is known that was given out so far, however fresh it is, or how far it was read.
    pub fn doubt(&self, account: &str) -> Option<Reason> {
        let known = self.accounts.get(account);
        let of_account = |number: &u16| known.is_none_or(|sources| sources.contains(number));
        self.doubt_in(account, || {
            self.sources.iter().filter(|(number, _)| of_account(number)).map(|(_, source)| source)
        })
    }

    fn doubt_in<'a, I>(&'a self, account: &str, sources: impl Fn() -> I) -> Option<Reason>
    where
        I: Iterator<Item = &'a Source<T>>,
        T: 'a,
    {
        let nobody_knows_whose = || self.sources.values().any(|source| source.doubts.everyone.is_some());
        if sources().any(|source| source.is_unproven(account)) {
            Some(Reason::Unproven)
        } else if nobody_knows_whose() || sources().any(|source| source.doubts.is_quarantined(account)) {
            Some(Reason::Quarantined)
        } else {
            None
        }
    }

    fn reason<'a, I>(&'a self, account: &str, sources: impl Fn() -> I, now: Micros) -> Option<Reason>
    where
        I: Iterator<Item = &'a Source<T>>,
        T: 'a,
    {
        match self.phase {
            Phase::Released => return Some(Reason::NotAssigned),
            Phase::Rebuilding { .. } | Phase::Broken => return Some(Reason::Rebuilding),
            // What a checkpoint says is followed by what was written since, and that is not read yet.
            Phase::Live if !self.was_at_end => return Some(Reason::Rebuilding),
            Phase::Live => {}
        }
        let is_fresh = || sources().all(|source| source.is_fresh(now, self.options.stale_after));
        self.doubt_in(account, &sources).or_else(|| (!is_fresh()).then_some(Reason::Stale))
    }

    /// The next instant at which [`handle_time`](Self::handle_time) can change anything.
    pub fn next_deadline(&self) -> Option<Micros> {
        match self.phase {
            Phase::Rebuilding { since } => {
                Some(Micros(since.0.saturating_add(micros(self.options.tombstone_retention)).saturating_add(1)))
            }
            Phase::Live => {
                let was_fresh = |number| self.told.sources.get(number).is_some_and(|standing| standing.fresh);
                let fresh = self.sources.iter().filter(|(number, _)| was_fresh(number));
                fresh.filter_map(|(_, source)| source.claims.stale_at(self.options.stale_after)).min()
            }
            Phase::Broken | Phase::Released => None,
        }
    }

    /// Tells if answers rest on something else than before. Whether they do.
    pub(super) fn compare(&mut self) -> bool {
        let live = self.phase == Phase::Live && self.was_at_end;
        let of_source = |source: &Source<T>| SourceStanding {
            fresh: live && source.is_fresh(self.now, self.options.stale_after),
            loaded: source.claims.is_loaded(),
            epoch: source.claims.newest().map(|claim| claim.epoch),
            tables_changed: source.claims.tables_changed(),
        };
        let released = self.phase == Phase::Released;
        let now = || self.sources.iter().map(|(number, source)| (*number, of_source(source)));
        let told = self.told.sources.iter().map(|(number, standing)| (*number, *standing));
        let differs = (live, released) != (self.told.live, self.told.released) || !now().eq(told);
        if differs {
            self.told = Standing { live, released, sources: now().collect() };
            self.outputs.push_back(Output::Learned(Learned::Everyone));
        }
        differs
    }
}
