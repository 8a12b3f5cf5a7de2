//! An Apache Kafka cluster of one's own: one or three brokers that are their own controllers (KRaft, static voters).
//!
//! Invariants: clients learn only the advertised ports, so that a proxy in front of a broker sees all of their traffic
//! with it; brokers talk to each other past the proxies; topics are made only on request; node ids, ports and data stay
//! over kill and restart.

mod broker;
mod probe;

use std::collections::BTreeMap;

use crate::artifacts::{self, Bundle, Cache};
use crate::limits;
use crate::server::{self, Error};

pub use broker::Broker;
use broker::Ports;
pub use probe::Node;

/// A Kafka cluster.
#[derive(Debug)]
pub struct Kafka {
    brokers: Vec<Broker>,
}

/// Builds a [`Kafka`].
#[derive(Debug, Clone)]
pub struct Builder {
    brokers: u16,
    cache: Cache,
    heap_mb: u32,
    properties: BTreeMap<String, String>,
}

impl Kafka {
    /// What it is to be like.
    #[must_use]
    pub fn builder() -> Builder {
        Builder { brokers: 1, cache: Cache::from_environment(), heap_mb: 384, properties: BTreeMap::new() }
    }

    /// `127.0.0.1:port` of every broker as clients are to reach it, separated by commas.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> =
            self.brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.advertised_port())).collect();
        addresses.join(",")
    }

    /// The brokers, in the order of their node ids.
    #[must_use]
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// The first broker; of a cluster of one, the broker.
    ///
    /// # Panics
    /// Never: a cluster has at least one broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        self.brokers.first().expect("a cluster has at least one broker")
    }

    /// Waits until every running broker sees this many alive.
    ///
    /// # Errors
    /// If that takes too long.
    pub fn wait_alive(&self, count: usize) -> Result<(), Error> {
        let started = std::time::Instant::now();
        loop {
            let seen: Vec<_> = self
                .brokers
                .iter()
                .filter(|broker| broker.pid().is_some())
                .map(|broker| broker.alive().map(|nodes| nodes.len()))
                .collect();
            if !seen.is_empty() && seen.iter().all(|seen| *seen == Ok(count)) {
                return Ok(());
            }
            if started.elapsed() > limits::START_TIMEOUT {
                return Err(Error::Answer {
                    name: format!("kafka, waited for until {count} brokers are alive,"),
                    answer: format!("{seen:?}"),
                });
            }
            server::pause_between_looks();
        }
    }
}

impl Builder {
    /// How many brokers; 1 unless set.
    #[must_use]
    pub fn brokers(mut self, count: u16) -> Self {
        assert!(count > 0, "a cluster has at least one broker");
        self.brokers = count;
        self
    }

