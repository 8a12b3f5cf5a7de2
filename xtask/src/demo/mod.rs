//! `cargo xtask demo`: from a bare machine to rows that arrive in Kafka while one watches; and, with `--once`, the same
//! as a measurement with a verdict.
//!
//! The order is the one that loses nothing: tables, publication and slot, then the first row.

mod live;
mod once;
mod reading;
mod show;
mod stage;
mod story;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use penstock_testbed::artifacts::{self, Bundle, Cache, Progress};

use crate::binary;
use crate::machine::{self, Purpose};
use crate::say;
use crate::servers::{Existing, Servers};
use crate::steps::{Step, Steps, Voice};
use crate::trial::Trial;
use stage::{Names, Stage};

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
    /// With --once: let the exit code be 0 although only a mock broker could be had, which proves nothing.
    #[arg(long, requires = "once")]
    pub allow_mock: bool,
    /// Do as if neither Kafka nor a registry could be had.
    #[arg(long, hide = true, conflicts_with_all = ["kafka", "registry"])]
    pub mock: bool,
    /// Run this penstock instead of building one.
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
    /// Run this penstock-access instead of building one.
    #[arg(long, value_name = "FILE", conflicts_with = "once")]
    pub access_binary: Option<PathBuf>,
    /// Forget one record that the reader saw: shows that the comparison of --once notices.
    #[arg(long, hide = true, requires = "once")]
    pub forget_one: bool,
}

/// Prepares everything and runs the demo.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    machine::prepare(Purpose::Demo, options.yes)?;
    let cache = Cache::from_environment();
    let wanted = |bundle: &Bundle| {
        let by_mock = options.mock && matches!(bundle, Bundle::Kafka | Bundle::Registry);
        !by_mock && cache.find(*bundle).is_none()
    };
    let bundles: Vec<Bundle> = options.existing.bundles().into_iter().filter(wanted).collect();
    let mut steps = Steps::new(plan(options, &bundles));
    let mut mock = options.mock;
    for bundle in bundles {
        let fetched = steps.run(Voice::Silent, || Ok(cache.ensure(bundle, &tell)?));
        mock |= fall_back(bundle, fetched, options)?;
    }
    let binary = match &options.binary {
        Some(binary) => std::path::absolute(binary)?,
        // Cargo draws its own progress on a terminal, and says nothing elsewhere.
        None if std::io::stderr().is_terminal() => steps.run(Voice::Own, binary::build)?,
        None => steps.run(Voice::Silent, binary::build)?,
    };
    let access_binary = match &options.access_binary {
        // A measured run is about records only, and the mock broker lacks what a consumer asks of Kafka.
        _ if options.once || mock => None,
        Some(binary) => Some(std::path::absolute(binary)?),
        None if std::io::stderr().is_terminal() => Some(steps.run(Voice::Own, binary::build_access)?),
        None => Some(steps.run(Voice::Silent, binary::build_access)?),
    };
    let names = Names::new(options.existing.are_any());
    let trial = match mock {
        true => Some(Trial::start(&binary, &names.topic)?),
        false => None,
    };
    let existing = trial.as_ref().map_or_else(|| options.existing.clone(), |trial| trial.instead(&options.existing));
    let mut servers = match existing.are_all() {
        true => Servers::start(&existing, &cache)?,
        false => steps.run(Voice::Silent, || Servers::start(&existing, &cache))?,
    };
    if mock {
        servers.broker = "librdkafka's mock broker (proves nothing)".to_owned();
    }
    servers.shared = options.existing.are_any();
    let mut stage = steps.run(Voice::Silent, || Stage::set(servers, &binary, names))?;
    let outcome = match options.once {
        true => once::run(&mut stage, options, mock),
        false => live::run(&mut stage, access_binary.as_deref(), options),
    };
    // Also after a failure, whose own words matter more than those of the clearing up.
    let cleared = stage.clear();
    drop(trial);
    let code = outcome?;
    cleared?;
    if mock {
        say::line(MOCK);
    }
    match mock && options.once && !options.allow_mock {
        true => Ok(ExitCode::FAILURE),
        false => Ok(code),
    }
}

/// Said before and after.
const MOCK: &str = "\n*** THIS RUNS ON A MOCK BROKER AND A REGISTRY IN MEMORY, WHICH PROVE NOTHING. ***\n";

/// Whether a mock must do what could not be fetched; whatever else failed stays an error.
fn fall_back(bundle: Bundle, fetched: anyhow::Result<PathBuf>, options: &Options) -> anyhow::Result<bool> {
    let error = match fetched {
        Ok(_) => return Ok(false),
        Err(error) => error,
    };
    let replaceable = matches!(bundle, Bundle::Kafka | Bundle::Registry)
        && options.existing.kafka.is_none()
        && options.existing.registry.is_none()
        && matches!(error.downcast_ref(), Some(artifacts::Error::Fetch { .. }));
    if !replaceable {
        return Err(error);
    }
    say::line(format!("{error:#}"));
    say::line(MOCK);
    Ok(true)
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
    match (options.binary.is_none(), binary::built_before(&["penstock"])) {
        (true, true) => steps.push(Step::new("build penstock if it changed", 10)),
        (true, false) => steps.push(Step::new("build penstock and librdkafka (once)", 420)),
        (false, _) => {}
    }
    if !options.once && options.access_binary.is_none() && !options.mock {
        let seconds = if binary::built_before(&["penstock-access"]) { 10 } else { 180 };
        steps.push(Step::new("build penstock-access", seconds));
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
