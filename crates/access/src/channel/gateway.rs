//! A gateway's channel.
//!
//! Order within one difference, each by (client, resource): rejections, resources whose filters changed, expiries that
//! moved, authorisations. `init` and `disconnect` come instead of all that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::access::{View, later};
use crate::account::entries::AddressSince;
use crate::account::rendered::ForGateway;
use crate::account::touched::{Pair, Scope};
use crate::channel::filters::within;
use crate::channel::opening::{Opening, Over};
use crate::channel::push::{Authorization, Peer, Push, ResourceForGateway};
use crate::render::{self, GatewayInterface};

#[derive(Debug)]
pub(crate) struct GatewayChannel {
    pub(crate) gateway: Uuid,
    pub(crate) opening: Opening,
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
    address_since: AddressSince,
}

/// Pushes of one difference by kind, each in the order of pairs.
#[derive(Debug, Default)]
struct Difference {
    rejected: Vec<Push>,
    /// Each resource once, at its first pair.
    updated: Vec<Arc<ForGateway>>,
    moved: Vec<Push>,
    authorized: Vec<Push>,
    /// Something new was kept from the gateway.
    kept_back: bool,
}

impl GatewayChannel {
    pub(crate) fn new(gateway: Uuid, token: Option<Uuid>) -> Self {
        Self { gateway, opening: Opening::new(token), sent: None, start_over: false }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.sent.is_none()
    }

    /// Everything before is void: `init` comes again when it may.
    pub(crate) fn start_over(&mut self) {
        self.start_over = true;
    }

    /// Pushes the difference to what was sent, and takes it as sent. `hold`: nothing new may be granted.
    pub(crate) fn compare(
        &mut self,
        view: &View<'_>,
        scope: &Scope<Pair>,
        hold: bool,
        out: &mut Vec<Push>,
    ) -> Result<(), Over> {
        let gateway = view.state.gateways.row(self.gateway).filter(|entry| entry.row.live && view.account_is_live());
        let last_used = gateway.map(|gateway| gateway.row.last_used_token);
        if hold {
            self.opening.check_held(view, last_used)?;
        } else {
            self.opening.check(view, last_used)?;
        }
        if self.opening.paused {
            self.opening.behind = true;
            return Ok(());
        }
        let Some(head) = head(view, self.gateway).filter(|_| !hold || !self.is_waiting()) else { return Ok(()) };
        self.sent = Some(match self.sent.take() {
            Some(sent) if hold => self.withdrawn(view, sent, scope, head, out),
            Some(sent) if !self.start_over && sent.head == head => self.difference(view, sent, scope, out),
            Some(_) | None => self.init(view, head, out),
        });
        if *scope == Scope::All && !hold {
            self.opening.behind = false;
        }
        Ok(())
    }

    /// Rejects every pair: nothing has been known for too long.
    pub(crate) fn reject_all(&mut self, now_seconds: i64, out: &mut Vec<Push>) {
        let Some(sent) = &mut self.sent else { return };
        for (pair, authorized) in std::mem::take(&mut sent.pairs) {
            self.opening.behind = true;
            if !authorized.has_lapsed(now_seconds) {
                out.push(reject(pair));
            }
        }
    }

