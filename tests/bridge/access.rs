//! The consumer on a real topic: what was done in SQL, and what a client is told of it.

mod program;
mod replay;
mod verify;

use std::path::{Path, PathBuf};
use std::time::Duration;

use penstock_access::account::ClientOptions;
use penstock_access::authorize::{Answer, Request};
use penstock_access::channel::push::{DisconnectReason, Push};
use penstock_access::knowledge::Reason;
use penstock_access::service::{Access, Channel, Config, Notice};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use uuid::Uuid;

use crate::scene::{PATIENCE, Scene};
use crate::world::wait;

const ACCOUNT: &str = "00000000-0000-4000-8000-0000000000a0";
const CLIENT: Uuid = Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_00c1);
const TOKEN: Uuid = Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_00e1);
const GATEWAY: Uuid = Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_00d1);
const RESOURCES: [Uuid; 2] = [
    Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0b01),
    Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0b02),
];

/// An actor in a group, with a client; a site with a gateway and two resources; a policy that gives the first.
const ROWS: &str = "
INSERT INTO accounts (id, name, slug, inserted_at, updated_at)
    VALUES ('00000000-0000-4000-8000-0000000000a0', 'n', 'slug', now(), now());
INSERT INTO actors (id, account_id, type, name, inserted_at, updated_at)
    VALUES ('00000000-0000-4000-8000-0000000000a1', '00000000-0000-4000-8000-0000000000a0', 'account_user', 'n', now(), now());
INSERT INTO actor_groups (id, account_id, name, inserted_at, updated_at)
    VALUES ('00000000-0000-4000-8000-0000000000a2', '00000000-0000-4000-8000-0000000000a0', 'n', now(), now());
INSERT INTO actor_group_memberships (id, account_id, actor_id, group_id)
    VALUES ('00000000-0000-4000-8000-0000000000a3', '00000000-0000-4000-8000-0000000000a0',
            '00000000-0000-4000-8000-0000000000a1', '00000000-0000-4000-8000-0000000000a2');
INSERT INTO tokens (id, account_id, type, actor_id, secret_salt, secret_hash, inserted_at, updated_at)
    VALUES ('00000000-0000-4000-8000-0000000000e1', '00000000-0000-4000-8000-0000000000a0', 'client',
            '00000000-0000-4000-8000-0000000000a1', 's', 'h', now(), now());
INSERT INTO clients (id, account_id, actor_id, last_used_token_id, external_id, name, public_key, ipv4, ipv6,
                     last_seen_version, last_seen_remote_ip, inserted_at, updated_at)
    VALUES ('00000000-0000-4000-8000-0000000000c1', '00000000-0000-4000-8000-0000000000a0',
            '00000000-0000-4000-8000-0000000000a1', '00000000-0000-4000-8000-0000000000e1', 'x', 'n', 'k', '100.64.0.1',
            'fd00::1', '1.4.0', '192.0.2.1', now(), now());
INSERT INTO gateway_groups (id, account_id, name, inserted_at, updated_at)
    VALUES ('00000000-0000-4000-8000-0000000000d0', '00000000-0000-4000-8000-0000000000a0', 'site', now(), now());
INSERT INTO gateways (id, account_id, group_id, external_id, name, public_key, ipv4, ipv6, last_seen_version,
                      last_seen_remote_ip, inserted_at, updated_at)
    VALUES ('00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-0000000000a0',
            '00000000-0000-4000-8000-0000000000d0', 'x', 'n', 'k', '100.64.0.2', 'fd00::2', '1.4.0', '192.0.2.2', now(), now());
INSERT INTO resources (id, account_id, type, name, address, inserted_at, updated_at)
    SELECT id::uuid, '00000000-0000-4000-8000-0000000000a0', 'dns', 'n', 'a.example', now(), now()
      FROM unnest(ARRAY['00000000-0000-4000-8000-000000000b01', '00000000-0000-4000-8000-000000000b02']) id;
INSERT INTO resource_connections (resource_id, gateway_group_id, account_id)
    SELECT id, '00000000-0000-4000-8000-0000000000d0', account_id FROM resources;
INSERT INTO policies (id, account_id, actor_group_id, resource_id, inserted_at, updated_at)
    VALUES ('00000000-0000-4000-8000-0000000000f1', '00000000-0000-4000-8000-0000000000a0',
            '00000000-0000-4000-8000-0000000000a2', '00000000-0000-4000-8000-000000000b01', now(), now());
";

fn scene() -> Scene {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql/access.sql");
    let configuration = "[tables]\ncapture = [\"public.*\"]\n[tables.\"public.accounts\"]\naccount_column = \"id\"\n";
    let scene = Scene::start(&std::fs::read_to_string(schema).expect("the access schema"), configuration);
    scene.sql(ROWS);
    scene
}

