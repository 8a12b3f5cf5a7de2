//! What could not be read, or was compacted while it was read: a resource that came back from elsewhere has lost its flows.

use penstock_access::account::Options;
use penstock_access::rows::Table;
use penstock_wire::control::Control;
use penstock_wire::event::Op;

use crate::topic::{ACCOUNT, World, client, flow, id, resource, small};

fn with_flow() -> World {
    let mut world = World::known(Options::default());
    world.row(1, Op::Create, flow(80));
    assert_eq!(world.flows(), 1);
    world
}

fn dead_letter(table: Table, account: Option<&str>) -> Control {
    Control::dead_letter("public", table.name(), account, "too large".to_owned())
}

/// A version of the resource was not delivered: it may have been elsewhere, and a reload shows only where it is.
#[test]
fn a_resource_that_was_not_delivered_may_have_been_elsewhere() {
    let own = id(ACCOUNT);
    let cases = [
        (dead_letter(Table::Resources, Some(&own)), true),
        (dead_letter(Table::Flows, Some(&own)), true),
        (dead_letter(Table::Resources, None), true),
        (dead_letter(Table::Actors, None), true),
        (dead_letter(Table::Actors, Some(&own)), false),
        (dead_letter(Table::Resources, Some(&id(2))), false),
    ];
    for (control, ends) in cases {
        let mut world = with_flow();
        world.control(1, &control);
        world.reload(1, small().into_iter().chain([flow(80)]).collect());
        world.heartbeat(1);
        assert_eq!(world.flows(), usize::from(!ends), "{control:?}");
        assert_eq!(world.ask(), "ok", "{control:?}");
    }
}

#[test]
fn a_record_without_a_place_may_have_moved_a_resource() {
    let mut world = World::known(Options::default());
    world.age = 0;
    world.row(1, Op::Create, flow(80));
    world.misplaced(1);
    world.row(1, Op::Update, resource("one.example.com"));
    assert_eq!(world.flows(), 0);
    world.row(1, Op::Create, flow(81));
    world.row(1, Op::Update, resource("one.example.com"));
    assert_eq!(world.flows(), 1, "it came behind what went unseen");
}

/// Compaction overtakes a reader: of a resource's versions it reads the first, and the last that made the others go. What
/// comes behind the end that it then had made nothing go.
#[test]
fn a_resource_whose_versions_were_compacted_under_a_rebuild_may_have_been_elsewhere() {
    for (compacted, behind_the_end, flows) in [(true, false, 0), (true, true, 1), (false, false, 1), (false, true, 1)] {
        let mut world = World::new(Options::default());
        for row in small() {
            world.row(1, Op::Create, row);
        }
        world.row(1, Op::Create, flow(80));
        if compacted {
            world.skip(1);
        }
        world.row(1, Op::Update, client(30));
        if behind_the_end {
            world.heartbeat(1);
            world.end();
            assert_eq!(world.ask(), "ok");
        }
        world.row(1, Op::Update, resource("one.example.com"));
        world.heartbeat(1);
        world.end();
        assert_eq!(world.flows(), flows, "compacted: {compacted}, behind the end: {behind_the_end}");
    }
}
