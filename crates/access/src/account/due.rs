//! What becomes of rows at their deadlines.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::account::deadlines::Due;
use crate::account::indexes::Stored;
use crate::account::state::AccountState;
use crate::account::touched::Touched;
use crate::rows::Micros;

impl AccountState {
    /// What may differ from a deadline on.
    pub(crate) fn reach_due(&mut self, due: Due, now: Micros, touched: &mut Touched) {
        match due {
            Due::Token(id) => {
                touched.tokens.insert(id);
                if let Some(flows) = self.tokens.links(id) {
                    self.reach_flows(flows, touched);
                }
            }
            Due::Flow(id) => {
                if let Some(flow) = self.flows.row(id) {
                    flow.touch(id, touched);
                }
            }
            Due::Unconfirmed(id) => {
                self.remove_announced(id, touched);
            }
            Due::Policy(id) => self.reach_policy_at(id, now, touched),
            Due::Grace => {}
        }
    }

    /// A policy's window ended or began. Where it gives what it gave before, nobody is concerned.
    fn reach_policy_at(&mut self, id: Uuid, now: Micros, touched: &mut Touched) {
        let Some(held) = self.policies.held_mut(id) else { return };
        let differs = held.row.look_at_time(now);
        let deadline = held.row.deadline();
        self.deadlines.add(deadline, Due::Policy(id));
        if let Some(policy) = self.policies.row(id).filter(|_| differs) {
            policy.reach(id, self, touched);
        }
    }

    /// Policies that came, and whose windows were not looked at yet.
    pub(crate) fn look_at_policies(&mut self, ids: &BTreeSet<Uuid>, now: Micros) {
        for id in ids {
            let Some(held) = self.policies.held_mut(*id) else { continue };
            let before = held.row.deadline();
            held.row.look_at_time(now);
            let deadline = held.row.deadline();
            self.deadlines.remove(before, Due::Policy(*id));
            self.deadlines.add(deadline, Due::Policy(*id));
        }
    }
}
