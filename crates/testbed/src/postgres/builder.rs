//! What a Postgres is to be like, and the making of it: initdb (or a base backup of another server), configuration,
//! certificates, first start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Address, Postgres, binaries, tls};
use crate::artifacts::Cache;
use crate::server::{self, Error, Port, Sandbox};

/// How clients over TCP prove who they are. The superuser on the Unix socket is trusted always: administrative SQL must
/// not depend on what a test does to authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Authentication {
    /// SCRAM-SHA-256.
    #[default]
    Scram,
    /// MD5, and passwords stored so.
    Md5,
    /// Not at all.
    Trust,
}

impl Authentication {
    fn method(self) -> &'static str {
        match self {
            Self::Scram => "scram-sha-256",
            Self::Md5 => "md5",
            Self::Trust => "trust",
        }
    }

    fn password_encryption(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Scram | Self::Trust => "scram-sha-256",
        }
    }
}

/// Builds a [`Postgres`].
#[derive(Debug, Clone)]
pub struct Builder {
    major: u16,
    cache: Cache,
    authentication: Authentication,
    /// In the file of their own that is read last, so that they win over the defaults.
    settings: BTreeMap<String, String>,
    hba: Vec<String>,
    tls_names: Option<Vec<String>>,
}

const SUPERUSER: &str = "postgres";
const PASSWORD: &str = "penstock-testbed";

