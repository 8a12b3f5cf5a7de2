//! A running server: the process we started and all its descendants, which are paused, woken and killed together.
//!
//! Invariant: dropping a [`Process`] kills the whole tree. Descendants are found by parent id, not by process group:
//! each backend of Postgres makes a session of its own.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::watchdog::{self, Note};
use super::{Error, pause_between_looks, tail};
use crate::limits;

/// A process that ends with us, with its descendants.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    /// Start time as /proc tells it: with the id it names this process and no later one.
    started: u64,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `command`; its output is appended to the file `log`.
    ///
    /// # Errors
    /// If the log can't be opened or the program can't be started.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self, Error> {
        let open = || {
            File::options().create(true).append(true).open(log).map_err(Error::io(format!("opening {}", log.display())))
        };
        command.stdin(Stdio::null()).stdout(open()?).stderr(open()?);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(Error::io(format!("starting {program}")))?;
        let process = Self {
            name: name.to_owned(),
            pid: child.id(),
            // A child that nobody has waited for keeps its entry, so there is one.
            started: Table::read().started(child.id()).unwrap_or(0),
            log: log.to_owned(),
            child: Mutex::new(child),
        };
        watchdog::tell(Note::Server { pid: process.pid, started: process.started })?;
        Ok(process)
    }

    /// What the process is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file that holds its output.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The end of its output.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// The process and its descendants that exist now; empty if it is gone.
    #[must_use]
    pub fn tree(&self) -> BTreeSet<u32> {
        let table = Table::read();
        if table.started(self.pid) != Some(self.started) {
            return BTreeSet::new();
        }
        table.tree(self.pid)
    }

    /// Its exit status, if it has ended.
    #[must_use]
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Sends a signal to the process alone, not to its descendants; nothing if it has ended.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        // While the lock is held nobody reaps the child, so the id can't have gone to somebody else.
        let mut child = self.child();
        if matches!(child.try_wait(), Ok(Some(_))) {
            return Ok(());
        }
        send(self.pid, signal).map_err(Error::io(format!("signalling {}", self.name)))
    }

    /// Stops the process and its descendants where they stand (SIGSTOP), and waits until each of their threads does.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn pause(&self) -> Result<(), Error> {
        // The parent first: once it stands still it starts no more children.
        self.signal(Signal::STOP)?;
        self.signal_descendants(Signal::STOP);
        wait_still(&self.tree(), limits::STOP_TIMEOUT);
        Ok(())
    }

    /// Lets the process and its descendants go on (SIGCONT).
    ///
    /// # Errors
    /// If the system refuses.
    pub fn resume(&self) -> Result<(), Error> {
        self.signal_descendants(Signal::CONT);
        self.signal(Signal::CONT)
    }

    /// Kills the process and its descendants (SIGKILL) and waits until all are gone.
    ///
    /// # Errors
    /// If the system refuses, or they do not vanish.
    pub fn kill(&self) -> Result<(), Error> {
        self.pause()?;
        let descendants = self.descendants();
        self.signal(Signal::KILL)?;
        for &pid in &descendants {
            // It may be gone already: a backend leaves when its postmaster has died.
            let _ = send(pid, Signal::KILL);
        }
        self.wait(limits::STOP_TIMEOUT)?;
        wait_gone(&descendants, limits::STOP_TIMEOUT);
        Ok(())
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// If it has not ended within `timeout`.
    pub fn wait(&self, timeout: Duration) -> Result<ExitStatus, Error> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                let _ = watchdog::tell(Note::Ended { pid: self.pid });
                return Ok(status);
            }
            if started.elapsed() > timeout {
                return Err(Error::Timeout {
                    name: self.name.clone(),
                    what: "did not end",
                    waited: started.elapsed(),
                    last: format!("process {} is there", self.pid),
                    log: self.log_tail(),
                });
            }
            pause_between_looks();
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn descendants(&self) -> BTreeSet<u32> {
        let mut tree = self.tree();
        tree.remove(&self.pid);
        tree
    }

    fn signal_descendants(&self, signal: Signal) {
        for pid in self.descendants() {
            // Gone already is as good as signalled.
            let _ = send(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exited().is_none() {
            let _ = self.kill();
        }
        let _ = watchdog::tell(Note::Ended { pid: self.pid });
    }
}

fn send(pid: u32, signal: Signal) -> std::io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(std::io::ErrorKind::InvalidInput)?;
    Ok(kill_process(pid, signal)?)
}

