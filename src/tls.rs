//! TLS to Postgres: which checks, which roots, and the channel binding that SCRAM needs.
//!
//! Invariants: where roots are named the certificate is checked against them, whatever the mode; only `prefer` may end
//! up without TLS, and only because the server offers none; nobody falls back from a failed handshake to plain text.
//! Files are read at each connection, so that a certificate can be exchanged while the bridge runs.
//! There is no revocation check. A certificate must carry its names as subject alternative names: common names are not
//! looked at.

mod certificate;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig};

use certificate::Verifier;
pub use certificate::end_point_binding;

/// How much is asked of the server; the names are those of libpq's `sslmode` (`allow` is left out on purpose).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// Plain text.
    Disable,
    /// TLS if the server offers it, unchecked; else plain text.
    Prefer,
    /// TLS; the certificate is checked only if roots are named.
    Require,
    /// TLS with a certificate that a trusted root has signed, for whichever host.
    VerifyCa,
    /// TLS with a certificate that a trusted root has signed for this host.
    VerifyFull,
}

/// What to do about TLS. The default asks for `verify-full` against the system's roots, except to this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// What was chosen; `None` decides by host, see [`TlsOptions::mode_for`].
    pub mode: Option<TlsMode>,
    /// PEM file of the roots to trust instead of the system's. May hold the server's own self-signed certificate.
    pub root_certificates: Option<PathBuf>,
    /// What we prove ourselves with, for `cert` in `pg_hba.conf`.
    pub client: Option<ClientIdentity>,
}

/// PEM files of a client certificate (chain) and its unencrypted key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// What went wrong before anything was sent over TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that the configuration names can't be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no usable {expected} in PEM form", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// No roots are named and the system has none.
    #[error("the system has no root certificates to check the server's with")]
    NoSystemRoots,
    /// Certificates are issued for host names and addresses, and this is neither.
    #[error("{0:?} is no host name that a certificate could be issued for")]
    HostName(String),
    /// The server has no TLS and the mode asks for it.
    #[error("the server does not offer TLS, and the TLS mode {mode} asks for it")]
    NotOffered {
        /// The mode.
        mode: TlsMode,
    },
    /// The server's certificate failed the check.
    #[error("the server's certificate is not trusted: {0}")]
    Certificate(CertificateError),
    /// Our own certificate and key can't be used, or the server refused what we offered.
    #[error("the two sides cannot agree on TLS")]
    Incompatible(#[source] rustls::Error),
    /// The handshake broke off.
    #[error("the TLS handshake broke off")]
    Handshake(#[source] io::Error),
}

/// The text is none of the modes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no TLS mode; there are disable, prefer, require, verify-ca and verify-full")]
pub struct UnknownTlsMode(pub String);

impl TlsMode {
    const NAMES: [(&'static str, Self); 5] = [
        ("disable", Self::Disable),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, mode)| mode == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for TlsMode {
    type Err = UnknownTlsMode;

    fn from_str(text: &str) -> Result<Self, UnknownTlsMode> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, mode)| *mode).ok_or_else(|| UnknownTlsMode(text.to_owned()))
    }
}

impl TlsOptions {
    /// The mode for a TCP connection to `host`: what was chosen; else `verify-full`, except that this machine is not
    /// expected to have a certificate unless roots are named.
    pub fn mode_for(&self, host: &str) -> TlsMode {
        let fallback = match (is_this_machine(host), &self.root_certificates) {
            (true, None) => TlsMode::Prefer,
            (true, Some(_)) | (false, _) => TlsMode::VerifyFull,
        };
        self.mode.unwrap_or(fallback)
    }

    /// The rustls configuration for `mode`; also for other clients of the same server.
    pub fn client_config(&self, mode: TlsMode) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(self, mode, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Incompatible)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let Some(client) = &self.client else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = read_certificates(&client.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&client.key)?)
            .map_err(|_| TlsError::Content { path: client.key.clone(), expected: "unencrypted private key" })?;
        builder.with_client_auth_cert(chain, key).map_err(TlsError::Incompatible)
    }

    /// Does the handshake with `host` on a socket on which the server has just agreed to TLS.
    pub async fn handshake(
        &self,
        socket: TcpStream,
        host: &str,
        mode: TlsMode,
    ) -> Result<TlsStream<TcpStream>, TlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::HostName(host.to_owned()))?;
        let connector = TlsConnector::from(Arc::new(self.client_config(mode)?));
        connector.connect(name, socket).await.map_err(handshake_error)
    }
}

