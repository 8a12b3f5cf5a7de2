//! Why a service cannot start.

use std::net::SocketAddr;

use rdkafka::error::KafkaError;

/// Nothing was begun.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("reading {path}: {source}")]
    File {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{path}: {source}")]
    Config {
        path: String,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("{step}: {source}. Check kafka.brokers and kafka.properties")]
    Kafka {
        step: &'static str,
        #[source]
        source: KafkaError,
    },
    #[error("topic {0:?} does not exist. The bridge creates it: check kafka.topic")]
    NoTopic(String),
    #[error("topic {topic:?} has no partition {partition}. Check kafka.partitions")]
    NoPartition { topic: String, partition: u32 },
    #[error("registry.url: {0}")]
    Registry(String),
    #[error("checkpoint.folder {path:?}: {source}. Name a folder that this process may create files in")]
    Checkpoint {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("checkpoint.folder {0:?} is in use by another process. Give each instance a checkpoint.folder of its own")]
    CheckpointShared(String),
    #[error("http.listen = {listen}: {source}")]
    Http {
        listen: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("starting a thread: {0}")]
    Thread(#[source] std::io::Error),
}

impl ConnectError {
    /// Somebody has to change the configuration: trying again alone helps nobody.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::File { .. } | Self::Config { .. } | Self::NoPartition { .. } | Self::Registry(_) => true,
            Self::Checkpoint { .. } | Self::CheckpointShared(_) => true,
            Self::Kafka { .. } | Self::NoTopic(_) | Self::Http { .. } | Self::Thread(_) => false,
        }
    }
}

pub(super) fn kafka(step: &'static str) -> impl FnOnce(KafkaError) -> ConnectError {
    move |source| ConnectError::Kafka { step, source }
}
