//! How a service reads the topic.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::error::ConnectError;
use crate::decode::Names;
use crate::partition::Isolation;
use crate::{account, conditions};

/// A whole configuration, as a TOML file has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub kafka: KafkaConfig,
    pub registry: RegistryConfig,
    #[serde(default)]
    pub access: AccessConfig,
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// Without it nothing is served.
    pub http: Option<HttpConfig>,
}

/// `/metrics`, `/healthz` and `/readyz`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port, such as `127.0.0.1:9465`. There is no login: who connects may read it.
    pub listen: SocketAddr,
}

/// The topic, and which part of it is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port` each.
    pub brokers: Vec<String>,
    /// The change topic.
    pub topic: String,
    /// The progress topic; `<topic>.progress` unless it is named.
    pub progress_topic: Option<String>,
    /// Properties of librdkafka: security above all.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    #[serde(default)]
    pub assignment: Assignment,
    /// Which consumer group shares the partitions, and has its offsets committed for lag tools.
    #[serde(default = "group")]
    pub group: String,
    /// Only these partitions, with `assignment = "partitions"`.
    #[serde(default)]
    pub partitions: Vec<u32>,
    /// See records before their Kafka transaction is committed: less delay, and the same state.
    #[serde(default)]
    pub read_uncommitted: bool,
}

/// Which partitions an instance reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// Every one: each instance answers for all accounts.
    #[default]
    All,
    /// Those that the group gives it: an account has one owner.
    Group,
    /// Those that are listed.
    Partitions,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Base URL of the Confluent API.
    pub url: String,
    pub user: Option<String>,
    pub password: Option<String>,
}

/// What is kept so that a restart reads only what is new.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// A folder that no other instance uses; created if need be. None: every start reads the topic from its beginning.
    pub folder: Option<PathBuf>,
    /// Seconds between two checkpoints of a partition. The last one is written when the instance is closed.
    pub every: NonZeroU32,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { folder: None, every: NonZeroU32::new(60).expect("it is not zero") }
    }
}

/// What the rules leave open. Times are seconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// Without word from the bridge for so long, nothing is known any more.
    pub stale_after: u32,
    /// So long after that, gateways' authorisations end; 0: never.
    pub stale_grace: u32,
    pub on_stale: OnStale,
    /// How long an announced flow lasts without its row.
    pub confirm_within: u32,
    /// `true`: whoever owns the table of flows deletes the rows of those that have ended, so one that a load shows is live.
    pub loaded_flows_live: bool,
    /// An address of a family that no entry of `is_not_in_cidr` has is allowed.
    pub other_family_allows: bool,
    /// `is_not_in` allows where there is no provider.
    pub unknown_provider_allows_not_in: bool,
    /// Postgres' schema of the tables.
    pub schema: String,
}

/// What becomes of questions while the state is stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStale {
    /// They are answered with `Unavailable`.
    #[default]
    Refuse,
    /// They are answered from what was known last.
    Serve,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            stale_after: 10,
            stale_grace: 0,
            on_stale: OnStale::Refuse,
            confirm_within: 15,
            loaded_flows_live: false,
            other_family_allows: false,
            unknown_provider_allows_not_in: false,
            schema: "public".to_owned(),
        }
    }
}

fn group() -> String {
    "penstock-access".to_owned()
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is no such configuration.
    pub fn load(path: &Path) -> Result<Self, ConnectError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConnectError::File { path: path.display().to_string(), source })?;
        toml::from_str(&text)
            .map_err(|source| ConnectError::Config { path: path.display().to_string(), source: Box::new(source) })
    }

    /// The progress topic's name.
    pub fn progress_topic(&self) -> String {
        self.kafka.progress_topic.clone().unwrap_or_else(|| format!("{}.progress", self.kafka.topic))
    }

    /// The same topic for a look from outside, beside a service that runs with this configuration: reads every partition
    /// without a part in the service's group, and serves nothing.
    pub fn for_a_look(mut self) -> Self {
        self.kafka.assignment = Assignment::All;
        self.kafka.group.push_str(".look");
        self.http = None;
        // The service has its folder for itself.
        self.checkpoint = CheckpointConfig::default();
        self
    }

    pub(super) fn isolation(&self) -> Isolation {
        match self.kafka.read_uncommitted {
            true => Isolation::ReadUncommitted,
            false => Isolation::ReadCommitted,
        }
    }
}

impl AccessConfig {
    pub(super) fn account(&self) -> account::Options {
        let micros = |seconds: u32| i64::from(seconds) * 1_000_000;
        account::Options {
            conditions: conditions::Options {
                other_family_allows: self.other_family_allows,
                unknown_provider_allows_not_in: self.unknown_provider_allows_not_in,
            },
            confirm_within_us: micros(self.confirm_within),
            stale_grace_us: (self.stale_grace > 0).then(|| micros(self.stale_grace)),
            serve_stale: self.on_stale == OnStale::Serve,
            loaded_flows_live: self.loaded_flows_live,
        }
    }

    pub(super) fn names(&self) -> Names {
        Names { schema: self.schema.clone(), ..Names::default() }
    }

    pub(super) fn stale_after(&self) -> Duration {
        Duration::from_secs(u64::from(self.stale_after))
    }
}
