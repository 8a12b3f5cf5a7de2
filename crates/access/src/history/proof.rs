//! Whether what is left of a source's records still tells what was there at a point.
//!
//! Each record names the position before it; where that one was not read, compaction has taken records: a *hole*. A
//! record is taken because a later one has its key, and with it every older one of that key. So a hole at or before the
//! point does harm only where what took its records lies behind the point. Behind the point, without a hole, everything
//! can be seen: the first record there of a row shows whether the row was there at the point (only an insert shows that
//! it was not), and a row that was there and is not held is what was lost. Records that concern a whole table (truncates,
//! ends of reloads) have one key a table, and leave no trace in the rows: one of them behind the point may have taken one
//! before it. Deletes that were taken by age have taken all of their row with them, and do no harm before the point;
//! behind it they leave holes.

use std::collections::BTreeSet;

use penstock_wire::header::Header;
use penstock_wire::position::Position;

use crate::rows::{RowId, Table};

/// What a record shows of what was there before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trait {
    /// The row was not there.
    Insert(Table, RowId),
    /// The row was there, or may have been.
    Row(Table, RowId),
    /// It may have taken a record that was no row's, or nobody can tell whose.
    Control,
    /// Nothing that matters to the account.
    Nothing,
}

/// Which side of the points a transaction lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stretch {
    /// Wholly at or before the first point.
    Before,
    /// Behind that, and wholly at or before the second.
    Between,
    Behind,
}

/// What is proven of the state at the first point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The whole history before it is there.
    Whole,
    /// Its rows are right; when they were inserted may not be known.
    Rows,
    /// Rows may be missing, or there that were gone, at all points before this position.
    Lost { until: Position },
}

/// What was read of one source.
#[derive(Clone, Debug)]
pub(super) struct Trail {
    read: Position,
    /// Read, of transactions that have not ended.
    steps: Vec<Step>,
    pub(super) stretch: Stretch,
    hole_before: bool,
    hole_between: Option<Position>,
    /// The newest record behind the first point that leaves open what was before it.
    offence: Option<Position>,
    /// Rows that were met behind the first point.
    met: BTreeSet<(Table, RowId)>,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    position: Position,
    hole: bool,
    shows: Trait,
}

impl Trail {
    pub(super) fn new() -> Self {
        Self {
            read: Position::ZERO,
            steps: Vec::new(),
            stretch: Stretch::Before,
            hole_before: false,
            hole_between: None,
            offence: None,
            met: BTreeSet::new(),
        }
    }

    /// Takes the next record; one that was read before is none.
    pub(super) fn read(&mut self, header: &Header, shows: Trait) {
        if header.position <= self.read {
            return;
        }
        let hole = header.previous > self.read;
        self.read = header.position;
        self.steps.push(Step { position: header.position, hole, shows });
    }

    /// The transaction that ends at `position` lies on this side of the points. `held`: the rows at the first of them.
    pub(super) fn end(&mut self, position: Position, stretch: Stretch, held: &BTreeSet<(Table, RowId)>) {
        let whole = self.steps.partition_point(|step| step.position <= position);
        let steps: Vec<Step> = self.steps.drain(..whole).collect();
        for step in steps {
            self.judge(step, stretch, held);
        }
        self.stretch = stretch;
    }

    /// Nothing more comes. `last`: the source's newest record, which compaction may have taken, and its side of the points.
    pub(super) fn finish(&mut self, last: Position, stretch: Stretch, held: &BTreeSet<(Table, RowId)>) {
        if last > self.read {
            self.judge(Step { position: last, hole: true, shows: Trait::Nothing }, stretch.max(self.stretch), held);
        }
    }

    fn judge(&mut self, step: Step, stretch: Stretch, held: &BTreeSet<(Table, RowId)>) {
        // What is missing in front of the first record behind a point may have stood on either side of it.
        let entered = self.stretch;
        if step.hole {
            self.hole_before |= entered == Stretch::Before;
            if stretch == Stretch::Between || (entered == Stretch::Between && stretch == Stretch::Behind) {
                self.hole_between = Some(step.position);
            }
        }
        self.stretch = stretch;
        if stretch == Stretch::Before {
            return;
        }
        let leaves_open = match step.shows {
            Trait::Nothing => false,
            Trait::Control => true,
            Trait::Insert(table, id) => {
                self.met.insert((table, id));
                false
            }
            Trait::Row(table, id) => self.met.insert((table, id)) && !held.contains(&(table, id)),
        };
        if step.hole || leaves_open {
            self.offence = Some(step.position);
        }
    }

    /// What is known by now of the state at the first point.
    pub(super) fn proof(&self) -> Proof {
        match (self.hole_before, self.offence) {
            (false, _) => Proof::Whole,
            (true, None) => Proof::Rows,
            (true, Some(until)) => Proof::Lost { until },
        }
    }

    /// Where a record between the points is missing.
    pub(super) fn hole_between(&self) -> Option<Position> {
        self.hole_between
    }
}

#[cfg(test)]
mod tests {
    use penstock_wire::lsn::CommitLsn;
    use penstock_wire::position::Seq;
    use uuid::Uuid;

