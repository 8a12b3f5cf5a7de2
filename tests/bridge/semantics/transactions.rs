//! Which events belong to which transaction, in which order they come, and which never do.

use super::TABLE;
use crate::scene::{A, B, Scene, Session, ends, in_order, seqs, tell};

#[test]
fn transactions_come_in_the_order_of_their_commits() {
    let mut scene = Scene::start(TABLE, "");
    let (early, late) = (Session::open(&scene.world), Session::open(&scene.world));
    early.run(&format!("BEGIN; INSERT INTO t VALUES (1, '{A}', 'began first')"));
    late.run(&format!("BEGIN; INSERT INTO t VALUES (2, '{A}', 'began second')"));
    early.run(&format!("INSERT INTO t VALUES (3, '{A}', 'began first')"));
    late.run("COMMIT");
    early.run("COMMIT");

    let records = scene.records();
    assert_eq!(tell(&records, &["id", "v"]), ["c (2 began second)", "c (1 began first)", "c (3 began first)"]);
    assert_eq!(seqs(&records), [8, 8, 16]);
    assert_eq!(ends(&records), [true, false, true]);
    let commits: Vec<_> = records.iter().map(|record| record.header.position.commit_lsn).collect();
    assert!(commits[0] < commits[1] && commits[1] == commits[2], "{commits:?}");
    // What makes the case: by the place in the WAL they would stand otherwise.
    let rows: Vec<_> = records.iter().filter_map(|record| record.change()?.source.row_lsn).collect();
    assert!(rows[1] < rows[0] && rows[0] < rows[2], "{rows:?}");
    scene.stop();
}

#[test]
fn rows_of_a_copy_that_share_an_lsn_are_all_delivered() {
    let mut scene = Scene::start(TABLE, "");
    let rows: String = (1..=500).map(|id| format!("{id}\t{A}\tv{id}\n")).collect();
    scene.sql(&format!("COPY t FROM STDIN;\n{rows}\\.\n"));

    let records = scene.records();
    let expected: Vec<String> = (1..=500).map(|id| format!("c ({id} v{id})")).collect();
    assert_eq!(tell(&records, &["id", "v"]), expected);
    let expected: Vec<u64> = (1..=500).map(|n| 8 * n).collect();
    assert_eq!(seqs(&records), expected);
    let lsns: Vec<_> = records.iter().filter_map(|record| record.change()?.source.row_lsn).collect();
    assert!(lsns.windows(2).any(|pair| pair[0] == pair[1]), "no two rows share an LSN: {lsns:?}");
    scene.stop();
}

#[test]
fn a_cascade_is_one_transaction_the_parents_delete_first() {
    let schema = "
        CREATE TABLE parent (id int PRIMARY KEY, account_id uuid);
        CREATE TABLE child (id int PRIMARY KEY, account_id uuid, parent_id int REFERENCES parent ON DELETE CASCADE);
        ALTER TABLE parent REPLICA IDENTITY FULL;
        ALTER TABLE child REPLICA IDENTITY FULL;";
    let mut scene = Scene::start(schema, "");
    scene.sql(&format!(
        "BEGIN; INSERT INTO parent VALUES (1, '{A}'); INSERT INTO child VALUES (1, '{A}', 1), (2, '{B}', 1); COMMIT;
         DELETE FROM parent WHERE id = 1;"
    ));

    let records = in_order(scene.records());
    let deletes = &records[3..];
    assert_eq!(
        tell(deletes, &["id", "parent_id"]),
        ["d (1 -)", "tombstone", "d (1 1)", "tombstone", "d (2 1)", "tombstone"]
    );
    assert_eq!(seqs(deletes), [8, 9, 16, 17, 24, 25]);
    assert!(deletes.iter().all(|record| record.header.position.commit_lsn == deletes[0].header.position.commit_lsn));
    // Each partition has its own end: A's behind A's child, B's behind B's.
    assert_eq!(ends(deletes), [false, false, false, true, false, true]);
    let orders: Vec<_> = deletes.iter().filter_map(|record| record.change()?.transaction.as_ref()).collect();
    let orders: Vec<_> = orders.iter().map(|place| (place.total_order, place.data_collection_order)).collect();
    assert_eq!(orders, [(1, 1), (2, 1), (3, 2)]);
    scene.stop();
}

