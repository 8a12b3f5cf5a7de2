//! Readings of the server's clock that lie ahead of what was read.
//!
//! They come by time and go as the stream passes their positions; a stream that stands still, because a schema is awaited or
//! the backlog is long, lets them pile up. Beyond a bound every other one is dropped, and from then on only every other one
//! kept, and so on; the newest always. What the topic says of its freshness is then coarser for a while, and never wrong.

use std::collections::VecDeque;

use penstock_wire::lsn::EndLsn;

use crate::interface::ClockSample;
use crate::limits::CLOCK_SAMPLES_MAX;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct ClockSamples {
    kept: VecDeque<ClockSample>,
    /// How many readings apart those that are kept are to be.
    stride: u64,
    /// How many readings the newest is apart from the one before it.
    apart: u64,
}

impl Default for ClockSamples {
    fn default() -> Self {
        Self { kept: VecDeque::new(), stride: 1, apart: 0 }
    }
}

impl ClockSamples {
    /// A reading, newer than those before it.
    pub(crate) fn push(&mut self, sample: ClockSample) {
        if self.apart < self.stride && self.kept.len() >= 2 {
            // The newest so far is too near to the one before it.
            self.kept.pop_back();
            self.apart += 1;
        } else {
            self.apart = 1;
        }
        self.kept.push_back(sample);
        if self.kept.len() > CLOCK_SAMPLES_MAX {
            let mut keep = self.kept.len().is_multiple_of(2);
            self.kept.retain(|_| {
                keep = !keep;
                keep
            });
            self.apart += self.stride;
            self.stride *= 2;
        }
    }

    /// Everything before `end` is read: what the clock was at the last position that this passes; 0 if it passes none.
    pub(crate) fn passed(&mut self, end: EndLsn) -> i64 {
        let mut clock_us = 0;
        while let Some(sample) = self.kept.front().copied().filter(|sample| sample.lsn <= end) {
            clock_us = sample.clock_us;
            self.kept.pop_front();
        }
        if self.kept.len() < 2 {
            self.stride = 1;
        }
        clock_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(number: u64) -> ClockSample {
        ClockSample { lsn: EndLsn::new(10 * number), clock_us: i64::try_from(number).unwrap() }
    }

    #[test]
    fn a_clock_counts_once_its_position_is_passed() {
        let mut samples = ClockSamples::default();
        (1..=3).for_each(|number| samples.push(sample(number)));
        for (end, clock_us) in [(9, 0), (10, 1), (29, 2), (29, 0), (30, 3), (99, 0)] {
            assert_eq!(samples.passed(EndLsn::new(end)), clock_us, "{end}");
        }
    }

    #[test]
    fn a_stream_that_stands_still_keeps_a_bounded_number_and_always_the_newest() {
        let mut samples = ClockSamples::default();
        for number in 1..=100_001 {
            samples.push(sample(number));
            assert!(samples.kept.len() <= CLOCK_SAMPLES_MAX);
            assert_eq!(samples.kept.back(), Some(&sample(number)));
        }
        assert!(samples.kept.len() >= CLOCK_SAMPLES_MAX / 2);
        assert!(samples.kept.iter().is_sorted_by_key(|sample| sample.lsn));
        // What is left is spread evenly: whoever catches up learns of it all the way.
        for number in (1000..100_000).step_by(1000) {
            let clock_us = samples.passed(EndLsn::new(10 * number));
            assert!((number - 500..=number).contains(&clock_us.cast_unsigned()), "{clock_us} at {number}");
        }
        assert_eq!(samples.passed(EndLsn::new(u64::MAX)), 100_001);
        (1..=3).for_each(|number| samples.push(sample(200_000 + number)));
        assert_eq!(samples.kept.len(), 3, "every reading counts again");
    }
}
