//! Channels: what each was sent, and the difference to what it should have.
//!
//! A channel holds nothing but what it was sent, so that a difference is always against that and never against what
//! changed. It starts *waiting*, without `init`, as long as nothing may be said; it is over with `disconnect`.
//!
//! Invariant: while nothing new may be granted (`hold`), only what takes something away is pushed; a channel that
//! something was kept from is *behind*, and is compared in full when it may be told again.

pub mod push;

pub(crate) mod client;
pub(crate) mod filters;
pub(crate) mod gateway;
pub(crate) mod opening;
pub(crate) mod registry;

pub use opening::Refusal;

use push::Message;

/// Identifies an open channel of an account; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub(crate) u64);

/// What happens to a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// To be sent. After a `disconnect` the channel is over.
    Push(Message),
    /// A channel that was opened before it could be known whether it may be: it may not, and is over.
    Refused(Refusal),
}
