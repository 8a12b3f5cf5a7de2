//! Channel access state, rebuilt from Penstock's change topic.
//!
//! ```text
//! record ─▶ decode ─▶ partition (order, whole transactions, freshness) ─▶ account.apply ─▶ access ─▶ diff ─▶ channel
//! ```
//!
//! Everything in this crate but `service` (feature `kafka`, on by default) and the binary is pure: no clock, no socket, no
//! thread. Time is an argument.

pub mod account;
pub mod authorize;
pub mod catch_up;
pub mod change;
pub mod channel;
pub mod checkpoint;
pub mod conditions;
pub mod coordinates;
pub mod decode;
pub mod health;
pub mod knowledge;
pub mod limits;
pub mod partition;
pub mod render;
pub mod replica;
pub mod rows;
#[cfg(feature = "kafka")]
pub mod service;
pub mod text;
pub mod version;

mod access;
