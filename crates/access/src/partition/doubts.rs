//! What is missing or unreadable in a source's share of the partition, and which reloads have made it good.
//!
//! A doubt stands at a position; a reload clears it if it began behind that position and covers what is in doubt. Nothing
//! but positions is compared, so that it does not matter how far apart a reload's begin and its end are.

use std::collections::BTreeMap;
use std::sync::Arc;

use penstock_wire::position::Position;
use penstock_wire::reload::Scope;

use super::transaction::Poison;

/// Schema and name of a table; `None`: which one is not known.
pub(super) type PoisonedTable = Option<(String, String)>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Doubts {
    /// The newest point before which changes may be missing, of any account.
    pub(super) unproven: Option<Position>,
    /// The newest poison record that may be anybody's.
    pub(super) everyone: Option<Position>,
    /// The newest poison record of an account, by table.
    pub(super) accounts: BTreeMap<Arc<str>, BTreeMap<PoisonedTable, Position>>,
    /// Where the newest reload began that has ended, by scope.
    pub(super) reloads: BTreeMap<Scope, Position>,
}

/// Whose standing may be another now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Concerned {
    Everyone,
    Account(Arc<str>),
}

impl Doubts {
    /// Changes before `position` may be missing.
    pub(super) fn doubt(&mut self, position: Position) {
        self.unproven = self.unproven.max(Some(position));
    }

    pub(super) fn poison(&mut self, poison: &Poison) -> Concerned {
        let Some(account) = &poison.account else {
            self.poison_everyone(poison.position);
            return Concerned::Everyone;
        };
        let tables = self.accounts.entry(Arc::clone(account)).or_default();
        let newest = tables.entry(poison.table.clone()).or_default();
        *newest = poison.position.max(*newest);
        Concerned::Account(Arc::clone(account))
    }

    pub(super) fn poison_everyone(&mut self, position: Position) {
        self.everyone = self.everyone.max(Some(position));
    }

    /// A reload of the scope, begun at `begin`, has ended.
    pub(super) fn reloaded(&mut self, scope: &Scope, begin: Position) -> Concerned {
        let newest = self.reloads.entry(scope.clone()).or_default();
        *newest = begin.max(*newest);
        let of_everything = self.begin(None, None);
        if *scope == Scope::default() {
            self.reloads.retain(|scope, begin| *scope == Scope::default() || *begin > of_everything);
        }
        // Of whom nobody can tell whose it was nobody can be sure before everything was read again.
        self.everyone = self.everyone.filter(|position| *position >= of_everything);
        self.unproven = self.unproven.filter(|position| *position >= of_everything);
        let mut accounts = std::mem::take(&mut self.accounts);
        accounts.retain(|account, tables| {
            tables.retain(|table, position| *position >= self.poisoned_until(account, table.as_ref()));
            !tables.is_empty()
        });
        self.accounts = accounts;
        match &scope.account {
            None => Concerned::Everyone,
            Some(account) => Concerned::Account(account.as_str().into()),
        }
    }

    /// Nothing of the account is missing: since `after`, everything of it was loaded again. `tables` are those captured.
    pub(super) fn is_proven(&self, account: &str, after: Position, tables: &[(String, String)]) -> bool {
        self.begin(None, None) > after || self.is_proven_alone(account, after, tables)
    }

    /// Likewise, by reloads that were not of the whole source.
    pub(super) fn is_proven_alone(&self, account: &str, after: Position, tables: &[(String, String)]) -> bool {
        let each = |table| self.begin(Some(table), None).max(self.begin(Some(table), Some(account)));
        let by_table = !tables.is_empty() && tables.iter().all(|table| each(table) > after);
        by_table || self.begin(None, Some(account)) > after
    }

    /// A poison record of the account before this position does no harm any more.
    fn poisoned_until(&self, account: &str, table: Option<&(String, String)>) -> Position {
        let whole = self.begin(None, None).max(self.begin(None, Some(account)));
        let of_table = |table| self.begin(Some(table), None).max(self.begin(Some(table), Some(account)));
        whole.max(table.map_or(Position::ZERO, of_table))
    }

    /// The newest poison record that may be the account's, of no known table or of one that counts.
    pub(super) fn poisoned_at(&self, account: &str, counts: impl Fn(&str, &str) -> bool) -> Position {
        let of_account = self.accounts.get(account).into_iter().flatten();
        let counting =
            of_account.filter(|(table, _)| table.as_ref().is_none_or(|(schema, table)| counts(schema, table)));
        counting.map(|(_, position)| *position).chain(self.everyone).max().unwrap_or_default()
    }

    fn begin(&self, table: Option<&(String, String)>, account: Option<&str>) -> Position {
        let scope = Scope { table: table.cloned(), account: account.map(str::to_owned) };
        self.reloads.get(&scope).copied().unwrap_or_default()
    }

    /// Nothing more is granted to the account before it is reloaded.
    pub(super) fn is_quarantined(&self, account: &str) -> bool {
        self.accounts.contains_key(account)
    }
}

#[cfg(test)]
mod tests {
    use penstock_wire::lsn::CommitLsn;
    use penstock_wire::position::Seq;

    use super::*;

    fn at(commit: u64) -> Position {
        Position { epoch: 1, commit_lsn: CommitLsn::new(commit), seq: Seq(8) }
    }

