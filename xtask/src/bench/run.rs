//! What every benchmark is told, and what it begins and ends with.

use std::path::PathBuf;

use anyhow::Context as _;
use penstock_testbed::artifacts::Cache;
use serde_json::Value;

use crate::machine::{self, Purpose};
use crate::servers::{Existing, Servers};
use crate::{binary, say};

/// Options of every benchmark on real servers.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// Print one JSON object on one line instead of an indented one.
    #[arg(long)]
    json: bool,
    /// Install what is missing without asking.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    existing: Existing,
}

/// Options of those that measure in rounds.
#[derive(Debug, clap::Args)]
pub struct Rounds {
    /// Alternating rounds; medians need a few.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub rounds: u32,
    #[command(flatten)]
    pub run: Run,
}

impl Run {
    /// Prepares the machine, builds the bridge, and starts the servers.
    pub fn begin(&self) -> anyhow::Result<(PathBuf, Servers)> {
        machine::prepare(Purpose::Tests, self.yes)?;
        let penstock = binary::build()?;
        Ok((penstock, Servers::start(&self.existing, &Cache::from_environment())?))
    }

    /// Likewise, of the consumer, beside a bridge that was built.
    pub fn build_access(&self) -> anyhow::Result<PathBuf> {
        say::line("building penstock-access …");
        binary::build_access()
    }

    pub fn report(&self, result: &Value) {
        match self.json {
            true => println!("{result}"),
            false => println!("{result:#}"),
        }
    }
}

/// A folder that goes with the value.
pub fn folder() -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("penstock-bench-").tempdir().context("making a folder")
}
