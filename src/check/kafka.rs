//! Kafka: whether it is there, and whether the topics are what the wire contract and the configuration say.
//!
//! What would lose records, or readers' trust in them, stops; what only shortens how far back they can read warns.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::Report;
use crate::catalog::findings::Finding;
use crate::config::Config;
use crate::kafka::client::{Brokers, IsolationLevel};
use crate::kafka::topics::{Names, Topics, TopicsError};

const TIMEOUT: Duration = Duration::from_secs(10);
const ADVICE: &str = "check kafka.brokers, the credentials in kafka.properties, and that the brokers are up";

/// What was seen.
pub(super) struct Seen {
    pub(super) report: Report,
    /// The brokers answered.
    pub(super) reachable: bool,
}

/// The cluster, and its topics by name.
struct Cluster {
    brokers: usize,
    /// Any one, to be asked for the settings that all share.
    broker: i32,
    topics: BTreeMap<String, Shape>,
}

/// How a topic is spread over the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    partitions: usize,
    /// Of the partition that has the fewest.
    replicas: usize,
    leaderless: usize,
}

/// A setting that a topic must have.
enum Wanted<'a> {
    Exactly(&'a str),
    AtLeast(i128),
}

pub(super) async fn look(config: &Config, brokers: &Brokers) -> Seen {
    let mut report = Report::default();
    let reachable = match describe(brokers).await {
        Ok(cluster) => {
            report.look("Kafka", format!("{} brokers, topic {}", cluster.brokers, config.kafka.topic));
            if let Err(error) = look_at_topics(config, brokers, &cluster, &mut report).await {
                report.stop(
                    "Kafka",
                    format!("its settings cannot be read: {error}"),
                    "grant DESCRIBE_CONFIGS on the topics and the cluster",
                );
            }
            true
        }
        Err(error) => {
            report.stop("Kafka", format!("{} cannot be reached: {error}", brokers.bootstrap), ADVICE);
            false
        }
    };
    Seen { report, reachable }
}

