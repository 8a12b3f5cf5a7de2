//! Findings, and the remedies that they name.

use penstock::catalog::findings::{Facts, Finding, Severity, findings};
use penstock::catalog::{Catalog, mute_partitions};
use penstock::config::{Config, Secret};
use penstock::source::ConnectOptions;
use penstock::tls::TlsMode;

use crate::server::database;
use crate::setup::SLOT_LIMIT;

pub async fn found(catalog: &mut Catalog, config: &Config) -> Vec<Finding> {
    let source = &config.source;
    let server = catalog.server_facts().await.unwrap();
    let publication = catalog.publication(&source.publication).await.unwrap();
    let slot = catalog.slot(&source.slot).await.unwrap();
    let tables = catalog.tables(&config.tables.capture, &source.publication).await.unwrap();
    let triggers = catalog.triggers().await.unwrap();
    let facts =
        Facts { server: &server, publication: publication.as_ref(), slot: slot.as_ref(), triggers, tables: &tables };
    findings(&facts, config)
}

#[tokio::test]
async fn the_access_schema_can_be_captured_as_the_example_says() {
    let database = database();
    database.sql(include_str!("../sql/access.sql"));
    let config = database
        .config(&[("TABLES__CAPTURE", "public.*"), ("TABLES__EXCLUDE", "public.auth_providers.adapter_config")]);
    let stops: Vec<String> = found(&mut database.catalog(), &config).await.iter().map(ToString::to_string).collect();
    let account = "stop table public.accounts: it has no account column account_id";
    assert!(
        stops.iter().filter(|line| !line.contains("penstock setup")).all(|line| line.starts_with(account)),
        "{stops:#?}"
    );
    assert_eq!(stops.len(), 4, "accounts have another column, and setup was not run: {stops:#?}");
}

#[tokio::test]
async fn a_role_that_may_not_read_a_table_is_told_what_to_grant() {
    let database = database();
    let role = format!("reader_{}", database.address.database);
    database.sql(&format!(
        "CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'pw'; CREATE SCHEMA closed;
         CREATE TABLE closed.t (account_id uuid, id int PRIMARY KEY, secret text);
         ALTER TABLE closed.t REPLICA IDENTITY FULL;
         CREATE PUBLICATION penstock FOR TABLE closed.t WITH (publish_via_partition_root)"
    ));
    let config = database.config(&[("TABLES__CAPTURE", "closed.t"), ("TABLES__EXCLUDE", "closed.t.secret")]);
    let options =
        ConnectOptions { user: role, password: Some(Secret::new("pw")), ..database.over_tcp(TlsMode::Disable, None) };
    let mut catalog = Catalog::new(options);
    let mut told = Vec::new();
    for finding in found(&mut catalog, &config).await.iter().filter(|finding| finding.subject == "table closed.t") {
        assert_eq!(finding.severity, Severity::Warn, "changes come without it: {finding}");
        database.sql(&finding.remedy);
        told.push(finding.remedy.clone());
    }
    assert_eq!(told.len(), 1, "{told:?}");
    let after = found(&mut catalog, &config).await;
    assert!(after.iter().all(|finding| finding.mended_by_setup), "{after:#?}");
    let tables = catalog.tables(&config.tables.capture, "penstock").await.unwrap();
    assert!(catalog.rows(&tables).await.unwrap().values().all(|rows| rows.any == Some(false)));
    assert!(!database.sql("SELECT relacl, attacl FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid WHERE relname = 't' AND attname = 'secret'").contains("reader_"));
}

/// Runs each remedy that is SQL until nothing is left that stops; a remedy that does not mend would go on for ever.
#[tokio::test]
async fn the_sql_of_every_remedy_mends_its_finding() {
    let database = database();
    database.sql(
        "CREATE TABLE accounts (account_id uuid, id int PRIMARY KEY, note text);
         CREATE UNLOGGED TABLE loose (account_id uuid, id int PRIMARY KEY);
         CREATE TABLE listed (account_id uuid, id int PRIMARY KEY, rest text);
         CREATE TABLE filtered (account_id uuid, id int PRIMARY KEY);
         CREATE TABLE parts (account_id uuid, id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
         CREATE PUBLICATION penstock FOR TABLE accounts, listed (account_id, id), filtered WHERE (id > 1), parts WITH (publish = 'insert')",
    );
    let config = database
        .config(&[("TABLES__CAPTURE", "public.accounts,public.loose,public.listed,public.filtered,public.parts")]);
    let mut catalog = database.catalog();
    let before = found(&mut catalog, &config).await;
    assert!(before.iter().filter(|finding| finding.severity == Severity::Stop).count() >= 9, "{before:#?}");
    for _ in 0..4 {
        for finding in found(&mut catalog, &config).await.iter().filter(|finding| !finding.mended_by_setup) {
            let sql = finding.remedy.rsplit_once(';').map_or("", |(sql, _)| sql);
            assert!(sql.starts_with("ALTER") || sql.starts_with("BEGIN"), "{finding}");
            database.sql(sql);
        }
    }
    catalog.create_slot(&config.source.slot, SLOT_LIMIT).await.unwrap();
    assert!(catalog.create_triggers().await.unwrap());
    let tables = catalog.tables(&config.tables.capture, &config.source.publication).await.unwrap();
    assert!(catalog.create_partition_triggers(mute_partitions(&tables)).await.unwrap());
    let after: Vec<String> = found(&mut catalog, &config).await.iter().map(ToString::to_string).collect();
    assert_eq!(after, Vec::<String>::new());
}
