//! Connections of resources to gateway groups: rows with nothing but their key, kept at the resource as its sites.

use penstock_wire::position::Position;
use uuid::Uuid;

use crate::account::rendered::Rendered;
use crate::account::state::AccountState;
use crate::account::touched::Touched;

impl AccountState {
    /// A connection's row came; true if it is new.
    pub(crate) fn connect(&mut self, resource: Uuid, group: Uuid, position: Position, touched: &mut Touched) -> bool {
        let mut new = false;
        self.resources.change_links(resource, |links| {
            match links.sites.binary_search_by_key(&group, |(site, _)| *site) {
                Ok(at) => links.sites[at].1 = links.sites[at].1.max(position),
                Err(at) => {
                    links.sites.insert(at, (group, position));
                    links.rendered = Rendered::default();
                    new = true;
                }
            }
        });
        if new {
            self.connections += 1;
            self.gateway_groups.change_links(group, |links| {
                links.resources.insert(resource);
            });
            self.reach_resource_and_flows(resource, touched);
        }
        new
    }

    /// A connection's row is gone, if it is older than `bound`.
    pub(crate) fn disconnect(&mut self, resource: Uuid, group: Uuid, bound: Position, touched: &mut Touched) {
        let site = |(site, position): &(Uuid, Position)| *site == group && *position < bound;
        if !self.resources.links(resource).is_some_and(|links| links.sites.iter().any(site)) {
            return;
        }
        self.reach_resource_and_flows(resource, touched);
        self.resources.change_links(resource, |links| {
            links.sites.retain(|entry| !site(entry));
            links.rendered = Rendered::default();
        });
        self.gateway_groups.change_links(group, |links| {
            links.resources.remove(&resource);
        });
        self.connections -= 1;
    }

    /// (resource, gateway group, position) in key order.
    pub(crate) fn connections_in_order(&self) -> Vec<(Uuid, Uuid, Position)> {
        let of_node = |(resource, links): (Uuid, &crate::account::links::ResourceLinks)| {
            links.sites.iter().map(move |(group, position)| (resource, *group, *position)).collect::<Vec<_>>()
        };
        self.resources.all_links().into_iter().flat_map(of_node).collect()
    }

    /// A gateway group's row changed, and with it how the resources look that are connected to it.
    pub(crate) fn forget_rendered(&mut self, group: Uuid) {
        let resources: Vec<Uuid> =
            self.gateway_groups.links(group).iter().flat_map(|links| &links.resources).copied().collect();
        for resource in resources {
            self.resources.change_links(resource, |links| links.rendered = Rendered::default());
        }
    }
}
