//! What is known of an account, and what may be said meanwhile.

use crate::knowledge::{Knowledge, Reason};
use crate::rows::Micros;

/// What may be pushed and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything.
    Granting,
    /// Revocations only: rows that are there may be outdated, rows that were removed are gone.
    Holding,
    /// Nothing: what is missing may just not have been read yet.
    Blind,
}

/// What is known, since when it is not, and what follows from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) knowledge: Knowledge,
    pub(crate) quarantined: bool,
    /// The second in which authorisations end if nothing is known before.
    pub(crate) grace_ends: Option<i64>,
    /// That second has come.
    pub(crate) grace_is_over: bool,
}

impl Standing {
    pub(crate) fn new() -> Self {
        let knowledge = Knowledge::Unknown { reason: Reason::Rebuilding, as_of: None };
        Self { knowledge, quarantined: false, grace_ends: None, grace_is_over: false }
    }

    /// Takes what is known now. The grace runs from the instant at which knowledge was lost.
    pub(crate) fn learn(&mut self, knowledge: Knowledge, quarantined: bool, grace_us: Option<i64>, now: Micros) {
        let knew = self.reason().is_none();
        (self.knowledge, self.quarantined) = (knowledge, quarantined);
        if self.reason().is_none() {
            (self.grace_ends, self.grace_is_over) = (None, false);
        } else if knew {
            self.grace_ends = grace_us.map(|grace| second_at_or_after(Micros(now.0.saturating_add(grace))));
        }
    }

    /// Why nothing is known for certain; None: it is.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self.knowledge {
            Knowledge::Unknown { reason: Reason::Stale, .. } if self.quarantined => Some(Reason::Quarantined),
            Knowledge::Unknown { reason, .. } => Some(reason),
            Knowledge::Known { .. } => self.quarantined.then_some(Reason::Quarantined),
        }
    }

    /// Postgres' clock behind what is known; None: nothing was ever known.
    pub(crate) fn as_of_instant(&self) -> Option<Micros> {
        match self.knowledge {
            Knowledge::Known { as_of } => Some(as_of),
            Knowledge::Unknown { as_of, .. } => as_of,
        }
    }

    /// The same in unix seconds.
    pub(crate) fn as_of(&self) -> Option<i64> {
        self.as_of_instant().map(Micros::seconds)
    }

    /// `serve_stale`: staleness alone does not keep from answering.
    pub(crate) fn mode(&self, serve_stale: bool) -> Mode {
        match self.reason() {
            None => Mode::Granting,
            Some(Reason::Stale) if serve_stale && !self.grace_is_over => Mode::Granting,
            Some(Reason::Stale | Reason::Unproven | Reason::Quarantined) => Mode::Holding,
            Some(Reason::Rebuilding | Reason::NotAssigned) => Mode::Blind,
        }
    }
}

/// The first whole second that is not before an instant.
pub(crate) fn second_at_or_after(instant: Micros) -> i64 {
    Micros(instant.0.saturating_add(999_999)).seconds()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Knowledge = Knowledge::Known { as_of: Micros(5_500_000) };

    fn unknown(reason: Reason) -> Knowledge {
        Knowledge::Unknown { reason, as_of: Some(Micros(5_500_000)) }
    }

    #[test]
    fn modes() {
        let cases = [
            (KNOWN, false, false, Mode::Granting),
            (KNOWN, true, false, Mode::Holding),
            (KNOWN, true, true, Mode::Holding),
            (unknown(Reason::Stale), false, false, Mode::Holding),
            (unknown(Reason::Stale), false, true, Mode::Granting),
            (unknown(Reason::Stale), true, true, Mode::Holding),
            (unknown(Reason::Unproven), false, true, Mode::Holding),
            (unknown(Reason::Quarantined), false, true, Mode::Holding),
            (unknown(Reason::Rebuilding), false, true, Mode::Blind),
            (unknown(Reason::Rebuilding), true, true, Mode::Blind),
            (unknown(Reason::NotAssigned), false, true, Mode::Blind),
        ];
        for (knowledge, quarantined, serve, mode) in cases {
            let mut standing = Standing::new();
            standing.learn(knowledge, quarantined, None, Micros(0));
            assert_eq!(standing.mode(serve), mode, "{knowledge:?} quarantined: {quarantined} serve: {serve}");
        }
    }

    #[test]
    fn grace_runs_from_the_loss_of_knowledge() {
        let mut standing = Standing::new();
        standing.learn(KNOWN, false, Some(1_000_000), Micros(0));
        assert_eq!(standing.grace_ends, None);
        standing.learn(unknown(Reason::Stale), false, Some(1_000_000), Micros(10_300_000));
        standing.learn(unknown(Reason::Unproven), false, Some(1_000_000), Micros(10_900_000));
        assert_eq!(standing.grace_ends, Some(12));
        standing.learn(KNOWN, false, Some(1_000_000), Micros(11_000_000));
        assert_eq!(standing.grace_ends, None);
    }

    #[test]
    fn as_of_is_floored() {
        let mut standing = Standing::new();
        assert_eq!(standing.as_of(), None);
        standing.learn(KNOWN, false, None, Micros(0));
        assert_eq!(standing.as_of(), Some(5));
    }
}
