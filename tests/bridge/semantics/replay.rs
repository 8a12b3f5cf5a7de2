//! The same WAL gives the same records: what lets a bridge be replaced, and a topic be made again.

use std::collections::BTreeSet;

use penstock_wire::framing;
use penstock_wire::header::Header;
use penstock_wire::position::Position;

use super::TABLE;
use crate::reader::{self, Record};
use crate::scene::{A, B, PATIENCE, Scene, is_of_a_load};
use crate::world::World;

/// All that is fixed by the WAL, the configuration and the wire version: everything but the ids that a registry gives
/// out.
#[derive(Debug, PartialEq)]
pub struct Fixed {
    partition: i32,
    header: Header,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    timestamp_ms: Option<i64>,
}

fn fixed(record: &Record) -> Fixed {
    let body = |framed: &[u8]| framing::split(framed).expect("a framed record").1.to_vec();
    // The records of an epoch's beginning bear the time of the first start.
    let of_the_wal = record.header.position.commit_lsn.raw() > 0;
    Fixed {
        partition: record.partition,
        header: record.header,
        key: body(&record.key),
        value: record.raw.as_deref().map(body),
        timestamp_ms: of_the_wal.then_some(record.timestamp_ms),
    }
}

/// All records of a world's topic but those of reloads, which come when they can, and whether a reload's stood before it.
pub fn topic(world: &World) -> Vec<(Fixed, bool)> {
    let mut behind = BTreeSet::new();
    let mut records = Vec::new();
    for record in &reader::read(&world.bootstrap, &world.registry_url, &world.topic) {
        if is_of_a_load(record) {
            behind.insert(record.partition);
        } else {
            records.push((fixed(record), behind.remove(&record.partition)));
        }
    }
    records
}

/// What two bridges made of the same WAL. What a record says of its predecessor is fixed where that is no reload's.
pub fn assert_same_records(ones: Vec<(Fixed, bool)>, others: Vec<(Fixed, bool)>) {
    let count = ones.len();
    assert_eq!(count, others.len());
    for (index, ((mut one, loaded), (mut other, other_loaded))) in ones.into_iter().zip(others).enumerate() {
        if loaded || other_loaded {
            (one.header.previous, other.header.previous) = (Position::default(), Position::default());
        }
        assert_eq!(one, other, "record {index} of {count}");
    }
}

/// Makes topics, publication and slot.
pub fn set_up(world: &World) {
    let mut setup = world.spawn("setup", &[], &world.database);
    let status = setup.wait(PATIENCE);
    assert!(status.success(), "setup: {}", setup.log());
}

#[test]
fn two_bridges_make_the_same_records_of_the_same_wal() {
    let mut first = crate::scene::world(
        &format!("{TABLE} CREATE TABLE u (LIKE t INCLUDING ALL); ALTER TABLE u REPLICA IDENTITY FULL;"),
        "",
    );
    first.set("KAFKA__NAMESPACE", "replayed");
    let second = first.twin();
    set_up(&first);
    set_up(&second);

    // Groups of this one end where a kill or a slow moment ends them …
    let mut scene = Scene::of(first);
    for round in 0..6 {
        let base = round * 1000;
        scene.sql(&format!(
            "INSERT INTO t SELECT {base} + n, CASE WHEN n % 3 = 0 THEN NULL WHEN n % 3 = 1 THEN '{A}' ELSE '{B}' END::uuid, 'v' || n
             FROM generate_series(1, 300) n;
             BEGIN; INSERT INTO u SELECT id, account_id, v FROM t WHERE id > {base}; UPDATE t SET v = v || 'u' WHERE id % 7 = 0; COMMIT;
             BEGIN; UPDATE t SET account_id = '{B}' WHERE id % 5 = 0; UPDATE u SET id = id + 500 WHERE id % 11 = 1; COMMIT;
             BEGIN; DELETE FROM t WHERE id % 4 = 0; TRUNCATE u; INSERT INTO u VALUES ({base}, '{A}', 'again'); COMMIT;
             TRUNCATE t, u; ALTER TABLE t ADD COLUMN more{round} int DEFAULT {round};
             INSERT INTO t SELECT {base} + n, '{A}', 'w' FROM generate_series(1, 20) n;"
        ));
        if round % 2 == 1 {
            scene.bridge = scene.world.run();
        }
    }
    let first_records = {
        scene.records();
        topic(&scene.world)
    };
    let Scene { bridge, world: first } = scene;
    assert!(bridge.stop().success());

    // … and this one reads a backlog in as large groups as it may.
    let mut bridge = second.run();
    second.wait_ready(&mut bridge, PATIENCE);
    let target = first.database.psql("SELECT pg_current_wal_lsn()").expect("ask for the position");
    second.wait_confirmed_to(&target, &mut bridge, PATIENCE);
    let second_records = topic(&second);
    assert!(bridge.stop().success());

    assert!(first_records.len() > 6000, "{} records", first_records.len());
    assert_same_records(first_records, second_records);
}
