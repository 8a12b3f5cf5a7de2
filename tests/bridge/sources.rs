//! Several sources in one change topic: each has a chain of its own, and what they share must be the same for all.

use std::time::Duration;

use crate::load::{self, Load};
use crate::reader::{self, Record};
use crate::scene::{A, B, PATIENCE, Scene, expect_last_words, tell, world};
use crate::world::{Bridge, World, wait};

const TABLE: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, account_id uuid, v text);
ALTER TABLE t REPLICA IDENTITY FULL;
";
const KILLS: u32 = 3;

/// A world of its own database that writes to the topic of another.
fn beside(first: &World, number: &str, schema: &str, configuration: &str) -> World {
    let mut second = world(schema, configuration);
    second.topic.clone_from(&first.topic);
    second.set("SOURCE__NUMBER", number);
    second
}

fn of(records: &[Record], source: u16) -> Vec<Record> {
    records.iter().filter(|record| record.header.source == source).cloned().collect()
}

fn read(world: &World) -> Vec<Record> {
    reader::read(&world.bootstrap, &world.registry_url, &world.topic)
}

/// Rows of one source, in words.
fn rows(world: &World, source: u16) -> Vec<String> {
    let records = of(&read(world), source);
    let changes: Vec<Record> = records.into_iter().filter(|record| record.change().is_some()).collect();
    tell(&changes, &["id", "v"])
}

#[test]
fn two_sources_write_to_one_topic_at_once_and_one_is_killed_and_resumes() {
    let mut first = world(load::SCHEMA, load::CAPTURE);
    // Both have rows of the same accounts under the same keys.
    first.set("SOURCE__NUMBER_IN_KEY", "true");
    let mut second = beside(&first, "2", load::SCHEMA, load::CAPTURE);
    second.set("SOURCE__NUMBER_IN_KEY", "true");

    let mut bridge = first.run();
    first.wait_ready(&mut bridge, PATIENCE);
    let load = Load::start(&first.database, 4, Duration::from_millis(5));
    load.wait_for_more(50, PATIENCE);
    // The second one's first start, in the middle of what the first one writes.
    let mut other = second.run();
    second.wait_ready(&mut other, PATIENCE);
    let other_load = Load::start(&second.database, 4, Duration::from_millis(5));
    for _ in 0..KILLS {
        other_load.wait_for_more(100, PATIENCE);
        other.kill();
        // The other source's records come to stand behind where it has to go on.
        load.wait_for_more(50, PATIENCE);
        other = second.run();
    }
    other_load.wait_for_more(100, PATIENCE);
    load.stop();
    other_load.stop();
    first.wait_confirmed(&mut bridge, PATIENCE);
    second.wait_confirmed(&mut other, PATIENCE);

    let records = read(&first);
    for (world, number) in [(&first, 1), (&second, 2)] {
        let events = load::check(&world.database, &of(&records, number));
        eprintln!("source {number}: {events} row events");
    }
    assert!(records.iter().all(|record| [1, 2].contains(&record.header.source)));
    assert!(bridge.stop().success() && other.stop().success());
}

/// What must be as the other source has it, one after the other: nothing is created before it is.
#[test]
fn a_second_source_begins_only_where_it_agrees_with_the_first() {
    let scene = Scene::start(TABLE, "");
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 'first')"));
    let first = &scene.world;
    let mut second = beside(first, "1", TABLE, "");
    let name = format!("{:?}", first.source);
    for (key, (wrong, right), words) in [
        ("SOURCE__NUMBER", ("1", "2"), ["source number taken", name.as_str(), "Set source.number to one"]),
        ("KAFKA__PARTITIONS", ("5", "3"), ["kafka.partitions is 5", name.as_str(), "Set kafka.partitions to 3"]),
        ("KAFKA__NAMESPACE", ("other", &first.topic), ["kafka.namespace is other", name.as_str(), &first.topic]),
        ("SOURCE__NUMBER_IN_KEY", ("true", "false"), ["source.number_in_key is true", name.as_str(), "would collide"]),
    ] {
        second.set(key, wrong);
        expect_last_words(&mut second.run(), 1, &words);
        let (code, report) = check(&second);
        assert_eq!(code, Some(1), "{report}");
        // The number of partitions is said by the finding about the topic.
        assert!(key == "KAFKA__PARTITIONS" || report.contains(words[0]), "{report}");
        second.set(key, right);
    }
    let slots = second.database.psql("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()");
    assert_eq!(slots.expect("count the slots").trim(), "0", "nothing was created");

    let (code, report) = check(&second);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains(&format!("the topic is that of {}", first.source)), "{report}");
    let mut setup = second.spawn("setup", &[], &second.database);
    assert!(setup.wait(PATIENCE).success(), "{}", setup.log());
    let mut bridge = second.run();
    second.wait_ready(&mut bridge, PATIENCE);
    second.database.psql(&format!("INSERT INTO t VALUES (1, '{B}', 'second')")).expect("a row");
    second.wait_confirmed(&mut bridge, PATIENCE);
    wait("both rows", PATIENCE, || rows(first, 1) == ["c (1 first)"] && rows(first, 2) == ["c (1 second)"])
        .expect("both are there");
    assert!(bridge.stop().success());
    scene.stop();
}

/// The name is taken: its progress is another database's.
#[test]
fn a_second_source_under_the_name_of_the_first_stops() {
    let scene = Scene::start(TABLE, "");
    let mut second = beside(&scene.world, "2", TABLE, "");
    second.source.clone_from(&scene.world.source);
    second.set("SOURCE__SLOT", "penstock_another");
    expect_last_words(&mut second.run(), 1, &["another database", "needs a different source.name"]);
    scene.stop();
}

fn check(world: &World) -> (Option<i32>, String) {
    let mut check: Bridge = world.spawn("check", &[], &world.database);
    let code = check.wait(PATIENCE).code();
    (code, check.log())
}
