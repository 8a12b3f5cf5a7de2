//! Every supported major version of Postgres: first start, load, an orderly stop, resume.

use std::time::Duration;

use penstock_testbed::artifacts::{Bundle, Cache};
use penstock_testbed::cluster::{Addresses, shared};
use penstock_testbed::postgres::Postgres;

use crate::load::{self, Load};
use crate::reader;
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(60);

fn bridges(major: u16) {
    let cache = Cache::from_environment();
    // Fetched beforehand where it can be had; elsewhere there is nothing to test with.
    let Some(bundle) = Bundle::postgres(major) else { panic!("there is no bundle for Postgres {major}") };
    if cache.find(bundle).is_none() && cache.ensure(bundle, &|_| {}).is_err() {
        eprintln!("Postgres {major} cannot be had on this machine: not tested");
        return;
    }
    let postgres = Postgres::builder().cache(cache).major(major).start().expect("start Postgres");
    let shared = shared().expect("the shared stack");
    let stack = Addresses { postgres: postgres.address().clone(), ..shared.clone() };
    let mut world = World::new(&stack, load::SCHEMA);
    world.configure(load::CAPTURE);
    let mut bridge = world.run();
    world.wait_ready(&mut bridge, PATIENCE);
    let load = Load::start(&world.database, 4, Duration::from_millis(3));
    load.wait_for_more(100, PATIENCE);
    assert!(bridge.stop().success());
    let mut bridge = world.run();
    load.wait_for_more(100, PATIENCE);
    load.stop();
    world.wait_confirmed(&mut bridge, PATIENCE);
    let events = load::check(&world.database, &reader::read(&world.bootstrap, &world.registry_url, &world.topic));
    eprintln!("Postgres {major}: {events} row events, each once and in order");
    assert!(bridge.stop().success());
}

#[test]
fn postgres_14_is_bridged() {
    bridges(14);
}

#[test]
fn postgres_16_is_bridged() {
    bridges(16);
}

#[test]
fn postgres_17_is_bridged() {
    bridges(17);
}

#[test]
fn postgres_18_is_bridged() {
    bridges(18);
}
