//! A server's being there or not: started, asked to stop, killed, paused, woken. The same for every server.
//!
//! Invariant: at most one process at a time; one that ended by itself counts as not running. All methods take `&self`,
//! because a test kills a server from one thread while others load it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use super::{Error, Process};

/// The process of a server, if it runs.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    name: String,
    process: Mutex<Option<Process>>,
}

impl Lifecycle {
    /// A server that does not run yet.
    pub(crate) fn new(name: String) -> Self {
        Self { name, process: Mutex::new(None) }
    }

    /// Runs what `spawn` starts, once `ready` has seen it answer.
    pub(crate) fn start(
        &self,
        spawn: impl FnOnce() -> Result<Process, Error>,
        ready: impl FnOnce(&Process) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut running = self.running();
        if running.is_some() {
            return Err(self.state("is already running"));
        }
        let process = spawn()?;
        ready(&process)?;
        *running = Some(process);
        Ok(())
    }

    /// Sends a signal that asks it to end, and waits for the end.
    pub(crate) fn stop(&self, signal: Signal, timeout: Duration) -> Result<(), Error> {
        let mut running = self.running();
        let process = self.expect(&running)?;
        process.signal(signal)?;
        process.wait(timeout)?;
        *running = None;
        Ok(())
    }

    pub(crate) fn kill(&self) -> Result<(), Error> {
        let mut running = self.running();
        self.expect(&running)?.kill()?;
        *running = None;
        Ok(())
    }

    pub(crate) fn pause(&self) -> Result<(), Error> {
        self.expect(&self.running())?.pause()
    }

    pub(crate) fn resume(&self) -> Result<(), Error> {
        self.expect(&self.running())?.resume()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.running().as_ref().map(Process::pid)
    }

    /// Fails if it runs.
    pub(crate) fn expect_stopped(&self) -> Result<(), Error> {
        match self.pid() {
            None => Ok(()),
            Some(_) => Err(self.state("is already running")),
        }
    }

    fn expect<'a>(&self, running: &'a Option<Process>) -> Result<&'a Process, Error> {
        running.as_ref().ok_or_else(|| self.state("is not running"))
    }

    fn running(&self) -> MutexGuard<'_, Option<Process>> {
        let mut running = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if running.as_ref().is_some_and(|process| process.exited().is_some()) {
            *running = None;
        }
        running
    }

    fn state(&self, state: &'static str) -> Error {
        Error::State { name: self.name.clone(), state }
    }
}
