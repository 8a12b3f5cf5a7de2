//! Without the event triggers: what the Relation messages and the pinned OIDs show.

use super::{insert, reloads, stop_for_now, with_a_row};
use crate::scene::{A, PARTITIONS, Scene, in_order, tell};

fn without_triggers() -> Scene {
    let scene = with_a_row("[tables]\ncapture = [\"public.*\"]\n");
    scene.sql("DROP SCHEMA penstock CASCADE");
    assert_eq!(scene.sql("SELECT count(*) FROM pg_event_trigger"), "0");
    scene
}

const AGAIN: &str = "
DROP TABLE t;
CREATE TABLE t (id int PRIMARY KEY, account_id uuid, v text);
ALTER TABLE t REPLICA IDENTITY FULL;
ALTER PUBLICATION penstock ADD TABLE t;
";

#[test]
fn a_table_that_is_created_anew_stops_the_bridge_until_that_is_accepted() {
    let mut scene = without_triggers();
    stop_for_now(&mut scene);
    scene.sql(AGAIN);
    insert(&scene, 2);
    for _ in 0..2 {
        scene.bridge = scene.world.run();
        scene.expect_halt(&["public.t", "another table", "tables.accept_missing"]);
    }
    scene.world.set("TABLES__ACCEPT_MISSING", "public.t");
    scene.again();
    let told = reloads(&mut scene);
    assert!(told.len() == 1 && told[0].starts_with("t: it is another table"), "{told:?}");
    assert_eq!(tell(&scene.delivered(), &["id"]), ["c (1)", "c (2)"]);
    // The new one is pinned: nothing more needs to be accepted.
    stop_for_now(&mut scene);
    scene.world.set("TABLES__ACCEPT_MISSING", "");
    scene.again();
    insert(&scene, 3);
    assert_eq!(tell(&scene.records(), &["id"]), ["c (1)", "c (2)", "c (3)"]);
    scene.stop();
}

#[test]
fn a_table_that_was_renamed_while_the_bridge_was_down_stops_it() {
    let mut scene = without_triggers();
    stop_for_now(&mut scene);
    scene.sql("ALTER TABLE t RENAME TO u");
    scene.sql(&format!("INSERT INTO u VALUES (2, '{A}', 'v')"));
    scene.bridge = scene.world.run();
    scene.expect_halt(&["public.t", "it is public.u now", "tables.accept_missing", "tables.exclude"]);
    scene.world.set("TABLES__ACCEPT_MISSING", "public.t");
    scene.again();
    let told = reloads(&mut scene);
    assert!(told.len() == 2 && told[0].starts_with("t: ") && told[1].starts_with("u: "), "{told:?}");
    scene.stop();
}

#[test]
fn values_of_a_type_that_is_gone_travel_as_text() {
    let mut scene = without_triggers();
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
    assert!(scene.bridge.log().contains("the type of a column is gone"));
    scene.stop();
}

#[test]
fn a_table_that_is_gone_stops_the_bridge_until_that_is_accepted() {
    let mut scene = without_triggers();
    stop_for_now(&mut scene);
    scene.sql(&format!(
        "CREATE TABLE brief (id int PRIMARY KEY, account_id uuid); ALTER TABLE brief REPLICA IDENTITY FULL;
         ALTER PUBLICATION penstock ADD TABLE brief;
         INSERT INTO brief VALUES (2, '{A}'), (3, '{A}'); TRUNCATE brief; INSERT INTO brief VALUES (4, '{A}');
         DROP TABLE brief;"
    ));
    scene.bridge = scene.world.run();
    scene.expect_halt(&["public.brief", "no primary key", "tables.accept_missing"]);
    scene.world.set("TABLES__ACCEPT_MISSING", "public.brief");
    scene.again();
    insert(&scene, 5);
    let told = tell(&in_order(scene.records()), &["id"]);
    let mut expected = vec!["c (1)"];
    expected.extend(["truncate public.brief"].repeat(2 * usize::try_from(PARTITIONS).expect("few")));
    expected.push("c (5)");
    assert_eq!(told, expected, "once for the rows that are left out, and once where they were");
    scene.stop();
}

#[test]
fn a_table_that_is_dropped_is_missed_by_the_running_bridge_and_by_the_next() {
    let mut scene = without_triggers();
    scene.sql("DROP TABLE t; CREATE TABLE u (id int PRIMARY KEY, account_id uuid); ALTER TABLE u REPLICA IDENTITY FULL; ALTER PUBLICATION penstock ADD TABLE u;");
    let words = ["public.t", "dropped or taken out of the publication", "tables.accept_missing"];
    scene.expect_halt(&words);
    scene.bridge = scene.world.run();
    scene.expect_halt(&words);
    scene.world.set("TABLES__ACCEPT_MISSING", "public.t");
    scene.again();
    scene.sql(&format!("INSERT INTO u VALUES (2, '{A}')"));
    let told = reloads(&mut scene);
    assert!(told.len() == 1 && told[0].starts_with("t: it was dropped or"), "{told:?}");
    assert_eq!(tell(&in_order(scene.delivered()), &["id"]), ["c (1)", "c (2)"]);
    scene.stop();
}

#[test]
fn a_publication_that_sends_less_is_noticed_while_the_bridge_runs() {
    let mut scene = without_triggers();
    scene.sql("ALTER PUBLICATION penstock SET (publish = 'insert')");
    scene.expect_halt(&["publication penstock", "it does not send update, delete, truncate", "ALTER PUBLICATION"]);
}
