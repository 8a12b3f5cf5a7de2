//! Rows that cannot be delivered, on real servers: the bridge halts behind everything before them; or, told to go on, writes
//! each to the dead-letter topic once, tells whom it concerns, and delivers everything around it.

use std::collections::BTreeSet;

use penstock_wire::control::ControlKind;

use crate::bad_input::kafka::Operator;
use crate::reader::{Content, Letter, Record, read_dead_letters};
use crate::scene::{PATIENCE, Scene, expect_last_words, in_order, plain, tell, world};
use crate::world::{World, wait};

/// Accounts whose records stand in different partitions.
const A: &str = "a";
const B: &str = "b";

const TABLE: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, account_id text, at timestamp, n numeric(12,2), v text, secret text);
ALTER TABLE t REPLICA IDENTITY FULL;
CREATE TABLE k (account_id text, at timestamp, n int, PRIMARY KEY (account_id, at));
";
const CONFIGURATION: &str = "
[tables]
capture = [\"public.*\"]
exclude = [\"public.t.secret\"]
decimal = [\"public.t.n\"]
";
/// What Postgres can hold and no Avro timestamp can.
const LATE: &str = "294276-12-31 23:59:59";

fn poison_world() -> World {
    let mut world = world(TABLE, CONFIGURATION);
    world.set("LIMITS__RECORD_BYTES_MAX", "65536");
    world
}

fn scene_with_dead_letters() -> Scene {
    let mut world = poison_world();
    world.set("FAULTS__POISON", "dead_letter");
    Scene::of(world)
}

fn letters(scene: &Scene) -> Vec<Letter> {
    read_dead_letters(&scene.world.bootstrap, &scene.world.registry_url, &scene.world.topic)
}

/// Good rows by table and id, and `dead_letter <account>` for controls, in the order of positions.
fn told(records: Vec<Record>) -> Vec<String> {
    let records = in_order(records);
    let lines = records.iter().map(|record| match &record.content {
        Content::Control(control) => format!("{} {:?}", control.kind.as_str(), control.account.as_deref()),
        Content::Change(_) | Content::Tombstone => tell(std::slice::from_ref(record), &["id"]).concat(),
    });
    lines.collect()
}

/// One kind of poison: what prepares it (good), the poison statement, words of the reason, op, accounts of its controls (none:
/// everyone), and whether its letter has a key.
struct Kind {
    prepare: &'static str,
    poison: String,
    words: &'static [&'static str],
    op: &'static str,
    accounts: &'static [&'static str],
    has_key: bool,
}

fn kind(poison: String, words: &'static [&'static str], accounts: &'static [&'static str], has_key: bool) -> Kind {
    Kind { prepare: "", poison, words, op: "c", accounts, has_key }
}

fn kinds() -> Vec<Kind> {
    let large = "(SELECT string_agg(md5(format('large %s', m)), '') FROM generate_series(1, 3000) m)";
    let late = &["column \"at\" of type timestamp without time zone", "range"];
    vec![
        kind(format!("INSERT INTO t VALUES (2, '{A}', '{LATE}', 1, 'v2', 'SECRET')"), late, &[A], true),
        kind(
            "INSERT INTO t VALUES (2, 'global', NULL, 1, 'v2', 'SECRET')".into(),
            &["account column", "reserved"],
            &[],
            false,
        ),
        kind(
            format!("INSERT INTO t VALUES (2, '{A}', NULL, 1, {large}, 'SECRET')"),
            &["bytes", "the topic takes"],
            &[A],
            true,
        ),
        kind(
            format!("INSERT INTO t VALUES (2, '{A}', NULL, 'NaN', 'v2', 'SECRET')"),
            &["column \"n\" of type numeric(12,2)", "NaN"],
            &[A],
            true,
        ),
        Kind {
            prepare: "INSERT INTO t VALUES (2, 'a', NULL, 1, 'v', 'SECRET')",
            op: "u",
            ..kind(
                format!("UPDATE t SET account_id = '{B}', at = '{LATE}', v = 'v2' WHERE id = 2"),
                late,
                &[A, B],
                true,
            )
        },
    ]
}

