//! Channel access state, rebuilt from Penstock's change topic.
//!
//! ```text
//! record ─▶ decode ─▶ partition (order, whole transactions, freshness) ─▶ account.apply ─▶ access ─▶ diff ─▶ channel
//! ```
//!
//! Everything in this crate but `kafka` and the binary is pure: no clock, no socket, no thread. Time is an argument.

pub mod change;
pub mod limits;
pub mod partition;
pub mod rows;
