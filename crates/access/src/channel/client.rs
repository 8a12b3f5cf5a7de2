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
use crate::channel::opening::{Opening, Over};
use crate::channel::push::{Push, ResourceForClient};
use crate::render::{self, ClientInterface};

#[derive(Debug)]
pub(crate) struct ClientChannel {
    pub(crate) client: Uuid,
    pub(crate) opening: Opening,
    can_move_sites: bool,
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
    /// Something new was kept from the client.
    kept_back: bool,
}

impl ClientChannel {
    pub(crate) fn new(client: Uuid, token: Option<Uuid>, can_move_sites: bool) -> Self {
        Self { client, opening: Opening::new(token), can_move_sites, sent: None }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.sent.is_none()
    }

    /// Pushes the difference to what was sent, and takes it as sent. `own`: the interface may differ too.
    /// `hold`: nothing new may be granted.
    pub(crate) fn compare(
        &mut self,
        view: &View<'_>,
        scope: &Scope<Uuid>,
        own: bool,
        hold: bool,
        out: &mut Vec<Push>,
    ) -> Result<(), Over> {
        let asker = view.asker(self.client);
        let last_used = asker.as_ref().map(|asker| asker.entry.row.last_used_token);
        if hold {
            self.opening.check_held(view, last_used)?;
        } else {
            self.opening.check(view, last_used)?;
        }
        if self.opening.paused {
            self.opening.behind = true;
            return Ok(());
        }
        let Some(asker) = asker.filter(|_| !hold || !self.is_waiting()) else { return Ok(()) };
        self.sent = Some(match self.sent.take() {
            None => init(view, &asker, out),
            Some(sent) if hold => self.withdrawn(view, &asker, sent, scope, own, out),
            Some(sent) => self.difference(view, &asker, sent, scope, own, out),
        });
        if *scope == Scope::All && own && !hold {
            self.opening.behind = false;
        }
        Ok(())
    }

    fn difference(
        &self,
        view: &View<'_>,
        asker: &Asker<'_>,
        mut sent: Sent,
        scope: &Scope<Uuid>,
        own: bool,
        out: &mut Vec<Push>,
    ) -> Sent {
        let difference = sent.walk(view, asker, scope, |old, new, difference| self.step(old, new, difference));
        difference.push_to(out);
        if own {
            let interface = interface(view, asker);
            if interface != sent.interface {
                sent.interface = interface.clone();
                out.push(Push::ConfigChanged { interface });
            }
        }
        sent
    }

    /// What is no longer allowed goes; all else stays as it was sent.
    fn withdrawn(
        &mut self,
        view: &View<'_>,
        asker: &Asker<'_>,
        mut sent: Sent,
        scope: &Scope<Uuid>,
        own: bool,
        out: &mut Vec<Push>,
    ) -> Sent {
        let difference = sent.walk(view, asker, scope, |old, new, difference| {
            difference.kept_back |= new.is_some() && !same(old.as_ref(), new.as_ref());
            if let (Some(old), None) = (&old, &new) {
                difference.deleted.push(Push::ResourceDeleted(old.id));
            }
            new.and(old)
        });
        self.opening.behind |= difference.kept_back || (own && interface(view, asker) != sent.interface);
        difference.push_to(out);
        sent
    }

    /// What the channel holds of one resource afterwards.
    fn step(
        &self,
        old: Option<Arc<ForClient>>,
        new: Option<Arc<ForClient>>,
        difference: &mut Difference,
    ) -> Option<Arc<ForClient>> {
        if same(old.as_ref(), new.as_ref()) {
            return new;
        }
        let moved =
            |old: &Arc<ForClient>| new.as_ref().is_none_or(|new| !self.can_move_sites && old.sites != new.sites);
        if let Some(old) = old.filter(moved) {
            difference.deleted.push(Push::ResourceDeleted(old.id));
        }
        if let Some(new) = &new {
            difference.created.push(Push::ResourceCreatedOrUpdated(ResourceForClient(new.clone())));
        }
        new
    }
}

impl Sent {
    /// Puts in place of each resource in the scope what `step` makes of what was sent and of what should be.
    fn walk(
        &mut self,
        view: &View<'_>,
        asker: &Asker<'_>,
        scope: &Scope<Uuid>,
        mut step: impl FnMut(Option<Arc<ForClient>>, Option<Arc<ForClient>>, &mut Difference) -> Option<Arc<ForClient>>,
    ) -> Difference {
        let mut difference = Difference::default();
        match scope {
            Scope::Some(ids) => {
                for id in ids {
                    let at = self.resources.binary_search_by_key(id, |resource| resource.id);
                    let old = at.ok().map(|at| self.resources[at].clone());
                    match (at, step(old, shown(view, asker, *id), &mut difference)) {
                        (Ok(at), Some(resource)) => self.resources[at] = resource,
                        (Ok(at), None) => drop(self.resources.remove(at)),
                        (Err(at), Some(resource)) => self.resources.insert(at, resource),
                        (Err(_), None) => {}
                    }
                }
            }
            Scope::All => {
                let allowed = view.allowed(asker);
                let old_ids = self.resources.iter().map(|resource| resource.id);
                let ids: BTreeSet<Uuid> = old_ids.chain(allowed.iter().copied()).collect();
                let mut old = std::mem::take(&mut self.resources).into_iter().peekable();
                let rendered = |id| view.state.for_client(id, &asker.entry.version);
                self.resources.reserve_exact(allowed.len());
                self.resources.extend(ids.into_iter().filter_map(|id| {
                    let new = allowed.contains(&id).then(|| rendered(id)).flatten();
                    step(old.next_if(|resource| resource.id == id), new, &mut difference)
                }));
            }
        }
        difference
    }
}

impl Difference {
    fn push_to(mut self, out: &mut Vec<Push>) {
        out.append(&mut self.deleted);
        out.append(&mut self.created);
    }
}

fn same(old: Option<&Arc<ForClient>>, new: Option<&Arc<ForClient>>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => Arc::ptr_eq(old, new) || old == new,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn init(view: &View<'_>, asker: &Asker<'_>, out: &mut Vec<Push>) -> Sent {
    let allowed = view.allowed(asker).into_iter();
    let mut resources: Vec<_> = allowed.filter_map(|id| view.state.for_client(id, &asker.entry.version)).collect();
    resources.shrink_to_fit();
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
