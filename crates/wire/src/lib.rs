//! Penstock's wire contract, as code: what stands in a record, byte for byte.
//!
//! Pure: no clock, no socket, no thread, no Kafka client. The bridge writes with this crate, consumers read with it.
//! The contract in prose, with byte tables, is `docs/wire.md`.

pub mod account;
mod avro;
pub mod column;
pub mod control;
pub mod dead_letter;
mod decimal;
pub mod decode;
pub mod event;
pub mod framing;
pub mod header;
pub mod lsn;
pub mod name;
pub mod partition;
pub mod plan;
pub mod position;
pub mod postgres_time;
pub mod progress;
mod record;
pub mod reload;
pub mod schema;
pub mod table;
pub mod types;
