//! Servers of their own: these are stopped, or set up otherwise.

use std::sync::Arc;

use penstock::source::{Class, Host, StatusUpdate, TimelineSwitch};
use penstock_testbed::postgres::{Postgres, Stop};

use crate::server::Server;
use crate::session::{insert, login, login_error, next_keepalive, receive, streaming};

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