async fn describe(brokers: &Brokers) -> Result<Cluster, KafkaError> {
    let brokers = brokers.clone();
    // librdkafka's questions block.
    let asked = tokio::task::spawn_blocking(move || {
        let reader: BaseConsumer = brokers.reader(IsolationLevel::ReadUncommitted).create()?;
        let metadata = reader.fetch_metadata(None, TIMEOUT)?;
        let shape = |topic: &rdkafka::metadata::MetadataTopic| Shape {
            partitions: topic.partitions().len(),
            replicas: topic.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or_default(),
            leaderless: topic.partitions().iter().filter(|partition| partition.leader() < 0).count(),
        };
        Ok(Cluster {
            brokers: metadata.brokers().len(),
            broker: metadata.brokers().first().map_or(-1, rdkafka::metadata::MetadataBroker::id),
            topics: metadata.topics().iter().map(|topic| (topic.name().to_owned(), shape(topic))).collect(),
        })
    });
    asked.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Settings by which the topics of a bridge that goes on would lose records: what stops it. Topics that do not exist, or whose
/// settings nobody may read, are not its business.
pub(crate) async fn stopping(config: &Config, brokers: &Brokers, topics: &Topics) -> Result<Vec<Finding>, TopicsError> {
    let names = Names { changes: config.kafka.topic.clone() };
    let mut report = Report::default();
    for name in [&names.changes, &names.progress()] {
        look_at_settings(config, brokers, name, &topics.settings(name).await?, &mut report);
    }
    Ok(report.findings)
}

/// What every record's safety rests on.
fn look_at_settings(
    config: &Config,
    brokers: &Brokers,
    name: &str,
    settings: &BTreeMap<String, String>,
    report: &mut Report,
) {
    let in_sync = i128::from(config.kafka.min_insync_replicas);
    for (key, wanted) in [
        ("min.insync.replicas", Wanted::AtLeast(in_sync)),
        ("cleanup.policy", Wanted::Exactly("compact")),
        ("message.timestamp.type", Wanted::Exactly("CreateTime")),
    ] {
        if let Some((what, remedy)) = differs(brokers, name, settings, key, &wanted) {
            report.stop(format!("topic {name}"), what, remedy);
        }
    }
}

async fn look_at_topics(
    config: &Config,
    brokers: &Brokers,
    cluster: &Cluster,
    report: &mut Report,
) -> Result<(), TopicsError> {
    let names = Names { changes: config.kafka.topic.clone() };
    let topics = Topics::new(brokers)?;
    let bytes = i128::try_from(config.limits.record_bytes_max).unwrap_or(i128::MAX);
    let progress = names.progress();
    for (name, partitions) in
        [(&names.changes, usize::try_from(config.kafka.partitions).unwrap_or_default()), (&progress, 1)]
    {
        let subject = format!("topic {name}");
        let Some(shape) = cluster.topics.get(name).filter(|shape| shape.partitions > 0) else {
            report.left_to_setup(subject, "there is no such topic");
            continue;
        };
        look_at_shape(&subject, *shape, partitions, config, report);
        let settings = topics.settings(name).await?;
        look_at_settings(config, brokers, name, &settings, report);
        if *name == names.changes {
            if let Some((what, remedy)) =
                differs(brokers, name, &settings, "max.message.bytes", &Wanted::AtLeast(bytes))
            {
                report.stop(&subject, what, format!("{remedy}, or lower limits.record_bytes_max"));
            }
            look_at_history(&subject, &settings, brokers, config, report);
        }
    }
    look_at_broker(config, brokers, cluster.broker, report).await
}

fn look_at_shape(subject: &str, shape: Shape, partitions: usize, config: &Config, report: &mut Report) {
    if shape.partitions != partitions {
        let what = format!("it has {} partitions, {partitions} are pinned", shape.partitions);
        report.stop(
            subject,
            what,
            "the number decides where an account's records stand and can never change: set kafka.partitions to what the topic was made with, or set up a new topic and load it",
        );
    }
    if shape.leaderless > 0 {
        let what = format!("{} of its {} partitions have no leader", shape.leaderless, shape.partitions);
        report.stop(subject, what, "start the brokers that are down");
    }
    let replicas = usize::from(config.kafka.replication);
    if shape.replicas < replicas {
        let what = format!("it has {} replicas, {replicas} are configured", shape.replicas);
        report.warn(
            subject,
            what,
            "add replicas with kafka-reassign-partitions.sh, or set kafka.replication to what is meant",
        );
    }
    if shape.replicas < usize::from(config.kafka.min_insync_replicas) {
        let what = format!("its {} replicas can never be {} in sync", shape.replicas, config.kafka.min_insync_replicas);
        report.stop(
            subject,
            what,
            "lower min.insync.replicas of the topic and kafka.min_insync_replicas, or add replicas",
        );
    }
}

/// How far back readers can read.
fn look_at_history(
    subject: &str,
    settings: &BTreeMap<String, String>,
    brokers: &Brokers,
    config: &Config,
    report: &mut Report,
) {
    let wanted = [
        ("min.compaction.lag.ms", config.kafka.min_compaction_lag),
        ("delete.retention.ms", config.kafka.delete_retention),
    ];
    for (key, least) in wanted {
        let least = i128::try_from(least.as_millis()).unwrap_or(i128::MAX);
        if let Some((what, remedy)) = differs(brokers, &config.kafka.topic, settings, key, &Wanted::AtLeast(least)) {
            report.warn(subject, what, remedy);
        }
    }
}

/// What is there instead and how to change it; `None` if it is as wanted. A setting that is not told is taken for wrong.
fn differs(
    brokers: &Brokers,
    topic: &str,
    settings: &BTreeMap<String, String>,
    key: &str,
    wanted: &Wanted<'_>,
) -> Option<(String, String)> {
    let found = settings.get(key).map(String::as_str);
    let (good, value) = match wanted {
        Wanted::Exactly(value) => (found == Some(value), (*value).to_owned()),
        Wanted::AtLeast(least) => {
            let number = found.and_then(|text| text.parse::<i128>().ok());
            (number.is_some_and(|number| number >= *least), least.to_string())
        }
    };
    if good {
        return None;
    }
    let least = if matches!(wanted, Wanted::AtLeast(_)) { "at least " } else { "" };
    let what = format!("{key} is {}, it must be {least}{value}", found.unwrap_or("not told"));
    let remedy = format!(
        "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {topic} --add-config {key}={value}",
        brokers.bootstrap
    );
    Some((what, remedy))
}

async fn look_at_broker(
    config: &Config,
    brokers: &Brokers,
    broker: i32,
    report: &mut Report,
) -> Result<(), TopicsError> {
    const KEY: &str = "transaction.max.timeout.ms";
    let failed = |step| move |source| TopicsError::Kafka { step, source };
    let admin: AdminClient<DefaultClientContext> =
        brokers.admin().create().map_err(failed("configure the Kafka client"))?;
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let described = admin.describe_configs(&[ResourceSpecifier::Broker(broker)], &options).await;
    let described = described.map_err(failed("describe the brokers' settings"))?;
    let entries = described.into_iter().flatten().flat_map(|resource| resource.entries);
    let value = entries.filter(|entry| entry.name == KEY).find_map(|entry| entry.value);
    let bound = value.and_then(|text| text.parse::<u128>().ok());
    let asked = config.kafka.transaction_timeout.as_millis();
    if let Some(bound) = bound.filter(|bound| *bound < asked) {
        let what =
            format!("{KEY} is {bound}, kafka.transaction_timeout_ms is {asked}: the brokers will refuse the producer");
        report.stop("Kafka", what, format!("set kafka.transaction_timeout_ms = {bound}, or raise the brokers' {KEY}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_as_wanted_or_told_with_the_command_that_mends_it() {
        let brokers = Brokers { bootstrap: "b:1".into(), properties: BTreeMap::new(), transaction_timeout: TIMEOUT };
        let settings: BTreeMap<String, String> =
            [("cleanup.policy", "compact,delete"), ("min.insync.replicas", "2"), ("odd", "x")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
        let differs = |key, wanted| differs(&brokers, "t", &settings, key, &wanted);
        assert_eq!(differs("min.insync.replicas", Wanted::AtLeast(2)), None);
        assert_eq!(differs("cleanup.policy", Wanted::Exactly("compact,delete")), None);
        let (what, remedy) = differs("cleanup.policy", Wanted::Exactly("compact")).unwrap();
        assert_eq!(what, "cleanup.policy is compact,delete, it must be compact");
        assert!(remedy.ends_with("--bootstrap-server b:1 --alter --entity-type topics --entity-name t --add-config cleanup.policy=compact"), "{remedy}");
        assert_eq!(
            differs("min.insync.replicas", Wanted::AtLeast(3)).unwrap().0,
            "min.insync.replicas is 2, it must be at least 3"
        );
        assert!(differs("odd", Wanted::AtLeast(1)).is_some());
        assert!(differs("missing", Wanted::AtLeast(0)).is_some());
    }
}
