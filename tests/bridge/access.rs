//! The consumer on a real topic: what was done in SQL, and what a client is told of it.
//!
//! Nothing is waited for that might not come: where a channel is to hear nothing, something that it does hear is done after
//! it, and comes next.

mod bad_input;
mod by_hand;
mod checkpoint;
mod commands;
mod compaction;
mod doubt;
mod flows;
mod group;
mod http;
mod once;
mod outage;
mod points;
mod program;
mod replay;
mod revocations;
mod slow;
mod verify;
mod writer;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use penstock_access::account::ClientOptions;
use penstock_access::authorize::{Answer, Request};
use penstock_access::channel::push::{DisconnectReason, Push};
use penstock_access::knowledge::Reason;
use penstock_access::service::{Access, Channel, Config, Notice};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use uuid::Uuid;

use crate::scene::{PATIENCE, Scene, world};
use crate::world::{World, wait};

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

/// What the bridge of an access world is told.
const CAPTURE: &str = "[tables]\ncapture = [\"public.*\"]\n[tables.\"public.accounts\"]\naccount_column = \"id\"\n";

fn schema() -> String {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql/access.sql");
    std::fs::read_to_string(schema).expect("the access schema")
}

fn scene() -> Scene {
    scene_of(world(&schema(), CAPTURE))
}

/// Starts the bridge of an access world, and inserts [`ROWS`].
fn scene_of(world: World) -> Scene {
    let scene = Scene::of(world);
    scene.sql(ROWS);
    scene
}

/// The consumer's configuration: `kafka` and `access` are more lines of those sections.
fn configuration_text(world: &World, kafka: &str, access: &str) -> String {
    format!(
        "[kafka]\nbrokers = [{:?}]\ntopic = {:?}\n{kafka}\n[registry]\nurl = {:?}\n[access]\n{access}\n",
        world.bootstrap, world.topic, world.registry_url
    )
}

fn configuration(world: &World, kafka: &str, access: &str) -> Config {
    config_of(&configuration_text(world, kafka, access))
}

fn config_of(text: &str) -> Config {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.toml");
    std::fs::write(&file, text).expect("write the configuration");
    Config::load(&file).expect("a configuration")
}

/// A file that configures a consumer of the scene's topic, in a folder that goes with the test.
fn configuration_file(scene: &Scene) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.toml");
    let text = configuration_text(&scene.world, "", "stale_after = 3");
    std::fs::write(&file, text).expect("write the configuration");
    (folder, file)
}

/// A consumer of the scene's topic that has read all of it.
fn consumer(scene: &Scene, runtime: &Runtime) -> Access {
    consumer_with(scene, runtime, "", "")
}

/// The same with more configuration.
fn consumer_with(scene: &Scene, runtime: &Runtime, kafka: &str, access: &str) -> Access {
    complete(scene, connect(&configuration(&scene.world, kafka, access), runtime))
}

/// A consumer that has only just begun.
fn connect(config: &Config, runtime: &Runtime) -> Access {
    runtime.block_on(Access::connect(config)).expect("connect")
}

/// Waits until everything is read and known.
fn complete(scene: &Scene, access: Access) -> Access {
    wait("the state to be complete", PATIENCE, || has_read_all(&access, scene) && access.doubt(ACCOUNT).is_none())
        .unwrap_or_else(|late| panic!("{late}: {:?}\n{}", access.health(), scene.bridge.log()));
    access
}

/// Every table has as many rows of the account as in Postgres.
fn has_read_all(access: &Access, scene: &Scene) -> bool {
    let Some(show) = access.show(ACCOUNT) else { return false };
    let counts = show.tables.keys().map(|table| {
        let account = if *table == "accounts" { "id" } else { "account_id" };
        format!("SELECT '{table}', count(*) FROM {table} WHERE {account} = '{ACCOUNT}'")
    });
    let counted = scene.sql(&counts.collect::<Vec<_>>().join(" UNION ALL "));
    counted.lines().all(|line| {
        let (table, count) = line.trim().split_once('|').expect("two columns");
        show.tables[table].to_string() == count
    })
}

