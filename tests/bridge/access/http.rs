//! What a consumer of a real topic tells machines: `/metrics`, `/healthz`, `/readyz`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_access::account::ClientOptions;
use penstock_access::channel::push::Push;
use penstock_access::service::{Access, Config};
use tokio::runtime::Runtime;

use super::{ACCOUNT, CLIENT, RESOURCES, TOKEN, authorize, next, runtime, scene};
use crate::scene::{PATIENCE, Scene};
use crate::world::wait;

/// Of the client to the first resource.
const FLOW: &str = "
INSERT INTO flows (id, account_id, policy_id, client_id, gateway_id, resource_id, token_id, actor_group_membership_id,
                   client_remote_ip, client_user_agent, gateway_remote_ip, inserted_at)
    VALUES ('00000000-0000-4000-8000-0000000000f2', '00000000-0000-4000-8000-0000000000a0',
            '00000000-0000-4000-8000-0000000000f1', '00000000-0000-4000-8000-0000000000c1',
            '00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-000000000b01',
            '00000000-0000-4000-8000-0000000000e1', '00000000-0000-4000-8000-0000000000a3', '192.0.2.1', 'x', '192.0.2.2', now())";

/// A consumer that serves; complete or not.
fn served(scene: &Scene, runtime: &Runtime, registry: &str) -> (Access, SocketAddr) {
    let world = &scene.world;
    let text = format!(
        "[kafka]\nbrokers = [{:?}]\ntopic = {:?}\n[registry]\nurl = {registry:?}\n[access]\nstale_after = 3\n\
         [http]\nlisten = \"127.0.0.1:0\"\n",
        world.bootstrap, world.topic
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("access.toml");
    std::fs::write(&file, text).expect("write the configuration");
    let access = runtime.block_on(Access::connect(&Config::load(&file).expect("a configuration"))).expect("connect");
    let address = access.http_address().expect("it serves");
    (access, address)
}

/// Status and body.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// The value of a series, if it is there.
fn series(address: SocketAddr, name: &str) -> Option<f64> {
    let (_, text) = get(address, "/metrics");
    let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let mut found = lines.filter(|(series, _)| *series == format!("penstock_access_{name}")).map(|(_, value)| value);
    found.next().map(|value| value.parse().expect("a number"))
}

fn clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

#[test]
fn a_bridge_that_stands_still_is_seen_by_machines_and_so_is_its_return() {
    let (scene, runtime) = (scene(), runtime());
    let (access, address) = served(&scene, &runtime, &scene.world.registry_url);
    let ready = || get(address, "/readyz");
    // It may be ready before the rows have come: then it is what the database was then.
    let is_complete = || access.show(ACCOUNT).is_some_and(|show| show.tables["policies"] == 1);
    wait("the consumer to be ready", PATIENCE, || is_complete() && ready() == (200, "ready\n".to_owned()))
        .unwrap_or_else(|late| panic!("{late}: {:?}\n{}", ready(), scene.bridge.log()));
    let mut channel = access.subscribe_client(CLIENT, Some(TOKEN), ClientOptions::default());
    assert!(matches!(next(&runtime, &mut channel), Push::ClientInit { .. }));
    authorize(&access, RESOURCES[0]);
    scene.sql(FLOW);
    scene.sql("UPDATE resources SET address = 'b.example' WHERE id = '00000000-0000-4000-8000-000000000b01'");
    let updated = next(&runtime, &mut channel);
    assert!(matches!(updated, Push::ResourceCreatedOrUpdated(_)), "{updated:?}");
    let ended = "ended_flows_total{why=\"address_changed\"}";
    wait("the flow to end", PATIENCE, || series(address, ended) == Some(1.0)).expect("its resource has moved");
    scene.sql("DELETE FROM policies");
    assert_eq!(next(&runtime, &mut channel), Push::ResourceDeleted(RESOURCES[0]));
    let expected = [
        ("ready", 1.0),
        ("partitions{state=\"fresh\"}", 3.0),
        ("partitions{state=\"stale\"}", 0.0),
        ("accounts", 1.0),
        ("accounts_unavailable{reason=\"stale\"}", 0.0),
        ("channels", 1.0),
        ("pushes_total{push=\"init\"}", 1.0),
        ("pushes_total{push=\"resource_deleted\"}", 1.0),
        ("answers_total{result=\"ok\"}", 1.0),
        ("held_bytes", 0.0),
    ];
    for (name, value) in expected {
        assert_eq!(series(address, name), Some(value), "{name}");
    }
    assert!(series(address, "commit_to_push_seconds_count").is_some_and(|count| count >= 1.0));
    let applied = series(address, "applied_commit_timestamp_seconds").expect("something was applied");
    assert!((clock() - applied).abs() < 60.0, "{applied}");
    wait("records to be counted", PATIENCE, || series(address, "records_total").is_some_and(|records| records >= 14.0))
        .expect("more records than rows were read");
    // It moves on while nobody writes.
    let as_of = || series(address, "as_of_timestamp_seconds").expect("the state is known");
    let before = as_of();
    wait("progress to be heard of", PATIENCE, || as_of() > before).expect("as_of moves on");

    scene.bridge.signal("STOP");
    let stale = "3 of 3 partitions are not known to be up to date (stale): is the bridge running?\n\
                 1 of 1 accounts are not answered for (stale)\n";
    wait("machines to see it", PATIENCE, || ready() == (503, stale.to_owned()))
        .unwrap_or_else(|late| panic!("{late}: {:?}", ready()));
    assert_eq!(get(address, "/healthz").0, 200, "waiting is alive");
    for (name, value) in [
        ("ready", 0.0),
        ("partitions{state=\"fresh\"}", 0.0),
        ("partitions{state=\"stale\"}", 3.0),
        ("accounts_unavailable{reason=\"stale\"}", 1.0),
    ] {
        assert_eq!(series(address, name), Some(value), "{name}");
    }
    // Questions are answered by the clock; channels hear it with the reader's next turn.
    wait("the channel to be told", PATIENCE, || series(address, "pushes_total{push=\"stale\"}") == Some(1.0))
        .expect("it is");
    let stood = as_of();
    assert!(clock() - stood > 2.9, "as_of is {} s old", clock() - stood);
    scene.bridge.signal("CONT");
    wait("machines to see its return", PATIENCE, || ready() == (200, "ready\n".to_owned()))
        .unwrap_or_else(|late| panic!("{late}: {:?}", ready()));
    assert!(as_of() > stood);
    assert_eq!(series(address, "rebuilds_total{why=\"compacted\"}"), Some(0.0));
    runtime.block_on(access.close());
    scene.stop();
}

#[test]
fn a_rebuild_that_waits_for_the_registry_is_alive_and_says_what_it_does() {
    let (scene, runtime) = (scene(), runtime());
    // A port that is ours, and at which nobody answers.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let registry = format!("http://{}", nobody.local_addr().expect("its address"));
    drop(nobody);
    let (access, address) = served(&scene, &runtime, &registry);
    wait("partitions to be assigned", PATIENCE, || {
        get(address, "/readyz").1.starts_with("3 of 3 partitions are being read from their beginning (rebuilding)\n")
    })
    .unwrap_or_else(|late| panic!("{late}: {:?}", get(address, "/readyz")));
    assert_eq!(get(address, "/readyz").0, 503);
    let (status, body) = get(address, "/healthz");
    assert!(status == 200 && body.starts_with("alive, not ready\n"), "{status} {body}");
    assert_eq!(series(address, "partitions{state=\"rebuilding\"}"), Some(3.0));
    assert_eq!(series(address, "as_of_timestamp_seconds"), None, "what is not known is absent");
    runtime.block_on(access.close());
    scene.stop();
}
