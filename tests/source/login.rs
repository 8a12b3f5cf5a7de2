//! Logging in, by every method, and what stands in its way.

use std::time::{Duration, Instant};

use penstock::config::Secret;
use penstock::source::{Class, Host, SourceError};
use penstock::tls::TlsMode;

use crate::between;
use crate::server::{PASSWORD, shared};
use crate::session::{login, login_error};

#[tokio::test]
async fn every_password_method_logs_in_over_tcp() {
    let server = shared();
    let database = server.database().await;
    for (role, mode) in [
        ("scram_role", TlsMode::Disable),
        ("scram_role", TlsMode::Prefer),
        ("md5_role", TlsMode::Disable),
        ("md5_role", TlsMode::Require),
        ("clear_role", TlsMode::Require),
    ] {
        let options = server.over_tcp(&database.name, role, "127.0.0.1", mode);
        let mut connection = login(&options).await.unwrap();
        assert_eq!(connection.is_encrypted(), mode != TlsMode::Disable, "{role} {mode}");
        let rows = connection.query("SELECT current_user, pg_backend_pid()").await.unwrap();
        let pid = connection.process_id().to_string();
        assert_eq!(rows, [[Some(role.to_owned()), Some(pid)]]);
        connection.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_password_halts_and_names_the_remedy() {
    let server = shared();
    let database = server.database().await;
    for role in ["scram_role", "md5_role"] {
        let mut options = server.over_tcp(&database.name, role, "127.0.0.1", TlsMode::Prefer);
        options.password = Some(Secret::new("wrong"));
        let error = login_error(&options).await;
        assert_eq!(error.sqlstate(), Some("28P01"), "{error}");
        assert_eq!(error.class(), Class::Halt);
        assert!(error.advice().contains("password"));
        options.password = None;
        assert!(matches!(login_error(&options).await, SourceError::PasswordMissing));
    }
}

#[tokio::test]
async fn a_password_is_not_sent_in_clear_text() {
    let server = shared();
    let database = server.database().await;
    let options = server.over_tcp(&database.name, "clear_role", "127.0.0.1", TlsMode::Disable);
    assert!(matches!(login_error(&options).await, SourceError::PasswordInClear));
}

#[tokio::test]
async fn a_unix_socket_logs_in_with_and_without_scram() {
    let server = shared();
    let database = server.database().await;
    login(&server.over_unix(&database.name)).await.unwrap();
    let mut options = server.over_unix(&database.name);
    options.user = "scram_role".into();
    assert!(matches!(login_error(&options).await, SourceError::PasswordMissing));
    options.password = Some(Secret::new(PASSWORD));
    let connection = login(&options).await.unwrap();
    assert!(!connection.is_encrypted());
    assert!(connection.server_version().starts_with(|digit: char| digit.is_ascii_digit()));
}

#[tokio::test]
async fn what_does_not_exist_halts_and_what_is_not_there_yet_is_retried() {
    let server = shared();
    let error = login_error(&server.over_unix("no_such_database")).await;
    assert_eq!((error.sqlstate(), error.class()), (Some("3D000"), Class::Halt));
    let mut options = server.over_unix("postgres");
    options.host = Host::Unix { directory: "/nonexistent".into(), port: 1 };
    let error = login_error(&options).await;
    assert!(matches!(error, SourceError::Connect { .. }), "{error}");
    assert_eq!(error.class(), Class::Retry);
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_in_time() {
    let mut options = shared().over_tcp("postgres", "scram_role", "127.0.0.1", TlsMode::Disable);
    let port = between::scripted(8, b"").await;
    options.host = Host::Tcp { host: "127.0.0.1".into(), port };
    options.connect_timeout = Duration::from_millis(300);
    let before = Instant::now();
    let error = login_error(&options).await;
    assert!(matches!(error, SourceError::ConnectTimeout { .. }), "{error}");
    assert_eq!(error.class(), Class::Retry);
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn garbage_instead_of_a_server_is_an_error() {
    let mut options = shared().over_tcp("postgres", "scram_role", "127.0.0.1", TlsMode::Disable);
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"R\0\0\0\x03",
        b"R\xff\xff\xff\xff",
        b"R\0\0\0\x04",
        b"R\0\0\0\x08\0\0\0\x0b",
        b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0R\0\0\0\x08\0\0\0\0",
        b"R\0\0\0\x08\0\0\0\0D\0\0\0\x04",
    ] {
        let port = between::scripted(8, answer).await;
        options.host = Host::Tcp { host: "127.0.0.1".into(), port };
        let error = login_error(&options).await;
        let expected = matches!(
            error,
            SourceError::Malformed { .. }
                | SourceError::Unexpected { .. }
                | SourceError::FrameTooLarge { .. }
                | SourceError::AuthenticationUnsupported { .. }
                | SourceError::ServerUnproven(_)
        );
        assert!(expected, "{answer:?}: {error:?}");
        assert_eq!(error.class(), Class::Halt);
    }
}

#[tokio::test]
async fn session_settings_are_pinned_against_what_the_role_says() {
    let server = shared();
    let database = server.database().await;
    let role = format!("pinned_{}", database.name);
    let set = [
        "datestyle = 'German'",
        "bytea_output = 'escape'",
        "timezone = 'Asia/Tokyo'",
        "extra_float_digits = 0",
        "intervalstyle = 'iso_8601'",
        // Any locale there may be prints money in its own way; this one is everywhere, and it is not the pinned one.
        "lc_monetary = 'POSIX'",
    ];
    let mut sql = format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{PASSWORD}';");
    for setting in set {
        sql += &format!("ALTER ROLE {role} SET {setting};");
    }
    database.client.batch_execute(&sql).await.unwrap();
    let options = server.over_tcp(&database.name, &role, "127.0.0.1", TlsMode::Disable);
    let mut connection = login(&options).await.unwrap();
    let values = "SELECT 'infinity'::date, '2020-02-03 00:00+00'::timestamptz, '\\x01ff'::bytea, 0.1::float8 + 0.2, interval '1 day 2 hours', \
                  1234.5::money, current_setting('lc_monetary')";
    let row = connection.query(values).await.unwrap().remove(0);
    let printed: Vec<&str> = row.iter().map(|value| value.as_deref().unwrap()).collect();
    let pinned =
        ["infinity", "2020-02-03 00:00:00+00", "\\x01ff", "0.30000000000000004", "1 day 02:00:00", "$1,234.50", "C"];
    assert_eq!(printed, pinned);
    drop(connection);
    database.client.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
}
