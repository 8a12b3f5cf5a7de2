//! What Postgres says about itself: server, publication, tables, slot, types; and what `setup` makes there.
//!
//! - Every question is one statement with a typed answer; what an older version lacks is `None`, not an error.
//! - Nothing here decides: [`findings`] compares the answers with what the bridge needs, as a pure function.
//! - The catalog is never used to interpret the stream: it tells today's state, the stream is older.
//!
//! Names in answers are exact, and no row values are read, but for keys that part a table.

mod activity;
mod error;
pub mod findings;
mod key;
mod message;
mod ordinary;
mod parting;
mod publication;
pub(crate) mod relation;
mod rows;
mod server;
mod session;
mod setup;
mod slot;
mod slot_creation;
mod table;
mod triggers;
mod types;

pub use error::CatalogError;
pub(crate) use ordinary::Ordinary;
pub(crate) use parting::from_sql;
pub use publication::{Publication, Published};
pub use rows::Rows;
pub use server::{ClockReading, ServerFacts};
pub use session::Catalog;
pub use setup::{Step, mute_partitions, publication_sql, setup_sql};
pub use slot::{Slot, SlotSample, WalStatus};
pub use table::{Column, Identity, Kind, Partition, Persistence, Table};
pub use triggers::{TRIGGERS_SQL, Triggers, partition_sql};
pub use types::ResolvedType;
