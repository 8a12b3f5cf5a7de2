//! `penstock-access` run to its end.

use std::path::Path;
use std::process::Command;

use super::program::binary;

/// What a run of it came to.
pub struct Ran {
    pub code: Option<i32>,
    /// What it printed, by lines.
    pub lines: Vec<String>,
    /// What it said beside that.
    pub said: String,
}

/// Runs it to its end.
pub fn run(configuration: &Path, arguments: &[&str]) -> Ran {
    let output = Command::new(binary()).arg("--config").arg(configuration).args(arguments).output().expect("run it");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code(),
        lines: text(&output.stdout).lines().map(str::to_owned).collect(),
        said: text(&output.stderr),
    }
}
