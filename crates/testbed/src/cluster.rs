//! A whole stack (Postgres 15, one broker, one registry), and the one that all tests of a run share.
//!
//! Tests that kill nothing use [`shared`]: each takes a database and names of its own there. Tests that kill start
//! servers of their own.
//!
//! Invariant: the shared stack is started at most once per process, or not at all if whoever runs the tests started one
//! for all of their binaries and says so in [`STACK_VARIABLE`].

use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::artifacts::Cache;
use crate::kafka::Kafka;
use crate::postgres::{Address, Postgres};
use crate::registry::Registry;
use crate::server::Error;

/// Holds, as JSON, the addresses of a stack that runs already: [`Addresses::to_json`].
pub const STACK_VARIABLE: &str = "PENSTOCK_TEST_STACK";

/// A whole stack of one's own.
#[derive(Debug)]
pub struct Stack {
    /// The database.
    pub postgres: Postgres,
    /// The broker.
    pub kafka: Kafka,
    /// The registry.
    pub registry: Registry,
}

impl Stack {
    /// Starts all three side by side and waits until they answer.
    ///
    /// # Errors
    /// If one of them can't be had or does not come up; the others are ended then.
    pub fn start(cache: &Cache) -> Result<Self, Error> {
        thread::scope(|scope| {
            let postgres = scope.spawn(|| Postgres::builder().cache(cache.clone()).start());
            let registry = scope.spawn(|| Registry::start_new(cache));
            let kafka = Kafka::builder().cache(cache.clone()).start();
            Ok(Self { postgres: finish(postgres.join())?, kafka: kafka?, registry: finish(registry.join())? })
        })
    }

    /// How to reach its servers.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        Addresses {
            postgres: self.postgres.address().clone(),
            bootstrap: self.kafka.bootstrap(),
            registry_url: self.registry.url(),
        }
    }
}

fn finish<T>(result: thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// How to reach the servers of a stack; plain data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// The database.
    pub postgres: Address,
    /// The broker's `host:port`.
    pub bootstrap: String,
    /// The base URL of the registry's Confluent API.
    pub registry_url: String,
}

impl Addresses {
    /// As JSON, for [`STACK_VARIABLE`].
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "postgres": self.postgres.to_json(),
            "bootstrap": self.bootstrap,
            "registry_url": self.registry_url,
        })
    }

    /// From JSON; `None` if a field is missing or of another type.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        let text = |name| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            postgres: Address::from_json(value.get("postgres")?)?,
            bootstrap: text("bootstrap")?,
            registry_url: text("registry_url")?,
        })
    }

    /// Makes a database for one test, which is removed, with its slots, when the value is dropped.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn database(&self, prefix: &str) -> Result<Database, Error> {
        let name = unique_name(prefix);
        Ok(Database { address: self.postgres.create_database(&name)?, server: self.postgres.clone() })
    }
}

/// A database of one test; use it as an [`Address`].
#[derive(Debug)]
pub struct Database {
    address: Address,
    server: Address,
}

impl Deref for Database {
    type Target = Address;

    fn deref(&self) -> &Address {
        &self.address
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A slot that is left behind would keep the shared server's WAL for ever. If the server is gone, so is the slot.
        let _ = self.server.drop_database(&self.address.database);
    }
}

/// The stack that all tests of this process share, started by the first that asks.
///
/// # Errors
/// If it can't be started, or [`STACK_VARIABLE`] holds something else than addresses; every caller gets the same.
pub fn shared() -> Result<&'static Addresses, &'static Error> {
    // The servers live in a static, which is never dropped: the watchdog ends them with this process.
    static SHARED: OnceLock<Result<(Option<Stack>, Addresses), Error>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| match std::env::var(STACK_VARIABLE) {
        Ok(text) => Ok((None, parse(&text)?)),
        Err(_) => {
            let stack = Stack::start(&Cache::from_environment())?;
            let addresses = stack.addresses();
            Ok((Some(stack), addresses))
        }
    });
    shared.as_ref().map(|(_, addresses)| addresses)
}

fn parse(text: &str) -> Result<Addresses, Error> {
    serde_json::from_str(text).ok().as_ref().and_then(Addresses::from_json).ok_or_else(|| Error::Answer {
        name: STACK_VARIABLE.to_owned(),
        answer: format!("with something else than the addresses of a stack: {text}"),
    })
}

/// A name that nobody else has, on this machine and in this year: for databases, slots, publications, topics. Lower
/// case, digits and underscores.
#[must_use]
pub fn unique_name(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    static STARTED: OnceLock<u64> = OnceLock::new();
    // A shared stack outlives many test processes, whose ids come again: the time tells them apart.
    let started = STARTED.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(0) % 100_000_000_000
    });
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}_{}_{started}_{next}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::{parse, unique_name};

    #[test]
    fn names_differ_and_fit_a_slot() {
        let (one, two) = (unique_name("slot"), unique_name("slot"));
        assert_ne!(one, two);
        assert!(one.len() < 63, "{one}");
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(one.chars().all(fits), "{one}");
    }

    #[test]
    fn variable_with_something_else_is_an_error() {
        for text in ["", "{}", "[1]", "{\"bootstrap\": 1}"] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains("PENSTOCK_TEST_STACK"), "{error}");
        }
    }
}
