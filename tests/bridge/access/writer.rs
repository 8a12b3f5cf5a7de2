//! Rows of flows written beside the path on which they are authorised, and the examples that show it.

use std::collections::BTreeSet;

use penstock_access::service::{FlowDetails, FlowWriter, FlowWriterOptions, NotWritten};
use penstock_testbed::postgres::Address;
use tokio_postgres::NoTls;

use super::flows::granted;
use super::*;

/// The example as it stands; its `main` is not called here.
#[expect(dead_code, reason = "the example's main")]
#[path = "../../../crates/access/examples/service.rs"]
mod service;

const OF_R2: &str = "
INSERT INTO policies (id, account_id, actor_group_id, resource_id, inserted_at, updated_at)
VALUES ('00000000-0000-4000-8000-0000000000f2', '00000000-0000-4000-8000-0000000000a0',
        '00000000-0000-4000-8000-0000000000a2', '00000000-0000-4000-8000-000000000b02', now(), now())";

fn details() -> FlowDetails {
    FlowDetails { client_user_agent: "test".to_owned(), gateway_remote_ip: [192, 0, 2, 2].into() }
}

fn writer(access: &Access, runtime: &Runtime, database: &Address, options: FlowWriterOptions) -> FlowWriter {
    let _guard = runtime.enter();
    FlowWriter::start(access, database.url().parse().expect("a URL"), NoTls, options)
}

