//! Tables whose shape changes in the stream.

use crate::world::{World, begin, commit, insert, relation, relation_of};

#[test]
fn what_was_counted_before_a_table_changed_its_shape_is_counted() {
    let mut world = World::new(100);
    for message in [
        begin(100, 7),
        relation(),
        insert("1", Some("a")),
        insert("2", Some("a")),
        relation_of(["id", "account", "remark"]),
        insert("3", Some("a")),
        commit(100, 150),
    ] {
        world.feed(&message);
    }
    let counts: Vec<u64> = world.bridge.take_counts().map(|(_, counts)| counts.created).collect();
    assert_eq!(counts, [3]);
    assert_eq!(world.bridge.take_counts().map(|(_, counts)| counts.created).sum::<u64>(), 0);
}