#[test]
fn every_kind_of_poison_halts_behind_what_precedes_it_and_goes_on_as_a_dead_letter_when_told_to() {
    for Kind { prepare, poison, words, op, accounts, has_key } in kinds() {
        let mut scene = Scene::of(poison_world());
        scene.sql(&format!("{prepare}; INSERT INTO t VALUES (1, '{A}', NULL, 1, 'v1', 'SECRET')"));
        let before = scene.records().len();
        // In one go: the good ones before it are hardly delivered when it comes.
        scene.sql(&format!(
            "INSERT INTO t SELECT n, '{B}', NULL, 1, 'v', 'SECRET' FROM generate_series(10, 12) n;
             INSERT INTO t SELECT n, '{A}', NULL, 1, 'v', 'SECRET' FROM generate_series(13, 15) n;
             BEGIN; INSERT INTO t VALUES (16, '{A}', NULL, 1, 'v', 'SECRET'); {poison}; COMMIT;
             INSERT INTO t VALUES (3, '{A}', NULL, 1, 'v', 'SECRET')"
        ));
        let halt = [words, &["All accounts wait", "faults.poison = \"dead_letter\"", "public.t at 1:0/"]].concat();
        let said = scene.expect_halt(&halt);
        assert!(!said.contains("v2") && !said.contains("SECRET"), "a row's value is told: {said}");
        assert_eq!(scene.delivered().len(), before + 6, "{poison}: what precedes it is delivered, nothing of its own");
        assert!(letters(&scene).is_empty());
        // A start alone changes nothing.
        scene.bridge = scene.world.run();
        scene.expect_halt(words);
        assert_eq!(scene.delivered().len(), before + 6);

        scene.world.set("FAULTS__POISON", "dead_letter");
        scene.again();
        let records = scene.records();
        let controls: Vec<&Record> =
            records.iter().filter(|record| matches!(record.content, Content::Control(_))).collect();
        assert_eq!(records.len(), before + 6 + 2 + controls.len(), "{poison}: {:?}", told(records.clone()));
        let mut named: Vec<Option<String>> = controls
            .iter()
            .map(|record| match &record.content {
                Content::Control(control) => {
                    assert_eq!((control.kind, control.table.as_str()), (ControlKind::DeadLetter, "t"));
                    let detail = control.detail.as_deref().unwrap_or_default();
                    assert!(words.iter().all(|word| detail.contains(word)) && !detail.contains("v2"), "{detail}");
                    control.account.clone()
                }
                Content::Change(_) | Content::Tombstone => None,
            })
            .collect();
        named.sort();
        match accounts {
            [] => assert_eq!(named, [None, None, None], "everyone is told"),
            accounts => {
                assert_eq!(named, accounts.iter().map(|account| Some((*account).to_owned())).collect::<Vec<_>>())
            }
        }
        let letters = letters(&scene);
        let [letter] = letters.as_slice() else { panic!("{poison}: {letters:?}") };
        assert_eq!((letter.value.op.as_str(), letter.value.table.as_str()), (op, "t"));
        assert_eq!(letter.key.is_some(), has_key, "{poison}");
        assert_eq!(letter.header.position.seq.0, 16, "the second event of its transaction");
        assert!(controls.iter().all(|control| control.header.position.commit_lsn == letter.header.position.commit_lsn));
        assert!(controls.iter().any(|control| control.header.position == letter.header.position));
        assert_eq!(letter.timestamp_ms, controls[0].timestamp_ms);
        let columns = &letter.value.columns;
        assert_eq!(columns["id"].as_deref(), Some("2"), "{columns:?}");
        assert!(!columns.contains_key("secret"), "an excluded column is in a dead letter");
        if poison.contains("large") {
            assert!(!columns.contains_key("v") && letter.value.reason.ends_with("do not fit: \"v\""), "{letter:?}");
        } else {
            assert_eq!(columns["v"].as_deref(), Some("v2"));
        }
        scene.stop();
    }
}

