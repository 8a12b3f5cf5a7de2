//! What an account costs: memory, an answer of `authorize`, a change. Prints JSON; run it with `--release`.
//!
//! The world: 10,000 clients with 50 of 500 resources each, by 100 groups of which each actor is in ten, and four gateways
//! online. Memory is measured with two policies to a resource, answers with five, all of which reach the client; each has
//! three conditions. The memory is what the allocator was asked for; the clock is read only out here.

// A measurement reads the clock, and an allocator that counts is unsafe by its nature.
#![allow(unsafe_code, clippy::disallowed_types, clippy::disallowed_methods)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use penstock_access::account::{Account, ClientOptions, Options};
use penstock_access::authorize::{Answer, Request};
use penstock_access::change::{Action, Change, Commit};
use penstock_access::channel::Event;
use penstock_access::channel::push::{Message, Push};
use penstock_access::knowledge::Knowledge;
use penstock_access::rows::*;
use penstock_wire::lsn::CommitLsn;
use penstock_wire::position::{Position, Seq};
use serde_json::json;
use uuid::Uuid;

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CLIENTS: u64 = 10_000;
const RESOURCES: u64 = 500;
const GROUPS: u64 = 100;
const GROUPS_OF_ACTOR: u64 = 10;
const GATEWAYS: u64 = 4;
/// Friday 2021-01-01 10:00:00Z.
const NOW: Micros = Micros(1_609_495_200_000_000);

/// Ids as random as those of a database, and the same each time.
fn id(kind: u64, n: u64) -> Uuid {
    let mix = |mut word: u64| {
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    let seed = (kind << 48) | (n + 1);
    Uuid::from_u64_pair(mix(seed), mix(seed ^ 0x5555_5555_5555_5555))
}

const ACCOUNT: u64 = 1;
const ACTOR: u64 = 2;
const GROUP: u64 = 3;
const MEMBERSHIP: u64 = 4;
const TOKEN: u64 = 5;
const CLIENT: u64 = 6;
const SITE: u64 = 7;
const GATEWAY: u64 = 8;
const RESOURCE: u64 = 9;
const POLICY: u64 = 10;
const FLOW: u64 = 11;

fn conditions() -> Arc<[Option<serde_json::Value>]> {
    let condition = |property, operator, values: &[&str]| {
        Some(json!({"property": property, "operator": operator, "values": values}))
    };
    let times: Vec<String> = "MTWRFSU".chars().map(|day| format!("{day}/08:00:00-18:00:00/UTC")).collect();
    let times: Vec<&str> = times.iter().map(String::as_str).collect();
    [
        condition("remote_ip_location_region", "is_in", &["DE", "FR", "UA", "US"]),
        condition("remote_ip", "is_in_cidr", &["10.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"]),
        condition("current_utc_datetime", "is_in_day_of_week_time_ranges", &times),
    ]
    .into()
}

fn world(policies_of_resource: u64) -> Vec<(Uuid, Row)> {
    let mut rows = vec![(
        id(ACCOUNT, 0),
        Row::Account(AccountRow { live: true, slug: "acme".into(), search_domain: None, upstream_dns: Vec::new() }),
    )];
    for n in 0..GROUPS {
        rows.push((id(GROUP, n), Row::ActorGroup(ActorGroupRow { live: true })));
    }
    for n in 0..GATEWAYS {
        let name = format!("site {n}").into();
        rows.push((id(SITE, n), Row::GatewayGroup(GatewayGroupRow { live: true, name })));
        rows.push((id(GATEWAY, n), Row::Gateway(gateway(n))));
    }
    rows.push((id(TOKEN, CLIENTS), Row::Token(TokenRow { live: true, actor: None, expires_at: None })));
    for n in 0..CLIENTS {
        rows.push((id(ACTOR, n), Row::Actor(ActorRow { live: true })));
        let expires_at = Some(Micros(NOW.0 + 86_400_000_000));
        rows.push((id(TOKEN, n), Row::Token(TokenRow { live: true, actor: Some(id(ACTOR, n)), expires_at })));
        rows.push((id(CLIENT, n), Row::Client(client(n, "UA"))));
        for m in 0..GROUPS_OF_ACTOR {
            let row = MembershipRow { actor: id(ACTOR, n), group: id(GROUP, group_of(policies_of_resource, n, m)) };
            rows.push((id(MEMBERSHIP, n * GROUPS_OF_ACTOR + m), Row::Membership(row)));
        }
    }
    for n in 0..RESOURCES {
        rows.push((id(RESOURCE, n), Row::Resource(resource(n))));
    }
    rows
}

/// Actors are in whole blocks of groups.
fn group_of(policies_of_resource: u64, client: u64, m: u64) -> u64 {
    (client * policies_of_resource + m) % GROUPS
}

/// A resource is given to one block of groups, as many as it has policies: a tenth of all resources to an actor's ten.
fn policy(policies_of_resource: u64, resource: u64, m: u64) -> PolicyRow {
    let group = (resource * policies_of_resource + m) % GROUPS;
    PolicyRow { live: true, group: id(GROUP, group), resource: id(RESOURCE, resource), conditions: Some(conditions()) }
}

fn client(n: u64, region: &str) -> ClientRow {
    ClientRow {
        live: true,
        actor: id(ACTOR, n),
        identity: None,
        last_used_token: Some(id(TOKEN, n)),
        public_key: format!("{n:044}").into(),
        ipv4: Some(std::net::Ipv4Addr::from_bits(0x6440_0000 + n as u32).into()),
        ipv6: Some(std::net::Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(n)).into()),
        last_seen_version: Some("1.4.2".into()),
        remote_ip: Some("198.51.100.7".parse().expect("an address")),
        region: Some(region.into()),
        coordinates: Some((50.45, 30.52)),
        verified: true,
    }
}

