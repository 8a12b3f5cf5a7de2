//! A broker and a registry in memory (`penstock trial`), where real ones cannot be had. They prove nothing.
//!
//! Invariant: the process ends with us: its input does.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};

use anyhow::Context as _;
use serde_json::Value;

use crate::bridge::penstock;
use crate::servers::Existing;

/// A running trial.
#[derive(Debug)]
pub struct Trial {
    child: Child,
    input: Option<ChildStdin>,
    bootstrap: String,
    registry: String,
}

impl Trial {
    /// Starts it with the topics of this name.
    pub fn start(binary: &Path, topic: &str) -> anyhow::Result<Self> {
        let mut command = penstock(binary);
        command.args(["trial", "--topic", topic]).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().context("starting penstock trial")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("the trial has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("reading where the trial is")?;
        let mut trial = Self { child, input, bootstrap: String::new(), registry: String::new() };
        let json: Value = line.parse().with_context(|| format!("penstock trial said {line:?}"))?;
        let text = |name: &str| json.get(name).and_then(Value::as_str).with_context(|| format!("no {name} in {line}"));
        trial.bootstrap = text("kafka")?.to_owned();
        trial.registry = text("registry")?.to_owned();
        Ok(trial)
    }

    /// Its servers in the place of those that could not be had.
    pub fn instead(&self, existing: &Existing) -> Existing {
        Existing {
            postgres: existing.postgres.clone(),
            kafka: Some(self.bootstrap.clone()),
            registry: Some(self.registry.clone()),
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}
