//! The replication connection: a client of Postgres' streaming replication protocol, for one logical slot at a time.
//!
//! ```text
//! Connection::connect ─▶ ready ──start_replication──▶ streaming ──end_copy──▶ ended ──close──▶
//!                          │                              │                    │
//!                          └─ query, identify_system      │                    └─ query
//!                                                         └─ fill_gathered, next_frame, send_status
//! ```
//! - `fill_gathered` (or `fill`) waits for bytes, `next_frame` cuts frames out of them without waiting or copying: no
//!   await per row.
//! - Every future may be dropped at any point. A dropped fill or `send_status` loses nothing; any other leaves a
//!   connection that answers [`SourceError::Interrupted`], because what would be read next is unknown.
//! - Nothing is acknowledged that the caller has not said in a [`StatusUpdate`], and no timer runs in here: the caller
//!   must send one well within `wal_sender_timeout`, and at once where a keepalive asks.
//! - Memory is bounded by the read buffer or one frame, whichever is larger.
//!
//! It does not decode pgoutput, does not reconnect, and does not run queries while streaming.

mod answer;
mod buffer;
mod connection;
mod error;
mod fields;
mod frame;
mod gather;
mod limits;
mod link;
mod options;
mod startup;
mod stream;
mod transport;

pub use answer::{Row, SystemIdentity, TimelineSwitch};
pub use connection::Connection;
pub use error::{Class, ServerError, SourceError};
pub use frame::{Frame, StatusUpdate};
pub(crate) use options::startup_options;
pub use options::{ConnectOptions, Host};
pub use stream::publication_names;
