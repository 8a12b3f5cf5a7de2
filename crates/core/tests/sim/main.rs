//! A deterministic simulation: the real bridge and the real reader against a Postgres, brokers, a network and processes that
//! are made up, and fail, as one seed says.
//!
//! ```text
//! workload ─▶ postgres ─▶ walsender ─▶ bridge (real) ─▶ producer ─▶ broker ─▶ reader (real) ─▶ compared with the database
//!    └─ what committed ───────────▶ checker ◀─── what can be read, what was confirmed ──┘
//! ```
//!
//! `cargo xtask sim` runs many seeds, `SEED=x cargo xtask sim` one with its trace. Run by `cargo test`, a short selection.

mod bridge;
mod broker;
mod checker;
mod loading;
mod outside;
mod postgres;
mod producer;
mod random;
mod reader;
mod streaming;
mod tables;
mod truth;
mod walsender;
mod workload;
mod world;

fn main() {
    let seed: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut world = world::World::new(seed, true);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    for line in world.outside.take_trace() {
        println!("{line}");
    }
    println!("{outcome:?}");
}
