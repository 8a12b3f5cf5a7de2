//! Publication, tables and identities that do not let a row through whole.

use super::{TABLE, delivered, ids, insert, stopped};
use crate::scene::{A, Scene, expect_last_words, tell, world};

#[test]
fn a_publication_that_vanished_is_missed_at_the_start() {
    let mut scene = stopped();
    scene.sql("DROP PUBLICATION penstock");
    insert(&scene, &[3]);

    scene.bridge = scene.world.run();
    scene.expect_halt(&["publication penstock", "gone", "slot"]);
    // A new one of the same name is younger than the slot's position, where decoding looks it up: the change that was
    // written meanwhile cannot be read, and is not skipped.
    scene.sql("CREATE PUBLICATION penstock FOR TABLE t WITH (publish_via_partition_root)");
    insert(&scene, &[4]);
    scene.bridge = scene.world.run();
    scene.expect_halt(&["publication", "penstock", "does not exist", "created after the slot's position"]);
    assert_eq!(ids(&scene.delivered()), ["1", "2"]);
}

#[test]
fn a_publication_that_vanishes_while_the_bridge_runs_stops_it() {
    let mut scene = Scene::start(TABLE, "");
    insert(&scene, &[1]);
    assert_eq!(delivered(&mut scene), ["1"]);
    scene.sql("DROP PUBLICATION penstock");
    insert(&scene, &[2]);
    scene.expect_halt(&["publication", "penstock", "does not exist"]);
    assert_eq!(ids(&scene.delivered()), ["1"]);
}

#[test]
fn a_table_that_is_not_there_is_named_with_the_nearest_one() {
    let schema =
        "CREATE TABLE policies (id int PRIMARY KEY, account_id uuid); ALTER TABLE policies REPLICA IDENTITY FULL;";
    let world = world(schema, "[tables]\ncapture = [\"public.policies\", \"public.policiez\"]\n");
    let words = ["table public.policiez", "no such table", "did you mean policies", "tables.capture"];
    expect_last_words(&mut world.run(), 1, &words);

    let other = schema.replace("policies", "policiez");
    world.database.psql(&other).expect("create the table");
    let mut scene = Scene::of(world);
    scene.sql(&format!("INSERT INTO policies VALUES (1, '{A}'); INSERT INTO policiez VALUES (2, '{A}');"));
    assert_eq!(tell(&scene.records(), &["id"]), ["c (1)", "c (2)"]);
    scene.stop();
}

#[test]
fn tables_that_could_not_tell_a_change_are_refused_all_at_once() {
    let world = world(
        "CREATE TABLE no_identity (id int PRIMARY KEY, account_id uuid);
         CREATE TABLE no_key (id int, account_id uuid);
         CREATE TABLE no_account (id int PRIMARY KEY);
         CREATE TABLE large (id int, account_id uuid, v text, PRIMARY KEY (account_id, id));
         CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, account_id uuid);
         ALTER TABLE no_key REPLICA IDENTITY FULL;
         ALTER TABLE no_account REPLICA IDENTITY FULL;",
        "",
    );
    let words = [
        r#"ALTER TABLE "public"."no_identity" REPLICA IDENTITY FULL"#,
        r#"ALTER TABLE "public"."no_key" ADD PRIMARY KEY"#,
        "table public.no_account: it has no account column account_id",
        r#"ALTER TABLE "public"."large" REPLICA IDENTITY FULL"#,
        "large values of v",
        r#"ALTER TABLE "public"."unlogged" SET LOGGED"#,
    ];
    expect_last_words(&mut world.run(), 1, &words);

    // Each remedy as it was told.
    world
        .database
        .psql(
            "ALTER TABLE public.no_identity REPLICA IDENTITY FULL;
             ALTER TABLE public.no_key ADD PRIMARY KEY (id);
             ALTER TABLE public.no_account ADD account_id uuid;
             ALTER TABLE public.large REPLICA IDENTITY FULL;
             ALTER TABLE public.unlogged SET LOGGED; ALTER TABLE public.unlogged REPLICA IDENTITY FULL;",
        )
        .expect("mend the tables");
    let mut scene = Scene::of(world);
    scene.sql(&format!(
        "INSERT INTO no_identity VALUES (1, '{A}'); INSERT INTO no_key VALUES (2, '{A}');
         INSERT INTO no_account VALUES (3, '{A}'); INSERT INTO large VALUES (4, '{A}', 'v');
         INSERT INTO unlogged VALUES (5, '{A}');"
    ));
    assert_eq!(ids(&scene.records()), ["1", "2", "3", "4", "5"]);
    scene.stop();
}
