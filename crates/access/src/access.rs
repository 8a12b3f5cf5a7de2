//! Who may reach what: the rules over an account's rows, at an instant.
//!
//! Everything here is a question about one state at one `now`; nothing is remembered. Whatever is missing denies.
//!
//! Seconds: something that expires at second `e` is there while `floor(now) <= e`. `None` as an expiry is for ever.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use crate::account::entries::{ClientEntry, GatewayEntry, PolicyEntry};
use crate::account::flows::{FlowEntry, Origin};
use crate::account::links::ResourceLinks;
use crate::account::state::AccountState;
use crate::conditions::{self, Facts};
use crate::rows::{Micros, ResourceRow, TokenRow, last_second};

/// An account's rows at an instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) state: &'a AccountState,
    pub(crate) rules: &'a conditions::Options,
    /// The id of the account's own row.
    pub(crate) own: Option<Uuid>,
    pub(crate) now: Micros,
}

/// A client that may ask at all, with what its policies are judged by.
#[derive(Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) entry: &'a ClientEntry,
    /// (group, membership) of its actor, in order.
    memberships: &'a [(Uuid, Uuid)],
    facts: Facts<'a>,
}

/// A resource that can be reached by whoever is granted it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connectable<'a> {
    pub(crate) id: Uuid,
    pub(crate) row: &'a ResourceRow,
    pub(crate) links: &'a ResourceLinks,
}

/// A policy that gives a resource to a client now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) policy: Uuid,
    pub(crate) membership: Uuid,
    /// The last second in which its conditions hold, if nothing but time changes.
    pub(crate) until: Option<i64>,
}

/// The earlier of two expiries.
pub(crate) fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The later of two expiries.
pub(crate) fn later(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    Some(one?.max(other?))
}

impl AccountState {
    /// The live gateway groups that a resource is connected to, in id order.
    pub(crate) fn live_sites<'a>(&'a self, links: &'a ResourceLinks) -> impl Iterator<Item = Uuid> + 'a {
        links.sites.iter().map(|(group, _)| *group).filter(|group| self.group_of_gateways_is_live(*group))
    }

    fn group_of_gateways_is_live(&self, group: Uuid) -> bool {
        self.gateway_groups.row(group).is_some_and(|group| group.live)
    }

    /// The resource, if it is live and connected to a live gateway group.
    pub(crate) fn connectable(&self, resource: Uuid) -> Option<Connectable<'_>> {
        let node = self.resources.node(resource)?;
        let row = &node.held.as_ref().filter(|held| held.row.row.live)?.row.row;
        self.live_sites(&node.links).next()?;
        Some(Connectable { id: resource, row, links: &node.links })
    }

    /// The gateway is live, its group too, and that is connected to the resource.
    #[inline]
    pub(crate) fn gateway_serves(&self, gateway: &GatewayEntry, links: &ResourceLinks) -> bool {
        let group = gateway.row.group;
        gateway.row.live
            && links.sites.binary_search_by_key(&group, |(site, _)| *site).is_ok()
            && self.group_of_gateways_is_live(group)
    }
}

impl<'a> View<'a> {
    /// Whether something that expires then is over.
    pub(crate) fn expired(&self, expires_at: Option<i64>) -> bool {
        expires_at.is_some_and(|last| self.now.seconds() > last)
    }

    /// The account's own row is live.
    pub(crate) fn account_is_live(&self) -> bool {
        self.own.and_then(|own| self.state.accounts.row(own)).is_some_and(|account| account.live)
    }

