//! What operators read in the log about reloads: each change of a state, once.

use std::collections::BTreeMap;

use penstock_wire::reload::{Reload, ReloadState};

/// The states that were told.
#[derive(Debug, Default)]
pub struct News {
    told: BTreeMap<String, ReloadState>,
}

impl News {
    /// What stood in progress at the start is no news.
    pub fn new(reloads: &[Reload]) -> Self {
        let finished = reloads.iter().filter(|reload| reload.state.is_finished());
        Self { told: finished.map(|reload| (reload.id.clone(), reload.state)).collect() }
    }

    /// Tells what has changed.
    pub fn tell(&mut self, reloads: &[Reload]) {
        for reload in reloads {
            if self.told.get(&reload.id) == Some(&reload.state) {
                continue;
            }
            if !self.told.contains_key(&reload.id)
                && let Some((schema, table)) = &reload.scope.table
            {
                let (id, why) = (&reload.id, &reload.why);
                tracing::warn!(schema, table, why, id, "what the topic holds of a table has to be loaded again");
            }
            self.told.insert(reload.id.clone(), reload.state);
            let rows: u64 = reload.ranges.iter().map(|range| range.rows).sum();
            let (id, state, why, detail) = (&reload.id, reload.state.as_str(), &reload.why, &reload.detail);
            match reload.state {
                ReloadState::Refused => tracing::warn!(id, why, detail, "a reload is refused"),
                ReloadState::Requested | ReloadState::Running | ReloadState::Paused | ReloadState::Cancelled => {
                    tracing::info!(id, state, why, rows, "reload");
                }
                ReloadState::Done => tracing::info!(id, state, rows, "reload"),
            }
        }
        self.told.retain(|id, _| reloads.iter().any(|reload| reload.id == *id));
    }
}
