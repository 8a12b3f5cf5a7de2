//! Every bound of the bridge, with its unit and its reason.

use std::time::Duration;

/// Bounds that an operator may set. The defaults are what the memory guarantee is stated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of keys and values between the decoder and their delivery reports; above it intake pauses.
    pub in_flight_bytes_max: usize,
    /// Largest record, key and value together, in bytes: the topic's `max.message.bytes`.
    pub record_bytes_max: usize,
    /// A Kafka transaction closes at the next commit once it holds this many bytes …
    pub group_bytes_max: usize,
    /// … or this many records …
    pub group_records_max: usize,
    /// … or is this old. (Outside a backlog it closes as soon as what was received is used up.)
    pub group_age_max: Duration,
    /// A Kafka transaction of this age is closed within a Postgres transaction, which is then delivered in parts; `None`:
    /// never.
    pub part_age_max: Option<Duration>,
    /// How long an idle bridge waits before it writes progress again.
    pub heartbeat: Duration,
    /// Chunks of a backfill that are read at once.
    pub backfill_workers: usize,
    /// Rows of a chunk.
    pub chunk_rows_max: usize,
    /// Rows a reload reads a second, unless it was asked for with a rate of its own; 0 is no bound.
    pub backfill_rows_per_second: u64,
    /// A chunk takes no further row once it has so many bytes of values; so many chunks of it are in memory at once.
    pub chunk_bytes_max: usize,
}

/// A batch is handed to the producer once it holds this many bytes: large enough that the hand-over costs nothing per
/// row, small enough that the producer starts early.
pub const BATCH_BYTES: usize = 256 * 1024;

/// What a record costs in librdkafka beyond its key and value (message, header list, allocation), in bytes: measured with a
/// million small rows.
pub const RECORD_OVERHEAD_BYTES: usize = 512;

/// A commit sent this many microseconds after it was made belongs to a backlog, for which groups grow to their bounds.
pub const BEHIND_US: i64 = 250_000;

/// Transactions in one group; bounds the bookkeeping of a flood of empty transactions.
pub const GROUP_TRANSACTIONS_MAX: u64 = 1_000_000;

/// Readings of the server's clock that wait for the stream to pass them: at two a second, those of about ten minutes.
pub const CLOCK_SAMPLES_MAX: usize = 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight_bytes_max: 32 * 1024 * 1024,
            record_bytes_max: 16 * 1024 * 1024,
            group_bytes_max: 16 * 1024 * 1024,
            group_records_max: 20_000,
            group_age_max: Duration::from_millis(100),
            part_age_max: None,
            heartbeat: Duration::from_secs(1),
            backfill_workers: 4,
            backfill_rows_per_second: 0,
            chunk_rows_max: 5_000,
            chunk_bytes_max: 2 * 1024 * 1024,
        }
    }
}
