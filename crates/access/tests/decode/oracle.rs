//! Random rows of random shapes, decoded here and, the slow way, by the wire's generic decoder.

use std::sync::Arc;

use penstock_access::change::Action;
use penstock_access::rows::*;
use penstock_wire::decode::{Envelope, WriterSchema, to_json};
use penstock_wire::event::Op;
use penstock_wire::table::ColumnShape;
use penstock_wire::types::ValueKind;
use proptest::prelude::*;
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use crate::fixture::{self, Cell, Cells, ID, OTHER_ID, VALUE_SCHEMA};

/// A row's fields as JSON, and those that were not sent.
struct Slow {
    fields: Map<String, Json>,
    unchanged: Vec<String>,
    schema: String,
}

impl Slow {
    fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    fn sent(&self, name: &str) -> bool {
        !self.unchanged.iter().any(|unchanged| unchanged == name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }

    /// There, and not NULL.
    fn is_set(&self, name: &str) -> bool {
        self.sent(name) && self.fields.get(name).is_some_and(|value| !value.is_null())
    }

    /// Needed, and readable if there.
    fn good(&self, name: &str, readable: impl Fn(&str) -> bool) -> bool {
        self.has(name) && self.fine(name, readable)
    }

    fn fine(&self, name: &str, readable: impl Fn(&str) -> bool) -> bool {
        self.sent(name) && (!self.is_set(name) || self.text(name).is_some_and(readable))
    }

    fn id(&self, name: &str) -> Uuid {
        self.optional_id(name).unwrap_or_default()
    }

    fn optional_id(&self, name: &str) -> Option<Uuid> {
        self.text(name).filter(|text| text.contains('-')).and_then(|text| text.parse().ok())
    }

    fn must_have_ids(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.has(name) && self.sent(name) && self.optional_id(name).is_some())
    }

