//! Which rows are found from which, and what a row's change may change for somebody.
//!
//! ```text
//! provider ◀ identity ◀ client ▶ actor ◀ membership ▶ group ◀ policy ▶ resource ◀ connection ▶ gateway group ◀ gateway
//!                          ▲ flow names client, token, membership, policy, resource and gateway
//! ```
//!
//! Every arrow can be walked both ways. `reach` walks from a row to the channels it matters to: never further than the
//! rows that it concerns, so that a change costs in proportion to those.

use std::collections::BTreeSet;

use penstock_wire::position::Position;
use uuid::Uuid;

use crate::account::deadlines::{Due, after};
use crate::account::entries::{AddressSince, ClientEntry, GatewayEntry, PolicyEntry, ResourceEntry};
use crate::account::flows::{FlowEntry, Origin};
use crate::account::nodes::{Links, Nodes};
use crate::account::rendered::Rendered;
use crate::account::snapshot::History;
use crate::account::state::AccountState;
use crate::account::touched::Touched;
use crate::rows::{
    AccountRow, ActorGroupRow, ActorRow, AuthIdentityRow, AuthProviderRow, FlowRow, GatewayGroupRow, MembershipRow,
    Row, TokenRow, last_second,
};

/// A set of ids of one table.
pub(crate) type Ids = BTreeSet<Uuid>;

/// (client, resource, flow): a gateway's flows in the order of their pairs, so that a pair's flows stand together.
pub(crate) type PairFlow = (Uuid, Uuid, Uuid);

#[derive(Debug, Default)]
pub(crate) struct ActorLinks {
    /// (group, membership), in order.
    pub(crate) memberships: Vec<(Uuid, Uuid)>,
    pub(crate) clients: Ids,
}

#[derive(Debug, Default)]
pub(crate) struct GroupLinks {
    /// (actor, membership).
    pub(crate) members: BTreeSet<(Uuid, Uuid)>,
    pub(crate) policies: Ids,
}

#[derive(Debug, Default)]
pub(crate) struct GatewayGroupLinks {
    pub(crate) gateways: Ids,
    /// Connected resources.
    pub(crate) resources: Ids,
}

#[derive(Debug, Default)]
pub(crate) struct ResourceLinks {
    /// Connected gateway groups, each with the position of the connection's row, in id order.
    pub(crate) sites: Vec<(Uuid, Position)>,
    /// In id order.
    pub(crate) policies: Vec<Uuid>,
    pub(crate) flows: Ids,
    /// Made when it is first asked for; dropped when the row, a connection or a gateway group changes.
    pub(crate) rendered: Rendered,
}

impl Links for ActorLinks {
    fn is_empty(&self) -> bool {
        self.memberships.is_empty() && self.clients.is_empty()
    }
}

impl Links for GroupLinks {
    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.policies.is_empty()
    }
}

impl Links for GatewayGroupLinks {
    fn is_empty(&self) -> bool {
        self.gateways.is_empty() && self.resources.is_empty()
    }
}

impl Links for ResourceLinks {
    fn is_empty(&self) -> bool {
        self.sites.is_empty() && self.policies.is_empty() && self.flows.is_empty()
    }
}

/// A row of the tables whose key is one id.
pub(crate) trait Stored: Sized {
    type Links: Links;

    fn nodes(state: &AccountState) -> &Nodes<Self, Self::Links>;
    fn nodes_mut(state: &mut AccountState) -> &mut Nodes<Self, Self::Links>;

    /// Whether nothing that decisions read differs.
    fn same(&self, other: &Self) -> bool;

    /// The row, and what of its history it does not tell. None: there is no row yet.
    fn told(&self) -> Option<(Row, History)>;

    /// Makes the row findable from the rows it names.
    fn link(&self, id: Uuid, state: &mut AccountState);

    /// Undoes `link`.
    fn unlink(&self, id: Uuid, state: &mut AccountState);

    /// Collects what may be different with and without this row.
    fn reach(&self, id: Uuid, state: &AccountState, touched: &mut Touched);
}

/// Adds to a small sorted list, or takes from it. There are many such lists, and they are not to hold more than they have.
fn insert_sorted<T: Ord>(list: &mut Vec<T>, item: T) {
    if let Err(at) = list.binary_search(&item) {
        list.reserve_exact(1);
        list.insert(at, item);
    }
}