fn wait_gone(pids: &BTreeSet<u32>, timeout: Duration) {
    let started = Instant::now();
    while started.elapsed() < timeout {
        let table = Table::read();
        if pids.iter().all(|&pid| !table.runs(pid)) {
            return;
        }
        pause_between_looks();
    }
}

/// The signal is taken thread by thread: on a busy machine one that runs on another processor may still answer somebody.
fn wait_still(pids: &BTreeSet<u32>, timeout: Duration) {
    let started = Instant::now();
    while started.elapsed() < timeout && !pids.iter().all(|&pid| is_still(pid)) {
        pause_between_looks();
    }
}

/// Whether no thread of it runs or will: it is stopped, dead, or gone.
fn is_still(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state.is_none_or(|state| "TtZXx".contains(state))
    })
}

/// Whether a process with this id runs (a zombie does not).
#[must_use]
pub fn runs(pid: u32) -> bool {
    Table::read().runs(pid)
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    pid: u32,
    parent: u32,
    zombie: bool,
    started: u64,
}

/// The processes of this machine, from /proc/PID/stat, which everybody may read (unlike cwd or environ).
#[derive(Debug)]
struct Table(Vec<Row>);

impl Table {
    fn read() -> Self {
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return Self(Vec::new());
        };
        let rows = entries.flatten().filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read(entry.path().join("stat")).ok()?;
            parse(pid, &String::from_utf8_lossy(&stat))
        });
        Self(rows.collect())
    }

    fn started(&self, pid: u32) -> Option<u64> {
        self.0.iter().find(|row| row.pid == pid).map(|row| row.started)
    }

    fn runs(&self, pid: u32) -> bool {
        self.0.iter().any(|row| row.pid == pid && !row.zombie)
    }

    fn tree(&self, root: u32) -> BTreeSet<u32> {
        let mut tree = BTreeSet::from([root]);
        loop {
            let before = tree.len();
            for row in &self.0 {
                if tree.contains(&row.parent) {
                    tree.insert(row.pid);
                }
            }
            if tree.len() == before {
                return tree;
            }
        }
    }
}

/// See proc_pid_stat(5): the command stands in brackets and may hold blanks and brackets itself; after it come the state
/// (field 3), the parent (4) and, as field 22, the start time.
fn parse(pid: u32, stat: &str) -> Option<Row> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Row { pid, parent, zombie, started })
}

#[cfg(test)]
mod tests {
    use super::{Row, Table, parse};

    #[test]
    fn stat_line_with_brackets_in_the_command_is_read() {
        let stat = "7 (a) (b c) S 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 1 1";
        assert_eq!(parse(7, stat), Some(Row { pid: 7, parent: 3, zombie: false, started: 12_345 }));
        for broken in ["", "7", "7 (a)", "7 (a) S", "7 (a) S x 1", "7 (a) S 1 2"] {
            assert_eq!(parse(7, broken), None, "{broken:?}");
        }
    }

    #[test]
    fn tree_holds_grandchildren_whatever_the_order() {
        let row = |pid, parent| Row { pid, parent, zombie: false, started: 0 };
        let table = Table(vec![row(5, 4), row(4, 3), row(3, 1), row(9, 1)]);
        assert_eq!(table.tree(3).into_iter().collect::<Vec<_>>(), [3, 4, 5]);
    }
}
