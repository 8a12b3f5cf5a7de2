//! What can go wrong between us and Postgres, whether waiting helps, and what an operator does about it.
//!
//! Invariant: no password and no row value is in any of these texts.

use std::fmt;
use std::io;
use std::time::Duration;

use super::fields::Fields;
use crate::tls::TlsError;

/// Whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It can pass without anybody doing anything: connect again, after a pause.
    Retry,
    /// Somebody has to change something first: stop and say so.
    Halt,
}

/// Everything the replication client fails with.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No connection came about.
    #[error("cannot connect to Postgres at {host}")]
    Connect {
        /// Where.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// No session came about in time.
    #[error("Postgres at {host} was not ready within {} s", timeout.as_secs_f64())]
    ConnectTimeout {
        /// Where.
        host: String,
        /// The time allowed.
        timeout: Duration,
    },
    /// The connection broke.
    #[error("the connection to Postgres broke")]
    Lost(#[source] io::Error),
    /// The server closed the connection without a word.
    #[error("Postgres closed the connection")]
    Closed,
    /// The server ended the stream on its own, as it does when it is shut down.
    #[error("Postgres ended the replication stream")]
    StreamEnded,
    /// The server stopped reading.
    #[error("Postgres took no data for {} s", timeout.as_secs_f64())]
    WriteTimeout {
        /// The time allowed.
        timeout: Duration,
    },
    /// The server did not end the copy in time.
    #[error("Postgres did not end the copy within {} s", timeout.as_secs_f64())]
    EndCopyTimeout {
        /// The time allowed.
        timeout: Duration,
    },
    /// An earlier exchange on this connection failed or was given up half-way: what would be read next is unknown.
    #[error("an earlier exchange on this connection did not come to its end")]
    Interrupted,
    /// A stream was asked for on a connection that has had one; see `Connection::end_copy`.
    #[error("a walsender streams a logical slot only once per connection, and this one has")]
    StreamedBefore,
    /// A stream's method was called where none is open: before its start, or after an error ended it.
    #[error("no replication stream is open on this connection")]
    NotStreaming,
    /// The server reported an error.
    #[error(transparent)]
    Server(#[from] Box<ServerError>),
    /// TLS did not come about.
    #[error("no TLS connection to Postgres")]
    Tls(#[from] TlsError),
    /// The server asks for a password and we have none.
    #[error("Postgres asks for a password and none is configured")]
    PasswordMissing,
    /// The server asks for the password itself on an open line.
    #[error("Postgres asks for the password in clear text over a connection without TLS")]
    PasswordInClear,
    /// The server asks for something we can't do.
    #[error("Postgres asks for an authentication method that Penstock does not have: {method}")]
    AuthenticationUnsupported {
        /// Its name or number.
        method: String,
    },
    /// The SCRAM exchange failed on our side: a server that does not know our password either, or garbage.
    #[error("the server did not prove that it knows the password")]
    ServerUnproven(#[source] Option<io::Error>),
    /// A text that goes to the server holds a zero byte, which would end it early.
    #[error("the {in_what} holds a zero byte")]
    ZeroByte {
        /// Which text.
        in_what: &'static str,
    },
    /// A text that goes to the server is longer than a message can be.
    #[error("a message of {bytes} bytes is longer than the protocol allows")]
    MessageTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A single message is larger than the bound.
    #[error("Postgres sends a message of {frame_bytes} bytes; at most {frame_bytes_max} are allowed")]
    FrameTooLarge {
        /// Size of the whole message.
        frame_bytes: usize,
        /// The bound.
        frame_bytes_max: usize,
    },
    /// An answer to a query is larger than anything we ask for.
    #[error("the answer to a query is larger than {bytes_max} bytes")]
    AnswerTooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// A message is not what the protocol says.
    #[error("{message} is malformed: {why}")]
    Malformed {
        /// Which.
        message: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A message that has no place here.
    #[error("unexpected message {:?} {during}", char::from(*tag))]
    Unexpected {
        /// Its first byte.
        tag: u8,
        /// What we were doing.
        during: &'static str,
    },
}

/// An error or notice of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC`, or a notice's; not translated from Postgres 9.6 on.
    pub severity: String,
    /// Five characters.
    pub sqlstate: String,
    /// The message, in the server's language.
    pub message: String,
    /// More of it.
    pub detail: Option<String>,
    /// What the server advises.
    pub hint: Option<String>,
}

impl std::error::Error for ServerError {}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Postgres: {} {}: {}", self.severity, self.sqlstate, self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, "; {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " (hint: {hint})")?;
        }
        Ok(())
    }
}

impl ServerError {
    /// Reads the fields of an ErrorResponse or NoticeResponse; unknown ones are skipped, as the protocol asks.
    pub(super) fn parse(body: &[u8]) -> Result<Self, SourceError> {
        let mut fields = Fields::new("an error or notice", body);
        let mut error = Self::default();
        loop {
            match fields.byte()? {
                0 => return Ok(error),
                b'S' if error.severity.is_empty() => error.severity = fields.text()?,
                b'V' => error.severity = fields.text()?,
                b'C' => error.sqlstate = fields.text()?,
                b'M' => error.message = fields.text()?,
                b'D' => error.detail = Some(fields.text()?),
                b'H' => error.hint = Some(fields.text()?),
                _ => drop(fields.text()?),
            }
        }
    }

    /// After these the server closes the connection.
    pub(super) fn ends_session(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }
}

impl SourceError {
    /// The server's code, if the server reported this.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.sqlstate),
            _ => None,
        }
    }

    /// Whether to try again.
    pub fn class(&self) -> Class {
        self.judgement().0
    }

    /// What an operator can do about it.
    pub fn advice(&self) -> &'static str {
        self.judgement().1
    }

    fn judgement(&self) -> (Class, &'static str) {
        use Class::{Halt, Retry};
        match self {
            Self::Server(error) => server_judgement(&error.sqlstate),
            Self::Connect { .. } => (Retry, "check that Postgres runs and that host, port and network are right"),
            Self::ConnectTimeout { .. } => (Retry, "check that the host is reachable (firewall) and not overloaded"),
            Self::Lost(_) | Self::Closed | Self::StreamEnded => (Retry, "it is tried again; see Postgres' log for why"),
            Self::WriteTimeout { .. } => (Retry, "it is tried again; the network or the server process hangs"),
            Self::EndCopyTimeout { .. } | Self::Interrupted | Self::StreamedBefore | Self::NotStreaming => {
                (Retry, "nothing: a new connection is opened")
            }
            Self::Tls(TlsError::Handshake(_)) => (Retry, "it is tried again; see Postgres' log for why"),
            Self::Tls(TlsError::File { .. } | TlsError::Content { .. }) => {
                (Halt, "correct the path or the file, and let the user that runs Penstock read it")
            }
            Self::Tls(TlsError::NoSystemRoots) => {
                (Halt, "install the system's root certificates (ca-certificates), or name a file of roots")
            }
            Self::Tls(TlsError::HostName(_)) => (Halt, "connect by host name or address"),
            Self::Tls(TlsError::NotOffered { .. }) => {
                (Halt, "set ssl = on in postgresql.conf; only on a line you trust, set the TLS mode to disable")
            }
            Self::Tls(TlsError::Certificate(_)) => (
                Halt,
                "name the root that signed it as the root certificate, and connect by a name that is among the \
                 certificate's subject alternative names; an expired one must be renewed",
            ),
            Self::Tls(TlsError::Incompatible(_)) => {
                (Halt, "see Postgres' log: a client certificate that it does not accept, or no TLS version in common")
            }
            Self::PasswordMissing => (Halt, "configure the password"),
            Self::PasswordInClear => (Halt, "use scram-sha-256 in pg_hba.conf, or a TLS mode from require up"),
            Self::AuthenticationUnsupported { .. } => {
                (Halt, "use scram-sha-256, cert or (Unix socket) peer for this role in pg_hba.conf")
            }
            Self::ServerUnproven(_) => {
                (Halt, "make sure that this is your server: something on the way may be posing as it")
            }
            Self::ZeroByte { .. } | Self::MessageTooLong { .. } => (Halt, "correct the configuration"),
            Self::FrameTooLarge { .. } => (
                Halt,
                "raise limits.frame_bytes_max above it; Postgres sends excluded columns, too, so excluding one does not help, and a row that was not read cannot become a dead letter",
            ),
            Self::AnswerTooLarge { .. } | Self::Malformed { .. } | Self::Unexpected { .. } => (
                Halt,
                "make sure that host and port are those of a Postgres server, not of a pooler or another service",
            ),
        }
    }
}

