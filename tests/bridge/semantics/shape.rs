//! Tables whose shape changes, that are emptied, and whose large values are not sent.

use penstock_wire::control::ControlKind;

use super::TABLE;
use crate::reader::{Content, Record};
use crate::scene::{A, B, PARTITIONS, Scene, in_order, plain, seqs, tell};

#[test]
fn rows_before_and_after_an_alter_in_one_transaction_have_their_own_columns() {
    let schema = "
        CREATE TABLE t (id int PRIMARY KEY, account_id uuid NOT NULL, n int, old text);
        ALTER TABLE t REPLICA IDENTITY FULL;";
    let mut scene = Scene::start(schema, "");
    scene.sql(&format!(
        "BEGIN;
         INSERT INTO t VALUES (1, '{A}', 1, 'a');
         ALTER TABLE t ADD COLUMN more text DEFAULT 'default';
         INSERT INTO t VALUES (2, '{A}', 2, 'b', 'more');
         UPDATE t SET n = 10 WHERE id = 1;
         ALTER TABLE t DROP COLUMN old;
         INSERT INTO t VALUES (3, '{A}', 3, 'more');
         ALTER TABLE t ALTER COLUMN n TYPE bigint;
         INSERT INTO t VALUES (4, '{A}', 5000000000, 'more');
         ALTER TABLE t RENAME COLUMN more TO less;
         DELETE FROM t WHERE id = 2;
         COMMIT;"
    ));

    let records = scene.records();
    assert_eq!(
        tell(&records, &["id", "n", "old", "more", "less"]),
        [
            "c (1 1 a - -)",
            "c (2 2 b more -)",
            "u (1 1 a default -) (1 10 a default -)",
            "c (3 3 - more -)",
            "c (4 5000000000 - more -)",
            "d (2 2 - - more)",
            "tombstone",
        ]
    );
    // What the event triggers tell of each ALTER is an event, too; of a new type it is two.
    assert_eq!(seqs(&records), [8, 24, 32, 48, 72, 88, 89]);
    // A table's key bytes never change, whatever becomes of its columns.
    assert_eq!(records[5].key, records[1].key);
    let orders = records.iter().filter_map(|record| Some(record.change()?.transaction.as_ref()?.data_collection_order));
    assert_eq!(orders.collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6], "an ALTER does not begin the count anew");
    scene.stop();
}

/// The tables that each partition's truncates name, with their seqs.
fn truncates(records: &[Record]) -> Vec<Vec<(u64, String)>> {
    let of = |partition: i32| {
        let own = records.iter().filter(move |record| record.partition == partition);
        let told = own.filter_map(|record| match &record.content {
            Content::Control(control) if control.kind == ControlKind::Truncate => {
                Some((record.header.position.seq.0, control.table.clone()))
            }
            Content::Control(_) | Content::Change(_) | Content::Tombstone => None,
        });
        told.collect()
    };
    (0..i32::try_from(PARTITIONS).expect("few partitions")).map(of).collect()
}

#[test]
fn truncate_stands_at_the_same_position_in_every_partition() {
    let mut scene = Scene::start(TABLE, "");
    scene.sql(&format!(
        "INSERT INTO t VALUES (1, '{A}', 'a'), (2, '{B}', 'b');
         BEGIN;
         INSERT INTO t VALUES (3, '{A}', 'before');
         TRUNCATE t;
         INSERT INTO t VALUES (4, '{A}', 'after');
         COMMIT;"
    ));

    let records = scene.records();
    assert_eq!(truncates(&records), vec![vec![(16, "t".to_owned())]; 3]);
    let positions: Vec<_> = records
        .iter()
        .filter(|record| matches!(record.content, Content::Control(_)))
        .map(|record| record.header.position)
        .collect();
    assert!(positions.iter().all(|position| *position == positions[0]), "{positions:?}");
    let records = in_order(records);
    assert_eq!(
        tell(&records[2..], &["v"]),
        ["c (before)", "truncate public.t", "truncate public.t", "truncate public.t", "c (after)"]
    );
    scene.stop();
}

