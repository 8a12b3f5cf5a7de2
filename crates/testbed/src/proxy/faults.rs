//! What can be wrong with a connection, as data.

use std::time::Duration;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the client, which connected, to the server.
    Up,
    /// From the server to the client.
    Down,
}

impl Direction {
    /// Both directions.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Who connected.
    Client,
    /// Whom the proxy connected to.
    Server,
}

/// How a connection is ended by the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Orderly, with a FIN to both ends.
    Close,
    /// With a RST to both ends.
    Reset,
}

/// What is wrong with one direction of all connections of a proxy; nothing by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Each byte arrives so much later; the throughput stays.
    pub delay: Duration,
    /// Bytes per second and connection.
    pub bytes_per_second: Option<u64>,
    /// Nothing passes. The connection stays open, and what was sent meanwhile arrives once this is lifted, as after a
    /// partition of the network.
    pub blackhole: bool,
    /// After so many bytes of a connection, counted from when this was set, the connection ends; the bytes before
    /// arrive.
    pub cut: Option<(u64, Ending)>,
}

impl Faults {
    /// Only a delay.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// Only a bound on the throughput.
    #[must_use]
    pub fn throttle(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: Some(bytes_per_second.max(1)), ..Self::default() }
    }

    /// Only nothing.
    #[must_use]
    pub fn blackhole() -> Self {
        Self { blackhole: true, ..Self::default() }
    }

    /// Only an end after so many bytes.
    #[must_use]
    pub fn cut(bytes: u64, ending: Ending) -> Self {
        Self { cut: Some((bytes, ending)), ..Self::default() }
    }
}
