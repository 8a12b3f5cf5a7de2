//! Penstock, the bridge's shell: everything that touches a socket, a file, a thread or a clock.
//!
//! What it decides by is in `penstock-core`; what it writes is in `penstock-wire`. Start reading at [`run`].

pub mod backfill;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod config;
pub mod health;
pub mod http;
pub mod kafka;
pub mod log;
pub mod metrics;
pub mod moment;
pub mod registry;
pub mod replay;
pub mod run;
pub mod schema;
pub mod source;
pub mod status;
pub mod stored;
pub mod tls;
pub mod trial;
