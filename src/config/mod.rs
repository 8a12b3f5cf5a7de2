//! The configuration: one TOML file, environment variables over it, secrets from files.
//!
//! - A variable `PENSTOCK_<SECTION>__<KEY>` wins over the file; lists are comma-separated there.
//! - An unknown section, key or variable of that form is refused, naming the nearest known one.
//! - A password may stand in the file itself only if no one but its owner can read the file; else it comes from
//!   `password_file` or the environment.
//! - Every limit carries its unit in its name. `penstock.example.toml` shows every key with its default.
//!
//! Does not ask any server: whether tables, topics and rights are as they must be is the catalog's and the sink's.

mod document;
mod error;
mod keys;
mod names;
mod properties;
mod reader;
mod secret;
mod sections;
mod url;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::{ConfigError, Origin, Problem};
pub use names::{ColumnName, NameError, TableName, TablePattern, quote_identifier, quote_literal};
pub use properties::Properties;
pub use secret::Secret;

use crate::source::{ConnectOptions, Host};
use crate::tls::TlsOptions;
use document::{Document, Text};

/// Everything a command needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub source: Source,
    pub kafka: Kafka,
    pub registry: Registry,
    pub tables: Tables,
    pub limits: Limits,
    pub backfill: Backfill,
    pub faults: Faults,
    pub http: Http,
    pub log: Log,
}

/// The Postgres server that is read, and what is read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Pinned name: key of the progress record, part of the transactional id. `[a-z0-9_]`, at most 54 characters.
    pub name: String,
    /// The number in each record's header.
    pub number: u16,
    /// Whether record keys hold the number too. Pinned by `setup`.
    pub number_in_key: bool,
    /// Whether `setup` installs the event triggers that tell the stream of DDL.
    pub event_triggers: bool,
    pub server: Server,
    pub slot: String,
    pub publication: String,
    /// How often the server hears from the bridge, also when nothing moves.
    pub status_interval: Duration,
}

/// How the server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub host: Host,
    pub user: String,
    pub password: Option<Secret>,
    pub database: String,
    pub tls: TlsOptions,
    pub connect_timeout: Duration,
}

/// The Kafka cluster and the topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port` each; at least one.
    pub brokers: Vec<String>,
    pub topic: String,
    /// Pinned when the topic is created.
    pub partitions: u32,
    pub replication: u16,
    pub min_insync_replicas: u16,
    /// How long the full history stays.
    pub min_compaction_lag: Duration,
    /// How long tombstones stay.
    pub delete_retention: Duration,
    /// The Avro namespace; pinned.
    pub namespace: String,
    pub transaction_timeout: Duration,
    pub properties: Properties,
}

/// The schema registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// Base of the Confluent API, without a slash at the end.
    pub url: String,
    pub login: Option<Login>,
    /// PEM file of the roots to trust instead of the system's.
    pub ca_certificate: Option<PathBuf>,
    pub timeout: Duration,
}

/// User and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Secret,
}

/// What whoever only reads the topic needs of a configuration: `[kafka]` and `[registry]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    pub kafka: Kafka,
    pub registry: Registry,
}

/// Which tables are captured and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Empty: whatever the publication holds.
    pub capture: Vec<TablePattern>,
    /// Not captured although `capture` means them.
    pub leave_out: BTreeSet<TableName>,
    account_column: Vec<String>,
    account_columns: BTreeMap<TableName, Vec<String>>,
    /// Columns that never leave the database.
    pub exclude: BTreeSet<ColumnName>,
    /// An update that changes only these is dropped.
    pub ignore_updates: BTreeSet<ColumnName>,
    /// Columns that may be missing from an update under an identity other than FULL.
    pub accept_unchanged: BTreeSet<ColumnName>,
    /// Excluded columns that their table may lack.
    pub accept_absent: BTreeSet<ColumnName>,
    /// Tables that may lack changes in the stream: they are loaded again instead of stopping the bridge.
    pub accept_missing: BTreeSet<TableName>,
    /// Numeric columns that travel as an Avro decimal instead of a string.
    pub decimal: BTreeSet<ColumnName>,
}

