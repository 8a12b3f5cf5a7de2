//! Rows that are there before the first start.

use penstock::catalog::Catalog;
use penstock::config::Secret;
use penstock::source::ConnectOptions;
use penstock::tls::TlsMode;

use crate::server::database;
use crate::tables::{TABLES, all_tables, public};

#[tokio::test]
async fn rows_are_seen_counted_and_estimated() {
    let database = database();
    database.sql(TABLES);
    database.sql(
        "INSERT INTO parts SELECT n, '2021-06-01' FROM generate_series(1, 100) n; ANALYZE parts_1; ANALYZE parts_2",
    );
    let tables = all_tables(&database, &["public.parts", "public.pairs"]).await;
    let rows = database.catalog().rows(&tables).await.unwrap();
    assert_eq!((rows[&public("parts")].any, rows[&public("parts")].estimate), (Some(true), Some(100)));
    assert_eq!((rows[&public("pairs")].any, rows[&public("pairs")].estimate), (Some(false), None));
    assert_eq!(database.catalog().count_rows(&public("parts")).await.unwrap(), 100);
}

#[tokio::test]
async fn rows_that_may_not_be_read_are_not_taken_for_none() {
    let database = database();
    let role = format!("role_{}", database.address.database);
    database.sql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pw'; CREATE TABLE closed (id int); CREATE TABLE hidden (id int);
         INSERT INTO hidden VALUES (1); GRANT SELECT ON hidden TO {role}; ALTER TABLE hidden ENABLE ROW LEVEL SECURITY"
    ));
    let tables = all_tables(&database, &["public.*"]).await;
    let options =
        ConnectOptions { user: role, password: Some(Secret::new("pw")), ..database.over_tcp(TlsMode::Disable, None) };
    let rows = Catalog::new(options).rows(&tables).await.unwrap();
    assert_eq!((rows[&public("closed")].any, rows[&public("hidden")].any), (None, None));
}
