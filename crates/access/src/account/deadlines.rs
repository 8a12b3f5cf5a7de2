//! What becomes due by time alone, in order of seconds.

use std::collections::BTreeSet;

use uuid::Uuid;

/// What may change at a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A token expires.
    Token(Uuid),
    /// A flow's own expiry passes.
    Flow(Uuid),
    /// An announced flow's row did not come.
    Unconfirmed(Uuid),
    /// A policy's conditions hold no more, hold again, or hold until another second.
    Policy(Uuid),
    /// Nothing has been known for as long as authorisations may outlive knowledge.
    Grace,
}

/// Deadlines by the second, unix time, in which the old answer is first wrong.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    due: BTreeSet<(i64, Due)>,
}

impl Deadlines {
    /// Nothing for `None`: it never becomes due.
    pub(crate) fn add(&mut self, at: Option<i64>, due: Due) {
        if let Some(at) = at {
            self.due.insert((at, due));
        }
    }

    /// Undoes `add` with the same arguments.
    pub(crate) fn remove(&mut self, at: Option<i64>, due: Due) {
        if let Some(at) = at {
            self.due.remove(&(at, due));
        }
    }

    /// The second of the earliest deadline.
    pub(crate) fn next(&self) -> Option<i64> {
        Some(self.due.first()?.0)
    }

    /// Takes the earliest deadline if it is due at `now`, in unix seconds.
    pub(crate) fn pop(&mut self, now: i64) -> Option<Due> {
        (self.next()? <= now).then(|| self.due.pop_first())?.map(|(_, due)| due)
    }
}

/// The first second in which something that expires at `expires_at`, in unix seconds, has expired.
pub(crate) fn after(expires_at: Option<i64>) -> Option<i64> {
    expires_at?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_only_when_due() {
        let mut deadlines = Deadlines::default();
        deadlines.add(Some(9), Due::Grace);
        deadlines.add(Some(5), Due::Token(Uuid::nil()));
        deadlines.add(None, Due::Flow(Uuid::nil()));
        assert_eq!(deadlines.next(), Some(5));
        assert_eq!(deadlines.pop(4), None);
        assert_eq!(deadlines.pop(5), Some(Due::Token(Uuid::nil())));
        assert_eq!(deadlines.pop(8), None);
        deadlines.remove(Some(9), Due::Grace);
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn the_second_of_an_expiry_still_belongs_to_it() {
        assert_eq!(after(Some(10)), Some(11));
        assert_eq!(after(None), None);
        assert_eq!(after(Some(i64::MAX)), None);
    }
}
