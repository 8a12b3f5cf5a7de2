//! The replication client against a real Postgres: logging in, TLS, streaming, acknowledging, and everything in between
//! that can go wrong.

#[path = "source/between.rs"]
mod between;
#[path = "source/server.rs"]
mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock::config::Secret;
use penstock::source::{
    Class, ConnectOptions, Connection, Frame, Host, SourceError, StatusUpdate, TimelineSwitch, publication_names,
};
use penstock::tls::{ClientIdentity, TlsError, TlsMode};
use penstock_testbed::postgres::{Postgres, Stop};
use penstock_wire::lsn::{EndLsn, Lsn};
use server::{Database, PASSWORD, Server, shared};
use tokio::time::timeout;
use tokio_rustls::rustls::CertificateError;

/// Largest frame in these tests, unless the test is about that.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

// Logging in.

async fn login(options: &ConnectOptions) -> Result<Connection, SourceError> {
    Connection::connect(options).await
}

async fn login_error(options: &ConnectOptions) -> SourceError {
    let error = login(options).await.expect_err("the login should fail");
    assert!(!format!("{error} {error:?}").contains(PASSWORD));
    error
}

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
    ];
    let mut sql = format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{PASSWORD}';");
    for setting in set {
        sql += &format!("ALTER ROLE {role} SET {setting};");
    }
    database.client.batch_execute(&sql).await.unwrap();
    let options = server.over_tcp(&database.name, &role, "127.0.0.1", TlsMode::Disable);
    let mut connection = login(&options).await.unwrap();
    let values = "SELECT 'infinity'::date, '2020-02-03 00:00+00'::timestamptz, '\\x01ff'::bytea, 0.1::float8 + 0.2, interval '1 day 2 hours'";
    let row = connection.query(values).await.unwrap().remove(0);
    let printed: Vec<&str> = row.iter().map(|value| value.as_deref().unwrap()).collect();
    assert_eq!(printed, ["infinity", "2020-02-03 00:00:00+00", "\\x01ff", "0.30000000000000004", "1 day 02:00:00"]);
    drop(connection);
    database.client.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
}

// TLS. The server's certificate names `localhost` and nothing else.

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

// Commands.

#[tokio::test]
async fn identify_system_tells_what_sql_tells() {
    let server = shared();
    let database = server.database().await;
    let mut connection = login(&server.over_unix(&database.name)).await.unwrap();
    let identity = connection.identify_system().await.unwrap();
    let query = "SELECT system_identifier::text, timeline_id FROM pg_control_system(), pg_control_checkpoint()";
    let row = database.client.query_one(query, &[]).await.unwrap();
    assert_eq!(identity.system_identifier.to_string(), row.get::<_, String>(0));
    assert_eq!(i64::from(identity.timeline), i64::from(row.get::<_, i32>(1)));
    assert_eq!(identity.database.as_deref(), Some(database.name.as_str()));
    assert!(identity.flushed > Lsn(0));
    assert_eq!(connection.timeline_history(identity.timeline).await.unwrap(), []);
}

#[tokio::test]
async fn a_failed_query_leaves_the_connection_usable_and_an_abandoned_one_does_not() {
    let server = shared();
    let mut connection = login(&server.over_unix("postgres")).await.unwrap();
    let error = connection.query("SELECT 1/0").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("22012"));
    let rows = connection.query("SELECT 1; SELECT NULL, 'x'").await.unwrap();
    assert_eq!(rows, [vec![Some("1".to_owned())], vec![None, Some("x".to_owned())]]);
    let abandoned = timeout(Duration::from_millis(20), connection.query("SELECT pg_sleep(60)")).await;
    assert!(abandoned.is_err());
    assert!(!connection.is_ready());
    let error = connection.query("SELECT 1").await.unwrap_err();
    assert!(matches!(error, SourceError::Interrupted), "{error}");
    assert_eq!(error.class(), Class::Retry);
}

#[tokio::test]
async fn an_answer_without_end_is_refused() {
    let server = shared();
    let mut connection = login(&server.over_unix("postgres")).await.unwrap();
    let query = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
    let error = connection.query(query).await.unwrap_err();
    assert!(matches!(error, SourceError::AnswerTooLarge { .. }), "{error}");
    assert!(!connection.is_ready());
}

// Streaming.

/// A transaction as it came: how many rows, and what covers it.
#[derive(Debug, PartialEq, Eq)]
struct Received {
    inserts: Vec<Vec<u8>>,
    end: EndLsn,
}

async fn start(connection: &mut Connection, slot: &str) -> Result<(), SourceError> {
    let publications = publication_names(["items"]);
    let options = [("proto_version", "1"), ("publication_names", publications.as_str())];
    connection.start_replication(slot, Lsn(0), &options).await
}

