//! How far a reload is, on stderr: a bar where somebody looks, a line now and then where a file does.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use penstock_wire::reload::{Reload, ReloadState};

use crate::status::reloads::rows_text;

const TEMPLATE: &str =
    "{msg} [{wide_bar}] {human_pos} of about {human_len} rows, {percent} %, {rate} rows/s, {eta} left";
/// Lines of a reload whose state does not change come no more often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Bar {
    bar: ProgressBar,
    plain: bool,
    told: Cell<Option<(Instant, ReloadState)>>,
    /// Rows when it was looked at first, and when that was.
    first: Cell<Option<(Instant, u64)>>,
}

impl Bar {
    pub(super) fn new(plain: bool) -> Self {
        let rate = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            // Whole rows: nobody reads fractions of them.
            let _ = write!(text, "{}", HumanCount(state.per_sec().max(0.0) as u64));
        };
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is a constant");
        let target = if plain { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
        Self { bar, plain, told: Cell::new(None), first: Cell::new(None) }
    }

    pub(super) fn show(&self, reload: &Reload) {
        if self.plain {
            self.show_line(reload);
            return;
        }
        if reload.ranges.is_empty() {
            return;
        }
        let (done, total) = reload.rows();
        self.bar.set_message(reload.state.as_str());
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    /// What is no progress.
    pub(super) fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("penstock: {text}"));
    }

    /// Leaves the line to what comes next.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn show_line(&self, reload: &Reload) {
        let (now, state) = (Instant::now(), reload.state);
        let is_told = |(at, told): (Instant, ReloadState)| told == state && now.duration_since(at) < LINE_EVERY;
        if self.told.get().is_some_and(is_told) {
            return;
        }
        self.told.set(Some((now, state)));
        let (done, total) = reload.rows();
        let first = self.first.get().unwrap_or((now, done));
        self.first.set(Some(first));
        let pace = pace(done.saturating_sub(first.1), total.saturating_sub(done), now.duration_since(first.0));
        eprintln!("penstock: {}: {}{pace}", state.as_str(), rows_text(reload));
    }
}

/// `, 1,234 rows/s, 2 minutes left`; nothing as long as nothing can be told.
fn pace(rows: u64, left: u64, elapsed: Duration) -> String {
    let rate = rows as f64 / elapsed.as_secs_f64();
    if !rate.is_finite() || rate < 1.0 {
        return String::new();
    }
    let left = Duration::try_from_secs_f64(left as f64 / rate).unwrap_or(Duration::MAX);
    format!(", {} rows/s, {} left", HumanCount(rate as u64), HumanDuration(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_wire::reload::ReloadRange;

    #[test]
    fn a_bar_can_be_drawn_whatever_is_known() {
        let bar = Bar::new(false);
        let range = |rows, rows_estimated| ReloadRange { rows, rows_estimated, ..ReloadRange::default() };
        for ranges in [vec![], vec![range(0, 0)], vec![range(5, 3)], vec![range(0, u64::MAX), range(u64::MAX, 1)]] {
            bar.show(&Reload { ranges, state: ReloadState::Running, ..Reload::default() });
            bar.say("said meanwhile");
        }
        bar.end();
    }

    #[test]
    fn a_pace_is_told_once_there_is_one() {
        for (rows, left, seconds, expected) in [
            (0, 100, 0, ""),
            (0, 100, 5, ""),
            (5, 100, 0, ""),
            (12_345, 120_000, 10, ", 1,234 rows/s, 2 minutes left"),
            (1_000, 0, 1, ", 1,000 rows/s, 0 seconds left"),
        ] {
            assert_eq!(pace(rows, left, Duration::from_secs(seconds)), expected);
        }
    }
}
