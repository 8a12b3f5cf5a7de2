//! `check`.

use std::time::Duration;

use penstock_testbed::artifacts::Cache;
use penstock_testbed::registry::Registry;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use serde_json::Value;

use crate::site::{SCHEMA, Site, text};

/// What `check --json` says, and its exit code.
fn check(site: &Site) -> (Value, Option<i32>) {
    let output = site.command("check", &["--json"], 1);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}")), output.status.code())
}

/// `severity subject` of every finding.
fn brief(report: &Value) -> Vec<String> {
    let finding =
        |finding: &Value| format!("{} {}", finding["severity"].as_str().unwrap(), finding["subject"].as_str().unwrap());
    report["findings"].as_array().expect("findings").iter().map(finding).collect()
}

/// The finding about a subject.
fn finding<'r>(report: &'r Value, subject: &str) -> &'r Value {
    let findings = report["findings"].as_array().expect("findings");
    findings.iter().find(|finding| finding["subject"] == subject).unwrap_or_else(|| panic!("{subject}: {report:#}"))
}

fn configure_topic(site: &Site, topic: &str, settings: &[(&str, &str)]) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &site.world.bootstrap);
    let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
    let mut alter = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (key, value) in settings {
        alter = alter.set(key, value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let altered = runtime.block_on(admin.alter_configs([&alter], &options)).expect("alter the topic's settings");
    assert!(altered.iter().all(Result::is_ok), "{altered:?}");
}

#[test]
fn a_first_start_is_nothing_that_stops_and_what_was_set_up_is_ready() {
    let site = Site::new(SCHEMA);
    let (report, exit) = check(&site);
    assert_eq!((report["verdict"].as_str(), exit), (Some("setup"), Some(0)), "{report:#}");
    let missing = ["stop publication penstock".to_owned(), format!("stop slot {}", site.world.slot())];
    assert_eq!(brief(&report)[..2], missing);
    assert!(report["findings"].as_array().unwrap().iter().all(|finding| finding["mended_by_setup"] == true));

    let setup = site.command("setup", &[], 1);
    assert!(setup.status.success(), "{}", text(&setup.stderr));
    let (report, exit) = check(&site);
    assert_eq!((report["verdict"].as_str(), exit), (Some("ready"), Some(0)), "{report:#}");
    assert_eq!(report["findings"], serde_json::json!([]));
    let looks: Vec<&str> =
        report["looks"].as_array().unwrap().iter().map(|look| look["what"].as_str().unwrap()).collect();
    assert_eq!(looks, ["Postgres", "Kafka", "registry", "start"]);
    let words = text(&site.command("check", &[], 1).stdout);
    assert!(words.ends_with("Nothing stops the bridge.\n"), "{words}");
}

#[test]
fn rows_of_before_the_first_start_are_loaded_unless_that_is_declined_or_cannot_be() {
    let site = Site::new(&format!("{SCHEMA} INSERT INTO items VALUES (1, 'a', 'one')"));
    for (what, look) in
        [("these tables already hold rows", "first start"), ("were never delivered", "resumes in epoch 1")]
    {
        let (report, exit) = check(&site);
        assert_eq!(exit, Some(0), "{report:#}");
        let seen = |index: usize| report["looks"][index]["seen"].as_str().unwrap().to_owned();
        assert!(seen(3).starts_with(look), "{report:#}");
        assert!(seen(4).contains(what) && seen(4).ends_with("; penstock run loads them"), "{report:#}");
        let told = site.command("check", &["--from-now", "--json"], 1);
        let report: Value = serde_json::from_slice(&told.stdout).expect("JSON");
        assert_eq!(told.status.code(), Some(0), "{report:#}");
        assert_eq!(finding(&report, "start")["severity"], "warn");
        // The second time round it is set up.
        assert!(site.command("setup", &[], 1).status.success());
    }
    site.world.database.psql("ALTER TABLE notes DROP CONSTRAINT notes_pkey").expect("alter");
    let (report, exit) = check(&site);
    assert_eq!(exit, Some(1), "{report:#}");
    let start = finding(&report, "start");
    assert!(start["what"].as_str().unwrap().ends_with("and they cannot be loaded"), "{start}");
    assert!(start["remedy"].as_str().unwrap().contains("public.notes has no primary key"), "{start}");
}

#[test]
fn what_would_stop_the_bridge_is_told_with_what_mends_it() {
    let site = Site::new(SCHEMA);
    site.deliver(|world| drop(world.database.psql("INSERT INTO items VALUES (1, 'a', 'one')").expect("insert")));
    site.world.database.psql("ALTER TABLE items REPLICA IDENTITY DEFAULT").expect("alter");
    let (report, exit) = check(&site);
    assert_eq!((report["verdict"].as_str(), exit), (Some("stop"), Some(1)));
    let remedy = finding(&report, "table public.items")["remedy"].as_str().unwrap();
    site.world.database.psql(remedy).expect("the remedy is SQL that can be run");
    assert_eq!(check(&site).1, Some(0), "and it mends what was found");

    // What is already in the registry as an int cannot become a text.
    site.world.database.psql("ALTER TABLE items ALTER COLUMN id TYPE bytea USING '\\x00'").expect("alter");
    let (report, exit) = check(&site);
    assert_eq!(exit, Some(1));
    let what = finding(&report, "table public.items")["what"].as_str().unwrap();
    assert!(what.contains("the registry would refuse its schema"), "{what}");
}

#[test]
fn settings_of_topics_are_held_against_the_configuration() {
    let site = Site::new(SCHEMA);
    assert!(site.command("setup", &[], 1).status.success());
    let topic = site.world.topic.clone();
    // What is not named goes back to the brokers' own setting.
    configure_topic(&site, &topic, &[("cleanup.policy", "compact,delete"), ("max.message.bytes", "1000000")]);
    let (report, exit) = check(&site);
    assert_eq!(exit, Some(1), "{report:#}");
    let subject = format!("topic {topic}");
    let whats: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["subject"] == subject.as_str())
        .map(|finding| finding["what"].as_str().unwrap())
        .collect();
    assert_eq!(
        whats,
        [
            "cleanup.policy is compact,delete, it must be compact",
            "max.message.bytes is 1000000, it must be at least 16777216",
            "min.compaction.lag.ms is 0, it must be at least 604800000",
            "delete.retention.ms is 86400000, it must be at least 604800000",
        ]
    );
    let policy = finding(&report, &subject)["remedy"].as_str().unwrap();
    assert!(policy.contains(&format!("--entity-name {topic} --add-config cleanup.policy=compact")), "{policy}");
}

