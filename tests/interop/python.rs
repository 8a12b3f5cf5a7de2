//! A Python that has what the reader needs: made once, kept in the target folder, made again when the requirements or the
//! machine's Python change.
//!
//! Invariant: it is made beside its place and renamed, so a run that was interrupted leaves nothing half made.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::{cache, folder};

/// The tests of the reader's parts that there are at least: a run of none passes, too.
const UNIT_TESTS_MIN: usize = 30;

/// The interpreter, with `requirements.txt` installed.
fn interpreter() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let environment = cache().join("python");
        if !is_current(&environment) {
            make(&environment);
        }
        environment.join("bin/python")
    })
}

/// A command of that Python, in the reader's folder; no byte code is left there.
pub fn command() -> Command {
    let mut command = Command::new(interpreter());
    command.arg("-B").current_dir(folder());
    command
}

fn requirements() -> PathBuf {
    folder().join("requirements.txt")
}

/// Whether it has what is asked for now, and still runs.
fn is_current(environment: &Path) -> bool {
    let installed = std::fs::read(environment.join("requirements.txt")).ok();
    let imports = ["-c", "import confluent_kafka, fastavro"];
    installed.is_some_and(|installed| installed == std::fs::read(requirements()).expect("the requirements"))
        && Command::new(environment.join("bin/python"))
            .args(imports)
            .output()
            .is_ok_and(|output| output.status.success())
}

fn make(environment: &Path) {
    let has_venv = Command::new("python3").args(["-c", "import ensurepip, venv"]).output();
    assert!(
        has_venv.is_ok_and(|output| output.status.success()),
        "the reader in Python needs python3 with the module venv; on Debian: apt-get install python3-venv"
    );
    std::fs::create_dir_all(cache()).expect("make the folder");
    let beside = tempfile::Builder::new().prefix("python-").tempdir_in(cache()).expect("a folder");
    run(Command::new("python3").args(["-m", "venv"]).arg(beside.path()));
    let mut install = Command::new(beside.path().join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    run(install.arg(requirements()));
    std::fs::copy(requirements(), beside.path().join("requirements.txt")).expect("note the requirements");
    if environment.exists() {
        std::fs::remove_dir_all(environment).expect("remove the old one");
    }
    // Only scripts know the folder by name, and none of them is called.
    std::fs::rename(beside.keep(), environment).expect("put it in its place");
}

/// Runs to the end, which must be a good one.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
    assert!(output.status.success(), "{command:?} failed ({}):\n{stdout}{stderr}", output.status);
    output
}

#[test]
fn the_readers_parts_pass_their_own_tests() {
    let output = run(command().args(["-m", "unittest"]));
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse::<usize>().ok());
    assert!(count.is_some_and(|count| count >= UNIT_TESTS_MIN), "{said}");
}
