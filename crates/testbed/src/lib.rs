//! Real servers for Penstock's tests and demo: Postgres, Kafka and a schema registry as ordinary processes on loopback
//! ports, which can be paused, killed and restarted, and a TCP proxy that stands between them and the bridge.
//!
//! - [`artifacts`]: what the servers are made of, fetched once and checked against committed sums.
//! - [`system`]: what has to be installed on the machine, and what of it is missing.
//! - [`postgres`], [`kafka`], [`registry`]: the servers. [`registry::scripted`] answers badly on demand.
//! - [`proxy`]: delays, throttles, cuts, resets, swallows; and watches all connections on one clock.
//! - [`cluster`]: one stack that the tests of a process share.
//! - [`server`]: what the servers have in common; also for a test's own processes.
//!
//! Everything blocks and runs on plain threads. What is started ends with the process that started it, however that ends.
//! This crate is for development only: nothing that is shipped depends on it.

#![cfg_attr(not(test), warn(missing_docs))]

pub mod artifacts;
pub mod cluster;
pub mod kafka;
pub mod limits;
pub mod postgres;
pub mod proxy;
pub mod registry;
pub mod server;
pub mod system;
