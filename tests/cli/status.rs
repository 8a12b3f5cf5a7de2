//! `status`.

use serde_json::Value;

use crate::site::{PATIENCE, SCHEMA, Site, text};
use crate::world::wait;

/// What `status --json` says of a bridge that serves HTTP at the port, and its exit code.
fn status(site: &Site, http_port: u16) -> (Value, Option<i32>) {
    let output = site.command("status", &["--json"], http_port);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}")), output.status.code())
}

#[test]
fn a_standstill_is_told_with_its_cause_and_delivery_with_its_lags() {
    let site = Site::new(SCHEMA);
    let (seen, exit) = status(&site, 1);
    assert_eq!(exit, Some(1));
    let cause = format!("nothing is set up: there is no slot {}; nobody answers at 127.0.0.1:1", site.world.slot());
    assert_eq!((&seen["delivering"], &seen["cause"]), (&false.into(), &cause.into()), "{seen:#}");
    assert_eq!((&seen["slot"], &seen["progress"]), (&Value::Null, &Value::Null));

    let mut bridge = site.run();
    site.world.database.psql("INSERT INTO items VALUES (1, 'a', 'one'), (2, 'b', 'two')").expect("insert");
    site.world.wait_confirmed(&mut bridge, PATIENCE);
    let (seen, exit) = status(&site, bridge.http_port);
    assert_eq!(exit, Some(0), "{seen:#}");
    assert_eq!(
        (&seen["delivering"], &seen["cause"], &seen["errors"]),
        (&true.into(), &Value::Null, &Value::Array(vec![]))
    );
    assert_eq!(seen["bridge"]["state"], "ready");
    assert_eq!((&seen["slot"]["active"], &seen["slot"]["wal_status"]), (&true.into(), &"reserved".into()));
    assert!(seen["slot"]["retained_bytes"].as_u64().expect("bytes") > 0, "{seen:#}");
    let progress = &seen["progress"];
    assert!(progress["age_seconds"].as_f64().expect("an age") < 10.0, "{seen:#}");
    assert!(progress["last_commit_age_seconds"].as_f64().expect("an age") >= 0.0, "{seen:#}");
    assert!(progress["delivered_lag_bytes"].is_u64(), "{seen:#}");
    let partitions = progress["partitions"].as_array().expect("partitions");
    let moved = partitions.iter().filter(|entry| entry["last"]["commit_lsn"] != "0/0");
    assert_eq!((partitions.len(), moved.count()), (12, 2), "{seen:#}");
    // From another machine the bridge's HTTP server may be out of reach; it delivers all the same.
    assert_eq!(status(&site, 1).1, Some(0));

    let standby = site.world.run();
    wait("the standby to wait", PATIENCE, || standby.get("/readyz").is_some_and(|answer| answer.contains("slot:")))
        .expect("it says that it waits");
    let (seen, exit) = status(&site, standby.http_port);
    assert_eq!(exit, Some(1));
    let cause = seen["cause"].as_str().expect("a cause");
    assert!(cause.starts_with("the bridge waits: slot: another process holds it"), "{cause}");
    assert!(standby.stop().success());

    let port = bridge.http_port;
    assert!(bridge.stop().success());
    let (seen, exit) = status(&site, port);
    assert_eq!(exit, Some(1));
    let cause = seen["cause"].as_str().expect("a cause");
    assert!(cause.starts_with("no bridge is running: nothing streams from slot"), "{cause}");
    let words = text(&site.command("status", &[], port).stdout);
    assert!(words.starts_with("Standing still: no bridge is running"), "{words}");
    assert_eq!(words.lines().count(), 4 + 12, "{words}");
}

#[test]
fn a_frozen_bridge_is_told_by_its_old_progress() {
    let site = Site::new(SCHEMA);
    let bridge = site.run();
    bridge.signal("STOP");
    let mut cause = String::new();
    let told = wait("the progress to be old", PATIENCE, || {
        let (seen, exit) = status(&site, bridge.http_port);
        cause = seen["cause"].as_str().unwrap_or_default().to_owned();
        exit == Some(1)
    });
    bridge.signal("CONT");
    told.expect("the standstill is seen");
    assert!(cause.starts_with("something streams from slot"), "{cause}");
    assert!(cause.contains("its newest progress is"), "{cause}");
    assert!(bridge.stop().success());
}

#[test]
fn where_nobody_answers_the_cause_is_postgres() {
    let site = Site::new(SCHEMA);
    let mut status = crate::site::penstock("status");
    status.arg("--config").arg(site.configuration(1)).arg("--json");
    status.env("PENSTOCK_SOURCE__URL", "postgres://nobody:x@127.0.0.1:1/nowhere");
    status.env("PENSTOCK_KAFKA__BROKERS", "127.0.0.1:1").env("PENSTOCK_REGISTRY__URL", "http://127.0.0.1:1");
    let output = status.output().expect("run penstock");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), String::new()));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(seen["cause"].as_str().expect("a cause").starts_with("Postgres cannot be asked: "), "{seen:#}");
    assert_eq!(seen["errors"].as_array().map(Vec::len), Some(2), "{seen:#}");
}
