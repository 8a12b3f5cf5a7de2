//! Small worlds: rows by short names, transactions of them, and an account that is driven by both.

use std::sync::Arc;

use penstock_access::account::{Account, ClientOptions, Options};
use penstock_access::change::{Action, Change, Commit};
use penstock_access::channel::{ChannelId, Event};
use penstock_access::knowledge::Knowledge;
use penstock_access::rows::*;
use penstock_wire::lsn::CommitLsn;
use penstock_wire::position::{Position, Seq};
use serde_json::{Value as Json, json};
use uuid::Uuid;

/// Friday 2021-01-01 10:00:00Z.
pub const NOW: i64 = 1_609_495_200;

/// The id of a short name such as "r1": a letter for the table, and a number.
pub fn id(name: &str) -> Uuid {
    let (letter, number) = name.split_at(1);
    let number: u128 = number.parse().expect("a letter and a number");
    Uuid::from_u128((u128::from(letter.as_bytes()[0]) << 96) | number)
}

/// The short name of an id.
pub fn name(id: Uuid) -> String {
    let number = id.as_u128();
    format!("{}{}", char::from((number >> 96) as u8), number & 0xffff_ffff)
}

/// The table that a short name is of.
pub fn table(name: &str) -> Table {
    match &name[..1] {
        "x" => Table::Accounts,
        "a" => Table::Actors,
        "g" => Table::ActorGroups,
        "m" => Table::ActorGroupMemberships,
        "o" => Table::AuthProviders,
        "i" => Table::AuthIdentities,
        "t" => Table::Tokens,
        "c" => Table::Clients,
        "s" => Table::GatewayGroups,
        "w" => Table::Gateways,
        "r" => Table::Resources,
        "p" => Table::Policies,
        "f" => Table::Flows,
        other => panic!("no table is called {other}"),
    }
}

pub fn account() -> AccountRow {
    AccountRow { live: true, slug: "acme".into(), search_domain: None, upstream_dns: Vec::new() }
}

pub fn client(actor: &str) -> ClientRow {
    ClientRow {
        live: true,
        actor: id(actor),
        identity: None,
        last_used_token: Some(id("t1")),
        public_key: "key".into(),
        ipv4: Some("100.64.0.1".parse().unwrap()),
        ipv6: None,
        last_seen_version: Some("1.4.0".into()),
        remote_ip: Some("198.51.100.7".parse().unwrap()),
        region: Some("UA".into()),
        coordinates: None,
        verified: false,
    }
}

pub fn gateway(site: &str) -> GatewayRow {
    GatewayRow {
        live: true,
        group: id(site),
        last_used_token: Some(id("t2")),
        public_key: "gateway key".into(),
        ipv4: Some("100.64.1.1".parse().unwrap()),
        ipv6: None,
        last_seen_version: Some("1.4.0".into()),
        coordinates: None,
    }
}

pub fn resource(address: &str) -> ResourceRow {
    ResourceRow {
        live: true,
        name: "a resource".into(),
        kind: ResourceKind::Dns,
        address: Some(address.into()),
        address_description: None,
        ip_stack: None,
        filters: Arc::new([]),
    }
}

pub fn policy(group: &str, resource: &str) -> PolicyRow {
    PolicyRow { live: true, group: id(group), resource: id(resource), conditions: Some(Arc::new([])) }
}

pub fn condition(property: &str, operator: &str, values: &[&str]) -> Option<Json> {
    Some(json!({"property": property, "operator": operator, "values": values}))
}

/// A policy's conditions: datetime ranges in UTC.
pub fn during(ranges: &[&str]) -> Option<Arc<[Option<Json>]>> {
    Some(Arc::new([condition("current_utc_datetime", "is_in_day_of_week_time_ranges", ranges)]))
}

/// A flow of client c1 over policy p1 and membership m1, on gateway w1.
pub fn flow(resource: &str, expires_at: Option<i64>) -> FlowRow {
    FlowRow {
        live: true,
        policy: id("p1"),
        client: id("c1"),
        gateway: id("w1"),
        resource: id(resource),
        token: id("t1"),
        membership: id("m1"),
        expires_at: expires_at.map(Micros::from_seconds),
    }
}

