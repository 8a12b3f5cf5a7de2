//! Random histories: transactions over all tables that a database could have committed, cascades and reloads included.

use std::sync::Arc;

use penstock_access::change::{Action, Change, Commit};
use penstock_access::rows::*;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::build::{
    NOW, account, client, condition, flow, gateway, id, membership, policy, position, resource, site, token,
};
use crate::reference::Model;

/// Numbers that make every choice; when they are used up the history is over.
#[derive(Debug)]
pub struct Choices {
    numbers: std::vec::IntoIter<u32>,
}

impl Choices {
    pub fn new(numbers: Vec<u32>) -> Self {
        Self { numbers: numbers.into_iter() }
    }

    pub fn is_over(&self) -> bool {
        self.numbers.len() == 0
    }

    /// Below `n`.
    pub fn below(&mut self, n: u32) -> u32 {
        self.numbers.next().unwrap_or(0) % n
    }

    /// One in `n`.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == n - 1
    }

    pub fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u32) as usize].clone()
    }

    /// One of the ids of a letter.
    pub fn id(&mut self, letter: &str) -> Uuid {
        let count = COUNTS.iter().find(|(of, _, _)| *of == letter).expect("a letter").2;
        // The first of each table are those that reach something.
        let number = if self.one_in(2) { 0 } else { self.below(count) };
        id(&format!("{letter}{}", 1 + number))
    }
}

/// How many rows of each table there may be.
const COUNTS: [(&str, Table, u32); 13] = [
    ("x", Table::Accounts, 1),
    ("a", Table::Actors, 2),
    ("g", Table::ActorGroups, 2),
    ("m", Table::ActorGroupMemberships, 4),
    ("o", Table::AuthProviders, 2),
    ("i", Table::AuthIdentities, 2),
    ("t", Table::Tokens, 3),
    ("c", Table::Clients, 3),
    ("s", Table::GatewayGroups, 2),
    ("w", Table::Gateways, 2),
    ("r", Table::Resources, 3),
    ("p", Table::Policies, 4),
    ("f", Table::Flows, 6),
];

/// How often each table is written.
const WRITTEN: [&str; 26] = [
    "x", "a", "g", "m", "m", "m", "o", "i", "t", "t", "c", "c", "c", "s", "w", "r", "r", "r", "p", "p", "p", "f", "f",
    "f", "n", "n",
];

/// A random row of a table.
fn random_row(letter: &str, choices: &mut Choices, now: i64) -> Row {
    let live = !choices.one_in(12);
    match letter {
        "x" => Row::Account(AccountRow {
            live: live || !choices.one_in(3),
            slug: choices.of(&["acme", "acme", "other"]).into(),
            search_domain: choices.of(&[None, None, Some("a.b".into())]),
            ..account()
        }),
        "a" => Row::Actor(ActorRow { live }),
        "g" => Row::ActorGroup(ActorGroupRow { live }),
        "m" => Row::Membership(MembershipRow { actor: choices.id("a"), group: choices.id("g") }),
        "o" => Row::AuthProvider(AuthProviderRow { live }),
        "i" => Row::AuthIdentity(AuthIdentityRow { live, provider: choices.id("o") }),
        "t" => {
            let expires_at = choices.one_in(3).then(|| soon(choices, now));
            Row::Token(TokenRow { live, actor: Some(choices.id("a")), expires_at })
        }
        "c" => Row::Client(ClientRow {
            live,
            actor: choices.id("a"),
            identity: choices.one_in(2).then(|| choices.id("i")),
            last_used_token: Some(choices.id("t")),
            public_key: choices.of(&["key", "key", "new key"]).into(),
            last_seen_version: choices
                .of(&[Some("1.1.5"), Some("1.2.9"), Some("1.4.0"), Some("1.4.0"), None])
                .map(Arc::from),
            region: choices.of(&[Some("UA"), Some("UA"), Some("US"), None]).map(Arc::from),
            coordinates: choices.of(&[None, Some((50.0, 30.0))]),
            verified: choices.one_in(2),
            ..client("a1")
        }),
        "s" => Row::GatewayGroup(GatewayGroupRow { live, ..site(choices.of(&["one", "two"])) }),
        "w" => Row::Gateway(GatewayRow {
            live,
            group: choices.id("s"),
            last_used_token: Some(choices.id("t")),
            ipv4: choices.of(&[gateway("s1").ipv4, gateway("s1").ipv4, None]),
            last_seen_version: choices
                .of(&[Some("1.4.0"), Some("1.4.1"), Some("1.1.0"), Some("1.1.0"), None])
                .map(Arc::from),
            coordinates: choices.of(&[None, Some((50.1, 30.0)), Some((10.0, 10.0))]),
            ..gateway("s1")
        }),
        "r" => Row::Resource(random_resource(live, choices)),
        "p" => Row::Policy(PolicyRow {
            live,
            group: choices.id("g"),
            resource: choices.id("r"),
            conditions: random_conditions(choices),
        }),
        "f" => Row::Flow(FlowRow {
            live: !choices.one_in(20),
            policy: choices.id("p"),
            client: choices.id("c"),
            gateway: choices.id("w"),
            resource: choices.id("r"),
            token: choices.id("t"),
            membership: choices.id("m"),
            expires_at: choices.one_in(2).then(|| soon(choices, now)),
        }),
        other => panic!("no rows of {other}"),
    }
}

