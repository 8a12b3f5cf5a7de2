//! Every bound of the testbed in one place: how long it waits, and how much it keeps.
//!
//! The waits are generous because the machine may be busy with a build: each of them ends as soon as what it waits for
//! has happened, so a long bound costs nothing unless something is wrong.

use std::time::Duration;

/// How long a server may take from its start until it answers.
pub const START_TIMEOUT: Duration = Duration::from_secs(90);

/// How long a server may take to end after it was asked to, or was killed.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a process that was dropped may take to vanish before the testbed gives up on it.
pub const DROP_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between two looks at a server that is starting, stopping or being waited for.
pub const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long one probe (a Kafka request, an HTTP exchange) may take.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of a server's log an error shows.
pub const LOG_TAIL_BYTES: usize = 4_096;

/// Largest answer that a probe of the testbed reads.
pub const PROBE_ANSWER_BYTES_MAX: usize = 4 << 20;

/// Ports for servers are taken from here: below the range that Linux gives to outgoing connections (from 32768), so
/// that a server which restarts never finds its port in use by somebody's client.
pub const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Bytes that the proxy reads at once.
pub const PROXY_CHUNK_BYTES: usize = 64 << 10;

/// Chunks that the proxy holds per connection and direction before it stops reading (a full pipe pushes back, as TCP does).
pub const PROXY_CHUNKS_MAX: usize = 64;
