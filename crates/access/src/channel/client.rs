//! A client's channel.
//!
//! Order within one difference: deletions by id, creations and updates by id, the interface. A `disconnect` comes
//! instead of all that.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use crate::access::{Asker, View};
use crate::account::rendered::ForClient;
use crate::account::touched::Scope;
use crate::channel::push::{DisconnectReason, Push, ResourceForClient};
use crate::channel::{Comparison, Told};
use crate::render::{self, ClientInterface};

#[derive(Debug)]
pub(crate) struct ClientChannel {
    pub(crate) client: Uuid,
    /// The token it was opened with; None: what the client last used when its `init` is made.
    pub(crate) token: Option<Uuid>,
    can_move_sites: bool,
    pub(crate) told: Told,
    /// None: waiting for `init`.
    sent: Option<Sent>,
}

#[derive(Debug)]
struct Sent {
    /// By id.
    resources: Vec<Arc<ForClient>>,
    interface: Arc<ClientInterface>,
}

/// Pushes of one difference by kind, each in id order.
#[derive(Debug, Default)]
struct Difference {
    deleted: Vec<Push>,
    created: Vec<Push>,
}

impl ClientChannel {
    pub(crate) fn new(client: Uuid, token: Option<Uuid>, can_move_sites: bool) -> Self {
        Self { client, token, can_move_sites, told: Told::Fresh, sent: None }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.sent.is_none()
    }

    /// Everything before is void: `init` comes again when it may.
    pub(crate) fn start_over(&mut self) {
        self.sent = None;
    }

    /// Pushes the difference to what was sent, and takes it as sent. A `disconnect` is the last.
    pub(crate) fn compare(&mut self, view: &View<'_>, scope: &Scope<Uuid>, how: Comparison, out: &mut Vec<Push>) {
        if self.is_waiting() && how.hold {
            return;
        }
        let asker = match self.asker(view) {
            Ok(asker) => asker,
            Err(reason) => return out.push(Push::Disconnect { reason }),
        };
        let resources = self.sent.take();
        self.sent = Some(match resources {
            None => init(view, &asker, out),
            Some(sent) => self.difference(view, &asker, sent, scope, how, out),
        });
    }

    /// The client, if its channel may stay open.
    fn asker<'a>(&mut self, view: &View<'a>) -> Result<Asker<'a>, DisconnectReason> {
        let asker = view.asker(self.client).ok_or(DisconnectReason::Revoked)?;
        self.token = self.token.or(asker.entry.row.last_used_token);
        match self.token.and_then(|token| view.valid_token(token)) {
            Some(_) => Ok(asker),
            None => Err(DisconnectReason::TokenExpired),
        }
    }

    fn difference(
        &self,
        view: &View<'_>,
        asker: &Asker<'_>,
        mut sent: Sent,
        scope: &Scope<Uuid>,
        how: Comparison,
        out: &mut Vec<Push>,
    ) -> Sent {
        let mut difference = Difference::default();
        match scope {
            Scope::Some(ids) => {
                for id in ids {
                    let at = sent.resources.binary_search_by_key(id, |resource| resource.id);
                    let old = at.ok().map(|at| sent.resources[at].clone());
                    let new = shown(view, asker, *id);
                    match (at, self.step(old, new, how, &mut difference)) {
                        (Ok(at), Some(resource)) => sent.resources[at] = resource,
                        (Ok(at), None) => drop(sent.resources.remove(at)),
                        (Err(at), Some(resource)) => sent.resources.insert(at, resource),
                        (Err(_), None) => {}
                    }
                }
            }
            Scope::All => {
                let allowed = view.allowed(asker);
                let old_ids = sent.resources.iter().map(|resource| resource.id);
                let ids: BTreeSet<Uuid> = old_ids.chain(allowed.iter().copied()).collect();
                let mut old = sent.resources.into_iter().peekable();
                let step = |id: Uuid| {
                    let new = allowed.contains(&id).then(|| view.state.for_client(id, &asker.entry.version)).flatten();
                    self.step(old.next_if(|resource| resource.id == id), new, how, &mut difference)
                };
                sent.resources = ids.into_iter().filter_map(step).collect();
            }
        }
        out.append(&mut difference.deleted);
        out.append(&mut difference.created);
        if *scope == Scope::All && !how.hold {
            let interface = interface(view, asker);
            if interface != sent.interface {
                sent.interface = interface.clone();
                out.push(Push::ConfigChanged { interface });
            }
        }
        sent
    }

    /// What the channel holds of one resource afterwards.
    fn step(
        &self,
        old: Option<Arc<ForClient>>,
        new: Option<Arc<ForClient>>,
        how: Comparison,
        difference: &mut Difference,
    ) -> Option<Arc<ForClient>> {
        let (old, new) = match (old, new) {
            (None, None) => return None,
            (Some(old), None) => {
                difference.deleted.push(Push::ResourceDeleted(old.id));
                return None;
            }
            (old, Some(new)) => (old, new),
        };
        if how.hold {
            return old;
        }
        if old.as_ref() == Some(&new) {
            return Some(new);
        }
        if let Some(old) = old.filter(|old| !self.can_move_sites && old.sites != new.sites) {
            difference.deleted.push(Push::ResourceDeleted(old.id));
        }
        difference.created.push(Push::ResourceCreatedOrUpdated(ResourceForClient(new.clone())));
        Some(new)
    }
}

fn init(view: &View<'_>, asker: &Asker<'_>, out: &mut Vec<Push>) -> Sent {
    let allowed = view.allowed(asker).into_iter();
    let resources: Vec<_> = allowed.filter_map(|id| view.state.for_client(id, &asker.entry.version)).collect();
    let interface = interface(view, asker);
    let pushed = resources.iter().cloned().map(ResourceForClient).collect();
    out.push(Push::ClientInit { resources: pushed, interface: interface.clone() });
    Sent { resources, interface }
}

/// One resource as the client should have it now.
fn shown(view: &View<'_>, asker: &Asker<'_>, resource: Uuid) -> Option<Arc<ForClient>> {
    if view.is_allowed(asker, resource) { view.state.for_client(resource, &asker.entry.version) } else { None }
}

fn interface(view: &View<'_>, asker: &Asker<'_>) -> Arc<ClientInterface> {
    let account = view.own.and_then(|own| view.state.accounts.row(own));
    let account = account.expect("nobody asks for an account without a live row");
    Arc::new(render::client_interface(account, &asker.entry.row))
}
