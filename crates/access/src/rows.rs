//! The rows that decisions read, one type per table, holding only what decisions read.
//!
//! Invariants: a row that decisions cannot rely on is not live. `live` is false where `deleted_at` or `disabled_at` is set,
//! listed as unchanged or unreadable, where an enum column holds a value that is not known, and where a column that is
//! needed is missing or unreadable and nothing gentler is said at its field. A table without `deleted_at` deletes for good.
//! Times are microseconds since 1970 in UTC. Not in here: secrets, and columns that no decision reads.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

/// Microseconds since 1970-01-01 00:00 UTC; `i64::MAX` and `i64::MIN` are Postgres' infinities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Micros(pub i64);

impl Micros {
    /// Whole unix seconds: a fraction counts to the second it lies in, before 1970 too.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The first instant of a second; beyond what fits, the last.
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }
}

/// The last second in which something that expires is there; None: for ever, which is what no expiry and infinity mean.
pub fn last_second(expires_at: Option<Micros>) -> Option<i64> {
    expires_at.filter(|at| *at != Micros(i64::MAX)).map(Micros::seconds)
}

/// The tables of the access domain, in the order in which parents come before children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Table {
    Accounts,
    Actors,
    ActorGroups,
    ActorGroupMemberships,
    AuthProviders,
    AuthIdentities,
    Tokens,
    Clients,
    GatewayGroups,
    Gateways,
    Resources,
    ResourceConnections,
    Policies,
    Flows,
}

/// A row's key within its account: `id`, or of a resource connection both columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RowId {
    Id(Uuid),
    Connection { resource: Uuid, gateway_group: Uuid },
}

/// A row of any table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Row {
    Account(AccountRow),
    Actor(ActorRow),
    ActorGroup(ActorGroupRow),
    Membership(MembershipRow),
    AuthProvider(AuthProviderRow),
    AuthIdentity(AuthIdentityRow),
    Token(TokenRow),
    Client(ClientRow),
    GatewayGroup(GatewayGroupRow),
    Gateway(GatewayRow),
    Resource(ResourceRow),
    ResourceConnection,
    Policy(PolicyRow),
    Flow(FlowRow),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountRow {
    pub live: bool,
    pub slug: Arc<str>,
    pub search_domain: Option<Arc<str>>,
    /// `clients_upstream_dns` in its order; what cannot be read is left out and reported.
    pub upstream_dns: Vec<UpstreamDns>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamDns {
    pub protocol: Arc<str>,
    /// As it stands in the row: an address, or an address with a port.
    pub address: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActorRow {
    pub live: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActorGroupRow {
    pub live: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MembershipRow {
    pub actor: Uuid,
    pub group: Uuid,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthProviderRow {
    pub live: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthIdentityRow {
    pub live: bool,
    pub provider: Uuid,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenRow {
    pub live: bool,
    /// None: NULL.
    pub actor: Option<Uuid>,
    /// None: never.
    pub expires_at: Option<Micros>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientRow {
    pub live: bool,
    pub actor: Uuid,
    pub identity: Option<Uuid>,
    pub last_used_token: Option<Uuid>,
    pub public_key: Arc<str>,
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
    /// As it stands; None: NULL or unreadable, which counts as the oldest.
    pub last_seen_version: Option<Arc<str>>,
    /// None: NULL or unreadable, which denies conditions that ask for it.
    pub remote_ip: Option<IpAddr>,
    pub region: Option<Arc<str>>,
    /// (latitude, longitude) in degrees, where both are known.
    pub coordinates: Option<(f64, f64)>,
    pub verified: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayGroupRow {
    pub live: bool,
    pub name: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayRow {
    pub live: bool,
    pub group: Uuid,
    pub last_used_token: Option<Uuid>,
    pub public_key: Arc<str>,
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
    pub last_seen_version: Option<Arc<str>>,
    pub coordinates: Option<(f64, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ResourceKind {
    Cidr,
    Ip,
    Dns,
    Internet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IpStack {
    Ipv4Only,
    Ipv6Only,
    Dual,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceRow {
    pub live: bool,
    pub name: Arc<str>,
    pub kind: ResourceKind,
    /// None only for `Internet`.
    pub address: Option<Arc<str>>,
    pub address_description: Option<Arc<str>>,
    pub ip_stack: Option<IpStack>,
    /// As rendered: one per port; unreadable ones are left out and reported.
    pub filters: Arc<[Filter]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Filter {
    pub protocol: Protocol,
    /// First and last port, both inclusive; None: all.
    pub ports: Option<(u16, u16)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyRow {
    pub live: bool,
    pub group: Uuid,
    pub resource: Uuid,
    /// The array as it stands. None: NULL, unchanged, missing or no array, which denies; an element of None: NULL, which
    /// denies; empty: no conditions.
    #[serde(with = "crate::checkpoint::fields::documents")]
    pub conditions: Option<Arc<[Option<Json>]>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowRow {
    /// False where a column that is needed could not be read.
    pub live: bool,
    pub policy: Uuid,
    pub client: Uuid,
    pub gateway: Uuid,
    pub resource: Uuid,
    pub token: Uuid,
    pub membership: Uuid,
    /// None: NULL, which is for ever as far as the flow's own expiry goes.
    pub expires_at: Option<Micros>,
}

impl Row {
    /// The table that the row is of.
    pub fn table(&self) -> Table {
        match self {
            Row::Account(_) => Table::Accounts,
            Row::Actor(_) => Table::Actors,
            Row::ActorGroup(_) => Table::ActorGroups,
            Row::Membership(_) => Table::ActorGroupMemberships,
            Row::AuthProvider(_) => Table::AuthProviders,
            Row::AuthIdentity(_) => Table::AuthIdentities,
            Row::Token(_) => Table::Tokens,
            Row::Client(_) => Table::Clients,
            Row::GatewayGroup(_) => Table::GatewayGroups,
            Row::Gateway(_) => Table::Gateways,
            Row::Resource(_) => Table::Resources,
            Row::ResourceConnection => Table::ResourceConnections,
            Row::Policy(_) => Table::Policies,
            Row::Flow(_) => Table::Flows,
        }
    }
}

impl Table {
    pub const ALL: [Self; 14] = [
        Self::Accounts,
        Self::Actors,
        Self::ActorGroups,
        Self::ActorGroupMemberships,
        Self::AuthProviders,
        Self::AuthIdentities,
        Self::Tokens,
        Self::Clients,
        Self::GatewayGroups,
        Self::Gateways,
        Self::Resources,
        Self::ResourceConnections,
        Self::Policies,
        Self::Flows,
    ];

    /// What the table is called unless configuration says otherwise.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Actors => "actors",
            Self::ActorGroups => "actor_groups",
            Self::ActorGroupMemberships => "actor_group_memberships",
            Self::AuthProviders => "auth_providers",
            Self::AuthIdentities => "auth_identities",
            Self::Tokens => "tokens",
            Self::Clients => "clients",
            Self::GatewayGroups => "gateway_groups",
            Self::Gateways => "gateways",
            Self::Resources => "resources",
            Self::ResourceConnections => "resource_connections",
            Self::Policies => "policies",
            Self::Flows => "flows",
        }
    }
}