fn is_this_machine(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn handshake_error(error: io::Error) -> TlsError {
    rustls_error(&error).and_then(refusal_of).unwrap_or(TlsError::Handshake(error))
}

/// What trying again does not mend.
fn refusal_of(error: &rustls::Error) -> Option<TlsError> {
    match error {
        rustls::Error::InvalidCertificate(reason) => Some(TlsError::Certificate(reason.clone())),
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::NoCertificatesPresented
        | rustls::Error::AlertReceived(_) => Some(TlsError::Incompatible(error.clone())),
        _ => None,
    }
}

/// The server's refusal to go on, if that is what broke a read. Under TLS 1.3 it looks at our certificate when the
/// handshake is already over for us, so that its alert comes as the answer to the first message.
pub fn refusal(error: &io::Error) -> Option<TlsError> {
    match rustls_error(error) {
        Some(reason @ rustls::Error::AlertReceived(_)) => Some(TlsError::Incompatible(reason.clone())),
        Some(_) | None => None,
    }
}

/// The refusal that made a request of another client fail, wherever it stands in the chain of causes. `None` if TLS is
/// not to blame, or broke off in a way that can pass.
pub fn refusal_behind(error: &(dyn std::error::Error + 'static)) -> Option<TlsError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return refusal_of(error);
        }
        cause = match error.downcast_ref::<io::Error>() {
            // What it holds is not its source: that is the source of what it holds.
            Some(error) => error.get_ref().map(|held| held as _),
            None => error.source(),
        };
    }
    None
}

/// Rustls hides its error inside the `io::Error` of the stream.
fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = || TlsError::Content { path: path.to_owned(), expected: "certificate" };
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<_, _>>().map_err(|_| content())?;
    if certificates.is_empty() {
        return Err(content());
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(mode: Option<TlsMode>, roots: bool) -> TlsOptions {
        TlsOptions { mode, root_certificates: roots.then(|| PathBuf::from("roots.pem")), client: None }
    }

    #[test]
    fn only_this_machine_is_spoken_to_without_a_checked_certificate() {
        for (host, expected) in [
            ("db.example.com", TlsMode::VerifyFull),
            ("10.0.0.7", TlsMode::VerifyFull),
            ("localhost.example.com", TlsMode::VerifyFull),
            ("localhost", TlsMode::Prefer),
            ("LocalHost", TlsMode::Prefer),
            ("127.0.0.1", TlsMode::Prefer),
            ("127.9.9.9", TlsMode::Prefer),
            ("::1", TlsMode::Prefer),
        ] {
            assert_eq!(options(None, false).mode_for(host), expected, "{host}");
            assert_eq!(options(None, true).mode_for(host), TlsMode::VerifyFull, "{host}");
            let chosen = options(Some(TlsMode::Require), true);
            assert_eq!(chosen.mode_for(host), TlsMode::Require, "{host}");
        }
    }

    #[test]
    fn modes_are_read_as_they_are_printed() {
        for (name, mode) in TlsMode::NAMES {
            assert_eq!(name.parse(), Ok(mode));
            assert_eq!(mode.to_string(), name);
        }
        assert_eq!("allow".parse::<TlsMode>(), Err(UnknownTlsMode("allow".into())));
    }

    #[test]
    fn a_file_without_certificates_is_named_in_the_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("roots.pem");
        let options = TlsOptions { root_certificates: Some(path.clone()), ..TlsOptions::default() };
        let error = options.client_config(TlsMode::VerifyFull).unwrap_err();
        assert!(matches!(error, TlsError::File { .. }), "{error}");
        std::fs::write(&path, "not a certificate").unwrap();
        let error = options.client_config(TlsMode::VerifyFull).unwrap_err();
        assert!(error.to_string().contains("roots.pem holds no usable certificate"), "{error}");
    }
}
