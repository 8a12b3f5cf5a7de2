//! Columns that the configuration has rules for, under new names: the account column, and those that are excluded.

use super::{TABLE, down, halts};
use crate::reader::Record;
use crate::scene::{A, B, Scene, in_order, tell};

fn accounts(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.account.as_str()).collect()
}

/// Rows from both sides of the RENAME in one transaction: no single name could be right for it.
#[test]
fn a_renamed_account_column_stops_the_bridge_and_both_names_bring_it_past() {
    let mut scene = Scene::start(TABLE, "");
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 1, 'a')"));
    assert_eq!(scene.records().len(), 1);
    scene.sql(&format!(
        "BEGIN;
         INSERT INTO t VALUES (2, '{B}', 2, 'before');
         ALTER TABLE t RENAME COLUMN account_id TO tenant_id;
         INSERT INTO t VALUES (3, '{A}', 3, 'after');
         UPDATE t SET tenant_id = '{B}' WHERE id = 1;
         COMMIT;"
    ));
    scene.expect_halt(&[
        "table public.t cannot be captured",
        "no account column account_id",
        "account_column = [\"account_id\", \"the new name\"]",
    ]);
    assert_eq!(scene.delivered().len(), 1);
    // Started again with the same configuration it says so before it takes the slot.
    halts(&mut scene, &["no account column account_id", "if it was renamed", "account_column"]);
    // The newer name alone does not fit what was written before.
    scene.world.set("TABLES__ACCOUNT_COLUMN", "tenant_id");
    halts(&mut scene, &["no account column tenant_id"]);

    scene.world.set("TABLES__ACCOUNT_COLUMN", "account_id, tenant_id");
    scene.again();
    let records = in_order(scene.records());
    assert_eq!(
        tell(&records, &["id", "v", "account_id", "tenant_id"]),
        [
            format!("c (1 a {A} -)"),
            format!("c (2 before {B} -)"),
            format!("c (3 after - {A})"),
            format!("d (1 a - {A})"),
            "tombstone".to_owned(),
            format!("c (1 a - {B})"),
        ]
    );
    assert_eq!(accounts(&records), [A, B, A, A, A, B]);
    assert_eq!(records[3].key, records[0].key, "keys bear the account under a name of their own");
    scene.stop();
}

#[test]
fn an_account_column_that_is_renamed_while_the_bridge_is_down_is_found_under_both_names() {
    let mut scene = Scene::start(TABLE, "");
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 1, 'a')"));
    down(&mut scene);
    scene.sql(&format!(
        "INSERT INTO t VALUES (2, '{B}', 2, 'b');
         ALTER TABLE t RENAME COLUMN account_id TO tenant_id;
         UPDATE t SET v = 'c' WHERE id = 1;"
    ));
    halts(&mut scene, &["no account column account_id", "if it was renamed"]);
    scene.world.configure("[tables.\"public.t\"]\naccount_column = [\"account_id\", \"tenant_id\"]\n");
    scene.again();
    let records = in_order(scene.records());
    assert_eq!(tell(&records, &["id", "v"]), ["c (1 a)", "c (2 b)", "u (1 a) (1 c)"]);
    assert_eq!(accounts(&records), [A, B, A]);
    scene.stop();
}

/// What must not leave the database leaves it under neither name, whichever the catalog knows.
#[test]
fn an_excluded_column_that_is_renamed_while_the_bridge_is_down_stays_excluded() {
    const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, account_id uuid NOT NULL, secret text);
                          ALTER TABLE t REPLICA IDENTITY FULL;";
    let mut scene = Scene::start(SCHEMA, "[tables]\ncapture = [\"public.*\"]\nexclude = [\"public.t.secret\"]\n");
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 'SECRET-1')"));
    down(&mut scene);
    scene.sql(&format!(
        "INSERT INTO t VALUES (2, '{A}', 'SECRET-2');
         ALTER TABLE t RENAME COLUMN secret TO hidden;
         UPDATE t SET hidden = 'SECRET-3';"
    ));
    halts(&mut scene, &["tables.exclude", "public.t has no column secret", "tables.accept_absent"]);
    let names = "public.t.secret, public.t.hidden";
    scene.world.set("TABLES__EXCLUDE", names).set("TABLES__ACCEPT_ABSENT", names);
    scene.again();
    let records = scene.records();
    assert_eq!(
        tell(&records, &["id", "secret", "hidden"]),
        ["c (1 - -)", "c (2 - -)", "u (1 - -) (1 - -)", "u (2 - -) (2 - -)"]
    );
    let raw = records.iter().filter_map(|record| record.raw.as_deref());
    let leaks = raw.filter(|value| value.windows(7).any(|bytes| bytes == b"SECRET-")).count();
    assert_eq!(leaks, 0);
    scene.stop();
}

/// A chosen decimal under a new name: a string in the one, which nobody asked for, would stop readers.
#[test]
fn a_decimal_that_is_renamed_is_one_under_both_names() {
    const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, account_id uuid, amount numeric(12,2));
                          ALTER TABLE t REPLICA IDENTITY FULL;";
    let mut world = crate::scene::world(SCHEMA, "");
    world.set("TABLES__DECIMAL", "public.t.amount");
    let mut scene = Scene::of(world);
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 1.50)"));
    down(&mut scene);
    scene.sql(&format!(
        "INSERT INTO t VALUES (2, '{A}', 2.50);
         ALTER TABLE t RENAME COLUMN amount TO total;
         INSERT INTO t VALUES (3, '{A}', 3.50);"
    ));
    halts(&mut scene, &["tables.decimal", "public.t has no column amount", "tables.accept_absent"]);
    scene.world.set("TABLES__DECIMAL", "public.t.amount, public.t.total");
    scene.world.set("TABLES__ACCEPT_ABSENT", "public.t.amount, public.t.total");
    scene.again();
    let records = scene.records();
    assert_eq!(tell(&records, &["amount", "total"]), ["c (1.50 -)", "c (2.50 -)", "c (- 3.50)"]);
    let decimals = records.iter().filter_map(|record| record.change()?.after.as_ref()).filter(|row| {
        let values = [row.get("amount"), row.get("total")];
        values.iter().flatten().any(|value| matches!(value, apache_avro::types::Value::BigDecimal(_)))
    });
    assert_eq!(decimals.count(), 3);
    scene.stop();
}
