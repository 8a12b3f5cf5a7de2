//! What clients and gateways are told of a resource and of themselves, as it stands in JSON.
//!
//! Fields are serialised in the order in which they stand here. What a client's version cannot be told of is not rendered
//! for it; nothing is rendered of a row whose address is not one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::rows::{
    AccountRow, ClientRow, Filter, GatewayRow, IpStack, Protocol, ResourceKind, ResourceRow, UpstreamDns,
};
use crate::version::Version;

/// Where a name server listens if nothing else is said.
const DNS_PORT: u16 = 53;

/// A live site that a resource is reached through.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    pub id: Uuid,
    pub name: &'a Arc<str>,
}

/// A resource as clients of some versions see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ClientResource {
    Internet {
        id: Uuid,
        #[serde(rename = "type")]
        kind: Kind,
        gateway_groups: Box<[GatewayGroup]>,
        can_be_disabled: bool,
    },
    Network {
        id: Uuid,
        #[serde(rename = "type")]
        kind: Kind,
        address: Arc<str>,
        address_description: Option<Arc<str>>,
        name: Arc<str>,
        gateway_groups: Box<[GatewayGroup]>,
        filters: Filters,
        #[serde(skip_serializing_if = "Option::is_none")]
        ip_stack: Option<&'static str>,
    },
}

/// A resource as gateways see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum GatewayResource {
    Internet {
        id: Uuid,
        #[serde(rename = "type")]
        kind: Kind,
    },
    Network {
        id: Uuid,
        #[serde(rename = "type")]
        kind: Kind,
        address: Arc<str>,
        name: Arc<str>,
        filters: Filters,
    },
}

/// The type of a resource as it is told: an address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Internet,
    Dns,
    Cidr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GatewayGroup {
    pub id: Uuid,
    pub name: Arc<str>,
}

/// What is let through; nothing in it: everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filters(pub Arc<[Filter]>);

/// `interface` of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientInterface {
    pub search_domain: Option<Arc<str>>,
    pub upstream_dns: Vec<NameServer>,
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NameServer {
    pub protocol: Arc<str>,
    /// With its port: `192.0.2.1:53`, `[2001:db8::1]:53`.
    pub address: Arc<str>,
}

/// `interface` of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GatewayInterface {
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
}

