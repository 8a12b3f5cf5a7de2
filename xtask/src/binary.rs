//! The binaries that the demo and the benchmarks run: built from this workspace, in release, by the cargo that runs us.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    // What cargo tells a program that it runs must not look like the user's own wish to the cargo below it.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text == "CARGO_MANIFEST_DIR" || text == "CARGO_MANIFEST_PATH" {
            command.env_remove(&name);
        }
    }
    command
}

/// Whether earlier builds left something to start from: then building takes seconds, not minutes.
pub fn built_before(names: &[&str]) -> bool {
    names.iter().all(|name| release_folder().join(name).is_file())
}

/// Builds the bridge; cargo draws its own progress on a terminal.
pub fn build() -> anyhow::Result<PathBuf> {
    build_one("penstock")
}

/// Builds the consumer; likewise.
pub fn build_access() -> anyhow::Result<PathBuf> {
    build_one("penstock-access")
}

fn build_one(name: &str) -> anyhow::Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--package", name, "--bin", name]);
    if !std::io::stderr().is_terminal() {
        command.arg("--quiet");
    }
    let status = command.stdin(Stdio::null()).stdout(std::io::stderr()).status().context("starting cargo")?;
    ensure!(status.success(), "{name} does not build ({status}); cargo's own message is above");
    let binary = release_folder().join(name);
    ensure!(binary.is_file(), "cargo built {name}, but {} is not there", binary.display());
    Ok(binary)
}

fn release_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    workspace().join(target).join("release")
}
