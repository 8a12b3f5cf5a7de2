//! Columns that get another type.

use super::{down, key_ids, value_ids};
use crate::scene::{A, Scene, tell};

/// A type's OID stays when it gets a value, and so does the schema: readers must survive a value they do not know.
#[test]
fn an_enum_gets_a_value_that_is_used_at_once() {
    let schema = "
        CREATE TYPE mood AS ENUM ('calm');
        CREATE TABLE t (id int PRIMARY KEY, account_id uuid NOT NULL, m mood);
        ALTER TABLE t REPLICA IDENTITY FULL;";
    for is_down in [false, true] {
        let mut scene = Scene::start(schema, "");
        scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 'calm')"));
        if is_down {
            down(&mut scene);
        }
        scene.sql(&format!(
            "ALTER TYPE mood ADD VALUE 'wild' BEFORE 'calm';
             INSERT INTO t VALUES (2, '{A}', 'wild');
             BEGIN;
             CREATE TYPE weather AS ENUM ('dry', 'wet');
             ALTER TABLE t ADD COLUMN w weather;
             INSERT INTO t VALUES (3, '{A}', 'wild', 'wet');
             UPDATE t SET w = 'dry' WHERE id = 1;
             COMMIT;"
        ));
        if is_down {
            scene.again();
        }
        let records = scene.records();
        assert_eq!(
            tell(&records, &["id", "m", "w"]),
            ["c (1 calm -)", "c (2 wild -)", "c (3 wild wet)", "u (1 calm null) (1 calm dry)"]
        );
        let ids = value_ids(&records);
        assert_eq!(ids[0], ids[1], "a new value is no new schema");
        scene.stop();
    }
}

/// What BACKWARD takes: int → bigint, varchar → text, and a time that gets its zone, of which Avro's rules see the long.
#[test]
fn wider_types_go_on_under_the_rule_backward() {
    let schema = "
        CREATE TABLE t (id int PRIMARY KEY, account_id uuid NOT NULL, small smallint, n int, r real, v varchar(20), at timestamp);
        ALTER TABLE t REPLICA IDENTITY FULL;";
    let mut scene = Scene::start(schema, "");
    let at = "2025-01-01 00:00:00.000001";
    scene.sql(&format!(
        "SET timezone = 'UTC';
         INSERT INTO t VALUES (1, '{A}', 1, 1, 0.5, 'v', '{at}');
         BEGIN;
         INSERT INTO t VALUES (2, '{A}', 2, 2, 0.5, 'w', '{at}');
         ALTER TABLE t ALTER small TYPE int, ALTER n TYPE bigint, ALTER r TYPE float8, ALTER v TYPE varchar(40),
                       ALTER at TYPE timestamptz;
         INSERT INTO t VALUES (3, '{A}', 70000, 5000000000, 1e300, 'more than twenty letters', '{at}+02');
         UPDATE t SET n = 4 WHERE id = 1;
         COMMIT;
         ALTER TABLE t ALTER v TYPE text;
         DELETE FROM t WHERE id = 3;"
    ));
    let records = scene.records();
    let (micros, earlier) = (1_735_689_600_000_001_i64, 1_735_682_400_000_001_i64);
    assert_eq!(
        tell(&records, &["id", "small", "n", "r", "v", "at"]),
        [
            format!("c (1 1 1 0.5 v {micros})"),
            format!("c (2 2 2 0.5 w {micros})"),
            format!("c (3 70000 5000000000 1e+300 more than twenty letters {earlier})"),
            format!("u (1 1 1 0.5 v {micros}) (1 1 4 0.5 v {micros})"),
            format!("d (3 70000 5000000000 1e+300 more than twenty letters {earlier})"),
            "tombstone".to_owned(),
        ]
    );
    let ids = value_ids(&records);
    assert_eq!((ids[0] == ids[1], ids[2] == ids[3], ids[1] == ids[2]), (true, true, false));
    assert_ne!(ids[3], ids[4], "varchar to text is a version of its own: pg.type tells it");
    assert_eq!(key_ids(&records).len(), 1);
    scene.stop();
}
