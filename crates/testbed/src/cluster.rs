//! One Postgres 15, one broker, one registry, started side by side.

use std::thread;

use crate::artifacts::Cache;
use crate::kafka::Kafka;
use crate::postgres::Postgres;
use crate::registry::Registry;
use crate::server::Error;

/// A whole stack.
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
    /// Starts all three and waits until they answer.
    ///
    /// # Errors
    /// If one of them can't be had or does not come up; the others are ended then.
    pub fn start(cache: &Cache) -> Result<Self, Error> {
        thread::scope(|scope| {
            let postgres = scope.spawn(|| Postgres::builder().cache(cache.clone()).start());
            let registry = scope.spawn(|| Registry::start_new(cache));
            let kafka = Kafka::builder().cache(cache.clone()).start();
            Ok(Self {
                postgres: finish(postgres.join())?,
                kafka: kafka?,
                registry: finish(registry.join())?,
            })
        })
    }
}

fn finish<T>(result: thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
