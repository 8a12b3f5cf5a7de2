//! The shell around [`Replica`](crate::replica::Replica): Kafka, the registry, clocks, threads; and what a service uses.
//!
//! ```text
//! change topic ───┐                                  ┌─▶ channels (bounded queues)
//! progress topic ─┼─▶ the reader's thread ─▶ Engine ─┼─▶ ended flows
//! registry, clock ┘                          (a lock) └─▶ metrics, log
//!                              Access::authorize, announce … ─┘
//! ```
//!
//! One thread reads. Everything it hands in, and everything that is asked, goes through one lock that is held only for what
//! the state machine does with one record or one question: microseconds. Nobody waits under it.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the shell has the clock, the sockets, the thread and the lock"
)]

mod access;
mod checkpoint;
mod config;
mod engine;
mod error;
mod http;
mod kafka;
pub mod metrics;
mod reader;
mod registry;
mod reports;

pub use crate::health::Health;
pub use access::{Access, Channel, EndedFlows, Notice};
pub use config::{
    AccessConfig, Assignment, CheckpointConfig, Config, HttpConfig, KafkaConfig, OnStale, RegistryConfig,
};
pub use error::ConnectError;
pub use metrics::Metrics;
pub use reader::CATCHING_UP;
pub use reports::Report;

/// Microseconds since 1970, by this machine's clock.
pub(crate) fn now() -> crate::rows::Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    crate::rows::Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