/// Records that it has read, as its metrics say.
fn records(access: &Access) -> u64 {
    let text = access.metrics().text();
    let line = text.lines().find_map(|line| line.strip_prefix("penstock_access_records_total "));
    line.expect("the metric").parse().expect("a number")
}

fn notice(runtime: &Runtime, channel: &mut Channel) -> Option<Notice> {
    runtime.block_on(async { timeout(PATIENCE, channel.next()).await }).expect("a notice in time")
}

fn next(runtime: &Runtime, channel: &mut Channel) -> Push {
    match notice(runtime, channel) {
        Some(Notice::Push(message)) => message.push,
        other => panic!("{other:?}"),
    }
}

/// The next push in short.
fn told(runtime: &Runtime, channel: &mut Channel) -> String {
    in_short(&next(runtime, channel))
}

/// What distinguishes an id of [`ROWS`].
fn short(id: Uuid) -> String {
    format!("{:x}", id.as_u128() & 0xffff_ffff)
}

/// `deleted b01`, `authorize c1 b01`, …
fn in_short(push: &Push) -> String {
    match push {
        Push::ClientInit { resources, .. } => {
            let ids: Vec<String> = resources.iter().map(|resource| short(resource.id())).collect();
            format!("init [{}]", ids.join(" "))
        }
        Push::ResourceDeleted(id) => format!("deleted {}", short(*id)),
        Push::ResourceCreatedOrUpdated(resource) => format!("created {}", short(resource.id())),
        Push::ConfigChanged { .. } => "config".to_owned(),
        Push::GatewayInit { authorizations, .. } => {
            let pair = |of: &penstock_access::channel::push::Authorization| {
                format!("{}-{}", short(of.client_id), short(of.resource_id))
            };
            format!("init [{}]", authorizations.iter().map(pair).collect::<Vec<_>>().join(" "))
        }
        Push::RejectAccess { client_id, resource_id } => {
            format!("reject {} {}", short(*client_id), short(*resource_id))
        }
        Push::ResourceUpdated(resource) => format!("updated {}", short(resource.id())),
        Push::AccessAuthorizationExpiryUpdated(of) => {
            format!("expiry {} {}", short(of.client_id), short(of.resource_id))
        }
        Push::AuthorizeFlow { client, resource, .. } => {
            format!("authorize {} {}", short(client.id), short(resource.id()))
        }
        Push::Disconnect { reason } => format!("disconnect {reason:?}"),
        Push::Stale { reason, .. } => format!("stale {reason:?}"),
        Push::Fresh { .. } => "fresh".to_owned(),
        Push::NotAssigned {} => "not assigned".to_owned(),
    }
}

/// Everything that a client's channel hears up to the change of its configuration that this makes.
fn heard_by_client(scene: &Scene, runtime: &Runtime, channel: &mut Channel) -> Vec<String> {
    scene.sql("UPDATE accounts SET config = jsonb_build_object('search_domain', gen_random_uuid())");
    let mut heard = Vec::new();
    loop {
        match told(runtime, channel) {
            last if last == "config" => return heard,
            push => heard.push(push),
        }
    }
}

/// Everything that a gateway's channel hears up to the `init` that this makes it hear, and that.
fn heard_by_gateway(scene: &Scene, runtime: &Runtime, channel: &mut Channel) -> Vec<String> {
    scene.sql("UPDATE accounts SET slug = gen_random_uuid()::text");
    let mut heard = Vec::new();
    loop {
        heard.push(told(runtime, channel));
        if heard.last().is_some_and(|last| last.starts_with("init")) {
            return heard;
        }
    }
}

