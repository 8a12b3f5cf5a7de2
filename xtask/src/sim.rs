//! `cargo xtask sim`: histories of the real bridge and the real reader in a world that is made up, and fails, as a seed says.
//!
//! What runs is the test target `sim` of `penstock-core`; what it knows of guarantees stands there. This only builds it, hands over which seeds, and plants bugs ([`planted`]).

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, ensure};

use crate::binary;

mod planted;

/// The environment's name for a seed to be told.
const SEED: &str = "SEED";

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How many histories; with --planted, within how many each bug must be found.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first seed. `SEED=7 cargo xtask sim` tells one history in full.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Plant each bug of crates/core/tests/sim/planted into a copy, and see it found.
    #[arg(long)]
    planted: bool,
    /// Of the planted bugs only those whose names hold this.
    #[arg(long, requires = "planted")]
    only: Option<String>,
    /// Print the result as a JSON object.
    #[arg(long)]
    json: bool,
}

/// Builds and runs.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if options.planted {
        return planted::run(options.only.as_deref(), options.from, options.seeds.unwrap_or(500), options.json);
    }
    let root = binary::workspace();
    let simulation = build(&root, "--locked")?;
    let mut command = Command::new(simulation);
    if std::env::var_os(SEED).is_none() {
        command.args(["--seeds", &options.seeds.unwrap_or(2000).to_string(), "--from", &options.from.to_string()]);
        command.args(options.json.then_some("--json"));
    }
    let status = command.status().context("starting the simulation")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The target folder of the workspace.
fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    binary::workspace().join(target)
}

/// Builds the simulation of a workspace; where it is. `lock`: whether its lock file may be brought up to date.
fn build(workspace: &Path, lock: &str) -> anyhow::Result<PathBuf> {
    let mut command = binary::cargo();
    command.current_dir(workspace).args(["test", "--no-run", lock]);
    command.args(["--package", "penstock-core", "--test", "sim", "--message-format", "json-render-diagnostics"]);
    let output = command.arg("--target-dir").arg(target()).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("starting cargo")?;
    ensure!(output.status.success(), "the simulation does not build; cargo's own message is above");
    let found = String::from_utf8_lossy(&output.stdout).lines().filter_map(executable).next_back();
    found.context("cargo does not say where the simulation is")
}

/// The path in a line like `{"reason":"compiler-artifact","target":{"name":"sim",…},"executable":"/…/sim-0123"}`.
fn executable(line: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_simulation = message["target"]["name"] == "sim";
    message["executable"].as_str().filter(|_| is_simulation).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::executable;

    #[test]
    fn the_simulation_is_found_among_what_cargo_says() {
        let of = |name: &str, executable: &str| {
            format!(r#"{{"reason":"compiler-artifact","target":{{"name":"{name}"}},"executable":{executable}}}"#)
        };
        assert_eq!(executable(&of("sim", "\"/t/sim-1\"")), Some(PathBuf::from("/t/sim-1")));
        assert_eq!(executable(&of("sim", "null")), None);
        assert_eq!(executable(&of("bridge", "\"/t/bridge-1\"")), None);
        assert_eq!(executable("   Compiling penstock-core"), None);
    }
}
