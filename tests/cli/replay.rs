//! `replay` and `tail`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Command;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use penstock_wire::account::Account;
use penstock_wire::partition::Partitioner;
use rdkafka::message::{Message, OwnedMessage};

use crate::copy::{Copy, records};
use crate::site::{PATIENCE, SCHEMA, Site, penstock, text};
use crate::world::World;

/// A topic with one of everything, and the LSN and the time in the middle of it.
struct Delivered {
    site: Site,
    lsn: String,
    time: String,
}

/// Delivered once for the tests that only read it. It lives as long as one of them uses it: a static of its own would
/// never be dropped, and leave its slot on a server that others share.
fn delivered() -> Arc<Delivered> {
    static SHARED: Mutex<Weak<Delivered>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let delivered = Arc::new(deliver());
        *shared = Arc::downgrade(&delivered);
        delivered
    })
}

fn deliver() -> Delivered {
    let site = Site::new(SCHEMA);
    let mut middle = String::new();
    site.deliver(|world| {
        let sql = |sql: &str| world.database.psql(sql).expect(sql);
        sql("INSERT INTO items VALUES (1, 'a', 'one'), (2, 'b', 'two'), (3, NULL, 'three')");
        sql(&format!("INSERT INTO items VALUES (4, '{}', 'four')", neighbour()));
        sql("INSERT INTO notes VALUES (1, 'a', '{\"z\": 1}')");
        // Commit times are in microseconds, the records' in milliseconds: the middle must be away from both sides.
        let time = "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";
        sql("SELECT pg_sleep(0.005)");
        middle = sql(&format!("SELECT pg_current_wal_insert_lsn(), {time}"));
        sql("SELECT pg_sleep(0.005)");
        sql("BEGIN; UPDATE items SET note = 'uno' WHERE id = 1; UPDATE notes SET body = NULL; COMMIT");
        sql("UPDATE items SET account_id = 'a' WHERE id = 2");
        sql("DELETE FROM items WHERE id = 1");
        sql("TRUNCATE notes");
    });
    let (lsn, time) = middle.split_once('|').expect("two columns");
    Delivered { site, lsn: lsn.to_owned(), time: time.to_owned() }
}

/// Another account in the partition of account a.
fn neighbour() -> String {
    let partition = |account: &str| {
        Partitioner::new(12).unwrap().partition(Account::from_column(Some(account.as_bytes())).unwrap())
    };
    let names = (0..).map(|number| format!("neighbour {number}"));
    names.into_iter().find(|name| partition(name) == partition("a")).expect("one of twelve")
}

/// Everything that `deliver` changes, in order within an account.
const CHANGES: [&str; 10] = [
    "items c 1",
    "items c 2",
    "items c 2",
    "items c 3",
    "items c 4",
    "items d 1",
    "items d 2",
    "items u 1",
    "notes c 1",
    "notes u 1",
];

