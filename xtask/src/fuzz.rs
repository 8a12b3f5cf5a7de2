//! `cargo xtask fuzz`: the decoders against bytes that libFuzzer makes up, each target for so many seconds.
//!
//! It starts from what real servers and the golden files have, and keeps what it found worth keeping under the target
//! folder, so that the next run goes on from there. A finding is an exit code of 1 and a file that repeats it. The
//! targets, and what each demands of its decoder, are in `crates/core/fuzz/targets`. It works with a stable toolchain:
//! Penstock has no unsafe code that a sanitizer could watch.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, ensure};
use penstock_testbed::system::Installation;
use serde_json::json;

use crate::{binary, machine, say};

mod seeds;

/// What cargo-fuzz is told of each input: none of the decoders needs more, and a larger one only takes longer.
const INPUT_BYTES_MAX: usize = 4096;
/// A decoder that needs more for an input of that size believes what the input says of itself.
const MEMORY_MB_MAX: u32 = 1024;
/// An input that takes longer is a finding.
const INPUT_SECONDS_MAX: u32 = 10;
/// What libFuzzer's output begins with: before it, it is cargo that speaks, and fails.
const LIBFUZZER_BEGINS: &str = "INFO: Running with entropic";

/// A decoder to be fuzzed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// Messages of the replication stream.
    Pgoutput,
    /// The header `penstock`.
    Header,
    /// Keys and values of records.
    Record,
    /// Columns' values on their way into a record.
    Value,
}

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// What to fuzz; everything unless named.
    #[arg(value_enum)]
    targets: Vec<Target>,
    /// How long each target runs.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Print the summary as a JSON object.
    #[arg(long)]
    json: bool,
    /// Install cargo-fuzz without asking if it is missing.
    #[arg(long)]
    yes: bool,
}

/// What came of a target.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    target: Target,
    executions: u64,
    found: bool,
}

/// Builds and runs each target.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    prepare(options.yes)?;
    let targets = match options.targets.as_slice() {
        [] => &[Target::Pgoutput, Target::Header, Target::Record, Target::Value],
        named => named,
    };
    let outcomes: Vec<Outcome> =
        targets.iter().map(|target| fuzz(*target, options.seconds)).collect::<anyhow::Result<_>>()?;
    let found = outcomes.iter().any(|outcome| outcome.found);
    if options.json {
        println!("{}", to_json(&outcomes, options.seconds));
    } else {
        for outcome in &outcomes {
            println!("{}", tell(outcome));
        }
    }
    Ok(if found { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn prepare(without_asking: bool) -> anyhow::Result<()> {
    let asked = binary::cargo().args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if asked.context("starting cargo")?.success() {
        return Ok(());
    }
    say::line("missing on this machine:\n  - cargo-fuzz (builds the targets with libFuzzer)");
    let words = ["cargo", "install", "--locked", "cargo-fuzz"].map(str::to_owned).to_vec();
    machine::offer(&Installation { commands: vec![words], permitted: true }, without_asking)
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Pgoutput => "pgoutput",
            Self::Header => "header",
            Self::Record => "record",
            Self::Value => "value",
        }
    }

    fn seeds(self) -> anyhow::Result<Vec<Vec<u8>>> {
        let root = binary::workspace();
        match self {
            Self::Pgoutput => seeds::pgoutput(&root),
            Self::Header => seeds::header(&root),
            Self::Record => seeds::record(&root),
            Self::Value => seeds::value(&root),
        }
    }
}

/// Where everything is built and kept.
fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    binary::workspace().join(target).join("fuzz")
}