/// Renders a resource for a client; None: clients of its version cannot be told of it. Sites come in any order.
pub fn client_resource(id: Uuid, row: &ResourceRow, sites: &[Site<'_>], version: &Version) -> Option<ClientResource> {
    let kind = kind(row.kind);
    if kind == Kind::Internet {
        let known = version.at_least(1, 3, 0);
        let gateway_groups = gateway_groups(sites);
        return known.then_some(ClientResource::Internet { id, kind, gateway_groups, can_be_disabled: true });
    }
    let address = match row.kind {
        ResourceKind::Dns if !version.at_least(1, 2, 0) => old_pattern(row.address.as_ref()?)?,
        ResourceKind::Dns | ResourceKind::Cidr | ResourceKind::Ip | ResourceKind::Internet => address(row)?,
    };
    Some(ClientResource::Network {
        id,
        kind,
        address,
        address_description: row.address_description.clone(),
        name: row.name.clone(),
        gateway_groups: gateway_groups(sites),
        filters: Filters(row.filters.clone()),
        ip_stack: row.ip_stack.map(ip_stack),
    })
}

/// Renders a resource for gateways, of whatever version.
pub fn gateway_resource(id: Uuid, row: &ResourceRow) -> Option<GatewayResource> {
    let kind = kind(row.kind);
    if kind == Kind::Internet {
        return Some(GatewayResource::Internet { id, kind });
    }
    let (name, filters) = (row.name.clone(), Filters(row.filters.clone()));
    Some(GatewayResource::Network { id, kind, address: address(row)?, name, filters })
}

/// A client's `interface`. A name server whose address is none is left out.
pub fn client_interface(account: &AccountRow, client: &ClientRow) -> ClientInterface {
    ClientInterface {
        search_domain: account.search_domain.clone(),
        upstream_dns: account.upstream_dns.iter().filter_map(name_server).collect(),
        ipv4: client.ipv4,
        ipv6: client.ipv6,
    }
}

/// A gateway's `interface`.
pub fn gateway_interface(gateway: &GatewayRow) -> GatewayInterface {
    GatewayInterface { ipv4: gateway.ipv4, ipv6: gateway.ipv6 }
}

/// As it is told to clients; None: the address is none, with or without a port.
pub(crate) fn name_server(upstream: &UpstreamDns) -> Option<NameServer> {
    let (text, protocol) = (&*upstream.address, upstream.protocol.clone());
    if text.parse::<SocketAddr>().is_ok() {
        return Some(NameServer { protocol, address: upstream.address.clone() });
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = match (bare, bare.unwrap_or(text).parse().ok()?) {
        (Some(_), IpAddr::V4(_)) => return None,
        (Some(_), IpAddr::V6(_)) => format!("{text}:{DNS_PORT}"),
        (None, IpAddr::V4(_)) => format!("{text}:{DNS_PORT}"),
        (None, IpAddr::V6(_)) => format!("[{text}]:{DNS_PORT}"),
    };
    Some(NameServer { protocol, address: address.into() })
}

fn kind(kind: ResourceKind) -> Kind {
    match kind {
        ResourceKind::Internet => Kind::Internet,
        ResourceKind::Dns => Kind::Dns,
        ResourceKind::Cidr | ResourceKind::Ip => Kind::Cidr,
    }
}

/// The address as it stands; of a single one, as a network.
fn address(row: &ResourceRow) -> Option<Arc<str>> {
    let text = row.address.as_ref()?;
    Some(match row.kind {
        ResourceKind::Ip => match text.parse().ok()? {
            IpAddr::V4(_) => format!("{text}/32").into(),
            IpAddr::V6(_) => format!("{text}/128").into(),
        },
        ResourceKind::Cidr | ResourceKind::Dns | ResourceKind::Internet => text.clone(),
    })
}

/// A pattern for clients to whom `*` was what `**` is now, and `?` what `*` is now, and only as the first label.
fn old_pattern(pattern: &Arc<str>) -> Option<Arc<str>> {
    let (first, rest) = match pattern.split_once('.') {
        Some(("**", rest)) => ("*.", rest),
        Some(("*", rest)) => ("?.", rest),
        Some(_) | None => ("", &**pattern),
    };
    (!rest.contains(['*', '?']))
        .then(|| if first.is_empty() { pattern.clone() } else { format!("{first}{rest}").into() })
}

fn gateway_groups(sites: &[Site<'_>]) -> Box<[GatewayGroup]> {
    let group = |site: &Site<'_>| GatewayGroup { id: site.id, name: site.name.clone() };
    let mut groups: Box<[GatewayGroup]> = sites.iter().map(group).collect();
    groups.sort_unstable_by_key(|group| group.id);
    groups
}

impl Serialize for Filters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(FilterOut::from))
    }
}

#[derive(Serialize)]
struct FilterOut {
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port_range_start: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port_range_end: Option<u16>,
}

impl From<&Filter> for FilterOut {
    fn from(filter: &Filter) -> Self {
        let protocol = match filter.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Icmp => "icmp",
        };
        let (port_range_start, port_range_end) = filter.ports.unzip();
        Self { protocol, port_range_start, port_range_end }
    }
}

