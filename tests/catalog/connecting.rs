//! Connecting, with what the configuration says and against what it should not accept.

use std::time::Duration;

use penstock::catalog::{Catalog, CatalogError};
use penstock::config::Secret;
use penstock::source::{Class, ConnectOptions};
use penstock::tls::TlsMode;
use penstock_testbed::postgres::Postgres;

use crate::server::database;

async fn error_of(options: ConnectOptions) -> CatalogError {
    let error = Catalog::new(options).connect().await.expect_err("the connection should fail");
    assert!(!format!("{error} {error:?}").contains("penstock-testbed"), "passwords must not be printed");
    error
}

#[tokio::test]
async fn connects_over_tcp_with_and_without_tls() {
    let database = database();
    let authority = Some(database.server.certificates().unwrap().authority.clone());
    for (mode, root, encrypted) in [
        (TlsMode::Disable, None, false),
        (TlsMode::Prefer, None, true),
        (TlsMode::Require, None, true),
        (TlsMode::VerifyCa, authority.clone(), true),
        (TlsMode::VerifyFull, authority, true),
    ] {
        let name = format!("{mode} {}", database.address.database);
        let mut catalog =
            Catalog::new(ConnectOptions { application_name: name.clone(), ..database.over_tcp(mode, root) });
        catalog.connect().await.unwrap();
        let session =
            format!("SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = '{name}'");
        assert_eq!(database.sql(&session), if encrypted { "t" } else { "f" }, "{mode}");
    }
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused_with_the_remedy() {
    let database = database();
    let foreign = database.server.certificates().unwrap().foreign_authority.clone();
    let error = error_of(database.over_tcp(TlsMode::VerifyFull, Some(foreign))).await;
    assert_eq!(error.class(), Class::Halt, "{error:?}");
    assert!(error.advice().contains("root certificate"), "{}", error.advice());
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let database = database();
    let plain = Postgres::builder().start().unwrap();
    let mut options = database.over_tcp(TlsMode::Require, None);
    options.host = penstock::source::Host::Tcp { host: "127.0.0.1".into(), port: plain.address().port };
    let error = error_of(options).await;
    assert_eq!(error.class(), Class::Halt, "{error:?}");
    assert!(error.advice().contains("ssl = on"), "{}", error.advice());
}

#[tokio::test]
async fn wrong_passwords_and_databases_halt_and_absent_servers_are_waited_for() {
    let database = database();
    let tcp = || database.over_tcp(TlsMode::Disable, None);
    let wrong = error_of(ConnectOptions { password: Some(Secret::new("wrong")), ..tcp() }).await;
    assert_eq!((wrong.sqlstate(), wrong.class()), (Some("28P01"), Class::Halt), "{wrong:?}");
    let missing = error_of(ConnectOptions { password: None, ..tcp() }).await;
    assert_eq!(missing.class(), Class::Halt, "{missing:?}");
    assert_eq!(missing.advice(), "configure the password");
    let unknown = error_of(ConnectOptions { database: "nowhere".into(), ..tcp() }).await;
    assert_eq!((unknown.sqlstate(), unknown.class()), (Some("3D000"), Class::Halt), "{unknown:?}");
    let absent = penstock::source::Host::Tcp { host: "127.0.0.1".into(), port: 1 };
    let absent = error_of(ConnectOptions { host: absent, ..tcp() }).await;
    assert_eq!(absent.class(), Class::Retry, "{absent:?}");
}

#[tokio::test]
async fn a_frozen_server_is_given_up_in_time() {
    let server = Postgres::builder().start().unwrap();
    let database = database();
    let mut options = database.over_tcp(TlsMode::Disable, None);
    options.host = penstock::source::Host::Tcp { host: "127.0.0.1".into(), port: server.address().port };
    options.connect_timeout = Duration::from_millis(300);
    server.pause().unwrap();
    let error = error_of(options).await;
    assert_eq!(error.class(), Class::Retry, "{error:?}");
}

#[tokio::test]
async fn a_broken_connection_is_opened_again() {
    let database = database();
    let mut catalog = database.catalog();
    catalog.server_facts().await.unwrap();
    database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'test of %' AND datname = current_database()");
    // Whether the break is noticed before or by the next question is a race that both ways must survive.
    if let Err(error) = catalog.server_facts().await {
        assert_eq!(error.class(), Class::Retry, "{error:?}");
    }
    catalog.server_facts().await.unwrap();
}
