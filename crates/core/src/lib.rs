//! The bridge from Postgres' write-ahead log to Kafka, as a pure state machine.
//!
//! No clock, no socket, no thread: events go in by `handle_*`, actions come out of `poll_action`, time is an argument.
//! Start reading at [`bridge`]; the way of a change is `pgoutput → relation → route → batch → ledger`.

pub mod backfill;
pub mod batch;
pub mod bridge;
pub mod continuity;
pub mod ddl;
mod emit;
pub mod fault;
mod group;
mod history;
mod interface;
pub mod ledger;
pub mod limits;
pub mod outlet;
pub mod oversize;
pub mod pgoutput;
pub mod poison;
pub mod relation;
pub mod resume;
pub mod route;
mod samples;
mod tables;
pub mod watch;
