//! A channel whose reader does not come delays nobody, and is told everything anew when it does. Who reads all that from the
//! beginning tells how far it is.

use penstock_access::account::ClientOptions;
use penstock_access::catch_up::CaughtUp;
use penstock_access::channel::push::Push;

use super::{CLIENT, configuration, connect, consumer, next, records, runtime, scene};
use crate::scene::PATIENCE;
use crate::world::wait;

/// More than may wait for a channel's reader.
const COMMITS: usize = 10_500;

#[test]
fn a_channel_that_is_not_read_delays_no_other_and_begins_anew() {
    let (scene, runtime) = (scene(), runtime());
    let access = consumer(&scene, &runtime);
    let mut slow = access.subscribe_client(CLIENT, None, ClientOptions::default());
    let mut quick = access.subscribe_client(CLIENT, None, ClientOptions::default());
    let init = next(&runtime, &mut quick);
    assert!(matches!(init, Push::ClientInit { .. }), "{init:?}");
    scene.sql(&format!(
        "DO $$ BEGIN FOR n IN 1..{COMMITS} LOOP
             UPDATE resources SET name = 'name ' || n WHERE id = '00000000-0000-4000-8000-000000000b01'; COMMIT;
         END LOOP; END $$"
    ));
    for n in 1..=COMMITS {
        match next(&runtime, &mut quick) {
            Push::ResourceCreatedOrUpdated(resource) => {
                let told = serde_json::to_value(&resource).expect("JSON");
                assert_eq!(told["name"], format!("name {n}"), "each commit is told, in order");
            }
            other => panic!("{other:?}"),
        }
    }
    // Not 10,500 pushes that are all outdated, and not its first `init` either.
    let init = next(&runtime, &mut slow);
    let Push::ClientInit { resources, .. } = init else { panic!("{init:?}") };
    let told = serde_json::to_value(&resources).expect("JSON");
    assert_eq!(told[0]["name"], format!("name {COMMITS}"));
    // Who begins now has all of that to read, and says how far it is.
    let late = connect(&configuration(&scene.world, "", ""), &runtime);
    let mut told = Vec::new();
    wait("the topic to be read", PATIENCE, || {
        let health = late.health();
        told.extend(health.catching_up);
        health.is_ready()
    })
    .unwrap_or_else(|late| panic!("{late}: {told:?}"));
    let halfway = |figures: &CaughtUp| (1.0..100.0).contains(&figures.percent) && figures.left.is_some();
    assert!(told.iter().any(halfway), "{told:?}");
    assert!(told.is_sorted_by_key(|figures| figures.records), "{told:?}");
    assert!(late.health().catching_up.is_none() && records(&late) > COMMITS as u64);
    runtime.block_on(late.close());

    scene.sql("DELETE FROM policies");
    for channel in [&mut slow, &mut quick] {
        let deleted = next(&runtime, channel);
        assert!(matches!(deleted, Push::ResourceDeleted(_)), "{deleted:?}");
    }
    runtime.block_on(access.close());
    scene.stop();
}