async fn streaming(options: &ConnectOptions, slot: &str) -> Connection {
    let mut connection = login(options).await.unwrap();
    // The walsender of a test before may still be letting go of the slot.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match start(&mut connection, slot).await {
            Ok(()) => return connection,
            Err(error) if error.sqlstate() == Some("55006") && Instant::now() < deadline => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Collects what is in the buffer.
fn take(connection: &mut Connection, open: &mut Vec<Vec<u8>>, done: &mut Vec<Received>) -> Result<(), SourceError> {
    while let Some(frame) = connection.next_frame()? {
        let Frame::XLogData { payload, .. } = frame else {
            continue;
        };
        match payload[0] {
            b'I' => open.push(payload.to_vec()),
            b'C' => {
                let end = u64::from_be_bytes(payload[10..18].try_into().unwrap());
                done.push(Received { inserts: std::mem::take(open), end: EndLsn::new(end) });
            }
            _ => {}
        }
    }
    Ok(())
}

async fn receive(connection: &mut Connection, transactions: usize) -> Vec<Received> {
    let (mut open, mut done) = (Vec::new(), Vec::new());
    while done.len() < transactions {
        timeout(PATIENCE, connection.fill(FRAME_BYTES_MAX)).await.expect("bytes in time").unwrap();
        take(connection, &mut open, &mut done).unwrap();
    }
    done
}

async fn next_keepalive(connection: &mut Connection) -> Result<(EndLsn, i64, bool), SourceError> {
    loop {
        while let Some(frame) = connection.next_frame()? {
            if let Frame::Keepalive { wal_end, sent_at_us, reply_requested } = frame {
                return Ok((wal_end, sent_at_us, reply_requested));
            }
        }
        timeout(PATIENCE, connection.fill(FRAME_BYTES_MAX)).await.expect("bytes in time")?;
    }
}

async fn insert(database: &Database, ids: impl IntoIterator<Item = i32>) {
    for id in ids {
        let text = format!("row {id}");
        let sql = "INSERT INTO item VALUES ($1, $2)";
        database.client.execute(sql, &[&id, &text]).await.unwrap();
    }
}

fn contains(row: &[u8], text: &str) -> bool {
    row.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn transactions_stream_and_come_again_until_acknowledged() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    insert(&database, 1..=3).await;
    let received = receive(&mut connection, 3).await;
    for (transaction, id) in received.iter().zip(1..) {
        assert_eq!(transaction.inserts.len(), 1);
        assert!(contains(&transaction.inserts[0], &format!("row {id}")));
    }
    assert!(received.windows(2).all(|pair| pair[0].end < pair[1].end));

    // Only the first is acknowledged; the other two come again.
    let status = StatusUpdate::durable(received[0].end);
    connection.end_copy(status, 0, PATIENCE).await.unwrap();
    assert!(connection.is_ready());
    assert_eq!(database.confirmed().await, received[0].end.raw());
    assert_eq!(connection.query("SELECT 1").await.unwrap(), [[Some("1".to_owned())]]);
    connection.close().await.unwrap();
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    assert_eq!(receive(&mut connection, 2).await, received[1..]);

    let status = StatusUpdate::durable(received[2].end);
    connection.end_copy(status, 0, PATIENCE).await.unwrap();
    assert_eq!(database.confirmed().await, received[2].end.raw());
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_status_update_moves_the_slot_to_exactly_what_it_says() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    insert(&database, 1..=2).await;
    let received = receive(&mut connection, 2).await;
    let before = database.confirmed().await;
    assert!(before < received[0].end.raw());
    // Written is not flushed: it acknowledges nothing.
    let written =
        StatusUpdate { written: received[1].end, reply_requested: true, ..StatusUpdate::durable(received[0].end) };
    connection.send_status(written, 0).await.unwrap();
    next_keepalive(&mut connection).await.unwrap();
    assert_eq!(database.confirmed().await, received[0].end.raw());
}

#[tokio::test]
async fn a_keepalive_comes_when_asked_for_and_carries_the_servers_clock() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    let status = StatusUpdate { reply_requested: true, ..StatusUpdate::default() };
    connection.send_status(status, 0).await.unwrap();
    let (wal_end, sent_at_us, _) = next_keepalive(&mut connection).await.unwrap();
    assert!(wal_end.raw() > 0);
    let row = database.client.query_one("SELECT extract(epoch FROM now())::float8 * 1e6", &[]).await.unwrap();
    let apart_us = (row.get::<_, f64>(0) - sent_at_us as f64).abs();
    assert!(apart_us < 60e6, "the clocks are {apart_us} µs apart");
}

