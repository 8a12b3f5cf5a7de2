//! Partitioned tables: their rows come and go with whole partitions, and the server describes these, too.

use super::{reloads, stop_for_now};
use crate::scene::{A, B, PATIENCE, Scene, in_order, tell, wait_for_loads};

const PARTITIONED: &str = "
CREATE TABLE r (id int, account_id uuid, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
ALTER TABLE r REPLICA IDENTITY FULL;
CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (10);
ALTER TABLE r1 REPLICA IDENTITY FULL;
";

fn partitioned(configuration: &str) -> Scene {
    let mut scene = Scene::start(PARTITIONED, configuration);
    scene.sql(&format!("INSERT INTO r VALUES (1, '{A}', 'v')"));
    assert_eq!(tell(&scene.records(), &["id"]), ["c (1)"]);
    scene
}

#[test]
fn partitions_that_join_or_leave_load_their_table_again() {
    let mut scene = partitioned("");
    scene.sql("CREATE TABLE r2 PARTITION OF r FOR VALUES FROM (10) TO (20); ALTER TABLE r2 REPLICA IDENTITY FULL;");
    let before = reloads(&mut scene).len();
    scene.sql(&format!(
        "CREATE TABLE r3 (LIKE r INCLUDING ALL); ALTER TABLE r3 REPLICA IDENTITY FULL;
         INSERT INTO r3 VALUES (21, '{A}', 'v');
         ALTER TABLE r ATTACH PARTITION r3 FOR VALUES FROM (20) TO (30);"
    ));
    assert_eq!(reloads(&mut scene)[before..], ["r: a partition was attached"]);
    scene.sql("ALTER TABLE r DETACH PARTITION r3");
    assert_eq!(reloads(&mut scene)[before + 1..], ["r: a partition was detached"]);
    scene.sql("DROP TABLE r3; DROP TABLE r1;");
    assert_eq!(reloads(&mut scene)[before + 2..], ["r: a partition was dropped"]);
    scene.sql("ALTER TABLE r ADD COLUMN d int DEFAULT 5");
    assert_eq!(reloads(&mut scene)[before + 3..], ["r: its rows have got a default in d"]);
    scene.stop();
}

#[test]
fn a_partition_is_known_again_after_a_restart() {
    let mut scene = partitioned("");
    // Any ALTER tells which partitions there are.
    scene.sql("ALTER TABLE r ALTER COLUMN v SET DEFAULT 'w'");
    reloads(&mut scene);
    wait_for_loads(&scene);
    stop_for_now(&mut scene);
    scene.sql("DROP TABLE r1");
    scene.again();
    assert_eq!(reloads(&mut scene), ["r: a partition was dropped"]);
    scene.stop();
}

#[test]
fn a_partition_that_is_truncated_loads_its_table_again() {
    let mut scene = partitioned("");
    scene.sql("TRUNCATE r1");
    assert_eq!(reloads(&mut scene), ["r: a partition was truncated"]);
    // One that came later has no trigger until `setup` runs again, and `check` says so.
    scene.sql("CREATE TABLE r2 PARTITION OF r FOR VALUES FROM (10) TO (20); ALTER TABLE r2 REPLICA IDENTITY FULL;");
    let check = |scene: &Scene| {
        let mut check = scene.world.spawn("check", &[], &scene.world.database);
        assert_eq!(check.wait(PATIENCE).code(), Some(0));
        check.log()
    };
    assert!(check(&scene).contains("a TRUNCATE of 1 of its 2 partitions is not noticed"), "{}", check(&scene));
    stop_for_now(&mut scene);
    let mut setup = scene.world.spawn("setup", &[], &scene.world.database);
    assert!(setup.wait(PATIENCE).success(), "{}", setup.log());
    assert!(!check(&scene).contains("TRUNCATE"), "{}", check(&scene));
    scene.again();
    let before = reloads(&mut scene).len();
    scene.sql("TRUNCATE r2");
    assert_eq!(reloads(&mut scene)[before..], ["r: a partition was truncated"]);
    scene.stop();
}

/// `CREATE TABLE … PARTITION OF` does not take over the identity.
#[test]
fn a_partition_without_the_old_row_takes_inserts_and_stops_at_the_first_update() {
    let mut scene = partitioned("");
    scene.sql("CREATE TABLE r2 PARTITION OF r FOR VALUES FROM (10) TO (20)");
    scene.sql(&format!("INSERT INTO r VALUES (11, '{A}', 'v')"));
    assert_eq!(tell(&scene.records(), &["id"]), ["c (1)", "c (11)"]);

    scene.sql(&format!("UPDATE r SET account_id = '{B}' WHERE id = 11"));
    let words = ["row of public.r", "old row was not sent", "REPLICA IDENTITY FULL", "tables.accept_missing"];
    scene.expect_halt(&words);
    scene.sql("ALTER TABLE r2 REPLICA IDENTITY FULL; UPDATE r SET v = 'w' WHERE id = 11;");
    // The identity is mended, the record in the WAL is not: only the operator's word gets past it.
    scene.bridge = scene.world.run();
    scene.expect_halt(&words);
    scene.world.set("TABLES__ACCEPT_MISSING", "public.r");
    scene.again();
    assert!(
        reloads(&mut scene).contains(&"r: a change of it came without the old row, and that is accepted".to_owned())
    );
    let told = tell(&in_order(scene.delivered()), &["id", "v"]);
    assert_eq!(told, ["c (1 v)", "c (11 v)", "u (11 v) (11 w)"], "the move is left out");
    scene.stop();
}

#[test]
fn a_delete_without_the_old_row_stops_the_bridge() {
    let mut scene = partitioned("");
    scene.sql("ALTER TABLE r1 REPLICA IDENTITY DEFAULT");
    scene.sql("DELETE FROM r");
    // It comes as a whole row whose account is NULL.
    scene.expect_halt(&["row of public.r", "old row was not sent"]);
    assert_eq!(tell(&scene.delivered(), &["id"]), ["c (1)"]);
}