    fn table(name: &str) -> (String, String) {
        ("public".to_owned(), name.to_owned())
    }

    fn scope(of_table: &str, account: &str) -> Scope {
        Scope {
            table: (!of_table.is_empty()).then(|| table(of_table)),
            account: (!account.is_empty()).then(|| account.to_owned()),
        }
    }

    fn poison(account: &str, of_table: &str, commit: u64) -> Poison {
        Poison {
            offset: 0,
            position: at(commit),
            account: (!account.is_empty()).then(|| account.into()),
            table: (!of_table.is_empty()).then(|| table(of_table)),
            reason: String::new(),
            dead_letter: true,
        }
    }

    #[test]
    fn a_reload_clears_the_poison_that_it_began_behind_and_covers() {
        let cases = [
            // poison's account and table, reload's table and account, where it began, whether it clears
            ("a", "t", "", "", 21, true),
            ("a", "t", "", "", 20, false),
            ("a", "t", "", "", 19, false),
            ("a", "t", "", "a", 21, true),
            ("a", "t", "", "a", 19, false),
            ("a", "t", "", "b", 21, false),
            ("a", "t", "t", "", 21, true),
            ("a", "t", "t", "", 19, false),
            ("a", "t", "u", "", 21, false),
            ("a", "t", "t", "a", 21, true),
            ("a", "t", "u", "a", 21, false),
            ("a", "t", "t", "b", 21, false),
            ("a", "", "", "a", 21, true),
            ("a", "", "", "", 21, true),
            ("a", "", "t", "", 21, false),
            ("a", "", "t", "a", 21, false),
            ("", "t", "", "", 21, true),
            ("", "t", "", "", 20, false),
            ("", "t", "t", "", 21, false),
            ("", "t", "", "a", 21, false),
        ];
        for (account, of_table, reloaded, of_account, begin, clears) in cases {
            let mut doubts = Doubts::default();
            doubts.poison(&poison(account, of_table, 20));
            doubts.reloaded(&scope(reloaded, of_account), at(begin));
            let clean = doubts.everyone.is_none() && !doubts.is_quarantined("a");
            assert_eq!(clean, clears, "{account:?} {of_table:?} {reloaded:?} {of_account:?} {begin}");
        }
    }

    #[test]
    fn poison_met_during_a_reload_outlives_its_end() {
        let mut doubts = Doubts::default();
        doubts.poison(&poison("a", "t", 20));
        doubts.poison(&poison("a", "t", 30));
        doubts.reloaded(&scope("", "a"), at(25));
        assert!(doubts.is_quarantined("a"));
        doubts.reloaded(&scope("", "a"), at(31));
        assert!(!doubts.is_quarantined("a"));
    }

    #[test]
    fn an_account_is_proven_by_what_covers_all_its_tables() {
        type Reloads = &'static [(&'static str, &'static str, u64)];
        let cases: [(Reloads, bool); 12] = [
            (&[], false),
            (&[("", "", 21)], true),
            (&[("", "", 20)], false),
            (&[("", "a", 21)], true),
            (&[("", "b", 21)], false),
            (&[("", "a", 20)], false),
            (&[("t", "", 21)], false),
            (&[("t", "", 21), ("u", "", 21)], true),
            (&[("t", "", 21), ("u", "", 20)], false),
            (&[("t", "", 21), ("u", "a", 21)], true),
            (&[("t", "", 21), ("u", "b", 21)], false),
            (&[("t", "a", 21), ("u", "a", 22)], true),
        ];
        for (reloads, proven) in cases {
            let mut doubts = Doubts::default();
            doubts.doubt(at(20));
            for (of_table, account, begin) in reloads {
                doubts.reloaded(&scope(of_table, account), at(*begin));
            }
            assert_eq!(doubts.is_proven("a", at(20), &[table("t"), table("u")]), proven, "{reloads:?}");
        }
    }

    #[test]
    fn tables_prove_nothing_while_it_is_unknown_which_there_are() {
        assert!(!Doubts::default().is_proven("a", at(20), &[]));
    }

    #[test]
    fn a_reload_of_everything_makes_older_ones_forgotten() {
        let mut doubts = Doubts::default();
        doubts.reloaded(&scope("t", ""), at(5));
        doubts.reloaded(&scope("", "a"), at(9));
        doubts.reloaded(&scope("", ""), at(7));
        assert_eq!(doubts.reloads.len(), 2);
        doubts.reloaded(&scope("", ""), at(6));
        assert_eq!(doubts.begin(None, None), at(7), "an older reload is no newer proof");
    }

    #[test]
    fn a_source_that_was_reloaded_is_without_doubt_and_a_later_doubt_counts() {
        let mut doubts = Doubts::default();
        doubts.doubt(at(20));
        doubts.doubt(at(10));
        assert_eq!(doubts.unproven, Some(at(20)));
        doubts.reloaded(&scope("", ""), at(20));
        assert_eq!(doubts.unproven, Some(at(20)));
        doubts.reloaded(&scope("", ""), at(21));
        assert_eq!(doubts.unproven, None);
        doubts.doubt(at(30));
        assert!(!doubts.is_proven("a", at(30), &[table("t")]));
    }
}
