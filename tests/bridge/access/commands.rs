//! The program's commands as scripts use them: lines, words and exit codes.

use std::process::ExitStatus;

use serde_json::{Value, json};

use super::program::Program;
use super::*;

/// Runs a command to its end: its status, its lines, and what it said beside them.
fn run(scene: &Scene, arguments: &[&str]) -> (ExitStatus, Vec<Value>, String) {
    let mut program = Program::start(&scene.world, "", arguments);
    let status = program.wait(PATIENCE);
    (status, program.lines(), program.log())
}

#[test]
fn commands_end_as_scripts_rely_on() {
    let (scene, runtime) = (scene(), runtime());
    scene.sql(
        "INSERT INTO tokens (id, account_id, type, actor_id, secret_salt, secret_hash, expires_at, inserted_at, updated_at)
         VALUES ('00000000-0000-4000-8000-0000000000e3', '00000000-0000-4000-8000-0000000000a0', 'client',
                 '00000000-0000-4000-8000-0000000000a1', 's', 'h', '2001-01-01', now(), now())",
    );
    let access = consumer(&scene, &runtime);
    runtime.block_on(access.close());
    let (client, resource, gateway) = (CLIENT.to_string(), RESOURCES[0].to_string(), GATEWAY.to_string());
    let (other, nobody) = (RESOURCES[1].to_string(), Uuid::from_u128(9).to_string());
    let expired = "00000000-0000-4000-8000-0000000000e3";

    // Every answer is an answer.
    let asks = [
        (client.as_str(), resource.as_str(), json!("ok")),
        (client.as_str(), other.as_str(), json!("forbidden")),
        (client.as_str(), nobody.as_str(), json!("not_found")),
        (nobody.as_str(), resource.as_str(), json!("not_found")),
    ];
    for (client, resource, result) in asks {
        let ask = ["authorize", "--json", "--client", client, "--resource", resource, "--gateway", &gateway];
        let (status, lines, log) = run(&scene, &ask);
        assert!(status.success(), "{result}: {log}");
        assert_eq!((lines.len(), &lines[0]["result"]), (1, &result), "{lines:?}");
    }
    let (status, lines, log) = run(&scene, &["show", "--json", "--account", ACCOUNT]);
    assert!(status.success(), "{log}");
    assert_eq!(lines[0]["clients"], json!([{"id": client, "allowed": [resource]}]));

    // A channel that may not be open.
    let refused: [(&[&str], &str); 3] = [
        (&["watch", "--client", &nobody], "no such client or gateway is live"),
        (&["watch", "--client", &client, "--token", expired], "the token has expired"),
        (&["watch", "--gateway", &gateway], "--token"),
    ];
    for (arguments, words) in refused {
        let (status, lines, log) = run(&scene, arguments);
        assert_eq!(status.code(), Some(1), "{arguments:?}: {log}");
        assert!(log.contains(words) && !lines.iter().any(|line| line["push"] == "init"), "{arguments:?}: {log}");
    }

    // One that ends.
    let mut watch = Program::start(&scene.world, "", &["watch", "--client", &client]);
    let has_init = |watch: &Program| watch.lines().iter().any(|line| line["push"] == "init");
    wait("an init", PATIENCE, || has_init(&watch)).expect("it comes");
    scene.sql("DELETE FROM clients");
    assert!(watch.wait(PATIENCE).success(), "{}", watch.log());
    let last = watch.lines().pop().expect("lines");
    assert_eq!((&last["push"], &last["payload"]["reason"]), (&json!("disconnect"), &json!("revoked")));
    scene.stop();
}