    fn may_have_ids(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.good(name, |text| text.contains('-') && Uuid::try_parse(text).is_ok()))
    }

    fn has_texts(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.good(name, |_| true))
    }

    fn is_of(&self, name: &str, values: &str) -> bool {
        self.fine(name, |text| values.split(' ').any(|value| value == text))
    }

    fn arc(&self, name: &str) -> Option<Arc<str>> {
        self.text(name).map(Arc::from)
    }

    fn ended(&self) -> bool {
        ["deleted_at", "disabled_at"].iter().any(|end| !self.sent(end) || self.is_set(end))
    }

    fn time(&self, name: &str) -> (bool, Option<Micros>) {
        let declared = format!(r#"{{"name":"{name}","type":["null",{{"type":"long","logicalType":""#);
        let is_time = self.schema.split_once(&declared).is_some_and(|(_, rest)| !rest.starts_with("time-"));
        let micros = self.fields.get(name).and_then(Json::as_i64).filter(|_| is_time).map(Micros);
        (self.has(name) && self.sent(name) && (!self.is_set(name) || micros.is_some()), micros)
    }

    fn coordinates(&self) -> Option<(f64, f64)> {
        let number = |name: &str| self.fields.get(name)?.as_f64();
        number("last_seen_remote_ip_location_lat").zip(number("last_seen_remote_ip_location_lon"))
    }

    fn addresses(&self) -> bool {
        let address = |text: &str| text.split('/').next().unwrap().parse::<std::net::IpAddr>().is_ok();
        self.good("ipv4", address) && self.good("ipv6", address)
    }

    fn address(&self, name: &str) -> Option<std::net::IpAddr> {
        self.text(name)?.split('/').next()?.parse().ok()
    }

    /// None: no row that could be live.
    fn row(&self, table: Table) -> Option<Row> {
        let there = !self.ended();
        Some(match table {
            Table::Accounts => {
                let config =
                    self.text("config").and_then(|text| serde_json::from_str::<Json>(text).ok()).unwrap_or_default();
                let server = |server: &Json| UpstreamDns {
                    protocol: server["protocol"].as_str().unwrap().into(),
                    address: server["address"].as_str().unwrap().into(),
                };
                Row::Account(AccountRow {
                    live: there && self.has_texts(&["slug"]),
                    slug: self.arc("slug").unwrap_or_default(),
                    search_domain: config["search_domain"].as_str().map(Arc::from),
                    upstream_dns: config["clients_upstream_dns"].as_array().into_iter().flatten().map(server).collect(),
                })
            }
            Table::Actors => Row::Actor(ActorRow {
                live: there && self.is_of("type", "account_user account_admin_user service_account api_client"),
            }),
            Table::ActorGroups => {
                Row::ActorGroup(ActorGroupRow { live: there && self.is_of("type", "managed static") })
            }
            Table::ActorGroupMemberships => {
                let good = there && self.must_have_ids(&["actor_id", "group_id"]);
                good.then(|| Row::Membership(MembershipRow { actor: self.id("actor_id"), group: self.id("group_id") }))?
            }
            Table::AuthProviders => Row::AuthProvider(AuthProviderRow { live: there }),
            Table::AuthIdentities => Row::AuthIdentity(AuthIdentityRow {
                live: there && self.must_have_ids(&["provider_id"]),
                provider: self.id("provider_id"),
            }),
            Table::Tokens => {
                let (readable, expires_at) = self.time("expires_at");
                let known = self.is_of("type", "browser client api_client relay_group gateway_group email");
                Row::Token(TokenRow {
                    live: there && readable && known && self.may_have_ids(&["actor_id"]),
                    actor: self.optional_id("actor_id"),
                    expires_at,
                })
            }
            Table::Clients => Row::Client(ClientRow {
                live: there
                    && self.must_have_ids(&["actor_id"])
                    && self.may_have_ids(&["identity_id", "last_used_token_id"])
                    && self.has_texts(&["public_key"])
                    && self.addresses(),
                actor: self.id("actor_id"),
                identity: self.optional_id("identity_id"),
                last_used_token: self.optional_id("last_used_token_id"),
                public_key: self.arc("public_key").unwrap_or_default(),
                ipv4: self.address("ipv4"),
                ipv6: self.address("ipv6"),
                last_seen_version: self.arc("last_seen_version"),
                remote_ip: self.text("last_seen_remote_ip").and_then(|text| text.parse().ok()),
                region: self.arc("last_seen_remote_ip_location_region"),
                coordinates: self.coordinates(),
                verified: self.is_set("verified_at"),
            }),
            Table::GatewayGroups => Row::GatewayGroup(GatewayGroupRow {
                live: there && self.has_texts(&["name"]) && self.is_of("managed_by", "account system"),
                name: self.arc("name").unwrap_or_default(),
            }),
            Table::Gateways => Row::Gateway(GatewayRow {
                live: there
                    && self.must_have_ids(&["group_id"])
                    && self.may_have_ids(&["last_used_token_id"])
                    && self.has_texts(&["public_key"])
                    && self.addresses(),
                group: self.id("group_id"),
                last_used_token: self.optional_id("last_used_token_id"),
                public_key: self.arc("public_key").unwrap_or_default(),
                ipv4: self.address("ipv4"),
                ipv6: self.address("ipv6"),
                last_seen_version: self.arc("last_seen_version"),
                coordinates: self.coordinates(),
            }),
            Table::Resources => self.resource(there),
            Table::ResourceConnections => there.then_some(Row::ResourceConnection)?,
            Table::Policies => Row::Policy(PolicyRow {
                live: there && self.must_have_ids(&["actor_group_id", "resource_id"]) && self.has("conditions"),
                group: self.id("actor_group_id"),
                resource: self.id("resource_id"),
                conditions: self.fields.get("conditions").and_then(Json::as_array).map(|elements| {
                    elements.iter().map(|element| Some(serde_json::from_str(element.as_str()?).unwrap())).collect()
                }),
            }),
            Table::Flows => {
                let ids =
                    ["policy_id", "client_id", "gateway_id", "resource_id", "token_id", "actor_group_membership_id"];
                let (readable, expires_at) = self.time("expires_at");
                Row::Flow(FlowRow {
                    live: there && self.must_have_ids(&ids) && readable,
                    policy: self.id("policy_id"),
                    client: self.id("client_id"),
                    gateway: self.id("gateway_id"),
                    resource: self.id("resource_id"),
                    token: self.id("token_id"),
                    membership: self.id("actor_group_membership_id"),
                    expires_at,
                })
            }
        })
    }

    fn resource(&self, there: bool) -> Row {
        let kind = match self.text("type") {
            Some("ip") => ResourceKind::Ip,
            Some("dns") => ResourceKind::Dns,
            Some("internet") => ResourceKind::Internet,
            _ => ResourceKind::Cidr,
        };
        let known = self.has("type") && self.is_set("type") && self.is_of("type", "cidr ip dns internet");
        let addressed = kind == ResourceKind::Internet || self.is_set("address");
        let filters: Option<Json> = self.text("filters").and_then(|text| serde_json::from_str(text).ok());
        let filters: Vec<Filter> =
            filters.iter().flat_map(|filters| filters.as_array().unwrap()).flat_map(filter).collect();
        Row::Resource(ResourceRow {
            live: there
                && known
                && addressed
                && self.has_texts(&["name", "address", "filters"])
                && self.is_of("ip_stack", "ipv4_only ipv6_only dual"),
            name: self.arc("name").unwrap_or_default(),
            kind,
            address: self.arc("address"),
            address_description: self.arc("address_description"),
            ip_stack: match self.text("ip_stack") {
                Some("ipv4_only") => Some(IpStack::Ipv4Only),
                Some("ipv6_only") => Some(IpStack::Ipv6Only),
                Some("dual") => Some(IpStack::Dual),
                _ => None,
            },
            filters: filters.into(),
        })
    }
}

