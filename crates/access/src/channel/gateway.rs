//! A gateway's channel.
//!
//! Order within one difference, each by (client, resource): rejections, resources whose filters changed, expiries that
//! moved, authorisations. `init` and `disconnect` come instead of all that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use penstock_wire::position::Position;
use uuid::Uuid;

use crate::access::{View, later};
use crate::account::rendered::ForGateway;
use crate::account::touched::{Pair, Scope};
use crate::channel::filters::within;
use crate::channel::push::{Authorization, DisconnectReason, Peer, Push, ResourceForGateway};
use crate::channel::{Comparison, Told};
use crate::render::{self, GatewayInterface};

#[derive(Debug)]
pub(crate) struct GatewayChannel {
    pub(crate) gateway: Uuid,
    /// The token it was opened with; None: what the gateway last used when its `init` is made.
    pub(crate) token: Option<Uuid>,
    pub(crate) told: Told,
    /// None: waiting for `init`.
    sent: Option<Sent>,
    /// What was sent is void where it can be replaced, and revoked as ever where it cannot yet.
    start_over: bool,
}

#[derive(Debug)]
struct Sent {
    head: Head,
    pairs: BTreeMap<Pair, Authorized>,
}

/// What `init` says beside the pairs.
#[derive(Debug, PartialEq)]
struct Head {
    account_slug: Arc<str>,
    interface: GatewayInterface,
}

/// A pair as a gateway has it.
#[derive(Clone, Debug)]
struct Authorized {
    until: Option<i64>,
    peer: Arc<Peer>,
    resource: Arc<ForGateway>,
    /// Which address of the resource it was authorised for.
    address_since: Position,
}

/// Pushes of one difference by kind, each in the order of pairs; resources by id.
#[derive(Debug, Default)]
struct Difference {
    rejected: Vec<Push>,
    updated: BTreeMap<Uuid, Arc<ForGateway>>,
    moved: Vec<Push>,
    authorized: Vec<Push>,
}

impl GatewayChannel {
    pub(crate) fn new(gateway: Uuid, token: Option<Uuid>) -> Self {
        Self { gateway, token, told: Told::Fresh, sent: None, start_over: false }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.sent.is_none()
    }

    /// Everything before is void: `init` comes again when it may.
    pub(crate) fn start_over(&mut self) {
        self.start_over = true;
    }

    /// Pushes the difference to what was sent, and takes it as sent. A `disconnect` is the last.
    pub(crate) fn compare(&mut self, view: &View<'_>, scope: &Scope<Pair>, how: Comparison, out: &mut Vec<Push>) {
        if self.is_waiting() && how.hold {
            return;
        }
        let head = match self.head(view) {
            Ok(head) => head,
            Err(reason) => return out.push(Push::Disconnect { reason }),
        };
        let sent = self.sent.take();
        self.sent = Some(match sent {
            Some(sent) if how.hold || (!self.start_over && sent.head == head) => {
                self.difference(view, sent, scope, how, out)
            }
            Some(_) | None => {
                self.start_over = false;
                self.init(view, head, out)
            }
        });
    }

    /// Rejects every pair: nothing has been known for too long.
    pub(crate) fn reject_all(&mut self, now_seconds: i64, out: &mut Vec<Push>) {
        let Some(sent) = &mut self.sent else { return };
        for (pair, authorized) in std::mem::take(&mut sent.pairs) {
            if !authorized.has_lapsed(now_seconds) {
                out.push(reject(pair));
            }
        }
    }

    /// What stands above the pairs, if the channel may stay open.
    fn head(&mut self, view: &View<'_>) -> Result<Head, DisconnectReason> {
        let gateway = view.state.gateways.row(self.gateway).filter(|entry| entry.row.live);
        let account = view.own.and_then(|own| view.state.accounts.row(own)).filter(|account| account.live);
        let (Some(gateway), Some(account)) = (gateway, account) else { return Err(DisconnectReason::Revoked) };
        self.token = self.token.or(gateway.row.last_used_token);
        if self.token.and_then(|token| view.valid_token(token)).is_none() {
            return Err(DisconnectReason::TokenExpired);
        }
        Ok(Head { account_slug: account.slug.clone(), interface: render::gateway_interface(&gateway.row) })
    }

    fn init(&self, view: &View<'_>, head: Head, out: &mut Vec<Push>) -> Sent {
        let pairs: BTreeMap<Pair, Authorized> = all_pairs(view, self.gateway)
            .into_iter()
            .filter_map(|pair| Some((pair, authorized(view, self.gateway, pair)?)))
            .collect();
        out.push(Push::GatewayInit {
            account_slug: head.account_slug.clone(),
            interface: head.interface.clone(),
            authorizations: pairs.iter().map(|(pair, authorized)| authorized.authorization(*pair)).collect(),
        });
        Sent { head, pairs }
    }