/// A file that configures a consumer of the scene's topic, in a folder that goes with the test.
fn configuration(scene: &Scene) -> (TempDir, PathBuf) {
    let world = &scene.world;
    let text = format!(
        "[kafka]\nbrokers = [{:?}]\ntopic = {:?}\n[registry]\nurl = {:?}\n[access]\nstale_after = 3\n",
        world.bootstrap, world.topic, world.registry_url
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.toml");
    std::fs::write(&file, text).expect("write the configuration");
    (folder, file)
}

/// A consumer of the scene's topic that has read all of it.
fn consumer(scene: &Scene, runtime: &Runtime) -> Access {
    let (_folder, file) = configuration(scene);
    let access = runtime.block_on(Access::connect(&Config::load(&file).expect("a configuration")));
    let access = access.expect("connect");
    // The policy is what was inserted last.
    let is_complete = || access.show(ACCOUNT).is_some_and(|show| show.tables["policies"] == 1);
    wait("the state to be complete", PATIENCE, || is_complete() && access.doubt(ACCOUNT).is_none())
        .unwrap_or_else(|late| panic!("{late}: {:?}\n{}", access.health(), scene.bridge.log()));
    access
}

fn next(runtime: &Runtime, channel: &mut Channel) -> Push {
    let next = runtime.block_on(async { timeout(PATIENCE, channel.next()).await });
    match next.expect("a push in time") {
        Some(Notice::Push(message)) => message.push,
        other => panic!("{other:?}"),
    }
}

fn authorize(access: &Access, resource: Uuid) -> Answer {
    let flow = Uuid::from_u128(1);
    access.authorize(&Request { client: CLIENT, token: TOKEN, resource, online: &[GATEWAY], flow })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn a_client_is_told_what_sql_gives_and_takes() {
    let (scene, runtime) = (scene(), runtime());
    let access = consumer(&scene, &runtime);
    let mut channel = access.subscribe_client(CLIENT, None, ClientOptions::default());
    let init = next(&runtime, &mut channel);
    let Push::ClientInit { resources, .. } = init else { panic!("{init:?}") };
    assert_eq!(resources.iter().map(|resource| resource.id()).collect::<Vec<_>>(), [RESOURCES[0]]);
    assert!(matches!(authorize(&access, RESOURCES[0]), Answer::Ok { flow } if flow.gateway_id == GATEWAY));
    assert!(matches!(authorize(&access, RESOURCES[1]), Answer::Forbidden { .. }));
    // A policy that moves and comes back within a transaction is nothing; that moves is one less and one more.
    scene.sql(
        "BEGIN; UPDATE policies SET resource_id = '00000000-0000-4000-8000-000000000b02';
               UPDATE policies SET resource_id = '00000000-0000-4000-8000-000000000b01'; COMMIT;
               UPDATE policies SET resource_id = '00000000-0000-4000-8000-000000000b02';",
    );
    assert_eq!(next(&runtime, &mut channel), Push::ResourceDeleted(RESOURCES[0]));
    let created = next(&runtime, &mut channel);
    assert!(
        matches!(&created, Push::ResourceCreatedOrUpdated(resource) if resource.id() == RESOURCES[1]),
        "{created:?}"
    );
    scene.sql("DELETE FROM policies");
    assert_eq!(next(&runtime, &mut channel), Push::ResourceDeleted(RESOURCES[1]));
    assert!(matches!(authorize(&access, RESOURCES[1]), Answer::Forbidden { .. }));
    // By hand, and by cascade: the client goes with its account.
    scene.sql("TRUNCATE accounts CASCADE");
    assert_eq!(next(&runtime, &mut channel), Push::Disconnect { reason: DisconnectReason::Revoked });
    assert_eq!(runtime.block_on(channel.next()), None);
    runtime.block_on(access.close());
    scene.stop();
}

#[test]
fn a_bridge_that_stands_still_is_noticed_and_one_that_goes_on_is_believed_again() {
    let (scene, runtime) = (scene(), runtime());
    let access = consumer(&scene, &runtime);
    let mut channel = access.subscribe_client(CLIENT, Some(TOKEN), ClientOptions::default());
    let init = next(&runtime, &mut channel);
    assert!(matches!(init, Push::ClientInit { .. }), "{init:?}");
    scene.bridge.signal("STOP");
    let stale = next(&runtime, &mut channel);
    assert!(matches!(stale, Push::Stale { reason: Reason::Stale, as_of: Some(_) }), "{stale:?}");
    assert_eq!(authorize(&access, RESOURCES[0]), Answer::Unavailable { reason: Reason::Stale });
    scene.bridge.signal("CONT");
    let fresh = next(&runtime, &mut channel);
    assert!(matches!(fresh, Push::Fresh { .. }), "{fresh:?}");
    assert!(matches!(authorize(&access, RESOURCES[0]), Answer::Ok { .. }));
    let health = access.health();
    assert!(health.is_ready() && health.accounts == 1, "{health:?}");
    // Nothing else was told.
    let more = runtime.block_on(async { timeout(Duration::from_millis(300), channel.next()).await });
    assert!(more.is_err(), "{more:?}");
    runtime.block_on(access.close());
    scene.stop();
}
