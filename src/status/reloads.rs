//! Reloads as progress remembers them, in words and as JSON.

use indicatif::HumanCount;
use penstock_wire::position::Position;
use penstock_wire::reload::{Reload, Scope};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::config::TableName;
use crate::replay::At;

/// A reload as JSON.
#[derive(Clone, Copy, Debug)]
pub struct ReloadFacts<'a>(pub &'a Reload);

/// `public.t`, `account "a"`, or `everything`.
pub fn scope_text(scope: &Scope) -> String {
    let table = scope.table.as_ref().map(|(schema, table)| TableName::new(schema, table).to_string());
    match (table, &scope.account) {
        (None, None) => "everything".to_owned(),
        (Some(table), None) => table,
        (None, Some(account)) => format!("account {account:?}"),
        (Some(table), Some(account)) => format!("account {account:?} in {table}"),
    }
}

/// Of the rows that are known of, those that are read; of none, none.
pub fn percent(reload: &Reload) -> u64 {
    let (done, total) = reload.rows();
    let share = u128::from(done) * 100 / u128::from(total.max(1));
    u64::try_from(share).unwrap_or(100)
}

/// `1,200 of about 5,000 rows (24 %)`; once it is over, `1,200 rows`.
pub fn rows_text(reload: &Reload) -> String {
    let (done, total) = reload.rows();
    let done = HumanCount(done);
    match (reload.state.is_finished(), reload.ranges.is_empty()) {
        (true, _) => format!("{done} rows"),
        (false, true) => "its tables are not yet known".to_owned(),
        (false, false) => format!("{done} of about {} rows ({} %)", HumanCount(total), percent(reload)),
    }
}

/// In one line: id, scope, state, rows, and why it ended if it did not end well.
pub fn line(reload: &Reload) -> String {
    let Reload { id, scope, state, detail, .. } = reload;
    let mut line = format!("{id}: {}, {}, {}", scope_text(scope), state.as_str(), rows_text(reload));
    if !detail.is_empty() {
        line.push_str("; ");
        line.push_str(detail);
    }
    line
}

impl Serialize for ReloadFacts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reload = self.0;
        let (done, total) = reload.rows();
        let table = reload.scope.table.as_ref().map(|(schema, table)| TableName::new(schema, table).to_string());
        let at = |position: Position| (position != Position::ZERO).then_some(At(position));
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &reload.id)?;
        map.serialize_entry("table", &table)?;
        map.serialize_entry("account", &reload.scope.account)?;
        map.serialize_entry("why", &reload.why)?;
        map.serialize_entry("state", reload.state.as_str())?;
        map.serialize_entry("rows", &done)?;
        map.serialize_entry("rows_estimated", &total)?;
        map.serialize_entry("percent", &percent(reload))?;
        map.serialize_entry("rows_per_second", &reload.rows_per_second)?;
        map.serialize_entry("begin", &at(reload.begin))?;
        map.serialize_entry("end", &at(reload.end))?;
        map.serialize_entry("detail", &reload.detail)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_wire::reload::{ReloadRange, ReloadState};

    fn reload(scope: Scope, state: ReloadState, ranges: &[(u64, u64)]) -> Reload {
        let range = |(rows, rows_estimated): &(u64, u64)| ReloadRange {
            rows: *rows,
            rows_estimated: *rows_estimated,
            ..ReloadRange::default()
        };
        Reload { id: "x".into(), scope, state, ranges: ranges.iter().map(range).collect(), ..Reload::default() }
    }

    #[test]
    fn a_reload_is_told_in_a_line() {
        let table = Some(("public".to_owned(), "a.b".to_owned()));
        let account = Some("a\"1".to_owned());
        for (reload, expected) in [
            (
                reload(Scope::default(), ReloadState::Requested, &[]),
                "x: everything, requested, its tables are not yet known",
            ),
            (
                reload(Scope { table: table.clone(), account: None }, ReloadState::Running, &[(1200, 2500), (0, 2500)]),
                "x: public.\"a.b\", running, 1,200 of about 5,000 rows (24 %)",
            ),
            (
                reload(Scope { table, account: account.clone() }, ReloadState::Paused, &[(0, 0)]),
                "x: account \"a\\\"1\" in public.\"a.b\", paused, 0 of about 0 rows (0 %)",
            ),
            (
                Reload { detail: "why".into(), ..reload(Scope { table: None, account }, ReloadState::Refused, &[]) },
                "x: account \"a\\\"1\", refused, 0 rows; why",
            ),
        ] {
            assert_eq!(line(&reload), expected);
        }
    }

    #[test]
    fn a_reload_as_json_has_no_position_before_its_begin() {
        let facts =
            serde_json::to_value(ReloadFacts(&reload(Scope::default(), ReloadState::Running, &[(1, 2)]))).unwrap();
        assert_eq!((&facts["begin"], &facts["table"]), (&serde_json::Value::Null, &serde_json::Value::Null));
        assert_eq!((&facts["percent"], &facts["rows_estimated"]), (&50.into(), &2.into()));
    }
}
