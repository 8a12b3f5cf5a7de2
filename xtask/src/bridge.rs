//! The bridge as a process of the demo: set up, started, killed, started again, stopped.
//!
//! Invariant: it ends with us, however we end (the testbed's watchdog sees to it), and hears nothing of Ctrl-C on our
//! terminal: the demo stops it in its own order.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use penstock_testbed::registry::http;
use penstock_testbed::server::{Port, Process};
use rustix::process::Signal;

use crate::limits;

/// Where the bridge is, and how it is run.
#[derive(Debug)]
pub struct Bridge {
    binary: PathBuf,
    configuration: PathBuf,
    log: PathBuf,
    http: Port,
    process: Option<Process>,
}

impl Bridge {
    /// A bridge that does not run yet; its log goes beside its configuration.
    pub fn new(binary: &Path, configuration: &Path, http: Port) -> Self {
        let log = configuration.with_extension("log");
        Self { binary: binary.to_owned(), configuration: configuration.to_owned(), log, http, process: None }
    }

    /// Makes topics, publication and slot (`penstock setup`).
    pub fn set_up(&self) -> anyhow::Result<()> {
        let process = self.spawn("setup")?;
        let status = process.wait(limits::READY_TIMEOUT)?;
        ensure!(status.success(), "penstock setup failed ({status}):\n{}", process.log_tail().trim());
        Ok(())
    }

    /// Starts it; it may take a while until it is ready.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.process = Some(self.spawn("run")?);
        Ok(())
    }

    /// Waits until it says that changes flow.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let Err(last) = self.is_ready() else { return Ok(()) };
            self.check()?;
            if started.elapsed() > limits::READY_TIMEOUT {
                bail!("the bridge is not ready: {last}\n{}", self.log_tail());
            }
            // Ready is a state of another process: somebody has to ask again.
            std::thread::sleep(limits::PACE_EVERY);
        }
    }

    /// Whether it was started and neither killed nor stopped.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it says that changes flow.
    pub fn is_ready(&self) -> Result<(), String> {
        match http::request(self.http.number(), "GET", "/readyz", "") {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(answer.body.trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Fails, with the end of its log, if it has ended by itself.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.process.as_ref().and_then(Process::exited) {
            Some(status) => bail!("the bridge ended ({status}):\n{}", self.log_tail()),
            None => Ok(()),
        }
    }

    /// Kills it where it stands: kill -9.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        let process = self.process.take().context("the bridge does not run")?;
        process.kill()?;
        Ok(())
    }

    /// Asks it to stop and waits until it has: everything it read is durable then.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let process = self.process.take().context("the bridge does not run")?;
        process.signal(Signal::TERM)?;
        let status = process.wait(limits::STOP_TIMEOUT)?;
        ensure!(status.success(), "the bridge did not stop in order ({status}):\n{}", process.log_tail().trim());
        Ok(())
    }

    /// Its port for /metrics, /healthz and /readyz.
    pub fn http_port(&self) -> u16 {
        self.http.number()
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    fn log_tail(&self) -> String {
        self.process.as_ref().map(|process| process.log_tail().trim().to_owned()).unwrap_or_default()
    }

    fn spawn(&self, command: &str) -> anyhow::Result<Process> {
        let mut penstock = penstock(&self.binary);
        penstock.arg(command).arg("--config").arg(&self.configuration).process_group(0);
        Ok(Process::spawn("penstock", penstock, &self.log)?)
    }
}

/// The binary without the user's own settings, which would win over the demo's.
pub fn penstock(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("PENSTOCK_") || text == "RUST_LOG" {
            command.env_remove(&name);
        }
    }
    command
}
