//! Every version, and a standby.

use penstock::catalog::mute_partitions;
use penstock_testbed::postgres::Postgres;
use penstock_wire::lsn::EndLsn;

use crate::findings::found;
use crate::server::Database;
use crate::setup::SLOT_LIMIT;
use crate::tables::{all_tables, public};
use crate::triggers::told_of_ddl;

/// Major versions differ in columns of the catalog: what one lacks must be `None`, not an error.
#[tokio::test]
async fn every_supported_version_answers() {
    for major in [14, 16, 17, 18] {
        let postgres = Postgres::builder().major(major).start().unwrap();
        let database = Database { address: postgres.create_database("versions").unwrap(), server: postgres.into() };
        database.sql(
            "CREATE TABLE a (account_id uuid NOT NULL, id int PRIMARY KEY, c text[]); ALTER TABLE a REPLICA IDENTITY FULL;
             CREATE TABLE parts (account_id uuid NOT NULL, id int PRIMARY KEY) PARTITION BY HASH (id);
             CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
             ALTER TABLE parts REPLICA IDENTITY FULL; ALTER TABLE parts_0 REPLICA IDENTITY FULL",
        );
        let config = database.config(&[("TABLES__CAPTURE", "public.*")]);
        let mut catalog = database.catalog();
        assert!(catalog.clock_reading().await.unwrap().clock_us > 0);
        assert!(catalog.system_identifier().await.unwrap().is_some());
        let before = found(&mut catalog, &config).await;
        assert!(before.len() == 3 && before.iter().all(|finding| finding.mended_by_setup), "{major}: {before:#?}");
        let tables = all_tables(&database, &["public.*"]).await;
        catalog.create_publication(&config.source.publication, tables.keys()).await.unwrap();
        assert!(catalog.create_triggers().await.unwrap());
        assert!(catalog.create_partition_triggers(mute_partitions(&tables)).await.unwrap());
        catalog.create_slot(&config.source.slot, SLOT_LIMIT).await.unwrap();
        assert_eq!(found(&mut catalog, &config).await, [], "{major}");
        let slot = catalog.slot(&config.source.slot).await.unwrap().unwrap();
        assert_eq!(
            (slot.failover, slot.inactive_since.is_some()),
            ((major >= 17).then_some(false), major >= 17),
            "{major}"
        );
        assert!(catalog.slot_sample(&config.source.slot).await.unwrap().is_some());
        let types: Vec<_> =
            tables[&public("a")].columns.iter().map(|column| (column.type_oid, column.modifier)).collect();
        assert!(catalog.types(&types).await.unwrap().iter().all(Option::is_some), "{major}");
        assert_eq!(catalog.rows(&tables).await.unwrap()[&public("parts")].any, Some(false), "{major}");
        told_of_ddl(&database, &config.source.slot);
        if major == 18 {
            database.sql("ALTER PUBLICATION penstock SET (publish_generated_columns = stored)");
            let stops: Vec<String> = found(&mut catalog, &config).await.iter().map(ToString::to_string).collect();
            assert!(stops.len() == 1 && stops[0].contains("generated columns"), "{stops:?}");
        }
    }
}

#[tokio::test]
async fn a_standby_is_seen_for_what_it_is() {
    let primary = Postgres::builder().start().unwrap();
    let standby = primary.standby().unwrap();
    let database = Database { address: standby.address().clone(), server: standby.into() };
    let mut catalog = database.catalog();
    assert!(catalog.server_facts().await.unwrap().in_recovery);
    assert!(catalog.clock_reading().await.unwrap().lsn > EndLsn::default());
    let config = database.config(&[("TABLES__CAPTURE", "public.*")]);
    let found = found(&mut catalog, &config).await;
    assert!(found[0].to_string().starts_with("stop server: this is a standby"), "{found:#?}");
}