fn remove_sorted<T: Ord>(list: &mut Vec<T>, item: &T) {
    if let Ok(at) = list.binary_search(item) {
        list.remove(at);
    }
}

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

    fn reach_clients_of(&self, actor: Uuid, resource: Uuid, touched: &mut Touched) {
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

    fn reach_clients_of_identities(&self, identity: Uuid, touched: &mut Touched) {
        for client in self.auth_identities.links(identity).into_iter().flatten() {
            self.reach_client(*client, touched);
        }
    }
}

/// The nodes of a table: its field of the state, and the type of its links.
macro_rules! nodes {
    ($field:ident, $links:ty) => {
        type Links = $links;

        fn nodes(state: &AccountState) -> &Nodes<Self, $links> {
            &state.$field
        }

        fn nodes_mut(state: &mut AccountState) -> &mut Nodes<Self, $links> {
            &mut state.$field
        }
    };
}

impl Stored for AccountRow {
    nodes!(accounts, ());

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn told(&self) -> Option<(Row, History)> {
        Some((Row::Account(self.clone()), History::None))
    }

    fn link(&self, _: Uuid, _: &mut AccountState) {}

    fn unlink(&self, _: Uuid, _: &mut AccountState) {}

    fn reach(&self, _: Uuid, _: &AccountState, touched: &mut Touched) {
        touched.account = true;
    }
}

impl Stored for ActorRow {
    nodes!(actors, ActorLinks);

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn told(&self) -> Option<(Row, History)> {
        Some((Row::Actor(self.clone()), History::None))
    }

    fn link(&self, _: Uuid, _: &mut AccountState) {}

    fn unlink(&self, _: Uuid, _: &mut AccountState) {}

    fn reach(&self, id: Uuid, state: &AccountState, touched: &mut Touched) {
        for client in state.actors.links(id).iter().flat_map(|links| &links.clients) {
            state.reach_client(*client, touched);
        }
    }
}

impl Stored for ActorGroupRow {
    nodes!(actor_groups, GroupLinks);

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn told(&self) -> Option<(Row, History)> {
        Some((Row::ActorGroup(self.clone()), History::None))
    }

    fn link(&self, _: Uuid, _: &mut AccountState) {}

    fn unlink(&self, _: Uuid, _: &mut AccountState) {}

    fn reach(&self, id: Uuid, state: &AccountState, touched: &mut Touched) {
        for policy in state.actor_groups.links(id).iter().flat_map(|links| &links.policies) {
            touched.entries += 1;
            if let Some(entry) = state.policies.row(*policy) {
                entry.reach(*policy, state, touched);
            }
        }
    }
}

impl Stored for MembershipRow {
    nodes!(memberships, Ids);

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn told(&self) -> Option<(Row, History)> {
        Some((Row::Membership(self.clone()), History::None))
    }

    fn link(&self, id: Uuid, state: &mut AccountState) {
        state.actors.change_links(self.actor, |links| insert_sorted(&mut links.memberships, (self.group, id)));
        state.actor_groups.change_links(self.group, |links| {
            links.members.insert((self.actor, id));
        });
    }

    fn unlink(&self, id: Uuid, state: &mut AccountState) {
        state.actors.change_links(self.actor, |links| remove_sorted(&mut links.memberships, &(self.group, id)));
        state.actor_groups.change_links(self.group, |links| {
            links.members.remove(&(self.actor, id));
        });
    }

    fn reach(&self, id: Uuid, state: &AccountState, touched: &mut Touched) {
        touched.entries += 2;
        if touched.wants_clients() {
            for policy in state.actor_groups.links(self.group).iter().flat_map(|links| &links.policies) {
                touched.entries += 1;
                if let Some(policy) = state.policies.row(*policy) {
                    state.reach_clients_of(self.actor, policy.row.resource, touched);
                }
            }
        }
        if let Some(flows) = state.memberships.links(id) {
            state.reach_flows(flows, touched);
        }
    }
}

impl Stored for AuthProviderRow {
    nodes!(auth_providers, Ids);

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn told(&self) -> Option<(Row, History)> {
        Some((Row::AuthProvider(self.clone()), History::None))
    }

    fn link(&self, _: Uuid, _: &mut AccountState) {}