/// A row of `flows` for the client, by way of a policy to a resource; ids in short.
fn insert_flow(id: &str, policy: &str, resource: &str) -> String {
    let of = |id: &str| format!("'00000000-0000-4000-8000-{id:0>12}'");
    format!(
        "INSERT INTO flows (id, account_id, policy_id, client_id, gateway_id, resource_id, token_id,
             actor_group_membership_id, client_remote_ip, client_user_agent, gateway_remote_ip, expires_at, inserted_at)
         VALUES ({}, {}, {}, {}, {}, {}, {}, {}, '192.0.2.1', 'a', '192.0.2.2', NULL, now())",
        of(id),
        of("a0"),
        of(policy),
        of("c1"),
        of("d1"),
        of(resource),
        of("e1"),
        of("a3"),
    )
}

/// A gateway's token is that of its site, which [`ROWS`] lack.
const GATEWAY_TOKEN: &str = "
INSERT INTO tokens (id, account_id, type, gateway_group_id, secret_salt, secret_hash, inserted_at, updated_at)
    VALUES ('00000000-0000-4000-8000-0000000000e2', '00000000-0000-4000-8000-0000000000a0', 'gateway_group',
            '00000000-0000-4000-8000-0000000000d0', 's', 'h', now(), now());
UPDATE gateways SET last_used_token_id = '00000000-0000-4000-8000-0000000000e2';
";

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

/// A metric's value.
fn metric(access: &Access, name: &str) -> i64 {
    let text = access.metrics().text();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name)).unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}

#[test]
fn a_bridge_that_stands_still_is_noticed_and_one_that_goes_on_is_believed_again() {
    const STALE_AFTER: Duration = Duration::from_secs(3);
    const UNAVAILABLE: &str = "penstock_access_accounts_unavailable{reason=\"stale\"}";
    let (scene, runtime) = (scene(), runtime());
    scene.sql(GATEWAY_TOKEN);
    scene.sql(&insert_flow("f01", "f1", "b01"));
    let access = consumer_with(&scene, &runtime, "", "stale_after = 3");
    let mut client = access.subscribe_client(CLIENT, Some(TOKEN), ClientOptions::default());
    let mut gateway = access.subscribe_gateway(GATEWAY, None);
    assert_eq!(told(&runtime, &mut client), "init [b01]");
    assert_eq!(told(&runtime, &mut gateway), "init [c1-b01]");
    let mut records = 0;
    crate::reader::each_message(&scene.world.bootstrap, &scene.world.topic, "read_committed", |_| records += 1);
    wait("the metrics to be counted", PATIENCE, || metric(&access, "penstock_access_records_total") == records)
        .expect("counted");
    assert_eq!(metric(&access, UNAVAILABLE), 0);
    scene.bridge.signal("STOP");
    let stopped = Instant::now();
    let stale = next(&runtime, &mut client);
    assert!(matches!(stale, Push::Stale { reason: Reason::Stale, as_of: Some(_) }), "{stale:?}");
    assert_eq!(told(&runtime, &mut gateway), "stale Stale");
    assert!(stopped.elapsed() < STALE_AFTER + Duration::from_millis(500), "after {:?}", stopped.elapsed());
    for resource in RESOURCES {
        assert_eq!(authorize(&access, resource), Answer::Unavailable { reason: Reason::Stale });
    }
    wait("the metric to move", PATIENCE, || metric(&access, UNAVAILABLE) == 1).expect("it moves");
    scene.bridge.signal("CONT");
    let fresh = next(&runtime, &mut client);
    assert!(matches!(fresh, Push::Fresh { .. }), "{fresh:?}");
    assert_eq!(told(&runtime, &mut gateway), "fresh");
    assert!(matches!(authorize(&access, RESOURCES[0]), Answer::Ok { .. }));
    let health = access.health();
    assert!(health.is_ready() && health.accounts == 1 && health.rebuilding == 0, "{health:?}");
    wait("the metric to move", PATIENCE, || metric(&access, UNAVAILABLE) == 0).expect("it moves");
    assert_eq!(metric(&access, "penstock_access_records_total"), records, "nothing was read again");
    // Nothing else was told.
    assert_eq!(heard_by_client(&scene, &runtime, &mut client), [""; 0]);
    assert_eq!(heard_by_gateway(&scene, &runtime, &mut gateway), ["init [c1-b01]"]);
    runtime.block_on(access.close());
    scene.stop();
}
