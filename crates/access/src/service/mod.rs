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
mod config;
mod database;
mod engine;
mod error;
mod kafka;
mod log;
mod metrics;
mod past;
mod reader;
mod registry;
mod verify;

pub use access::{Access, Channel, EndedFlows, Health, Notice};
pub use config::{AccessConfig, Assignment, Config, KafkaConfig, OnStale, RegistryConfig};
pub use database::DatabaseError;
pub use error::ConnectError;
pub use metrics::Metrics;
pub use past::{PastError, replay, state_at};
pub use verify::{Verified, VerifyError, verify};

/// Microseconds since 1970, by this machine's clock.
pub(crate) fn now() -> crate::rows::Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    crate::rows::Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
