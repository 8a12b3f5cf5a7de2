//! What is answered and pushed while too little is known.

use penstock_access::account::{ClientOptions, Options};
use penstock_access::replica::Subscriber;
use penstock_access::rows::Table;
use penstock_wire::control::Control;
use penstock_wire::event::Op;

use crate::topic::{World, client, flow, id, uuid};

const SERVE: Options = Options { serve_stale: true, ..DEFAULT };
const DEFAULT: Options = Options {
    conditions: penstock_access::conditions::Options {
        other_family_allows: false,
        unknown_provider_allows_not_in: false,
    },
    confirm_within_us: 15_000_000,
    stale_grace_us: None,
    serve_stale: false,
    loaded_flows_live: false,
};

#[test]
fn what_is_known_is_known_for_so_long() {
    let mut world = World::known(DEFAULT);
    world.now = 9;
    assert_eq!(world.ask(), "ok");
    world.now = 10;
    assert_eq!(world.ask(), "unavailable stale");
}

#[test]
fn nothing_is_announced_by_what_is_not_known_any_more() {
    for (later, announced) in [(9, true), (10, false)] {
        let mut world = World::known(DEFAULT);
        let flow = world.authorized();
        world.now = later;
        assert_eq!(world.replica.announce(&flow, world.micros()), announced, "{later} s later");
    }
}

/// Who is not there may have come since.
#[test]
fn nobody_is_unknown_while_it_is_not_known_who_came() {
    for (options, later) in [(DEFAULT, "unavailable stale"), (SERVE, "not_found")] {
        let mut world = World::known(options);
        assert_eq!(world.ask_for(31), "not_found");
        world.now = 100;
        assert_eq!(world.ask_for(31), later);
    }
}

#[test]
fn a_channel_that_may_be_one_waits_until_it_is_known() {
    for (comes, told) in [(true, "init"), (false, "no such client or gateway is live in this account")] {
        let mut world = World::known(DEFAULT);
        world.now = 100;
        world.replica.handle_time(world.micros());
        let options = ClientOptions::default();
        world.replica.subscribe(None, Subscriber::Client { id: uuid(31), token: None, options }, world.micros());
        assert_eq!(world.told(), ["stale"]);
        if comes {
            world.row(1, Op::Create, client(31));
        }
        world.heartbeat(1);
        assert_eq!(world.told(), [told]);
    }
}

#[test]
fn a_clock_that_is_set_back_makes_nobody_fresh_for_longer() {
    let mut world = World::known(DEFAULT);
    world.now = -3600;
    world.replica.handle_time(world.micros());
    world.now += 9;
    assert_eq!(world.ask(), "ok");
    world.now += 1;
    assert_eq!(world.ask(), "unavailable stale");
    world.replica.handle_time(world.micros());
    world.heartbeat(1);
    assert_eq!(world.ask(), "ok");
}

/// A channel that is opened again for one whose reader was too slow ends with the token of the first.
#[test]
fn a_channel_that_is_opened_again_rests_on_the_same_token() {
    let mut world = World::known(DEFAULT);
    let subscriber = Subscriber::Client { id: uuid(30), token: None, options: ClientOptions::default() };
    let channel = world.replica.subscribe(None, subscriber, world.micros());
    let again = subscriber.again_with(world.replica.channel_token(channel));
    world.replica.unsubscribe(channel);
    let (table, mut other) = client(30);
    other.retain(|(column, _)| *column != "last_used_token_id");
    world.row(
        1,
        Op::Create,
        (Table::Tokens, vec![("id", id(21)), ("type", "client".to_owned()), ("actor_id", id(10))]),
    );
    other.push(("last_used_token_id", id(21)));
    world.row(1, Op::Update, (table, other));
    world.row(1, Op::Delete, (Table::Tokens, vec![("id", id(20))]));
    world.told();
    world.replica.subscribe(None, again, world.micros());
    assert_eq!(world.told(), ["the token is unknown or not live"]);
}

/// The reader stood still. What it reads first is not what the database holds by now.
#[test]
fn nothing_is_granted_by_the_first_record_after_a_long_sleep() {
    let mut world = World::known(DEFAULT);
    world.replica.subscribe(None, Subscriber::Gateway { id: uuid(50), token: Some(uuid(20)) }, world.micros());
    assert_eq!(world.told(), ["init"]);
    world.now = 100;
    world.row(1, Op::Create, flow(80));
    assert_eq!(world.told(), ["stale"]);
    world.row(1, Op::Delete, flow(80));
    world.row(1, Op::Create, flow(81));
    world.heartbeat(1);
    assert_eq!(world.told(), ["fresh", "authorize_flow"]);
}

/// Where it stopped is not where the topic ends, even for whom the last known state is good enough.
#[test]
fn a_checkpoint_is_not_served_before_the_end_was_read() {
    for options in [DEFAULT, SERVE] {
        let mut world = World::known(options);
        world.restart(options);
        assert_eq!(world.ask(), "unavailable rebuilding");
        world.row(1, Op::Delete, client(30));
        world.end();
        world.heartbeat(1);
        assert_eq!(world.ask(), "not_found");
    }
}

/// Its bridge is gone: its own accounts are unknown, those of others are not.
#[test]
fn a_source_that_is_silent_keeps_no_partition_from_being_rebuilt() {
    let mut world = World::known(DEFAULT);
    world.control(2, &Control::truncate("public", Table::Flows.name()));
    world.heartbeat(2);
    world.heartbeat(1);
    world.reassign();
    world.heartbeat(1);
    assert_eq!(world.ask(), "ok");
}
