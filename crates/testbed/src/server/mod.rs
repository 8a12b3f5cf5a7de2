//! What every server of the testbed has in common: a private directory, an unprivileged account, ports of its own,
//! a process that can be paused and killed with all its children, and a watchdog that clears up after us if we die.
//!
//! Invariant: whatever is started here ends with this process, however this process ends. A dropped value kills what it
//! started; if nothing is dropped (a panic that aborts, a SIGKILL), the [`watchdog`] does the same.
//!
//! It does not know any server in particular.

pub mod account;
pub(crate) mod java;
mod lifecycle;
pub mod port;
pub mod process;
pub mod sandbox;
mod watchdog;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::artifacts;
use crate::limits;

pub(crate) use lifecycle::Lifecycle;
pub use port::Port;
pub use process::Process;
pub use sandbox::Sandbox;

/// Why a server is not in the state that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, with the path or address.
        context: String,
        /// The refusal.
        #[source]
        source: std::io::Error,
    },
    /// The server ended while it was being waited for.
    #[error("{name} ended with {status} before it was ready; the end of its log:\n{log}")]
    Exited {
        /// The server.
        name: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server did not become ready, or did not end, in time.
    #[error("{name} {what} within {waited:?}: {last}; the end of its log:\n{log}")]
    Timeout {
        /// The server.
        name: String,
        /// "was not ready", "did not end".
        what: &'static str,
        /// How long it was waited for.
        waited: Duration,
        /// What the last probe said.
        last: String,
        /// The end of the server's log.
        log: String,
    },
    /// A command that sets a server up, or asks it something, failed.
    #[error("`{command}` failed ({status}): {stderr}")]
    Tool {
        /// The command line.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// A program that the server needs is not installed.
    #[error("{what} is not installed; {remedy}")]
    Missing {
        /// The program.
        what: String,
        /// How to get it.
        remedy: String,
    },
    /// The server is not running, or already is.
    #[error("{name} {state}")]
    State {
        /// The server.
        name: String,
        /// "is not running", "is already running".
        state: &'static str,
    },
    /// The server answered, but with something else than was asked for.
    #[error("{name} answered {answer}")]
    Answer {
        /// The server.
        name: String,
        /// What it said.
        answer: String,
    },
    /// What the server is made of could not be had.
    #[error(transparent)]
    Artifacts(#[from] artifacts::Error),
}

impl Error {
    pub(crate) fn io(context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let context = context.into();
        move |source| Self::Io { context, source }
    }
}

/// Asks `probe` again and again until it says yes, the process ends, or the time is over.
pub(crate) fn wait_ready(process: &Process, mut probe: impl FnMut() -> Result<(), String>) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        let last = match probe() {
            Ok(()) => return Ok(()),
            Err(last) => last,
        };
        if let Some(status) = process.exited() {
            return Err(Error::Exited { name: process.name().to_owned(), status, log: process.log_tail() });
        }
        if started.elapsed() > limits::START_TIMEOUT {
            return Err(Error::Timeout {
                name: process.name().to_owned(),
                what: "was not ready",
                waited: started.elapsed(),
                last,
                log: process.log_tail(),
            });
        }
        pause_between_looks();
    }
}

/// The one sleep of the testbed's polling loops: a server tells nobody that it is ready, so somebody has to ask again.
pub(crate) fn pause_between_looks() {
    std::thread::sleep(limits::POLL_INTERVAL);
}

/// Runs a command to its end; its standard output, if it succeeded.
pub(crate) fn run(command: &mut Command, input: Option<&str>) -> Result<String, Error> {
    let output = output(command, input)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if stderr.is_empty() {
        stderr = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    }
    Err(Error::Tool { command: command_line(command), status: output.status, stderr })
}

fn output(command: &mut Command, input: Option<&str>) -> Result<Output, Error> {
    use std::io::Write as _;

    let program = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Error::io(format!("starting {program}")))?;
    let writer = child.stdin.take().zip(input).map(|(mut stdin, text)| {
        let text = text.to_owned();
        // A command that fails early closes its input; its own message is the better one, so this error is dropped.
        std::thread::spawn(move || stdin.write_all(text.as_bytes()))
    });
    let output = child.wait_with_output().map_err(Error::io(format!("waiting for {program}")))?;
    if let Some(writer) = writer {
        let _ = writer.join();
    }
    Ok(output)
}

/// A command as one would type it, for messages.
pub(crate) fn command_line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// The last lines of a file, or why they can't be shown.
pub(crate) fn tail(path: &Path) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let start = bytes.len().saturating_sub(limits::LOG_TAIL_BYTES);
            String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
        }
        Err(error) => format!("(no log at {}: {error})", path.display()),
    }
}
