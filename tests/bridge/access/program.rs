//! `penstock-access` as a process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::configuration_text;
use crate::world::{World, wait};

/// The program as it is now. Cargo builds the binaries of this package only, so this asks for the other one's.
fn binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target =
            Path::new(env!("CARGO_BIN_EXE_penstock")).parent().and_then(Path::parent).expect("a target folder");
        let built = Command::new(env!("CARGO"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["build", "--offline", "--package", "penstock-access", "--bin", "penstock-access", "--target-dir"])
            .arg(target)
            .output()
            .expect("run cargo");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        target.join("debug/penstock-access")
    })
}

/// A running command; killed when it is dropped.
pub struct Program {
    child: Child,
    output: PathBuf,
    log: PathBuf,
    _folder: TempDir,
}

impl Program {
    /// Starts `penstock-access` with these arguments on a world's topic. `access`: more lines of that section.
    pub fn start(world: &World, access: &str, arguments: &[&str]) -> Self {
        Self::start_with(&configuration_text(world, "", access), arguments)
    }

    /// The same with this configuration.
    pub fn start_with(configuration: &str, arguments: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let config = folder.path().join("access.toml");
        std::fs::write(&config, configuration).expect("write the configuration");
        let (output, log) = (folder.path().join("output"), folder.path().join("log"));
        let child = Command::new(binary())
            .arg("--config")
            .arg(config)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("a file"))
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("start penstock-access");
        Self { child, output, log, _folder: folder }
    }

    /// Whole lines of its output, as JSON.
    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.output).expect("the output");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }

    /// As Ctrl-C does.
    pub fn interrupt(&self) {
        let sent = Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status();
        assert!(sent.expect("run kill").success(), "the process is gone");
    }

    /// SIGKILL, and gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill it");
        self.child.wait().expect("reap it");
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let mut status = None;
        wait("penstock-access to end", patience, || {
            status = self.child.try_wait().expect("ask for the process");
            status.is_some()
        })
        .unwrap_or_else(|late| panic!("{late}\n{}", self.log()));
        status.expect("it ended")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of penstock-access {}:\n{}", self.child.id(), self.log());
        }
    }
}
