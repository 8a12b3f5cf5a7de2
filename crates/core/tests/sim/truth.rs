//! What accounts looked like in the database, and when; who could reach what, by the access rules told once more and simply.

use std::collections::{BTreeMap, BTreeSet};

use penstock_access::account::Account;
use penstock_access::replica::Replica;
use penstock_access::rows::{self, Micros, RowId};

use crate::postgres::{Commit, Event, State, apply};
use crate::tables::{
    ACCOUNTS, ACTORS, CLIENTS, CONNECTIONS, GROUPS, MEMBERSHIPS, POLICIES, RESOURCES, Row, SITES, TABLES, TOKENS,
    by_name,
};

/// An account's rows and, of its clients, what they may reach: all that can be compared, as text.
pub type Picture = BTreeMap<(usize, String), String>;

/// Where a picture tells what a client may reach.
const ALLOWED: usize = TABLES.len();

#[derive(Debug)]
pub struct Truth {
    rows: State,
    /// By account: each picture, and since when.
    history: BTreeMap<String, Vec<(i64, Picture)>>,
}

impl Truth {
    pub fn new(rows: &State, now: i64) -> Self {
        let mut truth = Self { rows: rows.clone(), history: BTreeMap::new() };
        for number in 0..crate::workload::ACCOUNT_COUNT {
            let account = crate::workload::account(number);
            let picture = truth.picture(&account);
            truth.history.insert(account, vec![(now, picture)]);
        }
        truth
    }

    pub fn committed(&mut self, commit: &Commit) {
        let mut touched = BTreeSet::new();
        for event in &commit.events {
            match event {
                Event::Insert(table, row) | Event::Delete(table, row) => {
                    touched.insert(TABLES[*table].account_of(row).to_owned());
                }
                Event::Update(table, old, new) => {
                    touched.extend([old, new].map(|row| TABLES[*table].account_of(row).to_owned()));
                }
                Event::Truncate(_) => touched.extend(self.history.keys().cloned()),
                Event::Message(..) => {}
            }
            apply(&mut self.rows, event);
        }
        for account in touched {
            let picture = self.picture(&account);
            self.history.entry(account).or_default().push((commit.time_us, picture));
        }
    }

    pub fn accounts(&self) -> impl Iterator<Item = &String> {
        self.history.keys()
    }

    /// Whether the account looked like this at an instant or later.
    pub fn was(&self, account: &str, picture: &Picture, since: i64) -> bool {
        let history = &self.history[account];
        // What was committed at that very instant may be in it or not.
        let first = history.iter().rposition(|(time, _)| *time < since).unwrap_or(0);
        history[first..].iter().any(|(_, past)| past == picture)
    }

    pub fn newest(&self, account: &str) -> &Picture {
        &self.history[account].last().expect("it looked like something from the beginning").1
    }

    fn picture(&self, account: &str) -> Picture {
        let is_its = |((table, _), row): &(&(usize, Vec<String>), &Row)| TABLES[*table].account_of(row) == account;
        let rows: BTreeMap<(usize, &str), &Row> =
            self.rows.iter().filter(is_its).map(|((table, key), row)| ((*table, key[0].as_str()), row)).collect();
        let mut picture = Picture::new();
        for ((table, key), row) in self.rows.iter().filter(is_its) {
            picture.insert((*table, key.join(" ")), told(*table, row));
        }
        let of = |table: usize| rows.iter().filter(move |((of, _), _)| *of == table);
        let connections: Vec<&Row> =
            self.rows.iter().filter(is_its).filter(|((of, _), _)| *of == CONNECTIONS).map(|(_, row)| row).collect();
        let lives = |table: usize, id: &str| rows.get(&(table, id)).is_some_and(|row| is_live(table, row));
        for ((_, client), row) in of(CLIENTS).filter(|(_, row)| is_live(CLIENTS, row)) {
            let actor = cell(row, CLIENTS, "actor_id");
            let is_member = |group: &str| {
                of(MEMBERSHIPS).any(|(_, row)| {
                    cell(row, MEMBERSHIPS, "actor_id") == actor && cell(row, MEMBERSHIPS, "group_id") == group
                })
            };
            let grants = |(_, policy): &(&(usize, &str), &&Row)| {
                let group = cell(policy, POLICIES, "actor_group_id");
                is_live(POLICIES, policy) && lives(GROUPS, group) && is_member(group)
            };
            let is_connected = |resource: &str| {
                connections.iter().any(|row| {
                    cell(row, CONNECTIONS, "resource_id") == resource
                        && lives(SITES, cell(row, CONNECTIONS, "gateway_group_id"))
                })
            };
            let mut allowed = BTreeSet::new();
            if lives(ACCOUNTS, account) && lives(ACTORS, actor) {
                for (_, policy) in of(POLICIES).filter(grants) {
                    let resource = cell(policy, POLICIES, "resource_id");
                    if lives(RESOURCES, resource) && is_connected(resource) {
                        allowed.insert(resource.to_owned());
                    }
                }
            }
            picture.insert((ALLOWED, (*client).to_owned()), Vec::from_iter(allowed).join(" "));
        }
        picture
    }
}

