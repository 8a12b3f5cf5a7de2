//! `cargo xtask test`: all tests of the workspace, with what their servers are made of fetched first.
//!
//! It starts no server: tests start their own. Tests run two at a time in each binary, because each may start a broker.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::Context as _;
use penstock_testbed::artifacts::{Bundle, Cache};
use serde_json::json;

use crate::binary;
use crate::machine::{self, Purpose};
use crate::say;

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Print the summary as a JSON object; cargo's own output goes to standard error.
    #[arg(long)]
    json: bool,
    /// Install what is missing without asking.
    #[arg(long)]
    yes: bool,
    /// Arguments for `cargo test` in the place of --workspace.
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

/// Fetches, runs, sums up.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    machine::prepare(Purpose::Tests, options.yes)?;
    fetch()?;
    let started = Instant::now();
    let mut command = binary::cargo();
    command.args(["test", "--no-fail-fast", "--locked"]);
    match options.arguments.as_slice() {
        [] => command.arg("--workspace"),
        arguments => command.args(arguments),
    };
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        command.env("RUST_TEST_THREADS", "2");
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting cargo")?;
    let mut summary = Summary::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line.context("reading from cargo")?;
            summary.add(&line);
            match options.json {
                true => say::line(&line),
                false => writeln!(std::io::stdout(), "{line}")?,
            }
        }
    }
    let status = child.wait().context("waiting for cargo")?;
    summary.close(status.success());
    if options.json {
        println!("{}", summary.to_json(started.elapsed().as_secs()));
    } else {
        println!("{} passed, {} failed", summary.passed, summary.failed);
    }
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fetched here, downloads are seen, and are not charged to the test that happens to come first. Other majors of Postgres
/// are tested where they can be had.
fn fetch() -> anyhow::Result<()> {
    let cache = Cache::from_environment();
    for bundle in Bundle::ALL {
        if cache.find(bundle).is_some() {
            continue;
        }
        say::line(format!("fetching {bundle} ({} MB)", bundle.download_bytes() / 1_000_000));
        match (bundle, cache.ensure(bundle, &|_| {})) {
            (_, Ok(_)) => {}
            (Bundle::Kafka | Bundle::Registry, Err(error)) => return Err(error.into()),
            (
                Bundle::Postgres14 | Bundle::Postgres15 | Bundle::Postgres16 | Bundle::Postgres17 | Bundle::Postgres18,
                Err(error),
            ) => say::line(format!("{bundle} can't be had: {error}")),
        }
    }
    Ok(())
}

/// What the test binaries said of themselves.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    passed: u64,
    failed: u64,
    ignored: u64,
    binaries: u64,
}

impl Summary {
    /// `test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s`
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else {
            return;
        };
        let number = |what: &str| {
            let words: Vec<&str> = result.split([' ', ';', '.']).filter(|word| !word.is_empty()).collect();
            let place = words.iter().position(|word| *word == what)?;
            words.get(place.checked_sub(1)?)?.parse::<u64>().ok()
        };
        self.binaries += 1;
        self.passed += number("passed").unwrap_or(0);
        self.failed += number("failed").unwrap_or(0);
        self.ignored += number("ignored").unwrap_or(0);
    }

    /// What did not build, or died without a result, has failed although nobody counted it.
    fn close(&mut self, success: bool) {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
    }

    fn to_json(&self, seconds: u64) -> serde_json::Value {
        let Self { passed, failed, ignored, binaries } = self;
        json!({ "passed": passed, "failed": failed, "ignored": ignored, "binaries": binaries, "seconds": seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn results_of_all_binaries_are_added() {
        let mut summary = Summary::default();
        for line in [
            "running 3 tests",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; finished in 1.00s",
            "test result_of_something ... ok",
        ] {
            summary.add(line);
        }
        assert_eq!(summary, Summary { passed: 15, failed: 2, ignored: 1, binaries: 2 });
    }

    #[test]
    fn what_did_not_build_has_failed() {
        let mut summary = Summary::default();
        summary.close(true);
        assert_eq!(summary.failed, 0);
        summary.close(false);
        assert_eq!(summary.failed, 1);
        summary.failed = 3;
        summary.close(false);
        assert_eq!(summary.failed, 3);
    }
}