pub fn token(actor: Option<&str>, expires_at: Option<i64>) -> TokenRow {
    TokenRow { live: true, actor: actor.map(id), expires_at: expires_at.map(Micros::from_seconds) }
}

pub fn membership(actor: &str, group: &str) -> MembershipRow {
    MembershipRow { actor: id(actor), group: id(group) }
}

/// What happens to one row or table.
pub type Act = (Table, Action);

pub fn insert(name: &str, row: impl IntoRow) -> Act {
    (table(name), Action::Insert(RowId::Id(id(name)), row.into_row()))
}

pub fn update(name: &str, row: impl IntoRow) -> Act {
    (table(name), Action::Update(RowId::Id(id(name)), row.into_row()))
}

pub fn load(name: &str, row: impl IntoRow) -> Act {
    (table(name), Action::Load(RowId::Id(id(name)), row.into_row()))
}

pub fn delete(name: &str) -> Act {
    (table(name), Action::Delete(RowId::Id(id(name))))
}

pub fn connection(resource: &str, site: &str) -> RowId {
    RowId::Connection { resource: id(resource), gateway_group: id(site) }
}

pub fn connect(resource: &str, site: &str) -> Act {
    (Table::ResourceConnections, Action::Insert(connection(resource, site), Row::ResourceConnection))
}

pub fn disconnect(resource: &str, site: &str) -> Act {
    (Table::ResourceConnections, Action::Delete(connection(resource, site)))
}

pub trait IntoRow {
    fn into_row(self) -> Row;
}

macro_rules! into_row {
    ($($row:ident => $variant:ident,)*) => {
        $(impl IntoRow for $row {
            fn into_row(self) -> Row {
                Row::$variant(self)
            }
        })*
    };
}

into_row! {
    AccountRow => Account,
    ActorRow => Actor,
    ActorGroupRow => ActorGroup,
    MembershipRow => Membership,
    AuthProviderRow => AuthProvider,
    AuthIdentityRow => AuthIdentity,
    TokenRow => Token,
    ClientRow => Client,
    GatewayGroupRow => GatewayGroup,
    GatewayRow => Gateway,
    ResourceRow => Resource,
    PolicyRow => Policy,
    FlowRow => Flow,
}

pub fn site(name: &str) -> GatewayGroupRow {
    GatewayGroupRow { live: true, name: name.into() }
}

/// Client c1 of actor a1, in group g1 by m1, to which p1 gives r1, which is reached through site s1 with gateway w1.
pub fn small_world() -> Vec<Act> {
    vec![
        insert("x1", account()),
        insert("a1", ActorRow { live: true }),
        insert("g1", ActorGroupRow { live: true }),
        insert("m1", membership("a1", "g1")),
        insert("t1", token(Some("a1"), None)),
        insert("t2", token(None, None)),
        insert("c1", client("a1")),
        insert("s1", site("one")),
        insert("w1", gateway("s1")),
        insert("r1", resource("one.example.com")),
        connect("r1", "s1"),
        insert("p1", policy("g1", "r1")),
    ]
}

/// The position of a transaction's change.
pub fn position(commit: u64, index: usize) -> Position {
    Position { epoch: 1, commit_lsn: CommitLsn::new(commit * 0x100), seq: Seq(8 * (1 + index as u64)) }
}

pub fn commit(number: u64, acts: Vec<Act>) -> Commit {
    let at = |index| position(number, index);
    let changes: Vec<Change> = acts
        .into_iter()
        .enumerate()
        .map(|(index, (table, action))| Change { position: at(index), table, action })
        .collect();
    let last = changes.last().map_or(at(0), |change| change.position);
    Commit { position: last, time_us: 0, changes }
}

/// An account of the id of "x1", fresh, at `NOW`.
pub struct Driven {
    pub account: Account,
    pub now: i64,
    pub commits: u64,
}

impl Driven {
    pub fn new(options: Options) -> Self {
        let account = Account::new(&id("x1").to_string(), Arc::new(options));
        let mut driven = Self { account, now: NOW, commits: 0 };
        driven.know();
        driven
    }

