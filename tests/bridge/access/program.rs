//! `penstock-access` as a process, with what it printed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

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
    let output = Command::new(program()).arg("--config").arg(configuration).args(arguments).output().expect("run it");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code(),
        lines: text(&output.stdout).lines().map(str::to_owned).collect(),
        said: text(&output.stderr),
    }
}

/// Cargo builds the binaries of the package under test only: this one is another's.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let penstock = Path::new(env!("CARGO_BIN_EXE_penstock"));
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--package", "penstock-access", "--bin", "penstock-access"]);
        if penstock.parent().is_some_and(|folder| folder.ends_with("release")) {
            cargo.arg("--release");
        }
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).status().expect("start cargo");
        assert!(status.success(), "penstock-access does not build: {status}");
        penstock.with_file_name("penstock-access")
    })
}
