//! The bridge as a process, on real Postgres, Kafka and registry.

mod access;
mod backfill;
mod bad_input;
mod continuity;
mod ddl;
mod ends;
mod first_start;
mod forgotten;
mod kills;
mod load;
mod load_complete;
mod majors;
mod outage;
mod oversized;
mod planted;
mod poison;
mod reader;
mod scene;
mod schema_change;
mod semantics;
mod sources;
mod takeover;
mod types;
mod watcher;
mod world;
