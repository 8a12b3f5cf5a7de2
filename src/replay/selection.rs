//! Which records are wanted, told from what costs nothing to know first: header, time, account, table.
//!
//! Every span holds its beginning and not its end, so that two that touch share no record. A control record that
//! concerns all accounts, or no table, is wanted whatever account or table is asked for.

use std::collections::BTreeSet;

use penstock_wire::control::Control;
use penstock_wire::event::Op;
use penstock_wire::lsn::Lsn;
use penstock_wire::name::avro_name;

use crate::config::TableName;

/// From `from` on, up to and without `to`; a missing end is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<T> {
    pub from: Option<T>,
    pub to: Option<T>,
}

impl<T> Default for Span<T> {
    fn default() -> Self {
        Self { from: None, to: None }
    }
}

impl<T: PartialOrd> Span<T> {
    /// Whether it lies in the span.
    pub fn holds(&self, value: &T) -> bool {
        self.from.as_ref().is_none_or(|from| from <= value) && self.to.as_ref().is_none_or(|to| value < to)
    }
}

/// What is asked for. Empty sets ask for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub accounts: BTreeSet<String>,
    pub tables: BTreeSet<TableName>,
    pub ops: BTreeSet<Op>,
    /// Kafka's timestamp, milliseconds: the commit time.
    pub time_ms: Span<i64>,
    pub commit_lsn: Span<Lsn>,
    /// Tombstones and control records too.
    pub all_records: bool,
}

impl Selection {
    /// Whether an account is wanted.
    pub fn wants_account(&self, account: &str) -> bool {
        self.accounts.is_empty() || self.accounts.contains(account)
    }

    /// Whether a table is wanted, by the Avro namespace of its records.
    pub fn wants_namespace(&self, record_namespace: &str) -> bool {
        let is = |table: &TableName| {
            let suffix = format!(".{}.{}", avro_name(&table.schema), avro_name(&table.table));
            record_namespace.ends_with(&suffix)
        };
        self.tables.is_empty() || self.tables.iter().any(is)
    }

    /// Whether a table is wanted, by its name in Postgres.
    pub fn wants_table(&self, table: &TableName) -> bool {
        self.tables.is_empty() || self.tables.contains(table)
    }

    /// Whether an operation is wanted.
    pub fn wants_op(&self, op: Op) -> bool {
        self.ops.is_empty() || self.ops.contains(&op)
    }

    /// Whether records that are no change of a row can be wanted at all.
    pub fn wants_tombstones(&self) -> bool {
        self.all_records && self.ops.is_empty()
    }

    /// Whether a control record is wanted.
    pub fn wants_control(&self, control: &Control) -> bool {
        let table = TableName::new(control.schema.as_str(), control.table.as_str());
        let of_table = control.table.is_empty() || self.wants_table(&table);
        let of_account = control.account.as_ref().is_none_or(|account| self.wants_account(account));
        self.wants_tombstones() && of_table && of_account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_touch_share_nothing() {
        let span = |from, to| Span { from, to };
        for (span, value, held) in [
            (span(None, None), 7, true),
            (span(Some(7), None), 7, true),
            (span(Some(8), None), 7, false),
            (span(None, Some(7)), 7, false),
            (span(Some(6), Some(8)), 7, true),
        ] {
            assert_eq!(span.holds(&value), held, "{span:?}");
        }
    }

    #[test]
    fn tables_are_told_by_the_namespace_of_their_records() {
        let wanting = |table: &str| Selection { tables: [table.parse().unwrap()].into(), ..Selection::default() };
        assert!(Selection::default().wants_namespace("access.changes.public.accounts"));
        assert!(wanting("public.accounts").wants_namespace("access.changes.public.accounts"));
        assert!(!wanting("public.accounts").wants_namespace("access.changes.public.old_accounts"));
        assert!(!wanting("lic.accounts").wants_namespace("access.changes.public.accounts"));
        assert!(wanting("public.\"odd name\"").wants_namespace("t.public.odd_x0020_name"));
    }

    #[test]
    fn a_control_record_about_everything_is_wanted_with_any_account_and_table() {
        let all = Selection { all_records: true, ..Selection::default() };
        let of = Selection { accounts: ["a".into()].into(), tables: ["s.t".parse().unwrap()].into(), ..all.clone() };
        let epoch = Control::epoch(None, "complete: x".into());
        let truncate = Control::truncate("s", "t");
        let other_account = Control { account: Some("b".into()), ..truncate.clone() };
        for (selection, control, wanted) in [
            (&all, &epoch, true),
            (&of, &epoch, true),
            (&of, &truncate, true),
            (&of, &Control::truncate("s", "u"), false),
            (&of, &other_account, false),
            (&Selection::default(), &epoch, false),
            (&Selection { ops: [Op::Create].into(), ..all.clone() }, &epoch, false),
        ] {
            assert_eq!(selection.wants_control(control), wanted, "{selection:?} {control:?}");
        }
    }
}
