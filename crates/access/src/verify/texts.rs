//! A row made of the texts that SQL gives, apart from how records are decoded: what both say must agree.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value as Json;
use uuid::Uuid;

use crate::render;
use crate::rows::{
    AccountRow, ActorGroupRow, ActorRow, AuthIdentityRow, AuthProviderRow, ClientRow, Filter, FlowRow, GatewayGroupRow,
    GatewayRow, IpStack, MembershipRow, Micros, PolicyRow, Protocol, ResourceKind, ResourceRow, Row, Table, TokenRow,
    UpstreamDns,
};

/// The columns of a table that a row is made of; tables may lack those behind the bar.
pub fn columns(table: Table) -> (&'static [&'static str], &'static [&'static str]) {
    const ENDS: &[&str] = &["deleted_at", "disabled_at"];
    match table {
        Table::Accounts => (&["slug"], &["config", "deleted_at", "disabled_at"]),
        Table::Actors | Table::ActorGroups => (&[], &["type", "deleted_at", "disabled_at"]),
        Table::ActorGroupMemberships => (&["actor_id", "group_id"], ENDS),
        Table::AuthProviders | Table::ResourceConnections => (&[], ENDS),
        Table::AuthIdentities => (&["provider_id"], ENDS),
        Table::Tokens => (&["actor_id", "expires_at"], &["type", "deleted_at", "disabled_at"]),
        Table::Clients => (
            &["actor_id", "identity_id", "last_used_token_id", "public_key", "ipv4", "ipv6"],
            &[
                "last_seen_version",
                "last_seen_remote_ip",
                "last_seen_remote_ip_location_region",
                "last_seen_remote_ip_location_lat",
                "last_seen_remote_ip_location_lon",
                "verified_at",
                "deleted_at",
                "disabled_at",
            ],
        ),
        Table::GatewayGroups => (&["name"], &["managed_by", "deleted_at", "disabled_at"]),
        Table::Gateways => (
            &["group_id", "last_used_token_id", "public_key", "ipv4", "ipv6"],
            &[
                "last_seen_version",
                "last_seen_remote_ip_location_lat",
                "last_seen_remote_ip_location_lon",
                "deleted_at",
                "disabled_at",
            ],
        ),
        Table::Resources => {
            (&["name", "type", "address", "filters"], &["address_description", "ip_stack", "deleted_at", "disabled_at"])
        }
        Table::Policies => (&["actor_group_id", "resource_id", "conditions"], ENDS),
        Table::Flows => (
            &[
                "policy_id",
                "client_id",
                "gateway_id",
                "resource_id",
                "token_id",
                "actor_group_membership_id",
                "expires_at",
            ],
            ENDS,
        ),
    }
}

/// A row's columns as Postgres prints them; of `conditions`, a JSON array of texts. One that the table lacks is not here.
#[derive(Clone, Debug, Default)]
pub struct Texts(pub BTreeMap<&'static str, Option<String>>);

/// The row; None: it is not live, and of a table whose rows can't say so.
pub fn row(table: Table, texts: &Texts) -> Option<Row> {
    let mut read = Reader { texts, live: true };
    let has_ended = ["deleted_at", "disabled_at"].iter().any(|column| read.get(column).is_some());
    let has_all = columns(table).0.iter().all(|column| texts.0.contains_key(column));
    read.live = has_all && !has_ended;
    let row = match table {
        Table::Accounts => account(&mut read),
        Table::Actors => {
            read.one_of("type", &["account_user", "account_admin_user", "service_account", "api_client"]);
            Row::Actor(ActorRow { live: read.live })
        }
        Table::ActorGroups => {
            read.one_of("type", &["managed", "static"]);
            Row::ActorGroup(ActorGroupRow { live: read.live })
        }
        Table::ActorGroupMemberships => {
            Row::Membership(MembershipRow { actor: read.uuid("actor_id"), group: read.uuid("group_id") })
        }
        Table::AuthProviders => Row::AuthProvider(AuthProviderRow { live: read.live }),
        Table::AuthIdentities => {
            let provider = read.uuid("provider_id");
            Row::AuthIdentity(AuthIdentityRow { provider, live: read.live })
        }
        Table::Tokens => {
            read.one_of("type", &["browser", "client", "api_client", "relay_group", "gateway_group", "email"]);
            let (actor, expires_at) = (read.optional_uuid("actor_id"), read.time("expires_at"));
            Row::Token(TokenRow { actor, expires_at, live: read.live })
        }
        Table::Clients => client(&mut read),
        Table::GatewayGroups => {
            read.one_of("managed_by", &["account", "system"]);
            let name = read.get("name").unwrap_or_default().into();
            Row::GatewayGroup(GatewayGroupRow { name, live: read.live })
        }
        Table::Gateways => gateway(&mut read),
        Table::Resources => resource(&mut read),
        Table::ResourceConnections => Row::ResourceConnection,
        Table::Policies => policy(&mut read),
        Table::Flows => flow(&mut read),
    };
    match row {
        Row::Membership(_) | Row::ResourceConnection if !read.live => None,
        row => Some(row),
    }
}

struct Reader<'a> {
    texts: &'a Texts,
    live: bool,
}

