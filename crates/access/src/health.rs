//! How an instance is: what `/readyz` and the metrics tell.
//!
//! An instance is not ready while it cannot answer for whole partitions because it does not know enough yet, or any more.
//! What concerns single accounts, and what only a reload ends, is told beside: every instance of the topic meets the same
//! poison record, and if each gave up for it, one account would stop all others.

use std::collections::BTreeMap;

use crate::catch_up::CaughtUp;
use crate::knowledge::Reason;
use crate::rows::Micros;

/// The figures of some partitions, or of all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Those that are read here.
    pub partitions: usize,
    /// Those that are read from their beginning.
    pub rebuilding: usize,
    /// Those that were read so far, and whose bridge was not heard of lately or that are not read to their end.
    pub stale: usize,
    /// Those in which nothing new is granted, because a record that may be anybody's could not be read or delivered.
    pub quarantined: usize,
    /// How far reading has come of what was there when it began; None: to its end.
    pub catching_up: Option<CaughtUp>,
    /// Accounts with rows here.
    pub accounts: usize,
    /// Accounts that are not answered for, by reason.
    pub unavailable: BTreeMap<Reason, usize>,
    /// Every partition is known up to this instant; None: one of them is not known at all.
    pub as_of: Option<Micros>,
    /// The newest commit that was applied; None: there was none.
    pub applied_ms: Option<i64>,
    /// Bytes of keys and values of transactions whose end was not read yet.
    pub held_bytes: usize,
    /// Whoever read the topic has ended unasked: nothing that is here will ever change again.
    pub has_stopped: bool,
}

impl Health {
    /// Whole partitions can be answered for: there are some, and each is read to its end and fresh.
    pub fn is_ready(&self) -> bool {
        self.reasons().is_empty()
    }

    /// Why it is not ready, for people.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.has_stopped {
            reasons.push("the reader has ended: restart the process, and report what its log says".to_owned());
        }
        if self.partitions == 0 {
            reasons.push("no partition is assigned to this instance".to_owned());
        }
        let mut tell = |partitions: usize, what: &str| {
            if partitions > 0 {
                reasons.push(format!("{partitions} of {} partitions {what}", self.partitions));
            }
        };
        tell(self.rebuilding, "are being read from their beginning (rebuilding)");
        tell(self.stale, "are not known to be up to date (stale): is the bridge running?");
        reasons
    }

    /// What else a person should know.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(CaughtUp { percent, records, left, .. }) = self.catching_up {
            let left = left.map_or_else(String::new, |left| format!(", {} s left", left.as_secs()));
            notes.push(format!("{percent:.0} % of what is in the topic is read, {records} records{left}"));
        }
        if self.quarantined > 0 {
            notes.push(format!(
                "{} of {} partitions are quarantined: load their sources again (penstock backfill)",
                self.quarantined, self.partitions
            ));
        }
        let advice = |reason| match reason {
            Reason::Quarantined | Reason::Unproven => ": load them again (penstock backfill --account)",
            Reason::NotAssigned | Reason::Rebuilding | Reason::Stale => "",
        };
        let of_accounts = self.unavailable.iter().filter(|(_, accounts)| **accounts > 0);
        notes.extend(of_accounts.map(|(reason, accounts)| {
            format!("{accounts} of {} accounts are not answered for ({reason}){}", self.accounts, advice(*reason))
        }));
        notes
    }

    /// Of these partitions, and of those as well.
    pub fn add(&mut self, other: &Self) {
        let known = |one: &Self| one.partitions > 0;
        self.as_of = match (known(self), known(other)) {
            (true, true) => self.as_of.min(other.as_of),
            (true, false) => self.as_of,
            (false, _) => other.as_of,
        };
        self.partitions += other.partitions;
        self.rebuilding += other.rebuilding;
        self.stale += other.stale;
        self.quarantined += other.quarantined;
        self.accounts += other.accounts;
        for (reason, accounts) in &other.unavailable {
            *self.unavailable.entry(*reason).or_default() += accounts;
        }
        self.applied_ms = self.applied_ms.max(other.applied_ms);
        self.held_bytes += other.held_bytes;
        self.has_stopped |= other.has_stopped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Health {
        Health { partitions: 3, accounts: 5, as_of: Some(Micros(9)), ..Health::default() }
    }

    #[test]
    fn reasons_are_of_whole_partitions_and_notes_of_accounts() {
        let unavailable = |reason| BTreeMap::from([(reason, 2)]);
        let cases = [
            (well(), "", ""),
            (Health::default(), "no partition is assigned to this instance", ""),
            (
                Health { rebuilding: 2, unavailable: unavailable(Reason::Rebuilding), ..well() },
                "2 of 3 partitions are being read from their beginning (rebuilding)",
                "2 of 5 accounts are not answered for (rebuilding)",
            ),
            (
                Health { stale: 3, ..well() },
                "3 of 3 partitions are not known to be up to date (stale): is the bridge running?",
                "",
            ),
            (
                Health { quarantined: 1, unavailable: unavailable(Reason::Quarantined), ..well() },
                "",
                "1 of 3 partitions are quarantined: load their sources again (penstock backfill); \
                 2 of 5 accounts are not answered for (quarantined): load them again (penstock backfill --account)",
            ),
            (
                Health {
                    catching_up: Some(CaughtUp {
                        partitions: 1,
                        records: 1_000,
                        percent: 24.6,
                        rate: 100.0,
                        left: Some(std::time::Duration::from_secs(30)),
                    }),
                    ..well()
                },
                "",
                "25 % of what is in the topic is read, 1000 records, 30 s left",
            ),
            (
                Health { has_stopped: true, ..well() },
                "the reader has ended: restart the process, and report what its log says",
                "",
            ),
        ];
        for (health, reasons, notes) in cases {
            assert_eq!(health.reasons().join("; "), reasons, "{health:?}");
            assert_eq!(health.notes().join("; "), notes, "{health:?}");
            assert_eq!(health.is_ready(), reasons.is_empty(), "{health:?}");
        }
    }

    #[test]
    fn the_oldest_partition_tells_up_to_when_all_are_known() {
        let of = |as_of| Health { partitions: 1, as_of, ..Health::default() };
        let cases = [
            (vec![], None),
            (vec![of(Some(Micros(5)))], Some(Micros(5))),
            (vec![of(Some(Micros(5))), of(Some(Micros(3))), of(Some(Micros(4)))], Some(Micros(3))),
            (vec![of(Some(Micros(5))), of(None)], None),
            (vec![of(None), of(Some(Micros(5)))], None),
            (vec![of(Some(Micros(5))), Health::default()], Some(Micros(5))),
        ];
        for (parts, as_of) in cases {
            let mut all = Health::default();
            parts.iter().for_each(|part| all.add(part));
            assert_eq!(all.as_of, as_of, "{parts:?}");
        }
    }

    #[test]
    fn figures_are_added_and_the_newest_commit_counts() {
        let part = |applied_ms| Health {
            stale: 1,
            quarantined: 1,
            rebuilding: 1,
            held_bytes: 7,
            applied_ms,
            unavailable: BTreeMap::from([(Reason::Stale, 2)]),
            ..well()
        };
        let mut all = part(Some(8));
        all.add(&part(None));
        assert_eq!(all.unavailable, BTreeMap::from([(Reason::Stale, 4)]));
        let figures = (all.partitions, all.rebuilding, all.stale, all.quarantined, all.accounts, all.held_bytes);
        assert_eq!(figures, (6, 2, 2, 2, 10, 14));
        assert_eq!(all.applied_ms, Some(8));
    }
}
