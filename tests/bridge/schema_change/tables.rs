//! Tables that join the publication, and tables in partitions.

use super::{TABLE, down, halts, key_ids, value_ids};
use crate::scene::{A, B, Scene, in_order, tell, world};

const ANOTHER: &str = "
    CREATE TABLE u (id int PRIMARY KEY, account_id uuid NOT NULL, w text);
    ALTER TABLE u REPLICA IDENTITY FULL;
    ALTER PUBLICATION penstock ADD TABLE u;";

/// In the transaction that makes it, and whether or not anybody is there to see it.
#[test]
fn a_table_that_joins_the_publication_is_captured_from_its_first_row_on() {
    for is_down in [false, true] {
        let mut scene = Scene::start(TABLE, "");
        scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 1, 'a')"));
        if is_down {
            down(&mut scene);
        }
        scene.sql(&format!(
            "BEGIN; {ANOTHER} INSERT INTO u VALUES (1, '{A}', 'first'); INSERT INTO t VALUES (2, '{A}', 2, 'b'); COMMIT;
             INSERT INTO u VALUES (2, '{A}', 'second');
             ALTER TABLE u RENAME COLUMN w TO x;
             UPDATE u SET x = 'third' WHERE id = 1;"
        ));
        if is_down {
            scene.again();
        }
        let told = tell(&scene.records(), &["id", "v", "w", "x"]);
        let expected =
            ["c (1 a - -)", "c (1 - first -)", "c (2 b - -)", "c (2 - second -)", "u (1 - - first) (1 - - third)"];
        assert_eq!(told, expected);
        scene.stop();
    }
}

/// The publication is not the configuration: what nobody asked for is not written, and nothing says so silently.
#[test]
fn a_published_table_that_is_not_asked_for_stops_the_bridge() {
    let capture = "[tables]\ncapture = [\"public.t\"]\n";
    let mut scene = Scene::start(TABLE, capture);
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 1, 'a')"));
    assert_eq!(scene.records().len(), 1);
    scene.sql(&format!("{ANOTHER} INSERT INTO u VALUES (1, '{A}', 'first');"));
    scene.expect_halt(&["table public.u", "published", "does not ask for it", "tables.capture", "DROP TABLE"]);
    halts(&mut scene, &["public.u", "published", "tables.capture"]);
    assert_eq!(tell(&scene.delivered(), &["id", "v", "w"]), ["c (1 a -)"]);
    // Out of the publication again: its first row stands in the WAL all the same.
    scene.sql("ALTER PUBLICATION penstock DROP TABLE u");
    halts(&mut scene, &["table public.u", "is published", "stand in the WAL"]);
    scene.world.set("TABLES__CAPTURE", "public.t, public.u").set("TABLES__EXCLUDE", "public.u.w");
    scene.sql("ALTER PUBLICATION penstock ADD TABLE u");
    // It was out of the publication for a while, and what was written then is nowhere.
    halts(&mut scene, &["public.u", "taken out of the publication", "tables.accept_missing"]);
    scene.world.set("TABLES__ACCEPT_MISSING", "public.u");
    scene.again();
    assert_eq!(tell(&scene.records(), &["id", "v", "w"]), ["c (1 a -)", "c (1 - -)"]);
    scene.stop();
}

/// Keys are pinned at first sight. What the catalog calls them later does not matter where a trigger told what they were;
/// without triggers the catalog must still call them that.
#[test]
fn a_new_table_whose_key_was_renamed_since_stops_the_bridge_until_it_is_named_back() {
    let mut without_triggers = world(TABLE, "");
    without_triggers.set("SOURCE__EVENT_TRIGGERS", "false");
    let mut scene = Scene::of(without_triggers);
    down(&mut scene);
    scene.sql(&format!("{ANOTHER} INSERT INTO u VALUES (1, '{A}', 'first'); ALTER TABLE u RENAME COLUMN id TO ident;"));
    halts(&mut scene, &["table public.u cannot be captured", "\"ident\" by now", "back to what they were"]);
    scene.sql("ALTER TABLE u RENAME COLUMN ident TO id");
    scene.again();
    assert_eq!(tell(&scene.records(), &["id", "w"]), ["c (1 first)"]);
    scene.stop();
}

/// The stream names the root, whose columns may stand in another order than a partition's.
#[test]
fn partitions_change_with_their_root_and_tell_rows_as_the_root_has_them() {
    const SCHEMA: &str = "
        CREATE TABLE p (id int, account_id uuid NOT NULL, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE TABLE p2 (v text, gone int, account_id uuid NOT NULL, id int NOT NULL);
        ALTER TABLE p2 DROP COLUMN gone;
        ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20);
        ALTER TABLE p REPLICA IDENTITY FULL;
        ALTER TABLE p1 REPLICA IDENTITY FULL;
        ALTER TABLE p2 REPLICA IDENTITY FULL;";
    for is_down in [false, true] {
        let mut scene = Scene::start(SCHEMA, "");
        scene.sql(&format!("INSERT INTO p VALUES (1, '{A}', 'a'), (11, '{B}', 'b')"));
        if is_down {
            down(&mut scene);
        }
        scene.sql(&format!(
            "BEGIN;
             INSERT INTO p VALUES (2, '{A}', 'c'), (12, '{A}', 'd');
             ALTER TABLE p ADD COLUMN more int, ALTER COLUMN v TYPE varchar(10);
             INSERT INTO p VALUES (3, '{A}', 'e', 3), (13, '{A}', 'f', 13);
             UPDATE p SET more = id;
             COMMIT;
             ALTER TABLE p RENAME COLUMN v TO w;
             ALTER TABLE p DROP COLUMN more;
             UPDATE p SET w = 'g' WHERE id IN (1, 11);
             UPDATE p SET id = 14 WHERE id = 1;"
        ));
        if is_down {
            scene.again();
        }
        let records = in_order(scene.records());
        let columns = ["id", "v", "w", "more"];
        let mut told = tell(&records, &columns);
        // The six updates of one statement come partition by partition.
        told[6..12].sort_unstable();
        assert_eq!(
            told,
            [
                "c (1 a - -)",
                "c (11 b - -)",
                "c (2 c - -)",
                "c (12 d - -)",
                "c (3 e - 3)",
                "c (13 f - 13)",
                "u (1 a - null) (1 a - 1)",
                "u (11 b - null) (11 b - 11)",
                "u (12 d - null) (12 d - 12)",
                "u (13 f - 13) (13 f - 13)",
                "u (2 c - null) (2 c - 2)",
                "u (3 e - 3) (3 e - 3)",
                "u (1 - a -) (1 - g -)",
                "u (11 - b -) (11 - g -)",
                "d (1 - g -)",
                "tombstone",
                "c (14 - g -)",
            ]
        );
        assert!(records.iter().filter_map(|record| record.change()).all(|envelope| envelope.source.table == "p"));
        assert_eq!(key_ids(&records).len(), 1);
        let ids = value_ids(&records);
        assert!(ids[0..4].iter().all(|id| *id == ids[0]) && ids[4..12].iter().all(|id| *id == ids[4]), "{ids:?}");
        scene.stop();
    }
}