impl<'a> Reader<'a> {
    fn get(&self, column: &str) -> Option<&'a str> {
        self.texts.0.get(column)?.as_deref()
    }

    /// What cannot be read makes the row unreliable.
    fn read<T>(&mut self, column: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let parsed = parse(self.get(column)?);
        self.live &= parsed.is_some();
        parsed
    }

    fn optional_uuid(&mut self, column: &str) -> Option<Uuid> {
        self.read(column, |text| Uuid::try_parse(text).ok())
    }

    fn uuid(&mut self, column: &str) -> Uuid {
        let found = self.optional_uuid(column);
        self.live &= found.is_some();
        found.unwrap_or_default()
    }

    fn time(&mut self, column: &str) -> Option<Micros> {
        self.read(column, time)
    }

    /// An address; of one with a prefix length, the address.
    fn interface(&mut self, column: &str) -> Option<IpAddr> {
        self.read(column, |text| text.split('/').next()?.parse().ok())
    }

    fn one_of(&mut self, column: &str, known: &[&str]) {
        self.read(column, |text| known.contains(&text).then_some(()));
    }

    fn coordinates(&self) -> Option<(f64, f64)> {
        let number = |column| self.get(column)?.parse().ok();
        Some((number("last_seen_remote_ip_location_lat")?, number("last_seen_remote_ip_location_lon")?))
    }

    fn text(&self, column: &str) -> Option<Arc<str>> {
        self.get(column).map(Arc::from)
    }
}

/// `2021-01-01 10:00:00.5`, with or without an offset from UTC, or an infinity.
fn time(text: &str) -> Option<Micros> {
    match text {
        "infinity" => return Some(Micros(i64::MAX)),
        "-infinity" => return Some(Micros(i64::MIN)),
        _ => {}
    }
    let local = text.strip_suffix("+00").unwrap_or(text);
    // The session's zone is UTC. Another offset would be read over, and not reckoned with.
    let (_date, clock) = local.split_once(' ')?;
    if clock.contains(['+', '-']) {
        return None;
    }
    let civil: jiff::civil::DateTime = local.replace(' ', "T").parse().ok()?;
    Some(Micros(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_microsecond()))
}

fn json(text: &str) -> Option<Json> {
    serde_json::from_str(text).ok()
}

fn account(read: &mut Reader<'_>) -> Row {
    let config = read.get("config").and_then(json).unwrap_or_default();
    let server = |server: &Json| {
        let text = |key: &str| server.get(key).and_then(Json::as_str).map(Arc::from);
        let server = UpstreamDns { protocol: text("protocol")?, address: text("address")? };
        render::name_server(&server).is_some().then_some(server)
    };
    let servers = config.get("clients_upstream_dns").and_then(Json::as_array);
    Row::Account(AccountRow {
        slug: read.get("slug").unwrap_or_default().into(),
        search_domain: config.get("search_domain").and_then(Json::as_str).map(Arc::from),
        upstream_dns: servers.into_iter().flatten().filter_map(server).collect(),
        live: read.live,
    })
}

fn client(read: &mut Reader<'_>) -> Row {
    Row::Client(ClientRow {
        actor: read.uuid("actor_id"),
        identity: read.optional_uuid("identity_id"),
        last_used_token: read.optional_uuid("last_used_token_id"),
        public_key: read.get("public_key").unwrap_or_default().into(),
        ipv4: read.interface("ipv4"),
        ipv6: read.interface("ipv6"),
        last_seen_version: read.text("last_seen_version"),
        remote_ip: read.get("last_seen_remote_ip").and_then(|text| text.parse().ok()),
        region: read.text("last_seen_remote_ip_location_region"),
        coordinates: read.coordinates(),
        verified: read.get("verified_at").is_some(),
        live: read.live,
    })
}

fn gateway(read: &mut Reader<'_>) -> Row {
    Row::Gateway(GatewayRow {
        group: read.uuid("group_id"),
        last_used_token: read.optional_uuid("last_used_token_id"),
        public_key: read.get("public_key").unwrap_or_default().into(),
        ipv4: read.interface("ipv4"),
        ipv6: read.interface("ipv6"),
        last_seen_version: read.text("last_seen_version"),
        coordinates: read.coordinates(),
        live: read.live,
    })
}

fn resource(read: &mut Reader<'_>) -> Row {
    let kind = read.read("type", |text| {
        Some(match text {
            "cidr" => ResourceKind::Cidr,
            "ip" => ResourceKind::Ip,
            "dns" => ResourceKind::Dns,
            "internet" => ResourceKind::Internet,
            _ => return None,
        })
    });
    let ip_stack = read.read("ip_stack", |text| {
        Some(match text {
            "ipv4_only" => IpStack::Ipv4Only,
            "ipv6_only" => IpStack::Ipv6Only,
            "dual" => IpStack::Dual,
            _ => return None,
        })
    });
    let address = read.text("address");
    read.live &= kind.is_some() && (address.is_some() || kind == Some(ResourceKind::Internet));
    let filters = filters(read);
    Row::Resource(ResourceRow {
        name: read.get("name").unwrap_or_default().into(),
        kind: kind.unwrap_or(ResourceKind::Cidr),
        address,
        address_description: read.text("address_description"),
        ip_stack,
        filters,
        live: read.live,
    })
}

