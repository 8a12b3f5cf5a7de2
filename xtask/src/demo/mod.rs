//! `cargo xtask demo`: from a bare machine to rows that arrive in Kafka while one watches; and, with `--once`, the same
//! as a measurement with a verdict.
//!
//! The order is the one that loses nothing: tables, publication and slot, then the first row.

mod live;
mod once;
mod show;
mod stage;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use penstock_testbed::artifacts::{Bundle, Cache, Progress};

use crate::binary;
use crate::machine::{self, Purpose};
use crate::say;
use crate::servers::{Existing, Servers};
use crate::steps::{Step, Steps, Voice};
use stage::Stage;

/// What the demo is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Run a measured load, compare what arrived with what was committed, print one line, and end.
    #[arg(long)]
    pub once: bool,
    /// Print the result of --once as a JSON object.
    #[arg(long, requires = "once")]
    pub json: bool,
    /// Install what is missing without asking.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub existing: Existing,
    /// With --once: row events to commit, at least.
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000, requires = "once")]
    pub events: u64,
    /// With --once: how long the load lasts, at least.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "once")]
    pub seconds: u64,
    /// Seed of the workload's choices.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Run this penstock instead of building one.
    #[arg(long, value_name = "FILE")]
    pub binary: Option<std::path::PathBuf>,
    /// Forget one record that the reader saw: shows that the comparison of --once notices.
    #[arg(long, hide = true, requires = "once")]
    pub forget_one: bool,
}

/// Prepares everything and runs the demo.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    machine::prepare(Purpose::Demo, options.yes)?;
    let cache = Cache::from_environment();
    let bundles: Vec<Bundle> =
        options.existing.bundles().into_iter().filter(|&bundle| cache.find(bundle).is_none()).collect();
    let mut steps = Steps::new(plan(options, &bundles));
    for bundle in bundles {
        steps.run(Voice::Silent, || Ok(cache.ensure(bundle, &tell)?))?;
    }
    let binary = match &options.binary {
        Some(binary) => std::path::absolute(binary)?,
        // Cargo draws its own progress on a terminal, and says nothing elsewhere.
        None if std::io::stderr().is_terminal() => steps.run(Voice::Own, binary::build)?,
        None => steps.run(Voice::Silent, binary::build)?,
    };
    let servers = match options.existing.are_all() {
        true => Servers::start(&options.existing, &cache)?,
        false => steps.run(Voice::Silent, || Servers::start(&options.existing, &cache))?,
    };
    let mut stage = steps.run(Voice::Silent, || Stage::set(servers, &binary))?;
    let outcome = match options.once {
        true => once::run(&mut stage, options),
        false => live::run(&mut stage, options),
    };
    // Also after a failure, whose own words matter more than those of the clearing up.
    let cleared = stage.clear();
    let code = outcome?;
    cleared?;
    Ok(code)
}

fn plan(options: &Options, bundles: &[Bundle]) -> Vec<Step> {
    let mut steps: Vec<Step> = bundles
        .iter()
        .map(|bundle| {
            let megabytes = bundle.download_bytes() / 1_000_000;
            // Some 4 MB/s, and what Maven or npm take for themselves.
            Step::new(format!("fetch {bundle} ({megabytes} MB)"), 15 + megabytes / 4)
        })
        .collect();
    match (options.binary.is_none(), binary::built_before()) {
        (true, true) => steps.push(Step::new("build penstock if it changed", 10)),
        (true, false) => steps.push(Step::new("build penstock and librdkafka (once)", 420)),
        (false, _) => {}
    }
    if !options.existing.are_all() {
        steps.push(Step::new("start Postgres, Kafka and the schema registry", 15));
    }
    steps.push(Step::new("create tables, then publication and slot, then start the bridge", 8));
    steps
}

fn tell(progress: Progress) {
    match progress {
        Progress::Cached(_) | Progress::Ready { .. } => {}
        Progress::Waiting(bundle) => say::line(format!("  another process is fetching {bundle}; waiting for it")),
        Progress::Fetching { command, .. } => say::line(format!("  {command}")),
        Progress::Verifying(_) => say::line("  comparing SHA-256 sums"),
        Progress::Unpacking(_) => say::line("  unpacking"),
    }
}
