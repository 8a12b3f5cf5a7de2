//! A registry that refuses, fails, talks nonsense or says nothing.

use penstock_testbed::registry::http;
use penstock_testbed::registry::scripted::{Reply, Scripted};

use super::{TABLE, delivered, ids, insert};
use crate::scene::{A, PATIENCE, Scene, expect_last_words, tell, world};
use crate::world::wait;

/// The port and the base path of a registry's URL.
fn parts(url: &str) -> (u16, String) {
    let rest = url.strip_prefix("http://127.0.0.1:").expect("a loopback URL");
    let (port, path) = rest.split_once('/').expect("a path");
    (port.parse().expect("a port"), format!("/{path}"))
}

/// A bridge whose registry is scripted and passes everything on at first; row 1 is delivered. Gives what passes on.
fn behind_scripted() -> (Scene, Scripted, Reply) {
    let mut world = world(TABLE, "");
    world.set("REGISTRY__TIMEOUT_MS", "500");
    let (port, _) = parts(&world.registry_url);
    let scripted = Scripted::start(Reply::Forward(port)).expect("a scripted registry");
    world.registry_url = scripted.url();
    let mut scene = Scene::of(world);
    insert(&scene, &[1]);
    assert_eq!(delivered(&mut scene), ["1"]);
    (scene, scripted, Reply::Forward(port))
}

/// Changes the table's shape, so that a schema has to be registered before the next row, and inserts that row.
fn need_a_schema(scene: &Scene) {
    scene.sql(&format!("ALTER TABLE t ADD COLUMN more int; INSERT INTO t VALUES (2, '{A}', 'v2', 2);"));
}

#[test]
fn an_incompatible_change_is_refused_until_the_subject_allows_it() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY, account_id uuid, n bigint); ALTER TABLE t REPLICA IDENTITY FULL;";
    let mut scene = Scene::start(schema, "");
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', 1)"));
    assert_eq!(tell(&scene.records(), &["n"]), ["c (1)"]);
    scene.sql(&format!("ALTER TABLE t ALTER COLUMN n TYPE int; INSERT INTO t VALUES (2, '{A}', 2);"));

    let subject = format!("{0}-{0}.public.t.Envelope", scene.world.topic);
    let words = ["incompatible", "409", &subject, "compatibility rule", "penstock schema"];
    scene.expect_halt(&words);
    scene.bridge = scene.world.run();
    scene.expect_halt(&words);
    assert_eq!(tell(&scene.delivered(), &["n"]), ["c (1)"]);

    // Readers of the narrower type cannot read the wider one, which BACKWARD asks for; the other way round they can.
    let (port, path) = parts(&scene.world.registry_url);
    let rule = http::request(port, "PUT", &format!("{path}/config/{subject}"), "{\"compatibility\": \"FORWARD\"}");
    assert_eq!(rule.expect("an answer").status, 200);
    scene.again();
    assert_eq!(tell(&scene.records(), &["id", "n"]), ["c (1 1)", "c (2 2)"]);
    scene.stop();
}

/// The bridge waits, says for what, acknowledges nothing, and goes on by itself.
fn stalls_until_it_heals(reply: Reply, reason: &str) {
    let (mut scene, scripted, healthy) = behind_scripted();
    scripted.otherwise(reply);
    need_a_schema(&scene);
    let behind = scene.sql("SELECT pg_current_wal_lsn()");
    let asked = scripted.requests().len();
    wait("the bridge to say what it waits for", PATIENCE, || {
        let not_ready = scene.bridge.get("/readyz").unwrap_or_default();
        not_ready.starts_with("HTTP/1.1 503") && not_ready.contains("registry: ") && not_ready.contains(reason)
    })
    .unwrap_or_else(|late| panic!("{late}: {:?}\n{}", scene.bridge.get("/readyz"), scene.bridge.log()));
    // It asks again and again, and is alive all the while.
    wait("more requests", PATIENCE, || scripted.requests().len() > asked + 3).expect("it asks again");
    assert!(scene.bridge.get("/healthz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    assert!(scene.bridge.ended().is_none());
    let past = scene.sql(&format!("SELECT '{}'::pg_lsn >= '{behind}'", scene.world.confirmed()));
    assert_eq!(past, "f", "a row that waits for its schema must not be confirmed");

    scripted.otherwise(healthy);
    scripted.hang_up();
    assert_eq!(delivered(&mut scene), ["1", "2"]);
    scene.stop();
}

#[test]
fn a_registry_that_fails_is_waited_for() {
    stalls_until_it_heals(Reply::error(500, "out of order"), "500");
}

/// What Apicurio says to the slower of two that create a subject with the same schema.
#[test]
fn a_subject_that_is_being_created_is_waited_for() {
    let reason = "An artifact with ID 's' in group 'null' already exists.";
    stalls_until_it_heals(Reply::error(409, reason), "already exists");
}

#[test]
fn a_registry_that_says_nothing_is_waited_for() {
    stalls_until_it_heals(Reply::Hang, "");
}

#[test]
fn a_registry_that_hangs_up_is_waited_for() {
    stalls_until_it_heals(Reply::Close, "");
}

#[test]
fn bytes_that_are_no_http_are_waited_out() {
    stalls_until_it_heals(Reply::Bytes(b"\x15\x03\x01\x00\x02\x02\x46 garbage\r\n\r\n".to_vec()), "");
}

/// The bridge stops with these words, twice; once the registry is mended, everything is delivered.
fn stops_until_it_is_mended(reply: Reply, words: &[&str]) {
    let (mut scene, scripted, healthy) = behind_scripted();
    scripted.otherwise(reply);
    need_a_schema(&scene);
    scene.expect_halt(words);
    scene.bridge = scene.world.run();
    scene.expect_halt(words);

    scripted.otherwise(healthy);
    assert_eq!(ids(&scene.delivered()), ["1"]);
    scene.again();
    assert_eq!(delivered(&mut scene), ["1", "2"]);
    scene.stop();
}

#[test]
fn an_answer_that_is_no_registrys_stops_the_bridge() {
    let words = ["is not a schema registry", "registry.url"];
    stops_until_it_is_mended(Reply::Status(200, "<html>Welcome to the intranet</html>".to_owned()), &words);
}

#[test]
fn an_id_that_is_none_stops_the_bridge() {
    for id in ["-1", "\"seven\"", "null", "4294967296"] {
        let reply = Reply::Status(200, format!("{{\"id\": {id}}}"));
        let scripted = Scripted::start(reply).expect("a scripted registry");
        let mut world = world(TABLE, "");
        world.registry_url = scripted.url();
        expect_last_words(&mut world.run(), 1, &["is not a schema registry", "registry.url"]);
    }
}

#[test]
fn a_refusal_stops_the_bridge_with_what_the_registry_said() {
    stops_until_it_is_mended(Reply::error(401, "who are you"), &["401", "who are you", "credentials"]);
}
