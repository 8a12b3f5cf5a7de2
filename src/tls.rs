//! TLS to Postgres: which checks, which roots, and the channel binding that SCRAM needs.
//!
//! Invariants: where roots are named the certificate is checked against them, whatever the mode; only `prefer` may end
//! up without TLS, and only because the server offers none; nobody falls back from a failed handshake to plain text.
//! Files are read at each connection, so that a certificate can be exchanged while the bridge runs.
//! There is no revocation check. A certificate must carry its names as subject alternative names: common names are not
//! looked at.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use x509_cert::der::Decode;
use x509_cert::der::oid::db::rfc5912;

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

/// The `tls-server-end-point` channel binding: the certificate's hash, by the algorithm of its signature (RFC 5929).
/// `None` where that does not define one (Ed25519, RSA-PSS).
pub fn end_point_binding(certificate: &[u8]) -> Option<Vec<u8>> {
    let parsed = x509_cert::Certificate::from_der(certificate).ok()?;
    match parsed.signature_algorithm.oid {
        rfc5912::MD_5_WITH_RSA_ENCRYPTION
        | rfc5912::SHA_1_WITH_RSA_ENCRYPTION
        | rfc5912::SHA_256_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_256 => Some(Sha256::digest(certificate).to_vec()),
        rfc5912::SHA_384_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_384 => {
            Some(Sha384::digest(certificate).to_vec())
        }
        rfc5912::SHA_512_WITH_RSA_ENCRYPTION | rfc5912::ECDSA_WITH_SHA_512 => {
            Some(Sha512::digest(certificate).to_vec())
        }
        _ => None,
    }
}