#[tokio::test]
async fn a_session_lives_while_keepalives_are_answered_and_dies_when_they_are_not() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    database
        .client
        .batch_execute(&format!("ALTER DATABASE {} SET wal_sender_timeout = '600ms'", database.name))
        .await
        .unwrap();
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    for _ in 0..4 {
        while !next_keepalive(&mut connection).await.unwrap().2 {}
        connection.send_status(StatusUpdate::default(), 0).await.unwrap();
    }
    let error = loop {
        if let Err(error) = next_keepalive(&mut connection).await {
            break error;
        }
    };
    assert_eq!(error.class(), Class::Retry, "{error}");
}

#[tokio::test]
async fn a_slot_in_use_makes_the_second_wait_on_its_own_connection() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    let first = streaming(&server.over_unix(&database.name), &slot).await;
    let mut second = login(&server.over_unix(&database.name)).await.unwrap();
    let error = start(&mut second, &slot).await.unwrap_err();
    assert_eq!((error.sqlstate(), error.class()), (Some("55006"), Class::Retry));
    assert!(second.is_ready());
    assert!(error.to_string().contains(&first.process_id().to_string()), "{error}");

    let mut first = first;
    first.end_copy(StatusUpdate::default(), 0, PATIENCE).await.unwrap();
    start(&mut second, &slot).await.unwrap();
    insert(&database, [1]).await;
    assert_eq!(receive(&mut second, 1).await.len(), 1);
}

#[tokio::test]
async fn what_is_missing_halts_with_its_remedy() {
    let server = shared();
    let database = server.database().await;
    let mut connection = login(&server.over_unix(&database.name)).await.unwrap();
    let error = start(&mut connection, "no_such_slot").await.unwrap_err();
    assert_eq!((error.sqlstate(), error.class()), (Some("42704"), Class::Halt));
    assert!(error.advice().contains("slot"));
    assert!(connection.is_ready());

    let slot = database.slot().await;
    let publications = publication_names(["nothing"]);
    let options = [("proto_version", "1"), ("publication_names", publications.as_str())];
    connection.start_replication(&slot, Lsn(0), &options).await.unwrap();
    insert(&database, [1]).await;
    let error = next_error(&mut connection).await;
    assert_eq!((error.sqlstate(), error.class()), (Some("42704"), Class::Halt), "{error}");
    assert!(matches!(connection.fill(FRAME_BYTES_MAX).await, Err(SourceError::NotStreaming)));
}

async fn next_error(connection: &mut Connection) -> SourceError {
    loop {
        if let Err(error) = next_keepalive(connection).await {
            return error;
        }
    }
}

#[tokio::test]
async fn pieces_of_frames_make_the_same_frames_also_when_every_wait_is_given_up() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    insert(&database, 1..=50).await;
    let mut fast = streaming(&server.over_unix(&database.name), &slot).await;
    let expected = receive(&mut fast, 50).await;
    fast.end_copy(StatusUpdate::default(), 0, PATIENCE).await.unwrap();

    for mode in [TlsMode::Disable, TlsMode::Require] {
        let port = between::slow_line(server.port()).await;
        let mut options = server.over_tcp(&database.name, "scram_role", "127.0.0.1", mode);
        options.host = Host::Tcp { host: "127.0.0.1".into(), port };
        database.client.batch_execute("GRANT SELECT ON item TO scram_role").await.unwrap();
        let mut slow = streaming(&options, &slot).await;
        let (mut open, mut done, mut given_up) = (Vec::new(), Vec::new(), 0);
        let deadline = Instant::now() + PATIENCE;
        while done.len() < 50 && Instant::now() < deadline {
            // Polled once, then dropped: the next call must go on where it was.
            tokio::select! {
                biased;
                filled = slow.fill(FRAME_BYTES_MAX) => drop(filled.unwrap()),
                () = std::future::ready(()) => given_up += 1,
            }
            tokio::task::yield_now().await;
            take(&mut slow, &mut open, &mut done).unwrap();
        }
        assert_eq!(done, expected, "{mode}");
        assert!(given_up > 0);
        slow.end_copy(StatusUpdate::default(), 0, PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn a_row_above_the_bound_is_refused_and_comes_whole_under_a_higher_one() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    database.client.execute("INSERT INTO item VALUES (1, repeat('x', 3000000))", &[]).await.unwrap();
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    let error = loop {
        let (mut open, mut done) = (Vec::new(), Vec::new());
        match connection.fill(FRAME_BYTES_MAX).await {
            Ok(_) => take(&mut connection, &mut open, &mut done).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, SourceError::FrameTooLarge { frame_bytes: 3_000_000.., frame_bytes_max: FRAME_BYTES_MAX }),
        "{error}"
    );
    assert_eq!(error.class(), Class::Halt);

    // The refused row is dropped unseen at the end of the copy.
    connection.end_copy(StatusUpdate::default(), 0, PATIENCE).await.unwrap();
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    let (mut open, mut done) = (Vec::new(), Vec::new());
    while done.is_empty() {
        connection.fill(4_000_000).await.unwrap();
        take(&mut connection, &mut open, &mut done).unwrap();
    }
    assert!(done[0].inserts[0].len() > 3_000_000);
}

#[tokio::test]
async fn the_copy_ends_in_the_middle_of_a_large_transaction_and_all_of_it_comes_again() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    let sql = "INSERT INTO item SELECT id, 'row' FROM generate_series(1, 100000) id";
    database.client.batch_execute(sql).await.unwrap();
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    let (mut open, mut done) = (Vec::new(), Vec::new());
    while open.len() < 1000 {
        connection.fill(FRAME_BYTES_MAX).await.unwrap();
        take(&mut connection, &mut open, &mut done).unwrap();
    }
    assert!(done.is_empty());
    connection.end_copy(StatusUpdate::default(), 0, PATIENCE).await.unwrap();
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    assert_eq!(receive(&mut connection, 1).await[0].inserts.len(), 100_000);
}