#[test]
fn what_a_savepoint_rolled_back_is_not_delivered() {
    let mut scene = Scene::start(TABLE, "");
    scene.sql(&format!(
        "BEGIN;
         INSERT INTO t VALUES (1, '{A}', 'kept');
         SAVEPOINT one; INSERT INTO t VALUES (2, '{A}', 'gone'); UPDATE t SET v = 'gone' WHERE id = 1;
         SAVEPOINT two; INSERT INTO t VALUES (3, '{A}', 'gone'); RELEASE two;
         ROLLBACK TO one;
         SAVEPOINT three; INSERT INTO t VALUES (4, '{A}', 'kept'); RELEASE three;
         COMMIT;
         BEGIN; INSERT INTO t VALUES (5, '{A}', 'gone'); ROLLBACK;"
    ));

    let records = scene.records();
    assert_eq!(tell(&records, &["id", "v"]), ["c (1 kept)", "c (4 kept)"]);
    assert_eq!(seqs(&records), [8, 16]);
    scene.stop();
}

#[test]
fn a_prepared_transaction_is_delivered_when_it_commits() {
    let mut scene = Scene::start(TABLE, "");
    // Names of prepared transactions are the whole server's.
    let name = scene.world.source.clone();
    scene.sql(&format!(
        "BEGIN; INSERT INTO t VALUES (1, '{A}', 'prepared'); PREPARE TRANSACTION '{name}';
         BEGIN; INSERT INTO t VALUES (2, '{A}', 'given up'); PREPARE TRANSACTION '{name} 2';
         INSERT INTO t VALUES (3, '{A}', 'meanwhile');
         ROLLBACK PREPARED '{name} 2';"
    ));
    assert_eq!(tell(&scene.records(), &["id", "v"]), ["c (3 meanwhile)"]);

    scene.sql(&format!("COMMIT PREPARED '{name}'"));
    assert_eq!(tell(&scene.records(), &["id", "v"]), ["c (3 meanwhile)", "c (1 prepared)"]);
    scene.stop();
}

#[test]
fn transactions_without_rows_leave_nothing_and_hold_up_nothing() {
    let schema = &format!("{TABLE} CREATE TABLE other (id int PRIMARY KEY);");
    let mut scene = Scene::start(schema, "[tables]\ncapture = [\"public.t\"]\n");
    scene.sql("BEGIN; COMMIT; INSERT INTO other VALUES (1); SELECT pg_logical_emit_message(true, 'nobody', 'hears');");
    assert_eq!(tell(&scene.records(), &["id"]), [""; 0], "nothing to tell");

    // A logical message is an event: it is counted, also where it leaves no record.
    scene.sql(&format!(
        "BEGIN; SELECT pg_logical_emit_message(true, 'nobody', 'hears'); INSERT INTO t VALUES (1, '{A}', 'a'); COMMIT;"
    ));
    let records = scene.records();
    assert_eq!(tell(&records, &["id", "v"]), ["c (1 a)"]);
    assert_eq!(seqs(&records), [16]);
    scene.stop();
}

#[test]
fn updates_of_ignored_columns_are_dropped_and_counted() {
    let schema = "
        CREATE TABLE t (id int PRIMARY KEY, account_id uuid, v text, seen_at int, seen_by int);
        ALTER TABLE t REPLICA IDENTITY FULL;";
    let ignored = "[tables]\ncapture = [\"public.*\"]\nignore_updates = [\"public.t.seen_at\", \"public.t.seen_by\"]\n";
    let mut scene = Scene::start(schema, ignored);
    scene.sql(&format!(
        "BEGIN;
         INSERT INTO t VALUES (1, '{A}', 'a', 1, 1);
         UPDATE t SET seen_at = 2;
         UPDATE t SET seen_at = 3, seen_by = 3;
         UPDATE t SET v = 'b', seen_at = 4;
         UPDATE t SET account_id = '{B}', seen_at = 5;
         COMMIT;
         UPDATE t SET seen_at = 6;
         DELETE FROM t;"
    ));

    let records = in_order(scene.records());
    let columns = ["v", "seen_at", "seen_by"];
    assert_eq!(
        tell(&records, &columns),
        [
            "c (a 1 1)",
            // Two events of the transaction are not told, so what follows stands two events further.
            "u (a 3 3) (b 4 3)",
            "d (b 4 3)",
            "tombstone",
            "c (b 5 3)",
            "d (b 6 3)",
            "tombstone",
        ]
    );
    assert_eq!(seqs(&records), [8, 32, 40, 41, 42, 8, 9]);
    scene.stop();
}
