//! "Step n of m", with the time that is left.
//!
//! The estimates are those of a machine with two cores; what a step really took replaces its estimate when it is over.
//! Invariant: each step that was announced is done or skipped in order, so n never passes m.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::limits::SIGN_OF_LIFE_EVERY;
use crate::say;

/// The steps that are still to be done.
#[derive(Debug)]
pub struct Steps {
    total: usize,
    done: usize,
    left: Vec<Step>,
}

/// A step before it is done.
#[derive(Debug, Clone)]
pub struct Step {
    /// What is done, as an imperative.
    pub what: String,
    /// How long it takes.
    pub estimate: Duration,
}

impl Step {
    /// A step that takes about so many seconds.
    pub fn new(what: impl Into<String>, seconds: u64) -> Self {
        Self { what: what.into(), estimate: Duration::from_secs(seconds) }
    }
}

/// Whether the step prints something itself while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// It says nothing: a sign of life is given for it.
    Silent,
    /// It talks.
    Own,
}

impl Steps {
    /// All of them, in order.
    pub fn new(mut steps: Vec<Step>) -> Self {
        steps.reverse();
        Self { total: steps.len(), done: 0, left: steps }
    }

    /// Does the next step.
    pub fn run<T>(&mut self, voice: Voice, action: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let remaining = self.remaining();
        let step = self.left.pop().unwrap_or_else(|| Step::new("go on", 0));
        self.done += 1;
        let place = format!("step {} of {}", self.done, self.total);
        say::line(format!("{place}: {} (about {} left)", step.what, say::duration(remaining)));
        let started = Instant::now();
        let result = match voice {
            Voice::Own => action(),
            Voice::Silent => with_signs_of_life(&place, started, remaining, action),
        }?;
        say::line(format!("{place}: done in {}", say::duration(started.elapsed())));
        Ok(result)
    }

    /// What all steps that are left take together.
    fn remaining(&self) -> Duration {
        self.left.iter().map(|step| step.estimate).sum()
    }
}

fn with_signs_of_life<T>(place: &str, started: Instant, remaining: Duration, action: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let (over, ended) = mpsc::channel::<()>();
        scope.spawn(move || {
            // Ends when the sender is dropped, also by a panic of the action.
            while ended.recv_timeout(SIGN_OF_LIFE_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                let left = remaining.saturating_sub(started.elapsed());
                let passed = say::duration(started.elapsed());
                say::line(format!("{place}: {passed} so far (about {} left)", say::duration(left)));
            }
        });
        let result = action();
        drop(over);
        result
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Step, Steps, Voice};

    #[test]
    fn time_left_is_that_of_the_steps_left() {
        let mut steps = Steps::new(vec![Step::new("first", 10), Step::new("second", 5)]);
        assert_eq!(steps.remaining(), Duration::from_secs(15));
        let seven = steps.run(Voice::Silent, || Ok(7)).expect("done");
        assert_eq!(seven, 7);
        assert_eq!(steps.remaining(), Duration::from_secs(5));
        assert_eq!((steps.done, steps.total), (1, 2));
        let error = steps.run::<()>(Voice::Own, || Err(anyhow::anyhow!("no"))).expect_err("failed");
        assert_eq!(error.to_string(), "no");
        assert_eq!(steps.remaining(), Duration::ZERO);
    }
}
