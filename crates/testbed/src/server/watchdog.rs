//! A small process that outlives us just long enough to clear up: it kills our servers and removes their directories.
//!
//! Why not `PR_SET_PDEATHSIG`: it is bound to the thread that started the child (and test threads end), it is cleared by
//! a change of user, it does not reach Postgres' backends if they are stopped, and it removes no directories. Dropping
//! is not enough either: statics are never dropped, nor is anything after SIGKILL.
//!
//! Invariant: the writing end of the pipe is held by this process only (it is close-on-exec), so the watchdog reads its
//! end exactly when this process is gone.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::Error;

/// Something that must not outlive this process, or no longer needs watching.
#[derive(Debug, Clone, Copy)]
pub(super) enum Note<'a> {
    Server { pid: u32, started: u64 },
    Ended { pid: u32 },
    Directory(&'a Path),
    Removed(&'a Path),
}

/// Tells the watchdog, which is started with the first note.
pub(super) fn tell(note: Note<'_>) -> Result<(), Error> {
    let line = match note {
        Note::Server { pid, started } => format!("server {pid} {started}\n"),
        Note::Ended { pid } => format!("ended {pid}\n"),
        Note::Directory(path) => format!("directory {}\n", path.display()),
        Note::Removed(path) => format!("removed {}\n", path.display()),
    };
    let mut guard = pipe();
    let mut writer = match guard.take() {
        Some(writer) => writer,
        None => start()?,
    };
    writer.write_all(line.as_bytes()).map_err(Error::io("telling the watchdog"))?;
    *guard = Some(writer);
    Ok(())
}

fn pipe() -> MutexGuard<'static, Option<ChildStdin>> {
    static PIPE: OnceLock<Mutex<Option<ChildStdin>>> = OnceLock::new();
    PIPE.get_or_init(|| Mutex::new(None)).lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() -> Result<ChildStdin, Error> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", include_str!("watchdog.sh"), "penstock-watchdog"])
        .current_dir("/")
        // A group of its own: Ctrl-C on the terminal is not for it.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::io("starting the watchdog"))?;
    child.stdin.take().ok_or_else(|| Error::io("starting the watchdog")(std::io::ErrorKind::BrokenPipe.into()))
}