#[test]
fn truncate_of_two_tables_and_by_cascade_is_an_event_for_each() {
    let schema = "
        CREATE TABLE a (id int PRIMARY KEY, account_id uuid);
        CREATE TABLE b (id int PRIMARY KEY, account_id uuid, a_id int REFERENCES a);
        CREATE TABLE c (id int PRIMARY KEY, account_id uuid, a_id int REFERENCES a);
        ALTER TABLE a REPLICA IDENTITY FULL;
        ALTER TABLE b REPLICA IDENTITY FULL;
        ALTER TABLE c REPLICA IDENTITY FULL;";
    let mut scene = Scene::start(schema, "");
    // Named b and c; then a alone, which takes b and c with it.
    scene.sql("TRUNCATE b, c CASCADE; TRUNCATE a CASCADE;");

    let events = truncates(&scene.records());
    assert!(events.iter().all(|own| *own == events[0]), "the same in every partition: {events:?}");
    let seqs: Vec<u64> = events[0].iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, [8, 16, 8, 16, 24]);
    let mut tables: Vec<&str> = events[0].iter().map(|(_, table)| table.as_str()).collect();
    tables[..2].sort_unstable();
    tables[2..].sort_unstable();
    assert_eq!(tables, ["b", "c", "a", "b", "c"]);
    scene.stop();
}

/// `conditions` is the column of the access schema that is large enough to be stored out of line.
const POLICIES: &str = "
CREATE TABLE policies (
    id int NOT NULL, account_id uuid NOT NULL, n int, conditions jsonb[] DEFAULT '{}', PRIMARY KEY (account_id, id)
);
";

/// Writes a policy whose conditions do not fit into its row, then updates another column. Gives the conditions.
fn update_beside_large_conditions(scene: &Scene) -> String {
    scene.sql(&format!(
        "INSERT INTO policies SELECT 1, '{A}', 1, array_agg(jsonb_build_object('values', jsonb_build_array(md5(n::text))))
         FROM generate_series(1, 200) n;
         UPDATE policies SET n = 2;"
    ));
    let toast = scene.sql("SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'policies'");
    let stored = scene.sql(&format!("SELECT count(*) > 1 FROM {toast}"));
    assert_eq!(stored, "t", "the value must be out of line for this test to say anything");
    let elements = scene.sql("SELECT c::text FROM policies, unnest(conditions) WITH ORDINALITY u (c, n) ORDER BY u.n");
    elements.replace('\n', ";")
}

fn conditions(record: &Record) -> String {
    match record.change().and_then(|envelope| envelope.after.as_ref()).and_then(|row| row.get("conditions")) {
        Some(apache_avro::types::Value::Array(items)) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| match item {
                    apache_avro::types::Value::Union(_, inner) => plain(inner),
                    other => plain(other),
                })
                .collect();
            items.join(";")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn a_large_value_that_an_update_leaves_alone_is_filled_from_the_old_row() {
    let schema = format!("{POLICIES} ALTER TABLE policies REPLICA IDENTITY FULL;");
    let mut scene = Scene::start(&schema, "");
    let written = update_beside_large_conditions(&scene);

    let records = scene.records();
    assert_eq!(tell(&records, &["n"]), ["c (1)", "u (1) (2)"]);
    for record in &records {
        assert_eq!(conditions(record), written);
        assert!(record.change().is_some_and(|envelope| envelope.unchanged.is_empty()));
    }
    scene.stop();
}

#[test]
fn without_the_old_row_a_large_value_left_alone_is_listed_as_unchanged() {
    let accept = "[tables]\ncapture = [\"public.*\"]\naccept_unchanged = [\"public.policies.conditions\"]\n";
    let index =
        "CREATE UNIQUE INDEX i ON policies (id, account_id); ALTER TABLE policies REPLICA IDENTITY USING INDEX i;";
    for identity in ["", index] {
        let mut scene = Scene::start(&format!("{POLICIES} {identity}"), accept);
        let written = update_beside_large_conditions(&scene);
        // The same column, touched: not listed.
        scene.sql("UPDATE policies SET conditions = '{}'");

        let records = scene.records();
        assert_eq!(tell(&records, &["n"]), ["c (1)", "u (2)", "u (2)"], "{identity}");
        let unchanged: Vec<&[String]> =
            records.iter().filter_map(|record| Some(record.change()?.unchanged.as_slice())).collect();
        assert_eq!(unchanged, [&[][..], &["conditions".to_owned()], &[]], "{identity}");
        assert_eq!(conditions(&records[0]), written);
        assert_eq!(conditions(&records[1]), "Some(Null)");
        assert_eq!(conditions(&records[2]), "");
        scene.stop();
    }
}
