//! A bridge that is killed between two shapes of a table, and encodes again what it had.

use std::collections::BTreeMap;

use penstock_testbed::registry::scripted::{Reply, Scripted};
use penstock_wire::header::{HEADER_NAME, Header};
use penstock_wire::position::Position;
use rdkafka::message::{Headers, Message};

use super::TABLE;
use crate::reader::each_message;
use crate::scene::{A, B, PATIENCE, Scene, tell, world};
use crate::semantics::replay::{assert_same_records, set_up, topic};
use crate::world::{World, wait};

/// Questions that every start asks before it streams: the four schemas of the bridge's own.
const OWN_QUESTIONS: usize = 4;

/// Key and value.
type Bytes = (Vec<u8>, Option<Vec<u8>>);

/// Each position's records, aborted ones included, as often as they were written.
fn written(world: &World) -> BTreeMap<(i32, Position), Vec<Bytes>> {
    let mut written: BTreeMap<_, Vec<Bytes>> = BTreeMap::new();
    each_message(&world.bootstrap, &world.topic, "read_uncommitted", |message| {
        let headers = message.headers().expect("every record has headers");
        let own = headers.iter().find(|header| header.key == HEADER_NAME).and_then(|header| header.value);
        let position = Header::decode(own.expect("the header")).expect("a header").position;
        let bytes = (message.key().unwrap_or_default().to_vec(), message.payload().map(<[u8]>::to_vec));
        written.entry((message.partition(), position)).or_default().push(bytes);
    });
    written
}

/// Every start is killed two questions to the registry later than the one before: while it looks at a shape, registers its
/// key, or its rows, with records of the shapes before on their way. By then the registry knows versions that are newer than
/// those that the next start needs first.
#[test]
fn killed_at_its_questions_to_the_registry_it_writes_the_same_bytes_again() {
    let mut killed = world(TABLE, "");
    killed.set("KAFKA__NAMESPACE", "killed").set("REGISTRY__TIMEOUT_MS", "60000");
    let undisturbed = killed.twin();
    let port = killed.registry_url.split([':', '/']).nth(4).and_then(|port| port.parse().ok()).expect("a port");
    let scripted = Scripted::start(Reply::Forward(port)).expect("a scripted registry");
    killed.registry_url = scripted.url();
    set_up(&killed);
    set_up(&undisturbed);
    killed
        .database
        .psql(&format!(
            "BEGIN;
             INSERT INTO t VALUES (1, '{A}', 1, 'a'), (2, '{B}', 2, 'b'), (3, '{A}', 3, 'c'), (4, '{B}', 4, 'd');
             ALTER TABLE t ALTER COLUMN n TYPE bigint;
             INSERT INTO t VALUES (5, '{A}', 5000000000, 'e'), (6, '{B}', 6, 'f');
             ALTER TABLE t ADD COLUMN more text;
             ALTER TABLE t RENAME COLUMN v TO w;
             UPDATE t SET more = w WHERE id < 3;
             ALTER TABLE t DROP COLUMN more;
             ALTER TABLE t RENAME COLUMN w TO v;
             DELETE FROM t WHERE id = 1;
             COMMIT;"
        ))
        .expect("change the table");

    let target = killed.database.psql("SELECT pg_current_wal_lsn()").expect("ask for the position");
    let slot = killed.slot();
    let past = format!("SELECT confirmed_flush_lsn >= '{target}' FROM pg_replication_slots WHERE slot_name = '{slot}'");

    let mut kills = 0;
    let mut scene = loop {
        let asked = scripted.requests().len();
        let questions = OWN_QUESTIONS + 1 + 2 * kills;
        (0..questions).for_each(|_| scripted.push(Reply::Forward(port)));
        scripted.otherwise(Reply::Hang);
        let mut bridge = killed.run();
        let mut is_through = false;
        wait("the bridge to hang or to be through", PATIENCE, || {
            is_through = killed.database.psql(&past).is_ok_and(|answer| answer.trim() == "t");
            assert!(bridge.ended().is_none(), "{}", bridge.log());
            is_through || scripted.requests().len() > asked + questions
        })
        .unwrap_or_else(|late| panic!("{late}\n{}", bridge.log()));
        scripted.otherwise(Reply::Forward(port));
        if is_through {
            break Scene { bridge, world: killed };
        }
        bridge.kill();
        scripted.hang_up();
        kills += 1;
    };
    // Each shape asks about its key and its value, before and while they are registered.
    assert!(kills > 5, "{kills} kills");
    let told = tell(&scene.records(), &["id", "n", "v", "w", "more"]);
    assert_eq!(told.len(), 10, "{told:?}");
    let (world, bridge) = (&scene.world, &scene.bridge);

    let written = written(world);
    for (place, copies) in &written {
        assert!(copies.iter().all(|bytes| *bytes == copies[0]), "{place:?} was written with other bytes");
    }
    let again = written.values().filter(|copies| copies.len() > 1).count();
    assert!(again > 2, "only {again} of {} records were written more than once\n{}", written.len(), bridge.log());

    let mut other = undisturbed.run();
    undisturbed.wait_ready(&mut other, PATIENCE);
    undisturbed.wait_confirmed_to(&target, &mut other, PATIENCE);
    assert_same_records(topic(world), topic(&undisturbed));
    assert!(other.stop().success());
    drop(undisturbed);
    scene.stop();
}
