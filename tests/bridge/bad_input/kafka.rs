//! What an operator can do to topics, for tests that do it to them.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::runtime::Runtime;

use crate::scene::PATIENCE;
use crate::world::wait;

const TIMEOUT: Duration = Duration::from_secs(30);

/// An operator with all rights. Each method returns when what it did can be seen.
pub struct Operator {
    client: AdminClient<DefaultClientContext>,
    reader: BaseConsumer,
    options: AdminOptions,
    runtime: Runtime,
}

impl Operator {
    pub fn new(bootstrap: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("group.id", "test-operator");
        Self {
            client: config.create().expect("an admin client"),
            reader: config.create().expect("a consumer"),
            options: AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT)),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
        }
    }

    pub fn delete_topic(&self, topic: &str) {
        let deleted =
            self.runtime.block_on(self.client.delete_topics(&[topic], &self.options)).expect("delete a topic");
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
        wait("the topic to be gone", PATIENCE, || self.partitions(topic) == 0).expect("gone");
    }

    pub fn create_topic(&self, topic: &str, partitions: i32) {
        self.create(NewTopic::new(topic, partitions, TopicReplication::Fixed(1)).set("cleanup.policy", "compact"));
        self.wait_for_partitions(topic, partitions);
    }

    /// Of one partition.
    pub fn create_topic_with(&self, topic: &str, settings: &[(&str, &str)]) {
        let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
        self.create(settings.iter().fold(new, |new, (key, value)| new.set(key, value)));
        self.wait_for_partitions(topic, 1);
    }

    fn create(&self, new: NewTopic<'_>) {
        let created = self.runtime.block_on(self.client.create_topics(&[new], &self.options)).expect("create a topic");
        assert!(created.iter().all(Result::is_ok), "{created:?}");
    }

    pub fn add_partitions(&self, topic: &str, total: i32) {
        let more = NewPartitions::new(topic, usize::try_from(total).expect("a count"));
        let added =
            self.runtime.block_on(self.client.create_partitions(&[more], &self.options)).expect("add partitions");
        assert!(added.iter().all(Result::is_ok), "{added:?}");
        self.wait_for_partitions(topic, total);
    }

    /// Changes a setting of a compacted topic. librdkafka's call replaces all of a topic's settings.
    pub fn set(&self, topic: &str, key: &str, value: &str) {
        self.set_all(topic, &[(key, value)]);
    }

    /// The same of several.
    pub fn set_all(&self, topic: &str, settings: &[(&str, &str)]) {
        let compacted = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("cleanup.policy", "compact");
        let settings = settings.iter().fold(compacted, |all, (key, value)| all.set(key, value));
        let altered =
            self.runtime.block_on(self.client.alter_configs([&settings], &self.options)).expect("alter a topic");
        assert!(altered.iter().all(Result::is_ok), "{altered:?}");
    }

    fn wait_for_partitions(&self, topic: &str, count: i32) {
        let count = usize::try_from(count).expect("a count");
        wait("the partitions to be there", PATIENCE, || self.partitions(topic) == count).expect("there");
    }

    /// With a leader.
    fn partitions(&self, topic: &str) -> usize {
        let metadata = self.reader.fetch_metadata(Some(topic), TIMEOUT).expect("fetch metadata");
        metadata.topics().first().map_or(0, |topic| topic.partitions().iter().filter(|one| one.leader() >= 0).count())
    }
}