    /// A small world, and channels of c1 and w1 that have had their `init`.
    pub fn small() -> (Self, ChannelId, ChannelId) {
        Self::small_with(Options::default())
    }

    pub fn small_with(options: Options) -> (Self, ChannelId, ChannelId) {
        let mut driven = Self::new(options);
        driven.commit(small_world());
        let client = driven.account.subscribe_client(id("c1"), None, ClientOptions::default(), driven.micros());
        let gateway = driven.account.subscribe_gateway(id("w1"), None, driven.micros());
        let channels = (client.expect("c1 is live"), gateway.expect("w1 is live"));
        driven.pushes();
        (driven, channels.0, channels.1)
    }

    pub fn micros(&self) -> Micros {
        Micros::from_seconds(self.now)
    }

    pub fn know(&mut self) -> Vec<String> {
        let now = self.micros();
        self.account.set_knowledge(Knowledge::Known { as_of: now }, false, now);
        self.pushes()
    }

    /// Applies a transaction; what is pushed, in short.
    pub fn commit(&mut self, acts: Vec<Act>) -> Vec<String> {
        self.commits += 1;
        let commit = commit(self.commits, acts);
        self.account.apply(&commit, self.micros());
        self.account.settle(self.micros());
        self.pushes()
    }

    /// What is pushed while the clock goes to `now`.
    pub fn until(&mut self, now: i64) -> Vec<String> {
        self.now = now;
        self.account.handle_time(self.micros());
        self.pushes()
    }

    pub fn pushes(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.account.poll_push()).map(|(_, event)| in_short(&event)).collect()
    }

    pub fn ended(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.account.poll_ended_flow()).map(|flow| name(flow.id)).collect()
    }
}

/// An event as JSON; a refusal as its text.
pub fn json_of(event: &Event) -> Json {
    match event {
        Event::Push(message) => serde_json::to_value(message).expect("pushes are JSON"),
        Event::Refused(refusal) => json!({"push": "refused", "payload": refusal.to_string()}),
    }
}

/// An event in few words: `created r1`, `reject c1 r1`, `authorize c1 r1 100`; a deadline as `@101`.
pub fn in_short(event: &Event) -> String {
    let json = json_of(event);
    let payload = &json["payload"];
    let short = |value: &Json| value.as_str().map_or(String::new(), |text| name(text.parse().unwrap()));
    let pair = |of: &Json| {
        format!("{} {} {}", short(&of["client_id"]), short(&of["resource_id"]), of["expires_at"])
            .trim_end_matches(" null")
            .to_owned()
    };
    let push = json["push"].as_str().unwrap();
    let words = match push {
        "init" if payload.get("resources").is_some() => {
            let resources: Vec<String> =
                payload["resources"].as_array().unwrap().iter().map(|resource| short(&resource["id"])).collect();
            format!("init [{}]", resources.join(" "))
        }
        "init" => {
            let pairs: Vec<String> = payload["authorizations"].as_array().unwrap().iter().map(pair).collect();
            format!("gateway init [{}]", pairs.join(", "))
        }
        "resource_deleted" => format!("deleted {}", short(payload)),
        "resource_created_or_updated" => format!("created {}", short(&payload["id"])),
        "config_changed" => "config".to_owned(),
        "reject_access" => format!("reject {}", pair(payload)),
        "resource_updated" => format!("filters {}", short(&payload["id"])),
        "access_authorization_expiry_updated" => format!("expiry {}", pair(payload)),
        "authorize_flow" => format!(
            "authorize {} {} {}",
            short(&payload["client"]["id"]),
            short(&payload["resource"]["id"]),
            payload["expires_at"]
        )
        .trim_end_matches(" null")
        .to_owned(),
        "disconnect" => format!("disconnect {}", payload["reason"].as_str().unwrap()),
        "stale" => format!("stale {}", payload["reason"].as_str().unwrap()),
        "fresh" | "not_assigned" => push.to_owned(),
        "refused" => format!("refused {}", payload.as_str().unwrap()),
        other => panic!("an unknown push: {other}"),
    };
    match json.get("deadline") {
        Some(deadline) => format!("{words} @{}", deadline.as_i64().unwrap() - NOW),
        None => words,
    }
}
