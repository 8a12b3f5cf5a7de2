//! Names of tables and types: what is written once stays, and two tables never share it.

use crate::scene::{A, Scene, tell};

/// `-` becomes `_x002D_` in Avro, and a table may really be called so.
const FIRST: &str = "
CREATE SCHEMA \"a-b\"; CREATE SCHEMA \"a_x002D_b\";
CREATE TABLE \"t-x\" (id int PRIMARY KEY, account_id uuid);
CREATE TABLE \"a-b\".t (id int PRIMARY KEY, account_id uuid);
CREATE TABLE \"a_x002D_b\".other (id int PRIMARY KEY, account_id uuid);
ALTER TABLE \"t-x\" REPLICA IDENTITY FULL;
ALTER TABLE \"a-b\".t REPLICA IDENTITY FULL;
ALTER TABLE \"a_x002D_b\".other REPLICA IDENTITY FULL;
";

#[test]
fn a_table_whose_records_would_have_the_names_of_anothers_stops() {
    let configuration = "[tables]\ncapture = [\"public.*\", \"a-b.*\", \"a_x002D_b.*\"]\n";
    for (first, second) in [("public.\"t-x\"", "public.\"t_x002D_x\""), ("\"a-b\".t", "\"a_x002D_b\".t")] {
        let mut scene = Scene::start(FIRST, configuration);
        scene.sql(&format!("INSERT INTO {first} VALUES (1, '{A}')"));
        assert_eq!(tell(&scene.records(), &["id"]), ["c (1)"]);
        scene.sql(&format!(
            "CREATE TABLE {second} (id int PRIMARY KEY, account_id uuid);
             ALTER TABLE {second} REPLICA IDENTITY FULL;
             ALTER PUBLICATION penstock ADD TABLE {second};
             INSERT INTO {second} VALUES (2, '{A}')"
        ));
        let (one, other) = (first.replace('"', ""), second.replace('"', ""));
        scene.expect_halt(&[&format!("table {other} cannot be captured"), &format!("names of {one}'s"), "Rename"]);
        assert_eq!(tell(&scene.delivered(), &["id"]), ["c (1)"], "nothing of it is in the topic");
        // Before anything is read, too.
        scene.bridge = scene.world.run();
        scene.expect_halt(&["finding(s) stop the bridge", &format!("{one}'s: both become")]);
    }
}

/// The schema of a value names its type and, for a domain, what it is made of; both as first seen.
#[test]
fn a_domain_over_an_enum_that_is_renamed_makes_no_new_schema() {
    let schema = "
        CREATE TYPE mood AS ENUM ('fine');
        CREATE DOMAIN good_mood AS mood;
        CREATE TABLE t (id int PRIMARY KEY, account_id uuid, m good_mood);
        ALTER TABLE t REPLICA IDENTITY FULL;";
    let mut scene = Scene::start(schema, "");
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 'fine')"));
    assert_eq!(scene.records().len(), 1);
    scene.bridge.signal("TERM");
    assert!(scene.bridge.wait(crate::scene::PATIENCE).success());
    scene.sql(&format!(
        "ALTER TYPE mood RENAME TO temper; ALTER DOMAIN good_mood RENAME TO best_mood; INSERT INTO t VALUES (2, '{A}', 'fine')"
    ));
    scene.again();
    let records = scene.records();
    assert_eq!(tell(&records, &["id", "m"]), ["c (1 fine)", "c (2 fine)"]);
    let schema_ids: Vec<&[u8]> = records.iter().map(|record| &record.raw.as_ref().expect("a value")[1..5]).collect();
    assert_eq!(schema_ids[0], schema_ids[1], "the same schema");
    scene.stop();
}
