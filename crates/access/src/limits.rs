//! Every bound of this crate.

/// Beyond this many keys that one change touched in one channel, the channel is compared in full: that costs no more, and
/// keeps a huge commit small in memory.
pub(crate) const TOUCHED_KEYS_MAX: usize = 256;