    fn difference(
        &self,
        view: &View<'_>,
        mut sent: Sent,
        scope: &Scope<Pair>,
        how: Comparison,
        out: &mut Vec<Push>,
    ) -> Sent {
        let mut difference = Difference::default();
        let all = match scope {
            Scope::Some(_) => BTreeSet::new(),
            Scope::All => all_pairs(view, self.gateway).into_iter().chain(sent.pairs.keys().copied()).collect(),
        };
        let pairs = match scope {
            Scope::Some(pairs) => pairs,
            Scope::All => &all,
        };
        for pair in pairs {
            let new = authorized(view, self.gateway, *pair);
            let old = sent.pairs.remove(pair);
            let kept = step(*pair, old, new, how, view.now.seconds(), &mut difference);
            sent.pairs.extend(kept.map(|authorized| (*pair, authorized)));
        }
        difference.push_to(out);
        sent
    }
}

impl Authorized {
    /// The gateway has ended it by itself.
    fn has_lapsed(&self, now_seconds: i64) -> bool {
        self.until.is_some_and(|last| now_seconds > last)
    }

    fn authorization(&self, (client_id, resource_id): Pair) -> Authorization {
        Authorization { client_id, resource_id, expires_at: self.until }
    }

    fn flow(&self) -> Push {
        Push::AuthorizeFlow {
            client: Peer::clone(&self.peer),
            resource: ResourceForGateway(self.resource.clone()),
            expires_at: self.until,
        }
    }
}

impl Difference {
    fn push_to(mut self, out: &mut Vec<Push>) {
        out.append(&mut self.rejected);
        out.extend(self.updated.into_values().map(|resource| Push::ResourceUpdated(ResourceForGateway(resource))));
        out.append(&mut self.moved);
        out.append(&mut self.authorized);
    }
}

/// What the gateway holds of one pair afterwards.
fn step(
    pair: Pair,
    old: Option<Authorized>,
    new: Option<Authorized>,
    how: Comparison,
    now_seconds: i64,
    difference: &mut Difference,
) -> Option<Authorized> {
    let same_address = |old: &Authorized| new.as_ref().is_some_and(|new| old.address_since == new.address_since);
    let old = match old {
        // What was held back came too late to continue it.
        Some(old) if how.resumed && old.has_lapsed(now_seconds) => None,
        Some(old) if !same_address(&old) => {
            if !old.has_lapsed(now_seconds) {
                difference.rejected.push(reject(pair));
            }
            None
        }
        old => old,
    };
    match (old, new) {
        (None, None) => None,
        (Some(_), None) => unreachable!("what is no longer authorised has no address to agree with"),
        (None, Some(_)) if how.hold => None,
        (None, Some(new)) => {
            difference.authorized.push(new.flow());
            Some(new)
        }
        (Some(old), Some(new)) if how.hold => narrowed(pair, old, new, now_seconds, difference),
        (Some(old), Some(new)) => Some(updated(pair, &old, new, difference)),
    }
}

/// A pair that is authorised before and after.
fn updated(pair: Pair, old: &Authorized, new: Authorized, difference: &mut Difference) -> Authorized {
    if old.peer != new.peer {
        difference.authorized.push(new.flow());
        return new;
    }
    if old.resource.filters != new.resource.filters {
        difference.updated.insert(pair.1, new.resource.clone());
    }
    if old.until != new.until {
        difference.moved.push(Push::AccessAuthorizationExpiryUpdated(new.authorization(pair)));
    }
    new
}

/// A pair that is authorised before and after, while nothing new may be granted: it keeps at most what it had.
fn narrowed(
    pair: Pair,
    mut old: Authorized,
    new: Authorized,
    now_seconds: i64,
    difference: &mut Difference,
) -> Option<Authorized> {
    let (old_filters, new_filters) = (&old.resource.filters, &new.resource.filters);
    if old.peer != new.peer || !(within(new_filters, old_filters) || within(old_filters, new_filters)) {
        if !old.has_lapsed(now_seconds) {
            difference.rejected.push(reject(pair));
        }
        return None;
    }
    if !within(old_filters, new_filters) {
        difference.updated.insert(pair.1, new.resource.clone());
        old.resource = new.resource.clone();
    }
    if later(old.until, new.until) != new.until {
        old.until = new.until;
        difference.moved.push(Push::AccessAuthorizationExpiryUpdated(old.authorization(pair)));
    }
    Some(old)
}

fn reject((client_id, resource_id): Pair) -> Push {
    Push::RejectAccess { client_id, resource_id }
}

/// Every pair that some flow names on the gateway, live or not.
fn all_pairs(view: &View<'_>, gateway: Uuid) -> BTreeSet<Pair> {
    let flows = view.state.gateways.links(gateway).into_iter().flatten();
    flows.map(|(client, resource, _)| (*client, *resource)).collect()
}

/// A pair as the gateway should have it now.
fn authorized(view: &View<'_>, gateway: Uuid, (client, resource): Pair) -> Option<Authorized> {
    let until = view.authorized_until(gateway, client, resource)?;
    let row = &view.state.clients.row(client)?.row;
    Some(Authorized {
        until,
        peer: Arc::new(Peer { id: client, public_key: row.public_key.clone(), ipv4: row.ipv4, ipv6: row.ipv6 }),
        resource: view.state.for_gateway(resource)?,
        address_since: view.state.resources.row(resource)?.address_since,
    })
}