fn soon(choices: &mut Choices, now: i64) -> Micros {
    let after = choices.of(&[-5, 0, 5, 30, 3_600, 40_000]);
    Micros((now + after) * 1_000_000 + i64::from(choices.below(2)) * 999_999)
}

fn random_resource(live: bool, choices: &mut Choices) -> ResourceRow {
    let (kind, address) = choices.of(&[
        (ResourceKind::Dns, Some("one.example.com")),
        (ResourceKind::Dns, Some("one.example.com")),
        (ResourceKind::Dns, Some("**.example.com")),
        (ResourceKind::Dns, Some("*.example.com")),
        (ResourceKind::Dns, Some("a*.example.com")),
        (ResourceKind::Ip, Some("10.0.0.7")),
        (ResourceKind::Ip, Some("fd00::7")),
        (ResourceKind::Cidr, Some("10.1.0.0/16")),
        (ResourceKind::Internet, None),
    ]);
    let tcp = |first, last| Filter { protocol: Protocol::Tcp, ports: Some((first, last)) };
    let icmp = Filter { protocol: Protocol::Icmp, ports: None };
    let filters = choices.of(&[vec![], vec![], vec![tcp(80, 90)], vec![tcp(80, 85)], vec![tcp(80, 90), icmp]]);
    ResourceRow {
        live,
        name: choices.of(&["a resource", "another"]).into(),
        kind,
        address: address.map(Arc::from),
        ip_stack: if kind == ResourceKind::Dns { choices.of(&[None, None, Some(IpStack::Dual)]) } else { None },
        filters: filters.into(),
        ..resource("")
    }
}

fn random_conditions(choices: &mut Choices) -> Option<Arc<[Option<Json>]>> {
    if choices.one_in(20) {
        return None;
    }
    let count = choices.of(&[0, 0, 1, 1, 1, 2]);
    Some((0..count).map(|_| random_condition(choices)).collect())
}

fn random_condition(choices: &mut Choices) -> Option<Json> {
    let provider = id("o1").to_string();
    match choices.below(12) {
        0 => condition("remote_ip_location_region", "is_in", &["UA", "DE"]),
        1 => condition("remote_ip_location_region", "is_not_in", &["US"]),
        2 => condition("provider_id", "is_in", &[&provider]),
        3 => condition("provider_id", "is_not_in", &[&provider]),
        4 => condition("client_verified", "is", &["true"]),
        5 => condition("weather", "is_in", &["rain"]),
        6 if choices.one_in(3) => None,
        _ => {
            // The same ranges every day.
            let ranges = choices.of(&[
                "10:00:00-10:00:30,10:00:45-10:20:00,12:00:00-23:00:00",
                "00:00:00-11:00:00,11:00:00-12:00:00",
                "true",
                "00:00:00-10:10:00,10:10:01-10:30:00,20:00:00-23:59:59",
            ]);
            let days: Vec<String> = "MTWRFSU".chars().map(|day| format!("{day}/{ranges}/UTC")).collect();
            let ranges: Vec<&str> = days.iter().map(String::as_str).collect();
            condition("current_utc_datetime", "is_in_day_of_week_time_ranges", &ranges)
        }
    }
}

