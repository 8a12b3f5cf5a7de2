//! Tables that go, come back, or change their names.

use super::{TABLE, ends_as_the_tables, insert, reloads, stop_for_now, with_a_row};
use crate::scene::{A, PARTITIONS, Scene, in_order, tell};

const AGAIN: &str = "
CREATE TABLE t (id int PRIMARY KEY, account_id uuid, w int);
ALTER TABLE t REPLICA IDENTITY FULL;
ALTER PUBLICATION penstock ADD TABLE t;
";

#[test]
fn a_dropped_table_is_emptied_and_its_successor_is_loaded() {
    let mut scene = with_a_row("");
    scene.sql(&format!("DROP TABLE t; {AGAIN}"));
    scene.sql(&format!("INSERT INTO t VALUES (2, '{A}', 3)"));
    assert_eq!(reloads(&mut scene), ["t: it came into the publication"]);
    let records = in_order(scene.delivered());
    let mut expected = vec!["c (1 -)"];
    expected.extend(["truncate public.t"].repeat(usize::try_from(PARTITIONS).expect("few")));
    expected.push("c (2 3)");
    assert_eq!(tell(&records, &["id", "w"]), expected);
    ends_as_the_tables(&mut scene, &[("t", &["id", "account_id", "w"])]);
    scene.stop();
}

#[test]
fn a_table_that_is_created_anew_while_the_bridge_is_down_is_told_from_the_old_one() {
    let mut scene = with_a_row("");
    stop_for_now(&mut scene);
    insert(&scene, 2);
    scene.sql(&format!("DROP TABLE t; {AGAIN} INSERT INTO t VALUES (3, '{A}', 3);"));
    scene.again();
    assert_eq!(reloads(&mut scene), ["t: it came into the publication"]);
    let told = tell(&in_order(scene.delivered()), &["id", "w"]);
    assert_eq!((told[1].as_str(), told[2].as_str()), ("c (2 -)", "truncate public.t"));
    assert_eq!(told.last().map(String::as_str), Some("c (3 3)"));
    ends_as_the_tables(&mut scene, &[("t", &["id", "account_id", "w"])]);
    scene.stop();
}

#[test]
fn tables_that_swap_their_names_are_both_loaded_again() {
    let mut scene = with_a_row("");
    scene.sql("CREATE TABLE u (LIKE t INCLUDING ALL); ALTER TABLE u REPLICA IDENTITY FULL; ALTER PUBLICATION penstock ADD TABLE u;");
    scene.sql("BEGIN; ALTER TABLE t RENAME TO x; ALTER TABLE u RENAME TO t; ALTER TABLE x RENAME TO u; COMMIT;");
    insert(&scene, 2);
    scene.sql("DELETE FROM u");
    let told = reloads(&mut scene);
    // One that waits to be read is not asked for again: u is that since it came.
    assert_eq!(told[..2], ["u: it came into the publication", "t: it is public.x now"]);
    let records = in_order(scene.delivered());
    assert_eq!(tell(&records, &["id"]), ["c (1)", "c (2)", "d (1)", "tombstone"]);
    let tables: Vec<&str> = records.iter().filter_map(|record| Some(record.change()?.source.table.as_str())).collect();
    assert_eq!(tables, ["t", "t", "u"], "records go by the name that the table has at their place");
    ends_as_the_tables(&mut scene, &[("t", &["id", "account_id", "v"]), ("u", &["id", "account_id", "v"])]);
    scene.stop();
}

#[test]
fn a_schema_that_gets_another_name_renames_its_tables() {
    let publication = "CREATE PUBLICATION penstock FOR TABLE t WITH (publish_via_partition_root);";
    let mut scene = Scene::start(&format!("{TABLE} {publication}"), "[tables]\ncapture = []\n");
    insert(&scene, 1);
    scene.records();
    scene.sql("ALTER SCHEMA public RENAME TO other; CREATE SCHEMA public;");
    scene.sql(&format!("INSERT INTO other.t VALUES (2, '{A}', 'v')"));
    let told = reloads(&mut scene);
    assert_eq!(told, ["t: it is other.t now", "t: it was public.t until now"]);
    scene.stop();
}
