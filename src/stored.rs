//! The newest progress records, for commands that only look.
//!
//! Unlike a bridge that starts, they fence nobody: the answer may be old by the time it is read.

use std::time::Duration;

use penstock_core::resume::Others;
use penstock_wire::decode::{DecodeError, WriterSchema};
use penstock_wire::progress::Progress;
use tokio::time::{Instant, sleep, timeout};

use crate::config::Config;
use crate::health::Health;
use crate::kafka::client::Brokers;
use crate::kafka::progress::{ProgressError, Stored, read_newest, read_others};
use crate::kafka::readers::Readers;
use crate::kafka::topics::{Names, TopicsError, describe_with};
use crate::registry::{Registry, RegistryError};

/// A bridge at work has a transaction open for moments; one that stays open belongs to somebody who is stuck.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);
const OPEN_PAUSE: Duration = Duration::from_millis(50);
const REGISTRY_PATIENCE: Duration = Duration::from_secs(10);

/// Why progress is not known.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// The progress topic cannot be described.
    #[error(transparent)]
    Topic(#[from] TopicsError),
    /// It cannot be read.
    #[error(transparent)]
    Progress(#[from] ProgressError),
    /// The schema that it was written with cannot be had.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The registry does not answer.
    #[error("the registry did not say within {} s how the progress record is written", REGISTRY_PATIENCE.as_secs())]
    RegistryAway,
    /// It is not written as this version knows.
    #[error("the progress record cannot be read")]
    Format(#[from] DecodeError),
}

/// The newest progress of the configured source; `None` if it never wrote any.
pub async fn newest_progress(
    config: &Config,
    brokers: &Brokers,
    registry: &Registry,
) -> Result<Option<Progress>, StoredError> {
    match read(config, brokers, read_newest).await? {
        Some(Some(stored)) => decode(registry, stored).await.map(Some),
        Some(None) | None => Ok(None),
    }
}

/// The newest progress of every other source of the topic.
pub async fn other_progress(config: &Config, brokers: &Brokers, registry: &Registry) -> Result<Others, StoredError> {
    let mut others = Others::new();
    for (name, stored) in read(config, brokers, read_others).await?.unwrap_or_default() {
        others.insert(name, decode(registry, stored).await?);
    }
    Ok(others)
}

async fn decode(registry: &Registry, stored: Stored) -> Result<Progress, StoredError> {
    let health = Health::default();
    let text = match timeout(REGISTRY_PATIENCE, registry.schema(stored.schema_id, &health)).await {
        Ok(text) => text?,
        Err(_) => return Err(StoredError::RegistryAway),
    };
    let writer = WriterSchema::parse(&text)?;
    Ok(Progress::decode_with(&writer, &stored.body)?)
}

/// The answer to a question about the progress topic; `None` where there is no such topic.
async fn read<T: Send + 'static>(
    config: &Config,
    brokers: &Brokers,
    question: fn(&Readers, &str, &str) -> Result<T, ProgressError>,
) -> Result<Option<T>, StoredError> {
    let topic = Names { changes: config.kafka.topic.clone() }.progress();
    let readers = Readers::of(brokers).map_err(|source| TopicsError::Kafka { step: "configure a reader", source })?;
    if describe_with(readers.clone(), &topic).await?.is_none() {
        return Ok(None);
    }
    let deadline = Instant::now() + OPEN_PATIENCE;
    loop {
        let (readers, topic, source_name) = (readers.clone(), topic.clone(), config.source.name.clone());
        // librdkafka's questions block.
        let reading = tokio::task::spawn_blocking(move || question(&readers, &topic, &source_name)).await;
        match reading {
            Ok(Err(ProgressError::OpenTransaction { .. })) if Instant::now() < deadline => sleep(OPEN_PAUSE).await,
            Ok(read) => return Ok(Some(read?)),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