fn cell<'a>(row: &'a Row, table: usize, column: &str) -> &'a str {
    row[TABLES[table].column(column)].as_deref().unwrap_or("")
}

fn is_live(table: usize, row: &Row) -> bool {
    cell(row, table, "deleted_at").is_empty()
}

/// What is compared of a row.
fn told(table: usize, row: &Row) -> String {
    let cell = |column| cell(row, table, column);
    let live = || is_live(table, row);
    match table {
        ACCOUNTS => format!("{} {}", live(), cell("slug")),
        ACTORS | GROUPS => live().to_string(),
        MEMBERSHIPS => format!("{} {}", cell("actor_id"), cell("group_id")),
        TOKENS => format!("{} {}", live(), cell("actor_id")),
        CLIENTS => format!("{} {} {}", live(), cell("actor_id"), cell("public_key")),
        SITES | RESOURCES => format!("{} {}", live(), cell("name")),
        CONNECTIONS => String::new(),
        POLICIES => format!("{} {} {}", live(), cell("actor_group_id"), cell("resource_id")),
        other => panic!("there is no table {other}"),
    }
}

/// The same, as a reader holds it.
pub fn held(replica: &Replica, account: &str, now: Micros) -> Picture {
    let mut picture = Picture::new();
    let Some(held) = replica.account(account) else { return picture };
    for row in Account::snapshot(held).rows {
        let table = by_name(row.table.name()).unwrap_or_else(|| panic!("rows of {:?}", row.table));
        let id = match row.id {
            RowId::Id(id) => id.to_string(),
            RowId::Connection { resource, gateway_group } => format!("{resource} {gateway_group}"),
        };
        picture.insert((table, id), told_by(&row.row));
    }
    for client in replica.show(account, now).map(|show| show.clients).unwrap_or_default() {
        let allowed: Vec<String> = client.allowed.iter().map(ToString::to_string).collect();
        picture.insert((ALLOWED, client.id.to_string()), allowed.join(" "));
    }
    picture
}

fn told_by(row: &rows::Row) -> String {
    use rows::Row as Held;
    match row {
        Held::Account(row) => format!("{} {}", row.live, row.slug),
        Held::Actor(row) => row.live.to_string(),
        Held::ActorGroup(row) => row.live.to_string(),
        Held::Membership(row) => format!("{} {}", row.actor, row.group),
        Held::Token(row) => format!("{} {}", row.live, row.actor.map(|id| id.to_string()).unwrap_or_default()),
        Held::Client(row) => format!("{} {} {}", row.live, row.actor, row.public_key),
        Held::GatewayGroup(row) => format!("{} {}", row.live, row.name),
        Held::Resource(row) => format!("{} {}", row.live, row.name),
        Held::ResourceConnection => String::new(),
        Held::Policy(row) => format!("{} {} {}", row.live, row.group, row.resource),
        other @ (Held::AuthProvider(_) | Held::AuthIdentity(_) | Held::Gateway(_) | Held::Flow(_)) => {
            panic!("{other:?} was never written")
        }
    }
}
