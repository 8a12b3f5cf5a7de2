//! Commands of a replication connection, and plain SQL on it.

use std::time::Duration;

use penstock::source::{Class, SourceError};
use penstock_wire::lsn::Lsn;
use tokio::time::timeout;

use crate::server::shared;
use crate::session::login;

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
