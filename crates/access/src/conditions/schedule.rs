//! Weekly windows in named time zones, as intervals of instants.
//!
//! A window begins at the first instant at which its zone's clocks show its start, and ends with the last second in which
//! they show its end: a time that they show twice begins at the first and ends with the second. A time that they never show
//! is the instant at which they jump over it, for a start and for an end.
//!
//! Zones are looked up in the database that is compiled in, so every instance of one build has the same.

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

use super::Window;
use super::ranges::{Entry, Range, merge};

/// Days around a zone's today whose windows can hold now: clocks have been moved by as much as a whole day.
const NEAR_DAYS: usize = 2;
/// From the first of those days on, these have every day of the week after the last of them.
const SEARCHED_DAYS: usize = NEAR_DAYS + 1 + NEAR_DAYS + 7;

/// All windows of one condition. None at all: it never holds.
#[derive(Debug, Default)]
pub(super) struct Schedule(Box<[ZoneSchedule]>);

/// The windows of one zone; zones are told apart by their names.
#[derive(Debug)]
struct ZoneSchedule {
    zone: TimeZone,
    /// By day after Monday, in order; they don't overlap.
    days: [Box<[Range]>; 7],
}

/// What the windows seen so far say about one second.
#[derive(Debug)]
struct Sight {
    second: i64,
    /// The end of the open window that ends last.
    open: Option<i64>,
    /// The latest start or end up to this second.
    from: Option<i64>,
    /// The earliest one after it.
    until: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Start,
    End,
}

impl Schedule {
    /// None: an entry is invalid, or its zone unknown, and so are all others.
    pub(super) fn compile<'a>(values: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut zones: BTreeMap<&str, [Vec<Range>; 7]> = BTreeMap::new();
        for value in values {
            let entry = Entry::parse(value)?;
            zones.entry(entry.zone).or_default().get_mut(entry.day)?.extend(entry.ranges);
        }
        let database = TimeZoneDatabase::bundled();
        let compiled = zones.into_iter().map(|(name, days)| {
            // The database takes a name in any case.
            let zone = database.get(name).ok().filter(|zone| zone.iana_name() == Some(name))?;
            Some(ZoneSchedule { zone, days: days.map(in_order) })
        });
        compiled.collect::<Option<_>>().map(Self)
    }

    /// What the windows say in a unix second.
    pub(super) fn window_at(&self, second: i64) -> Window {
        let mut sight = Sight { second, open: None, from: None, until: None };
        let seen: Option<()> = self.0.iter().try_for_each(|zone| zone.look(&mut sight));
        if seen.is_none() {
            // A time that no calendar has: closed, and asked again.
            return Window { from: second, until: second.checked_add(1), open: None };
        }
        let from = if self.0.is_empty() { i64::MIN } else { sight.from.unwrap_or(second) };
        Window { from, until: sight.until, open: sight.open.map(Some) }
    }
}

impl ZoneSchedule {
    /// None: the second is not in the calendar.
    fn look(&self, sight: &mut Sight) -> Option<()> {
        let today = self.zone.to_datetime(Timestamp::from_second(sight.second).ok()?).date();
        let first = today.checked_sub(i64::try_from(NEAR_DAYS).ok()?.days()).ok()?;
        let dates = std::iter::successors(Some(first), |date| date.tomorrow().ok()).take(SEARCHED_DAYS);
        for (index, date) in dates.enumerate() {
            let ranges = self.days.get(usize::try_from(date.weekday().to_monday_zero_offset()).ok()?)?;
            if index <= 2 * NEAR_DAYS {
                for range in ranges {
                    sight.see(
                        self.instant(date, range.first, Bound::Start)?,
                        self.instant(date, range.last, Bound::End)?,
                    );
                }
            } else if let Some(range) = ranges.first() {
                // Nothing opens before the first window of the first day that has one.
                sight.change_at(self.instant(date, range.first, Bound::Start)?);
                break;
            }
        }
        Some(())
    }

    /// The unix second of a time on the zone's clocks.
    fn instant(&self, date: Date, second_of_day: u32, bound: Bound) -> Option<i64> {
        let part = |number: u32| i8::try_from(number).ok();
        let (hour, minute) = (part(second_of_day / 3600)?, part(second_of_day / 60 % 60)?);
        let shown: DateTime = date.at(hour, minute, part(second_of_day % 60)?, 0);
        let offset = match (self.zone.to_ambiguous_timestamp(shown).offset(), bound) {
            (AmbiguousOffset::Unambiguous { offset }, _) => offset,
            (AmbiguousOffset::Fold { before, after: _ }, Bound::Start) => before,
            (AmbiguousOffset::Fold { before: _, after }, Bound::End) => after,
            (AmbiguousOffset::Gap { before: _, after }, _) => {
                // By the clocks as they are after the jump, the time would have been before it.
                let jump = self.zone.following(after.to_timestamp(shown).ok()?).next()?;
                return Some(jump.timestamp().as_second());
            }
        };
        Some(offset.to_timestamp(shown).ok()?.as_second())
    }
}

impl Sight {
    /// A window, both ends inclusive.
    fn see(&mut self, start: i64, end: i64) {
        self.change_at(start);
        self.change_at(end.saturating_add(1));
        if (start..=end).contains(&self.second) {
            self.open = self.open.max(Some(end));
        }
    }

    fn change_at(&mut self, second: i64) {
        if second <= self.second {
            self.from = self.from.max(Some(second));
        } else {
            self.until = self.until.into_iter().chain([second]).min();
        }
    }
}

fn in_order(mut ranges: Vec<Range>) -> Box<[Range]> {
    merge(&mut ranges);
    ranges.into_boxed_slice()
}

#[cfg(test)]
mod tests;
