//! `cargo xtask …`: what a developer or a newcomer does with the repository, on any machine that has cargo.
//!
//! Invariants: its dependencies are few and none needs a C compiler, so that its first line appears while the rest is
//! still to be built; it drives `penstock` as a child process and never links it. Exit codes: 0 done, 1 failed, 2 the
//! call is wrong or something is missing that only a person can provide.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod binary;
mod bridge;
mod configuration;
mod consumer;
mod database;
mod delays;
mod demo;
mod fuzz;
mod ledger;
mod limits;
mod machine;
mod reader;
mod record;
mod say;
mod servers;
mod steps;
mod tests_run;
mod trial;
mod verdict;
mod workload;

/// Penstock's commands for developers.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch committed rows arrive in Kafka: real Postgres, Kafka and schema registry, the bridge, a live workload.
    ///
    /// Ctrl-C stops everything that was started. With --once it runs a measured load, kills the bridge in its middle,
    /// compares what arrived with what was committed, and exits with 1 if they differ.
    Demo(demo::Options),
    /// Measure. Times are printed, never asserted.
    #[command(subcommand)]
    Bench(bench::Options),
    /// Throw made-up bytes at the decoders (cargo-fuzz, libFuzzer).
    Fuzz(fuzz::Options),
    /// Run all tests of the workspace.
    Test(tests_run::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Test(options) => tests_run::run(&options),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            match error.downcast_ref::<machine::Unprepared>() {
                Some(_) => ExitCode::from(2),
                None => ExitCode::FAILURE,
            }
        }
    }
}
