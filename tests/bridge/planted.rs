//! Builds the bridge with a bug planted into a scratch copy of its sources.
//!
//! The bugs are patches in `tests/patches`; one that no longer applies fails the test that needs it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Copies the workspace, applies `tests/patches/<bug>.patch`, and builds. What the workspace depends on is already built;
/// the binary has a name of its own, so that the real one stays. The copy's crates have a version of their own: cargo
/// tells members of a workspace apart by that and not by where they are, and would take a planted library for the real
/// one in the next build.
pub fn build(bug: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = tempfile::Builder::new().prefix("penstock-planted-").tempdir().expect("a folder");
    let copied = ["Cargo.toml", "Cargo.lock", "src", "crates", "xtask", "rustfmt.toml"];
    for name in copied {
        run(Command::new("cp").arg("-r").arg(root.join(name)).arg(scratch.path()));
    }
    let patch = root.join("tests/patches").join(format!("{bug}.patch"));
    run(Command::new("patch").current_dir(scratch.path()).args(["-p1", "--no-backup-if-mismatch", "-i"]).arg(patch));
    let name = format!("penstock-planted-{bug}");
    let manifest = scratch.path().join("Cargo.toml");
    let mut text = std::fs::read_to_string(&manifest).expect("the copied manifest");
    let version = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"");
    assert!(text.contains(version), "the workspace's manifest has no {version}");
    text = text.replacen(version, "version = \"0.0.0-planted\"", 1);
    text.push_str(&format!("\n[[bin]]\nname = \"{name}\"\npath = \"src/main.rs\"\n"));
    std::fs::write(&manifest, text).expect("write the copied manifest");
    let target = Path::new(env!("CARGO_BIN_EXE_penstock")).parent().and_then(Path::parent).expect("a target folder");
    run(Command::new(env!("CARGO"))
        .current_dir(scratch.path())
        .args(["build", "--offline", "--package", "penstock", "--bin", &name, "--target-dir"])
        .arg(target));
    target.join("debug").join(name)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
}