fn ip_stack(ip_stack: IpStack) -> &'static str {
    match ip_stack {
        IpStack::Ipv4Only => "ipv4_only",
        IpStack::Ipv6Only => "ipv6_only",
        IpStack::Dual => "dual",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0xa);

    fn resource(kind: ResourceKind, address: Option<&str>) -> ResourceRow {
        ResourceRow {
            live: true,
            name: "Wiki".into(),
            kind,
            address: address.map(Arc::from),
            address_description: None,
            ip_stack: None,
            filters: Arc::new([]),
        }
    }

    fn for_client(row: &ResourceRow, version: &str) -> Option<String> {
        let (berlin, paris) = (Arc::from("Berlin"), Arc::from("Paris"));
        let sites = [Site { id: Uuid::from_u128(2), name: &paris }, Site { id: Uuid::from_u128(1), name: &berlin }];
        let resource = client_resource(ID, row, &sites, &Version::parse(Some(version)))?;
        Some(serde_json::to_string(&resource).unwrap())
    }

    fn for_gateway(row: &ResourceRow) -> Option<String> {
        gateway_resource(ID, row).map(|resource| serde_json::to_string(&resource).unwrap())
    }

    fn address_for_client(row: &ResourceRow, version: &str) -> Option<String> {
        match client_resource(ID, row, &[], &Version::parse(Some(version)))? {
            ClientResource::Network { address, .. } => Some(address.to_string()),
            ClientResource::Internet { .. } => None,
        }
    }

    const GROUPS: &str = concat!(
        r#""gateway_groups":[{"id":"00000000-0000-0000-0000-000000000001","name":"Berlin"},"#,
        r#"{"id":"00000000-0000-0000-0000-000000000002","name":"Paris"}]"#
    );
    const HEAD: &str = r#"{"id":"00000000-0000-0000-0000-00000000000a""#;

    #[test]
    fn a_client_sees_all_fields_in_their_order() {
        let mut row = resource(ResourceKind::Dns, Some("wiki.corp"));
        let expected = format!(
            r#"{HEAD},"type":"dns","address":"wiki.corp","address_description":null,"name":"Wiki",{GROUPS},"filters":[]}}"#
        );
        assert_eq!(for_client(&row, "1.4.0"), Some(expected));
        row.address_description = Some("https://wiki.corp".into());
        row.ip_stack = Some(IpStack::Ipv6Only);
        row.filters = Arc::new([
            Filter { protocol: Protocol::Tcp, ports: Some((80, 90)) },
            Filter { protocol: Protocol::Udp, ports: Some((53, 53)) },
            Filter { protocol: Protocol::Icmp, ports: None },
        ]);
        let expected = format!(
            concat!(
                r#"{},"type":"dns","address":"wiki.corp","address_description":"https://wiki.corp","name":"Wiki",{},"#,
                r#""filters":[{{"protocol":"tcp","port_range_start":80,"port_range_end":90}},"#,
                r#"{{"protocol":"udp","port_range_start":53,"port_range_end":53}},{{"protocol":"icmp"}}],"#,
                r#""ip_stack":"ipv6_only"}}"#
            ),
            HEAD, GROUPS
        );
        assert_eq!(for_client(&row, "1.4.0"), Some(expected));
        let expected = format!(
            concat!(
                r#"{},"type":"dns","address":"wiki.corp","name":"Wiki","#,
                r#""filters":[{{"protocol":"tcp","port_range_start":80,"port_range_end":90}},"#,
                r#"{{"protocol":"udp","port_range_start":53,"port_range_end":53}},{{"protocol":"icmp"}}]}}"#
            ),
            HEAD
        );
        assert_eq!(for_gateway(&row), Some(expected));
    }

    #[test]
    fn the_internet_is_for_clients_that_know_it() {
        let row = resource(ResourceKind::Internet, None);
        let expected = format!(r#"{HEAD},"type":"internet",{GROUPS},"can_be_disabled":true}}"#);
        for (version, shown) in
            [("1.3.0", true), ("1.4.0", true), ("1.3.0-rc1", false), ("1.2.9", false), ("", false), ("latest", false)]
        {
            assert_eq!(for_client(&row, version), shown.then(|| expected.clone()), "{version}");
        }
        assert_eq!(for_gateway(&row), Some(format!(r#"{HEAD},"type":"internet"}}"#)));
    }

    #[test]
    fn addresses_are_told_as_networks() {
        use ResourceKind::{Cidr, Dns, Ip};
        for (kind, address, expected) in [
            (Ip, Some("192.0.2.1"), Some("192.0.2.1/32")),
            (Ip, Some("2001:db8::1"), Some("2001:db8::1/128")),
            (Ip, Some("::ffff:192.0.2.1"), Some("::ffff:192.0.2.1/128")),
            (Ip, Some("192.0.2.1/32"), None),
            (Ip, Some("wiki"), None),
            (Ip, None, None),
            (Cidr, Some("192.0.2.0/24"), Some("192.0.2.0/24")),
            (Cidr, None, None),
            (Dns, Some("**.corp"), Some("**.corp")),
            (Dns, None, None),
        ] {
            let row = resource(kind, address);
            assert_eq!(address_for_client(&row, "1.4.0").as_deref(), expected, "{kind:?} {address:?}");
            let gateway = match gateway_resource(ID, &row) {
                Some(GatewayResource::Network { address, kind, .. }) => Some((address, kind)),
                Some(GatewayResource::Internet { .. }) | None => None,
            };
            let told = if kind == Dns { Kind::Dns } else { Kind::Cidr };
            assert_eq!(gateway, expected.map(|address| (Arc::from(address), told)), "{kind:?} {address:?}");
        }
    }

    #[test]
    fn old_clients_get_the_wildcards_they_know() {
        for (address, old) in [
            ("**.corp.example", Some("*.corp.example")),
            ("*.corp.example", Some("?.corp.example")),
            ("corp.example", Some("corp.example")),
            ("?.corp.example", None),
            ("***.corp.example", None),
            ("a*.corp.example", None),
            ("*a.corp.example", None),
            ("corp.*.example", None),
            ("**.*.example", None),
            ("*.**.example", None),
            ("**.a?.example", None),
            ("*", None),
            ("**", None),
        ] {
            let row = resource(ResourceKind::Dns, Some(address));
            for version in ["1.1.9", "1.2.0-rc1", "", "?"] {
                assert_eq!(address_for_client(&row, version).as_deref(), old, "{address} for {version:?}");
            }
            assert_eq!(address_for_client(&row, "1.2.0").as_deref(), Some(address));
            assert!(for_gateway(&row).unwrap().contains(&format!(r#""address":"{address}""#)), "{address}");
        }
    }

    #[test]
    fn name_servers_have_a_port() {
        for (address, expected) in [
            ("192.0.2.1", Some("192.0.2.1:53")),
            ("192.0.2.1:5353", Some("192.0.2.1:5353")),
            ("2001:db8::1", Some("[2001:db8::1]:53")),
            ("[2001:db8::1]", Some("[2001:db8::1]:53")),
            ("[2001:db8::1]:5353", Some("[2001:db8::1]:5353")),
            ("::1:5353", Some("[::1:5353]:53")),
            ("[192.0.2.1]", None),
            ("192.0.2.1:", None),
            ("192.0.2.1:65536", None),
            ("[2001:db8::1]:", None),
            ("2001:db8::1]", None),
            ("dns.example", None),
            (" 192.0.2.1", None),
            ("", None),
        ] {
            let upstream = UpstreamDns { protocol: "ip_port".into(), address: address.into() };
            let found = name_server(&upstream).map(|server| server.address);
            assert_eq!(found.as_deref(), expected, "{address}");
        }
    }

    #[test]
    fn interfaces() {
        let account = AccountRow {
            live: true,
            slug: "acme".into(),
            search_domain: Some("corp.example".into()),
            upstream_dns: ["2001:db8::53", "nowhere", "192.0.2.53:5353"]
                .map(|address| UpstreamDns { protocol: "ip_port".into(), address: address.into() })
                .into(),
        };
        let client = ClientRow {
            live: true,
            actor: ID,
            identity: None,
            last_used_token: None,
            public_key: "key".into(),
            ipv4: Some("100.64.0.1".parse().unwrap()),
            ipv6: None,
            last_seen_version: None,
            remote_ip: None,
            region: None,
            coordinates: None,
            verified: false,
        };
        let rendered = client_interface(&account, &client);
        let expected = concat!(
            r#"{"search_domain":"corp.example","upstream_dns":[{"protocol":"ip_port","address":"[2001:db8::53]:53"},"#,
            r#"{"protocol":"ip_port","address":"192.0.2.53:5353"}],"ipv4":"100.64.0.1","ipv6":null}"#
        );
        assert_eq!(serde_json::to_string(&rendered).unwrap(), expected);
        let nothing = AccountRow { search_domain: None, upstream_dns: Vec::new(), ..account };
        assert_eq!(
            serde_json::to_string(&client_interface(&nothing, &client)).unwrap(),
            r#"{"search_domain":null,"upstream_dns":[],"ipv4":"100.64.0.1","ipv6":null}"#
        );
        let gateway = GatewayRow {
            live: true,
            group: ID,
            last_used_token: None,
            public_key: "key".into(),
            ipv4: None,
            ipv6: Some("fd00::1".parse().unwrap()),
            last_seen_version: None,
            coordinates: None,
        };
        let rendered = serde_json::to_string(&gateway_interface(&gateway)).unwrap();
        assert_eq!(rendered, r#"{"ipv4":null,"ipv6":"fd00::1"}"#);
    }
}
