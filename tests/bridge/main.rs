//! The bridge as a process, on real Postgres, Kafka and registry.

mod kills;
mod load;
mod reader;
mod world;
