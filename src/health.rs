//! Whether the bridge works, waits, or has stopped for good, and why: what `/healthz`, `/readyz` and `status` say.
//!
//! Waiting for Postgres, the slot, Kafka or the registry is alive and not ready. What waits beside the changes, a backfill,
//! takes nothing from them: then the bridge is ready, and says what it waits for. Only a stop that needs a human is not alive.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by everything that may have to wait.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    streaming: bool,
    waits: BTreeMap<&'static str, String>,
    /// What waits while changes flow.
    beside: BTreeMap<&'static str, String>,
    stopped: Option<String>,
}

/// What the state amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Changes flow.
    Ready,
    /// Changes flow; what is done beside them waits. Each with its reason.
    Delayed(Vec<String>),
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

    /// Something is awaited that changes do not need. Logged when the reason changes.
    pub fn waits_beside(&self, what: &'static str, reason: String) {
        let mut state = self.lock();
        if state.beside.get(what) != Some(&reason) {
            tracing::info!(what, reason, "waiting, beside the changes");
            state.beside.insert(what, reason);
        }
    }

    /// It is there.
    pub fn no_longer_waits(&self, what: &'static str) {
        let mut state = self.lock();
        if state.waits.remove(what).or(state.beside.remove(what)).is_some() {
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
        let list =
            |waits: &BTreeMap<&str, String>| waits.iter().map(|(what, reason)| format!("{what}: {reason}")).collect();
        match &state.stopped {
            Some(reason) => Verdict::Stopped(reason.clone()),
            None if !state.waits.is_empty() => Verdict::Waiting(list(&state.waits)),
            None if !state.streaming => Verdict::Waiting(vec!["starting".into()]),
            None if state.beside.is_empty() => Verdict::Ready,
            None => Verdict::Delayed(list(&state.beside)),
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
        health.waits_beside("backfill", "a transaction".into());
        assert_eq!(health.verdict(), Verdict::Waiting(vec!["registry: connection refused".into()]), "that comes first");
        health.no_longer_waits("registry");
        assert_eq!(health.verdict(), Verdict::Delayed(vec!["backfill: a transaction".into()]));
        health.no_longer_waits("backfill");
        assert_eq!(health.verdict(), Verdict::Ready);
        health.stopped("slot lost".into());
        assert_eq!(health.verdict(), Verdict::Stopped("slot lost".into()));
    }
}
