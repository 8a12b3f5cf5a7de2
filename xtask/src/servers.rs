//! The servers of a demo: started here, or somebody's that exist already.
//!
//! Invariant: what was started ends with this value or with our process; what existed is left as it was, but for the
//! topics, which only its owner can remove.

use anyhow::Context as _;
use penstock_testbed::artifacts::{Bundle, Cache};
use penstock_testbed::kafka::Kafka;
use penstock_testbed::postgres::Postgres;
use penstock_testbed::registry::Registry;

use crate::database::Database;

/// Which servers exist already.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Existing {
    /// Use this Postgres (wal_level = logical) instead of starting one; the demo makes a database of its own in it.
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,
    /// Use these Kafka brokers instead of starting one; the demo makes topics of its own there and leaves them.
    #[arg(long, value_name = "HOST:PORT,…")]
    pub kafka: Option<String>,
    /// Use this schema registry (base URL of its Confluent API) instead of starting one.
    #[arg(long, value_name = "URL")]
    pub registry: Option<String>,
}

impl Existing {
    /// Whether there is nothing left to start.
    pub fn are_all(&self) -> bool {
        self.postgres.is_some() && self.kafka.is_some() && self.registry.is_some()
    }

    /// Whether any server is somebody else's.
    pub fn are_any(&self) -> bool {
        self.postgres.is_some() || self.kafka.is_some() || self.registry.is_some()
    }

    /// What has to be fetched to start the others.
    pub fn bundles(&self) -> Vec<Bundle> {
        let mut bundles = Vec::new();
        if self.kafka.is_none() {
            bundles.push(Bundle::Kafka);
        }
        if self.registry.is_none() {
            bundles.push(Bundle::Registry);
        }
        if self.postgres.is_none() && !std::path::Path::new("/usr/lib/postgresql/15/bin/postgres").exists() {
            bundles.push(Bundle::Postgres15);
        }
        bundles
    }
}

/// The servers of a demo.
#[derive(Debug)]
pub struct Servers {
    // Held to be ended when this value is dropped.
    _postgres: Option<Postgres>,
    _kafka: Option<Kafka>,
    _registry: Option<Registry>,
    /// The database that administrative SQL goes to.
    pub administration: Database,
    /// Kafka's bootstrap servers.
    pub bootstrap: String,
    /// The registry's base URL.
    pub registry: String,
    /// What kind of broker it is.
    pub broker: String,
    /// Whether any of them is somebody else's.
    pub shared: bool,
}

impl Servers {
    /// Starts side by side what does not exist, and waits until it answers.
    pub fn start(existing: &Existing, cache: &Cache) -> anyhow::Result<Self> {
        let (postgres, kafka, registry) = std::thread::scope(|scope| {
            let postgres =
                existing.postgres.is_none().then(|| scope.spawn(|| Postgres::builder().cache(cache.clone()).start()));
            let registry = existing.registry.is_none().then(|| scope.spawn(|| Registry::start_new(cache)));
            let kafka = existing.kafka.is_none().then(|| Kafka::builder().cache(cache.clone()).start());
            (postgres.map(joined), kafka, registry.map(joined))
        });
        let (postgres, kafka, registry) = (postgres.transpose()?, kafka.transpose()?, registry.transpose()?);
        let url = existing.postgres.clone().or_else(|| postgres.as_ref().map(Postgres::url));
        let bootstrap = existing.kafka.clone().or_else(|| kafka.as_ref().map(Kafka::bootstrap));
        let registry_url = existing.registry.clone().or_else(|| registry.as_ref().map(Registry::url));
        let broker = match kafka {
            Some(_) => format!("Apache Kafka {}", Bundle::Kafka.version()),
            None => format!("Kafka at {}", existing.kafka.as_deref().unwrap_or_default()),
        };
        Ok(Self {
            administration: Database::new(&url.context("no Postgres")?)?,
            bootstrap: bootstrap.context("no Kafka")?,
            registry: registry_url.context("no registry")?,
            broker,
            shared: postgres.is_none() || kafka.is_none() || registry.is_none(),
            _postgres: postgres,
            _kafka: kafka,
            _registry: registry,
        })
    }
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
