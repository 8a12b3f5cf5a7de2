//! Databases in which nothing that is captured happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use penstock::kafka::client::Brokers;
use penstock::kafka::progress::read_newest;
use penstock::kafka::readers::Readers;
use penstock_wire::progress::Progress;

use super::TABLE;
use crate::scene::{A, Scene, stack, tell};
use crate::world::{World, wait};

/// Soon enough that no disk fills: the WAL of a busy server must not wait for a table that nobody writes.
const SOON: Duration = Duration::from_secs(15);

#[test]
fn the_slot_advances_while_only_others_are_written() {
    let schema = format!("{TABLE} CREATE TABLE other (id serial PRIMARY KEY, v text);");
    let mut scene = Scene::start(&schema, "[tables]\ncapture = [\"public.t\"]\n");
    let foreign = stack().database("busy").expect("another database");
    foreign.psql("CREATE TABLE t (id serial PRIMARY KEY, v text)").expect("create a table");
    let stop = AtomicBool::new(false);
    let (here, there) = (&scene.world.database, &*foreign);
    let write = || {
        while !stop.load(Ordering::Relaxed) {
            here.psql("INSERT INTO other (v) SELECT repeat('x', 100) FROM generate_series(1, 100)").expect("write");
            there.psql("INSERT INTO t (v) SELECT repeat('x', 100) FROM generate_series(1, 100)").expect("write");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(write);
        for _ in 0..3 {
            let target = here.psql("SELECT pg_current_wal_lsn()").expect("ask for the position");
            let reached = format!("'{}'::pg_lsn >= '{target}'::pg_lsn", "{}");
            let waited = wait("the slot to follow", SOON, || {
                let confirmed = scene.world.confirmed();
                here.psql(&format!("SELECT {}", reached.replace("{}", &confirmed))).expect("compare") == "t"
            });
            if waited.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            waited.unwrap_or_else(|late| panic!("{late}\n{}", scene.bridge.log()));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(scene.bridge.ended().is_none(), "the bridge runs on");
    assert_eq!(tell(&scene.records(), &["id"]), [""; 0], "nothing captured was written");
    scene.stop();
}

fn progress(world: &World) -> Progress {
    let brokers = Brokers {
        bootstrap: world.bootstrap.clone(),
        properties: Default::default(),
        transaction_timeout: Duration::from_secs(60),
    };
    let readers = Readers::of(&brokers).expect("clients");
    let topic = format!("{}.progress", world.topic);
    loop {
        // A commit that is just under way hides the newest record for a moment.
        if let Ok(stored) = read_newest(&readers, &topic, &world.source) {
            return Progress::decode(&stored.expect("progress").body).expect("a progress record");
        }
    }
}

#[test]
fn readers_of_an_idle_database_learn_every_second_that_the_bridge_lives() {
    let scene = Scene::start(TABLE, "");
    let mut clock_us = 0;
    for _ in 0..3 {
        let asked_us: i64 = scene
            .sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
            .parse()
            .expect("the server's clock");
        wait("the clock in progress", SOON, || {
            let newest = progress(&scene.world);
            assert!(newest.postgres_clock_us >= clock_us, "the clock went back");
            clock_us = newest.postgres_clock_us;
            clock_us > asked_us
        })
        .unwrap_or_else(|late| panic!("{late}\n{}", scene.bridge.log()));
    }
    let newest = progress(&scene.world);
    assert_eq!(newest.epoch, 1);
    assert!(newest.load_complete, "the table was empty when the slot was made");
    scene.stop();
}

/// What the libraries say at every start nobody reads any more when it matters.
#[test]
fn libraries_have_nothing_to_warn_of_where_nothing_is_wrong() {
    let configuration = "[kafka.properties]\n\"compression.type\" = \"zstd\"\n\"linger.ms\" = \"1\"\n";
    let mut scene = Scene::start(TABLE, configuration);
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 'one')"));
    assert_eq!(tell(&scene.records(), &["id"]), ["c (1)"]);
    scene.bridge.signal("TERM");
    assert!(scene.bridge.wait(SOON).success());
    let first = scene.bridge.log();
    scene.again();
    scene.bridge.signal("TERM");
    assert!(scene.bridge.wait(SOON).success());
    let log = first + &scene.bridge.log();
    let usual = |line: &&str| line.contains(" INFO ") || line.contains("penstock::health: waiting");
    let warnings: Vec<&str> = log.lines().filter(|line| !usual(line)).collect();
    assert_eq!(warnings, [""; 0]);
}
