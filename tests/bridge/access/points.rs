//! What the systems before this one got wrong, one test each, on real servers.

use std::collections::BTreeSet;

use penstock_testbed::postgres::{Postgres, Stop};

use super::*;
use crate::scene::{Session, stack, world_on};

const R1: &str = "00000000-0000-4000-8000-000000000b01";
const R2: &str = "00000000-0000-4000-8000-000000000b02";

fn move_policy(resource: &str) -> String {
    format!("UPDATE policies SET resource_id = '{resource}';")
}

/// Pushes are made from the state before and the state after, never from a row that is read again later.
#[test]
fn a_policy_that_moves_there_and_back_is_told_as_it_moved() {
    let (scene, runtime) = (scene(), runtime());
    scene.sql(GATEWAY_TOKEN);
    scene.sql(&insert_flow("f01", "f1", "b01"));
    let access = consumer(&scene, &runtime);
    let mut client = access.subscribe_client(CLIENT, None, ClientOptions::default());
    let mut gateway = access.subscribe_gateway(GATEWAY, None);
    assert_eq!(told(&runtime, &mut client), "init [b01]");
    assert_eq!(told(&runtime, &mut gateway), "init [c1-b01]");

    scene.sql(&format!("BEGIN; {} {} COMMIT", move_policy(R2), move_policy(R1)));
    assert_eq!(heard_by_client(&scene, &runtime, &mut client), [""; 0]);
    assert_eq!(heard_by_gateway(&scene, &runtime, &mut gateway), ["init [c1-b01]"]);

    // One transaction each, committed before any of them is read.
    scene.bridge.signal("STOP");
    scene.sql(&format!("{} {}; {}", move_policy(R2), insert_flow("f02", "f1", "b02"), move_policy(R1)));
    scene.bridge.signal("CONT");
    let heard = heard_by_client(&scene, &runtime, &mut client);
    let heard: Vec<&String> = heard.iter().filter(|push| !push.starts_with("stale") && *push != "fresh").collect();
    assert_eq!(heard, ["deleted b01", "created b02", "deleted b02", "created b01"]);
    let heard = heard_by_gateway(&scene, &runtime, &mut gateway);
    let heard: Vec<&String> = heard.iter().filter(|push| !push.starts_with("stale") && *push != "fresh").collect();
    assert_eq!(heard, ["reject c1 b01", "authorize c1 b02", "reject c1 b02", "authorize c1 b01", "init [c1-b01]"]);
    runtime.block_on(access.close());
    scene.stop();
}

