//! What the server says of itself.

use penstock::catalog::Catalog;
use penstock::config::Secret;
use penstock::source::ConnectOptions;
use penstock::tls::TlsMode;
use penstock_wire::lsn::{EndLsn, Lsn};

use crate::server::database;

#[tokio::test]
async fn the_server_says_what_it_is() {
    let database = database();
    let mut catalog = database.catalog();
    let facts = catalog.server_facts().await.unwrap();
    assert_eq!(facts.version / 10_000, 15);
    assert_eq!((facts.wal_level.as_str(), facts.in_recovery, facts.encoding.as_str()), ("logical", false, "UTF8"));
    assert_eq!(facts.database, database.address.database);
    assert_eq!(
        facts.database_oid.to_string(),
        database.sql("SELECT oid FROM pg_database WHERE datname = current_database()")
    );
    assert_eq!((facts.slots_max, facts.wal_senders_max), (50, 50));
    assert_eq!((facts.wal_sender_timeout_ms, facts.slot_wal_keep_bytes), (Some(60_000), None));
    assert!(facts.superuser && !facts.rds);
    let identifier = catalog.system_identifier().await.unwrap().unwrap();
    assert_eq!(identifier.to_string(), database.sql("SELECT system_identifier FROM pg_control_system()"));
}

#[tokio::test]
async fn roles_are_seen_with_their_rights() {
    let database = database();
    let role = format!("role_{}", database.address.database);
    database.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'"));
    let options = ConnectOptions {
        user: role.clone(),
        password: Some(Secret::new("pw")),
        ..database.over_tcp(TlsMode::Disable, None)
    };
    let mut catalog = Catalog::new(options.clone());
    let facts = catalog.server_facts().await.unwrap();
    assert_eq!((facts.superuser, facts.replication, facts.role), (false, false, role.clone()));
    database.sql(&format!("ALTER ROLE {role} REPLICATION; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"));
    let mut catalog = Catalog::new(options);
    assert!(catalog.server_facts().await.unwrap().replication);
    assert_eq!(catalog.system_identifier().await.unwrap(), None);
}

#[tokio::test]
async fn the_position_is_taken_after_the_clock() {
    let database = database();
    let mut catalog = database.catalog();
    database.sql("CREATE TABLE t (id int)");
    let before: Lsn = database.sql("INSERT INTO t VALUES (1); SELECT pg_current_wal_insert_lsn()").parse().unwrap();
    let clock: i64 = database.sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8").parse().unwrap();
    let reading = catalog.clock_reading().await.unwrap();
    assert!(reading.lsn >= EndLsn(before), "{} is before {before}", reading.lsn);
    assert!(reading.clock_us >= clock && reading.clock_us < clock + 60_000_000, "{} at {clock}", reading.clock_us);
}
