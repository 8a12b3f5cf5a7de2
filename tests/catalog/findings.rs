//! Findings, and the remedies that they name.

use penstock::catalog::findings::{Facts, Finding, Severity, findings};
use penstock::catalog::{Catalog, mute_partitions};
use penstock::config::Config;

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