    use super::*;

    type Id = (Table, RowId);
    /// Previous position, position, what it shows.
    type Recorded = (u64, u64, Trait);

    const A: Id = (Table::Actors, RowId::Id(Uuid::from_u128(1)));
    const B: Id = (Table::Actors, RowId::Id(Uuid::from_u128(2)));

    fn at(commit: u64) -> Position {
        match commit {
            0 => Position::ZERO,
            commit => Position { epoch: 1, commit_lsn: CommitLsn::new(commit), seq: Seq(8) },
        }
    }

    fn insert((table, id): Id) -> Trait {
        Trait::Insert(table, id)
    }

    fn row((table, id): Id) -> Trait {
        Trait::Row(table, id)
    }

    /// Each record its own transaction; points at 10 and 20; `last` is the newest record that progress speaks of.
    fn trail(records: &[Recorded], held: &[Id], last: u64) -> Trail {
        let stretch = |commit| match commit {
            0..=10 => Stretch::Before,
            11..=20 => Stretch::Between,
            _ => Stretch::Behind,
        };
        let held = held.iter().copied().collect();
        let mut trail = Trail::new();
        for (previous, commit, shows) in records {
            let header = Header {
                source: 0,
                position: at(*commit),
                previous: at(*previous),
                end_of_transaction: true,
                identity_only: false,
            };
            trail.read(&header, *shows);
            trail.end(at(*commit), stretch(*commit), &held);
        }
        trail.finish(at(last), stretch(last), &held);
        trail
    }

    #[test]
    fn a_hole_before_the_point_does_harm_where_its_row_comes_again_behind_it() {
        let lost = |until| Proof::Lost { until: at(until) };
        let cases: [(&[Recorded], &[Id], u64, Proof); 17] = [
            (&[(0, 1, insert(A)), (1, 2, insert(B)), (2, 30, row(A))], &[A, B], 30, Proof::Whole),
            // Without a hole nothing behind the point matters, missing or not.
            (&[(0, 1, insert(A)), (1, 30, row(B)), (31, 32, Trait::Nothing)], &[A], 32, Proof::Whole),
            (&[(0, 1, insert(A)), (1, 30, Trait::Control)], &[A], 30, Proof::Whole),
            // Of two versions before the point the first was taken by the second.
            (&[(1, 2, row(A)), (2, 30, insert(B))], &[A], 30, Proof::Rows),
            (&[(1, 2, row(A)), (2, 30, row(A))], &[A], 30, Proof::Rows),
            // The only one before the point was taken by one behind it.
            (&[(0, 1, insert(A)), (2, 3, row(A)), (3, 30, row(B))], &[A], 30, lost(30)),
            (&[(1, 30, row(A))], &[], 30, lost(30)),
            (&[(1, 30, row(A)), (30, 31, row(B)), (31, 40, row(A))], &[], 40, lost(31)),
            // What was inserted and updated behind the point was not there.
            (&[(1, 2, row(A)), (2, 30, insert(B)), (30, 31, row(B))], &[A], 31, Proof::Rows),
            // Behind the point something is missing, and may have been anything.
            (&[(1, 2, row(A)), (2, 30, insert(B)), (31, 32, row(A))], &[A], 32, lost(32)),
            (&[(1, 2, row(A)), (2, 30, insert(B))], &[A], 31, lost(31)),
            (&[(1, 2, row(A)), (3, 30, row(A))], &[A], 30, lost(30)),
            (&[(0, 1, insert(A)), (3, 30, row(A))], &[A], 30, lost(30)),
            // The newest record of all is missing: at the point itself nothing lies behind.
            (&[(0, 1, insert(A))], &[A], 5, Proof::Rows),
            (&[(0, 1, insert(A))], &[A], 30, lost(30)),
            // A truncate may have taken one of before.
            (&[(1, 2, row(A)), (2, 30, Trait::Control)], &[A], 30, lost(30)),
            (&[], &[], 0, Proof::Whole),
        ];
        for (records, held, last, expected) in cases {
            assert_eq!(trail(records, held, last).proof(), expected, "{records:?} {held:?} {last}");
        }
    }

    #[test]
    fn between_the_points_nothing_may_be_missing() {
        let cases: [(&[Recorded], u64, Option<u64>); 6] = [
            (&[(0, 1, insert(A)), (1, 12, row(A)), (12, 13, row(A)), (13, 30, row(A))], 30, None),
            (&[(1, 2, insert(A)), (2, 12, row(A)), (12, 30, row(A)), (31, 32, row(A))], 32, None),
            (&[(0, 1, insert(A)), (1, 12, row(A)), (13, 14, row(A))], 14, Some(14)),
            (&[(0, 1, insert(A)), (2, 12, row(A))], 12, Some(12)),
            (&[(0, 1, insert(A)), (1, 12, row(A)), (13, 30, row(A))], 30, Some(30)),
            (&[(0, 1, insert(A)), (1, 12, row(A))], 19, Some(19)),
        ];
        for (records, last, expected) in cases {
            assert_eq!(trail(records, &[A], last).hole_between(), expected.map(at), "{records:?} {last}");
        }
    }
}
