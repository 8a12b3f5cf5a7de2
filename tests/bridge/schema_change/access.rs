//! The access schema, all of whose times without a zone get one in a single migration.

use std::collections::BTreeSet;
use std::path::Path;

use apache_avro::types::Value;

use super::{schema_id, value_ids};
use crate::reader::Record;
use crate::scene::{A, PATIENCE, Scene};

const SECRET_COLUMNS: &str = "public.auth_providers.adapter_config, public.auth_providers.adapter_state, \
    public.auth_identities.provider_state, public.tokens.secret_salt, public.tokens.secret_hash";

/// Table, field and microseconds of every time in the new rows.
fn times(records: &[Record]) -> BTreeSet<(String, String, i64)> {
    let mut times = BTreeSet::new();
    for envelope in records.iter().filter_map(Record::change) {
        for (field, value) in envelope.after.iter().flat_map(|row| &row.0) {
            if let Value::TimestampMicros(micros) | Value::LocalTimestampMicros(micros) = value {
                times.insert((envelope.source.table.clone(), field.clone(), *micros));
            }
        }
    }
    times
}

#[test]
fn all_times_of_the_access_schema_get_their_zone_in_one_migration() {
    let sql = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql").join(name);
        std::fs::read_to_string(path).expect("read the access schema")
    };
    let mut world = crate::scene::world(
        &sql("access.sql"),
        "[tables]\ncapture = [\"public.*\"]\n[tables.\"public.accounts\"]\naccount_column = \"id\"\n",
    );
    world.set("TABLES__EXCLUDE", SECRET_COLUMNS);
    let mut scene = Scene::of(world);
    let small = "SET access.accounts = '1'; SET access.actors = '3'; SET access.groups = '1'; SET access.sites = '2';
                 SET access.gateways = '1'; SET access.resources = '2'; SET access.flows = '2';
                 SET access.at = '2025-01-01 00:00:00';";
    scene.sql(&format!("{small} {}", sql("access_data.sql")));
    let before = scene.records();
    assert!(before.len() > 20, "{}", before.len());

    let migration = scene.sql(
        "SELECT string_agg(format('ALTER TABLE %s %s;', table_name, changes), ' ' ORDER BY table_name) FROM (
            SELECT table_name, string_agg(format('ALTER COLUMN %I TYPE timestamptz', column_name), ', ') AS changes
              FROM information_schema.columns
             WHERE table_schema = 'public' AND data_type = 'timestamp without time zone' GROUP BY table_name
         ) tables",
    );
    assert_eq!(migration.matches("ALTER TABLE").count(), 12, "{migration}");
    let touch = scene.sql(
        "SELECT string_agg(format('UPDATE %I SET account_id = account_id;', table_name), ' ') FROM information_schema.columns
          WHERE table_schema = 'public' AND column_name = 'account_id'",
    );
    scene.sql(&format!(
        "SET timezone = 'UTC'; BEGIN; {migration}
         INSERT INTO actors (id, account_id, type, name, inserted_at, updated_at)
         SELECT '{A}', id, 'account_user', 'new', '2025-01-01 02:00:00+02', '2025-01-01 00:00:00+00' FROM accounts;
         {touch} UPDATE accounts SET name = 'touched'; COMMIT;"
    ));
    let target = scene.sql("SELECT pg_current_wal_lsn()");
    scene.world.wait_confirmed_to(&target, &mut scene.bridge, PATIENCE);
    let newest = before.iter().map(|record| record.header.position).max();
    let mut after = scene.delivered();
    after.retain(|record| Some(record.header.position) > newest);
    assert_eq!(after.len(), before.len() + 2, "every row was touched, and one is new");

    // Two tables have no times, and keep their schemas.
    const TIMELESS: [&str; 2] = ["actor_group_memberships", "resource_connections"];
    let known = value_ids(&before);
    for record in &after {
        let table = &record.change().expect("a change").source.table;
        let id = schema_id(record.raw.as_deref().expect("a value"));
        assert_eq!(known.contains(&id), TIMELESS.contains(&table.as_str()), "{table}");
    }
    // With the session's zone at UTC the rewrite leaves the numbers as they were.
    let (expected, found) = (times(&before), times(&after));
    assert!(expected.len() > 12, "{expected:?}");
    assert!(expected.is_subset(&found), "{expected:?}\n{found:?}");
    let new = ("actors".to_owned(), "inserted_at".to_owned(), 1_735_689_600_000_000);
    assert!(found.contains(&new), "{found:?}");
    scene.stop();
}
