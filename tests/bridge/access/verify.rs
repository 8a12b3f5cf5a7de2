//! The consumer's state against the database: under load nothing differs, and what was planted is found.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use penstock_access::service::{self, Config, Verified};
use penstock_wire::event::Op;
use penstock_wire::header::{HEADER_NAME, Header};
use penstock_wire::lsn::CommitLsn;
use penstock_wire::position::{Position, Seq};
use rdkafka::ClientConfig;
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;

use super::{ACCOUNT, GATEWAY, configuration_file, once, runtime, scene};
use crate::reader::Record;
use crate::scene::{Scene, Session};

/// An account with a row in every table.
const WHOLE: &str = "
WITH account AS (INSERT INTO accounts (id, name, slug, config, inserted_at, updated_at)
        VALUES (gen_random_uuid(), 'n', md5(random()::text), '{\"search_domain\": \"example\", \"clients_upstream_dns\":
               [{\"protocol\": \"ip_port\", \"address\": \"1.1.1.1:53\"}]}', now(), now()) RETURNING id),
     actor AS (INSERT INTO actors (id, account_id, type, name, inserted_at, updated_at)
        SELECT gen_random_uuid(), id, 'account_user', 'n', now(), now() FROM account RETURNING id, account_id),
     team AS (INSERT INTO actor_groups (id, account_id, name, inserted_at, updated_at)
        SELECT gen_random_uuid(), id, 'n', now(), now() FROM account RETURNING id),
     membership AS (INSERT INTO actor_group_memberships (id, account_id, actor_id, group_id)
        SELECT gen_random_uuid(), actor.account_id, actor.id, team.id FROM actor, team RETURNING id),
     provider AS (INSERT INTO auth_providers (id, account_id, name, adapter, inserted_at, updated_at)
        SELECT gen_random_uuid(), id, 'n', 'email', now(), now() FROM account RETURNING id),
     identity AS (INSERT INTO auth_identities (id, account_id, actor_id, provider_id, provider_identifier, inserted_at)
        SELECT gen_random_uuid(), actor.account_id, actor.id, provider.id, 'x', now() FROM actor, provider RETURNING id),
     token AS (INSERT INTO tokens (id, account_id, type, actor_id, secret_salt, secret_hash, expires_at, inserted_at,
                                   updated_at)
        SELECT gen_random_uuid(), account_id, 'client', id, 's', 'h', now() + interval '1.23456 days', now(), now()
          FROM actor RETURNING id),
     client AS (INSERT INTO clients (id, account_id, actor_id, identity_id, last_used_token_id, external_id, name,
                                     public_key, ipv4, ipv6, last_seen_version, last_seen_remote_ip,
                                     last_seen_remote_ip_location_lat, last_seen_remote_ip_location_lon, inserted_at,
                                     updated_at)
        SELECT gen_random_uuid(), actor.account_id, actor.id, identity.id, token.id, 'x', 'n', 'k', '100.64.0.1',
               'fd00::1', '1.4.0', '192.0.2.1', random() * 90, random() * 180, now(), now()
          FROM actor, identity, token RETURNING id),
     site AS (INSERT INTO gateway_groups (id, account_id, name, inserted_at, updated_at)
        SELECT gen_random_uuid(), id, 'site', now(), now() FROM account RETURNING id),
     gateway AS (INSERT INTO gateways (id, account_id, group_id, external_id, name, public_key, ipv4, ipv6, inserted_at,
                                       updated_at)
        SELECT gen_random_uuid(), account.id, site.id, 'x', 'n', 'k', '100.64.0.2', 'fd00::2', now(), now()
          FROM account, site RETURNING id),
     resource AS (INSERT INTO resources (id, account_id, type, name, address, inserted_at, updated_at)
        SELECT gen_random_uuid(), id, 'dns', 'n', 'a.example', now(), now() FROM account RETURNING id),
     connection AS (INSERT INTO resource_connections (resource_id, gateway_group_id, account_id)
        SELECT resource.id, site.id, account.id FROM resource, site, account),
     policy AS (INSERT INTO policies (id, account_id, actor_group_id, resource_id, inserted_at, updated_at)
        SELECT gen_random_uuid(), account.id, team.id, resource.id, now(), now() FROM account, team, resource
        RETURNING id)
INSERT INTO flows (id, account_id, policy_id, client_id, gateway_id, resource_id, token_id, actor_group_membership_id,
                   client_remote_ip, client_user_agent, gateway_remote_ip, inserted_at)
    SELECT gen_random_uuid(), account.id, policy.id, client.id, gateway.id, resource.id, token.id, membership.id,
           '192.0.2.1', 'x', '192.0.2.2', now()
      FROM account, policy, client, gateway, resource, token, membership";

/// What is done to rows of every table, a few at a time.
const CHANGES: [&str; 16] = [
    "UPDATE accounts SET slug = md5(random()::text), config = '{\"search_domain\": 5}' WHERE random() < 0.02",
    "UPDATE actors SET disabled_at = CASE WHEN random() < 0.5 THEN now() END WHERE random() < 0.02",
    "UPDATE actors SET type = CASE WHEN random() < 0.5 THEN 'visitor' ELSE 'service_account' END WHERE random() < 0.02",
    "UPDATE actor_groups SET deleted_at = CASE WHEN random() < 0.5 THEN now() END WHERE random() < 0.02",
    "DELETE FROM actor_group_memberships WHERE random() < 0.02",
    "UPDATE auth_providers SET disabled_at = CASE WHEN random() < 0.5 THEN now() END WHERE random() < 0.02",
    "UPDATE tokens SET expires_at = CASE WHEN random() < 0.5 THEN timestamp 'infinity' ELSE now() END WHERE random() < 0.02",
    "UPDATE clients SET last_seen_remote_ip = '10.0.0.0/8', last_seen_version = '1.5.0-rc1',
            last_seen_remote_ip_location_region = 'UA', last_seen_remote_ip_location_lat = NULL,
            verified_at = now(), ipv4 = ipv4 + 1 WHERE random() < 0.02",
    "UPDATE gateway_groups SET name = md5(random()::text) WHERE random() < 0.02",
    "UPDATE gateways SET public_key = md5(random()::text), last_seen_version = '1.4.0' WHERE random() < 0.02",
    "UPDATE resources SET address = md5(random()::text), ip_stack = 'dual', filters = '[{\"protocol\": \"tcp\", \"ports\":
            [\"80\", \"90 - 100\", \"0\"]}, {\"protocol\": \"icmp\"}]' WHERE random() < 0.02",
    "UPDATE policies SET conditions = ARRAY[jsonb_build_object('property', 'remote_ip', 'operator', 'is_in_cidr', 'values',
            jsonb_build_array('10.0.0.0/8', repeat(md5(random()::text), 200))), NULL] WHERE random() < 0.02",
    "UPDATE policies SET conditions = NULL, description = 'x' WHERE random() < 0.02",
    "UPDATE flows SET expires_at = now() WHERE random() < 0.02",
    "DELETE FROM resource_connections WHERE random() < 0.02",
    "BEGIN; DELETE FROM flows WHERE random() < 0.02; DELETE FROM accounts WHERE random() < 0.02; COMMIT",
];

fn check(scene: &Scene, accounts: &[&str]) -> Verified {
    let (_folder, file) = configuration_file(scene);
    let config = Config::load(&file).expect("a configuration");
    let accounts: Vec<String> = accounts.iter().map(|account| (*account).to_owned()).collect();
    let verified = runtime().block_on(service::verify(&config, &scene.world.database.url(), &accounts));
    verified.unwrap_or_else(|error| panic!("{error}\n{}", scene.bridge.log()))
}

#[test]
fn nothing_differs_while_all_tables_are_written() {
    let scene = scene();
    scene.sql(&format!("{WHOLE};").repeat(40));
    let (stopped, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let write = |number: usize| {
        let session = Session::open(&scene.world);
        let mut turn = number * 5;
        while !stopped.load(Ordering::Relaxed) {
            let sql = match (number, turn % 90) {
                (0, 17) => "TRUNCATE flows",
                (1, 35) => "BEGIN; TRUNCATE resource_connections; COMMIT",
                (_, turn) => CHANGES.get(turn % 18).copied().unwrap_or(WHOLE),
            };
            if session.attempt(sql) {
                done.fetch_add(1, Ordering::Relaxed);
            } else {
                // It was in another's way.
                session.attempt("ROLLBACK");
            }
            turn += 1;
            // Rows that are written faster than they can be compared would be compared for ever.
            thread::sleep(Duration::from_millis(10));
        }
    };
    let write = &write;
    let found: Vec<Verified> = thread::scope(|scope| {
        for number in 0..3 {
            scope.spawn(move || write(number));
        }
        let checks = scope.spawn(|| (0..3).map(|_| check(&scene, &[])).collect());
        let found = checks.join();
        stopped.store(true, Ordering::Relaxed);
        found.expect("the comparisons")
    });
    for verified in &found {
        assert_eq!(verified.differences, [], "{verified:?}");
        assert!(verified.same > 100, "{}", verified.same);
    }
    assert!(found.iter().any(|verified| verified.again > 0), "no row was just being written: there was no load");
    assert!(done.load(Ordering::Relaxed) > 100, "{done:?} transactions");
    scene.stop();
}

#[test]
fn what_was_planted_is_found_and_a_flow_that_is_held_as_ended_is_none() {
    let mut scene = scene();
    scene.sql(
        "UPDATE gateway_groups SET name = 'moved';
         INSERT INTO actor_groups (id, account_id, name, inserted_at, updated_at) VALUES
             ('00000000-0000-4000-8000-0000000000a9', '00000000-0000-4000-8000-0000000000a0', 'gone', now(), now());
         DELETE FROM actor_groups WHERE name = 'gone';
         INSERT INTO flows (id, account_id, policy_id, client_id, gateway_id, resource_id, token_id,
                            actor_group_membership_id, client_remote_ip, client_user_agent, gateway_remote_ip, inserted_at)
             VALUES ('00000000-0000-4000-8000-0000000000ff', '00000000-0000-4000-8000-0000000000a0',
                     '00000000-0000-4000-8000-0000000000f1', '00000000-0000-4000-8000-0000000000c1',
                     '00000000-0000-4000-8000-0000000000d1', '00000000-0000-4000-8000-000000000b01',
                     '00000000-0000-4000-8000-0000000000e1', '00000000-0000-4000-8000-0000000000a3',
                     '192.0.2.1', 'x', '192.0.2.2', now());
         UPDATE resources SET address = 'b.example' WHERE id = '00000000-0000-4000-8000-000000000b01'",
    );
    let records = scene.records();
    let clean = check(&scene, &[ACCOUNT]);
    assert_eq!((clean.differences.as_slice(), clean.ended_flows.len()), ([].as_slice(), 1), "{clean:?}");

    // Records that the bridge never wrote: an older version of a row, a row that is gone, and a row's end.
    let first = |table: &str, op: Op| {
        let is_it = |record: &&Record| {
            let change = record.change();
            change.is_some_and(|change| change.source.table == table && change.op == op)
        };
        records.iter().find(is_it).unwrap_or_else(|| panic!("no {op:?} of {table}"))
    };
    let older = first("gateway_groups", Op::Create);
    let gone = records.iter().rfind(|record| {
        record.change().is_some_and(|change| change.source.table == "actor_groups" && change.op == Op::Create)
    });
    let last = records.iter().rfind(|record| record.partition == older.partition).expect("a record");
    let mut planter = Planter::new(&scene, last);
    planter.plant(older, older.raw.as_deref());
    planter.plant(gone.expect("a group"), gone.and_then(|gone| gone.raw.as_deref()));
    planter.plant(first("gateways", Op::Create), None);

    // A user that may read and nothing more; the program says it, and lists each.
    let database = &scene.world.database;
    let role = format!("reader_{}", database.database);
    scene.sql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'reads'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    ));
    let url = format!("postgres://{role}:reads@{}:{}/{}", database.host, database.port, database.database);
    let (_folder, file) = configuration_file(&scene);
    let ran = once::run(&file, &["verify", "--json", "--database", &url]);
    scene.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    assert_eq!(ran.code, Some(1), "{}", ran.said);
    let mut lines: Vec<Value> = ran.lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let counts = lines.pop().expect("the counts");
    assert_eq!(counts["differences"], 3, "{counts}");
    assert_eq!(counts["ended_flows"], serde_json::json!(["00000000-0000-4000-8000-0000000000ff"]));
    let told: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (line["table"].as_str().unwrap_or_default(), line["difference"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(told, [("actor_groups", "extra"), ("gateway_groups", "columns"), ("gateways", "missing")]);
    assert_eq!(lines[1]["columns"][0]["state"], "\"site\"");
    assert_eq!(lines[1]["columns"][0]["database"], "\"moved\"");
    assert_eq!(lines[2]["key"], GATEWAY.to_string());

    // Of another account nothing is told.
    assert_eq!(check(&scene, &["00000000-0000-4000-8000-0000000000b9"]).differences, []);
    scene.stop();
}

#[test]
fn a_database_that_is_no_source_of_the_topic_is_refused() {
    let (scene, other) = (scene(), scene());
    let (_folder, file) = configuration_file(&scene);
    let ran = once::run(&file, &["verify", "--database", &other.world.database.url()]);
    assert_eq!(ran.code, Some(1), "{}", ran.said);
    assert!(ran.said.contains("no source of the topic"), "{}", ran.said);
    let ran = once::run(&file, &["verify", "--database", &format!("{}?sslmode=require", scene.world.database.url())]);
    assert_eq!(ran.code, Some(1), "{}", ran.said);
    assert!(ran.said.contains("TLS"), "the server has none: {}", ran.said);
    other.stop();
    scene.stop();
}

/// Writes records by hand, behind the newest of a partition.
struct Planter {
    producer: BaseProducer,
    topic: String,
    partition: i32,
    source: u16,
    position: Position,
}

impl Planter {
    fn new(scene: &Scene, last: &Record) -> Self {
        let producer = ClientConfig::new().set("bootstrap.servers", &scene.world.bootstrap).create();
        Self {
            producer: producer.expect("a producer"),
            topic: scene.world.topic.clone(),
            partition: last.partition,
            source: last.header.source,
            position: last.header.position,
        }
    }

    /// A transaction of one record, under another's key.
    fn plant(&mut self, of: &Record, value: Option<&[u8]>) {
        let previous = self.position;
        let commit_lsn = CommitLsn::new(previous.commit_lsn.raw() + 1);
        self.position = Position { commit_lsn, seq: Seq(8), ..previous };
        let header = Header {
            end_of_transaction: true,
            identity_only: false,
            source: self.source,
            position: self.position,
            previous,
        };
        let bytes = header.encode();
        let headers = OwnedHeaders::new().insert(KafkaHeader { key: HEADER_NAME, value: Some(&bytes) });
        let mut record = BaseRecord::to(&self.topic).partition(self.partition).key(&of.key).headers(headers);
        record.payload = value;
        record.timestamp = Some(of.timestamp_ms);
        assert!(self.producer.send::<Vec<u8>, [u8]>(record).is_ok());
        self.producer.flush(Duration::from_secs(30)).expect("it is delivered");
    }
}
