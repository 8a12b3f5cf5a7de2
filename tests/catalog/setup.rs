//! What `setup` makes.

use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use penstock::catalog::{Step, WalStatus};
use penstock::config::TableName;
use penstock::source::Class;

use crate::server::{Database, database};
use crate::tables::{TABLES, public};

pub const SLOT_LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn setup_makes_what_is_missing_and_leaves_what_is_there() {
    let database = database();
    database.sql(TABLES);
    let mut catalog = database.catalog();
    let slot = format!("slot_{}", database.address.database);
    let names = [public("accounts"), TableName::new("Odd", "a.b")];
    assert_eq!(catalog.create_publication("p", &names).await.unwrap(), Step::Made(()));
    assert_eq!(catalog.create_publication("p", &names[..1]).await.unwrap(), Step::Found);
    let publication = catalog.publication("p").await.unwrap().unwrap();
    assert_eq!(publication.tables.keys().collect::<Vec<_>>(), [&names[1], &names[0]]);
    assert!(publication.via_root && publication.truncate);

    assert_eq!(catalog.slot(&slot).await.unwrap(), None);
    assert_eq!(catalog.slot_sample(&slot).await.unwrap(), None);
    let Step::Made(point) = catalog.create_slot(&slot, SLOT_LIMIT).await.unwrap() else { panic!("the slot is new") };
    assert_eq!(catalog.create_slot(&slot, SLOT_LIMIT).await.unwrap(), Step::Found);
    let made = catalog.slot(&slot).await.unwrap().unwrap();
    assert_eq!(
        (made.plugin.as_deref(), made.logical, made.temporary, made.active_pid),
        (Some("pgoutput"), true, false, None)
    );
    assert_eq!((made.database.as_ref(), made.confirmed_lsn), (Some(&database.address.database), Some(point)));
    assert_eq!((made.wal_status, made.two_phase, made.failover), (Some(WalStatus::Reserved), false, None));

    database.sql("INSERT INTO pairs SELECT n, gen_random_uuid() FROM generate_series(1, 1000) n");
    let sample = catalog.slot_sample(&slot).await.unwrap().unwrap();
    assert!(sample.confirmed_lag_bytes().unwrap() > 50_000, "{sample:?}");
    assert!(sample.retained_bytes() >= sample.confirmed_lag_bytes(), "{sample:?}");
    assert!(!sample.active);
}

#[tokio::test]
async fn a_refused_statement_leaves_nothing_behind() {
    let database = database();
    let mut catalog = database.catalog();
    let error = catalog.create_publication("p", &[public("nothing")]).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42P01"), "{error:?}");
    assert_eq!(catalog.publication("p").await.unwrap(), None);
}

/// A transaction that has written something, until it is dropped.
struct Running(Child);

impl Running {
    fn begin(database: &Database) -> Self {
        database.sql("CREATE TABLE t (id int)");
        let mut session = database.address.psql_command().unwrap();
        let mut session = session.stdin(Stdio::piped()).spawn().unwrap();
        session.stdin.as_mut().unwrap().write_all(b"BEGIN; INSERT INTO t VALUES (1);\n").unwrap();
        database.address.wait_for("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database())").unwrap();
        Self(session)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_slot_that_has_to_wait_for_a_transaction_is_given_up_in_time_and_leaves_nothing() {
    let database = database();
    let running = Running::begin(&database);
    let slot = format!("slot_{}", database.address.database);
    let error = database.catalog().create_slot(&slot, Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.class(), Class::Retry, "{error:?}");
    assert_eq!(database.catalog().slot(&slot).await.unwrap(), None);
    drop(running);
}

#[tokio::test]
async fn a_slot_whose_creation_is_not_waited_for_is_taken_back() {
    let database = database();
    let running = Running::begin(&database);
    let slot = format!("slot_{}", database.address.database);
    let mut catalog = database.catalog();
    tokio::select! {
        made = catalog.create_slot(&slot, SLOT_LIMIT) => panic!("a transaction is running: {made:?}"),
        () = seen(&database, &slot) => {}
    }
    assert!(catalog.undo_slot(&slot, SLOT_LIMIT).await.unwrap());
    assert_eq!(catalog.slot(&slot).await.unwrap(), None);
    drop(running);
}

/// Ends when the slot can be seen, finished or not.
async fn seen(database: &Database, slot: &str) {
    let mut catalog = database.catalog();
    while catalog.slot(slot).await.unwrap().is_none_or(|slot| slot.maker().is_none()) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_slot_that_was_made_is_taken_back_unless_it_is_kept() {
    let database = database();
    let slot = format!("slot_{}", database.address.database);
    let mut catalog = database.catalog();
    catalog.create_slot(&slot, SLOT_LIMIT).await.unwrap();
    assert!(catalog.undo_slot(&slot, SLOT_LIMIT).await.unwrap());
    assert_eq!(catalog.slot(&slot).await.unwrap(), None);
    catalog.create_slot(&slot, SLOT_LIMIT).await.unwrap();
    catalog.keep_slot();
    assert!(catalog.undo_slot(&slot, SLOT_LIMIT).await.unwrap());
    assert!(catalog.slot(&slot).await.unwrap().is_some());
}
