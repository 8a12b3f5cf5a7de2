//! Flows that are authorised before their rows come.

use uuid::Uuid;

use crate::account::Account;
use crate::account::knowledge::{self, Mode};
use crate::authorize::NewFlow;
use crate::limits::CONFIRM_LENIENCY_US;
use crate::rows::Micros;

impl Account {
    /// Authorises a flow on its gateway before its row comes. False, and nothing happens: the id is known already,
    /// nothing new may be granted now, or nothing grants it.
    pub fn announce(&mut self, flow: &NewFlow, now: Micros) -> bool {
        self.handle_time(now);
        if self.mode() != Mode::Granting || flow.account_id != self.id {
            return false;
        }
        let within_us = self.options.confirm_within_us.saturating_sub(CONFIRM_LENIENCY_US);
        let until = knowledge::second_at_or_after(Micros(self.clock.0.saturating_add(within_us)));
        let announced = self.state.announce(flow, until, &mut self.touched);
        self.compare_touched(self.clock, None);
        // What nothing grants has ended at once.
        announced && self.state.flows.row(flow.id).is_some()
    }

    /// Ends an announced flow whose row will not come. One whose row has come goes with that.
    pub fn withdraw(&mut self, flow: Uuid, now: Micros) {
        self.handle_time(now);
        self.state.forget_announced(flow);
        self.state.remove_announced(flow, &mut self.touched);
        self.compare_touched(self.clock, None);
    }

    /// Announced flows that have lost what gave them are over.
    pub(super) fn end_announced(&mut self, now: Micros) {
        let ids = if self.touched.everything { &self.state.announced } else { &self.touched.announced };
        let view = self.view(now);
        let is_live = |id: &&Uuid| self.state.flows.row(**id).is_some_and(|flow| view.live_until(flow).is_some());
        let over: Vec<Uuid> = ids.iter().filter(|id| !is_live(id)).copied().collect();
        for id in over {
            self.state.remove_announced(id, &mut self.touched);
        }
    }
}
