//! Every bound of the consumer, with its unit and its reason.

/// A transaction that is held until its end and takes more bytes of keys and values than this is told as a problem. It is
/// held all the same: half a transaction is never applied, whatever it costs.
pub const HELD_BYTES_ALARM: usize = 256 * 1024 * 1024;

/// Progress records, of different readings of Postgres' clock, that wait for their positions to be read: at two readings a
/// second, those of about ten minutes. Who is that far behind is stale, and stays it until a later one is reached.
pub const CLAIMS_PENDING_MAX: usize = 1024;

/// Beyond this many keys that one change touched in one channel, the channel is compared in full: that costs no more, and
/// keeps a huge commit small in memory.
pub const TOUCHED_KEYS_MAX: usize = 256;

/// An announced flow may end by so much before its time, in microseconds. It ends with a whole second, and not more than one
/// after its time: what is left of that second is for whoever watches the clock, which is not done all the time.
pub(crate) const CONFIRM_LENIENCY_US: i64 = 100_000;

/// Up to this many entries a sorted list is looked through from its beginning: see `account::links`.
pub(crate) const SCANNED_MAX: usize = 16;
