//! Key columns that change: what leaves the key's bytes alone goes on, everything else stops.

use super::{down, halts, key_ids, subject, versions};
use crate::scene::{A, B, Scene, tell, wait_for_loads};

const TABLE: &str = "
CREATE TABLE t (code varchar(20), id int, account_id uuid NOT NULL, other int, v text, PRIMARY KEY (id, code));
ALTER TABLE t REPLICA IDENTITY FULL;
";

fn insert(scene: &Scene, id: u64, code: &str) {
    scene.sql(&format!("INSERT INTO t VALUES ('{code}', {id}, '{A}', {id}, 'v')"));
}

/// int → bigint and varchar(20) → text: an old row that is updated or deleted later has the key it was created under.
#[test]
fn wider_key_types_leave_every_key_as_it_was() {
    for is_down in [false, true] {
        let mut scene = Scene::start(TABLE, "");
        insert(&scene, 1, "a");
        if is_down {
            down(&mut scene);
        }
        scene.sql(&format!(
            "BEGIN;
             INSERT INTO t VALUES ('b', 2, '{B}', 2, 'v');
             ALTER TABLE t ALTER COLUMN id TYPE bigint, ALTER COLUMN code TYPE text;
             UPDATE t SET v = 'w' WHERE id = 2;
             COMMIT;
             UPDATE t SET v = 'w' WHERE id = 1;
             DELETE FROM t WHERE id = 1;
             INSERT INTO t VALUES ('a code of more than twenty letters', 5000000000, '{A}', 5, 'v');"
        ));
        if is_down {
            scene.again();
        }
        let records = scene.records();
        let of = |account: &str| {
            let own: Vec<_> = records.iter().filter(|record| record.account == account).cloned().collect();
            (tell(&own, &["id", "code", "v"]), own)
        };
        let (told, own) = of(A);
        let long = "c (5000000000 a code of more than twenty letters v)";
        assert_eq!(told, ["c (1 a v)", "u (1 a v) (1 a w)", "d (1 a w)", "tombstone", long]);
        assert!(own[..4].iter().all(|record| record.key == own[0].key), "the tombstone takes away what was created");
        let (told, own) = of(B);
        assert_eq!(told, ["c (2 b v)", "u (2 b v) (2 b w)"]);
        assert_eq!(own[0].key, own[1].key);
        assert_eq!(key_ids(&records).len(), 1);
        assert_eq!(versions(&scene, &subject(&scene, "t", "Key")), 1);
        scene.stop();
    }
}

#[test]
fn a_renamed_key_column_stops_the_bridge_and_naming_it_back_does_not_help() {
    let mut scene = Scene::start(TABLE, "");
    insert(&scene, 1, "a");
    assert_eq!(scene.records().len(), 1);
    // Nothing was written under the other name: nothing is lost.
    scene.sql("ALTER TABLE t RENAME COLUMN code TO name; ALTER TABLE t RENAME COLUMN name TO code;");
    insert(&scene, 2, "b");
    assert_eq!(scene.records().len(), 2);

    scene.sql("ALTER TABLE t RENAME COLUMN code TO name");
    insert(&scene, 3, "c");
    let words = ["table public.t cannot be captured", "key column \"code\"", "pinned", "new topic"];
    scene.expect_halt(&words);
    halts(&mut scene, &words);
    scene.sql("ALTER TABLE t RENAME COLUMN name TO code");
    halts(&mut scene, &words);
    assert_eq!(scene.delivered().len(), 2);
}

#[test]
fn a_key_of_another_type_stops_the_bridge_before_its_schema_is_registered() {
    let mut scene = Scene::start(TABLE, "");
    insert(&scene, 1, "7");
    assert_eq!(scene.records().len(), 1);
    scene.sql("ALTER TABLE t ALTER COLUMN code TYPE uuid USING md5(code)::uuid; UPDATE t SET v = 'w';");
    let key = subject(&scene, "t", "Key");
    let words = [&key, "pinned as id", "code was string and is string uuid", "new topic"];
    scene.expect_halt(&words);
    halts(&mut scene, &words);
    assert_eq!(versions(&scene, &key), 1, "nothing of it is in the registry");
    // The rows of that shape are written: undoing the change does not unwrite them.
    scene.sql("ALTER TABLE t ALTER COLUMN code TYPE varchar(20) USING left(code::text, 20)");
    halts(&mut scene, &words);
    assert_eq!(scene.delivered().len(), 1);
}

/// Under REPLICA IDENTITY FULL the stream does not tell which columns are the key. It is noticed where the table is
/// looked at anew: when it has another shape, and at a start.
#[test]
fn a_primary_key_of_other_columns_stops_the_bridge() {
    const SWAP: &str = "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (id);";
    const BACK: &str = "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (id, code);";
    let words = ["primary key is (id)", "keys in the topic are made of (id, code)", "Make (id, code) the primary key"];
    for is_down in [false, true] {
        let mut scene = Scene::start(TABLE, "");
        insert(&scene, 1, "a");
        assert_eq!(scene.records().len(), 1);
        if is_down {
            down(&mut scene);
            scene.sql(SWAP);
            insert(&scene, 2, "b");
            halts(&mut scene, &words);
        } else {
            scene.sql(&format!("{SWAP} ALTER TABLE t DROP COLUMN other;"));
            scene.sql(&format!("INSERT INTO t VALUES ('b', 2, '{A}', 'v')"));
            scene.expect_halt(&words);
        }
        assert_eq!(scene.delivered().len(), 1);
        // Rows were written in between, whatever the key is now.
        scene.sql(BACK);
        halts(&mut scene, &words);
        scene.world.set("TABLES__ACCEPT_MISSING", "public.t");
        scene.again();
        assert_eq!(tell(&scene.records(), &["id", "code"]), ["c (1 a)", "c (2 b)"]);
        wait_for_loads(&scene);
        let loaded = scene.records_and_loads();
        assert!(tell(&loaded, &["id", "code"]).contains(&"r (2 b)".to_owned()), "the table is loaded again");
        scene.stop();
    }
}
