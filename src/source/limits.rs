//! Every bound of the replication client, in one place. Bytes and durations; none of them is a guess about data,
//! each one keeps a peer, or its silence, from taking our memory or our time.

use std::time::Duration;

/// Size of the read buffer, and what it shrinks back to after a frame that was larger.
pub(super) const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Largest message taken before the server has proven who it is.
pub(super) const STARTUP_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Largest single message, and largest sum of values, in the answer to a simple query.
pub(super) const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many `ParameterStatus` values are kept. Postgres 18 reports 15; the rest is somebody's idea of a joke.
pub(super) const PARAMETERS_MAX: usize = 128;

/// How long a write may wait for the server to take it. Status updates are 39 bytes: a server that takes none of them
/// for this long has lost them all.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// TCP keepalive: first probe after this much silence.
pub(super) const KEEPALIVE_IDLE: Duration = Duration::from_secs(20);

/// TCP keepalive: time between probes.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// TCP keepalive: unanswered probes before the connection counts as lost, 40 s after the last sign of life.
pub(super) const KEEPALIVE_RETRIES: u32 = 4;

/// How long sent bytes may stay unacknowledged by the peer's kernel before the connection counts as lost.
pub(super) const TCP_USER_TIMEOUT: Duration = Duration::from_secs(40);

/// Reads of at least this much are worth processing at once: waiting for more would save nothing.
pub(super) const GATHER_BYTES: usize = 32 * 1024;

/// Small reads that follow each other within this time are load, not news.
pub(super) const GATHER_WINDOW: Duration = Duration::from_millis(1);

/// How long bytes are let gather under load. Longer saves hardly more, and fills the buffer of a Unix socket.
pub(super) const GATHER_PAUSE: Duration = Duration::from_micros(200);