/// Of filters that can be read; damaged ones are not drawn here.
fn filter(filter: &Json) -> Vec<Filter> {
    let protocol = match filter["protocol"].as_str() {
        Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        other => panic!("{other:?}"),
    };
    let range = |port: &Json| {
        let ends: Vec<u16> = port.as_str().unwrap().split(" - ").map(|end| end.parse().unwrap()).collect();
        Filter { protocol, ports: Some((ends[0], ends[ends.len() - 1])) }
    };
    match filter["ports"].as_array() {
        Some(ports) => ports.iter().map(range).collect(),
        None => vec![Filter { protocol, ports: None }],
    }
}

/// A value of the column that Postgres can have printed.
fn cell(column: &ColumnShape) -> BoxedStrategy<Cell> {
    let one_of = |values: &[&str]| {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        prop::sample::select(values).boxed()
    };
    let value = match (column.name.as_str(), column.type_info.kind) {
        ("type", ValueKind::Text) => {
            one_of(&["client", "email", "static", "account_user", "dns", "ip", "internet", "x"])
        }
        ("managed_by", ValueKind::Text) => one_of(&["account", "system", "nobody"]),
        ("ip_stack", ValueKind::Text) => one_of(&["dual", "ipv4_only", "ipv6_only", ""]),
        ("config", ValueKind::Jsonb) => one_of(&[
            "{}",
            r#"{"search_domain": "é.example"}"#,
            r#"{"clients_upstream_dns": [{"address": "::1", "protocol": "p"}, {"address": "1.1.1.1", "protocol": "p"}]}"#,
        ]),
        ("filters", ValueKind::Jsonb) => one_of(&[
            "[]",
            r#"[{"protocol": "tcp"}]"#,
            r#"[{"protocol": "udp", "ports": ["80", "1 - 65535"]}, {"protocol": "tcp", "ports": ["22"]}]"#,
        ]),
        (_, ValueKind::Uuid) => one_of(&[ID, OTHER_ID]),
        (_, ValueKind::Inet) => one_of(&["192.0.2.1", "2001:db8::1", "10.0.0.0/8"]),
        (_, ValueKind::Timestamp) => one_of(&["2021-01-01 10:00:00.123456", "infinity", "0044-03-15 00:00:00 BC"]),
        (_, ValueKind::Timestamptz) => one_of(&["2021-01-01 10:00:00.123456+00", "-infinity"]),
        (_, ValueKind::Float8) => one_of(&["0", "-0.1", "1e300", "179.99999999999997"]),
        (_, ValueKind::Int4) => one_of(&["0", "-1", "2147483647"]),
        (_, ValueKind::Jsonb) => one_of(&["{}", "null", r#"{"a": [1, 2]}"#]),
        (_, ValueKind::Array(_)) => one_of(&["{}", "{NULL,\"{}\"}", "{{7}}", "{\"[1, \\\"2\\\"]\"}"]),
        (_, ValueKind::Text) => any::<String>().prop_map(|text| text.replace('\0', "")).boxed(),
        (_, other) => panic!("{other:?}"),
    };
    prop_oneof![1 => Just(Cell::Null), 1 => Just(Cell::Unchanged), 12 => value.prop_map(Cell::Text)].boxed()
}

/// Columns that are always there, and always have a value.
fn is_fixed(table: Table, name: &str) -> bool {
    ["id", "account_id"].contains(&name)
        || (table == Table::ResourceConnections && ["resource_id", "gateway_group_id"].contains(&name))
}

fn case() -> impl Strategy<Value = (Table, Op, Vec<ColumnShape>, Cells)> {
    let ops = prop::sample::select(vec![Op::Create, Op::Update, Op::Read]);
    (prop::sample::select(Table::ALL.to_vec()), ops).prop_flat_map(|(table, op)| {
        let all = fixture::shape(table).columns;
        let present = all.into_iter().map(move |column| {
            let fixed = is_fixed(table, &column.name);
            let value = if fixed { Just(fixture::text(ID)).boxed() } else { cell(&column) };
            (prop::bool::weighted(if fixed { 0.0 } else { 0.05 }), value).prop_map(move |(gone, value)| {
                (ColumnShape { excluded: column.excluded || gone, ..column.clone() }, value)
            })
        });
        (Just(table), Just(op), present.collect::<Vec<_>>().prop_shuffle()).prop_map(|(table, op, columns)| {
            let cells = columns.iter().map(|(column, cell)| (column.name.clone(), cell.clone())).collect();
            (table, op, columns.into_iter().map(|(column, _)| column).collect(), cells)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_what_the_generic_decoder_reads((table, op, columns, cells) in case()) {
        let shape = fixture::shape_of(table, columns);
        let record = fixture::encode(&shape, op, &cells);
        let schema = fixture::plan(&shape).envelope_schema().to_owned();
        let (id, body) = penstock_wire::framing::split(&record.value).unwrap();
        prop_assert_eq!(id, VALUE_SCHEMA);
        let envelope = Envelope::decode(&WriterSchema::parse(&schema).unwrap(), body).unwrap();
        let fields = envelope.after.unwrap().0.iter().map(|(name, value)| (name.clone(), to_json(value))).collect();
        let slow = Slow { fields, unchanged: envelope.unchanged, schema };

        let event = fixture::decode_as(&shape, op, &cells);
        let written = event.written.unwrap();
        prop_assert_eq!(written.time_us, envelope.source.ts_us);
        prop_assert_eq!((written.commit_lsn, written.seq), (envelope.source.commit_lsn, envelope.source.seq));
        let found = match event.action {
            Action::Insert(_, row) if op == Op::Create => Some(row),
            Action::Update(_, row) if op == Op::Update => Some(row),
            Action::Load(_, row) if op == Op::Read => Some(row),
            Action::Delete(_) => None,
            other => panic!("{other:?} from {op:?}"),
        };
        prop_assert_eq!(found, slow.row(table));
    }
}
