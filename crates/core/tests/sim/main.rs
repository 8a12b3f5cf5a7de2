//! A deterministic simulation: the real bridge and the real reader against a Postgres, brokers, a network and processes that
//! are made up, and fail, as one seed says.
//!
//! ```text
//! workload ─▶ postgres ─▶ walsender ─▶ bridge (real) ─▶ producer ─▶ broker ─▶ reader (real) ─▶ compared with the database
//!    └─ what committed ───────────▶ checker ◀─── what can be read, what was confirmed ──┘
//! ```
//!
//! `cargo xtask sim` runs many seeds, `SEED=x cargo xtask sim` one of them with its trace, and `cargo xtask sim --planted`
//! every bug that is planted here. As a test it runs a few seeds, proves that a seed always gives the same trace, and that
//! each planted bug still applies to the sources.
//!
//! It does not know sockets, librdkafka or tokio: the shell that drives the bridge here ([`bridge`], [`streaming`]) is a copy
//! of the real one's order, not the real one.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "histories are run by threads; what they run is pure"
)]

mod bridge;
mod broker;
mod checker;
mod loading;
mod outside;
mod planted;
mod postgres;
mod producer;
mod random;
mod reader;
mod runs;
mod streaming;
mod tables;
mod truth;
mod walsender;
mod workload;
mod world;

use std::process::ExitCode;

use runs::{Order, Runs};

/// Histories that `cargo test` runs.
const SHORT: u64 = 60;

fn main() -> ExitCode {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|text| text.parse().ok()) {
        return runs::replay(seed);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)?.parse::<u64>().ok()
    };
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    // What test runners ask before they run anything.
    if has("--list") {
        println!("simulation: test");
        return ExitCode::SUCCESS;
    }
    if let Some(seeds) = number("--seeds") {
        let order = Order { from: number("--from").unwrap_or(1), seeds, until_failure: has("--until-failure") };
        return runs::many(order).tell(has("--json"));
    }
    planted::check();
    runs::check_same_traces();
    let runs: Runs = runs::many(Order { from: 1, seeds: SHORT, until_failure: false });
    runs.tell(false)
}
