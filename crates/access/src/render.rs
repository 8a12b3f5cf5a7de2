//! PROVISIONAL until a1 is merged.
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::rows::{AccountRow, ClientRow, Filter, GatewayRow, Protocol, ResourceKind, ResourceRow};
use crate::version::Version;

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ClientResource(Json);
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct GatewayResource(Json);

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClientInterface {
    pub search_domain: Option<Arc<str>>,
    pub upstream_dns: Vec<Json>,
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GatewayInterface {
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
}

#[derive(Debug)]
pub struct Site<'a> {
    pub id: Uuid,
    pub name: &'a Arc<str>,
}

fn filters(f: &[Filter]) -> Json {
    f.iter()
        .map(|f| {
            let p = match f.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Icmp => "icmp",
            };
            match f.ports {
                Some((a, b)) => json!({"protocol": p, "port_range_start": a, "port_range_end": b}),
                None => json!({"protocol": p}),
            }
        })
        .collect()
}

pub fn client_resource(id: Uuid, row: &ResourceRow, sites: &[Site<'_>], version: &Version) -> Option<ClientResource> {
    let groups: Vec<Json> = sites.iter().map(|s| json!({"id": s.id, "name": s.name})).collect();
    if row.kind == ResourceKind::Internet {
        return version.at_least(1, 3, 0).then(|| {
            ClientResource(json!({"id": id, "type": "internet", "gateway_groups": groups, "can_be_disabled": true}))
        });
    }
    let mut address = row.address.as_ref()?.to_string();
    if row.kind == ResourceKind::Ip {
        address += if address.contains(':') { "/128" } else { "/32" };
    }
    if row.kind == ResourceKind::Dns && !version.at_least(1, 2, 0) && address.starts_with("**") {
        address.remove(0);
    }
    let kind = if row.kind == ResourceKind::Dns { "dns" } else { "cidr" };
    Some(ClientResource(
        json!({"id": id, "type": kind, "address": address, "address_description": row.address_description, "name": row.name,
        "gateway_groups": groups, "filters": filters(&row.filters)}),
    ))
}

pub fn gateway_resource(id: Uuid, row: &ResourceRow) -> Option<GatewayResource> {
    if row.kind == ResourceKind::Internet {
        return Some(GatewayResource(json!({"id": id, "type": "internet"})));
    }
    let address = row.address.as_ref()?;
    let kind = if row.kind == ResourceKind::Dns { "dns" } else { "cidr" };
    Some(GatewayResource(
        json!({"id": id, "type": kind, "address": address, "name": row.name, "filters": filters(&row.filters)}),
    ))
}

pub fn client_interface(account: &AccountRow, client: &ClientRow) -> ClientInterface {
    ClientInterface {
        search_domain: account.search_domain.clone(),
        upstream_dns: account
            .upstream_dns
            .iter()
            .map(|d| json!({"protocol": d.protocol, "address": d.address}))
            .collect(),
        ipv4: client.ipv4,
        ipv6: client.ipv6,
    }
}

pub fn gateway_interface(row: &GatewayRow) -> GatewayInterface {
    GatewayInterface { ipv4: row.ipv4, ipv6: row.ipv6 }
}