fn gateway(n: u64) -> GatewayRow {
    GatewayRow {
        live: true,
        group: id(SITE, n),
        last_used_token: Some(id(TOKEN, CLIENTS)),
        public_key: format!("{n:044}").into(),
        ipv4: None,
        ipv6: None,
        last_seen_version: Some("1.4.1".into()),
        coordinates: Some((48.0 + n as f64, 11.5)),
    }
}

fn resource(n: u64) -> ResourceRow {
    let filter = Filter { protocol: Protocol::Tcp, ports: Some((443, 443)) };
    ResourceRow {
        live: true,
        name: format!("resource {n}").into(),
        kind: ResourceKind::Dns,
        address: Some(format!("host{n}.example.com").into()),
        address_description: Some("what is shown to people".into()),
        ip_stack: None,
        filters: [filter].into(),
    }
}

/// Transactions one after the other.
struct Writer {
    commits: u64,
}

impl Writer {
    fn commit(&mut self, acts: Vec<(Table, Action)>) -> Commit {
        self.commits += 1;
        let at = |index: u64| Position {
            epoch: 1,
            commit_lsn: CommitLsn::new(self.commits * 0x100),
            seq: Seq(8 + 8 * index),
        };
        let changes: Vec<Change> =
            acts.into_iter().zip(0..).map(|((table, action), n)| Change { position: at(n), table, action }).collect();
        Commit { position: changes.last().map_or(at(0), |change| change.position), time_us: NOW.0, changes }
    }
}

fn insert(id: Uuid, row: Row) -> (Table, Action) {
    (row.table(), Action::Insert(RowId::Id(id), row))
}

