//! The topics: created once as the wire contract says, checked ever after.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::client::{Brokers, IsolationLevel};
use super::ends::{beginnings, ends, places};
use super::readers::{Aside, Readers};
use super::topic_id::{TopicIdError, topic_id};

const TIMEOUT: Duration = Duration::from_secs(15);

/// The names of a bridge's topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The change topic.
    pub changes: String,
}

impl Names {
    /// Progress of every source that writes to the change topic.
    pub fn progress(&self) -> String {
        format!("{}.progress", self.changes)
    }

    /// Rows that could not be delivered.
    pub fn dead_letter(&self) -> String {
        format!("{}.dead_letter", self.changes)
    }
}

/// How topics are created.
#[derive(Clone, Copy, Debug)]
pub struct Creation {
    /// Partitions of the change topic.
    pub partitions: u32,
    /// Copies of every partition.
    pub replication: u16,
    /// Copies that must have a record before it counts as delivered.
    pub min_insync_replicas: u16,
    /// How long the full history stays.
    pub min_compaction_lag: Duration,
    /// How long tombstones stay.
    pub delete_retention: Duration,
    /// Largest batch a topic takes, in bytes.
    pub message_bytes_max: usize,
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// Kafka's text form of its id.
    pub id: String,
    /// By partition: first offset kept, and offset behind the last record.
    pub offsets: Vec<(i64, i64)>,
}

/// Why topics cannot be created or described.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// A call failed.
    #[error("{step}: {source}")]
    Kafka {
        /// What was being done.
        step: &'static str,
        /// librdkafka's error.
        #[source]
        source: KafkaError,
    },
    /// Kafka refused to create a topic.
    #[error("create topic {topic:?}: {code}")]
    Refused {
        /// Which.
        topic: String,
        /// Why.
        code: RDKafkaErrorCode,
    },
    /// Its id cannot be told.
    #[error(transparent)]
    Id(#[from] TopicIdError),
    /// A partition without a leader, or metadata that is still spreading.
    #[error("topic {topic:?}: {reason}")]
    NotReady {
        /// Which.
        topic: String,
        /// Why.
        reason: String,
    },
}

/// Asks about topics and creates them.
pub struct Topics {
    brokers: Brokers,
    admin: Aside<AdminClient<DefaultClientContext>>,
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").field("brokers", &self.brokers.bootstrap).finish()
    }
}

fn kafka(step: &'static str) -> impl FnOnce(KafkaError) -> TopicsError {
    move |source| TopicsError::Kafka { step, source }
}

impl Topics {
    /// Connects lazily; fails only on a configuration librdkafka refuses.
    pub fn new(brokers: &Brokers) -> Result<Self, TopicsError> {
        let admin = brokers.admin().create().map_err(kafka("configure the Kafka client"))?;
        Ok(Self { brokers: brokers.clone(), admin: Aside::new(admin) })
    }

    /// Creates what is missing of the change, progress and dead-letter topics.
    pub async fn create(&self, names: &Names, creation: Creation) -> Result<(), TopicsError> {
        let lag = creation.min_compaction_lag.as_millis().to_string();
        let compacted = [("cleanup.policy", "compact"), ("min.compaction.lag.ms", lag.as_str())];
        let partitions = i32::try_from(creation.partitions).expect("configuration bounds the partition count");
        self.create_one(&names.changes, partitions, creation, &compacted).await?;
        self.create_one(&names.progress(), 1, creation, &[("cleanup.policy", "compact")]).await?;
        self.create_one(&names.dead_letter(), 1, creation, &[("cleanup.policy", "delete"), ("retention.ms", "-1")])
            .await
    }

