//! Killed in the middle of load, the bridge, the broker and Postgres lose nothing and double nothing.
//!
//! `PENSTOCK_KILLS` sets how often each is killed; the short run of the tests kills each four times. `PENSTOCK_KEEP` names a
//! folder that Kafka's data and logs and the bridge's logs are copied to before anything is judged.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use penstock_testbed::artifacts::Cache;
use penstock_testbed::cluster::Stack;

use crate::load::{self, Load};
use crate::reader;
use crate::world::{Bridge, World};

const PATIENCE: Duration = Duration::from_secs(240);

fn kills() -> u32 {
    std::env::var("PENSTOCK_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// Loads, breaks `kills()` times, and checks every event. `wound` is called with load flowing and must leave everything
/// running, a bridge included.
fn survive(wound: impl Fn(&Stack, &World, Bridge, u32) -> Bridge) {
    let stack = Stack::start(&Cache::from_environment()).expect("a stack of its own");
    let mut world = World::new(&stack.addresses(), load::SCHEMA);
    world.configure(load::CAPTURE);
    let mut bridge = world.run();
    world.wait_ready(&mut bridge, PATIENCE);
    let load = Load::start(&world.database, 8, Duration::from_millis(5));
    for kill in 0..kills() {
        load.wait_for_more(300, PATIENCE);
        bridge = wound(&stack, &world, bridge, kill);
    }
    load.wait_for_more(300, PATIENCE);
    load.stop();
    world.wait_confirmed(&mut bridge, PATIENCE);
    keep(&stack, &bridge);
    let records = reader::read(&world.bootstrap, &world.registry_url, &world.topic);
    let events = load::check(&world.database, &records);
    eprintln!("{} kills, {events} row events, each in the topic once and in order", kills());
    assert!(bridge.stop().success(), "a bridge that is told to stop exits 0");
}

/// What a failure is to be explained with is gone with the servers.
fn keep(stack: &Stack, bridge: &Bridge) {
    let Some(folder) = std::env::var_os("PENSTOCK_KEEP") else { return };
    let kafka = stack.kafka.broker().log();
    let kafka = kafka.parent().expect("the broker's folder");
    let logs = bridge.log.parent().expect("the world's folder");
    for from in [kafka, logs] {
        let copied = Command::new("cp").arg("-r").arg(from).arg(Path::new(&folder)).status();
        assert!(copied.expect("run cp").success(), "{} is copied", from.display());
    }
}

#[test]
fn killing_the_bridge_loses_and_doubles_nothing() {
    survive(|_, world, bridge, _| {
        bridge.kill();
        world.run()
    });
}

#[test]
fn killing_the_broker_loses_and_doubles_nothing() {
    survive(|stack, _, bridge, _| {
        stack.kafka.broker().kill().expect("kill the broker");
        stack.kafka.broker().start().expect("start the broker again");
        bridge
    });
}

#[test]
fn killing_postgres_loses_and_doubles_nothing() {
    survive(|stack, _, bridge, _| {
        stack.postgres.kill().expect("kill Postgres");
        stack.postgres.start().expect("start Postgres again");
        bridge
    });
}