    fn init(&mut self, view: &View<'_>, head: Head, out: &mut Vec<Push>) -> Sent {
        (self.start_over, self.opening.behind) = (false, false);
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

    fn difference(&self, view: &View<'_>, mut sent: Sent, scope: &Scope<Pair>, out: &mut Vec<Push>) -> Sent {
        let (now, behind) = (view.now.seconds(), self.opening.behind);
        let difference = sent.walk(view, self.gateway, scope, |pair, old, new, difference| {
            // What was kept back came too late to go on with what has lapsed meanwhile.
            let old = old.filter(|old| !behind || !old.has_lapsed(now));
            match (standing(pair, old, new.as_ref(), now, difference), new) {
                (_, None) => None,
                (None, Some(new)) => {
                    difference.authorized.push(new.flow());
                    Some(new)
                }
                (Some(old), Some(new)) => Some(updated(pair, &old, new, difference)),
            }
        });
        difference.push_to(out);
        sent
    }

    /// What is no longer authorised goes, and what is authorised for less is less; all else stays as it was sent.
    fn withdrawn(
        &mut self,
        view: &View<'_>,
        mut sent: Sent,
        scope: &Scope<Pair>,
        head: Head,
        out: &mut Vec<Push>,
    ) -> Sent {
        let now = view.now.seconds();
        let difference = sent.walk(view, self.gateway, scope, |pair, old, new, difference| {
            match (standing(pair, old, new.as_ref(), now, difference), new) {
                (_, None) => None,
                (None, Some(_)) => {
                    difference.kept_back = true;
                    None
                }
                (Some(old), Some(new)) => narrowed(pair, old, new, now, difference),
            }
        });
        self.opening.behind |= difference.kept_back || sent.head != head;
        difference.push_to(out);
        sent
    }
}

impl Sent {
    /// Puts in place of each pair in the scope what `step` makes of what was sent and of what should be.
    fn walk(
        &mut self,
        view: &View<'_>,
        gateway: Uuid,
        scope: &Scope<Pair>,
        mut step: impl FnMut(Pair, Option<Authorized>, Option<Authorized>, &mut Difference) -> Option<Authorized>,
    ) -> Difference {
        let mut difference = Difference::default();
        let all = match scope {
            Scope::Some(_) => BTreeSet::new(),
            Scope::All => all_pairs(view, gateway).into_iter().chain(self.pairs.keys().copied()).collect(),
        };
        let pairs = match scope {
            Scope::Some(pairs) => pairs,
            Scope::All => &all,
        };
        for pair in pairs {
            let kept = step(*pair, self.pairs.remove(pair), authorized(view, gateway, *pair), &mut difference);
            self.pairs.extend(kept.map(|authorized| (*pair, authorized)));
        }
        difference
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
    fn update(&mut self, resource: &Arc<ForGateway>) {
        if self.updated.iter().all(|updated| updated.id != resource.id) {
            self.updated.push(resource.clone());
        }
    }

    fn push_to(mut self, out: &mut Vec<Push>) {
        out.append(&mut self.rejected);
        out.extend(self.updated.into_iter().map(|resource| Push::ResourceUpdated(ResourceForGateway(resource))));
        out.append(&mut self.moved);
        out.append(&mut self.authorized);
    }
}

/// What stands above the pairs; None: there is no such gateway or account.
fn head(view: &View<'_>, gateway: Uuid) -> Option<Head> {
    let gateway = view.state.gateways.row(gateway)?;
    let account = view.state.accounts.row(view.own?)?;
    Some(Head { account_slug: account.slug.clone(), interface: render::gateway_interface(&gateway.row) })
}

/// What was sent, if the pair is authorised for the same address still; else it is rejected, unless it has lapsed.
fn standing(
    pair: Pair,
    old: Option<Authorized>,
    new: Option<&Authorized>,
    now_seconds: i64,
    difference: &mut Difference,
) -> Option<Authorized> {
    let old = old?;
    if new.is_some_and(|new| old.address_since == new.address_since) {
        return Some(old);
    }
    if !old.has_lapsed(now_seconds) {
        difference.rejected.push(reject(pair));
    }
    None
}

/// A pair that is authorised before and after.
fn updated(pair: Pair, old: &Authorized, new: Authorized, difference: &mut Difference) -> Authorized {
    if old.peer != new.peer {
        difference.authorized.push(new.flow());
        return new;
    }
    if old.resource.filters != new.resource.filters {
        difference.update(&new.resource);
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
        difference.kept_back = true;
        if !old.has_lapsed(now_seconds) {
            difference.rejected.push(reject(pair));
        }
        return None;
    }
    if within(new_filters, old_filters) {
        if new_filters != old_filters {
            difference.update(&new.resource);
        }
        old.resource = new.resource;
    } else {
        difference.kept_back = true;
    }
    if later(old.until, new.until) != new.until {
        old.until = new.until;
        difference.moved.push(Push::AccessAuthorizationExpiryUpdated(old.authorization(pair)));
    }
    difference.kept_back |= old.until != new.until;
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
    Some(Authorized {
        until,
        peer: view.state.clients.row(client)?.peer.clone(),
        resource: view.state.for_gateway(resource)?,
        address_since: view.state.resources.row(resource)?.address_since,
    })
}
