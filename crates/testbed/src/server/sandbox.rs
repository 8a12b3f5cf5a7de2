//! A private directory in which one server lives: its data, its configuration, its log, its sockets.
//!
//! Invariant: the directory is gone when the value is dropped, or soon after this process has died. It belongs to the
//! account that servers run under.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::watchdog::{self, Note};
use super::{Error, account};

/// A server's private directory.
#[derive(Debug)]
pub struct Sandbox {
    path: PathBuf,
}

impl Sandbox {
    /// Makes the directory under the system's temporary directory.
    ///
    /// # Errors
    /// If the directory can't be made.
    pub fn new(name: &str) -> Result<Self, Error> {
        let parent = std::env::temp_dir();
        let context = format!("creating a directory in {}", parent.display());
        let path = tempfile::Builder::new()
            .prefix(&format!("penstock-{name}-"))
            .tempdir_in(&parent)
            .map_err(Error::io(context))?
            .keep();
        let sandbox = Self { path };
        watchdog::tell(Note::Directory(&sandbox.path))?;
        // Readable by others: who runs the tests wants to look at the logs.
        fs::set_permissions(&sandbox.path, fs::Permissions::from_mode(0o755))
            .map_err(Error::io(format!("opening {}", sandbox.path.display())))?;
        account::give(&sandbox.path)?;
        Ok(sandbox)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that the server's account owns; returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(Error::io(format!("writing {}", path.display())))?;
        account::give(&path)?;
        Ok(path)
    }

    /// Makes a directory that the server's account owns; returns its path.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).map_err(Error::io(format!("creating {}", path.display())))?;
        account::give(&path)?;
        Ok(path)
    }

    /// A command that runs in the directory, under the servers' account, in a process group of its own (so that Ctrl-C
    /// on a terminal reaches only who started it), with an environment that does not depend on the user's.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.path)
            .process_group(0)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.path)
            .env("TMPDIR", &self.path)
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC");
        account::demote(&mut command);
        command
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The watchdog keeps the path until it is really gone, and tries again at our end.
        if fs::remove_dir_all(&self.path).is_ok() {
            let _ = watchdog::tell(Note::Removed(&self.path));
        }
    }
}
