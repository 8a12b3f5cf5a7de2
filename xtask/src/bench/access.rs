//! `cargo xtask bench access`: what the pure core of the consumer costs, without servers: memory of a large account with
//! its channels, an answer of `authorize`, a change by how many clients it concerns. `crates/access/examples/measure.rs`
//! says what the accounts are.

use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::binary;

/// Options of the account.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Print one JSON object on one line instead of an indented one.
    #[arg(long)]
    json: bool,
}

/// Builds the measurement in release and runs it.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut command = binary::cargo();
    command.args(["run", "--release", "--locked", "--quiet", "--package", "penstock-access", "--no-default-features"]);
    let output = command
        .args(["--example", "measure"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(output.status.success(), "the measurement failed ({})", output.status);
    let text = String::from_utf8(output.stdout).context("the measurement's text")?;
    let result: Value = text.parse().context("the measurement told no JSON")?;
    match options.json {
        true => println!("{result}"),
        false => println!("{result:#}"),
    }
    Ok(ExitCode::SUCCESS)
}
