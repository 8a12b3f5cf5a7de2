//! A database whose encoding is not UTF-8. The stream sends rows and names converted, and messages as they were written.

use penstock_testbed::cluster::unique_name;

use super::reloads;
use crate::scene::{A, PARTITIONS, PATIENCE, Scene, in_order, tell, wait_for_loads, world};

const TABLES: &str = "
CREATE TABLE t (id int PRIMARY KEY, account_id uuid, v text); ALTER TABLE t REPLICA IDENTITY FULL;
CREATE TABLE \"größe\" (id int PRIMARY KEY, account_id text, \"süß\" text); ALTER TABLE \"größe\" REPLICA IDENTITY FULL;
";

#[test]
fn tables_and_accounts_with_names_beyond_ascii_are_told_of_in_a_latin1_database() {
    let mut world = world("", "");
    let name = unique_name("latin1");
    let create = format!("CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
    world.database.psql(&create).expect("create a database");
    world.database = world.database.with_database(&name);
    world.database.psql(TABLES).expect("create tables");
    let mut scene = Scene::of(world);
    scene.sql("INSERT INTO \"größe\" VALUES (1, 'Jürgen', 'è')");
    assert_eq!(tell(&scene.records(), &["id", "account_id", "s_x00FC__x00DF_"]), ["c (1 Jürgen è)"]);

    scene.sql("ALTER TABLE \"größe\" ADD COLUMN \"é\" int DEFAULT 4");
    assert_eq!(reloads(&mut scene), ["größe: its rows have got a default in é"], "of this table alone");
    wait_for_loads(&scene);

    for arguments in [&["--table", "public.größe"][..], &["--table", "public.größe", "--account", "Jürgen"]] {
        let mut backfill = scene.world.spawn("backfill", arguments, &scene.world.database);
        assert!(backfill.wait(PATIENCE).success(), "{}", backfill.log());
    }
    scene.sql(&format!("DROP TABLE \"größe\"; INSERT INTO t VALUES (2, '{A}', 'ü')"));
    let mut expected = vec!["c (1)"];
    expected.extend(["truncate public.größe"].repeat(usize::try_from(PARTITIONS).expect("few")));
    expected.push("c (2)");
    assert_eq!(tell(&in_order(scene.records()), &["id"]), expected);
    let why = ["its rows have got a default in é", "asked for by a message", "asked for by a message"];
    assert_eq!(reloads(&mut scene), why.map(|why| format!("größe: {why}")), "nothing else is loaded again");
    let database = scene.world.database.with_database("postgres");
    let slot = scene.world.slot();
    scene.stop();
    database.psql(&format!("SELECT pg_drop_replication_slot('{slot}'); DROP DATABASE {name}")).expect("clean up");
}
