//! How far reading has come of what was in the topic when it began, for people who wait.
//!
//! Offsets are no counts: compaction and Kafka's own markers leave holes. So the share comes from offsets, and records are
//! counted as they are read.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::rows::Micros;

/// Partitions that were begun, each from an offset to the end that it had then.
#[derive(Clone, Debug, Default)]
pub struct CatchUp {
    spans: BTreeMap<u32, Span>,
    began: Option<Micros>,
    records: u64,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    from: i64,
    to: i64,
    read_to: i64,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CaughtUp {
    /// Partitions that have not been read to where they ended when they were begun.
    pub partitions: usize,
    /// Records read since the first of them was begun.
    pub records: u64,
    /// From 0 to 100, by offsets.
    pub percent: f64,
    /// Records a second.
    pub rate: f64,
    /// None: nothing can be told yet.
    pub left: Option<Duration>,
}

impl CatchUp {
    /// A partition is read from an offset on, and ended at another.
    pub fn begin(&mut self, partition: u32, from: i64, to: i64, now: Micros) {
        self.spans.remove(&partition);
        if self.behind() == 0 {
            (self.spans, self.began, self.records) = (BTreeMap::new(), Some(now), 0);
        }
        self.spans.insert(partition, Span { from, to, read_to: from });
    }

    /// Another instance reads it.
    pub fn revoke(&mut self, partition: u32) {
        self.spans.remove(&partition);
    }

    /// A record was read.
    pub fn count(&mut self) {
        self.records += 1;
    }

    /// A partition was read up to an offset.
    pub fn advance(&mut self, partition: u32, read_to: i64) {
        if let Some(span) = self.spans.get_mut(&partition) {
            span.read_to = span.read_to.max(read_to);
        }
    }

    /// None: everything was read that was there.
    pub fn figures(&self, now: Micros) -> Option<CaughtUp> {
        let partitions = self.behind();
        if partitions == 0 {
            return None;
        }
        let all: f64 = self.spans.values().map(|span| (span.to - span.from).max(0) as f64).sum();
        let read: f64 = self.spans.values().map(|span| (span.read_to.min(span.to) - span.from).max(0) as f64).sum();
        let seconds = now.0.saturating_sub(self.began?.0).max(0) as f64 / 1e6;
        let left = seconds * (all - read) / read;
        Some(CaughtUp {
            partitions,
            records: self.records,
            percent: 100.0 * read / all,
            rate: if seconds > 0.0 { self.records as f64 / seconds } else { 0.0 },
            left: Duration::try_from_secs_f64(left).ok().filter(|_| seconds > 0.0),
        })
    }

    fn behind(&self) -> usize {
        self.spans.values().filter(|span| span.read_to < span.to).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: i64) -> Micros {
        Micros::from_seconds(seconds)
    }

    #[test]
    fn figures_are_of_all_partitions_that_were_begun_together() {
        let mut catch_up = CatchUp::default();
        assert_eq!(catch_up.figures(s(0)), None, "nothing was begun");
        catch_up.begin(0, 100, 300, s(10));
        catch_up.begin(1, 0, 0, s(10));
        catch_up.begin(2, 0, 200, s(11));
        let begun = catch_up.figures(s(10)).expect("partitions are behind");
        assert_eq!((begun.partitions, begun.percent, begun.rate, begun.left), (2, 0.0, 0.0, None));
        (0..50).for_each(|_| catch_up.count());
        catch_up.advance(0, 200);
        let half = catch_up.figures(s(15)).expect("partitions are behind");
        let expected =
            CaughtUp { partitions: 2, records: 50, percent: 25.0, rate: 10.0, left: Some(Duration::from_secs(15)) };
        assert_eq!(half, expected);
        catch_up.advance(0, 400);
        assert_eq!(catch_up.figures(s(15)).map(|figures| (figures.partitions, figures.percent)), Some((1, 50.0)));
        catch_up.advance(2, 200);
        assert_eq!(catch_up.figures(s(15)), None);
    }

    #[test]
    fn what_begins_again_counts_anew() {
        let mut catch_up = CatchUp::default();
        catch_up.begin(0, 0, 10, s(0));
        catch_up.count();
        catch_up.advance(0, 10);
        catch_up.begin(0, 0, 20, s(100));
        let again = catch_up.figures(s(101)).expect("a partition is behind");
        assert_eq!((again.records, again.percent, again.rate), (0, 0.0, 0.0));
        catch_up.revoke(0);
        assert_eq!(catch_up.figures(s(101)), None);
    }
}
