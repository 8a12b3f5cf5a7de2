//! Every bound of this crate.

/// Beyond this many keys that one change touched in one channel, the channel is compared in full: that costs no more, and
/// keeps a huge commit small in memory.
pub(crate) const TOUCHED_KEYS_MAX: usize = 256;

/// Up to this many entries a sorted list is looked through from its beginning: see `account::links`.
pub(crate) const SCANNED_MAX: usize = 16;
