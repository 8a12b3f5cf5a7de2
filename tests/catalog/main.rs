//! Questions to the catalog of a real Postgres, and what `setup` makes there.

mod connecting;
mod facts;
mod findings;
mod rows;
mod server;
mod setup;
mod tables;
mod triggers;
mod types;
mod versions;
