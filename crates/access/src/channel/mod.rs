//! Channels: what each was sent, and the difference to what it should have.
//!
//! A channel holds nothing but what it was sent, so that a difference is always against that and never against what
//! changed. It starts *waiting*, without `init`, as long as nothing may be said; it is over with `disconnect`.

pub mod push;

pub(crate) mod client;
pub(crate) mod filters;
pub(crate) mod gateway;
pub(crate) mod registry;

use crate::account::knowledge::Mode;

/// Identifies an open channel of an account; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub(crate) u64);

/// What a channel was told about what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// That it is up to date, or nothing.
    Fresh,
    Stale,
    NotAssigned,
}

/// How a channel is compared with what it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Nothing new is granted.
    pub(crate) hold: bool,
    /// First comparison after a time in which something may have been held back.
    pub(crate) resumed: bool,
}

impl Comparison {
    pub(crate) fn new(mode: Mode, resumed: bool) -> Self {
        Self { hold: mode != Mode::Granting, resumed }
    }
}
