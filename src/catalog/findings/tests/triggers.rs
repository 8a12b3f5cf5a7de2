//! The triggers that tell of DDL.

use super::*;

#[test]
fn a_partition_whose_truncate_nobody_tells_is_counted() {
    let expected =
        "warn table public.policies: a TRUNCATE of 1 of its 2 partitions is not noticed; run: penstock setup";
    let world = |world: &mut World| {
        let table = world.tables.get_mut(&policies()).unwrap();
        table.kind = Kind::Partitioned;
        table.partitions = vec![partition("a", Identity::Full), partition("b", Identity::Full)];
        table.partitions[1].tells_truncate = false;
        world.server.superuser = true;
    };
    check(world, &[expected]);
}

#[test]
fn triggers_that_are_missing_are_setups_business_and_stop_nobody() {
    check(|world| world.triggers = Triggers::Missing, &["warn event triggers: they are not there"]);
    check(|world| world.triggers = Triggers::Other, &["warn event triggers: they are of another version"]);
    check(
        |world| {
            world.triggers = Triggers::Missing;
            world.settings.push(("SOURCE__EVENT_TRIGGERS", "false"));
        },
        &[],
    );
}
