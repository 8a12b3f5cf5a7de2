//! Whether the bridge works, waits, or has stopped for good, and why: what `/healthz`, `/readyz` and `status` say.
//!
//! Waiting for Postgres, the slot, Kafka or the registry is alive and not ready. Only a stop that needs a human is not
//! alive.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by everything that may have to wait.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    streaming: bool,
    waits: BTreeMap<&'static str, String>,
    stopped: Option<String>,
}

/// What the state amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Changes flow.
    Ready,
    /// It recovers by itself once these are there; each with its reason.
    Waiting(Vec<String>),
    /// A human must act.
    Stopped(String),
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is awaited. Logged when the reason changes.
    pub fn waits_for(&self, what: &'static str, reason: String) {
        let mut state = self.lock();
        if state.waits.get(what) != Some(&reason) {
            tracing::warn!(what, reason, "waiting");
            state.waits.insert(what, reason);
        }
    }

    /// It is there.
    pub fn no_longer_waits(&self, what: &'static str) {
        if self.lock().waits.remove(what).is_some() {
            tracing::info!(what, "no longer waiting");
        }
    }

    /// Whether changes flow.
    pub fn streams(&self, streaming: bool) {
        self.lock().streaming = streaming;
    }

    /// It stopped and will not recover by itself.
    pub fn stopped(&self, reason: String) {
        self.lock().stopped = Some(reason);
    }

    /// What it amounts to now.
    pub fn verdict(&self) -> Verdict {
        let state = self.lock();
        match &state.stopped {
            Some(reason) => Verdict::Stopped(reason.clone()),
            None if state.streaming && state.waits.is_empty() => Verdict::Ready,
            None if state.waits.is_empty() => Verdict::Waiting(vec!["starting".into()]),
            None => Verdict::Waiting(state.waits.iter().map(|(what, reason)| format!("{what}: {reason}")).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_alive_and_a_stop_is_not() {
        let health = Health::default();
        assert_eq!(health.verdict(), Verdict::Waiting(vec!["starting".into()]));
        health.streams(true);
        assert_eq!(health.verdict(), Verdict::Ready);
        health.waits_for("registry", "connection refused".into());
        assert_eq!(health.verdict(), Verdict::Waiting(vec!["registry: connection refused".into()]));
        health.no_longer_waits("registry");
        assert_eq!(health.verdict(), Verdict::Ready);
        health.stopped("slot lost".into());
        assert_eq!(health.verdict(), Verdict::Stopped("slot lost".into()));
    }
}
