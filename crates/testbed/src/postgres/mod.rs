//! A Postgres server of one's own: any major version from 14 to 18, settings, access rules, TLS, a standby.
//!
//! Invariants: it runs under an unprivileged account, listens on loopback and in its own directory only, and keeps its
//! port and data over kill and restart. All methods take `&self`: a test kills the server from one thread while others
//! load it.

mod address;
pub(crate) mod binaries;
mod builder;
mod tls;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::limits;
use crate::server::{self, Error, Lifecycle, Port, Process, Sandbox};

pub use address::Address;
pub use builder::{Authentication, Builder};
pub use tls::Certificates;

/// How a server is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Clients are disconnected, a checkpoint is written. Walsenders are waited for until their clients have
    /// confirmed everything: one that never does makes this hang.
    Fast,
    /// At once, as after a crash: the next start recovers from WAL.
    Immediate,
}

/// A Postgres server.
#[derive(Debug)]
pub struct Postgres {
    // Dropped in this order: the process before the directory it writes to, and before the port it listens on.
    lifecycle: Lifecycle,
    programs: PathBuf,
    address: Address,
    certificates: Option<Certificates>,
    configuration: Mutex<Builder>,
    sandbox: Sandbox,
    _port: Port,
}

impl Postgres {
    /// What it is to be like.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn new(
        sandbox: Sandbox,
        port: Port,
        programs: PathBuf,
        address: Address,
        certificates: Option<Certificates>,
        builder: Builder,
    ) -> Self {
        Self {
            lifecycle: Lifecycle::new(format!("postgres on port {}", address.port)),
            programs,
            address,
            certificates,
            configuration: Mutex::new(builder),
            sandbox,
            _port: port,
        }
    }

    /// How to reach it: the superuser in the database `postgres`.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// `postgres://…` of the superuser in the database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        self.address.url()
    }

    /// Runs SQL in the database `postgres`; see [`Address::psql`].
    ///
    /// # Errors
    /// At the first statement that fails.
    pub fn psql(&self, sql: &str) -> Result<String, Error> {
        self.address.psql(sql)
    }

    /// Makes a database; see [`Address::create_database`].
    ///
    /// # Errors
    /// If the server refuses.
    pub fn create_database(&self, name: &str) -> Result<Address, Error> {
        self.address.create_database(name)
    }

    /// The certificates, if TLS is on.
    #[must_use]
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// The data directory. Only to be touched while the server is stopped.
    #[must_use]
    pub fn data_directory(&self) -> PathBuf {
        self.sandbox.path().join("data")
    }

    /// The server's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.sandbox.path().join("postgres.log")
    }

    /// The postmaster's process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.lifecycle.pid()
    }

    /// Process ids of the walsenders of one application or slot, or of all.
    ///
    /// # Errors
    /// If the server can't be asked.
    pub fn walsender_pids(&self, slot: Option<&str>) -> Result<Vec<u32>, Error> {
        let query = match slot {
            None => "SELECT pid FROM pg_stat_replication ORDER BY pid".to_owned(),
            Some(slot) => format!(
                "SELECT active_pid FROM pg_replication_slots WHERE active AND slot_name = '{}'",
                slot.replace('\'', "''")
            ),
        };
        let answer = self.psql(&query)?;
        Ok(answer.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Starts it (again) and waits until it takes connections.
    ///
    /// # Errors
    /// If it runs already, or does not come up: then with the end of its log.
    pub fn start(&self) -> Result<(), Error> {
        let spawn = || {
            let mut command = self.sandbox.command(self.programs.join("postgres"));
            command.arg("-D").arg(self.data_directory());
            Process::spawn("postgres", command, &self.log())
        };
        let answers = || match self.address.psql("SELECT 1") {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        self.lifecycle.start(spawn, |process| server::wait_ready(process, answers))
    }

    /// Stops it and waits for its end.
    ///
    /// # Errors
    /// If it does not run, or does not end in time; then it goes on trying.
    pub fn stop(&self, how: Stop) -> Result<(), Error> {
        self.stop_within(how, limits::STOP_TIMEOUT)
    }

    /// Like [`Postgres::stop`], with a bound of one's own.
    ///
    /// # Errors
    /// If it does not run, or does not end in time; then it goes on trying.
    pub fn stop_within(&self, how: Stop, timeout: Duration) -> Result<(), Error> {
        let signal = match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        self.lifecycle.stop(signal, timeout)
    }

    /// Stops it and starts it again.
    ///
    /// # Errors
    /// As [`Postgres::stop`] and [`Postgres::start`].
    pub fn restart(&self, how: Stop) -> Result<(), Error> {
        self.stop(how)?;
        self.start()
    }

    /// Kills all its processes at once (SIGKILL).
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&self) -> Result<(), Error> {
        self.lifecycle.kill()
    }

    /// Stops all its processes where they stand (SIGSTOP): connections stay open, nobody answers.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> Result<(), Error> {
        self.lifecycle.pause()
    }

    /// Lets all its processes go on (SIGCONT).
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> Result<(), Error> {
        self.lifecycle.resume()
    }

    /// Changes settings in postgresql.conf and reloads; those that need it take effect at the next start.
    ///
    /// # Errors
    /// If the file can't be written, or the server runs and refuses.
    pub fn configure(&self, settings: &[(&str, &str)]) -> Result<(), Error> {
        {
            let mut builder = self.builder_of_this();
            for (name, value) in settings {
                builder.insert(name, value);
            }
        }
        self.write_configuration()?;
        if self.pid().is_some() {
            self.psql("SELECT pg_reload_conf()")?;
        }
        Ok(())
    }

    /// A standby that streams from this server, with the same settings.
    ///
    /// # Errors
    /// If it can't be made; base backups need Debian's pg_basebackup of this major version.
    pub fn standby(&self) -> Result<Self, Error> {
        let builder = self.builder_of_this().clone();
        builder.start_standby(&self.address)
    }

    /// Makes a standby a primary, on a new timeline.
    ///
    /// # Errors
    /// If it isn't a standby.
    pub fn promote(&self) -> Result<(), Error> {
        self.psql("SELECT pg_promote(true)")?;
        Ok(())
    }

    /// Copies the data of the stopped server; [`Postgres::restore`] brings it back.
    ///
    /// # Errors
    /// If the server runs, or the copy fails.
    pub fn save(&self) -> Result<Saved, Error> {
        self.lifecycle.expect_stopped()?;
        let copy = tempfile::Builder::new()
            .prefix("saved-")
            .tempdir_in(self.sandbox.path())
            .map_err(Error::io("creating a directory for the copy"))?;
        copy_all(&self.data_directory(), &copy.path().join("data"))?;
        Ok(Saved { copy })
    }

    /// Puts a stopped server back to a saved state: what a restore from backup does.
    ///
    /// # Errors
    /// If the server runs, or the copy fails.
    pub fn restore(&self, saved: &Saved) -> Result<(), Error> {
        self.lifecycle.expect_stopped()?;
        let data = self.data_directory();
        remove_segment(&data);
        std::fs::remove_dir_all(&data).map_err(Error::io(format!("removing {}", data.display())))?;
        copy_all(&saved.copy.path().join("data"), &data)
    }

    fn write_configuration(&self) -> Result<(), Error> {
        let builder = self.builder_of_this();
        let text = builder.configuration(&self.address, self.certificates.as_ref());
        self.sandbox.write("data/postgresql.conf", &text)?;
        self.sandbox.write("data/pg_hba.conf", &builder.access())?;
        Ok(())
    }

    fn builder_of_this(&self) -> MutexGuard<'_, Builder> {
        self.configuration.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Asked to leave at once, Postgres removes its System V segment; killed, it would leave one behind each time,
        // and the system has room for some thousands.
        if self.pid().is_some() {
            let _ = self.resume();
            let _ = self.stop_within(Stop::Immediate, limits::DROP_TIMEOUT);
        } else {
            remove_segment(&self.data_directory());
        }
    }
}

/// A copy of a server's data; removed when dropped.
#[derive(Debug)]
pub struct Saved {
    copy: tempfile::TempDir,
}

/// Copies a directory with owners, modes and links.
fn copy_all(from: &Path, to: &Path) -> Result<(), Error> {
    let mut command = std::process::Command::new("cp");
    command.arg("--archive").arg(from).arg(to);
    server::run(&mut command, None).map(drop)
}

/// Removes the System V segment of a server that was killed; the lock file it left behind names it in line 7.
fn remove_segment(data: &Path) {
    let Ok(text) = std::fs::read_to_string(data.join("postmaster.pid")) else {
        return;
    };
    let segment = text.lines().nth(6).and_then(|line| line.split_whitespace().last());
    if let Some(segment) = segment {
        let mut command = std::process::Command::new("ipcrm");
        // It may be gone: then there is nothing to do.
        let _ = server::run(command.args(["-m", segment]), None);
    }
}
