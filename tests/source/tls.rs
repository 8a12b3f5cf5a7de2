//! TLS. The server's certificate names `localhost` and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use penstock::source::{Class, Host, SourceError};
use penstock::tls::{ClientIdentity, TlsError, TlsMode};
use tokio_rustls::rustls::CertificateError;

use crate::between;
use crate::server::shared;
use crate::session::{login, login_error};

#[tokio::test]
async fn verify_full_accepts_the_right_name_under_the_right_root() {
    let server = shared();
    let database = server.database().await;
    let mut options = server.over_tcp(&database.name, "scram_role", "localhost", TlsMode::VerifyFull);
    options.tls.root_certificates = Some(server.certificates().authority.clone());
    let connection = login(&options).await.unwrap();
    assert!(connection.is_encrypted());
    options.tls.mode = None;
    assert!(login(&options).await.unwrap().is_encrypted());
}

#[tokio::test]
async fn each_mode_refuses_what_it_should() {
    use CertificateError::UnknownIssuer;
    let server = shared();
    let database = server.database().await;
    let check = async |host: &str, mode: TlsMode, root: Option<&PathBuf>| {
        let mut options = server.over_tcp(&database.name, "scram_role", host, mode);
        options.tls.root_certificates = root.cloned();
        match login(&options).await {
            Ok(connection) => Ok(connection.is_encrypted()),
            Err(SourceError::Tls(TlsError::Certificate(reason))) => Err(reason),
            Err(error) => panic!("{error:?}"),
        }
    };
    let own = Some(&server.certificates().authority);
    let other = Some(&server.certificates().foreign_authority);
    assert_eq!(check("127.0.0.1", TlsMode::Require, None).await, Ok(true));
    assert_eq!(check("127.0.0.1", TlsMode::VerifyCa, own).await, Ok(true));
    assert_eq!(check("localhost", TlsMode::VerifyFull, own).await, Ok(true));
    // The system's roots have not signed it.
    assert_eq!(check("localhost", TlsMode::VerifyFull, None).await, Err(UnknownIssuer));
    assert_eq!(check("localhost", TlsMode::VerifyCa, None).await, Err(UnknownIssuer));
    // Another root has not signed it; naming one asks for the check in any mode.
    for mode in [TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        let refused = check("localhost", mode, other).await;
        assert!(matches!(refused, Err(UnknownIssuer | CertificateError::BadSignature)), "{mode}: {refused:?}");
    }
    let wrong_name = check("127.0.0.1", TlsMode::VerifyFull, own).await;
    assert!(matches!(wrong_name, Err(CertificateError::NotValidForNameContext { .. })), "{wrong_name:?}");
}

#[tokio::test]
async fn an_untrusted_certificate_halts_with_its_remedy() {
    let server = shared();
    let options = server.over_tcp("postgres", "scram_role", "localhost", TlsMode::VerifyFull);
    let error = login_error(&options).await;
    assert_eq!(error.class(), Class::Halt);
    assert!(error.advice().contains("root certificate"));
}

#[tokio::test]
async fn scram_is_bound_to_the_channel_so_that_a_man_in_the_middle_is_refused() {
    let server = shared();
    let database = server.database().await;
    let (certificate, key) = server.signed("impostor");
    let port = between::man_in_the_middle(server.port(), &certificate, &key).await;
    let mut options = server.over_tcp(&database.name, "scram_role", "localhost", TlsMode::VerifyFull);
    options.tls.root_certificates = Some(server.certificates().authority.clone());
    options.host = Host::Tcp { host: "localhost".into(), port };
    let error = login_error(&options).await;
    assert!(error.to_string().contains("channel binding"), "{error}");
}

#[tokio::test]
async fn a_man_in_the_middle_gets_through_where_nothing_binds() {
    // Shows that it is the binding that stops him above, and not a fault of his.
    let server = shared();
    let database = server.database().await;
    let (certificate, key) = server.signed("impostor");
    let port = between::man_in_the_middle(server.port(), &certificate, &key).await;
    let mut options = server.over_tcp(&database.name, "md5_role", "localhost", TlsMode::VerifyFull);
    options.tls.root_certificates = Some(server.certificates().authority.clone());
    options.host = Host::Tcp { host: "localhost".into(), port };
    login(&options).await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_logs_in() {
    let server = shared();
    let database = server.database().await;
    let mut options = server.over_tcp(&database.name, "cert_role", "localhost", TlsMode::VerifyFull);
    options.password = None;
    options.tls.root_certificates = Some(server.certificates().authority.clone());
    let error = login_error(&options).await;
    assert_eq!((error.sqlstate(), error.class()), (Some("28000"), Class::Halt), "{error}");
    let (certificate, key) = server.signed("client");
    options.tls.client = Some(ClientIdentity { certificate, key });
    login(&options).await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_that_the_server_does_not_trust_halts() {
    let server = shared();
    let mut options = server.over_tcp("postgres", "cert_role", "localhost", TlsMode::VerifyFull);
    options.tls.root_certificates = Some(server.certificates().authority.clone());
    let certificate = server.certificates().foreign_authority.clone();
    let key = certificate.with_extension("key");
    options.tls.client = Some(ClientIdentity { certificate, key });
    let error = login_error(&options).await;
    assert!(matches!(error, SourceError::Tls(TlsError::Incompatible(_))), "{error:?}");
    assert_eq!(error.class(), Class::Halt);
}

#[tokio::test]
async fn a_server_without_tls_is_refused_unless_tls_is_only_preferred() {
    let mut options = shared().over_tcp("postgres", "scram_role", "127.0.0.1", TlsMode::Require);
    let port = between::scripted(8, b"N").await;
    options.host = Host::Tcp { host: "127.0.0.1".into(), port };
    options.connect_timeout = Duration::from_millis(500);
    for mode in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        options.tls.mode = Some(mode);
        let error = login_error(&options).await;
        assert!(matches!(error, SourceError::Tls(TlsError::NotOffered { .. })), "{error}");
        assert_eq!(error.class(), Class::Halt);
    }
    options.tls.mode = Some(TlsMode::Prefer);
    assert!(matches!(login_error(&options).await, SourceError::ConnectTimeout { .. }));
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_where_it_is_named_itself() {
    let server = shared();
    let certificates = server.certificates();
    let address = between::tls_server(&certificates.authority, &certificates.authority.with_extension("key")).await;
    for (root, trusted) in [(&certificates.authority, true), (&certificates.foreign_authority, false)] {
        let mut tls = server.over_unix("postgres").tls;
        tls.root_certificates = Some(root.clone());
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let result = tls.handshake(socket, "localhost", TlsMode::VerifyCa).await;
        assert_eq!(result.is_ok(), trusted, "{result:?}");
    }
}
