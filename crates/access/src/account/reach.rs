//! Walks from a row to whom its change may concern: never further than the rows that it concerns, so that a change costs in
//! proportion to those.

use uuid::Uuid;

use crate::account::links::Ids;
use crate::account::state::AccountState;
use crate::account::touched::Touched;

impl AccountState {
    /// Everything that concerns a client: its own channels, and its pairs on gateways.
    pub(crate) fn reach_client(&self, client: Uuid, touched: &mut Touched) {
        touched.entries += 1;
        touched.client(client);
        if let Some(flows) = self.clients.links(client) {
            self.reach_flows(flows, touched);
        }
    }

    /// The pairs of some flows.
    pub(crate) fn reach_flows(&self, flows: &Ids, touched: &mut Touched) {
        if !touched.wants_pairs() && self.announced.is_empty() {
            return;
        }
        for id in flows {
            touched.entries += 1;
            if let Some(flow) = self.flows.row(*id) {
                flow.touch(*id, touched);
            }
        }
    }

    /// One resource in the channels of all clients that a group's members have.
    pub(crate) fn reach_members(&self, group: Uuid, resource: Uuid, touched: &mut Touched) {
        let Some(links) = self.actor_groups.links(group).filter(|_| touched.wants_clients()) else { return };
        for (actor, _) in &links.members {
            touched.entries += 1;
            self.reach_clients_of(*actor, resource, touched);
        }
    }

    pub(crate) fn reach_clients_of(&self, actor: Uuid, resource: Uuid, touched: &mut Touched) {
        for client in self.actors.links(actor).iter().flat_map(|links| &links.clients) {
            touched.entries += 1;
            touched.client_resource(*client, resource);
        }
    }

    /// One resource in the channels of all clients that some policy may give it to.
    pub(crate) fn reach_resource(&self, resource: Uuid, touched: &mut Touched) {
        if !touched.wants_clients() {
            return;
        }
        for policy in self.resources.links(resource).iter().flat_map(|links| &links.policies) {
            touched.entries += 1;
            if let Some(policy) = self.policies.row(*policy) {
                self.reach_members(policy.row.group, resource, touched);
            }
        }
    }

    /// A resource in clients' channels and in pairs.
    pub(crate) fn reach_resource_and_flows(&self, resource: Uuid, touched: &mut Touched) {
        self.reach_resource(resource, touched);
        if let Some(links) = self.resources.links(resource) {
            self.reach_flows(&links.flows, touched);
        }
    }

    /// All of a gateway's channels, and its announced flows.
    pub(crate) fn reach_gateway(&self, gateway: Uuid, touched: &mut Touched) {
        touched.entries += 1;
        touched.gateway(gateway);
        if self.announced.is_empty() {
            return;
        }
        for (_, _, flow) in self.gateways.links(gateway).into_iter().flatten() {
            touched.entries += 1;
            if self.announced.contains(flow) {
                touched.announced.insert(*flow);
            }
        }
    }

    pub(crate) fn reach_clients_of_identities(&self, identity: Uuid, touched: &mut Touched) {
        for client in self.auth_identities.links(identity).into_iter().flatten() {
            self.reach_client(*client, touched);
        }
    }
}