/// Of a backlog, a poison transaction shares its Kafka transaction with those before it when it turns out to be one.
#[test]
fn a_backlog_is_delivered_up_to_the_poison_transaction_in_it() {
    let mut scene = Scene::of(poison_world());
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', NULL, 1, 'v', 'SECRET')"));
    assert_eq!(scene.records().len(), 1);
    scene.bridge.signal("TERM");
    assert!(scene.bridge.wait(PATIENCE).success());
    let good: Vec<String> =
        (2..=40).map(|id| format!("INSERT INTO t VALUES ({id}, '{B}', NULL, 1, 'v', 'SECRET')")).collect();
    let good = good.join("; ");
    scene.sql(&format!(
        "{good}; BEGIN; INSERT INTO t SELECT n, '{A}', NULL, 1, 'v', 'SECRET' FROM generate_series(100, 120) n;
         INSERT INTO t VALUES (41, '{A}', '{LATE}', 1, 'v', 'SECRET'); COMMIT"
    ));
    scene.bridge = scene.world.run();
    scene.expect_halt(&["public.t at 1:0/", ":176 ", "everything committed before its transaction is delivered"]);
    let expected: Vec<String> = (1..=40).map(|id| format!("c ({id})")).collect();
    assert_eq!(told(scene.delivered()), expected);
    let log = scene.bridge.log();
    assert_eq!(log.matches("those before it are, in a new session").count(), 1, "{log}");
}

