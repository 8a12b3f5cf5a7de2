//! `penstock-access` as a process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::world::wait;

/// The program, built if need be: it is another package's.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "penstock-access", "--bin", "penstock-access"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.expect("run cargo").success(), "penstock-access cannot be built");
        Path::new(env!("CARGO_BIN_EXE_penstock")).with_file_name("penstock-access")
    })
}

/// A running `penstock-access`.
pub struct Program {
    child: Child,
    folder: TempDir,
}

impl Program {
    pub fn start(configuration: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("access.toml"), configuration).expect("write the configuration");
        let child = Command::new(path())
            .args(arguments)
            .arg("--config")
            .arg(file("access.toml"))
            .env("RUST_LOG", "debug,librdkafka=info")
            .stdin(Stdio::null())
            .stdout(File::create(file("out")).expect("a file"))
            .stderr(File::create(file("log")).expect("a file"))
            .spawn()
            .expect("start penstock-access");
        Self { child, folder }
    }

    /// Whole lines that it printed so far, as JSON.
    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("out")).expect("its output");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// As Ctrl-C does.
    pub fn interrupt(&self) {
        let sent = Command::new("kill").arg("-INT").arg(self.child.id().to_string()).status();
        assert!(sent.expect("run kill").success(), "the process is gone");
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("its log")
    }

    /// SIGKILL, and gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill it");
        self.child.wait().expect("reap it");
    }

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
            eprintln!("--- log of penstock-access:\n{}", self.log());
        }
    }
}
