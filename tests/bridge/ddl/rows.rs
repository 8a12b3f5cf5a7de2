//! Rows that change without being written, or are written without being sent.

use super::{TABLE, ends_as_the_tables, insert, reloads, with_a_row};
use crate::scene::{Scene, tell};

#[test]
fn a_column_that_comes_with_a_default_loads_the_table_again() {
    let mut scene = with_a_row("");
    scene.sql("ALTER TABLE t ADD COLUMN d int DEFAULT 5");
    insert(&scene, 2);
    assert_eq!(reloads(&mut scene), ["t: its rows have got a default in d"]);
    // Altered later, it is not new; nor is a column without a default, whose value in older rows is what readers have.
    scene.sql("ALTER TABLE t ALTER COLUMN d SET NOT NULL; ALTER TABLE t ADD COLUMN e int;");
    insert(&scene, 3);
    assert_eq!(reloads(&mut scene).len(), 1);
    assert_eq!(tell(&scene.delivered(), &["id", "d", "e"]), ["c (1 - -)", "c (2 5 -)", "c (3 5 null)"]);
    ends_as_the_tables(&mut scene, &[("t", &["id", "d"])]);
    scene.stop();
}

#[test]
fn a_rewrite_loads_the_table_again() {
    let mut scene = with_a_row("");
    scene.sql("ALTER TABLE t ALTER COLUMN v TYPE int USING 7");
    assert_eq!(reloads(&mut scene), ["t: ALTER TABLE wrote its rows anew"]);
    scene.sql("ALTER TABLE t ADD COLUMN r double precision DEFAULT random()");
    assert_eq!(reloads(&mut scene).len(), 2);
    // Neither writes rows, nor is what these write another row.
    scene.sql(
        "ALTER TABLE t ALTER COLUMN v SET DEFAULT 8; VACUUM FULL t; CLUSTER t USING t_pkey; CREATE INDEX ON t (v);",
    );
    assert_eq!(reloads(&mut scene).len(), 2);
    scene.stop();
}

#[test]
fn a_statement_that_is_rolled_back_leads_to_nothing() {
    let mut scene = with_a_row("");
    scene.sql("BEGIN; ALTER TABLE t ADD COLUMN d int DEFAULT 5; DROP TABLE t; ROLLBACK;");
    insert(&scene, 2);
    assert_eq!(reloads(&mut scene), Vec::<String>::new());
    assert_eq!(tell(&scene.delivered(), &["id", "d"]), ["c (1 -)", "c (2 -)"]);
    scene.stop();
}

/// The application's DDL does not depend on the bridge's triggers: whoever gives the command needs no right of theirs, and
/// what goes wrong in them goes no further.
#[test]
fn the_triggers_fail_nobodys_command() {
    let mut scene = Scene::start(TABLE, "");
    let role = format!("app_{}", scene.world.database.database);
    scene.sql(&format!(
        "CREATE ROLE {role}; GRANT CREATE, USAGE ON SCHEMA public TO {role}; ALTER TABLE t OWNER TO {role};
         INSERT INTO t VALUES (1);
         SET ROLE {role}; ALTER TABLE t ADD COLUMN d int DEFAULT 5; CREATE TEMP TABLE x (id int); DROP TABLE x;"
    ));
    assert_eq!(reloads(&mut scene), ["t: its rows have got a default in d"]);
    scene.sql("REVOKE EXECUTE ON FUNCTION pg_logical_emit_message(bool, text, text) FROM PUBLIC");
    scene.sql(&format!("SET ROLE {role}; ALTER TABLE t ADD COLUMN e int DEFAULT 6;"));
    assert_eq!(scene.sql("SELECT e FROM t"), "6");
    assert_eq!(reloads(&mut scene).len(), 1, "nobody could tell");
    scene.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role};"));
    scene.stop();
}