    fn unlink(&self, _: Uuid, _: &mut AccountState) {}

    fn reach(&self, id: Uuid, state: &AccountState, touched: &mut Touched) {
        for identity in state.auth_providers.links(id).into_iter().flatten() {
            touched.entries += 1;
            state.reach_clients_of_identities(*identity, touched);
        }
    }
}

impl Stored for AuthIdentityRow {
    nodes!(auth_identities, Ids);

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn told(&self) -> Option<(Row, History)> {
        Some((Row::AuthIdentity(self.clone()), History::None))
    }

    fn link(&self, id: Uuid, state: &mut AccountState) {
        state.auth_providers.change_links(self.provider, |identities| {
            identities.insert(id);
        });
    }

    fn unlink(&self, id: Uuid, state: &mut AccountState) {
        state.auth_providers.change_links(self.provider, |identities| {
            identities.remove(&id);
        });
    }

    fn reach(&self, id: Uuid, state: &AccountState, touched: &mut Touched) {
        state.reach_clients_of_identities(id, touched);
    }
}

impl Stored for TokenRow {
    nodes!(tokens, Ids);

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn told(&self) -> Option<(Row, History)> {
        Some((Row::Token(self.clone()), History::None))
    }

    fn link(&self, id: Uuid, state: &mut AccountState) {
        state.deadlines.add(after(last_second(self.expires_at)), Due::Token(id));
    }

    fn unlink(&self, id: Uuid, state: &mut AccountState) {
        state.deadlines.remove(after(last_second(self.expires_at)), Due::Token(id));
    }

    fn reach(&self, id: Uuid, state: &AccountState, touched: &mut Touched) {
        touched.tokens.insert(id);
        if let Some(flows) = state.tokens.links(id) {
            state.reach_flows(flows, touched);
        }
    }
}

impl Stored for ClientEntry {
    nodes!(clients, Ids);

    fn same(&self, other: &Self) -> bool {
        self.row == other.row
    }

    fn told(&self) -> Option<(Row, History)> {
        Some((Row::Client(self.row.clone()), History::None))
    }

    fn link(&self, id: Uuid, state: &mut AccountState) {
        state.actors.change_links(self.row.actor, |links| {
            links.clients.insert(id);
        });
        if let Some(identity) = self.row.identity {
            state.auth_identities.change_links(identity, |clients| {
                clients.insert(id);
            });
        }
    }

    fn unlink(&self, id: Uuid, state: &mut AccountState) {
        state.actors.change_links(self.row.actor, |links| {
            links.clients.remove(&id);
        });
        if let Some(identity) = self.row.identity {
            state.auth_identities.change_links(identity, |clients| {
                clients.remove(&id);
            });
        }
    }

    fn reach(&self, id: Uuid, state: &AccountState, touched: &mut Touched) {
        state.reach_client(id, touched);
    }
}

impl Stored for GatewayGroupRow {
    nodes!(gateway_groups, GatewayGroupLinks);

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn told(&self) -> Option<(Row, History)> {
        Some((Row::GatewayGroup(self.clone()), History::None))
    }

    // Resources are rendered with the group's name.
    fn link(&self, id: Uuid, state: &mut AccountState) {
        state.forget_rendered(id);
    }

    fn unlink(&self, id: Uuid, state: &mut AccountState) {
        state.forget_rendered(id);
    }

    fn reach(&self, id: Uuid, state: &AccountState, touched: &mut Touched) {
        let Some(links) = state.gateway_groups.links(id) else { return };
        for resource in &links.resources {
            touched.entries += 1;
            state.reach_resource(*resource, touched);
        }
        for gateway in &links.gateways {
            touched.entries += 1;
            state.reach_gateway(*gateway, touched);
        }
    }
}

impl Stored for GatewayEntry {
    nodes!(gateways, BTreeSet<PairFlow>);

    fn same(&self, other: &Self) -> bool {
        self.row == other.row
    }

    fn told(&self) -> Option<(Row, History)> {
        Some((Row::Gateway(self.row.clone()), History::None))
    }

    fn link(&self, id: Uuid, state: &mut AccountState) {
        state.gateway_groups.change_links(self.row.group, |links| {
            links.gateways.insert(id);
        });
    }