/// One for each port; what cannot be read is left out, and where nothing is left of some, the row is unreliable.
fn filters(read: &mut Reader<'_>) -> Arc<[Filter]> {
    let Some(text) = read.get("filters") else { return Arc::default() };
    let Some(Json::Array(given)) = json(text) else {
        read.live = false;
        return Arc::default();
    };
    let readable: Vec<Filter> = given.iter().flat_map(ports).collect();
    read.live &= given.is_empty() || !readable.is_empty();
    readable.into()
}

fn ports(filter: &Json) -> Vec<Filter> {
    let protocol = match filter.get("protocol").and_then(Json::as_str) {
        Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        Some("icmp") => Protocol::Icmp,
        Some(_) | None => return Vec::new(),
    };
    match filter.get("ports") {
        None | Some(Json::Null) => vec![Filter { protocol, ports: None }],
        Some(Json::Array(ports)) if ports.is_empty() => vec![Filter { protocol, ports: None }],
        Some(Json::Array(ports)) => {
            let ranges = ports.iter().filter_map(|port| range(port.as_str()?));
            ranges.map(|ports| Filter { protocol, ports: Some(ports) }).collect()
        }
        Some(_) => Vec::new(),
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| {
        let text = text.trim_matches(' ');
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

fn policy(read: &mut Reader<'_>) -> Row {
    let element = |text: Option<String>| text.map(|text| json(&text).unwrap_or(Json::Null));
    let texts = read.get("conditions").and_then(|text| serde_json::from_str::<Vec<Option<String>>>(text).ok());
    Row::Policy(PolicyRow {
        group: read.uuid("actor_group_id"),
        resource: read.uuid("resource_id"),
        conditions: texts.map(|texts| texts.into_iter().map(element).collect()),
        live: read.live,
    })
}

fn flow(read: &mut Reader<'_>) -> Row {
    Row::Flow(FlowRow {
        policy: read.uuid("policy_id"),
        client: read.uuid("client_id"),
        gateway: read.uuid("gateway_id"),
        resource: read.uuid("resource_id"),
        token: read.uuid("token_id"),
        membership: read.uuid("actor_group_membership_id"),
        expires_at: read.time("expires_at"),
        live: read.live,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(columns: &[(&'static str, Option<&str>)]) -> Texts {
        Texts(columns.iter().map(|(name, value)| (*name, value.map(str::to_owned))).collect())
    }

    #[test]
    fn times_are_read_as_postgres_prints_them() {
        for (text, micros) in [
            ("1970-01-01 00:00:01.5", Some(1_500_000)),
            ("1970-01-01 00:00:01.5+00", Some(1_500_000)),
            ("1969-12-31 23:59:59", Some(-1_000_000)),
            ("infinity", Some(i64::MAX)),
            ("-infinity", Some(i64::MIN)),
            ("1970-01-01 00:00:00+01", None),
            ("soon", None),
        ] {
            assert_eq!(time(text).map(|time| time.0), micros, "{text}");
        }
    }

    #[test]
    fn rows_are_live_where_nothing_ends_them_and_everything_needed_can_be_read() {
        let id = Some("00000000-0000-4000-8000-000000000001");
        type Columns<'a> = &'a [(&'static str, Option<&'a str>)];
        let cases: [(Columns<'_>, bool); 7] = [
            (&[("actor_id", id), ("expires_at", None), ("type", Some("client")), ("deleted_at", None)], true),
            (&[("actor_id", None), ("expires_at", Some("infinity"))], true),
            (&[("actor_id", id), ("expires_at", None), ("deleted_at", Some("2021-01-01 00:00:00"))], false),
            (&[("actor_id", id), ("expires_at", None), ("type", Some("visitor"))], false),
            (&[("actor_id", Some("x")), ("expires_at", None)], false),
            (&[("actor_id", id), ("expires_at", Some("soon"))], false),
            (&[("actor_id", id)], false),
        ];
        for (columns, expected) in cases {
            let Some(Row::Token(token)) = row(Table::Tokens, &texts(columns)) else { panic!("{columns:?}") };
            assert_eq!(token.live, expected, "{columns:?}");
        }
        let membership = [("actor_id", id), ("group_id", Some("x"))];
        assert_eq!(row(Table::ActorGroupMemberships, &texts(&membership)), None, "it cannot say that it is not live");
    }

    #[test]
    fn conditions_of_null_are_none_and_an_element_of_null_is_one() {
        for (given, expected) in [
            (None, None),
            (Some("[]"), Some(vec![])),
            (Some(r#"[null, "{\"property\": \"x\"}"]"#), Some(vec![None, Some(serde_json::json!({"property": "x"}))])),
        ] {
            let Some(Row::Policy(policy)) = row(Table::Policies, &texts(&[("conditions", given)])) else { panic!() };
            assert_eq!(policy.conditions.as_deref().map(<[_]>::to_vec), expected, "{given:?}");
        }
    }
}