/// A world in which a client reaches something.
pub fn first_commit() -> Commit {
    let rows = [
        ("x1", Row::Account(account())),
        ("a1", Row::Actor(ActorRow { live: true })),
        ("g1", Row::ActorGroup(ActorGroupRow { live: true })),
        ("m1", Row::Membership(membership("a1", "g1"))),
        ("t1", Row::Token(token(Some("a1"), None))),
        ("t2", Row::Token(token(None, None))),
        ("c1", Row::Client(client("a1"))),
        ("s1", Row::GatewayGroup(site("one"))),
        ("w1", Row::Gateway(gateway("s1"))),
        ("r1", Row::Resource(resource("one.example.com"))),
        ("p1", Row::Policy(policy("g1", "r1"))),
        ("f1", Row::Flow(flow("r1", Some(NOW + 3_600)))),
    ];
    let mut draft = Draft { number: 1, changes: Vec::new() };
    for (name, row) in rows {
        draft.push(row.table(), Action::Insert(RowId::Id(id(name)), row));
    }
    let connection = RowId::Connection { resource: id("r1"), gateway_group: id("s1") };
    draft.push(Table::ResourceConnections, Action::Insert(connection, Row::ResourceConnection));
    draft.commit()
}

/// A transaction in the making.
struct Draft {
    number: u64,
    changes: Vec<Change>,
}

impl Draft {
    fn push(&mut self, table: Table, action: Action) {
        let position = position(self.number, self.changes.len());
        self.changes.push(Change { position, table, action });
    }

    fn commit(self) -> Commit {
        let last = self.changes.last().map_or(position(self.number, 0), |change| change.position);
        Commit { position: last, time_us: 0, changes: self.changes }
    }
}

/// The next transaction after what the model holds.
pub fn random_commit(number: u64, model: &Model, choices: &mut Choices, now: i64) -> Commit {
    let mut draft = Draft { number, changes: Vec::new() };
    let mut shadow = model.clone();
    for _ in 0..1 + choices.below(4) {
        let before = draft.changes.len();
        random_act(&shadow, choices, now, &mut draft);
        // What follows in the transaction builds on what stands before it.
        shadow.position = model.position;
        let so_far = Commit {
            position: position(number, draft.changes.len()),
            time_us: 0,
            changes: draft.changes[before..].to_vec(),
        };
        shadow.apply(&so_far);
    }
    draft.commit()
}

fn random_act(model: &Model, choices: &mut Choices, now: i64, draft: &mut Draft) {
    if choices.one_in(3) {
        return heal(model, choices, draft);
    }
    if choices.one_in(40) {
        return reload(model, choices, draft);
    }
    if choices.one_in(120) {
        let (_, table, _) = choices.of(&COUNTS);
        return draft.push(choices.of(&[table, Table::ResourceConnections]), Action::Truncate);
    }
    let letter = choices.of(&WRITTEN);
    let (table, key) = match letter {
        "n" => {
            let (resource, gateway_group) = (choices.id("r"), choices.id("s"));
            (Table::ResourceConnections, RowId::Connection { resource, gateway_group })
        }
        letter => (crate::build::table(letter), RowId::Id(choices.id(letter))),
    };
    let held = model.rows.contains_key(&(table, key));
    if held && choices.one_in(7) {
        draft.push(table, Action::Delete(key));
        return cascade(model, key, choices, draft);
    }
    let row = if letter == "n" { Row::ResourceConnection } else { random_row(letter, choices, now) };
    // What rows name, and addresses, change less often than the rest.
    let row = match (row, model.rows.get(&(table, key))) {
        (Row::Flow(new), Some((_, Row::Flow(old)))) if !choices.one_in(4) => {
            Row::Flow(FlowRow { expires_at: new.expires_at, ..old.clone() })
        }
        (Row::Resource(new), Some((_, Row::Resource(old)))) if !choices.one_in(3) => {
            Row::Resource(ResourceRow { kind: old.kind, address: old.address.clone(), ip_stack: old.ip_stack, ..new })
        }
        (Row::Policy(new), Some((_, Row::Policy(old)))) if !choices.one_in(3) => {
            Row::Policy(PolicyRow { group: old.group, resource: old.resource, ..new })
        }
        (row, _) => row,
    };
    draft.push(table, if held { Action::Update(key, row) } else { Action::Insert(key, row) });
}