#[tokio::test]
async fn what_does_not_fit_the_phase_is_refused() {
    let server = shared();
    let database = server.database().await;
    let slot = database.slot().await;
    let mut connection = login(&server.over_unix(&database.name)).await.unwrap();
    assert!(matches!(connection.fill(1).await, Err(SourceError::NotStreaming)));
    assert!(matches!(connection.next_frame(), Err(SourceError::NotStreaming)));
    let status = StatusUpdate::default();
    assert!(matches!(connection.send_status(status, 0).await, Err(SourceError::NotStreaming)));
    assert!(matches!(connection.query("SELECT '\0'").await, Err(SourceError::ZeroByte { .. })));
    start(&mut connection, &slot).await.unwrap();
    assert!(matches!(connection.query("SELECT 1").await, Err(SourceError::Interrupted)));
    connection.end_copy(status, 0, PATIENCE).await.unwrap();
    // Postgres would say that the copy begins, and end it at once.
    let error = start(&mut connection, &slot).await.unwrap_err();
    assert!(matches!(error, SourceError::StreamedBefore), "{error}");
    assert_eq!(error.class(), Class::Retry);
    assert_eq!(connection.query("SELECT 1").await.unwrap(), [[Some("1".to_owned())]]);
}

// Servers of their own: these are stopped, or set up otherwise.

#[tokio::test]
async fn without_logical_wal_it_halts() {
    let server = Server::of(Postgres::builder().set("wal_level", "replica"));
    let mut connection = login(&server.over_unix("postgres")).await.unwrap();
    let create = "CREATE_REPLICATION_SLOT probe LOGICAL pgoutput";
    let error = connection.query(create).await.unwrap_err();
    assert_eq!((error.sqlstate(), error.class()), (Some("55000"), Class::Halt), "{error}");
    assert!(error.advice().contains("wal_level"));
}

#[tokio::test]
async fn a_fast_shutdown_ends_once_everything_is_acknowledged_and_is_retried() {
    let server = Arc::new(Server::of(Postgres::builder()));
    let database = server.database().await;
    let slot = database.slot().await;
    let mut connection = streaming(&server.over_unix(&database.name), &slot).await;
    insert(&database, [1]).await;
    receive(&mut connection, 1).await;
    let stopping = Arc::clone(&server);
    let stopped = tokio::task::spawn_blocking(move || stopping.postgres().stop(Stop::Fast));
    let error = loop {
        let acknowledged = match next_keepalive(&mut connection).await {
            Ok((wal_end, _, _)) => connection.send_status(StatusUpdate::durable(wal_end), 0).await,
            Err(error) => Err(error),
        };
        if let Err(error) = acknowledged {
            break error;
        }
    };
    assert_eq!(error.class(), Class::Retry, "{error}");
    stopped.await.unwrap().unwrap();
    assert_eq!(login_error(&server.over_unix("postgres")).await.class(), Class::Retry);
}

#[tokio::test]
async fn after_a_promotion_the_history_tells_where_the_timelines_part() {
    let server = Server::of(Postgres::builder());
    let mut connection = login(&server.over_unix("postgres")).await.unwrap();
    let before = connection.identify_system().await.unwrap();
    let standby = server.postgres().standby().unwrap();
    standby.promote().unwrap();
    let mut options = server.over_unix("postgres");
    let address = standby.address();
    options.host = Host::Unix { directory: address.socket_directory.clone(), port: address.port };
    let mut connection = login(&options).await.unwrap();
    let after = connection.identify_system().await.unwrap();
    assert_eq!((before.timeline, after.timeline), (1, 2));
    assert_eq!(before.system_identifier, after.system_identifier);
    let history = connection.timeline_history(after.timeline).await.unwrap();
    let [TimelineSwitch { timeline: 1, switch_point }] = history[..] else { panic!("{history:?}") };
    assert!(before.flushed <= switch_point && switch_point <= after.flushed, "{switch_point} {before:?} {after:?}");
}
