//! An account as `show --json` prints it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use crate::access::View;
use crate::account::Account;
use crate::account::state::AccountState;
use crate::channel::push::JsonPosition;
use crate::rows::{Micros, Table};

/// Who may reach what now, whatever is known of how fresh it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Show {
    pub account: Arc<str>,
    /// Unix seconds; None: nothing was ever known.
    pub as_of: Option<i64>,
    pub position: JsonPosition,
    /// Live ones, in id order.
    pub clients: Vec<ShownClient>,
    /// Live ones, in id order.
    pub gateways: Vec<ShownGateway>,
    /// How many rows each table has.
    pub tables: BTreeMap<&'static str, usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownClient {
    pub id: Uuid,
    /// In id order, whatever the client's version can be shown.
    pub allowed: Vec<Uuid>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownGateway {
    pub id: Uuid,
    /// By (client, resource).
    pub authorized: Vec<ShownPair>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownPair {
    pub client_id: Uuid,
    pub resource_id: Uuid,
    /// Unix seconds; None: for ever.
    pub expires_at: Option<i64>,
    /// Live and announced flows, in id order.
    pub flow_ids: Vec<Uuid>,
}

impl Account {
    /// The account as it stands at `now`.
    pub fn show(&self, now: Micros) -> Show {
        let view = self.view(self.clock.max(now));
        let clients = self.state.clients.in_order().into_iter().filter(|(_, held)| held.row.row.live);
        let gateways = self.state.gateways.in_order().into_iter().filter(|(_, held)| held.row.row.live);
        Show {
            account: self.id.clone(),
            as_of: self.standing.as_of(),
            position: self.state.position.into(),
            clients: clients.map(|(id, _)| ShownClient { id, allowed: allowed(&view, id) }).collect(),
            gateways: gateways.map(|(id, _)| ShownGateway { id, authorized: authorized(&view, id) }).collect(),
            tables: TABLES.iter().map(|(table, name)| (*name, self.state.count(*table))).collect(),
        }
    }
}

impl Account {
    /// What resources are called, live or not.
    pub fn resource_names(&self) -> BTreeMap<Uuid, Arc<str>> {
        let all = self.state.resources.in_order().into_iter();
        all.map(|(id, held)| (id, Arc::clone(&held.row.row.name))).collect()
    }
}

fn allowed(view: &View<'_>, client: Uuid) -> Vec<Uuid> {
    view.asker(client).map_or(Vec::new(), |asker| view.allowed(&asker).into_iter().collect())
}

fn authorized(view: &View<'_>, gateway: Uuid) -> Vec<ShownPair> {
    let mut pairs: Vec<ShownPair> = Vec::new();
    for (client_id, resource_id, flow) in view.state.gateways.links(gateway).into_iter().flatten() {
        if view.state.flows.row(*flow).is_none_or(|flow| view.live_until(flow).is_none()) {
            continue;
        }
        match pairs.last_mut() {
            Some(pair) if (pair.client_id, pair.resource_id) == (*client_id, *resource_id) => pair.flow_ids.push(*flow),
            Some(_) | None => pairs.push(ShownPair {
                client_id: *client_id,
                resource_id: *resource_id,
                expires_at: view.authorized_until(gateway, *client_id, *resource_id).flatten(),
                flow_ids: vec![*flow],
            }),
        }
    }
    pairs
}

/// Tables by the names that the access domain knows them by.
const TABLES: [(Table, &str); 14] = [
    (Table::Accounts, "accounts"),
    (Table::Actors, "actors"),
    (Table::ActorGroups, "actor_groups"),
    (Table::ActorGroupMemberships, "actor_group_memberships"),
    (Table::AuthProviders, "auth_providers"),
    (Table::AuthIdentities, "auth_identities"),
    (Table::Tokens, "tokens"),
    (Table::Clients, "clients"),
    (Table::GatewayGroups, "gateway_groups"),
    (Table::Gateways, "gateways"),
    (Table::Resources, "resources"),
    (Table::ResourceConnections, "resource_connections"),
    (Table::Policies, "policies"),
    (Table::Flows, "flows"),
];

impl AccountState {
    fn count(&self, table: Table) -> usize {
        match table {
            Table::Accounts => self.accounts.len(),
            Table::Actors => self.actors.len(),
            Table::ActorGroups => self.actor_groups.len(),
            Table::ActorGroupMemberships => self.memberships.len(),
            Table::AuthProviders => self.auth_providers.len(),
            Table::AuthIdentities => self.auth_identities.len(),
            Table::Tokens => self.tokens.len(),
            Table::Clients => self.clients.len(),
            Table::GatewayGroups => self.gateway_groups.len(),
            Table::Gateways => self.gateways.len(),
            Table::Resources => self.resources.len(),
            Table::ResourceConnections => self.connections,
            Table::Policies => self.policies.len(),
            Table::Flows => self.flows.len() - self.announced.len(),
        }
    }
}