/// Bounds on memory and on groups of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes handed to Kafka and not yet confirmed.
    pub in_flight_bytes_max: usize,
    /// Bytes of one Kafka transaction.
    pub group_bytes_max: usize,
    /// Records of one Kafka transaction.
    pub group_records_max: usize,
    /// How long a Kafka transaction is kept open for more.
    pub group_age_max: Duration,
    /// Key and value of one record; also the topic's `max.message.bytes`.
    pub record_bytes_max: usize,
    /// One message of the replication stream.
    pub frame_bytes_max: usize,
}

/// How rows are read that the stream does not bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backfill {
    /// Chunks that are read at once, each on a connection of its own.
    pub workers: usize,
    /// Rows of a chunk.
    pub chunk_rows_max: usize,
    /// A chunk takes no further row once it has so many bytes of values.
    pub chunk_bytes_max: usize,
    /// Of a reload that names no rate of its own; 0 is no bound.
    pub rows_per_second: u64,
}

/// What happens to what cannot be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    pub oversized_transaction: OversizedTransaction,
    pub poison: Poison,
}

/// A transaction that does not fit into one Kafka transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OversizedTransaction {
    /// Stop with an error.
    Halt,
    /// Deliver it in several Kafka transactions.
    Split,
}

/// A row that cannot be encoded or is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poison {
    /// Stop with an error.
    Halt,
}

/// Where metrics and health are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    pub listen: SocketAddr,
}

/// How the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

/// One line of text, or of JSON, per event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Config {
    /// Reads the file, if one is named, and the variables.
    ///
    /// # Errors
    /// `Unreadable` if the file cannot be read; else `Refused` with everything that is wrong.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        load(file, environment, sections::read)
    }
}

impl Endpoints {
    /// Like [`Config::load`], for a file that may have no other sections.
    ///
    /// # Errors
    /// As there.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        load(file, environment, sections::read_endpoints)
    }
}

fn load<T>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    read: impl FnOnce(&Document) -> Result<T, ConfigError>,
) -> Result<T, ConfigError> {
    let unreadable = |path: &Path| {
        let path = path.to_path_buf();
        move |source| ConfigError::Unreadable { path, source }
    };
    let content = match file {
        Some(path) => Some((path, std::fs::read_to_string(path).map_err(unreadable(path))?, is_private(path))),
        None => None,
    };
    let text = content.as_ref().map(|(path, content, private)| Text { path, content, private: *private });
    read(&Document::merge(text, environment.into_iter()))
}

impl Tables {
    /// Whether the table is asked for. An empty list asks for every table that is published.
    pub fn captures(&self, table: &TableName) -> bool {
        let listed = self.capture.is_empty() || self.capture.iter().any(|pattern| pattern.matches(table));
        listed && !self.leave_out.contains(table)
    }

    /// The names that the column with the table's account has had, the oldest first: the first that the table has counts.
    pub fn account_columns(&self, table: &TableName) -> &[String] {
        self.account_columns.get(table).unwrap_or(&self.account_column)
    }

    /// The account columns of tables that have none of their own.
    pub fn default_account_columns(&self) -> &[String] {
        &self.account_column
    }

    /// The tables that have account columns of their own.
    pub fn with_own_account_columns(&self) -> impl Iterator<Item = (&TableName, &[String])> {
        self.account_columns.iter().map(|(table, columns)| (table, columns.as_slice()))
    }
}

impl Server {
    /// What a connection needs to know, under the name that the server's views show.
    pub fn connect_options(&self, application_name: impl Into<String>) -> ConnectOptions {
        ConnectOptions {
            host: self.host.clone(),
            user: self.user.clone(),
            password: self.password.clone(),
            database: self.database.clone(),
            application_name: application_name.into(),
            tls: self.tls.clone(),
            connect_timeout: self.connect_timeout,
        }
    }
}

impl LogLevel {
    /// As tracing's filter calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Only the owner has any right to the file.
fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests;
