//! Processes that print lines for as long as we listen: above all the reader, which follows the change topic with
//! `read_committed` and prints what it sees.
//!
//! Invariant: it ends with us, however we end.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Sender;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::bridge::penstock;

/// The change topic, as the bridge's configuration names it.
#[derive(Debug, Clone)]
pub struct Topic {
    /// The configuration file.
    pub configuration: PathBuf,
}

impl Topic {
    fn replay(&self, binary: &Path) -> Command {
        let mut command = penstock(binary);
        command.arg("replay").arg("--config").arg(&self.configuration).arg("--all-records");
        command
    }

    /// Reads the whole topic once more, to its end, and only counts.
    pub fn count(&self, binary: &Path) -> anyhow::Result<Count> {
        let output = self.replay(binary).arg("--count").stdin(Stdio::null()).output().context("starting the reader")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "counting the topic failed ({}): {}", output.status, said.trim());
        let text = String::from_utf8_lossy(&output.stdout);
        let json: Value = text.parse().context("the reader's count is no JSON")?;
        let number =
            |name: &str| json.get(name).and_then(Value::as_u64).with_context(|| format!("no {name} in {text}"));
        Ok(Count { records: number("records")?, repeated: number("duplicates")?, holes: number("holes")? })
    }
}

/// What a whole topic holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Records, repeated ones excepted.
    pub records: u64,
    /// Records at or below a position that was there before.
    pub repeated: u64,
    /// Records whose predecessor in their partition is not there.
    pub holes: u64,
}

/// A process that prints lines.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    input: Option<ChildStdin>,
    log: PathBuf,
}

impl Topic {
    /// Starts the reader.
    pub fn follow<T: Send + 'static>(
        &self,
        binary: &Path,
        log: &Path,
        lines: Sender<T>,
        wrap: impl Fn(Option<String>) -> T + Send + 'static,
    ) -> anyhow::Result<Follower> {
        Follower::start(self.replay(binary).arg("--follow"), log, lines, wrap)
    }
}

impl Follower {
    /// Starts it; every line it prints goes through `wrap`, and its end as `None`.
    pub fn start<T: Send + 'static>(
        follower: &Command,
        log: &Path,
        lines: Sender<T>,
        wrap: impl Fn(Option<String>) -> T + Send + 'static,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", include_str!("reader.sh"), "penstock-reader"]).arg(follower.get_program());
        command.args(follower.get_args());
        for (name, value) in follower.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let errors = File::create(log).with_context(|| format!("writing {}", log.display()))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).process_group(0);
        let mut child = command.spawn().context("starting the reader")?;
        let output = child.stdout.take().context("the reader has no output")?;
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { break };
                if lines.send(wrap(Some(line))).is_err() {
                    return;
                }
            }
            // Nobody listens any more: then its end is no news.
            let _ = lines.send(wrap(None));
        });
        let input = child.stdin.take();
        Ok(Self { child, input, log: log.to_owned() })
    }

    /// What it said besides.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}
