//! A bridge that lags behind later DDL describes tables as they were at each place of the stream.

use super::{reloads, stop_for_now, with_a_row};
use crate::scene::{A, in_order, tell};

#[test]
fn a_type_that_is_gone_is_known_from_the_stream() {
    let mut scene = with_a_row("");
    stop_for_now(&mut scene);
    scene.sql(&format!(
        "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN small AS int;
         ALTER TABLE t ADD COLUMN m mood, ADD COLUMN n small;
         INSERT INTO t VALUES (2, '{A}', 'v', 'glad', 7);
         ALTER TABLE t DROP COLUMN m, DROP COLUMN n;
         DROP TYPE mood; DROP DOMAIN small;"
    ));
    scene.again();
    assert_eq!(tell(&scene.records(), &["id", "m", "n"]), ["c (1 - -)", "c (2 glad 7)"]);
    assert!(!scene.bridge.log().contains("the type of a column is gone"), "the catalog was asked");
    scene.stop();
}

#[test]
fn a_table_that_came_and_went_is_known_from_the_stream() {
    let mut scene = with_a_row("");
    stop_for_now(&mut scene);
    scene.sql(&format!(
        "CREATE TABLE brief (account_id uuid, id int, PRIMARY KEY (id, account_id)); ALTER TABLE brief REPLICA IDENTITY FULL;
         ALTER PUBLICATION penstock ADD TABLE brief;
         INSERT INTO brief VALUES ('{A}', 2);
         DROP TABLE brief;"
    ));
    scene.again();
    assert_eq!(reloads(&mut scene), ["brief: it came into the publication"]);
    let told = tell(&in_order(scene.delivered()), &["id"]);
    assert_eq!(told[..2], ["c (1)", "c (2)"]);
    assert!(told[2..].iter().all(|line| line == "truncate public.brief") && told.len() > 2, "{told:?}");
    scene.stop();
}

#[test]
fn a_key_that_changed_later_is_written_as_it_was() {
    let mut scene = with_a_row("");
    stop_for_now(&mut scene);
    scene.sql(&format!(
        "CREATE TABLE u (id int PRIMARY KEY, other int UNIQUE NOT NULL, account_id uuid); ALTER TABLE u REPLICA IDENTITY FULL;
         ALTER PUBLICATION penstock ADD TABLE u;
         INSERT INTO u VALUES (2, 3, '{A}');
         ALTER TABLE u DROP CONSTRAINT u_pkey; ALTER TABLE u ADD PRIMARY KEY (other);"
    ));
    scene.again();
    let records = in_order(scene.records());
    let key = String::from_utf8_lossy(&records[1].key);
    assert!(records[1].key.ends_with(&[4]), "the key is id, 2 in Avro's zigzag: {key:?} {:?}", records[1].key);
    scene.stop();
}
