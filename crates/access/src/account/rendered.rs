//! How a resource looks to clients and to gateways, made once and shared by all channels it was sent through.

use std::sync::{Arc, OnceLock};

use uuid::Uuid;

use crate::access::Connectable;
use crate::account::state::AccountState;
use crate::render::{self, ClientResource, GatewayResource};
use crate::rows::{Filter, ResourceKind, ResourceRow};
use crate::version::Version;

/// A resource as a client sees it.
#[derive(Debug, PartialEq)]
pub(crate) struct ForClient {
    pub(crate) id: Uuid,
    /// The live sites through which it is reached, in id order.
    pub(crate) sites: Vec<Uuid>,
    pub(crate) body: ClientResource,
}

/// A resource as a gateway sees it.
#[derive(Debug, PartialEq)]
pub(crate) struct ForGateway {
    pub(crate) id: Uuid,
    pub(crate) filters: Arc<[Filter]>,
    pub(crate) body: GatewayResource,
}

/// The renderings of one resource, as far as they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Rendered {
    clients: [OnceLock<Option<Arc<ForClient>>>; GENERATIONS],
    gateway: OnceLock<Option<Arc<ForGateway>>>,
}

/// Clients of one generation are sent the same.
const GENERATIONS: usize = 3;

fn generation(version: &Version) -> usize {
    usize::from(version.at_least(1, 2, 0)) + usize::from(version.at_least(1, 3, 0))
}

impl AccountState {
    /// For a client of this version; None if it cannot be reached, or not be shown to it.
    pub(crate) fn for_client(&self, resource: Uuid, version: &Version) -> Option<Arc<ForClient>> {
        self.client_rendering(self.connectable(resource)?, version).cloned()
    }

    /// Whether a client of this version can be shown the resource.
    pub(crate) fn shows(&self, resource: Connectable<'_>, version: &Version) -> bool {
        self.client_rendering(resource, version).is_some()
    }

    /// For gateways; None if the resource is unknown or not live.
    pub(crate) fn for_gateway(&self, resource: Uuid) -> Option<Arc<ForGateway>> {
        let node = self.resources.node(resource)?;
        let row = &node.held.as_ref().filter(|held| held.row.row.live)?.row.row;
        node.links.rendered.gateway.get_or_init(|| render_for_gateway(resource, row)).clone()
    }

    fn client_rendering<'a>(&'a self, resource: Connectable<'a>, version: &Version) -> Option<&'a Arc<ForClient>> {
        let slot = &resource.links.rendered.clients[generation(version)];
        slot.get_or_init(|| self.render_for_client(resource, version)).as_ref()
    }

    fn render_for_client(&self, resource: Connectable<'_>, version: &Version) -> Option<Arc<ForClient>> {
        let Connectable { id, row, links } = resource;
        let sites: Vec<Uuid> = self.live_sites(links).collect();
        let named: Vec<_> = sites
            .iter()
            .filter_map(|id| Some(render::Site { id: *id, name: &self.gateway_groups.row(*id)?.name }))
            .collect();
        let body = render::client_resource(id, row, &named, version)?;
        Some(Arc::new(ForClient { id, sites, body }))
    }
}

fn render_for_gateway(resource: Uuid, row: &ResourceRow) -> Option<Arc<ForGateway>> {
    let body = render::gateway_resource(resource, row)?;
    // What is not shown cannot change for whoever was shown it.
    let filters = match row.kind {
        ResourceKind::Internet => Arc::new([]),
        ResourceKind::Cidr | ResourceKind::Ip | ResourceKind::Dns => row.filters.clone(),
    };
    Some(Arc::new(ForGateway { id: resource, filters, body }))
}