    /// The cache that Kafka comes from.
    #[must_use]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = cache;
        self
    }

    /// Largest heap of each broker, in MiB; 384 unless set.
    #[must_use]
    pub fn heap_mb(mut self, heap_mb: u32) -> Self {
        self.heap_mb = heap_mb;
        self
    }

    /// A property of server.properties, the same for all brokers.
    #[must_use]
    pub fn property(mut self, name: &str, value: impl ToString) -> Self {
        self.properties.insert(name.to_owned(), value.to_string());
        self
    }

    /// Starts the brokers and waits until each sees all alive.
    ///
    /// # Errors
    /// If Kafka can't be had, or does not come up.
    pub fn start(self) -> Result<Kafka, Error> {
        self.start_advertising(|port| port)
    }

    /// Like [`Builder::start`], each broker telling clients the port that `advertise` makes of its own: that of a proxy
    /// which was just put in front of it.
    ///
    /// # Errors
    /// If Kafka can't be had, or does not come up.
    pub fn start_advertising(self, mut advertise: impl FnMut(u16) -> u16) -> Result<Kafka, Error> {
        let classes = self.cache.ensure(Bundle::Kafka, &|_| {})?;
        artifacts::check_readable(&classes)?;
        let ports = (0..self.brokers).map(|_| Ports::reserve()).collect::<Result<Vec<_>, _>>()?;
        let voters = voters(&ports);
        let mut brokers = Vec::new();
        for (node, ports) in (1..).zip(ports) {
            let advertised = advertise(ports.client.number());
            let properties = self.properties_of(node, &ports, advertised, &voters);
            brokers.push(Broker::prepare(node, ports, advertised, &classes, self.heap_mb, &properties)?);
        }
        let cluster_id = cluster_id()?;
        in_parallel(&brokers, |broker| broker.format(&cluster_id))?;
        // Together: none of three becomes ready before a majority is there.
        in_parallel(&brokers, Broker::start)?;
        let kafka = Kafka { brokers };
        kafka.wait_alive(usize::from(self.brokers))?;
        Ok(kafka)
    }

    fn properties_of(&self, node: i32, ports: &Ports, advertised: u16, voters: &str) -> BTreeMap<String, String> {
        let (client, internal, controller) =
            (ports.client.number(), ports.internal.number(), ports.controller.number());
        let replicas = self.brokers.min(3);
        let in_sync = if replicas >= 3 { 2 } else { 1 };
        let mut properties: BTreeMap<String, String> = [
            ("process.roles", "broker,controller".to_owned()),
            ("node.id", node.to_string()),
            ("controller.quorum.voters", voters.to_owned()),
            (
                "listeners",
                format!(
                    "CLIENT://127.0.0.1:{client},INTERNAL://127.0.0.1:{internal},\
                     CONTROLLER://127.0.0.1:{controller}"
                ),
            ),
            ("advertised.listeners", format!("CLIENT://127.0.0.1:{advertised},INTERNAL://127.0.0.1:{internal}")),
            ("listener.security.protocol.map", "CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned()),
            ("inter.broker.listener.name", "INTERNAL".to_owned()),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            // Relative to the broker's directory, in which it runs.
            ("log.dirs", "data".to_owned()),
            ("default.replication.factor", replicas.to_string()),
            ("min.insync.replicas", in_sync.to_string()),
            ("offsets.topic.replication.factor", replicas.to_string()),
            ("transaction.state.log.replication.factor", replicas.to_string()),
            ("transaction.state.log.min.isr", in_sync.to_string()),
            ("share.coordinator.state.topic.replication.factor", replicas.to_string()),
            ("share.coordinator.state.topic.min.isr", in_sync.to_string()),
        ]
        .into_iter()
        .chain(DEFAULTS.map(|(name, value)| (name, value.to_owned())))
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        properties.extend(self.properties.clone());
        properties
    }
}

/// What differs from Kafka's own defaults, whatever the number of brokers.
const DEFAULTS: [(&str, &str); 11] = [
    ("auto.create.topics.enable", "false"),
    // Fewer partitions of internal topics: they are made at first use, while a test waits.
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.num.partitions", "4"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("transaction.max.timeout.ms", "900000"),
    ("group.initial.rebalance.delay.ms", "0"),
    // A killed broker is missed, and may come back, after 3 s instead of 9.
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "500"),
    // The cleaner otherwise takes 128 MiB of the heap for itself.
    ("log.cleaner.dedupe.buffer.size", "8388608"),
    // WIRE: a record of the change topic may have 16 MiB.
    ("message.max.bytes", "16777216"),
    ("replica.fetch.max.bytes", "16777216"),
];

fn voters(ports: &[Ports]) -> String {
    let voters: Vec<String> = (1..)
        .zip(ports)
        .map(|(node, ports): (i32, _)| format!("{node}@127.0.0.1:{}", ports.controller.number()))
        .collect();
    voters.join(",")
}

/// Kafka wants 16 random bytes in base64; the kernel gives them as a UUID in hexadecimal, whose digits are base64 too.
fn cluster_id() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/uuid";
    let uuid = std::fs::read_to_string(path).map_err(Error::io(format!("reading {path}")))?;
    // 22 base64 digits are 16 bytes if the last one's lower four bits are zero: an A.
    let digits: String = uuid.chars().filter(char::is_ascii_hexdigit).take(21).collect();
    Ok(format!("{digits}A"))
}

fn in_parallel(brokers: &[Broker], action: impl Fn(&Broker) -> Result<(), Error> + Sync) -> Result<(), Error> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = brokers.iter().map(|broker| scope.spawn(|| action(broker))).collect();
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    })
}
