//! A record of the partition, as far as the reading rules look into it.

use std::sync::Arc;

use penstock_wire::control::Control;
use penstock_wire::header::Header;

/// One record whose header could be read. `T` is what was decoded of a row; the rules never look into it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record<T> {
    /// In the partition, from 0.
    pub offset: i64,
    /// Kafka's timestamp: when Postgres committed, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Length of key and value, in bytes.
    pub bytes: usize,
    /// Source, position, previous position, flags.
    pub header: Header,
    /// Whose row it is, or the account of which a poison record could be told. Control records name theirs themselves.
    pub account: Option<Arc<str>>,
    pub kind: Kind<T>,
}

/// What the record is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind<T> {
    /// A row's envelope, of any operation.
    Row(T),
    /// A key without a value: the row is gone.
    Tombstone(T),
    Control(Control),
    /// Of a table that this reader has no use for. It has its place in the order all the same.
    Skipped,
    /// Key or value mean nothing to this reader.
    Undecodable {
        reason: String,
        /// Whose newest version this is, where the key tells it: what is known of the row is not true any more.
        row: Option<T>,
    },
}