    async fn create_one(
        &self,
        name: &str,
        partitions: i32,
        creation: Creation,
        more: &[(&str, &str)],
    ) -> Result<(), TopicsError> {
        if describe(&self.brokers, name).await?.is_some() {
            return Ok(());
        }
        let in_sync = creation.min_insync_replicas.to_string();
        let bytes = creation.message_bytes_max.to_string();
        let retention = creation.delete_retention.as_millis().to_string();
        let replication = TopicReplication::Fixed(i32::from(creation.replication));
        let mut topic = NewTopic::new(name, partitions, replication)
            .set("min.insync.replicas", &in_sync)
            .set("max.message.bytes", &bytes)
            .set("delete.retention.ms", &retention)
            .set("message.timestamp.type", "CreateTime");
        for (key, value) in more {
            topic = topic.set(key, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
        let results = self.admin.create_topics([&topic], &options).await.map_err(kafka("create topics"))?;
        for result in results {
            match result {
                Ok(_) => tracing::info!(topic = name, "topic created"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(TopicsError::Refused { topic, code }),
            }
        }
        Ok(())
    }

    /// What the topic is configured with.
    pub async fn settings(&self, name: &str) -> Result<BTreeMap<String, String>, TopicsError> {
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let asked = [ResourceSpecifier::Topic(name)];
        let described =
            self.admin.describe_configs(&asked, &options).await.map_err(kafka("describe the topic's settings"))?;
        let mut settings = BTreeMap::new();
        for resource in described.into_iter().flatten() {
            for entry in resource.entries {
                if let Some(value) = entry.value {
                    settings.insert(entry.name, value);
                }
            }
        }
        Ok(settings)
    }
}

/// The topic as it is, or `None` if there is none of that name.
pub async fn describe(brokers: &Brokers, name: &str) -> Result<Option<TopicState>, TopicsError> {
    describe_with(Readers::of(brokers).map_err(kafka("configure a reader"))?, name).await
}

/// The same, with clients that exist already. librdkafka's calls block, so a thread makes them.
pub async fn describe_with(readers: Readers, name: &str) -> Result<Option<TopicState>, TopicsError> {
    let topic = name.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let Some((id, partitions)) = identity_blocking(readers.everything(), &topic)? else { return Ok(None) };
        let places = places(&topic, i32::try_from(partitions).unwrap_or(i32::MAX));
        if places.is_empty() {
            let reason = "its metadata names no partitions yet".to_owned();
            return Err(TopicsError::NotReady { topic, reason });
        }
        let starts = beginnings(readers.everything(), &places).map_err(kafka("fetch watermarks"))?;
        let ends = ends(readers.everything(), &places).map_err(kafka("fetch watermarks"))?;
        Ok(Some(TopicState { id, offsets: starts.into_values().zip(ends.into_values()).collect() }))
    });
    joined(name, asked.await)
}

/// A topic's id and how many partitions it has; `None` if there is none of that name.
pub async fn identity(brokers: &Brokers, name: &str) -> Result<Option<(String, usize)>, TopicsError> {
    let (brokers, topic) = (brokers.clone(), name.to_owned());
    let asked = tokio::task::spawn_blocking(move || {
        let reader = brokers.questions(IsolationLevel::ReadUncommitted).create();
        identity_blocking(&reader.map_err(kafka("configure a reader"))?, &topic)
    });
    joined(name, asked.await)
}

fn joined<T>(name: &str, asked: Result<Result<T, TopicsError>, tokio::task::JoinError>) -> Result<T, TopicsError> {
    let failed = |error| TopicsError::NotReady { topic: name.to_owned(), reason: format!("asking failed: {error}") };
    asked.unwrap_or_else(|error| Err(failed(error)))
}

fn identity_blocking(reader: &BaseConsumer, topic: &str) -> Result<Option<(String, usize)>, TopicsError> {
    // A consumer's question for one topic never makes it; another client's may.
    let known = reader.fetch_metadata(Some(topic), TIMEOUT).map_err(kafka("fetch metadata"))?;
    let partitions = known.topics().first().map_or(0, |topic| topic.partitions().len());
    let broker = known.brokers().first().map_or(-1, rdkafka::metadata::MetadataBroker::id);
    match topic_id(reader.client(), broker, topic) {
        Ok(id) => Ok(Some((id, partitions))),
        Err(TopicIdError::Missing(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
