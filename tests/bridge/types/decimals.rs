//! numeric columns that were chosen to travel as Avro decimals: the choice, what undoes it, and what it cannot hold.

use penstock_testbed::artifacts::Cache;
use penstock_testbed::registry::Registry;

use crate::scene::{A, PATIENCE, Scene, expect_last_words, tell, world};
use crate::world::World;

const TABLE: &str = "
CREATE TABLE t (id int PRIMARY KEY, account_id uuid, amount numeric(12,2), free numeric);
ALTER TABLE t REPLICA IDENTITY FULL;
";

fn choosing(columns: &str) -> World {
    let mut world = world(TABLE, "");
    world.set("TABLES__DECIMAL", columns);
    world
}

fn insert(scene: &Scene, id: i32, amount: &str) {
    scene.sql(&format!("INSERT INTO t (id, account_id, amount) VALUES ({id}, '{A}', {amount})"));
}

fn amounts(scene: &mut Scene) -> Vec<String> {
    tell(&scene.records(), &["amount"])
}

/// Stops the bridge in order and changes the choice for its next start.
fn choose(scene: &mut Scene, columns: &str) {
    scene.bridge.signal("TERM");
    assert!(scene.bridge.wait(PATIENCE).success());
    scene.world.set("TABLES__DECIMAL", columns);
}

fn envelope_subject(scene: &Scene) -> String {
    format!("{0}-{0}.public.t.Envelope", scene.world.topic)
}

/// What `penstock check` prints.
fn check(world: &World) -> String {
    let mut check = world.spawn("check", &[], &world.database);
    check.wait(PATIENCE);
    check.log()
}

/// The registry itself would take it: Avro turns strings into bytes without asking what they mean. A registry of its own,
/// because this one takes NONE only as the rule for all subjects.
#[test]
fn a_choice_that_changes_is_refused_until_the_rule_allows_it() {
    let registry = Registry::start_new(&Cache::from_environment()).expect("a registry");
    let mut world = world(TABLE, "");
    world.registry_url = registry.url();
    let mut scene = Scene::of(world);
    insert(&scene, 1, "1.50");
    assert_eq!(amounts(&mut scene), ["c (1.50)"]);
    choose(&mut scene, "public.t.amount");
    insert(&scene, 2, "-2.50");

    let words = ["another meaning", "amount", &envelope_subject(&scene), "tables.decimal", "compatibility rule"];
    scene.bridge = scene.world.run();
    scene.expect_halt(&words);
    let said = check(&scene.world);
    assert!(said.contains("the registry would refuse its schema"), "{said}");
    scene.bridge = scene.world.run();
    scene.expect_halt(&words);
    assert_eq!(tell(&scene.delivered(), &["amount"]), ["c (1.50)"]);

    registry.set_compatibility("NONE").expect("set the rule");
    scene.again();
    assert_eq!(amounts(&mut scene), ["c (1.50)", "c (-2.50)"], "each is read with the schema it was written with");

    // The way back is a change, too; but the registry knows the schema and has allowed it once.
    registry.set_compatibility("BACKWARD").expect("set the rule");
    insert(&scene, 3, "'NaN'");
    scene.expect_halt(&["amount", "NaN", "tables.decimal"]);
    scene.world.set("TABLES__DECIMAL", "");
    scene.again();
    assert_eq!(amounts(&mut scene)[2..], ["c (NaN)"]);
    scene.stop();
}

#[test]
fn precision_may_grow_and_another_scale_is_refused() {
    let mut scene = Scene::of(choosing("public.t.amount"));
    insert(&scene, 1, "1.50");
    scene.sql("ALTER TABLE t ALTER COLUMN amount TYPE numeric(14,2)");
    insert(&scene, 2, "123456789012.50");
    assert_eq!(amounts(&mut scene), ["c (1.50)", "c (123456789012.50)"]);
    scene.sql("ALTER TABLE t ALTER COLUMN amount TYPE numeric(16,4)");
    insert(&scene, 3, "1.50");
    scene.expect_halt(&["another meaning", "amount", "compatibility rule"]);
    assert_eq!(scene.delivered().len(), 2);
}

#[test]
fn nan_in_a_decimal_stops_the_bridge_with_its_place() {
    let mut scene = Scene::of(choosing("public.t.amount"));
    insert(&scene, 1, "1.50");
    assert_eq!(amounts(&mut scene), ["c (1.50)"]);
    insert(&scene, 2, "'NaN'");
    let words =
        ["row of public.t at 1:0/", "cannot be delivered", "\"amount\"", "numeric(12,2)", "NaN", "tables.decimal"];
    let said = scene.expect_halt(&words);
    assert!(said.contains("Take \"public.t.amount\" out of tables.decimal"), "{said}");
    assert_eq!(scene.delivered().len(), 1);
}

#[test]
fn a_choice_that_cannot_be_is_refused_at_the_start_and_by_check() {
    for (columns, words) in [
        ("public.t.amont", ["tables.decimal: table public.t has no column amont", "did you mean amount?"]),
        (
            "public.t.free",
            ["its column free cannot travel as a decimal", "ALTER TABLE \"public\".\"t\" ALTER COLUMN \"free\""],
        ),
        ("public.t.account_id", ["its column account_id cannot travel as a decimal", "only numeric"]),
        ("public.t.id", ["its column id cannot travel as a decimal", "key column"]),
    ] {
        let world = choosing(columns);
        expect_last_words(&mut world.run(), 1, &words);
        let said = check(&world);
        assert!(said.contains("STOP ") && words.iter().all(|words| said.contains(words)), "{said}");
    }
}

#[test]
fn a_column_that_ceases_to_fit_the_choice_stops_the_bridge_at_its_place() {
    for (alter, reason) in [("numeric", "declares no precision and scale"), ("text", "only numeric")] {
        let mut scene = Scene::of(choosing("public.t.amount"));
        insert(&scene, 1, "1.50");
        assert_eq!(amounts(&mut scene), ["c (1.50)"]);
        scene.sql(&format!("ALTER TABLE t ALTER COLUMN amount TYPE {alter}"));
        insert(&scene, 2, "'2.5'");
        let words =
            ["table public.t cannot be captured", "\"amount\" cannot travel as a decimal", reason, "tables.decimal"];
        scene.expect_halt(&words);
        assert_eq!(scene.delivered().len(), 1);
    }
}