fn settle(account: &mut Account, commit: &Commit) -> usize {
    account.apply(commit, NOW);
    account.settle(NOW);
    std::iter::from_fn(|| account.poll_push()).count()
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// A world of its own, with nobody listening yet.
fn build(policies_of_resource: u64, writer: &mut Writer) -> Account {
    let mut account = Account::new(&id(ACCOUNT, 0).to_string(), Arc::new(Options::default()));
    for (id, row) in world(policies_of_resource) {
        account.apply(&writer.commit(vec![insert(id, row)]), NOW);
    }
    for n in 0..RESOURCES {
        for m in 0..GATEWAYS {
            let key = RowId::Connection { resource: id(RESOURCE, n), gateway_group: id(SITE, m) };
            let connected = (Table::ResourceConnections, Action::Insert(key, Row::ResourceConnection));
            account.apply(&writer.commit(vec![connected]), NOW);
        }
        for m in 0..policies_of_resource {
            let row = Row::Policy(policy(policies_of_resource, n, m));
            account.apply(&writer.commit(vec![insert(id(POLICY, n * policies_of_resource + m), row)]), NOW);
        }
    }
    account.set_knowledge(Knowledge::Known { as_of: NOW }, false, NOW);
    account
}

/// Opens a channel for every client and gateway; how many resources they were sent.
fn subscribe(account: &mut Account) -> usize {
    for n in 0..GATEWAYS {
        account.subscribe_gateway(id(GATEWAY, n), None, NOW).expect("the gateway is live");
    }
    let mut resources = 0;
    for n in 0..CLIENTS {
        account.subscribe_client(id(CLIENT, n), None, ClientOptions::default(), NOW).expect("the client is live");
        while let Some((_, event)) = account.poll_push() {
            if let Event::Push(Message { push: Push::ClientInit { resources: sent, .. }, .. }) = event {
                resources += sent.len();
            }
        }
    }
    resources
}

fn main() {
    let mut writer = Writer { commits: 0 };
    let before = IN_USE.load(Ordering::Relaxed);
    let started = Instant::now();
    let mut account = build(2, &mut writer);
    let fold_ms = started.elapsed().as_secs_f64() * 1e3;
    let state_bytes = IN_USE.load(Ordering::Relaxed) - before;
    let started = Instant::now();
    let resources_sent = subscribe(&mut account);
    let subscribe_ms = started.elapsed().as_secs_f64() * 1e3;
    let memory = json!({
        "policies": RESOURCES * 2,
        "resources_sent": resources_sent,
        "state_bytes": state_bytes,
        "state_and_channels_bytes": IN_USE.load(Ordering::Relaxed) - before,
        "peak_bytes": PEAK.load(Ordering::Relaxed) - before,
        "fold_ms": fold_ms,
        "subscribe_ms": subscribe_ms,
    });
    let checkpoint = checkpoint(&account);
    drop(account);

    let mut account = build(5, &mut writer);
    subscribe(&mut account);
    let changes = changes(&mut account, &mut writer);
    for n in (1..CLIENTS).step_by(2) {
        let elsewhere = Row::Client(client(n, "JP"));
        settle(
            &mut account,
            &writer.commit(vec![(Table::Clients, Action::Update(RowId::Id(id(CLIENT, n)), elsewhere))]),
        );
    }
    let (authorize_ns, ok) = authorize(&account);
    let answers = json!({
        "policies": RESOURCES * 5,
        "p10_ns": quantile(&authorize_ns, 0.1),
        "median_ns": quantile(&authorize_ns, 0.5),
        "p99_ns": quantile(&authorize_ns, 0.99),
        "share_ok": ok,
    });
    println!("{:#}", json!({"memory": memory, "authorize": answers, "changes": changes, "checkpoint": checkpoint}));
}

/// What a checkpoint of the account costs: copying it, for which everything else waits, and what is done beside.
fn checkpoint(account: &Account) -> serde_json::Value {
    let mut copy_ms: Vec<f64> = (0..9)
        .map(|_| {
            let started = Instant::now();
            std::hint::black_box(account.snapshot());
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    copy_ms.sort_by(f64::total_cmp);
    let snapshot = account.snapshot();
    let started = Instant::now();
    let bytes = postcard::to_stdvec(&snapshot).expect("memory takes everything");
    let encode_ms = started.elapsed().as_secs_f64() * 1e3;
    let started = Instant::now();
    let read: penstock_access::account::snapshot::Snapshot = postcard::from_bytes(&bytes).expect("it was written so");
    let decode_ms = started.elapsed().as_secs_f64() * 1e3;
    let started = Instant::now();
    let restored = Account::restore(account.id(), Arc::new(Options::default()), &read, NOW);
    let restore_ms = started.elapsed().as_secs_f64() * 1e3;
    assert_eq!(restored.snapshot(), snapshot);
    json!({
        "rows": snapshot.rows.len(),
        "bytes": bytes.len(),
        "copy_ms": quantile(&copy_ms, 0.5),
        "encode_ms": encode_ms,
        "decode_ms": decode_ms,
        "restore_ms": restore_ms,
    })
}

/// One of those that the client's groups are given, where there are five policies to a resource.
fn resource_of(client: u64, n: u64) -> u64 {
    let blocks = GROUPS / 5;
    (client + n % (GROUPS_OF_ACTOR / 5)) % blocks + blocks * (n % (RESOURCES / blocks))
}

/// Nanoseconds of each answer, in order of size, and how many were `ok`.
fn authorize(account: &Account) -> (Vec<f64>, f64) {
    let online: Vec<Uuid> = (0..GATEWAYS).map(|n| id(GATEWAY, n)).collect();
    let (mut times, mut ok) = (Vec::new(), 0);
    let batch = 16;
    for n in 0..20_000_u64 {
        let requests: Vec<Request<'_>> = (0..batch)
            .map(|m| {
                let client = (n * batch + m).wrapping_mul(7_919) % CLIENTS;
                let resource = resource_of(client, n);
                Request {
                    client: id(CLIENT, client),
                    token: id(TOKEN, client),
                    resource: id(RESOURCE, resource),
                    online: &online,
                    flow: id(FLOW, n),
                }
            })
            .collect();
        let started = Instant::now();
        for request in &requests {
            ok += u64::from(matches!(std::hint::black_box(account.authorize(request, NOW)), Answer::Ok { .. }));
        }
        times.push(started.elapsed().as_secs_f64() * 1e9 / batch as f64);
    }
    times.sort_by(f64::total_cmp);
    (times, ok as f64 / (20_000 * batch) as f64)
}

/// What single changes cost, in microseconds, with how many pushes they made and how many index entries they walked.
fn changes(account: &mut Account, writer: &mut Writer) -> serde_json::Value {
    let membership = id(MEMBERSHIP, 0);
    let row = MembershipRow { actor: id(ACTOR, 0), group: id(GROUP, group_of(5, 0, 0)) };
    let policy_row = PolicyRow { live: false, ..policy(5, 0, 0) };
    let renamed = ResourceRow { name: "another name".into(), ..resource(0) };
    let key = |id| RowId::Id(id);
    let acts = [
        ("membership deleted", (Table::ActorGroupMemberships, Action::Delete(key(membership)))),
        ("membership inserted", insert(membership, Row::Membership(row))),
        ("policy disabled", (Table::Policies, Action::Update(key(id(POLICY, 0)), Row::Policy(policy_row)))),
        ("policy enabled", (Table::Policies, Action::Update(key(id(POLICY, 0)), Row::Policy(policy(5, 0, 0))))),
        ("resource renamed", (Table::Resources, Action::Update(key(id(RESOURCE, 0)), Row::Resource(renamed)))),
    ];
    let mut report = serde_json::Map::new();
    for (name, act) in acts {
        let commit = writer.commit(vec![act]);
        let (entries, started) = (account.entries_touched(), Instant::now());
        let pushes = settle(account, &commit);
        let us = started.elapsed().as_secs_f64() * 1e6;
        report.insert(
            name.to_owned(),
            json!({"us": us, "pushes": pushes, "index_entries": account.entries_touched() - entries}),
        );
    }
    report.into()
}
