//! The registry is away just when a new schema is needed: everybody hears that nothing is known, and then that it is again.

use penstock_access::account::ClientOptions;
use penstock_access::authorize::Answer;
use penstock_access::channel::push::Push;
use penstock_access::knowledge::Reason;
use penstock_testbed::registry::scripted::{Reply, Scripted};

use super::{CLIENT, RESOURCES, authorize, complete, config_of, configuration_text, connect, next, runtime, scene};

/// `away`: how it is so.
fn without_the_registry(away: Reply) {
    let (scene, runtime) = (scene(), runtime());
    let url = &scene.world.registry_url;
    let (port, path) =
        url.strip_prefix("http://127.0.0.1:").and_then(|rest| rest.split_once('/')).expect("a loopback URL");
    let healthy = Reply::Forward(port.parse().expect("a port"));
    let scripted = Scripted::start(healthy.clone()).expect("a scripted registry");
    let base = scripted.url().split('/').take(3).collect::<Vec<_>>().join("/");
    let configuration = configuration_text(&scene.world, "", "stale_after = 2").replace(url, &format!("{base}/{path}"));
    let access = complete(&scene, connect(&config_of(&configuration), &runtime));
    let mut channel = access.subscribe_client(CLIENT, None, ClientOptions::default());
    let init = next(&runtime, &mut channel);
    assert!(matches!(init, Push::ClientInit { .. }), "{init:?}");
    let asked = scripted.requests().len();
    assert!(asked > 0, "it asks the registry that is scripted");

    scripted.otherwise(away);
    // The first row of the new shape comes before the one that takes the grant.
    scene.sql(
        "ALTER TABLE policies ADD COLUMN more int; UPDATE policies SET more = 1;
         UPDATE policies SET resource_id = '00000000-0000-4000-8000-000000000b02';",
    );
    let began = std::time::Instant::now();
    let stale = next(&runtime, &mut channel);
    assert!(matches!(stale, Push::Stale { reason: Reason::Stale, as_of: Some(_) }), "{stale:?}");
    // `stale_after` is 2 s. A request that hangs for 5 s must not hold the word back.
    assert!(began.elapsed().as_secs() < 5, "it was told after {:?}", began.elapsed());
    for resource in RESOURCES {
        assert_eq!(authorize(&access, resource), Answer::Unavailable { reason: Reason::Stale });
    }
    assert!(scripted.requests().len() > asked, "it waits for the schema");

    scripted.otherwise(healthy);
    scripted.hang_up();
    // What differs by now, and the word that all is well: the one before the other, or the other way round.
    let mut told = [(); 3].map(|()| next(&runtime, &mut channel));
    told.sort_by_key(|push| match push {
        Push::ResourceDeleted(_) => 0,
        Push::ResourceCreatedOrUpdated(_) => 1,
        _ => 2,
    });
    assert!(matches!(&told[0], Push::ResourceDeleted(id) if *id == RESOURCES[0]), "{told:?}");
    assert!(matches!(&told[1], Push::ResourceCreatedOrUpdated(to) if to.id() == RESOURCES[1]), "{told:?}");
    assert!(matches!(&told[2], Push::Fresh { .. }), "{told:?}");
    assert!(matches!(authorize(&access, RESOURCES[1]), Answer::Ok { .. }));
    runtime.block_on(access.close());
    scene.stop();
}

#[test]
fn a_registry_that_fails_makes_what_is_known_stale_until_it_is_back() {
    without_the_registry(Reply::error(503, "down for maintenance"));
}

#[test]
fn a_registry_that_hangs_makes_what_is_known_stale_until_it_is_back() {
    without_the_registry(Reply::Hang);
}