/// Whatever is missing of the first world, or not live, or was changed, is as it was: else soon nobody reaches anything.
fn heal(model: &Model, choices: &mut Choices, draft: &mut Draft) {
    let mut lost = |change: &Change| {
        let (key, row) = match &change.action {
            // Whose expiry would have passed by now.
            Action::Insert(key, Row::Flow(row)) => (*key, Row::Flow(FlowRow { expires_at: None, ..row.clone() })),
            Action::Insert(key, row) => (*key, row.clone()),
            other => panic!("the first commit only inserts: {other:?}"),
        };
        match model.rows.get(&(change.table, key)) {
            None => Some((change.table, Action::Insert(key, row))),
            Some((_, Row::Policy(held))) if held.live && !choices.one_in(8) => None,
            Some((_, held)) if *held != row && !choices.one_in(3) => Some((change.table, Action::Update(key, row))),
            Some(_) => None,
        }
    };
    let lost: Vec<(Table, Action)> = first_commit().changes.iter().filter_map(&mut lost).collect();
    lost.into_iter().take(3).for_each(|(table, action)| draft.push(table, action));
}

/// Rows that name a deleted row go with it.
fn cascade(model: &Model, parent: RowId, choices: &mut Choices, draft: &mut Draft) {
    let RowId::Id(parent) = parent else { return };
    if choices.one_in(4) {
        return;
    }
    for ((table, key), (_, row)) in &model.rows {
        if names(*key, row, parent) {
            draft.push(*table, Action::Delete(*key));
        }
    }
}

fn names(key: RowId, row: &Row, parent: Uuid) -> bool {
    match (key, row) {
        (RowId::Connection { resource, gateway_group }, _) => resource == parent || gateway_group == parent,
        (_, Row::Membership(row)) => row.actor == parent || row.group == parent,
        (_, Row::AuthIdentity(row)) => row.provider == parent,
        (_, Row::Token(row)) => row.actor == Some(parent),
        (_, Row::Client(row)) => row.actor == parent,
        (_, Row::Gateway(row)) => row.group == parent,
        (_, Row::Policy(row)) => row.group == parent || row.resource == parent,
        (_, Row::Flow(row)) => {
            [row.policy, row.client, row.gateway, row.resource, row.token, row.membership].contains(&parent)
        }
        _ => false,
    }
}

/// A table is read again: rows that are there, perhaps one that nobody saw come, not one whose delete nobody saw.
fn reload(model: &Model, choices: &mut Choices, draft: &mut Draft) {
    let (letter, table, _) = choices.of(&COUNTS);
    let begin = position(draft.number, draft.changes.len());
    let missed = choices.one_in(3).then(|| RowId::Id(choices.id(letter)));
    for ((of, key), (_, row)) in model.rows.iter().filter(|((of, _), _)| *of == table) {
        if Some(*key) != missed {
            draft.push(*of, Action::Load(*key, row.clone()));
        }
    }
    let unseen = RowId::Id(choices.id(letter));
    if choices.one_in(2) && !model.rows.contains_key(&(table, unseen)) && Some(unseen) != missed {
        draft.push(table, Action::Load(unseen, random_row(letter, choices, NOW)));
    }
    draft.push(table, Action::Sweep { begin });
}
