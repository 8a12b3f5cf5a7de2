//! What hangs on the ids of each table: the ids by which other rows are found from there.

use std::collections::BTreeSet;

use penstock_wire::position::Position;
use uuid::Uuid;

use crate::account::nodes::Links;
use crate::account::rendered::Rendered;

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

/// Adds to a small sorted list, or takes from it. There are many such lists, and they are not to hold more than they have.
pub(crate) fn insert_sorted<T: Ord>(list: &mut Vec<T>, item: T) {
    if let Err(at) = list.binary_search(&item) {
        list.reserve_exact(1);
        list.insert(at, item);
    }
}

pub(crate) fn remove_sorted<T: Ord>(list: &mut Vec<T>, item: &T) {
    if let Ok(at) = list.binary_search(item) {
        list.remove(at);
    }
}
