//! What a backfill asks for next: one thing at a time of each reload and range, at most so many chunks at once.

use std::time::Duration;

use penstock_wire::position::Position;
use penstock_wire::reload::{Reload, ReloadState};

use super::interface::{Ask, ChunkColumn, ChunkRequest, Mark};
use super::read::Read;
use super::{Backfill, Described, Pace, Purpose};
use crate::limits::Limits;
use crate::relation::{Rules, Table};

/// Rows of the first chunk of a table, whose rows may be of any size.
const FIRST_ROWS: usize = 1_000;

/// See the module's documentation.
pub(super) fn asks(backfill: &mut Backfill, limits: &Limits, rules: &Rules, now: Duration) -> Vec<Ask> {
    let mut asks = Vec::new();
    if backfill.visibility.wake() {
        asks.push(Ask::Barrier);
    }
    if std::mem::take(&mut backfill.asks_idle) {
        asks.push(Ask::Idle(backfill.visibility.blocking()));
    }
    let live = |reload: &&Reload| matches!(reload.state, ReloadState::Requested | ReloadState::Running);
    let live: Vec<Reload> = backfill.reloads.all().iter().filter(live).cloned().collect();
    for reload in &live {
        asks.extend(next_of_reload(backfill, reload));
    }
    // In turn, a range of each: a small reload does not wait for a large one.
    let longest = live.iter().map(|reload| reload.ranges.len()).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|range| live.iter().map(move |reload| (reload, range)));
    for (reload, range) in turns {
        if backfill.reads.len() >= limits.backfill_workers {
            break;
        }
        asks.extend(next_of_range(backfill, reload, range, (limits, rules), now));
    }
    asks
}

/// What a reload needs before and behind its chunks.
fn next_of_reload(backfill: &mut Backfill, reload: &Reload) -> Option<Ask> {
    let begun = reload.begin != Position::ZERO;
    match backfill.surveyed.get(&reload.id) {
        Some(true) => {}
        _ if begun => {}
        Some(false) => return None,
        None => {
            backfill.surveyed.insert(reload.id.clone(), false);
            return Some(Ask::Survey { reload: reload.id.clone(), scope: reload.scope.clone() });
        }
    }
    let (purpose, is_mine): (_, fn(&Purpose, &str) -> bool) = if !begun {
        (Purpose::Begin(reload.id.clone()), |purpose, id| matches!(purpose, Purpose::Begin(reload) if reload == id))
    } else if reload.ranges.iter().all(|range| range.done) {
        (Purpose::End(reload.id.clone()), |purpose, id| matches!(purpose, Purpose::End(reload) if reload == id))
    } else {
        return None;
    };
    if backfill.expected.values().any(|purpose| is_mine(purpose, &reload.id)) {
        return None;
    }
    Some(Ask::Mark(mark(backfill, purpose)))
}

fn mark(backfill: &mut Backfill, purpose: Purpose) -> Mark {
    backfill.marks += 1;
    let mark = Mark(format!("{} {}", backfill.session, backfill.marks));
    backfill.expected.insert(mark.clone(), purpose);
    mark
}

fn next_of_range(
    backfill: &mut Backfill,
    reload: &Reload,
    index: usize,
    (limits, rules): (&Limits, &Rules),
    now: Duration,
) -> Option<Ask> {
    let range = reload.ranges.get(index).filter(|range| !range.done && reload.begin != Position::ZERO)?;
    let busy = backfill.reads.values().any(|read| read.reload == reload.id && read.range == index);
    let pace = backfill.ranges.get(&(reload.id.clone(), index)).copied().unwrap_or_default();
    let rate = backfill.rates.get(&reload.id).copied().unwrap_or_default();
    let Pace { not_before, .. } = pace;
    if busy || !backfill.visibility.is_ready() || now < not_before.max(rate) {
        return None;
    }
    let name = (range.schema.clone(), range.table.clone());
    match backfill.tables.get(&name) {
        None => {
            backfill.tables.insert(name.clone(), Described::Asked);
            Some(Ask::Describe { table: name })
        }
        Some(Described::Asked) => None,
        Some(Described::Ready(table, row_bytes)) => {
            let rows_max = rows_max(limits, *row_bytes);
            let (oid, account_column, key, columns) = columns_of(table, rules);
            let number = backfill.marks + 1;
            let low = mark(backfill, Purpose::Low(number));
            let high = mark(backfill, Purpose::High(number));
            let marks = [low.clone(), high.clone()];
            let must_see = backfill.visibility.unproven();
            let read = Read::new((reload.id.clone(), index), name.clone(), oid, marks, must_see);
            backfill.reads.insert(number, read);
            Some(Ask::Read(ChunkRequest {
                number,
                table: name,
                account: reload.scope.account.clone(),
                account_column,
                key,
                columns,
                after: range.after.clone(),
                until: range.until.clone(),
                rows_max,
                bytes_max: limits.chunk_bytes_max,
                low,
                high,
            }))
        }
    }
}

fn rows_max(limits: &Limits, row_bytes: usize) -> usize {
    // With room to spare: rows beyond the bound are read in vain.
    let fitting = (limits.chunk_bytes_max / 5 * 4).checked_div(row_bytes).unwrap_or(FIRST_ROWS);
    fitting.clamp(1, limits.chunk_rows_max)
}

fn columns_of(table: &Table, rules: &Rules) -> (u32, String, Vec<String>, Vec<ChunkColumn>) {
    let relation = &table.relation;
    let excluded = rules.tables.get(&(relation.schema.clone(), relation.table.clone())).map(|rules| &rules.exclude);
    let name = |index: &usize| relation.columns[*index].name.clone();
    let columns = relation.columns.iter().map(|column| ChunkColumn {
        name: column.name.clone(),
        captured: !excluded.is_some_and(|excluded| excluded.contains(&column.name)),
    });
    (relation.id, name(&table.account), table.key.iter().map(name).collect(), columns.collect())
}
