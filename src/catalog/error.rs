//! Why a question to the catalog has no answer, and whether asking again later helps.
//!
//! What Postgres itself says is judged where the replication client's errors are: one table of codes for both.

use std::io;
use std::time::Duration;

use tokio_postgres::Error;
use tokio_rustls::rustls;

use crate::source::{Class, ServerError, SourceError};
use crate::tls::{TlsError, TlsMode};

/// A question failed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// No session came about.
    #[error("cannot ask the catalog of Postgres at {host}")]
    Connect {
        /// Where.
        host: String,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// The session broke, or the server refused the question.
    #[error("cannot find out {question}")]
    Question {
        /// What was asked.
        question: &'static str,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// No answer in time.
    #[error("Postgres did not say {question} within {} s", timeout.as_secs_f64())]
    Timeout {
        /// What was asked.
        question: &'static str,
        /// The time allowed.
        timeout: Duration,
    },
    /// The answer is not of the form that every supported version gives.
    #[error("Postgres' answer on {question} cannot be read: {what}")]
    Answer {
        /// What was asked.
        question: &'static str,
        /// What is odd.
        what: String,
    },
}

impl CatalogError {
    /// Whether to try again.
    pub fn class(&self) -> Class {
        match self {
            Self::Connect { source, .. } | Self::Question { source, .. } => source.class(),
            Self::Timeout { .. } => Class::Retry,
            Self::Answer { .. } => Class::Halt,
        }
    }

    /// What an operator can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Connect { source, .. } | Self::Question { source, .. } => source.advice(),
            Self::Timeout { .. } => {
                "it is tried again; the server is overloaded, frozen, or something holds a lock: see pg_stat_activity"
            }
            Self::Answer { .. } => "make sure that this is Postgres 14 or newer",
        }
    }

    /// The server's code, if the server refused the question.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Connect { source, .. } | Self::Question { source, .. } => source.sqlstate(),
            Self::Timeout { .. } | Self::Answer { .. } => None,
        }
    }
}

/// The client library's error in the terms of the replication client's, so that both are judged alike.
pub(super) fn translate(error: Error, host: &str, mode: TlsMode) -> SourceError {
    if let Some(reported) = error.as_db_error() {
        return SourceError::Server(Box::new(ServerError {
            severity: reported.severity().to_owned(),
            sqlstate: reported.code().code().to_owned(),
            message: reported.message().to_owned(),
            detail: reported.detail().map(str::to_owned),
            hint: reported.hint().map(str::to_owned),
        }));
    }
    if error.is_closed() {
        return SourceError::Closed;
    }
    // The library tells its kinds of errors apart by text alone.
    let kind = error.to_string();
    let cause = error.into_source();
    let why = cause.as_ref().map(ToString::to_string).unwrap_or_default();
    match (kind.as_str(), why.as_str()) {
        ("invalid configuration", "password missing") => SourceError::PasswordMissing,
        ("error performing TLS handshake", "server does not support TLS") => TlsError::NotOffered { mode }.into(),
        ("error performing TLS handshake", _) => translate_tls(cause).into(),
        ("error connecting to server", _) => {
            SourceError::Connect { host: host.to_owned(), source: into_io(kind, cause) }
        }
        ("authentication error", _) => SourceError::ServerUnproven(Some(into_io(kind, cause))),
        _ => SourceError::Lost(into_io(kind, cause)),
    }
}

type Cause = Option<Box<dyn std::error::Error + Send + Sync>>;

fn translate_tls(cause: Cause) -> TlsError {
    let error = into_io("error performing TLS handshake".to_owned(), cause);
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(reason)) => TlsError::Certificate(reason.clone()),
        Some(reason @ (rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_))) => {
            TlsError::Incompatible(reason.clone())
        }
        Some(_) | None => TlsError::Handshake(error),
    }
}

fn into_io(kind: String, cause: Cause) -> io::Error {
    match cause.map(|cause| cause.downcast::<io::Error>()) {
        Some(Ok(error)) => *error,
        Some(Err(other)) => io::Error::other(format!("{kind}: {other}")),
        None => io::Error::other(kind),
    }
}
