//! A channel whose reader does not come delays nobody, and is told everything anew when it does.

use penstock_access::account::ClientOptions;
use penstock_access::channel::push::Push;

use super::{CLIENT, consumer, next, runtime, scene};

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
    scene.sql("DELETE FROM policies");
    for channel in [&mut slow, &mut quick] {
        let deleted = next(&runtime, channel);
        assert!(matches!(deleted, Push::ResourceDeleted(_)), "{deleted:?}");
    }
    runtime.block_on(access.close());
    scene.stop();
}
