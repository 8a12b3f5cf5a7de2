//! A replica that is fed with records as the bridge writes them: what it answers, and what it makes of sources and of time.

#[path = "../decode/fixture.rs"]
#[allow(dead_code, reason = "the tests of decoding use the rest")]
mod fixture;
mod knowledge;
mod sources;
mod topic;
mod unseen;
