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
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let (from, to) = (numbers[0], numbers.get(1).copied().unwrap_or(numbers[0]));
    let began = std::time::Instant::now();
    std::panic::set_hook(Box::new(|_| {}));
    for seed in from..=to {
        let mut world = world::World::new(seed, from == to);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
        for line in world.outside.take_trace() {
            println!("{line}");
        }
        match outcome {
            Ok(summary) => println!("{seed} {summary:?}"),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                println!("{seed} FAILED {}", text.unwrap_or_default());
            }
        }
    }
    println!("{:?}", began.elapsed());
}
