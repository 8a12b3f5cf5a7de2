//! Penstock's wire contract, as code: what stands in a record, byte for byte.
//!
//! Pure: no clock, no socket, no thread, no Kafka client. The bridge writes with this crate, consumers read with it.
//! The contract in prose, with byte tables, is `docs/wire.md`.

pub mod account;
pub mod header;
pub mod lsn;
pub mod partition;
pub mod position;