/// Ids of the rows in short.
fn rows(scene: &Scene) -> BTreeSet<String> {
    let ids = scene.sql("SELECT id FROM flows");
    ids.lines().map(|id| short(id.trim().parse().expect("an id"))).collect()
}

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn a_flow_is_there_at_once_and_its_row_confirms_it_and_goes_when_it_has_ended() {
    let (scene, runtime) = (scene(), runtime());
    scene.sql(GATEWAY_TOKEN);
    scene.sql(OF_R2);
    let access = consumer_with(&scene, &runtime, "", "confirm_within = 4\nstale_after = 30");
    let mut gateway = access.subscribe_gateway(GATEWAY, None);
    assert_eq!(told(&runtime, &mut gateway), "init []");
    let writer = writer(&access, &runtime, &scene.world.database, FlowWriterOptions::default());
    let announced = Instant::now();
    for (resource, id) in [(RESOURCES[0], 0xf01), (RESOURCES[1], 0xf02)] {
        writer.announce(granted(&access, resource, id), details()).expect("there is room");
    }
    assert_eq!(scene.sql("SELECT count(*) FROM flows").trim(), "0", "nothing is written on this path");
    assert_eq!(told(&runtime, &mut gateway), "authorize c1 b01");
    assert_eq!(told(&runtime, &mut gateway), "authorize c1 b02");
    // They outlast what an announcement alone lasts.
    runtime.block_on(async {
        while announced.elapsed() < Duration::from_secs(6) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert_eq!(rows(&scene), set(&["f01", "f02"]));
    assert_eq!(heard_by_gateway(&scene, &runtime, &mut gateway), ["init [c1-b01 c1-b02]"]);
    // The row is complete.
    let row = scene.sql(
        "SELECT policy_id, token_id, client_remote_ip, client_user_agent, gateway_remote_ip, expires_at IS NULL,
                abs(extract(epoch FROM inserted_at - now() AT TIME ZONE 'UTC')) < 60
           FROM flows WHERE resource_id = '00000000-0000-4000-8000-000000000b01'",
    );
    let expected = format!("00000000-0000-4000-8000-0000000000f1|{TOKEN}|192.0.2.1|test|192.0.2.2|t|t");
    assert_eq!(row.trim(), expected);
    // What ends for good has no row for long.
    scene.sql("UPDATE resources SET address = 'b.example' WHERE id = '00000000-0000-4000-8000-000000000b01'");
    assert_eq!(told(&runtime, &mut gateway), "reject c1 b01");
    wait("the ended flow's row to be deleted", PATIENCE, || {
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
        rows(&scene) == set(&["f02"])
    })
    .unwrap_or_else(|late| panic!("{late}: {:?}", writer.counts()));
    let counts = runtime.block_on(writer.close());
    assert_eq!((counts.written, counts.withdrawn, counts.deleted), (2, 0, 1));
    runtime.block_on(access.close());
    scene.stop();
}

#[test]
fn a_row_that_postgres_refuses_fails_alone_and_its_flow_is_withdrawn() {
    let (scene, runtime) = (scene(), runtime());
    scene.sql(GATEWAY_TOKEN);
    scene.sql(OF_R2);
    let access = consumer_with(&scene, &runtime, "", "stale_after = 60");
    let mut gateway = access.subscribe_gateway(GATEWAY, None);
    assert_eq!(told(&runtime, &mut gateway), "init []");
    let writer = writer(&access, &runtime, &scene.world.database, FlowWriterOptions::default());
    // Granted by what was true a moment ago; its policy is gone when the row is written.
    scene.bridge.signal("STOP");
    scene.sql("DELETE FROM policies WHERE id = '00000000-0000-4000-8000-0000000000f1'");
    // In one batch: the writer runs only while something is waited for.
    writer.announce(granted(&access, RESOURCES[1], 0xf01), details()).expect("there is room");
    writer.announce(granted(&access, RESOURCES[0], 0xf02), details()).expect("there is room");
    writer.announce(granted(&access, RESOURCES[1], 0xf03), details()).expect("there is room");
    assert_eq!(told(&runtime, &mut gateway), "authorize c1 b02");
    assert_eq!(told(&runtime, &mut gateway), "authorize c1 b01");
    assert_eq!(told(&runtime, &mut gateway), "reject c1 b01", "withdrawn, before anybody heard of the policy");
    let counts = runtime.block_on(writer.close());
    assert_eq!((counts.written, counts.withdrawn), (2, 1));
    assert_eq!(rows(&scene), set(&["f01", "f03"]));
    scene.bridge.signal("CONT");
    assert_eq!(heard_by_gateway(&scene, &runtime, &mut gateway), ["init [c1-b02]"]);
    runtime.block_on(access.close());
    scene.stop();
}

#[test]
fn a_writer_without_a_database_refuses_and_withdraws_and_never_waits() {
    let (scene, runtime) = (scene(), runtime());
    scene.sql(GATEWAY_TOKEN);
    let access = consumer_with(&scene, &runtime, "", "stale_after = 30");
    let mut gateway = access.subscribe_gateway(GATEWAY, None);
    assert_eq!(told(&runtime, &mut gateway), "init []");
    // A port that nobody listens at.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let nowhere = scene.world.database.through(port);
    let options =
        FlowWriterOptions { queue_max: 2, write_within: Duration::from_secs(1), ..FlowWriterOptions::default() };
    let writer = writer(&access, &runtime, &nowhere, options);
    let began = Instant::now();
    assert_eq!(writer.announce(granted(&access, RESOURCES[0], 0xf01), details()), Ok(()));
    assert_eq!(writer.announce(granted(&access, RESOURCES[0], 0xf01), details()), Err(NotWritten::NotAnnounced));
    assert_eq!(writer.announce(granted(&access, RESOURCES[0], 0xf02), details()), Ok(()));
    assert_eq!(writer.announce(granted(&access, RESOURCES[0], 0xf03), details()), Err(NotWritten::Full));
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(told(&runtime, &mut gateway), "authorize c1 b01");
    let counts = runtime.block_on(writer.close());
    assert_eq!((counts.written, counts.withdrawn), (0, 2));
    assert_eq!(told(&runtime, &mut gateway), "reject c1 b01", "when the last of both was withdrawn");
    assert_eq!(rows(&scene), set(&[]));
    runtime.block_on(access.close());
    scene.stop();
}

#[test]
fn the_example_of_a_service_tells_a_client_and_authorises_it() {
    let (scene, runtime) = (scene(), runtime());
    scene.sql(GATEWAY_TOKEN);
    let complete = consumer(&scene, &runtime);
    runtime.block_on(complete.close());
    let mut lines = Vec::new();
    let config = configuration(&scene.world, "", "");
    let ids = [CLIENT, TOKEN, RESOURCES[0], GATEWAY];
    let access = runtime.block_on(service::serve(&config, &ids, &mut |line| lines.push(line))).expect("it serves");
    let lines: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let [.., init, answer] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(init["payload"]["resources"][0]["id"], RESOURCES[0].to_string(), "{init}");
    assert_eq!((&answer["result"], &answer["flow"]["gateway_id"]), (&"ok".into(), &GATEWAY.to_string().into()));
    // What it announced is what its gateway has.
    let mut gateway = access.subscribe_gateway(GATEWAY, None);
    assert_eq!(told(&runtime, &mut gateway), "init [c1-b01]");
    runtime.block_on(access.close());
    scene.stop();
}
