//! When to let bytes gather before reading: the policy alone, without clock and sleep.
//!
//! A walsender sends every message by itself and wakes its reader each time: at full speed a reader that jumps at
//! every message spends three quarters of its CPU time on waking up. It is under load if small reads follow each other
//! closely; then a short pause lets many messages come in one read. A read after silence is never delayed.

use std::time::{Duration, Instant};

use super::limits::{GATHER_BYTES, GATHER_PAUSE, GATHER_WINDOW};

/// What the last reads looked like.
#[derive(Debug, Default)]
pub(super) struct Gather {
    last_read_at: Option<Instant>,
    pause_due: bool,
}

impl Gather {
    /// A read of so many bytes has just ended.
    pub(super) fn read(&mut self, bytes: usize, now: Instant) {
        let last = self.last_read_at.replace(now);
        let close = last.is_some_and(|last| now.duration_since(last) < GATHER_WINDOW);
        self.pause_due = close && bytes < GATHER_BYTES;
    }

    /// How long to wait before the next read; at most once per read, however often the next one is begun and dropped.
    pub(super) fn take_pause(&mut self) -> Option<Duration> {
        std::mem::take(&mut self.pause_due).then_some(GATHER_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_reads_in_close_succession_pause() {
        let start = Instant::now();
        let soon = GATHER_WINDOW / 2;
        let late = GATHER_WINDOW * 2;
        for (what, gap, bytes, expected) in [
            ("small and soon", soon, 100, Some(GATHER_PAUSE)),
            ("small after silence", late, 100, None),
            ("large and soon", soon, GATHER_BYTES, None),
        ] {
            let mut gather = Gather::default();
            gather.read(100, start);
            assert_eq!(gather.take_pause(), None, "the first read, {what}");
            gather.read(bytes, start + gap);
            assert_eq!(gather.take_pause(), expected, "{what}");
            assert_eq!(gather.take_pause(), None, "again, {what}");
        }
    }
}
