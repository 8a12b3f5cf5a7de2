//! Checkpoints: bytes that are believed only if they are all there and all meant for here, and restarts from them that
//! change nothing.

#[path = "../decode/fixture.rs"]
#[allow(dead_code, reason = "the tests of decoding need more of it")]
mod fixture;
mod form;
mod log;
mod restart;
