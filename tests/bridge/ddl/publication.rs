//! Changes of the publication while the bridge runs.

use super::{insert, reloads, with_a_row};
use crate::scene::{A, in_order, tell};

#[test]
fn a_table_that_comes_into_the_publication_is_loaded() {
    let mut scene = with_a_row("");
    scene.sql(&format!(
        "CREATE TABLE u (id int PRIMARY KEY, account_id uuid); ALTER TABLE u REPLICA IDENTITY FULL;
         INSERT INTO u VALUES (1, '{A}'); ALTER PUBLICATION penstock ADD TABLE u; INSERT INTO u VALUES (2, '{A}');"
    ));
    assert_eq!(reloads(&mut scene), ["u: it came into the publication"]);
    assert_eq!(tell(&in_order(scene.delivered()), &["id"]), ["c (1)", "c (2)"]);
    scene.stop();
}

#[test]
fn a_table_that_leaves_the_publication_stops_the_bridge_until_it_is_left_out() {
    let mut scene = with_a_row("");
    scene.sql("CREATE TABLE u (id int PRIMARY KEY, account_id uuid); ALTER TABLE u REPLICA IDENTITY FULL; ALTER PUBLICATION penstock ADD TABLE u;");
    scene.sql("ALTER PUBLICATION penstock DROP TABLE t");
    scene.expect_halt(&["public.t", "taken out of the publication", "tables.leave_out", "tables.accept_missing"]);
    scene.world.set("TABLES__LEAVE_OUT", "public.t");
    scene.again();
    scene.sql(&format!("INSERT INTO u VALUES (2, '{A}')"));
    assert_eq!(tell(&scene.records(), &["id"]), ["c (1)", "c (2)"]);
    scene.stop();
}

#[test]
fn a_table_that_leaves_and_comes_back_in_one_transaction_is_loaded_again() {
    let mut scene = with_a_row("");
    scene.sql("BEGIN; ALTER PUBLICATION penstock DROP TABLE t; ALTER PUBLICATION penstock ADD TABLE t; COMMIT;");
    insert(&scene, 2);
    assert_eq!(reloads(&mut scene), ["t: it came into the publication"]);
    assert_eq!(tell(&scene.delivered(), &["id"]), ["c (1)", "c (2)"]);
    scene.stop();
}

#[test]
fn a_publication_that_sends_less_for_a_while_stops_the_bridge() {
    let mut scene = with_a_row("");
    scene.sql("ALTER PUBLICATION penstock SET (publish = 'insert')");
    scene.sql("DELETE FROM t");
    scene.sql("ALTER PUBLICATION penstock SET (publish = 'insert, update, delete, truncate')");
    let words = ["publication penstock was altered", "does not send update, delete, truncate", "tables.accept_missing"];
    scene.expect_halt(&words);
    scene.bridge = scene.world.run();
    scene.expect_halt(&words);
    scene.world.set("TABLES__ACCEPT_MISSING", "public.t");
    scene.again();
    let why = "t: the publication does not send update, delete, truncate, and that is accepted";
    assert_eq!(reloads(&mut scene), [why]);
    scene.stop();
}

#[test]
fn a_row_filter_stops_the_bridge() {
    let mut scene = with_a_row("");
    scene.sql("ALTER PUBLICATION penstock SET TABLE t WHERE (id > 5)");
    scene.expect_halt(&["public.t", "row filter or a column list", "tables.accept_missing"]);
    scene.sql("BEGIN; ALTER PUBLICATION penstock DROP TABLE t; ALTER PUBLICATION penstock ADD TABLE t; COMMIT;");
    scene.world.set("TABLES__ACCEPT_MISSING", "public.t");
    scene.again();
    insert(&scene, 2);
    assert!(reloads(&mut scene).contains(&"t: it came into the publication".to_owned()));
    assert_eq!(tell(&scene.delivered(), &["id"]), ["c (1)", "c (2)"]);
    scene.stop();
}
