//! The one ordinary connection that questions are asked on.
//!
//! Opened at the first question and again after it broke. Read-only unless a statement says otherwise; names are only
//! looked up in `pg_catalog`, so that no table of a user's can pose as one of the catalog's. Every question has its
//! time; one that got no answer in it closes the connection, for its answer would be taken for the next one's.

use std::time::Duration;

use penstock_wire::lsn::Lsn;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Config, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::debug;

use super::error::{CatalogError, translate};
use super::slot_creation::NewSlot;
use crate::source::{ConnectOptions, Host, SourceError};
use crate::tls::TlsMode;

/// How long an answer may take: all questions read a few hundred rows of the catalog.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of the session. With `row_security` off a policy that would hide rows is an error, not a wrong answer.
const SETTINGS: &str = "-c search_path=pg_catalog -c default_transaction_read_only=on -c row_security=off \
    -c statement_timeout=0 -c lock_timeout=10000 -c idle_session_timeout=0 -c timezone=UTC -c datestyle=ISO \
    -c lc_monetary=C";

/// Asks Postgres about itself, and makes what `setup` makes.
#[derive(Debug)]
pub struct Catalog {
    options: ConnectOptions,
    client: Option<Client>,
    /// See [`super::slot_creation`].
    pub(super) new_slot: Option<NewSlot>,
}

/// A parameter of a statement.
pub(super) type Parameter<'a> = &'a (dyn ToSql + Sync);

impl Catalog {
    /// Connects at the first question.
    pub fn new(options: ConnectOptions) -> Self {
        Self { options, client: None, new_slot: None }
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
        self.client = None;
    }

    fn mode(&self) -> TlsMode {
        match &self.options.host {
            Host::Tcp { host, .. } => self.options.tls.mode_for(host),
            Host::Unix { .. } => TlsMode::Disable,
        }
    }

    fn translate(&self, error: tokio_postgres::Error) -> SourceError {
        translate(error, &self.options.host.to_string(), self.mode())
    }

    async fn client(&mut self) -> Result<&Client, CatalogError> {
        let open = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.open().await?,
        };
        Ok(self.client.insert(open))
    }

    async fn open(&self) -> Result<Client, CatalogError> {
        let host = self.options.host.to_string();
        let limit = self.options.connect_timeout;
        let opened = match timeout(limit, self.try_open()).await {
            Ok(opened) => opened,
            Err(_) => Err(SourceError::ConnectTimeout { host: host.clone(), timeout: limit }),
        };
        opened.map_err(|source| CatalogError::Connect { host, source })
    }

    async fn try_open(&self) -> Result<Client, SourceError> {
        let mode = self.mode();
        let mut config = Config::new();
        config.user(&self.options.user).dbname(&self.options.database).options(SETTINGS);
        config.application_name(&self.options.application_name);
        if let Some(password) = &self.options.password {
            config.password(password.expose());
        }
        match &self.options.host {
            Host::Tcp { host, port } => config.host(host).port(*port),
            Host::Unix { directory, port } => config.host_path(directory).port(*port),
        };
        config.ssl_mode(match mode {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
        if mode == TlsMode::Disable {
            let (client, connection) = config.connect(NoTls).await.map_err(|error| self.translate(error))?;
            drive(connection);
            return Ok(client);
        }
        let tls = MakeRustlsConnect::new(self.options.tls.client_config(mode)?);
        let (client, connection) = config.connect(tls).await.map_err(|error| self.translate(error))?;
        drive(connection);
        Ok(client)
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

    fn settle<T>(
        &mut self,
        question: &'static str,
        limit: Duration,
        answer: Result<Result<T, tokio_postgres::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, CatalogError> {
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(CatalogError::Question { question, source: self.translate(error) }),
            Err(_) => {
                self.disconnect();
                Err(CatalogError::Timeout { question, timeout: limit })
            }
        }
    }
}

/// The connection's own work goes on in a task; it ends with the client.
fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    tokio_postgres::Connection<S, T>: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            // Whoever asks next gets the error and judges it.
            debug!(%error, "the catalog's connection ended");
        }
    });
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
