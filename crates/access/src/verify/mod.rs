//! Whether the rows that were made of the topic are those of the database.
//!
//! Both sides are taken at positions that are known, and not the same: the database's in one snapshot, the topic's behind
//! everything that the snapshot could see. So a row may differ for a good reason only if a transaction touched it that the
//! snapshot could not see, and the topic tells which transaction touched a row last: it is then to be compared again. Any
//! other difference is one.

mod fields;
mod texts;
mod visibility;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use crate::account::snapshot::{FlowHistory, History, RowState};
use crate::rows::{Row, RowId};
use fields::fields;
pub use texts::{Texts, columns, row};
pub use visibility::{Key, Touches, Visibility, VisibilityParseError};

/// A row that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub account: String,
    pub table: &'static str,
    /// The row's id; of a resource connection both, with a space between.
    pub key: String,
    #[serde(flatten)]
    pub kind: Kind,
}

/// How it differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "difference", rename_all = "snake_case")]
pub enum Kind {
    /// The database has it, and the state has not.
    Missing { database: Vec<Field> },
    /// The state has it, and the database has not.
    Extra { state: Vec<Field> },
    /// Both have it, with other values in these columns.
    Columns { columns: Vec<DifferentColumn> },
}

/// A column that decisions read, and what it holds; `live`: whether the row counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub column: &'static str,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DifferentColumn {
    pub column: &'static str,
    pub state: String,
    pub database: String,
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.column, &self.value)])
    }
}

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// In order of account, table and key.
    pub differences: Vec<Difference>,
    /// Flows that both sides have and the state holds as ended: their rows are still to be deleted.
    pub ended_flows: BTreeSet<Key>,
    /// To be compared again: touched by a transaction that the snapshot could not see.
    pub again: BTreeSet<Key>,
    /// Rows that are the same.
    pub same: usize,
}

/// Compares rows by key. `is_newer`: the row was touched by a transaction that the database's snapshot could not see.
/// `only`: None to compare all.
pub fn compare(
    state: &BTreeMap<Key, RowState>,
    database: &BTreeMap<Key, Row>,
    only: Option<&BTreeSet<Key>>,
    is_newer: impl Fn(&Key) -> bool,
) -> Comparison {
    let mut comparison = Comparison::default();
    let keys: BTreeSet<&Key> = match only {
        Some(only) => only.iter().collect(),
        None => state.keys().chain(database.keys()).collect(),
    };
    for key in keys {
        let (held, row) = (state.get(key), database.get(key));
        match kind(held.map(|held| &held.row), row) {
            None => {
                comparison.same += usize::from(row.is_some());
                if held.is_some_and(|held| held.history == History::Flow(FlowHistory::Ended)) {
                    comparison.ended_flows.insert(key.clone());
                }
            }
            Some(_) if is_newer(key) => {
                comparison.again.insert(key.clone());
            }
            Some(kind) => comparison.differences.push(Difference {
                account: key.0.to_string(),
                table: key.1.name(),
                key: name(key.2),
                kind,
            }),
        }
    }
    comparison
}

/// A row's key as text.
pub fn name(id: RowId) -> String {
    match id {
        RowId::Id(id) => id.to_string(),
        RowId::Connection { resource, gateway_group } => format!("{resource} {gateway_group}"),
    }
}

fn kind(state: Option<&Row>, database: Option<&Row>) -> Option<Kind> {
    let all = |row: &Row| fields(row).into_iter().map(|(column, value)| Field { column, value }).collect();
    match (state, database) {
        (None, None) => None,
        (None, Some(row)) => Some(Kind::Missing { database: all(row) }),
        (Some(row), None) => Some(Kind::Extra { state: all(row) }),
        (Some(state), Some(database)) => {
            let pairs = fields(state).into_iter().zip(fields(database));
            let different = pairs.filter(|((_, state), (_, database))| state != database);
            let columns: Vec<DifferentColumn> =
                different.map(|((column, state), (_, database))| DifferentColumn { column, state, database }).collect();
            (!columns.is_empty()).then_some(Kind::Columns { columns })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use penstock_wire::position::Position;
    use uuid::Uuid;

    use super::*;
    use crate::rows::{ActorRow, FlowRow, GatewayGroupRow, Table};

    fn key(table: Table, id: u128) -> Key {
        (Arc::from("a"), table, RowId::Id(Uuid::from_u128(id)))
    }

    fn group(name: &str) -> Row {
        Row::GatewayGroup(GatewayGroupRow { live: true, name: name.into() })
    }

    fn held(key: &Key, row: Row, history: History) -> (Key, RowState) {
        (key.clone(), RowState { table: key.1, id: key.2, position: Position::ZERO, row, history })
    }

    #[test]
    fn what_differs_is_told_by_column_unless_the_snapshot_could_not_see_why() {
        let [first, second, third, fourth] = [1, 2, 3, 4].map(|id| key(Table::GatewayGroups, id));
        let state = BTreeMap::from([
            held(&first, group("same"), History::None),
            held(&second, group("old"), History::None),
            held(&third, group("extra"), History::None),
        ]);
        let database = BTreeMap::from([
            (first, group("same")),
            (second.clone(), group("new")),
            (fourth.clone(), group("missing")),
        ]);
        let strict = compare(&state, &database, None, |_| false);
        let kinds: Vec<&Kind> = strict.differences.iter().map(|difference| &difference.kind).collect();
        let [Kind::Columns { columns }, Kind::Extra { .. }, Kind::Missing { .. }] = kinds.as_slice() else {
            panic!("{kinds:?}")
        };
        let name = DifferentColumn { column: "name", state: "\"old\"".to_owned(), database: "\"new\"".to_owned() };
        assert_eq!((columns.as_slice(), strict.same), ([name].as_slice(), 1));

        let newer = compare(&state, &database, None, |key| *key != third);
        assert_eq!(newer.again, BTreeSet::from([second, fourth]));
        assert_eq!(newer.differences.len(), 1);
        let only = compare(&state, &database, Some(&BTreeSet::from([third])), |_| false);
        assert_eq!((only.differences.len(), only.same), (1, 0));
    }

    #[test]
    fn a_flow_that_is_held_as_ended_is_none() {
        let id = Uuid::nil();
        let flow = Row::Flow(FlowRow {
            live: true,
            policy: id,
            client: id,
            gateway: id,
            resource: id,
            token: id,
            membership: id,
            expires_at: None,
        });
        let key = key(Table::Flows, 1);
        let state = BTreeMap::from([held(&key, flow.clone(), History::Flow(FlowHistory::Ended))]);
        let both = compare(&state, &BTreeMap::from([(key.clone(), flow)]), None, |_| false);
        assert_eq!((both.differences.len(), both.ended_flows), (0, BTreeSet::from([key])));
        assert_eq!(compare(&state, &BTreeMap::new(), None, |_| false).differences.len(), 1, "its row is gone");
    }

    #[test]
    fn whether_a_row_counts_is_compared_too() {
        let actor = |live| Row::Actor(ActorRow { live });
        assert_eq!(kind(Some(&actor(true)), Some(&actor(true))), None);
        let Some(Kind::Columns { columns }) = kind(Some(&actor(true)), Some(&actor(false))) else { panic!() };
        assert_eq!(columns[0].column, "live");
    }
}
