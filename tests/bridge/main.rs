//! The bridge as a process, on real Postgres, Kafka and registry.

mod kills;
mod load;
mod outage;
mod reader;
mod takeover;
mod watcher;
mod world;