fn is_this_machine(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn handshake_error(error: io::Error) -> TlsError {
    match rustls_error(&error) {
        Some(rustls::Error::InvalidCertificate(reason)) => TlsError::Certificate(reason.clone()),
        Some(reason @ (rustls::Error::PeerIncompatible(_) | rustls::Error::NoCertificatesPresented)) => {
            TlsError::Incompatible(reason.clone())
        }
        Some(_) | None => refusal(&error).unwrap_or(TlsError::Handshake(error)),
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

/// The check of the server's certificate that a mode asks for.
#[derive(Debug)]
struct Verifier {
    /// `None`: any certificate will do.
    trust: Option<Trust>,
    check_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
struct Trust {
    roots: RootCertStore,
    /// The certificates of the roots file. One that the server shows itself is trusted as it is: the self-signed
    /// certificate of Postgres' own manual is a root and a server's at once, which a chain check refuses.
    pinned: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(options: &TlsOptions, mode: TlsMode, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let trust = match (&options.root_certificates, mode) {
            (Some(path), _) => Some(Trust::of_file(path)?),
            (None, TlsMode::VerifyCa | TlsMode::VerifyFull) => Some(Trust::of_system()?),
            (None, TlsMode::Disable | TlsMode::Prefer | TlsMode::Require) => None,
        };
        Ok(Self {
            trust,
            check_name: mode == TlsMode::VerifyFull,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl Trust {
    fn of_file(path: &Path) -> Result<Self, TlsError> {
        let pinned = read_certificates(path)?;
        let mut roots = RootCertStore::empty();
        for certificate in &pinned {
            roots
                .add(certificate.clone())
                .map_err(|_| TlsError::Content { path: path.to_owned(), expected: "certificate" })?;
        }
        Ok(Self { roots, pinned })
    }

    fn of_system() -> Result<Self, TlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // System stores hold a few certificates that are too odd to parse: those are simply not trusted.
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            return Err(TlsError::NoSystemRoots);
        }
        Ok(Self { roots, pinned: Vec::new() })
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<(), rustls::Error> {
        if self.pinned.iter().any(|pinned| pinned == certificate) {
            return check_validity(certificate, now);
        }
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms.all)
    }
}

fn check_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let parsed = x509_cert::Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let validity = parsed.tbs_certificate.validity;
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(trust) = &self.trust {
            trust.check(end_entity, intermediates, now, self.algorithms)?;
        }
        if self.check_name {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// For `localhost`, P-256, signed by itself with SHA-384, valid for ten days from `VALID_FROM`.
    const SELF_SIGNED: &str = "-----BEGIN CERTIFICATE-----
MIIBkjCCATmgAwIBAgIULpABzU5+nHYF2OFUn9i8Cl+LtJgwCgYIKoZIzj0EAwMw
FDESMBAGA1UEAwwJbG9jYWxob3N0MB4XDTI2MTEyMzIwNDYzMloXDTI2MTIwMzIw
NDYzMlowFDESMBAGA1UEAwwJbG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEMZ84f/f9/QXx9XCcvzPsmFaml9f71Rj6Z3mqGpe1yUgYlPZy1zDAK5K3
Gt8sWqowvUQXcEAtLTthT7HfyZvMRaNpMGcwHQYDVR0OBBYEFLbFey231Xxk6nw+
1ocM3+ktSeRfMB8GA1UdIwQYMBaAFLbFey231Xxk6nw+1ocM3+ktSeRfMA8GA1Ud
EwEB/wQFMAMBAf8wFAYDVR0RBA0wC4IJbG9jYWxob3N0MAoGCCqGSM49BAMDA0cA
MEQCIGT3BikRqWBDpQfX+0d2cjlKVto3GbLO0MQDNNfmwYbEAiBdfq/Kn+ySoGqX
hM9GJGAKx1vN4GUZ0Xgxw3JYWr3oig==
-----END CERTIFICATE-----";

    const VALID_FROM: u64 = 1_795_466_792;
    const VALID_FOR: u64 = 10 * 24 * 60 * 60;

    /// The same with Ed25519.
    const ED25519: &str = "-----BEGIN CERTIFICATE-----
MIIBPDCB76ADAgECAhQu+cgkf5xgFz//wvObpN8WqIDc+zAFBgMrZXAwFDESMBAG
A1UEAwwJbG9jYWxob3N0MB4XDTI2MTEyMzIwNDYzMloXDTI2MTIwMzIwNDYzMlow
FDESMBAGA1UEAwwJbG9jYWxob3N0MCowBQYDK2VwAyEAtje1bryWEPlsZh6UGKSN
bItp7hZ0DsDf2SjPEEX7qlOjUzBRMB0GA1UdDgQWBBR6fkiqVmXOld0oNsdJaQ8i
3OP5iTAfBgNVHSMEGDAWgBR6fkiqVmXOld0oNsdJaQ8i3OP5iTAPBgNVHRMBAf8E
BTADAQH/MAUGAytlcANBAN6CuU7ugsBf8HlSm6pd1N3K3VyxW4qBNvDRyuvbhOpe
pk7WgWjIJ/0R9KPN6f/iUDYbazCbtEk0ehrNlhMQ/wU=
-----END CERTIFICATE-----";

    fn certificate(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[test]
    fn the_channel_binding_is_the_hash_that_the_signature_uses() {
        // openssl x509 -noout -fingerprint -sha384
        let fingerprint =
            "7aa3a8689816ed82f1188be5305af1fe0dc28c98fb0b87bad2a479d9abb4ba67abddca3d4efe3833d886afdebd6eebb9";
        let binding = end_point_binding(&certificate(SELF_SIGNED)).unwrap();
        let hex: String = binding.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, fingerprint);
        assert_eq!(end_point_binding(&certificate(ED25519)), None);
    }

    #[test]
    fn a_certificate_named_itself_is_trusted_while_it_is_valid_and_for_its_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("roots.pem");
        std::fs::write(&path, SELF_SIGNED).unwrap();
        let options = TlsOptions { root_certificates: Some(path), ..TlsOptions::default() };
        let verifier = Verifier::new(&options, TlsMode::VerifyFull, &ring::default_provider()).unwrap();
        let check = |pem: &str, host: &'static str, seconds: u64| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            let name = ServerName::try_from(host).unwrap();
            verifier.verify_server_cert(&certificate(pem), &[], &name, &[], now).map(drop)
        };
        for (seconds, expected) in [
            (VALID_FROM, None),
            (VALID_FROM + VALID_FOR, None),
            (VALID_FROM - 1, Some(CertificateError::NotValidYet)),
            (VALID_FROM + VALID_FOR + 1, Some(CertificateError::Expired)),
        ] {
            let refused = check(SELF_SIGNED, "localhost", seconds).err();
            assert_eq!(refused, expected.map(rustls::Error::InvalidCertificate), "{seconds}");
        }
        assert!(check(SELF_SIGNED, "db.example.com", VALID_FROM).is_err());
        assert!(check(ED25519, "localhost", VALID_FROM).is_err());
    }

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

    #[test]
    fn garbage_has_no_channel_binding() {
        assert_eq!(end_point_binding(b""), None);
        assert_eq!(end_point_binding(b"\x30\x03garbage"), None);
    }
}