fn fuzz(target: Target, seconds: u32) -> anyhow::Result<Outcome> {
    let (name, folder) = (target.name(), folder());
    let of = |what: &str| folder.join(what).join(name);
    let (corpus, seeds, findings) = (of("corpus"), of("seeds"), of("findings"));
    for needed in [&corpus, &findings] {
        std::fs::create_dir_all(needed).with_context(|| format!("making {}", needed.display()))?;
    }
    let count = write_seeds(&seeds, &target.seeds()?)?;
    say::line(format!("fuzzing {name} for {seconds} s, from {count} seeds"));
    let mut command = binary::cargo();
    command.args(["fuzz", "run", "--sanitizer", "none", "--fuzz-dir", "crates/core/fuzz", "--target-dir"]);
    command.arg(&folder).arg(name).arg(&corpus).arg(&seeds).arg("--");
    command.args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={INPUT_BYTES_MAX}"),
        format!("-rss_limit_mb={MEMORY_MB_MAX}"),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        format!("-artifact_prefix={}/", findings.display()),
        "-print_final_stats=1".to_owned(),
    ]);
    watch(command, target)
}

/// The seeds as files, in the place of those of an earlier run.
fn write_seeds(folder: &Path, seeds: &[Vec<u8>]) -> anyhow::Result<usize> {
    ensure!(!seeds.is_empty(), "no seeds for {}", folder.display());
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    for (number, seed) in seeds.iter().enumerate() {
        let file = folder.join(format!("{number:03}"));
        std::fs::write(&file, seed).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(seeds.len())
}

/// Passes on what libFuzzer says, and takes its count from it.
fn watch(mut command: Command, target: Target) -> anyhow::Result<Outcome> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("starting cargo fuzz")?;
    let (mut began, mut executions) = (false, 0);
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).split(b'\n') {
            // What a panic prints need not be UTF-8.
            let line = String::from_utf8_lossy(&line.context("reading from cargo fuzz")?).into_owned();
            began |= line.starts_with(LIBFUZZER_BEGINS);
            executions = executions_in(&line).unwrap_or(executions);
            say::line(&line);
        }
    }
    let status = child.wait().context("waiting for cargo fuzz")?;
    ensure!(began, "{} did not run ({status}); cargo's own message is above", target.name());
    ensure!(executions > 0 || !status.success(), "{} ran nothing", target.name());
    Ok(Outcome { target, executions, found: !status.success() })
}

/// `stat::number_of_executed_units: 123`
fn executions_in(line: &str) -> Option<u64> {
    line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok()
}

fn tell(outcome: &Outcome) -> String {
    let executions = say::count(outcome.executions);
    match outcome.found {
        false => format!("{}: {executions} executions, nothing found", outcome.target.name()),
        true => format!(
            "{}: {executions} executions, FOUND SOMETHING: the input is in {}",
            outcome.target.name(),
            folder().join("findings").join(outcome.target.name()).display()
        ),
    }
}

fn to_json(outcomes: &[Outcome], seconds: u32) -> serde_json::Value {
    let targets: Vec<_> = outcomes
        .iter()
        .map(|Outcome { target, executions, found }| {
            json!({ "target": target.name(), "executions": executions, "found": found })
        })
        .collect();
    json!({ "seconds": seconds, "targets": targets })
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Target, executions_in, to_json};

    #[test]
    fn executions_are_counted_by_libfuzzer() {
        assert_eq!(executions_in("stat::number_of_executed_units: 4711"), Some(4711));
        assert_eq!(executions_in("stat::peak_rss_mb:              40"), None);
        assert_eq!(executions_in("#4711 DONE cov: 5"), None);
    }

    #[test]
    fn every_target_has_seeds_within_its_bound() {
        for (target, least) in [(Target::Pgoutput, 40), (Target::Header, 2), (Target::Record, 15), (Target::Value, 200)]
        {
            let seeds = target.seeds().expect("seeds");
            assert!(seeds.len() >= least, "{target:?}: {}", seeds.len());
            assert!(seeds.iter().all(|seed| seed.len() <= super::INPUT_BYTES_MAX), "{target:?}");
        }
    }

    #[test]
    fn a_script_sees_what_was_found() {
        let outcome = Outcome { target: Target::Header, executions: 7, found: true };
        let expected = serde_json::json!({ "seconds": 5, "targets": [
            { "target": "header", "executions": 7, "found": true }
        ] });
        assert_eq!(to_json(&[outcome], 5), expected);
    }
}