#[test]
fn slot_progress_and_topic_that_are_no_beginning_are_told_as_the_bridge_would() {
    let site = Site::new(SCHEMA);
    assert!(site.command("setup", &[], 1).status.success());
    let slot = site.world.slot();
    site.world.database.psql(&format!("SELECT pg_drop_replication_slot('{slot}')")).expect("drop the slot");
    let (report, exit) = check(&site);
    assert_eq!(exit, Some(1));
    assert_eq!(brief(&report), ["stop start"], "that setup makes slots would mislead here");
    let start = finding(&report, "start");
    assert!(start["what"].as_str().unwrap().starts_with("progress without slot"), "{start}");

    let other = Site::new(SCHEMA);
    let slot = other.world.slot();
    other.world.database.psql("CREATE PUBLICATION penstock FOR TABLE items, notes").expect("create a publication");
    other
        .world
        .database
        .psql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"))
        .expect("create a slot");
    let (report, exit) = check(&other);
    assert_eq!(exit, Some(1));
    assert!(finding(&report, "start")["what"].as_str().unwrap().starts_with("slot without progress"), "{report:#}");
}

#[test]
fn a_registry_that_takes_everything_is_warned_of() {
    // The rule is the whole registry's: the shared one must keep its own.
    let registry = Registry::start_new(&Cache::from_environment()).expect("a registry");
    let mut site = Site::new(SCHEMA);
    site.world.registry_url = registry.url();
    assert!(site.command("setup", &[], 1).status.success());
    let (report, exit) = check(&site);
    assert_eq!((brief(&report), exit), (vec![], Some(0)));
    registry.set_compatibility("NONE").expect("set the rule");
    let (report, exit) = check(&site);
    assert_eq!((brief(&report), exit), (vec!["warn registry".to_owned()], Some(0)), "{report:#}");
}

#[test]
fn servers_that_are_away_are_told_all_at_once() {
    let site = Site::new(SCHEMA);
    let mut check = crate::site::penstock("check");
    check.arg("--config").arg(site.configuration(1)).arg("--json");
    check.env("PENSTOCK_SOURCE__URL", "postgres://nobody:x@127.0.0.1:1/nowhere");
    check.env("PENSTOCK_KAFKA__BROKERS", "127.0.0.1:1").env("PENSTOCK_REGISTRY__URL", "http://127.0.0.1:1");
    let output = check.output().expect("run penstock");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), String::new()));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(brief(&report), ["stop Postgres", "stop Kafka", "stop registry"]);
}
