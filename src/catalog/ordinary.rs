//! An ordinary connection: opened by the client library, and closed at once when it is dropped.
//!
//! The library's own way to close waits for the answers that are still due, and so for the end of whatever runs. Here the
//! socket goes with the value: the server ends the transaction and gives its locks back.

use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::debug;

use super::error::{CatalogError, translate};
use crate::source::{ConnectOptions, Host, SourceError};
use crate::tls::TlsMode;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Ordinary {
    client: Client,
    driver: AbortHandle,
}

impl Ordinary {
    /// Connects; `settings` is the startup parameter `options`.
    ///
    /// # Errors
    /// `Connect`, with the reason.
    pub(crate) async fn open(options: &ConnectOptions, settings: &str) -> Result<Self, CatalogError> {
        let host = options.host.to_string();
        let limit = options.connect_timeout;
        let opened = match timeout(limit, connect(options, settings)).await {
            Ok(opened) => opened,
            Err(_) => Err(SourceError::ConnectTimeout { host: host.clone(), timeout: limit }),
        };
        opened.map_err(|source| CatalogError::Connect { host, source })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The client library's error in the terms of the replication client's.
    pub(crate) fn translate(options: &ConnectOptions, error: tokio_postgres::Error) -> SourceError {
        translate(error, &options.host.to_string(), mode(options))
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn mode(options: &ConnectOptions) -> TlsMode {
    match &options.host {
        Host::Tcp { host, .. } => options.tls.mode_for(host),
        Host::Unix { .. } => TlsMode::Disable,
    }
}

async fn connect(options: &ConnectOptions, settings: &str) -> Result<Ordinary, SourceError> {
    let mode = mode(options);
    let mut config = Config::new();
    config.user(&options.user).dbname(&options.database).options(settings);
    config.application_name(&options.application_name);
    if let Some(password) = &options.password {
        config.password(password.expose());
    }
    match &options.host {
        Host::Tcp { host, port } => config.host(host).port(*port),
        Host::Unix { directory, port } => config.host_path(directory).port(*port),
    };
    config.ssl_mode(match mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
    });
    let failed = |error| Ordinary::translate(options, error);
    if mode == TlsMode::Disable {
        let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
        return Ok(Ordinary { client, driver: drive(connection) });
    }
    let tls = MakeRustlsConnect::new(options.tls.client_config(mode)?);
    let (client, connection) = config.connect(tls).await.map_err(failed)?;
    Ok(Ordinary { client, driver: drive(connection) })
}

/// The connection's own work goes on in a task.
fn drive<S, T>(connection: tokio_postgres::Connection<S, T>) -> AbortHandle
where
    tokio_postgres::Connection<S, T>: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
{
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            // Whoever asks next gets the error and judges it.
            debug!(%error, "an ordinary connection ended");
        }
    });
    driver.abort_handle()
}
