//! A connection that reads chunks and writes marks.
//!
//! Values are printed as the replication stream prints them. A policy that would hide rows is an error; a lock, a statement
//! and a pause within a transaction have their time. Dropped, it leaves nothing behind: not a transaction, not a lock.

use std::time::Duration;

use penstock_core::backfill::interface::{MARK_PREFIX, Mark};
use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::catalog::{CatalogError, Ordinary};
use crate::config::quote_literal;
use crate::source::{ConnectOptions, startup_options};

/// Marks do not wait for synchronous standbys: what they enclose is read here, on the primary.
const SETTINGS: [(&str, &str); 9] = [
    ("row_security", "off"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_read_only", "off"),
    ("synchronous_commit", "local"),
    ("lock_timeout", "10000"),
    ("statement_timeout", "120000"),
    ("idle_in_transaction_session_timeout", "60000"),
    ("idle_session_timeout", "0"),
    // A chunk is a few milliseconds of an index scan.
    ("jit", "off"),
];

/// The server notices within this that nobody waits for an answer any more. Not every system's Postgres can.
const CHECK_CONNECTION: &str = "SET client_connection_check_interval = 1000";

/// For an answer that takes a round trip and a flush. More than the server allows a statement.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(150);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Session {
    options: ConnectOptions,
    connection: Ordinary,
}

impl Session {
    pub(super) async fn open(options: &ConnectOptions) -> Result<Self, CatalogError> {
        let connection = Ordinary::open(options, &startup_options(&SETTINGS)).await?;
        let session = Self { options: options.clone(), connection };
        match session.client().batch_execute(CHECK_CONNECTION).await {
            Err(error) if error.as_db_error().is_none() => Err(session.failed("whether the connection holds", error)),
            Ok(()) | Err(_) => Ok(session),
        }
    }

    pub(super) fn client(&self) -> &Client {
        self.connection.client()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client().is_closed()
    }

    /// Runs statements and gives the first value of each row, as text.
    pub(super) async fn texts(&self, question: &'static str, sql: &str) -> Result<Vec<String>, CatalogError> {
        let limit = ANSWER_TIMEOUT;
        let answered = timeout(limit, self.client().simple_query(sql)).await;
        let messages = answered.map_err(|_| CatalogError::Timeout { question, timeout: limit })?;
        let text = |message: SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        Ok(messages.map_err(|error| self.failed(question, error))?.into_iter().filter_map(text).collect())
    }

    /// Writes a mark, in a transaction of its own.
    pub(super) async fn write(&self, mark: &Mark) -> Result<(), CatalogError> {
        self.texts("whether a mark was written", &mark_sql(mark)).await.map(drop)
    }

    /// Takes an id for a transaction, of 64 bits, in one of its own.
    pub(super) async fn transaction_id(&self) -> Result<u64, CatalogError> {
        const QUESTION: &str = "which transaction id is the next";
        let texts = self.texts(QUESTION, "SELECT pg_current_xact_id()::text").await?;
        let id = texts.first().and_then(|text| text.parse().ok());
        id.ok_or_else(|| CatalogError::Answer { question: QUESTION, what: format!("{texts:?}") })
    }

    pub(super) fn failed(&self, question: &'static str, error: tokio_postgres::Error) -> CatalogError {
        CatalogError::Question { question, source: Ordinary::translate(&self.options, error) }
    }
}

/// The statement that writes a mark.
pub(super) fn mark_sql(mark: &Mark) -> String {
    let (prefix, content) = (quote_literal(MARK_PREFIX), quote_literal(mark.as_str()));
    format!("SELECT pg_logical_emit_message(true, {prefix}, {content})")
}