    fn unlink(&self, id: Uuid, state: &mut AccountState) {
        state.gateway_groups.change_links(self.row.group, |links| {
            links.gateways.remove(&id);
        });
    }

    fn reach(&self, id: Uuid, state: &AccountState, touched: &mut Touched) {
        state.reach_gateway(id, touched);
    }
}

impl Stored for ResourceEntry {
    nodes!(resources, ResourceLinks);

    fn same(&self, other: &Self) -> bool {
        self.row == other.row && self.address_since == other.address_since
    }

    fn told(&self) -> Option<(Row, History)> {
        let AddressSince { position, loaded } = self.address_since;
        Some((Row::Resource(self.row.clone()), History::Resource { address_since: position, loaded }))
    }

    fn link(&self, id: Uuid, state: &mut AccountState) {
        state.resources.change_links(id, |links| links.rendered = Rendered::default());
    }

    fn unlink(&self, id: Uuid, state: &mut AccountState) {
        state.resources.change_links(id, |links| links.rendered = Rendered::default());
    }

    fn reach(&self, id: Uuid, state: &AccountState, touched: &mut Touched) {
        state.reach_resource_and_flows(id, touched);
    }
}

impl Stored for PolicyEntry {
    nodes!(policies, Ids);

    fn same(&self, other: &Self) -> bool {
        self.row == other.row
    }

    fn told(&self) -> Option<(Row, History)> {
        Some((Row::Policy(self.row.clone()), History::None))
    }

    fn link(&self, id: Uuid, state: &mut AccountState) {
        state.actor_groups.change_links(self.row.group, |links| {
            links.policies.insert(id);
        });
        state.resources.change_links(self.row.resource, |links| insert_sorted(&mut links.policies, id));
        state.deadlines.add(self.deadline(), Due::Policy(id));
    }

    fn unlink(&self, id: Uuid, state: &mut AccountState) {
        state.actor_groups.change_links(self.row.group, |links| {
            links.policies.remove(&id);
        });
        state.resources.change_links(self.row.resource, |links| remove_sorted(&mut links.policies, &id));
        state.deadlines.remove(self.deadline(), Due::Policy(id));
    }

    fn reach(&self, id: Uuid, state: &AccountState, touched: &mut Touched) {
        state.reach_members(self.row.group, self.row.resource, touched);
        if let Some(flows) = state.policies.links(id) {
            state.reach_flows(flows, touched);
        }
    }
}

impl Stored for FlowEntry {
    nodes!(flows, ());

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn told(&self) -> Option<(Row, History)> {
        Some((Row::Flow(self.row.clone()), History::Flow(self.history()?)))
    }

    fn link(&self, id: Uuid, state: &mut AccountState) {
        change_flow_links(&self.row, state, |flows| {
            flows.insert(id);
        });
        state.gateways.change_links(self.row.gateway, |flows| {
            flows.insert((self.row.client, self.row.resource, id));
        });
        state.deadlines.add(after(last_second(self.row.expires_at)), Due::Flow(id));
        if let Origin::Announced { until } = self.origin {
            state.deadlines.add(Some(until), Due::Unconfirmed(id));
            state.announced.insert(id);
        }
    }

    fn unlink(&self, id: Uuid, state: &mut AccountState) {
        change_flow_links(&self.row, state, |flows| {
            flows.remove(&id);
        });
        state.gateways.change_links(self.row.gateway, |flows| {
            flows.remove(&(self.row.client, self.row.resource, id));
        });
        state.deadlines.remove(after(last_second(self.row.expires_at)), Due::Flow(id));
        if let Origin::Announced { until } = self.origin {
            state.deadlines.remove(Some(until), Due::Unconfirmed(id));
            state.announced.remove(&id);
        }
    }

    fn reach(&self, id: Uuid, _: &AccountState, touched: &mut Touched) {
        self.touch(id, touched);
    }
}

/// The links of all rows that a flow names, but of its gateway, which are pairs.
fn change_flow_links(row: &FlowRow, state: &mut AccountState, change: impl Fn(&mut Ids)) {
    state.clients.change_links(row.client, &change);
    state.tokens.change_links(row.token, &change);
    state.memberships.change_links(row.membership, &change);
    state.policies.change_links(row.policy, &change);
    state.resources.change_links(row.resource, |links| change(&mut links.flows));
}
