//! Watching connections from within the proxy, and deciding about what passes.
//!
//! Invariant: an observer is told of bytes at the client's end of the proxy: of those going up when they have come from
//! the client, of those going down before the client can have them. So if the client does B because of A, A is always
//! seen before B; and all proxies that share an observer tell it one at a time, on one clock.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::Direction;

/// Bytes at the client's end of a proxy.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// The proxy's name.
    pub proxy: &'a str,
    /// The connection, numbered from 1 for each proxy.
    pub connection: u64,
    /// Which way they go.
    pub direction: Direction,
    /// The bytes: a piece of the stream, cut anywhere. Empty when the direction has ended.
    pub bytes: &'a [u8],
    /// When they were here.
    pub at: Instant,
}

/// What is to happen to a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It, and what follows in this direction of this connection, is held until [`super::Proxy::release`].
    Hold,
    /// It is lost, and the connection reset: an answer that was given and never heard.
    Reset,
}

/// Watches, and decides.
pub trait Observe: Send {
    /// Told of each chunk; must be quick, since all connections wait for it.
    fn observe(&mut self, chunk: &Chunk<'_>) -> Verdict;
}

impl<F: FnMut(&Chunk<'_>) -> Verdict + Send> Observe for F {
    fn observe(&mut self, chunk: &Chunk<'_>) -> Verdict {
        self(chunk)
    }
}

/// An observer that several proxies share.
pub type Observer = Arc<Mutex<dyn Observe>>;
