//! Authorising a flow: a question about the state, answered in memory.
//!
//! Answers are `Ok` only where every rule was found to hold. What is not known is `Unavailable`, and that comes first.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use crate::access::{Asker, Connectable, View, earlier};
use crate::account::entries::GatewayEntry;
use crate::account::links::PairFlow;
use crate::knowledge::Reason;
use crate::rows::{FlowRow, Micros, last_second};
use crate::version;

/// Who wants to reach what.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub client: Uuid,
    /// The token that the client's channel was opened with.
    pub token: Uuid,
    pub resource: Uuid,
    /// Gateways with an open channel, in any order.
    pub online: &'a [Uuid],
    /// The id that the flow gets if it is authorised. Fresh: one that was never used.
    pub flow: Uuid,
}

/// `authorize --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Answer {
    Ok {
        flow: NewFlow,
    },
    /// No policy gives it. The properties are those that deny, by policy and condition, each once.
    Forbidden {
        violated_properties: Vec<Arc<str>>,
    },
    /// The client or the resource is unknown or not live, or the resource cannot be reached or shown to this client.
    NotFound,
    /// No online gateway is in a site of the resource.
    Offline,
    /// None of those speaks the client's version.
    VersionMismatch,
    Unavailable {
        reason: Reason,
    },
}

/// The row of an authorised flow, complete. Times are unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewFlow {
    pub id: Uuid,
    pub account_id: Arc<str>,
    pub policy_id: Uuid,
    pub client_id: Uuid,
    pub gateway_id: Uuid,
    pub resource_id: Uuid,
    pub token_id: Uuid,
    pub actor_group_membership_id: Uuid,
    pub client_remote_ip: Option<IpAddr>,
    /// The last second in which the policy's conditions and the token hold; None: for ever.
    pub expires_at: Option<i64>,
    pub inserted_at: i64,
}

impl NewFlow {
    /// As the row that will come.
    pub(crate) fn row(&self) -> FlowRow {
        FlowRow {
            live: true,
            policy: self.policy_id,
            client: self.client_id,
            gateway: self.gateway_id,
            resource: self.resource_id,
            token: self.token_id,
            membership: self.actor_group_membership_id,
            expires_at: self.expires_at.map(Micros::from_seconds),
        }
    }
}

/// Answers from what the view shows; whether that may be trusted is the caller's to know.
pub(crate) fn authorize(view: &View<'_>, account: &Arc<str>, request: &Request<'_>) -> Answer {
    let forbidden = || Answer::Forbidden { violated_properties: Vec::new() };
    let Some(client) = view.state.clients.row(request.client).filter(|entry| entry.row.live) else {
        return Answer::NotFound;
    };
    let resource = view.state.connectable(request.resource).filter(|found| view.state.shows(*found, &client.version));
    let Some(resource) = resource else { return Answer::NotFound };
    let Some(asker) = view.asker_of(client) else { return forbidden() };
    let token = view.valid_token(request.token).filter(|token| token.actor == Some(client.row.actor));
    let Some(token) = token else { return forbidden() };
    let Some(grant) = view.best_grant(&asker, resource) else {
        return Answer::Forbidden { violated_properties: view.violated(&asker, resource) };
    };
    let gateway = match choose_gateway(view, &asker, request, resource) {
        Ok(gateway) => gateway,
        Err(NoGateway::Offline) => return Answer::Offline,
        Err(NoGateway::OtherVersions) => return Answer::VersionMismatch,
    };
    Answer::Ok {
        flow: NewFlow {
            id: request.flow,
            account_id: account.clone(),
            policy_id: grant.policy,
            client_id: request.client,
            gateway_id: gateway,
            resource_id: request.resource,
            token_id: request.token,
            actor_group_membership_id: grant.membership,
            client_remote_ip: client.row.remote_ip,
            expires_at: earlier(grant.until, last_second(token.expires_at)),
            inserted_at: view.now.seconds(),
        },
    }
}

/// The best of the gateways that are online, live and in a live site of the resource, and speak the client's version.
fn choose_gateway(
    view: &View<'_>,
    asker: &Asker<'_>,
    request: &Request<'_>,
    resource: Connectable<'_>,
) -> Result<Uuid, NoGateway> {
    let mut any = false;
    let mut best: Option<Candidate<'_>> = None;
    for id in request.online {
        let Some(node) = view.state.gateways.node(*id) else { continue };
        let serving = |entry: &&GatewayEntry| view.state.gateway_serves(entry, resource.links);
        let Some(gateway) = node.held.as_ref().map(|held| &held.row).filter(serving) else { continue };
        any = true;
        if !version::compatible(&asker.entry.version, &gateway.version) {
            continue;
        }
        let distance = asker.entry.place.apart(&gateway.place);
        let used = is_used(view, request.client, &node.links);
        let candidate = Candidate { id: *id, used, distance, gateway };
        let better = best.as_ref().is_none_or(|best| candidate.order(best) == Ordering::Less);
        best = if better { Some(candidate) } else { best };
    }
    match best {
        Some(candidate) => Ok(candidate.id),
        None if any => Err(NoGateway::OtherVersions),
        None => Err(NoGateway::Offline),
    }
}

enum NoGateway {
    Offline,
    OtherVersions,
}

struct Candidate<'a> {
    id: Uuid,
    used: bool,
    distance: f64,
    gateway: &'a GatewayEntry,
}

impl Candidate<'_> {
    /// Less is better.
    fn order(&self, other: &Self) -> Ordering {
        Reverse(self.used)
            .cmp(&Reverse(other.used))
            .then_with(|| self.distance.total_cmp(&other.distance))
            .then_with(|| other.gateway.version.cmp(&self.gateway.version))
            .then_with(|| self.id.cmp(&other.id))
    }
}

/// Whether one of a gateway's flows is the client's and live or announced, to whatever resource.
fn is_used(view: &View<'_>, client: Uuid, flows: &BTreeSet<PairFlow>) -> bool {
    if flows.is_empty() {
        return false;
    }
    let range = (client, Uuid::nil(), Uuid::nil())..=(client, Uuid::max(), Uuid::max());
    let mut entries = flows.range(range).filter_map(|(_, _, flow)| view.state.flows.row(*flow));
    entries.any(|flow| view.live_until(flow).is_some())
}