#[test]
fn every_change_is_a_line_with_its_fields_in_their_order() {
    let delivered = delivered();
    let site = &delivered.site;
    let read = site.replay(&[]);
    assert_eq!(read.exit, Some(0), "{}", read.err);
    assert_eq!(read.sorted(), CHANGES);
    assert_eq!(read.err, "penstock: 10 records; 26 others left out, 0 duplicates dropped\n");
    let (line, text) = read
        .lines
        .iter()
        .zip(read.text.lines())
        .find(|(line, _)| line["op"] == "u" && line["table"] == "public.items")
        .expect("the update");
    let fields = [
        "position",
        "partition",
        "offset",
        "kind",
        "account",
        "table",
        "op",
        "key",
        "before",
        "after",
        "unchanged",
        "source",
        "transaction",
        "control",
        "header",
        "timestamp_ms",
    ];
    let places: Vec<usize> = fields.iter().map(|field| text.find(&format!("\"{field}\":")).expect(field)).collect();
    assert!(places.is_sorted(), "{text}");
    assert_eq!(line.as_object().expect("an object").len(), fields.len(), "{text}");
    assert!(text.contains(r#""key":{"__account":"a","id":1},"before":{"id":1,"account_id":"a","note":"one"},"after":{"id":1,"account_id":"a","note":"uno"},"unchanged":[],"#), "{text}");
    assert_eq!(line["transaction"]["total_order"], 1);
    assert_eq!(line["source"]["db"], site.world.database.database.as_str());
    assert_eq!(line["header"]["identity_only"], false);
}

#[test]
fn records_of_an_account_come_in_commit_order_from_its_partition() {
    let delivered = delivered();
    let site = &delivered.site;
    let read = site.replay(&["--account", "a"]);
    let expected = ["items c 1", "notes c 1", "items u 1", "notes u 1", "items c 2", "items d 1"];
    assert_eq!(read.brief(), expected);
    let partition = Partitioner::new(12).unwrap().partition(Account::from_column(Some(b"a")).unwrap());
    assert!(read.lines.iter().all(|line| line["partition"] == partition.number()), "{}", read.text);
    assert!(site.replay(&["--account", "global"]).brief() == ["items c 3"], "rows without an account");
    let both = site.replay(&["--account", "a", "--account", "b"]);
    assert_eq!(both.lines.len(), 8);
}

#[test]
fn filters_leave_out_what_was_not_asked_for() {
    let delivered = delivered();
    let site = &delivered.site;
    assert_eq!(site.replay(&["--table", "public.notes"]).sorted(), ["notes c 1", "notes u 1"]);
    assert_eq!(
        site.replay(&["--op", "d,u", "--table", "public.items"]).sorted(),
        ["items d 1", "items d 2", "items u 1"]
    );
    assert_eq!(site.replay(&["--limit", "3"]).lines.len(), 3);
    let mut by_partition = 0;
    for partition in 0..12 {
        by_partition += site.replay(&["--partition", &partition.to_string()]).lines.len();
    }
    assert_eq!(by_partition, CHANGES.len());
}

#[test]
fn all_records_are_tombstones_and_controls_too() {
    let delivered = delivered();
    let site = &delivered.site;
    let read = site.replay(&["--all-records"]);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for line in &read.lines {
        let name = line["control"]["kind"].as_str().or(line["kind"].as_str()).expect("a kind");
        *counts.entry(name).or_default() += 1;
    }
    assert_eq!(counts, [("epoch", 12), ("row", 10), ("tombstone", 2), ("truncate", 12)].into());
    let tombstone = read.lines.iter().find(|line| line["kind"] == "tombstone").expect("a tombstone");
    assert_eq!((&tombstone["table"], &tombstone["op"]), (&"public.items".into(), &serde_json::Value::Null));
    assert!(tombstone["key"]["id"].is_number(), "{tombstone}");
    // Of the account's partition only, and of the table only where it is about one.
    let of_items = site.replay(&["--all-records", "--account", "b", "--table", "public.items"]);
    assert_eq!(of_items.sorted(), ["control", "items c 2", "items d 2", "tombstone"]);
}

#[test]
fn ranges_hold_their_beginning_and_not_their_end() {
    let delivered = delivered();
    let Delivered { site, lsn, time } = &*delivered;
    let late = ["items c 2", "items d 1", "items d 2", "items u 1", "notes u 1"];
    let early = ["items c 1", "items c 2", "items c 3", "items c 4", "notes c 1"];
    assert_eq!(site.replay(&["--from-lsn", lsn]).sorted(), late);
    assert_eq!(site.replay(&["--to-lsn", lsn]).sorted(), early);
    assert_eq!(site.replay(&["--from-time", time]).sorted(), late);
    assert_eq!(site.replay(&["--to-time", time]).sorted(), early);
    let of_a = site.replay(&["--account", "a", "--account", &neighbour()]);
    let partition = of_a.lines[0]["partition"].to_string();
    let offset = |index: usize| of_a.lines[index]["offset"].to_string();
    let one = site.replay(&["--partition", &partition, "--from-offset", &offset(1), "--to-offset", &offset(2)]);
    assert_eq!(one.brief(), ["items c 4"]);
    let position = &of_a.lines[3]["position"]["commit_lsn"];
    let exact = site.replay(&["--from-lsn", position.as_str().expect("an LSN"), "--op", "u"]);
    assert_eq!(exact.sorted(), ["items u 1", "notes u 1"], "the beginning is in");
    assert_eq!(site.replay(&["--from-offset", "end"]).lines.len(), 0);
    assert_eq!(
        site.replay(&["--from-offset", "-2", "--partition", &partition]).lines.len(),
        0,
        "the truncate and a marker"
    );
}

#[test]
fn count_tells_how_many_of_what() {
    let delivered = delivered();
    let site = &delivered.site;
    let read = site.replay(&["--count"]);
    assert_eq!(read.lines.len(), 1);
    let count = &read.lines[0];
    assert_eq!(count["records"], 10);
    assert_eq!(count["ops"], serde_json::json!({"c": 6, "d": 2, "u": 2}));
    assert_eq!(count["tables"]["public.notes"], serde_json::json!({"c": 1, "u": 1}));
    assert_eq!((&count["accounts"], &count["duplicates"], &count["holes"]), (&4.into(), &0.into(), &0.into()));
    assert_eq!(count["partitions"].as_object().map(serde_json::Map::len), Some(12));
    assert_eq!(site.replay(&["--count", "--account", "b"]).lines[0]["records"], 2);
}

#[test]
fn duplicates_are_dropped_holes_and_garbage_are_told() {
    let delivered = delivered();
    let site = &delivered.site;
    let partition = site.replay(&["--account", "a"]).lines[0]["partition"].as_i64().expect("a partition");
    let all = records(&site.world.bootstrap, &site.world.topic, i32::try_from(partition).unwrap());
    let [first, second, third, fourth, ..] = all.as_slice() else { panic!("{} records", all.len()) };
    let copy = Copy::new(&site.world.bootstrap);
    copy.write(&[first, second, second, first]);
    copy.write(&[fourth]);
    let read = site.replay_of(&copy.topic, &["--all-records"]);
    assert_eq!(read.brief(), ["control", "items c 1", "notes c 1"]);
    assert_eq!(read.err, "penstock: 3 records; 0 others left out, 2 duplicates dropped\n");
    assert_eq!(read.exit, Some(0));
    let count = &site.replay_of(&copy.topic, &["--count"]).lines[0];
    assert_eq!((&count["duplicates"], &count["holes"]), (&2.into(), &1.into()), "{count}");

    let with = |record: &OwnedMessage, value: &[u8], headers| {
        let key = record.key().map(<[u8]>::to_vec);
        OwnedMessage::new(Some(value.to_vec()), key, String::new(), record.timestamp(), 0, 0, headers)
    };
    let value = |record: &OwnedMessage| record.payload().expect("a value").to_vec();
    let bare = with(second, &value(second), None);
    let cut = with(third, &value(third)[..9], third.headers().cloned());
    let copy = Copy::new(&site.world.bootstrap);
    copy.write(&[first, &bare, &cut, fourth]);
    let read = site.replay_of(&copy.topic, &[]);
    assert_eq!(read.brief(), ["undecodable", "undecodable", "notes c 1"]);
    assert_eq!(read.exit, Some(1), "{}", read.err);
    assert!(read.err.contains("2 records could not be decoded"), "{}", read.err);
    assert_eq!(read.lines[0]["error"], "it has no header \"penstock\"");
    assert!(read.lines[1]["error"].as_str().expect("an error").contains("the bytes are not a record"), "{}", read.text);
    assert_eq!(read.lines[1]["account"], neighbour().as_str(), "what can be read of it is shown");
    let of_none = site.replay_of(&copy.topic, &["--table", "public.none"]);
    assert_eq!(of_none.brief(), ["undecodable"], "of a table that was not asked for no value is looked at");
}

#[test]
fn transactions_that_are_not_committed_are_read_only_on_request() {
    let delivered = delivered();
    let site = &delivered.site;
    let all = records(&site.world.bootstrap, &site.world.topic, 0);
    let copy = Copy::new(&site.world.bootstrap);
    copy.write(&[&all[0]]);
    copy.begin(&[&all[1]]);
    let seen = |isolation: &str| site.replay_of(&copy.topic, &["--all-records", "--isolation", isolation]).lines.len();
    assert_eq!((seen("read_committed"), seen("read_uncommitted")), (1, 2), "while it is open");
    copy.abort();
    assert_eq!((seen("read_committed"), seen("read_uncommitted")), (1, 2), "when it was aborted");
}

#[test]
fn an_end_that_falls_behind_a_marker_of_kafkas_own_holds() {
    let delivered = delivered();
    let site = &delivered.site;
    let all = records(&site.world.bootstrap, &site.world.topic, 0);
    let copy = Copy::new(&site.world.bootstrap);
    copy.write(&[&all[0]]);
    copy.write(&[&all[1]]);
    let until = |offset: &str| site.replay_of(&copy.topic, &["--all-records", "--to-offset", offset]).lines.len();
    // A record, its transaction's marker, a record.
    assert_eq!((until("0"), until("1"), until("2"), until("3")), (0, 1, 1, 2));
}

#[test]
fn tail_shows_what_comes_with_its_delay_and_ends_well_when_interrupted() {
    let site = Site::new(SCHEMA);
    let bridge = site.run();
    site.world.database.psql("INSERT INTO items VALUES (1, 'a', 'one')").expect("insert");
    let mut tail = site.tail(&[]);
    let (sender, lines) = channel();
    let output = tail.stdout.take().expect("its output");
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            if sender.send(line.expect("a line")).is_err() {
                return;
            }
        }
    });
    let next = || -> serde_json::Value {
        serde_json::from_str(&lines.recv_timeout(PATIENCE).expect("a line in time")).expect("JSON")
    };
    assert_eq!(next()["after"]["note"], "one");
    site.world.database.psql("UPDATE items SET note = 'two'").expect("update");
    let line = next();
    assert_eq!(line["after"]["note"], "two");
    let delay = line["delay_ms"].as_f64().expect("a delay");
    assert!((0.0..60_000.0).contains(&delay), "{delay}");
    let interrupted = Command::new("kill").args(["-INT", &tail.id().to_string()]).status().expect("run kill");
    assert!(interrupted.success());
    assert_eq!(tail.wait().expect("its end").code(), Some(0));
    let mut err = String::new();
    tail.stderr.take().expect("its errors").read_to_string(&mut err).expect("text");
    assert_eq!(err, "penstock: 2 records; 12 others left out, 0 duplicates dropped\n");
    reader.join().expect("the reader");
    assert!(bridge.stop().success());
}

