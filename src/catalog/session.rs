//! The one ordinary connection that questions are asked on.
//!
//! Opened at the first question and again after it broke. Read-only unless a statement says otherwise; names are only
//! looked up in `pg_catalog`, so that no table of a user's can pose as one of the catalog's. Every question has its
//! time; one that got no answer in it closes the connection, for its answer would be taken for the next one's.

use std::time::Duration;

use penstock_wire::lsn::Lsn;
use tokio::time::timeout;
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Row, SimpleQueryMessage};

use super::error::CatalogError;
use super::ordinary::Ordinary;
use super::slot_creation::NewSlot;
use crate::source::{ConnectOptions, startup_options};

/// How long an answer may take: all questions read a few hundred rows of the catalog.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of the session, besides those that decide how values are printed. With `row_security` off a policy that would
/// hide rows is an error, not a wrong answer.
const SETTINGS: [(&str, &str); 5] = [
    ("default_transaction_read_only", "on"),
    ("row_security", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "10000"),
    ("idle_session_timeout", "0"),
];

/// Asks Postgres about itself, and makes what `setup` makes.
#[derive(Debug)]
pub struct Catalog {
    options: ConnectOptions,
    connection: Option<Ordinary>,
    /// See [`super::slot_creation`].
    pub(super) new_slot: Option<NewSlot>,
}

/// A parameter of a statement.
pub(super) type Parameter<'a> = &'a (dyn ToSql + Sync);

impl Catalog {
    /// Connects at the first question.
    pub fn new(options: ConnectOptions) -> Self {
        Self { options, connection: None, new_slot: None }
    }

    /// Connects now, if that has not been done or the connection broke.
    ///
    /// # Errors
    /// `Connect`, with the reason.
    pub async fn connect(&mut self) -> Result<(), CatalogError> {
        self.client().await.map(|_| ())
    }

    /// Ends the session; the next question opens another.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    async fn client(&mut self) -> Result<&Client, CatalogError> {
        let open = match self.connection.take().filter(|connection| !connection.client().is_closed()) {
            Some(connection) => connection,
            None => Ordinary::open(&self.options, &startup_options(&SETTINGS)).await?,
        };
        Ok(self.connection.insert(open).client())
    }

    /// Asks one question and takes all rows of the answer.
    pub(super) async fn ask(
        &mut self,
        question: &'static str,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, CatalogError> {
        let answer = timeout(ANSWER_TIMEOUT, self.client().await?.query(sql, parameters)).await;
        self.settle(question, ANSWER_TIMEOUT, answer)
    }

    /// Asks a question that always has one row as its answer.
    pub(super) async fn ask_one(
        &mut self,
        question: &'static str,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Row, CatalogError> {
        let rows = self.ask(question, sql, parameters).await?;
        let count = rows.len();
        let first = rows.into_iter().next().filter(|_| count == 1);
        first.ok_or_else(|| CatalogError::Answer { question, what: format!("{count} rows where there is always one") })
    }

    /// Runs statements that change something, as one transaction if there are several.
    pub(super) async fn run(&mut self, question: &'static str, sql: &str, limit: Duration) -> Result<(), CatalogError> {
        let sql = format!("START TRANSACTION READ WRITE; {sql}; COMMIT");
        let answer = timeout(limit, self.client().await?.batch_execute(&sql)).await;
        if !matches!(answer, Ok(Ok(()))) {
            // A session left inside a failed transaction refuses everything.
            let outcome = self.settle(question, limit, answer);
            self.disconnect();
            return outcome;
        }
        Ok(())
    }

    /// Like `ask`, for a statement that may take its time.
    pub(super) async fn ask_within(
        &mut self,
        question: &'static str,
        sql: &str,
        parameters: &[Parameter<'_>],
        limit: Duration,
    ) -> Result<Vec<Row>, CatalogError> {
        let answer = timeout(limit, self.client().await?.query(sql, parameters)).await;
        self.settle(question, limit, answer)
    }

    /// Like `ask_within`, with every value as its type prints it. Without parameters.
    pub(super) async fn ask_texts(
        &mut self,
        question: &'static str,
        sql: &str,
        limit: Duration,
    ) -> Result<Vec<Vec<Option<String>>>, CatalogError> {
        let answer = timeout(limit, self.client().await?.simple_query(sql)).await;
        let texts = |message: SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect())
            }
            _ => None,
        };
        Ok(self.settle(question, limit, answer)?.into_iter().filter_map(texts).collect())
    }

    fn settle<T>(
        &mut self,
        question: &'static str,
        limit: Duration,
        answer: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, CatalogError> {
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                Err(CatalogError::Question { question, source: Ordinary::translate(&self.options, error) })
            }
            Err(_) => {
                self.disconnect();
                Err(CatalogError::Timeout { question, timeout: limit })
            }
        }
    }
}

/// A column of an answer.
pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, question: &'static str, name: &str) -> Result<T, CatalogError> {
    row.try_get(name).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        CatalogError::Answer { question, what: format!("{name}: {error}{cause}") }
    })
}

/// A column that holds an LSN's text.
pub(super) fn lsn(row: &Row, question: &'static str, name: &str) -> Result<Option<Lsn>, CatalogError> {
    let text: Option<String> = column(row, question, name)?;
    let parse = |text: String| {
        text.parse().map_err(|error| CatalogError::Answer { question, what: format!("{name}: {error}") })
    };
    text.map(parse).transpose()
}

/// A column that holds a number that is never negative.
pub(super) fn count(row: &Row, question: &'static str, name: &str) -> Result<Option<u64>, CatalogError> {
    let number: Option<i64> = column(row, question, name)?;
    let convert = |number: i64| {
        u64::try_from(number).map_err(|_| CatalogError::Answer { question, what: format!("{name} is negative") })
    };
    number.map(convert).transpose()
}