    /// A token that is live and has not expired.
    pub(crate) fn valid_token(&self, id: Uuid) -> Option<&'a TokenRow> {
        let token = self.state.tokens.row(id).filter(|token| token.live)?;
        (!self.expired(last_second(token.expires_at))).then_some(token)
    }

    /// The client, if it, its actor and the account are live.
    pub(crate) fn asker(&self, client: Uuid) -> Option<Asker<'a>> {
        self.asker_of(self.state.clients.row(client)?)
    }

    /// The same for a client's row.
    pub(crate) fn asker_of(&self, entry: &'a ClientEntry) -> Option<Asker<'a>> {
        let actor = self.state.actors.node(entry.row.actor)?;
        let actor_is_live = actor.held.as_ref().is_some_and(|held| held.row.live);
        (entry.row.live && actor_is_live && self.account_is_live()).then(|| Asker {
            entry,
            memberships: &actor.links.memberships,
            facts: self.facts(entry),
        })
    }

    fn facts(&self, entry: &'a ClientEntry) -> Facts<'a> {
        let row = &entry.row;
        Facts {
            region: row.region.as_deref(),
            remote_ip: row.remote_ip,
            provider: row.identity.and_then(|identity| self.live_provider(identity)),
            verified: row.verified,
        }
    }

    fn live_provider(&self, identity: Uuid) -> Option<Uuid> {
        let identity = self.state.auth_identities.row(identity).filter(|identity| identity.live)?;
        self.state.auth_providers.row(identity.provider).filter(|provider| provider.live)?;
        Some(identity.provider)
    }

    /// By which membership the client's actor is in the policy's group, if that is live.
    #[inline]
    fn reached_by(&self, asker: &Asker<'_>, policy: &PolicyEntry) -> Option<Uuid> {
        let membership = asker.membership(policy.row.group)?;
        self.state.actor_groups.row(policy.row.group).filter(|group| group.live)?;
        Some(membership)
    }

    /// What one policy gives, whatever its resource.
    fn grant(&self, asker: &Asker<'_>, policy: Uuid) -> Option<Grant> {
        self.grant_if(asker, policy, |_| true)
    }

    /// The same, if it would last for as long as is wanted: by time alone that is known before all else.
    #[inline]
    fn grant_if(&self, asker: &Asker<'_>, policy: Uuid, wanted: impl Fn(Option<i64>) -> bool) -> Option<Grant> {
        let entry = self.state.policies.row(policy).filter(|entry| entry.row.live)?;
        let until = entry.open_until(self.now).filter(|until| wanted(*until))?;
        let membership = self.reached_by(asker, entry)?;
        entry.holds(&asker.facts, self.rules).then_some(Grant { policy, membership, until })
    }

    /// The granting policy whose conditions hold longest; of equals, the one with the lowest id.
    pub(crate) fn best_grant(&self, asker: &Asker<'_>, resource: Connectable<'_>) -> Option<Grant> {
        let mut best: Option<Grant> = None;
        for policy in &resource.links.policies {
            let longer = |until| best.is_none_or(|best| later(best.until, until) != best.until);
            best = self.grant_if(asker, *policy, longer).or(best);
        }
        best
    }

    /// The properties that deny, over the policies that reach the client, by policy id, each property once.
    pub(crate) fn violated(&self, asker: &Asker<'_>, resource: Connectable<'_>) -> Vec<Arc<str>> {
        let mut properties = Vec::new();
        for policy in &resource.links.policies {
            let live = self.state.policies.row(*policy).filter(|entry| entry.row.live);
            if let Some(entry) = live.filter(|entry| self.reached_by(asker, entry).is_some()) {
                entry.violated(&asker.facts, self.now, self.rules, &mut properties);
            }
        }
        properties
    }

    /// Connectable, and given by some policy.
    pub(crate) fn is_allowed(&self, asker: &Asker<'_>, resource: Uuid) -> bool {
        let policies = self.state.connectable(resource).map_or(&[][..], |resource| &resource.links.policies);
        policies.iter().any(|policy| self.grant(asker, *policy).is_some())
    }

    /// All resources that are allowed.
    pub(crate) fn allowed(&self, asker: &Asker<'_>) -> BTreeSet<Uuid> {
        let groups = asker.memberships.iter().map(|(group, _)| *group);
        let policies = groups.flat_map(|group| self.state.actor_groups.links(group)).flat_map(|links| &links.policies);
        let resources: BTreeSet<Uuid> =
            policies.filter_map(|policy| Some(self.state.policies.row(*policy)?.row.resource)).collect();
        resources.into_iter().filter(|resource| self.is_allowed(asker, *resource)).collect()
    }

    /// Until when a live flow is live: the earliest of its own, its policy's and its token's expiry. None: not live.
    pub(crate) fn live_until(&self, flow: &FlowEntry) -> Option<Option<i64>> {
        let row = &flow.row;
        let own = last_second(row.expires_at);
        let over = match flow.origin {
            Origin::Row { ended, .. } => ended,
            Origin::Announced { until } => self.now.seconds() >= until,
        };
        let resource = self.state.connectable(row.resource)?;
        let gateway = self.state.gateways.row(row.gateway)?;
        if over || !row.live || self.expired(own) || !self.state.gateway_serves(gateway, resource.links) {
            return None;
        }
        let token = self.valid_token(row.token)?;
        let asker = self.asker(row.client)?;
        let policy = &self.state.policies.row(row.policy)?.row;
        let membership = self.state.memberships.row(row.membership)?;
        if policy.resource != row.resource
            || membership.actor != asker.entry.row.actor
            || membership.group != policy.group
        {
            return None;
        }
        let grant = self.grant(&asker, row.policy)?;
        Some(earlier(own, earlier(grant.until, last_second(token.expires_at))))
    }

    /// The live and announced flows of a pair on a gateway, with the latest of their expiries. None: not authorised.
    pub(crate) fn authorized_until(&self, gateway: Uuid, client: Uuid, resource: Uuid) -> Option<Option<i64>> {
        let ids = self.state.gateways.links(gateway)?;
        let range = (client, resource, Uuid::nil())..=(client, resource, Uuid::max());
        let flows = ids.range(range).filter_map(|(_, _, flow)| self.state.flows.row(*flow));
        flows.filter_map(|flow| self.live_until(flow)).reduce(later)
    }
}

impl Asker<'_> {
    /// The membership of the client's actor in a group; of several the lowest.
    #[inline]
    fn membership(&self, group: Uuid) -> Option<Uuid> {
        let at = self.memberships.partition_point(|(other, _)| *other < group);
        self.memberships.get(at).filter(|(other, _)| *other == group).map(|(_, membership)| *membership)
    }
}