/// Whatever table a change is in, it comes by the one partition of its account; a channel subscribes to nothing else.
#[test]
fn all_tables_of_an_account_come_through_one_partition_to_a_channel_that_is_opened_once() {
    let (mut scene, runtime) = (scene(), runtime());
    scene.sql(GATEWAY_TOKEN);
    let records = scene.records();
    let partitions: BTreeSet<i32> = records.iter().map(|record| record.partition).collect();
    let partition = *partitions.first().expect("records");
    assert_eq!(partitions.len(), 1, "one account");
    // A consumer that reads this partition and no other.
    let only = format!("assignment = \"partitions\"\npartitions = [{partition}]");
    let access = consumer_with(&scene, &runtime, &only, "");
    let mut client = access.subscribe_client(CLIENT, None, ClientOptions::default());
    let mut gateway = access.subscribe_gateway(GATEWAY, None);
    assert_eq!(access.look(|replica| replica.channels()), 2);
    assert_eq!(told(&runtime, &mut client), "init [b01]");
    assert_eq!(told(&runtime, &mut gateway), "init []");
    // (table, change, what the client hears, what the gateway hears)
    let flow = insert_flow("f01", "f1", "b01");
    let changes: [(&str, &str, &[&str], &[&str]); 18] = [
        ("flows", &flow, &[], &["authorize c1 b01"]),
        ("policies", "UPDATE policies SET disabled_at = now()", &["deleted b01"], &["reject c1 b01"]),
        ("policies", "UPDATE policies SET disabled_at = NULL", &["created b01"], &["authorize c1 b01"]),
        ("actor_groups", "UPDATE actor_groups SET deleted_at = now()", &["deleted b01"], &["reject c1 b01"]),
        ("actor_groups", "UPDATE actor_groups SET deleted_at = NULL", &["created b01"], &["authorize c1 b01"]),
        ("resources", "UPDATE resources SET name = 'm'", &["created b01"], &[]),
        (
            "resources",
            "UPDATE resources SET filters = '[{\"protocol\": \"icmp\"}]'",
            &["created b01"],
            &["updated b01"],
        ),
        ("gateway_groups", "UPDATE gateway_groups SET name = 'm'", &["created b01"], &[]),
        ("gateway_groups", "UPDATE gateway_groups SET deleted_at = now()", &["deleted b01"], &["reject c1 b01"]),
        ("gateway_groups", "UPDATE gateway_groups SET deleted_at = NULL", &["created b01"], &["authorize c1 b01"]),
        ("clients", "UPDATE clients SET public_key = 'l'", &[], &["authorize c1 b01"]),
        ("gateways", "UPDATE gateways SET ipv4 = '100.64.0.3'", &[], &["init [c1-b01]"]),
        ("resource_connections", "DELETE FROM resource_connections", &["deleted b01"], &["reject c1 b01"]),
        (
            "resource_connections",
            "INSERT INTO resource_connections SELECT id, '00000000-0000-4000-8000-0000000000d0', account_id FROM resources",
            &["created b01"],
            &["authorize c1 b01"],
        ),
        ("actor_group_memberships", "DELETE FROM actor_group_memberships", &["deleted b01"], &["reject c1 b01"]),
        (
            "tokens",
            "UPDATE tokens SET expires_at = '2001-01-01' WHERE type = 'gateway_group'",
            &[],
            &["disconnect TokenExpired"],
        ),
        ("accounts", "UPDATE accounts SET config = '{\"search_domain\": \"d\"}'", &["config"], &[]),
        ("actors", "UPDATE actors SET disabled_at = now()", &["disconnect Revoked"], &[]),
    ];
    for (table, change, of_client, of_gateway) in changes {
        assert!(change.contains(table), "{change}");
        scene.sql(change);
        for expected in of_client {
            assert_eq!(told(&runtime, &mut client), *expected, "{change}");
        }
        for expected in of_gateway {
            assert_eq!(told(&runtime, &mut gateway), *expected, "{change}");
        }
    }
    // Closed once, and by the other end: there is nothing to unsubscribe from.
    assert_eq!((notice(&runtime, &mut client), notice(&runtime, &mut gateway)), (None, None));
    assert_eq!(access.look(|replica| replica.channels()), 0);
    let records = scene.records();
    let elsewhere: Vec<_> =
        records.iter().filter(|record| record.account == ACCOUNT && record.partition != partition).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    runtime.block_on(access.close());
    scene.stop();
}

/// Members 1 to 10,000 of the group, each an actor with a client and its token.
const MEMBERS: &str = "
CREATE FUNCTION pg_temp.id(kind text, n int) RETURNS uuid LANGUAGE sql
    AS $$ SELECT ('00000000-0000-4000-9000-' || kind || lpad(to_hex(n), 11, '0'))::uuid $$;
INSERT INTO actors (id, account_id, type, name, inserted_at, updated_at)
    SELECT pg_temp.id('1', n), '00000000-0000-4000-8000-0000000000a0', 'account_user', 'n', now(), now()
      FROM generate_series(1, 10000) n;
INSERT INTO actor_group_memberships (id, account_id, actor_id, group_id)
    SELECT pg_temp.id('2', n), '00000000-0000-4000-8000-0000000000a0', pg_temp.id('1', n),
           '00000000-0000-4000-8000-0000000000a2' FROM generate_series(1, 10000) n;
INSERT INTO clients (id, account_id, actor_id, last_used_token_id, external_id, name, public_key, ipv4, ipv6,
                     last_seen_version, last_seen_remote_ip, inserted_at, updated_at)
    SELECT pg_temp.id('3', n), '00000000-0000-4000-8000-0000000000a0', pg_temp.id('1', n),
           '00000000-0000-4000-8000-0000000000e1', 'x', 'n', 'k', '10.0.0.0'::inet + n, 'fd00:1::'::inet + n, '1.4.0',
           '192.0.2.1', now(), now() FROM generate_series(1, 10000) n;
";

fn member(kind: u128, n: u128) -> Uuid {
    Uuid::from_u128(0x0000_0000_0000_4000_9000_0000_0000_0000 | kind << 44 | n)
}

