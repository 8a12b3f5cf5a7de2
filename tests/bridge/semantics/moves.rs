//! Rows that change their account, their key or what they point at.

use super::TABLE;
use crate::reader::Record;
use crate::scene::{A, B, Scene, ends, in_order, seqs, tell};

fn accounts(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.account.as_str()).collect()
}

fn total_orders(records: &[Record]) -> Vec<u64> {
    records.iter().filter_map(|record| Some(record.change()?.transaction.as_ref()?.total_order)).collect()
}

#[test]
fn a_row_leaves_its_old_account_and_appears_in_the_new() {
    let mut scene = Scene::start(TABLE, "");
    scene.sql(&format!(
        "INSERT INTO t VALUES (1, '{A}', 'a');
         BEGIN;
         INSERT INTO t VALUES (2, '{B}', 'b');
         UPDATE t SET account_id = '{B}', v = 'moved' WHERE id = 1;
         UPDATE t SET v = 'later' WHERE id = 1;
         COMMIT;"
    ));

    let records = in_order(scene.records());
    let (inserted, moved) = (&records[0], &records[1..]);
    assert_eq!(tell(moved, &["id", "v"]), ["c (2 b)", "d (1 a)", "tombstone", "c (1 moved)", "u (1 moved) (1 later)",]);
    assert_eq!(accounts(moved), [B, A, A, B, B]);
    assert_eq!(seqs(moved), [8, 16, 17, 18, 24]);
    assert_eq!(total_orders(moved), [1, 2, 3, 4], "numbered across partitions without a hole");
    assert_eq!(ends(moved), [false, false, true, false, true], "the end is flagged in both partitions");
    // Compaction must take the old row away: its tombstone has its key, to the byte. The new key is another.
    assert_eq!(moved[1].key, inserted.key);
    assert_eq!(moved[2].key, inserted.key);
    assert_ne!(moved[3].key, inserted.key);
    assert_ne!(moved[1].partition, moved[3].partition);
    scene.stop();
}

#[test]
fn a_new_primary_key_is_a_delete_and_a_create() {
    let mut scene = Scene::start(TABLE, "");
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 'a'); UPDATE t SET id = 2; UPDATE t SET v = 'b';"));

    let records = scene.records();
    assert_eq!(tell(&records, &["id", "v"]), ["c (1 a)", "d (1 a)", "tombstone", "c (2 a)", "u (2 a) (2 b)"]);
    assert_eq!(seqs(&records), [8, 8, 9, 10, 8]);
    let keys: Vec<&[u8]> = records.iter().map(|record| record.key.as_slice()).collect();
    assert_eq!((keys[1], keys[2]), (keys[0], keys[0]));
    assert_eq!(keys[4], keys[3]);
    assert_ne!(keys[3], keys[0]);
    scene.stop();
}

#[test]
fn rows_without_an_account_belong_to_global_until_they_get_one() {
    let mut scene = Scene::start(TABLE, "");
    scene.sql(&format!(
        "INSERT INTO t VALUES (1, NULL, 'a');
         UPDATE t SET v = 'b';
         UPDATE t SET account_id = '{B}';
         UPDATE t SET account_id = NULL;
         DELETE FROM t;"
    ));

    let records = in_order(scene.records());
    assert_eq!(
        tell(&records, &["account_id", "v"]),
        [
            "c (null a)".to_owned(),
            "u (null a) (null b)".to_owned(),
            "d (null b)".to_owned(),
            "tombstone".to_owned(),
            format!("c ({B} b)"),
            format!("d ({B} b)"),
            "tombstone".to_owned(),
            "c (null b)".to_owned(),
            "d (null b)".to_owned(),
            "tombstone".to_owned(),
        ]
    );
    let global = "global";
    assert_eq!(accounts(&records), [global, global, global, global, B, B, B, global, global, global]);
    scene.stop();
}

const POLICIES: &str = "
CREATE TABLE policies (id int PRIMARY KEY, account_id uuid NOT NULL, resource_id text NOT NULL);
ALTER TABLE policies REPLICA IDENTITY FULL;
";

#[test]
fn a_policy_that_moves_there_and_back_tells_every_step() {
    let mut scene = Scene::start(POLICIES, "");
    scene.sql(&format!(
        "INSERT INTO policies VALUES (1, '{A}', 'r1');
         UPDATE policies SET resource_id = 'r2';
         UPDATE policies SET resource_id = 'r1';"
    ));

    let records = scene.records();
    assert_eq!(tell(&records, &["resource_id"]), ["c (r1)", "u (r1) (r2)", "u (r2) (r1)"]);
    assert_eq!(ends(&records), [true, true, true]);
    scene.stop();
}

#[test]
fn a_policy_that_moves_there_and_back_in_one_transaction_tells_every_step() {
    let mut scene = Scene::start(POLICIES, "");
    scene.sql(&format!(
        "INSERT INTO policies VALUES (1, '{A}', 'r1');
         BEGIN;
         UPDATE policies SET resource_id = 'r2';
         UPDATE policies SET resource_id = 'r1';
         COMMIT;"
    ));

    let records = scene.records();
    assert_eq!(tell(&records, &["resource_id"]), ["c (r1)", "u (r1) (r2)", "u (r2) (r1)"]);
    assert_eq!(seqs(&records), [8, 8, 16]);
    assert_eq!(ends(&records), [true, false, true], "readers see the whole of it, or nothing");
    scene.stop();
}
