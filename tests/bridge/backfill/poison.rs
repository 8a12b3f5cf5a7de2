//! Rows from before that cannot be delivered: the load halts at them; or, told to go on, sets each aside once.

use penstock_wire::control::ControlKind;
use penstock_wire::event::Op;
use penstock_wire::position::Position;

use super::first_load::load_is_complete;
use crate::reader::{Content, Record, read_dead_letters};
use crate::scene::{PARTITIONS, PATIENCE, Scene, plain, world};
use crate::world::wait;

/// Row 12 has a time that no Avro timestamp holds, row 21 no account, row 30 is too large. Chunks have ten rows, so that the
/// last of these ends one.
const SCHEMA: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, account_id text, at timestamp, v text, secret text);
ALTER TABLE t REPLICA IDENTITY FULL;
INSERT INTO t SELECT n, 'a', '2026-01-01', 'v' || n, 'SECRET' FROM generate_series(1, 45) n;
UPDATE t SET at = '294276-12-31 23:59:59' WHERE id = 12;
UPDATE t SET account_id = 'global' WHERE id = 21;
UPDATE t SET v = (SELECT string_agg(md5(format('large %s', m)), '') FROM generate_series(1, 3000) m) WHERE id = 30;
ANALYZE t";
const POISON: [i64; 3] = [12, 21, 30];
const CONFIGURATION: &str = "
[tables]
capture = [\"public.*\"]
exclude = [\"public.t.secret\"]
[backfill]
chunk_rows_max = 10
workers = 1
";

/// Ids of the rows that were read, or inserted, in order.
fn ids(records: &[Record], op: Op) -> Vec<i64> {
    let envelopes = records.iter().filter_map(Record::change).filter(|envelope| envelope.op == op);
    let id = |envelope: &penstock_wire::decode::Envelope| plain(envelope.after.as_ref()?.get("id")?).parse().ok();
    let mut ids: Vec<i64> = envelopes.map(|envelope| id(envelope).expect("an id")).collect();
    ids.sort_unstable();
    ids
}

/// Where controls of a kind stand, and for whom.
fn controls(records: &[Record], kind: ControlKind) -> Vec<(Position, Option<String>)> {
    let mut told: Vec<(Position, Option<String>)> = records
        .iter()
        .filter_map(|record| match &record.content {
            Content::Control(control) if control.kind == kind => {
                Some((record.header.position, control.account.clone()))
            }
            Content::Control(_) | Content::Change(_) | Content::Tombstone => None,
        })
        .collect();
    told.sort();
    told
}

#[test]
fn a_first_load_halts_at_a_row_that_cannot_be_delivered_and_goes_on_past_it_when_told_to() {
    let mut world = world(SCHEMA, CONFIGURATION);
    world.set("LIMITS__RECORD_BYTES_MAX", "65536");
    let bridge = world.run();
    let mut scene = Scene { bridge, world };
    let words = ["public.t at 1:0/", "column \"at\"", "All accounts wait", "faults.poison = \"dead_letter\""];
    let said = scene.expect_halt(&words);
    assert!(!said.contains("294276") && !said.contains("SECRET"), "a row's value is told: {said}");
    let log = scene.bridge.log();
    assert!(!log.contains("in a new session"), "nothing of its chunk is in the way of what precedes it: {log}");
    let records = scene.delivered_and_loaded();
    assert_eq!(ids(&records, Op::Read), (1..=10).collect::<Vec<_>>(), "the chunk before it, and nothing of its own");
    assert!(controls(&records, ControlKind::DeadLetter).is_empty());

    // A start alone changes nothing, but what was committed meanwhile does not wait behind the load.
    scene.sql("INSERT INTO t SELECT n, 'b', NULL, 'late', 'SECRET' FROM generate_series(100, 104) n");
    scene.bridge = scene.world.run();
    scene.expect_halt(&words);
    let records = scene.delivered_and_loaded();
    assert_eq!(ids(&records, Op::Create), (100..=104).collect::<Vec<_>>());
    assert_eq!(ids(&records, Op::Read), (1..=10).collect::<Vec<_>>());

    scene.world.set("FAULTS__POISON", "dead_letter");
    scene.again();
    wait("the load to be complete", PATIENCE, || load_is_complete(&scene.world)).expect("it goes on");
    let records = scene.records_and_loads();
    let good = (1..=45).filter(|id| !POISON.contains(id)).chain(100..=104);
    assert_eq!(ids(&records, Op::Read), good.collect::<Vec<_>>(), "each once");
    assert_eq!(controls(&records, ControlKind::ReloadBegin).len(), PARTITIONS as usize, "it began once");
    assert_eq!(controls(&records, ControlKind::ReloadEnd).len(), PARTITIONS as usize, "it ended once");

    let letters = read_dead_letters(&scene.world.bootstrap, &scene.world.registry_url, &scene.world.topic);
    let told: Vec<_> = letters
        .iter()
        .map(|letter| {
            assert!(!letter.value.columns.contains_key("secret"), "an excluded column is in a dead letter");
            let id = letter.value.columns["id"].as_deref().and_then(|id| id.parse::<i64>().ok()).expect("an id");
            (letter.value.op.as_str(), id, letter.key.is_some())
        })
        .collect();
    assert_eq!(told, [("r", 12, true), ("r", 21, false), ("r", 30, true)]);
    let [late, of_nobody, large] = [0, 1, 2].map(|index| letters[index].header.position);
    // Row n of a chunk stands at 8 × (2 + n): the second, the first and the last of ten.
    assert_eq!([late, of_nobody, large].map(|position| position.seq.0), [24, 16, 88]);
    let of_a = |position| vec![(position, Some("a".to_owned()))];
    let everyone = vec![(of_nobody, None); PARTITIONS as usize];
    let expected = [of_a(late), everyone, of_a(large)].concat();
    assert_eq!(controls(&records, ControlKind::DeadLetter), expected);
    assert!(letters[2].value.reason.ends_with("left out, because they do not fit: \"v\""), "{:?}", letters[2]);
    let metrics = scene.bridge.get("/metrics").expect("metrics");
    assert!(metrics.contains("penstock_dead_letters_total{table=\"public.t\"} 3\n"), "{metrics}");
    scene.stop();
}
