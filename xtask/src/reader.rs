//! The reader: a process of its own that follows the change topic with `read_committed` and prints what it sees.
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

/// A running reader.
#[derive(Debug)]
pub struct Reader {
    child: Child,
    input: Option<ChildStdin>,
    log: PathBuf,
}

impl Reader {
    /// Starts it; every line it prints goes through `send`, which drops them once it returns false.
    pub fn start<T: Send + 'static>(
        binary: &Path,
        topic: &Topic,
        log: &Path,
        lines: Sender<T>,
        wrap: impl Fn(Option<String>) -> T + Send + 'static,
    ) -> anyhow::Result<Self> {
        let replay = topic.replay(binary);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", include_str!("reader.sh"), "penstock-reader"]).arg(replay.get_program());
        command.args(replay.get_args()).arg("--follow");
        for (name, value) in replay.get_envs() {
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

    /// What it said besides records.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}