/// Cost follows what changes: ten thousand members are no reason to look at more than the one that changed.
#[test]
fn one_membership_of_ten_thousand_touches_only_what_it_concerns() {
    let (scene, runtime) = (scene(), runtime());
    scene.sql(MEMBERS);
    let access = consumer(&scene, &runtime);
    let mut channels: Vec<Channel> =
        (1..=10_000).map(|n| access.subscribe_client(member(3, n), None, ClientOptions::default())).collect();
    for channel in &mut channels {
        assert_eq!(told(&runtime, channel), "init [b01]");
    }
    let entries = || access.look(|replica| replica.account(ACCOUNT).expect("it is known").entries_touched());
    let before = entries();
    let of = member(2, 5000);
    scene.sql(&format!("DELETE FROM actor_group_memberships WHERE id = '{of}'"));
    assert_eq!(told(&runtime, &mut channels[4999]), "deleted b01");
    let touched = entries() - before;
    assert!((1..50).contains(&touched), "{touched} index entries for one membership of 10,000");
    // A bulk change: in proportion to the members that change, not to those times all.
    let before = entries();
    let from = member(2, 1001);
    let to = member(2, 2000);
    scene.sql(&format!("DELETE FROM actor_group_memberships WHERE id BETWEEN '{from}' AND '{to}'"));
    for channel in &mut channels[1000..2000] {
        assert_eq!(told(&runtime, channel), "deleted b01");
    }
    let bulk = entries() - before;
    assert!((1000..50 * 1000).contains(&bulk), "{bulk} index entries for 1,000 memberships of 10,000");
    eprintln!("{touched} index entries for one membership of 10,000, {bulk} for 1,000");
    // Everybody else was left alone.
    scene.sql("UPDATE accounts SET config = '{\"search_domain\": \"d\"}'");
    for channel in &mut channels {
        assert_eq!(told(&runtime, channel), "config");
    }
    runtime.block_on(access.close());
    scene.stop();
}

