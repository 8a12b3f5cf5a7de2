//! Backfill: rows that the stream does not bring, read in chunks and merged into it in their place.

pub mod interface;
pub mod rows;
pub mod snapshot;
