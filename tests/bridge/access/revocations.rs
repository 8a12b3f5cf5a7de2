//! A stream of revocations, and everybody who carries it is killed in its middle: none is lost.

use std::collections::BTreeSet;

use serde_json::Value;

use super::program::Program;
use super::*;

const REVOKED: usize = 200;
const KILLS: usize = 4;

/// Resources 1 to 240, and a policy for each; every second is revoked, in this order, with something granted in between.
const POLICIES: &str = "
CREATE FUNCTION id(kind text, n int) RETURNS uuid LANGUAGE sql
    AS $$ SELECT ('00000000-0000-4000-9000-' || kind || lpad(to_hex(n), 11, '0'))::uuid $$;
INSERT INTO resources (id, account_id, type, name, address, inserted_at, updated_at)
    SELECT id('1', n), '00000000-0000-4000-8000-0000000000a0', 'dns', 'n', 'a.example', now(), now()
      FROM generate_series(1, 480) n;
INSERT INTO resource_connections (resource_id, gateway_group_id, account_id)
    SELECT id('1', n), '00000000-0000-4000-8000-0000000000d0', '00000000-0000-4000-8000-0000000000a0'
      FROM generate_series(1, 480) n;
INSERT INTO policies (id, account_id, actor_group_id, resource_id, inserted_at, updated_at)
    SELECT id('2', n), '00000000-0000-4000-8000-0000000000a0', '00000000-0000-4000-8000-0000000000a2', id('1', n),
           now(), now() FROM generate_series(1, 240) n;
";

/// What SQL says that the client may reach, by way of the policies.
fn allowed(scene: &Scene) -> BTreeSet<String> {
    scene.sql("SELECT resource_id FROM policies WHERE deleted_at IS NULL").lines().map(str::to_owned).collect()
}

/// What a client that heard these lines may reach. Asserts that they are what a client can make sense of.
fn known(lines: &[Value]) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let text = |value: &Value| value.as_str().expect("an id").to_owned();
    for line in lines {
        let payload = &line["payload"];
        match line["push"].as_str().expect("a push") {
            "init" => {
                known = payload["resources"].as_array().expect("resources").iter().map(|of| text(&of["id"])).collect();
            }
            "resource_deleted" => assert!(known.remove(&text(payload)), "{line} of what was not there"),
            "resource_created_or_updated" => drop(known.insert(text(&payload["id"]))),
            "stale" | "fresh" => {}
            other => panic!("{other} in {line}"),
        }
    }
    known
}

/// Deploys and crashes in the middle of a broadcast.
#[test]
fn every_revocation_arrives_however_often_consumer_and_bridge_are_killed() {
    let (mut scene, runtime) = (scene(), runtime());
    scene.sql(POLICIES);
    let client = CLIENT.to_string();
    let watch = |scene: &Scene| Program::start(&scene.world, "", &["watch", "--client", &client]);
    let mut watched = vec![watch(&scene)];
    let has_init = |program: &Program| program.lines().iter().any(|line| line["push"] == "init");
    wait("an init", PATIENCE, || has_init(&watched[0])).expect("it comes");
    let before = allowed(&scene);
    assert_eq!(known(&watched[0].lines()), before);

    let database = scene.world.database.clone();
    let revoking = std::thread::spawn(move || {
        for n in 1..=REVOKED {
            let how = match n % 3 {
                0 => format!("DELETE FROM policies WHERE id = id('2', {n})"),
                1 => format!("UPDATE policies SET deleted_at = now() WHERE id = id('2', {n})"),
                _ => format!(
                    "DELETE FROM resource_connections WHERE resource_id = id('1', {n});
                              DELETE FROM policies WHERE id = id('2', {n})"
                ),
            };
            let granted = format!(
                "INSERT INTO policies (id, account_id, actor_group_id, resource_id, inserted_at, updated_at)
                 VALUES (id('2', {of}), '00000000-0000-4000-8000-0000000000a0',
                         '00000000-0000-4000-8000-0000000000a2', id('1', {of}), now(), now())",
                of = 240 + n
            );
            database.psql(&format!("{how}; {granted}")).expect("revoke and grant");
        }
    });
    let revoked = |scene: &Scene| {
        let left = scene.sql("SELECT count(*) FROM policies WHERE deleted_at IS NULL AND id <= id('2', 240)");
        // The policy of the scene has a lower id.
        241 - left.trim().parse::<usize>().expect("a count")
    };
    for kill in 1..=KILLS {
        let target = kill * REVOKED / (KILLS + 1);
        wait("more revocations", PATIENCE, || revoked(&scene) >= target).expect("they are made");
        if kill % 2 == 0 {
            scene.bridge.signal("KILL");
            scene.bridge.wait(PATIENCE);
            scene.bridge = scene.world.run();
        }
        watched.last_mut().expect("one").kill();
        watched.push(watch(&scene));
        wait("an init", PATIENCE, || has_init(watched.last().expect("one"))).expect("it comes");
    }
    revoking.join().expect("all are revoked");
    let allowed_now = allowed(&scene);
    assert_eq!((revoked(&scene), allowed_now.len()), (REVOKED, 241));
    // Whoever was there at the end has heard of all that came after its `init`, and that knew of all before.
    let last = watched.last().expect("one");
    wait("the last revocations", PATIENCE, || known(&last.lines()) == allowed_now)
        .unwrap_or_else(|late| panic!("{late}: {:?}", known(&last.lines()).symmetric_difference(&allowed_now)));
    // And nobody was ever told that what had been revoked was there again.
    let gone: BTreeSet<&String> = before.difference(&allowed_now).collect();
    assert_eq!(gone.len(), REVOKED);
    let mut heard = 0;
    for program in &watched {
        let lines = program.lines();
        heard += lines.iter().filter(|line| line["push"] == "resource_deleted").count();
        let granted = lines.iter().filter(|line| line["push"] == "resource_created_or_updated");
        let again: Vec<&Value> = granted
            .filter(|line| line["payload"]["id"].as_str().is_some_and(|id| gone.contains(&id.to_owned())))
            .collect();
        assert!(again.is_empty(), "{again:?}");
    }
    // A channel that is opened now is told the same.
    let access = consumer(&scene, &runtime);
    let mut fresh = access.subscribe_client(CLIENT, None, ClientOptions::default());
    let Push::ClientInit { resources, .. } = next(&runtime, &mut fresh) else { panic!("no init") };
    assert_eq!(resources.iter().map(|resource| resource.id().to_string()).collect::<BTreeSet<_>>(), allowed_now);
    eprintln!("{KILLS} kills of the consumer, {} of the bridge; {heard} of {REVOKED} heard as they came", KILLS / 2);
    runtime.block_on(access.close());
    scene.stop();
}