/// Question and answer are in memory: the database may be anywhere, or nowhere.
#[test]
fn a_flow_is_authorised_in_microseconds_while_postgres_is_down() {
    const STALE_AFTER: u64 = 20;
    let postgres = Postgres::builder().start().expect("a Postgres of its own");
    let addresses = penstock_testbed::cluster::Addresses { postgres: postgres.address().clone(), ..stack().clone() };
    let scene = scene_of(world_on(&addresses, &schema(), CAPTURE));
    let runtime = runtime();
    let config = configuration(&scene.world, "", "");
    let mut config = config;
    config.access.stale_after = u32::try_from(STALE_AFTER).expect("seconds");
    let access = runtime.block_on(Access::connect(&config)).expect("connect");
    wait("the state to be complete", PATIENCE, || has_read_all(&access, &scene) && access.doubt(ACCOUNT).is_none())
        .expect("complete");
    postgres.stop(Stop::Immediate).expect("stop Postgres");
    let stopped = Instant::now();
    assert!(scene.world.database.psql("SELECT 1").is_err(), "there is no database");
    let mut taken: Vec<Duration> = (0..10_000)
        .map(|n| {
            let asked = Instant::now();
            let answer = authorize(&access, RESOURCES[n % 2]);
            let taken = asked.elapsed();
            match (n % 2, answer) {
                (0, Answer::Ok { .. }) | (1, Answer::Forbidden { .. }) => taken,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert!(stopped.elapsed() < Duration::from_secs(STALE_AFTER), "too slow to say");
    taken.sort();
    let median = taken[taken.len() / 2];
    eprintln!("authorize without a database: median {median:?} in a debug build");
    assert!(median < Duration::from_micros(500), "{median:?}");
    // But not for ever.
    wait("nothing to be known any more", PATIENCE, || {
        authorize(&access, RESOURCES[0]) == Answer::Unavailable { reason: Reason::Stale }
    })
    .expect("stale");
    assert!(stopped.elapsed() >= Duration::from_secs(STALE_AFTER - 2), "too early: {:?}", stopped.elapsed());
    runtime.block_on(access.close());
}

/// Five hundred hear of a change while nobody can read a table: whoever had to would hang.
#[test]
fn one_change_for_five_hundred_channels_reads_nothing_from_the_database() {
    let (scene, runtime) = (scene(), runtime());
    scene.sql(MEMBERS);
    let access = consumer_with(&scene, &runtime, "", "stale_after = 60");
    let mut channels: Vec<Channel> =
        (1..=500).map(|n| access.subscribe_client(member(3, n), None, ClientOptions::default())).collect();
    for channel in &mut channels {
        assert_eq!(told(&runtime, channel), "init [b01]");
    }
    let locked = Session::open(&scene.world);
    scene.bridge.signal("STOP");
    scene.sql(&move_policy(R2));
    let tables = scene.sql(
        "SELECT string_agg(oid::regclass::text, ', ') FROM pg_class
                             WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
    );
    assert_eq!(tables.split(',').count(), 14, "{tables}");
    locked.run(&format!("BEGIN; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", tables.trim()));
    let reading = scene.world.database.psql("SET lock_timeout = '100ms'; SELECT count(*) FROM policies");
    assert!(reading.is_err(), "a table can be read: {reading:?}");
    scene.bridge.signal("CONT");
    for channel in &mut channels {
        assert_eq!(told(&runtime, channel), "deleted b01");
        assert_eq!(told(&runtime, channel), "created b02");
    }
    locked.run("COMMIT");
    // Whoever is connected is the bridge or the one who asks.
    drop(locked);
    let others = "SELECT application_name, query FROM pg_stat_activity WHERE datname = current_database()
                     AND pid <> pg_backend_pid() AND application_name NOT LIKE 'penstock%'";
    wait("the test's own sessions to be gone", PATIENCE, || scene.sql(others).trim().is_empty())
        .unwrap_or_else(|late| panic!("{late}: {}", scene.sql(others)));
    runtime.block_on(access.close());
    scene.stop();
}

/// There is no other way into the state than the log, and the log has every way into the tables.
#[test]
fn changes_by_hand_by_migration_by_truncate_and_by_cascade_are_told_like_the_applications() {
    let (scene, runtime) = (scene(), runtime());
    scene.sql(GATEWAY_TOKEN);
    scene.sql(&insert_flow("f01", "f1", "b01"));
    scene.sql(
        "CREATE SCHEMA kept; CREATE TABLE kept.groups AS SELECT * FROM actor_groups;
               CREATE TABLE kept.memberships AS SELECT * FROM actor_group_memberships;
               CREATE TABLE kept.policies AS SELECT * FROM policies; CREATE TABLE kept.flows AS SELECT * FROM flows",
    );
    let give_back = "BEGIN; INSERT INTO actor_groups SELECT * FROM kept.groups ON CONFLICT DO NOTHING;
        INSERT INTO actor_group_memberships SELECT * FROM kept.memberships ON CONFLICT DO NOTHING;
        INSERT INTO policies SELECT * FROM kept.policies ON CONFLICT (id) DO UPDATE SET deleted_at = NULL, disabled_at = NULL;
        INSERT INTO flows SELECT * FROM kept.flows ON CONFLICT DO NOTHING; COMMIT";
    let access = consumer(&scene, &runtime);
    let mut client = access.subscribe_client(CLIENT, None, ClientOptions::default());
    let mut gateway = access.subscribe_gateway(GATEWAY, None);
    assert_eq!(told(&runtime, &mut client), "init [b01]");
    assert_eq!(told(&runtime, &mut gateway), "init [c1-b01]");
    let application = Session::open(&scene.world);
    let ways: [(&str, &str); 9] = [
        ("the application", "DELETE FROM policies WHERE id = '00000000-0000-4000-8000-0000000000f1'"),
        ("the application, softly", "UPDATE policies SET deleted_at = now(), updated_at = now()"),
        ("by hand", "DELETE FROM policies"),
        ("a cascade", "DELETE FROM actor_groups"),
        ("a cascade from the other side", "DELETE FROM actor_group_memberships"),
        ("truncate", "TRUNCATE policies CASCADE"),
        ("truncate of what it hangs on", "TRUNCATE actor_groups CASCADE"),
        (
            "a migration",
            "BEGIN; ALTER TABLE policies ADD COLUMN priority int NOT NULL DEFAULT 0;
             UPDATE policies SET disabled_at = now(), priority = 1;
             ALTER TABLE policies ALTER COLUMN inserted_at TYPE timestamptz USING inserted_at AT TIME ZONE 'UTC';
             ALTER TABLE policies DROP COLUMN priority; COMMIT",
        ),
        ("a function", "DO $$ BEGIN EXECUTE 'DELETE FROM policies'; END $$"),
    ];
    for (way, sql) in ways {
        if way.starts_with("the application") {
            application.run(sql);
        } else {
            scene.sql(sql);
        }
        assert_eq!(told(&runtime, &mut client), "deleted b01", "{way}");
        assert_eq!(told(&runtime, &mut gateway), "reject c1 b01", "{way}");
        scene.sql(give_back);
        assert_eq!(told(&runtime, &mut client), "created b01", "{way}");
        assert_eq!(told(&runtime, &mut gateway), "authorize c1 b01", "{way}");
    }
    assert_eq!(heard_by_client(&scene, &runtime, &mut client), [""; 0]);
    runtime.block_on(access.close());
    scene.stop();
}
