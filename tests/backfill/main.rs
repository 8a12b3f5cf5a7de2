//! What a backfill asks of its shell, done on a real Postgres: ranges, chunks, marks, locks.

mod asks;
mod chunks;
mod locks;
mod ranges;
mod relations;
#[allow(dead_code, reason = "shared with the tests of the catalog, which use all of it")]
#[path = "../catalog/server.rs"]
mod server;
mod versions;
mod work;
