//! What can be chosen: for all accounts, and for a channel.

use crate::conditions;

/// How accounts are read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub conditions: conditions::Options,
    /// How long an announced flow lasts without its row, in microseconds.
    pub confirm_within_us: i64,
    /// How long authorisations outlive knowledge, in microseconds; None: for as long as it takes.
    pub stale_grace_us: Option<i64>,
    /// Go on where only freshness is missing.
    pub serve_stale: bool,
    /// A flow that is known from a load has not ended: whoever owns the table deletes the rows of those that have.
    pub loaded_flows_live: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            conditions: conditions::Options::default(),
            confirm_within_us: 15_000_000,
            stale_grace_us: None,
            serve_stale: false,
            loaded_flows_live: false,
        }
    }
}

/// What a client's channel is opened with.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientOptions {
    /// The client takes a resource's move to other sites as an update.
    pub can_move_sites: bool,
}