/// Defaults that differ from Postgres' own: room for many tests at once, and speed instead of durability, because a
/// killed process loses nothing that was written (only a lost machine would).
const SETTINGS: [(&str, &str); 14] = [
    ("wal_level", "logical"),
    ("max_wal_senders", "50"),
    ("max_replication_slots", "50"),
    ("max_connections", "200"),
    ("max_prepared_transactions", "20"),
    ("shared_buffers", "64MB"),
    ("max_wal_size", "1GB"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("jit", "off"),
    ("listen_addresses", "127.0.0.1"),
    ("log_line_prefix", "%m [%p] %q%u@%d %a "),
    ("log_checkpoints", "off"),
    ("timezone", "UTC"),
];

impl Default for Builder {
    fn default() -> Self {
        Self {
            major: 15,
            cache: Cache::from_environment(),
            authentication: Authentication::default(),
            settings: SETTINGS.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            hba: Vec::new(),
            tls_names: None,
        }
    }
}

impl Builder {
    /// The major version, 14 to 18; 15 unless set.
    #[must_use]
    pub fn major(mut self, major: u16) -> Self {
        self.major = major;
        self
    }

    /// The cache that versions come from which are not installed.
    #[must_use]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = cache;
        self
    }

    /// A setting of postgresql.conf.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.insert(name.to_owned(), value.to_string());
        self
    }

    /// With fsync and full-page writes: what was committed survives also the loss of the machine.
    #[must_use]
    pub fn durable(self) -> Self {
        self.set("fsync", "on").set("full_page_writes", "on")
    }

    /// A line of pg_hba.conf; those added stand, in this order, before the default ones.
    #[must_use]
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// How clients over TCP prove who they are.
    #[must_use]
    pub fn authentication(mut self, authentication: Authentication) -> Self {
        self.authentication = authentication;
        self
    }

    /// TLS on, with a certificate for localhost and 127.0.0.1.
    #[must_use]
    pub fn tls(self) -> Self {
        self.tls_for(&["localhost", "127.0.0.1"])
    }

    /// TLS on, with a certificate for these host names and addresses.
    #[must_use]
    pub fn tls_for(mut self, names: &[&str]) -> Self {
        self.tls_names = Some(names.iter().map(|&name| name.to_owned()).collect());
        self
    }

    /// Makes the server and waits until it takes connections.
    ///
    /// # Errors
    /// If its programs can't be had, or it does not come up.
    pub fn start(self) -> Result<Postgres, Error> {
        let postgres = self.prepare(None)?;
        postgres.start()?;
        let sql = format!("ALTER ROLE {SUPERUSER} PASSWORD '{PASSWORD}'");
        postgres.address().psql(&sql)?;
        Ok(postgres)
    }

    /// Makes a standby that follows `primary` and waits until it takes connections.
    pub(super) fn start_standby(self, primary: &Address) -> Result<Postgres, Error> {
        let postgres = self.prepare(Some(primary))?;
        postgres.start()?;
        Ok(postgres)
    }

    fn prepare(self, primary: Option<&Address>) -> Result<Postgres, Error> {
        // Without it the server would never be seen to answer.
        binaries::client("psql")?;
        let programs = binaries::server(self.major, &self.cache)?;
        let sandbox = Sandbox::new("postgres")?;
        let port = Port::reserve()?;
        let socket_directory = sandbox.directory("socket")?;
        let data = sandbox.path().join("data");
        match primary {
            None => initialise(&sandbox, &programs, &data)?,
            Some(primary) => back_up(&sandbox, primary, &data)?,
        }
        let certificates = match &self.tls_names {
            Some(names) => Some(tls::Certificates::generate(&sandbox.directory("tls")?, names)?),
            None => None,
        };
        let address = Address {
            host: "127.0.0.1".to_owned(),
            port: port.number(),
            socket_directory,
            user: SUPERUSER.to_owned(),
            password: PASSWORD.to_owned(),
            database: SUPERUSER.to_owned(),
        };
        let postgres = Postgres::new(sandbox, port, programs, address, certificates, self);
        postgres.write_configuration()?;
        Ok(postgres)
    }

    pub(super) fn insert(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    /// The text of postgresql.conf; it replaces what initdb wrote.
    pub(super) fn configuration(&self, address: &Address, certificates: Option<&tls::Certificates>) -> String {
        use std::fmt::Write as _;

        let mut settings = self.settings.clone();
        let mut own = |name: &str, value: String| {
            settings.entry(name.to_owned()).or_insert(value);
        };
        own("port", address.port.to_string());
        own("unix_socket_directories", address.socket_directory.display().to_string());
        own("password_encryption", self.authentication.password_encryption().to_owned());
        if let Some(files) = certificates {
            own("ssl", "on".to_owned());
            own("ssl_cert_file", files.certificate.display().to_string());
            own("ssl_key_file", files.key.display().to_string());
        }
        settings.iter().fold(String::new(), |mut text, (name, value)| {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
            text
        })
    }

    /// The text of pg_hba.conf.
    pub(super) fn access(&self) -> String {
        let method = self.authentication.method();
        let mut lines = vec![format!("local all {SUPERUSER} trust"), format!("local replication {SUPERUSER} trust")];
        lines.extend(self.hba.iter().cloned());
        lines.push(format!("local all all {method}"));
        for database in ["all", "replication"] {
            lines.push(format!("host {database} all 127.0.0.1/32 {method}"));
            lines.push(format!("host {database} all ::1/128 {method}"));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

fn initialise(sandbox: &Sandbox, programs: &Path, data: &Path) -> Result<(), Error> {
    let mut initdb = sandbox.command(programs.join("initdb"));
    initdb.arg("--pgdata").arg(data);
    initdb.args(["--username", SUPERUSER, "--auth", "trust"]);
    initdb.args(["--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]);
    server::run(&mut initdb, None)?;
    Ok(())
}

fn back_up(sandbox: &Sandbox, primary: &Address, data: &PathBuf) -> Result<(), Error> {
    let mut backup = sandbox.command(binaries::client("pg_basebackup")?);
    backup.arg("--pgdata").arg(data);
    backup.arg("--host").arg(&primary.socket_directory);
    backup.args(["--port", &primary.port.to_string()]);
    backup.args(["--username", &primary.user, "--no-sync"]);
    backup.args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"]);
    server::run(&mut backup, None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Authentication, Builder};

    #[test]
    fn lines_of_a_test_stand_before_the_defaults_and_after_the_superuser() {
        let access = Builder::default()
            .hba("host all penstock 127.0.0.1/32 reject")
            .authentication(Authentication::Md5)
            .access();
        let place = |line: &str| access.lines().position(|found| found == line).expect(line);
        let own = place("host all penstock 127.0.0.1/32 reject");
        assert!(place("local all postgres trust") < own);
        assert!(own < place("host all all 127.0.0.1/32 md5"));
    }
}
