//! What a transaction's entries do to an account's rows.

use crate::change::{Action, Change};
use crate::decode::{self, Event, Names};
use crate::partition::{Effect, Entry};
use crate::rows::Table;

/// Adds the changes of an entry. What could not be read of its row is given back.
pub(crate) fn changes_of(
    entry: Entry<Event>,
    names: &Names,
    changes: &mut Vec<Change>,
) -> impl Iterator<Item = (Table, decode::Problem)> + use<> {
    let Entry { position, effect, .. } = entry;
    let change = |table, action| Change { position, table, action };
    let mut problems = None;
    match effect {
        Effect::Row(event) | Effect::Tombstone(event) => {
            let table = event.table;
            changes.push(change(table, event.action));
            problems = Some(event.problems.into_iter().map(move |problem| (table, problem)));
        }
        Effect::Truncate { schema, table } => {
            changes.extend(names.table(&schema, &table).map(|table| change(table, Action::Truncate)));
        }
        Effect::Sweep { scope, begin } => {
            let swept = match &scope.table {
                None => Table::ALL.to_vec(),
                Some((schema, table)) => names.table(schema, table).into_iter().collect(),
            };
            changes.extend(swept.into_iter().map(|table| change(table, Action::Sweep { begin })));
        }
    }
    problems.into_iter().flatten()
}
