//! Decimals whose scale changes, once the rule has allowed it.

use penstock_testbed::artifacts::Cache;
use penstock_testbed::registry::Registry;

use super::{down, halts, value_ids};
use crate::scene::{A, Scene, tell, world};

/// A registry of its own, because Apicurio takes NONE only as the rule for all subjects.
#[test]
fn each_record_has_the_scale_of_its_place() {
    let registry = Registry::start_new(&Cache::from_environment()).expect("a registry");
    let schema = "CREATE TABLE t (id int PRIMARY KEY, account_id uuid, amount numeric(12,2));
                  ALTER TABLE t REPLICA IDENTITY FULL;";
    let mut world = world(schema, "");
    world.set("TABLES__DECIMAL", "public.t.amount");
    world.registry_url = registry.url();
    let mut scene = Scene::of(world);
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 1.50)"));
    down(&mut scene);
    scene.sql(&format!(
        "BEGIN;
         INSERT INTO t VALUES (2, '{A}', 2.50);
         ALTER TABLE t ALTER amount TYPE numeric(14,2);
         INSERT INTO t VALUES (3, '{A}', 123456789012.50);
         DELETE FROM t WHERE id = 3;
         ALTER TABLE t ALTER amount TYPE numeric(12,4);
         INSERT INTO t VALUES (4, '{A}', 0.0001);
         UPDATE t SET amount = 1.5001 WHERE id = 1;
         COMMIT;"
    ));
    halts(
        &mut scene,
        &["another meaning", "amount was numeric(14,2) (decimal(14,2)) and is numeric(12,4) (decimal(12,4))", "NONE"],
    );
    assert_eq!(scene.delivered().len(), 1, "the transaction is not delivered in part");

    registry.set_compatibility("NONE").expect("set the rule");
    scene.again();
    let records = scene.records();
    assert_eq!(
        tell(&records, &["id", "amount"]),
        [
            "c (1 1.50)",
            "c (2 2.50)",
            "c (3 123456789012.50)",
            "d (3 123456789012.50)",
            "tombstone",
            "c (4 0.0001)",
            "u (1 1.5000) (1 1.5001)",
        ]
    );
    let ids = value_ids(&records);
    assert_eq!((ids[0] == ids[1], ids[2] == ids[3], ids[4] == ids[5]), (true, true, true));
    assert!(ids[1] != ids[2] && ids[3] != ids[4]);
    scene.stop();
}
