//! What is answered while too little is known.

use penstock_access::account::Options;

use crate::topic::World;

#[test]
fn what_is_known_is_known_for_so_long() {
    let mut world = World::known(Options::default());
    world.now = 9;
    assert_eq!(world.ask(), "ok");
    world.now = 10;
    assert_eq!(world.ask(), "unavailable stale");
}
