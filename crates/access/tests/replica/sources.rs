//! Several sources: an account's rows are of one of them, whatever passes by in the others.

use penstock_access::account::{ClientOptions, Options};
use penstock_access::replica::Subscriber;
use penstock_access::rows::Table;
use penstock_wire::control::Control;
use penstock_wire::event::Op;
use penstock_wire::reload::Scope;

use crate::topic::{ACCOUNT, World, client, id, small, uuid};

/// The account has a channel, and so is there, before any row of it came.
fn watched() -> World {
    let mut world = World::new(Options::default());
    let subscriber = Subscriber::Client { id: uuid(30), token: None, options: ClientOptions::default() };
    world.replica.subscribe(Some(&id(ACCOUNT)), subscriber, world.micros());
    world
}

fn is_known(mut world: World) {
    for row in small() {
        world.row(1, Op::Create, row);
    }
    world.heartbeat(1);
    world.heartbeat(2);
    world.end();
    assert_eq!(world.ask(), "ok");
}

#[test]
fn what_another_source_takes_away_from_all_does_not_make_an_account_its_own() {
    let mut world = watched();
    world.control(2, &Control::truncate("public", Table::Flows.name()));
    is_known(world);
    let mut world = watched();
    world.reload(2, Vec::new());
    is_known(world);
}

#[test]
fn a_reload_of_an_account_in_the_wrong_source_changes_nothing() {
    let mut world = World::known(Options::default());
    let scope = Scope { table: None, account: Some(id(ACCOUNT)) };
    world.reload_of(2, &scope, Vec::new());
    world.heartbeat(1);
    world.heartbeat(2);
    assert_eq!(world.ask(), "ok");
}

#[test]
fn rows_of_two_sources_are_in_doubt() {
    let mut world = World::known(Options::default());
    world.row(2, Op::Create, client(31));
    world.heartbeat(1);
    world.heartbeat(2);
    assert_eq!(world.ask(), "unavailable unproven");
}
