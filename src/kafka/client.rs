//! librdkafka's configuration: what an operator may set, and what the guarantees rest on and nobody may.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;

/// Records of one partition are sent together up to this size: larger batches gain nothing more.
const BATCH_BYTES: usize = 1_000_000;

/// Settings of producers alone: a reader that is given them warns of each.
const PRODUCERS_OWN: &[&str] = &[
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "linger.ms",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.ms",
    "request.timeout.ms",
    "sticky.partitioning.linger.ms",
];

/// How to reach the brokers.
#[derive(Clone, Debug)]
pub struct Brokers {
    /// `host:port`, separated by commas.
    pub bootstrap: String,
    /// librdkafka properties of the operator: security above all.
    pub properties: BTreeMap<String, String>,
    /// The longest transaction; the brokers' `transaction.max.timeout.ms` must allow it.
    pub transaction_timeout: Duration,
}

impl Brokers {
    fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    /// For questions and topics.
    pub fn admin(&self) -> ClientConfig {
        self.base()
    }

    /// For the one producer of a source. The topic takes batches of `batch_bytes_max`: small records that together have
    /// more would be refused for their size, again and again.
    pub fn producer(&self, transactional_id: &str, batch_bytes_max: usize) -> ClientConfig {
        let mut config = self.base();
        let batch_bytes = batch_bytes_max.clamp(1, BATCH_BYTES).to_string();
        // Defaults an operator may have overridden come first; below them is what the guarantees need.
        // Under either of its names: which of two that mean the same wins is chance.
        let defaults: [(&[&str], &str); 3] = [
            (&["compression.type", "compression.codec"], "lz4"),
            (&["linger.ms", "queue.buffering.max.ms"], "2"),
            (&["batch.size"], &batch_bytes),
        ];
        for (names, value) in defaults {
            if !names.iter().any(|name| self.properties.contains_key(*name)) {
                config.set(names[0], value);
            }
        }
        config
            .set("transactional.id", transactional_id)
            .set("enable.idempotence", "true")
            // `enable.gapless.guarantee` is not set: a failed batch of a transactional producer spoils its transaction before
            // librdkafka looks at that setting (rdkafka_request.c), and it warns of it at every start.
            .set("acks", "all")
            // Unset, it would silently become the transaction's timeout and drop records of a long outage.
            .set("message.timeout.ms", "0")
            .set("transaction.timeout.ms", self.transaction_timeout.as_millis().to_string())
            .set("queue.buffering.max.messages", "1000000")
            // Bytes are bounded by the bridge; this only has to be larger.
            .set("queue.buffering.max.kbytes", "2097151")
            .set("message.max.bytes", "1000000000");
        config
    }

    /// For questions about partitions, as one kind of reader sees them. Without a group it has no coordinator to find and
    /// to leave, and cannot read.
    pub fn questions(&self, isolation_level: IsolationLevel) -> ClientConfig {
        let mut config = self.base();
        for key in PRODUCERS_OWN {
            config.remove(key);
        }
        config.set("enable.auto.commit", "false").set("isolation.level", isolation_level.as_str());
        config
    }

    /// For reading a topic by hand: a group in name only, nothing committed.
    pub fn reader(&self, isolation_level: IsolationLevel) -> ClientConfig {
        let mut config = self.questions(isolation_level);
        config
            .set("group.id", "penstock-reader")
            .set("enable.partition.eof", "true")
            // The end of a partition is told only by a fetch that waited in vain.
            .set("fetch.wait.max.ms", "20")
            .set("auto.offset.reset", "error");
        config
    }
}

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationLevel {
    /// Only what is committed.
    ReadCommitted,
    /// Everything written.
    ReadUncommitted,
}

impl IsolationLevel {
    fn as_str(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read_committed",
            Self::ReadUncommitted => "read_uncommitted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_gives_way_to_a_setting_under_its_other_name() {
        let of = |properties: &[(&str, &str)]| {
            let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let brokers = Brokers { bootstrap: "b:1".into(), properties, transaction_timeout: Duration::from_secs(1) };
            let config = brokers.producer("id", BATCH_BYTES);
            ["compression.type", "compression.codec", "linger.ms", "queue.buffering.max.ms"]
                .map(|key| config.get(key).map(str::to_owned))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of(&[]), [some("lz4"), None, some("2"), None]);
        assert_eq!(of(&[("compression.type", "zstd")]), [some("zstd"), None, some("2"), None]);
        let other_names = of(&[("compression.codec", "zstd"), ("queue.buffering.max.ms", "9")]);
        assert_eq!(other_names, [None, some("zstd"), None, some("9")]);
    }
}
