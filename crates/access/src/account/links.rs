//! What hangs on the ids of each table: the ids by which other rows are found from there.

use std::collections::BTreeSet;

use penstock_wire::position::Position;
use uuid::Uuid;

use crate::account::nodes::Links;
use crate::account::rendered::Rendered;
use crate::limits::SCANNED_MAX;

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

/// The first entry of an id in a list that is sorted by ids.
///
/// Authorising looks through a dozen of these, most of them short: there a scan that always goes the same way is faster
/// than a search that goes another way each time.
#[inline]
pub(crate) fn find_sorted<T>(list: &[(Uuid, T)], id: Uuid) -> Option<&T> {
    if list.len() <= SCANNED_MAX {
        return list.iter().find(|(other, _)| *other == id).map(|(_, found)| found);
    }
    let at = list.partition_point(|(other, _)| other.as_u128() < id.as_u128());
    list.get(at).filter(|(other, _)| *other == id).map(|(_, found)| found)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_an_id_is_found_in_short_and_in_long_lists() {
        for length in [0, 1, 2, SCANNED_MAX, SCANNED_MAX + 1, 100] {
            // Every id stands there twice, and only even ones.
            let list: Vec<(Uuid, usize)> = (0..length).map(|n| (Uuid::from_u128((n as u128 / 2) * 2), n)).collect();
            for id in 0..=length as u128 + 1 {
                let first = list.iter().position(|(other, _)| other.as_u128() == id);
                assert_eq!(find_sorted(&list, Uuid::from_u128(id)).copied(), first, "{id} among {length}");
            }
        }
    }
}
