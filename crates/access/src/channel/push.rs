//! What channels are sent, as JSON: `{"at": …, "deadline": …, "push": name, "payload": …}`.

use std::net::IpAddr;
use std::sync::Arc;

use penstock_wire::position::Position;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::account::rendered::{ForClient, ForGateway};
use crate::knowledge::Reason;
use crate::render::{ClientInterface, GatewayInterface};

/// One push, and what caused it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// The last position that was applied.
    #[serde(serialize_with = "position")]
    pub at: Position,
    /// Of a push that the clock made: the first second, unix time, in which the old answer was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<i64>,
    #[serde(flatten)]
    pub push: Push,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "push", content = "payload", rename_all = "snake_case")]
pub enum Push {
    /// A client's first push.
    #[serde(rename = "init")]
    ClientInit {
        /// In id order.
        resources: Vec<ResourceForClient>,
        interface: Arc<ClientInterface>,
    },
    ResourceDeleted(Uuid),
    ResourceCreatedOrUpdated(ResourceForClient),
    ConfigChanged {
        interface: Arc<ClientInterface>,
    },
    /// A gateway's first push, and again whenever everything before it is void.
    #[serde(rename = "init")]
    GatewayInit {
        account_slug: Arc<str>,
        interface: GatewayInterface,
        /// By (client, resource).
        authorizations: Vec<Authorization>,
    },
    RejectAccess {
        client_id: Uuid,
        resource_id: Uuid,
    },
    ResourceUpdated(ResourceForGateway),
    AccessAuthorizationExpiryUpdated(Authorization),
    AuthorizeFlow {
        client: Peer,
        resource: ResourceForGateway,
        /// Unix seconds; None: for ever.
        expires_at: Option<i64>,
    },
    /// The last push of a channel.
    Disconnect {
        reason: DisconnectReason,
    },
    Stale {
        /// Unix seconds; None: nothing was ever known.
        as_of: Option<i64>,
        reason: Reason,
    },
    Fresh {
        as_of: Option<i64>,
    },
    NotAssigned {},
}

impl Push {
    /// Names of all pushes.
    pub const NAMES: [&str; 12] = [
        "init",
        "resource_deleted",
        "resource_created_or_updated",
        "config_changed",
        "reject_access",
        "resource_updated",
        "access_authorization_expiry_updated",
        "authorize_flow",
        "disconnect",
        "stale",
        "fresh",
        "not_assigned",
    ];

    /// Its name, as in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ClientInit { .. } | Self::GatewayInit { .. } => "init",
            Self::ResourceDeleted(_) => "resource_deleted",
            Self::ResourceCreatedOrUpdated(_) => "resource_created_or_updated",
            Self::ConfigChanged { .. } => "config_changed",
            Self::RejectAccess { .. } => "reject_access",
            Self::ResourceUpdated(_) => "resource_updated",
            Self::AccessAuthorizationExpiryUpdated(_) => "access_authorization_expiry_updated",
            Self::AuthorizeFlow { .. } => "authorize_flow",
            Self::Disconnect { .. } => "disconnect",
            Self::Stale { .. } => "stale",
            Self::Fresh { .. } => "fresh",
            Self::NotAssigned {} => "not_assigned",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Authorization {
    pub client_id: Uuid,
    pub resource_id: Uuid,
    /// Unix seconds; None: for ever.
    pub expires_at: Option<i64>,
}

/// Why a channel was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DisconnectReason {
    /// Its own row, its account or its actor is not live.
    Revoked,
    /// The token it was opened with is not live or has expired.
    TokenExpired,
}

/// A client as a gateway sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    pub id: Uuid,
    pub public_key: Arc<str>,
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
}

/// A resource as it was sent to a client; shared between the channels that it was sent through.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceForClient(pub(crate) Arc<ForClient>);

/// A resource as it was sent to a gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceForGateway(pub(crate) Arc<ForGateway>);

impl ResourceForClient {
    pub fn id(&self) -> Uuid {
        self.0.id
    }
}

impl ResourceForGateway {
    pub fn id(&self) -> Uuid {
        self.0.id
    }
}

impl Serialize for ResourceForClient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.body.serialize(serializer)
    }
}

impl Serialize for ResourceForGateway {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.body.serialize(serializer)
    }
}

/// A position as it stands in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct JsonPosition {
    epoch: u32,
    commit_lsn: Lsn,
    seq: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lsn(penstock_wire::lsn::CommitLsn);

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// As positions are written in text: `epoch:commit LSN:seq`.
impl std::fmt::Display for JsonPosition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}:{}", self.epoch, self.commit_lsn.0, self.seq)
    }
}

impl From<Position> for JsonPosition {
    fn from(position: Position) -> Self {
        Self { epoch: position.epoch, commit_lsn: Lsn(position.commit_lsn), seq: position.seq.0 }
    }
}

fn position<S: Serializer>(position: &Position, serializer: S) -> Result<S::Ok, S::Error> {
    JsonPosition::from(*position).serialize(serializer)
}
