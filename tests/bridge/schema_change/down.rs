//! Tables that changed while the bridge was down: the backlog is older than the catalog.

use super::{TABLE, down, value_ids};
use crate::scene::{A, Scene, tell};

#[test]
fn a_column_that_came_and_went_is_in_the_rows_that_had_it() {
    let mut scene = Scene::start(TABLE, "");
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 1, 'a')"));
    down(&mut scene);
    scene.sql(&format!(
        "ALTER TABLE t ADD COLUMN x varchar(20);
         INSERT INTO t VALUES (2, '{A}', 2, 'b', 'x');
         UPDATE t SET x = 'now' WHERE id = 1;
         ALTER TABLE t DROP COLUMN x;
         INSERT INTO t VALUES (3, '{A}', 3, 'c');"
    ));
    scene.again();

    let records = scene.records();
    assert_eq!(
        tell(&records, &["id", "n", "v", "x"]),
        ["c (1 1 a -)", "c (2 2 b x)", "u (1 1 a null) (1 1 a now)", "c (3 3 c -)"]
    );
    let ids = value_ids(&records);
    assert_eq!(ids, [ids[0], ids[1], ids[1], ids[0]], "without it, the schema is the one from before");
    assert_ne!(ids[0], ids[1]);
    scene.stop();
}

/// Each change a transaction of its own, then all of them in one; nothing of what they made is left in the catalog but
/// the last.
#[test]
fn each_row_of_a_backlog_has_the_columns_of_its_place() {
    const CHANGES: &str = "
        INSERT INTO t VALUES (1, :account, 1, 'a');
        ALTER TABLE t ALTER COLUMN n TYPE bigint;
        INSERT INTO t VALUES (2, :account, 5000000000, 'b');
        ALTER TABLE t RENAME COLUMN v TO w;
        INSERT INTO t VALUES (3, :account, 3, 'c');
        ALTER TABLE t ADD COLUMN more int, ALTER COLUMN w TYPE varchar(30);
        UPDATE t SET more = 7 WHERE id = 3;
        ALTER TABLE t DROP COLUMN more, DROP COLUMN n;
        DELETE FROM t WHERE id = 2;
        ALTER TABLE t RENAME COLUMN w TO v;
        INSERT INTO t VALUES (4, :account, 'd');
        DELETE FROM t;";
    let changes = CHANGES.replace(":account", &format!("'{A}'"));
    let expected = [
        "c (1 1 a - -)",
        "c (2 5000000000 b - -)",
        "c (3 3 - c -)",
        "u (3 3 - c null) (3 3 - c 7)",
        "d (2 - - b -)",
        "tombstone",
        "c (4 - d - -)",
    ];
    for transaction in ["", "BEGIN;"] {
        let mut scene = Scene::start(TABLE, "");
        down(&mut scene);
        let commit = if transaction.is_empty() { "" } else { "COMMIT;" };
        scene.sql(&format!("{transaction} {changes} {commit}"));
        scene.again();

        let records = scene.records();
        let told = tell(&records, &["id", "n", "v", "w", "more"]);
        assert_eq!(told[..expected.len()], expected, "{transaction}");
        assert_eq!(told.len(), expected.len() + 6, "three rows are deleted at the end");
        assert_eq!(super::key_ids(&records).len(), 1);
        scene.stop();
    }
}
