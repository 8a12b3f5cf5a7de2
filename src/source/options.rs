//! Where to connect, as whom, and what every session of ours sets.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::SourceError;
use crate::config::Secret;
use crate::tls::TlsOptions;

/// Settings that decide how values are printed, pinned at the start of every session: whatever a role, a database or
/// the server's configuration say, the same WAL must give the same bytes. Logical decoding prints values with the
/// settings of the walsender's session (money by `lc_monetary`), and a backfill must print them alike.
pub(crate) const VALUE_SETTINGS: [(&str, &str); 7] = [
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("extra_float_digits", "3"),
    ("timezone", "UTC"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("search_path", "pg_catalog"),
];

/// What else a replication connection sets. `idle_session_timeout` would end the wait of a standby.
const REPLICATION_SETTINGS: [(&str, &str); 2] = [("statement_timeout", "0"), ("idle_session_timeout", "0")];

/// Settings as the startup parameter `options` takes them, those of [`VALUE_SETTINGS`] first.
pub(crate) fn startup_options(settings: &[(&str, &str)]) -> String {
    let all = VALUE_SETTINGS.iter().chain(settings);
    all.map(|(name, value)| format!("-c {name}={value}")).collect::<Vec<_>>().join(" ")
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A host name or address.
    Tcp {
        /// Without brackets around an IPv6 address.
        host: String,
        /// Usually 5432.
        port: u16,
    },
    /// A Unix socket, always without TLS: it does not leave the machine.
    Unix {
        /// The folder that holds `.s.PGSQL.<port>`.
        directory: PathBuf,
        /// Part of the socket's name.
        port: u16,
    },
}

/// All that is needed to open a session.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Where.
    pub host: Host,
    /// The role: with REPLICATION, or a superuser.
    pub user: String,
    /// For SCRAM, md5, and clear text over TLS.
    pub password: Option<Secret>,
    /// The database whose changes are decoded.
    pub database: String,
    /// Shown in `pg_stat_replication`.
    pub application_name: String,
    /// Used for TCP only.
    pub tls: TlsOptions,
    /// For everything from name resolution to the server's readiness.
    pub connect_timeout: Duration,
}

impl Host {
    /// The socket's path, for `Unix`.
    pub(super) fn socket_path(directory: &std::path::Path, port: u16) -> PathBuf {
        directory.join(format!(".s.PGSQL.{port}"))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { directory, port } => {
                write!(f, "{}", Self::socket_path(directory, *port).display())
            }
        }
    }
}

impl ConnectOptions {
    /// Name and value of everything the startup message says.
    pub(super) fn startup_parameters(&self) -> Result<Vec<(&'static str, String)>, SourceError> {
        let parameters = vec![
            ("user", self.user.clone()),
            ("database", self.database.clone()),
            ("replication", "database".to_owned()),
            ("application_name", self.application_name.clone()),
            ("client_encoding", "UTF8".to_owned()),
            ("options", startup_options(&REPLICATION_SETTINGS)),
        ];
        for (name, value) in &parameters {
            if value.contains('\0') {
                return Err(SourceError::ZeroByte { in_what: name });
            }
        }
        Ok(parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ConnectOptions {
        ConnectOptions {
            host: Host::Tcp { host: "db".into(), port: 5432 },
            user: "bridge".into(),
            password: Some(Secret::new("hunter2")),
            database: "app".into(),
            application_name: "penstock".into(),
            tls: TlsOptions::default(),
            connect_timeout: Duration::from_secs(10),
        }
    }

    #[test]
    fn the_password_is_not_printed() {
        assert!(!format!("{:?}", options()).contains("hunter2"));
    }

    #[test]
    fn hosts_are_printed_as_people_write_them() {
        for (host, expected) in [
            (Host::Tcp { host: "db".into(), port: 1 }, "db:1"),
            (Host::Tcp { host: "::1".into(), port: 1 }, "[::1]:1"),
            (Host::Unix { directory: "/run/postgresql".into(), port: 5432 }, "/run/postgresql/.s.PGSQL.5432"),
        ] {
            assert_eq!(host.to_string(), expected);
        }
    }

    #[test]
    fn a_zero_byte_cannot_end_a_parameter_early() {
        let smuggled = ConnectOptions { application_name: "x\0replication\0false".into(), ..options() };
        assert!(matches!(smuggled.startup_parameters(), Err(SourceError::ZeroByte { in_what: "application_name" })));
        assert!(options().startup_parameters().is_ok());
    }
}