#[test]
fn a_row_that_is_mended_moved_and_deleted_is_told_with_each_of_its_dead_letters() {
    let mut scene = scene_with_dead_letters();
    scene.sql(&format!(
        "INSERT INTO t VALUES (1, '{A}', '{LATE}', 1, 'v', 'SECRET');
         UPDATE t SET at = '2026-01-01' WHERE id = 1;
         UPDATE t SET v = 'w' WHERE id = 1;
         UPDATE t SET at = '-infinity', account_id = '{B}' WHERE id = 1;
         UPDATE t SET at = '{LATE}' WHERE id = 1;
         DELETE FROM t WHERE id = 1;
         INSERT INTO k VALUES ('{A}', '{LATE}', 5), ('{A}', '2026-01-01', 6);
         DELETE FROM k WHERE n = 5;
         DELETE FROM k WHERE n = 6;"
    ));
    let records = scene.records();
    let seen = told(records.clone());
    assert_eq!(
        seen,
        [
            "dead_letter Some(\"a\")",
            "dead_letter Some(\"a\")",
            "u (1) (1)",
            "d (1)",
            "tombstone",
            "c (1)",
            "dead_letter Some(\"b\")",
            "dead_letter Some(\"b\")",
            "dead_letter Some(\"a\")",
            "c (-)",
            "dead_letter Some(\"a\")",
            "d (-)",
            "tombstone",
        ]
    );
    let letters = letters(&scene);
    let brief: Vec<(&str, &str, bool, Option<&str>)> = letters
        .iter()
        .map(|letter| {
            let at = letter.value.columns.get("at").and_then(Option::as_deref);
            (letter.value.table.as_str(), letter.value.op.as_str(), letter.key.is_some(), at)
        })
        .collect();
    assert_eq!(
        brief,
        [
            ("t", "c", true, Some(LATE)),
            ("t", "u", true, Some("2026-01-01 00:00:00")),
            ("t", "u", true, Some(LATE)),
            ("t", "d", true, Some(LATE)),
            ("k", "c", false, Some(LATE)),
            ("k", "d", false, Some(LATE)),
        ]
    );
    assert!(letters[1].value.reason.starts_with("the row as it was: column \"at\""), "{}", letters[1].value.reason);
    assert!(letters[2].value.reason.starts_with("column \"at\""), "{}", letters[2].value.reason);
    // All that the identity tells; what else the row held was not sent.
    assert_eq!(letters[5].value.columns.keys().collect::<Vec<_>>(), ["account_id", "at"]);
    // The row after the poison one is numbered as if it were alone.
    let orders = records.iter().filter_map(Record::change).filter(|envelope| envelope.source.table == "k");
    let orders: Vec<u64> = orders.filter_map(|envelope| Some(envelope.transaction.as_ref()?.total_order)).collect();
    assert_eq!(orders, [1, 1]);
    let metrics = scene.bridge.get("/metrics").expect("metrics");
    for (table, count) in [("t", 4), ("k", 2)] {
        let line = format!("penstock_dead_letters_total{{table=\"public.{table}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
    let log = scene.bridge.log();
    assert!(log.contains("rows could not be delivered and go to the dead-letter topic"), "{log}");
    assert!(!log.contains("SECRET") && !log.contains(LATE), "a row's value is in the log");
    scene.stop();
}

#[test]
fn dead_letters_are_written_once_however_often_the_bridge_is_killed() {
    const ROWS: u32 = 4000;
    let mut scene = scene_with_dead_letters();
    let database = scene.world.database.clone();
    // Every fifth row is poison; now and then a transaction of many.
    let writer = std::thread::spawn(move || {
        for first in (1..=ROWS).step_by(40) {
            let rows: Vec<String> = (first..first + 40)
                .map(|id| {
                    let account = if id % 3 == 0 { A } else { B };
                    let at = if id % 5 == 0 { LATE } else { "2026-01-01" };
                    let pad = if id % 2 == 0 { 10 } else { 3000 };
                    format!("INSERT INTO t VALUES ({id}, '{account}', '{at}', 1, repeat('x', {pad}), 'SECRET')")
                })
                .collect();
            let several =
                if first % 400 == 1 { format!("BEGIN; {}; COMMIT", rows.join("; ")) } else { rows.join("; ") };
            database.psql(&several).expect("insert");
        }
    });
    for kill in 0..6 {
        let written = |scene: &Scene| scene.sql("SELECT count(*) FROM t").trim().parse::<u32>().expect("a count");
        let target = (kill + 1) * ROWS / 7;
        wait("more rows", PATIENCE, || written(&scene) >= target).expect("rows are written");
        scene.bridge.signal("KILL");
        scene.bridge.wait(PATIENCE);
        scene.bridge = scene.world.run();
    }
    writer.join().expect("the writer");
    let records = scene.records();
    let letters = letters(&scene);
    let id = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok()).expect("an id");
    let dead: Vec<u32> = letters.iter().map(|letter| id(letter.value.columns["id"].as_deref())).collect();
    assert_eq!(dead, (1..=ROWS).filter(|id| id % 5 == 0).collect::<Vec<_>>(), "each once, in the order of positions");
    let rows: BTreeSet<u32> = records.iter().filter_map(row_id).collect();
    let count = records.iter().filter_map(row_id).count();
    assert_eq!((rows.len(), count), ((ROWS - ROWS / 5) as usize, (ROWS - ROWS / 5) as usize), "each good row once");
    let controls: BTreeSet<_> = records
        .iter()
        .filter(|record| matches!(&record.content, Content::Control(control) if control.account.is_some()))
        .map(|record| record.header.position)
        .collect();
    assert_eq!(controls, letters.iter().map(|letter| letter.header.position).collect(), "a control for each");
    eprintln!("6 kills; {} dead letters, {count} rows, each once", letters.len());
    scene.stop();
}

fn row_id(record: &Record) -> Option<u32> {
    plain(record.change()?.after.as_ref()?.get("id")?).parse().ok()
}

#[test]
fn a_dead_letter_topic_that_is_gone_or_would_not_keep_them_stops_the_start() {
    let mut scene = scene_with_dead_letters();
    let topic = format!("{}.dead_letter", scene.world.topic);
    scene.bridge.signal("TERM");
    assert!(scene.bridge.wait(PATIENCE).success());
    let operator = Operator::new(&scene.world.bootstrap);
    operator.delete_topic(&topic);
    let words = [topic.as_str(), "there is no such topic", "faults.poison", "kafka-topics.sh", "cleanup.policy=delete"];
    expect_last_words(&mut scene.world.run(), 1, &words);
    // Compacted, it would take no dead letter without a key.
    operator.create_topic(&topic, 1);
    expect_last_words(&mut scene.world.run(), 1, &[&topic, "cleanup.policy is compact, it must be delete"]);
    // Whoever wants none needs none.
    operator.delete_topic(&topic);
    scene.world.set("FAULTS__POISON", "halt");
    scene.again();
    scene.stop();
}

#[test]
fn a_dead_letter_topic_that_takes_less_gets_less() {
    let mut world = poison_world();
    world.set("FAULTS__POISON", "dead_letter");
    let mut scene = Scene::of(world);
    let topic = format!("{}.dead_letter", scene.world.topic);
    let operator = Operator::new(&scene.world.bootstrap);
    operator.delete_topic(&topic);
    operator.create_topic_with(&topic, &[("cleanup.policy", "delete"), ("max.message.bytes", "3000")]);
    // Random, for a broker counts what is left after compression.
    let random = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 300))";
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', '{LATE}', 1, {random}, 'SECRET')"));
    // A bridge that knew another size is refused once, and asks again.
    assert_eq!(told(scene.records()), ["dead_letter Some(\"a\")"]);
    let letters = letters(&scene);
    assert_eq!(letters.len(), 1);
    assert!(letters[0].value.reason.ends_with("left out, because they do not fit: \"v\""), "{letters:?}");
    scene.stop();
}
