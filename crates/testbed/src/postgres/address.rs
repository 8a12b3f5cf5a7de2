//! How to reach a database, as data: it can be handed to another process, and it can run SQL through psql.
//!
//! Administrative SQL goes over the Unix socket, where the superuser is trusted, so it works whatever a test does to
//! passwords, certificates or proxies.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::binaries;
use crate::server::{self, Error};

/// A database of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host for TCP.
    pub host: String,
    /// Port, the same for TCP and the socket's name.
    pub port: u16,
    /// Directory of the Unix socket.
    pub socket_directory: PathBuf,
    /// The superuser.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The database.
    pub database: String,
}

impl Address {
    /// `postgres://user:password@host:port/database`.
    #[must_use]
    pub fn url(&self) -> String {
        let Self { host, port, user, password, database, .. } = self;
        format!("postgres://{user}:{password}@{host}:{port}/{database}")
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    /// The same database through another port, a proxy's. The Unix socket stays the server's own; it is named after
    /// the server's port, so psql no longer finds it: run SQL through the original address.
    #[must_use]
    pub fn through(&self, port: u16) -> Self {
        Self { port, ..self.clone() }
    }

    /// Runs SQL (several statements, each its own transaction unless it says BEGIN) and returns the rows as psql prints
    /// them unaligned: columns separated by `|`, one row a line, NULL as the empty string.
    ///
    /// # Errors
    /// At the first statement that fails, with psql's message.
    pub fn psql(&self, sql: &str) -> Result<String, Error> {
        let output = server::run(&mut self.psql_command()?, Some(sql))?;
        Ok(output.strip_suffix('\n').unwrap_or(&output).to_owned())
    }

    /// A psql that reads SQL from its standard input; for sessions that stay open.
    ///
    /// # Errors
    /// If psql isn't installed.
    pub fn psql_command(&self) -> Result<Command, Error> {
        let mut command = Command::new(binaries::client("psql")?);
        command
            .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
            .args(["--set", "ON_ERROR_STOP=1", "--set", "VERBOSITY=verbose"])
            .arg("--host")
            .arg(&self.socket_directory)
            .args(["--port", &self.port.to_string()])
            .args(["--username", &self.user, "--dbname", &self.database])
            .args(["--file", "-"])
            .env("PGPASSWORD", &self.password)
            .env("PGCLIENTENCODING", "UTF8")
            .env_remove("PGOPTIONS")
            .env_remove("PGSERVICE");
        Ok(command)
    }

    /// Makes a database and returns its address.
    ///
    /// # Errors
    /// If the server refuses, for instance because it exists.
    pub fn create_database(&self, name: &str) -> Result<Self, Error> {
        self.psql(&format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\"")))?;
        Ok(self.with_database(name))
    }

    /// Removes a database with its slots, even if clients are connected and slots in use.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn drop_database(&self, name: &str) -> Result<(), Error> {
        let literal = name.replace('\'', "''");
        let active = format!("FROM pg_replication_slots WHERE database = '{literal}' AND active");
        // FORCE ends clients, but refuses where a slot is in use; one that isn't goes with its database.
        self.psql(&format!("SELECT pg_terminate_backend(active_pid) {active}"))?;
        self.wait_for(&format!("SELECT count(*) = 0 {active}"))?;
        let identifier = name.replace('"', "\"\"");
        self.psql(&format!("DROP DATABASE \"{identifier}\" WITH (FORCE)"))?;
        Ok(())
    }

    /// Asks until a query that returns one boolean says true.
    ///
    /// # Errors
    /// If the query fails, or says something else for too long.
    pub fn wait_for(&self, query: &str) -> Result<(), Error> {
        let started = std::time::Instant::now();
        loop {
            let answer = self.psql(query)?;
            if answer == "t" {
                return Ok(());
            }
            if started.elapsed() > crate::limits::START_TIMEOUT {
                return Err(Error::Answer {
                    name: format!("postgres on port {} for too long", self.port),
                    answer: format!("{answer:?} to {query}"),
                });
            }
            server::pause_between_looks();
        }
    }

    /// As JSON, for another process.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "host": self.host,
            "port": self.port,
            "socket_directory": self.socket_directory,
            "user": self.user,
            "password": self.password,
            "database": self.database,
        })
    }

    /// From JSON; `None` if a field is missing or of another type.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        let text = |name| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            host: text("host")?,
            port: value.get("port")?.as_u64()?.try_into().ok()?,
            socket_directory: Path::new(&text("socket_directory")?).to_owned(),
            user: text("user")?,
            password: text("password")?,
            database: text("database")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn address_survives_json() {
        let address = Address {
            host: "127.0.0.1".to_owned(),
            port: 5432,
            socket_directory: "/s".into(),
            user: "u".to_owned(),
            password: "p".to_owned(),
            database: "d".to_owned(),
        };
        assert_eq!(Address::from_json(&address.to_json()), Some(address.clone()));
        assert_eq!(address.url(), "postgres://u:p@127.0.0.1:5432/d");
        let mut broken = address.to_json();
        broken["port"] = serde_json::json!(65_536);
        assert_eq!(Address::from_json(&broken), None);
    }
}