/// What the server's codes mean to a bridge. An unlisted one halts: going on without knowing why would be a loop that
/// nobody looks at.
fn server_judgement(sqlstate: &str) -> (Class, &'static str) {
    use Class::{Halt, Retry};
    match sqlstate {
        "57P04" | "3D000" => (Halt, "the database does not exist: correct the database name"),
        "55006" => (
            Retry,
            "another process streams from the slot: this one waits as its standby; stop the other if unintended",
        ),
        "53300" => {
            (Retry, "no connection is free: raise max_connections or max_wal_senders, or the role's connection limit")
        }
        "57014" => (Retry, "somebody cancelled it; it is tried again"),
        code if code.starts_with("57") => {
            (Retry, "Postgres is starting, stopping or was told to disconnect; it is tried again")
        }
        code if code.starts_with("08") || code.starts_with("40") => (Retry, "it is tried again"),
        code if code.starts_with("53") => (Retry, "the server is out of disk, memory or another resource: free some"),
        "28P01" => (Halt, "wrong password, or the role has none or does not exist: correct user and password"),
        code if code.starts_with("28") => {
            (Halt, "pg_hba.conf must let this role, host and database in, and the role must exist with LOGIN")
        }
        "42501" => (Halt, "the role needs REPLICATION (ALTER ROLE … REPLICATION) and SELECT on the captured tables"),
        "42704" => (
            Halt,
            "the slot or the publication does not exist here. A slot that was lost has lost changes: see the manual \
             before creating a new one. A publication created after the slot's position is not seen by it",
        ),
        "55000" => (
            Halt,
            "see the message: wal_level must be logical (and the server restarted), the server must be a primary, and a \
             slot that was invalidated cannot be used again: changes are lost",
        ),
        "58P01" => {
            (Halt, "the WAL that the slot needs is gone: changes are lost; see the manual before creating a new slot")
        }
        code if code.starts_with("58") => (Retry, "the server has trouble with its disk: see its log"),
        _ => (Halt, "see the message and Postgres' log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Class::{Halt, Retry};

    fn server(sqlstate: &str) -> SourceError {
        SourceError::from(Box::new(ServerError { sqlstate: sqlstate.to_owned(), ..ServerError::default() }))
    }

    #[test]
    fn what_waiting_mends_is_retried_and_the_rest_halts() {
        for (sqlstate, expected) in [
            ("57P01", Retry),
            ("57P02", Retry),
            ("57P03", Retry),
            ("55006", Retry),
            ("53300", Retry),
            ("08006", Retry),
            ("58030", Retry),
            ("28P01", Halt),
            ("28000", Halt),
            ("3D000", Halt),
            ("57P04", Halt),
            ("42704", Halt),
            ("42501", Halt),
            ("55000", Halt),
            ("58P01", Halt),
            ("XX000", Halt),
            ("", Halt),
        ] {
            assert_eq!(server(sqlstate).class(), expected, "{sqlstate}");
            assert!(!server(sqlstate).advice().is_empty());
        }
        assert_eq!(SourceError::Closed.class(), Retry);
        assert_eq!(SourceError::PasswordMissing.class(), Halt);
    }

    #[test]
    fn error_fields_are_read_and_unknown_ones_skipped() {
        let body = b"SFEHLER\0VERROR\0C42704\0Mslot\0Ddetail\0Hhint\0Fslot.c\0Z?\0\0";
        let error = ServerError::parse(body).unwrap();
        assert_eq!(error.to_string(), "Postgres: ERROR 42704: slot; detail (hint: hint)");
        assert!(!error.ends_session());
    }

    #[test]
    fn a_cut_error_is_malformed_and_never_a_panic() {
        let body = b"SFATAL\0C57P01\0Mgone\0\0";
        for cut in 0..body.len() {
            assert!(ServerError::parse(&body[..cut]).is_err(), "cut at {cut}");
        }
        assert!(ServerError::parse(body).unwrap().ends_session());
    }

    #[test]
    fn text_in_another_encoding_is_mended() {
        let error = ServerError::parse(b"SFATAL\0C28P01\0M\xe9chou\xe9\0\0").unwrap();
        assert_eq!(error.message, "\u{fffd}chou\u{fffd}");
    }
}
