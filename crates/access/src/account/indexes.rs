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

use uuid::Uuid;

use crate::account::deadlines::{Due, after};
use crate::account::entries::{AddressSince, ClientEntry, GatewayEntry, PolicyEntry, ResourceEntry};
use crate::account::links::{
    ActorLinks, GatewayGroupLinks, GroupLinks, Ids, PairFlow, ResourceLinks, insert_sorted, remove_sorted,
};
use crate::account::nodes::{Links, Nodes};
use crate::account::rendered::Rendered;
use crate::account::snapshot::History;
use crate::account::state::AccountState;
use crate::account::touched::Touched;
use crate::rows::{
    AccountRow, ActorGroupRow, ActorRow, AuthIdentityRow, AuthProviderRow, GatewayGroupRow, MembershipRow, Row,
    TokenRow, last_second,
};

/// A row of the tables whose key is one id.
pub(crate) trait Stored: Sized {
    type Links: Links;

    fn nodes(state: &AccountState) -> &Nodes<Self, Self::Links>;
    fn nodes_mut(state: &mut AccountState) -> &mut Nodes<Self, Self::Links>;

    /// Whether nothing that decisions read differs.
    fn same(&self, other: &Self) -> bool;

    /// The row, and what of its history it does not tell. None: there is no row yet.
    fn told(&self) -> Option<(Row, History)>;

    /// Makes the row findable from the rows it names, if it names any.
    fn link(&self, _id: Uuid, _state: &mut AccountState) {}

    /// Undoes `link`.
    fn unlink(&self, _id: Uuid, _state: &mut AccountState) {}

    /// Collects what may be different with and without this row.
    fn reach(&self, id: Uuid, state: &AccountState, touched: &mut Touched);
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

pub(crate) use nodes;

impl Stored for AccountRow {
    nodes!(accounts, ());

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn told(&self) -> Option<(Row, History)> {
        Some((Row::Account(self.clone()), History::None))
    }

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