#[test]
fn whoever_stops_reading_the_lines_is_no_error() {
    let delivered = delivered();
    let site = &delivered.site;
    let mut replay = site.reader("replay", &site.world.topic, &[]).spawn().expect("start penstock");
    drop(replay.stdout.take());
    let output = replay.wait_with_output().expect("its end");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn a_configuration_of_kafka_and_registry_is_enough() {
    let delivered = delivered();
    let World { bootstrap, registry_url, topic, .. } = &delivered.site.world;
    let folder = tempfile::tempdir().expect("a folder");
    let sections =
        format!("[kafka]\nbrokers = [{bootstrap:?}]\ntopic = {topic:?}\n[registry]\nurl = {registry_url:?}\n");
    std::fs::write(folder.path().join("penstock.toml"), &sections).expect("write the configuration");
    let count = |arguments: &[&str]| {
        let mut replay = penstock("replay");
        let output = replay.arg("--count").args(arguments).current_dir(folder.path()).output().expect("run penstock");
        (output.status.code(), text(&output.stdout).starts_with("{\"records\":10,"), text(&output.stderr))
    };
    assert_eq!(count(&[]), (Some(0), true, String::new()), "the file that lies there is read");
    std::fs::write(folder.path().join("other.toml"), sections.replace("topic", "topics")).expect("write another");
    let (exit, _, err) = count(&["--config", "other.toml"]);
    assert_eq!(exit, Some(2));
    assert!(err.contains("kafka.topics") && err.contains("did you mean topic?"), "{err}");
}

#[test]
fn rows_that_could_not_be_delivered_are_shown_from_their_own_topic() {
    let mut site = Site::new(SCHEMA);
    site.world.set("FAULTS__POISON", "dead_letter").set("LIMITS__RECORD_BYTES_MAX", "65536");
    site.deliver(|world| {
        let random = "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 4000))";
        let sql = format!(
            "INSERT INTO items VALUES (1, 'a', 'one'), (2, 'global', 'two'), (3, 'b', {random});
             INSERT INTO notes VALUES (1, 'global', '{{}}');
             DELETE FROM items WHERE id = 2"
        );
        world.database.psql(&sql).expect("rows");
    });
    let read = site.replay(&["--dead-letters"]);
    assert_eq!(read.exit, Some(0), "{}", read.err);
    assert_eq!(read.err, "penstock: 4 records; 0 others left out, 0 duplicates dropped\n");
    let mut brief: Vec<String> = read
        .lines
        .iter()
        .map(|line| {
            let fields = ["kind", "table", "op", "account", "key"].map(|field| line[field].to_string());
            format!("{} {}", fields.join(" ").replace('"', ""), line["columns"]["id"])
        })
        .collect();
    brief.sort();
    assert_eq!(
        brief,
        [
            "dead_letter public.items c b {__account:b,id:3} \"3\"",
            "dead_letter public.items c null null \"2\"",
            "dead_letter public.items d null null \"2\"",
            "dead_letter public.notes c null null \"1\"",
        ]
    );
    let large = read.lines.iter().find(|line| line["account"] == "b").expect("the large one");
    assert!(large["reason"].as_str().is_some_and(|reason| reason.contains("do not fit: \"note\"")), "{large}");
    for (arguments, count) in [
        (&["--table", "public.notes"][..], 1),
        (&["--op", "d"], 1),
        // Whose account is not known may be anybody's.
        (&["--account", "b"], 4),
        (&["--account", "a"], 3),
        (&["--limit", "2"], 2),
    ] {
        let read = site.replay(&[&["--dead-letters"], arguments].concat());
        assert_eq!((read.exit, read.lines.len()), (Some(0), count), "{arguments:?}: {}", read.err);
    }
    let count = site.replay(&["--dead-letters", "--count"]);
    assert_eq!(count.lines[0]["kinds"]["dead_letter"], 4, "{}", count.text);
    assert_eq!(count.lines[0]["tables"]["public.items"]["c"], 2, "{}", count.text);
    assert_eq!(site.replay(&["--dead-letters", "--all-records"]).exit, Some(2));

    // In the change topic stands who is concerned: three times everyone, once an account.
    let controls = site.replay(&["--all-records"]);
    let controls = controls.lines.iter().filter(|line| line["control"]["kind"] == "dead_letter");
    let accounts: Vec<&serde_json::Value> = controls.map(|line| &line["control"]["account"]).collect();
    assert_eq!(accounts.len(), 3 * 12 + 1);
    assert_eq!(accounts.iter().filter(|account| **account == "b").count(), 1);
}

#[test]
fn wrong_calls_exit_2_and_servers_that_are_not_there_1() {
    let delivered = delivered();
    let site = &delivered.site;
    for (arguments, said) in [
        (&["--from-lsn", "12"][..], "not an LSN"),
        (&["--from-time", "yesterday"], "is no time"),
        (&["--table", "accounts"], "schema.table"),
        (&["--op", "x"], "c, u, d and r"),
        (&["--from-offset", "--1"], "-N for the last N"),
        (&["--isolation", "serializable"], "read_committed"),
    ] {
        let read = site.replay(arguments);
        assert_eq!(read.exit, Some(2), "{arguments:?}: {}", read.err);
        assert!(read.err.contains(said), "{arguments:?}: {}", read.err);
    }
    let missing = penstock("replay").args(["--brokers", "a:1"]).output().expect("run penstock");
    assert_eq!(missing.status.code(), Some(2), "{}", text(&missing.stderr));
    assert!(text(&missing.stderr).contains("registry.url"), "{}", text(&missing.stderr));
    let read = site.replay(&["--partition", "12"]);
    assert_eq!(read.exit, Some(1));
    assert!(read.err.contains("there is no partition 12"), "{}", read.err);
    let read = site.replay_of("no.such.topic", &[]);
    assert_eq!(read.exit, Some(1));
    assert!(read.err.contains("topic \"no.such.topic\" does not exist"), "{}", read.err);
}
