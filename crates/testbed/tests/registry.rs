//! A registry of one's own: it refuses what its rule forbids, and remembers over kill and restart.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use penstock_testbed::artifacts::Cache;
use penstock_testbed::registry::Registry;

fn schema(kind: &str) -> String {
    let avro = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"a","type":"{kind}"}}]}}"#);
    serde_json::json!({ "schema": avro }).to_string()
}

fn register(registry: &Registry, kind: &str) -> (u16, String) {
    let answer = registry.request("POST", "/subjects/s/versions", &schema(kind)).expect("answer");
    (answer.status, answer.body)
}

#[test]
fn schemas_and_rule_survive_kill_and_restart() {
    let registry = Registry::start_new(&Cache::from_environment()).expect("start");
    let pid = registry.pid().expect("runs");
    let owner = std::fs::metadata(format!("/proc/{pid}")).expect("runs").uid();
    assert_ne!(owner, 0, "a server runs as root");
    let (url, first) = (registry.url(), register(&registry, "int"));
    assert_eq!(first.0, 200, "{}", first.1);
    let refused = register(&registry, "string");
    assert_eq!(refused.0, 409, "{}", refused.1);

    registry.kill().expect("kill");
    assert!(registry.request("GET", "/subjects", "").is_err());
    registry.start().expect("start again");
    assert_eq!(registry.url(), url);
    assert_eq!(register(&registry, "int"), first, "the same id");
    assert_eq!(register(&registry, "string").0, 409);

    registry.restart().expect("restart");
    assert_eq!(register(&registry, "int"), first, "the same id");
    registry.set_compatibility("NONE").expect("rule");
    assert_eq!(register(&registry, "string").0, 200);

    registry.pause().expect("pause");
    std::thread::scope(|scope| {
        let (sender, answer) = std::sync::mpsc::channel();
        let registry = &registry;
        scope.spawn(move || sender.send(registry.request("GET", "/subjects", "")));
        let early = answer.recv_timeout(Duration::from_millis(500));
        assert!(early.is_err(), "a paused registry answered {early:?}");
        registry.resume().expect("resume");
        let late = answer.recv().expect("an answer").expect("HTTP");
        assert_eq!(late.body, r#"["s"]"#);
    });
}
