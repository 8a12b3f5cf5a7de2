//! The server's certificate: whether it is trusted, and what binds a login to it.
//!
//! Invariants: a chain is checked against the roots named, and nothing but them; a certificate that is itself among them
//! needs no chain. Validity and names are always checked where the mode asks for a check.

use std::path::Path;

use sha2::{Digest, Sha256, Sha384, Sha512};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{self, CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_cert::der::Decode;
use x509_cert::der::oid::db::rfc5912;

use super::{TlsError, TlsMode, TlsOptions, read_certificates};

/// The check of the server's certificate that a mode asks for.
#[derive(Debug)]
pub(super) struct Verifier {
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
    pub(super) fn new(options: &TlsOptions, mode: TlsMode, provider: &CryptoProvider) -> Result<Self, TlsError> {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject;

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

    #[test]
    fn garbage_has_no_channel_binding() {
        assert_eq!(end_point_binding(b""), None);
        assert_eq!(end_point_binding(b"\x30\x03garbage"), None);
    }
}
