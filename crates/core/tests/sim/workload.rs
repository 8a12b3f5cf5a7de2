//! What applications do to the database: transactions made up from the rows there are.

use crate::postgres::{Event, Postgres, State, apply};
use crate::random::Random;
use crate::tables::{
    ACCOUNTS, ACTORS, CLIENTS, CONNECTIONS, GROUPS, IGNORED, MEMBERSHIPS, POLICIES, RESOURCES, Row, SITES, TABLES,
    TOKENS, uuid,
};

pub const ACCOUNT_COUNT: usize = 4;
/// Of each kind in each account.
const EACH: usize = 2;

pub fn account(number: usize) -> String {
    uuid(ACCOUNTS, number)
}

fn some(text: impl Into<String>) -> Option<String> {
    Some(text.into())
}

/// The `number`th row of a table, as it is first inserted into an account.
fn row(table: usize, number: usize, account_id: &str, random: &mut Random) -> Row {
    let id = some(uuid(table, number));
    let of = number / EACH * EACH;
    let other = |table: usize, random: &mut Random| some(uuid(table, of + random.below(EACH)));
    let (account, none) = (some(account_id), None);
    let deleted = none.clone();
    match table {
        ACCOUNTS => vec![some(account_id), some(format!("slug{number}")), deleted],
        ACTORS => vec![id, account, some("account_user"), deleted],
        GROUPS => vec![id, account, some("static"), deleted],
        MEMBERSHIPS => vec![id, account, other(ACTORS, random), other(GROUPS, random)],
        TOKENS => vec![id, account, some("client"), some(uuid(ACTORS, number)), none, deleted],
        CLIENTS => {
            let (actor, token) = (some(uuid(ACTORS, number)), some(uuid(TOKENS, number)));
            let key = some(format!("key{}", random.below(1000)));
            vec![
                id,
                account,
                actor,
                none.clone(),
                token,
                key,
                some("10.0.0.1"),
                none.clone(),
                some("1.4.0"),
                none,
                deleted,
            ]
        }
        SITES => vec![id, account, some(format!("site{}", random.below(1000))), deleted],
        RESOURCES => {
            let name = some(format!("resource{}", random.below(100_000)));
            vec![id, account, name, some("dns"), some("a.example"), some("[]"), deleted]
        }
        CONNECTIONS => vec![other(RESOURCES, random), other(SITES, random), account],
        POLICIES => vec![id, account, other(GROUPS, random), other(RESOURCES, random), some("{}"), deleted],
        other => panic!("there is no table {other}"),
    }
}

/// Rows that are there from the beginning.
pub fn first_rows(random: &mut Random) -> State {
    let mut rows = State::new();
    for (table, definition) in TABLES.iter().enumerate() {
        let each = if table == ACCOUNTS { 1 } else { EACH };
        for number in 0..ACCOUNT_COUNT * each {
            let row = row(table, number, &account(number / each), random);
            rows.insert((table, definition.key_of(&row)), row);
        }
    }
    rows
}

/// A transaction that inserts these rows.
pub fn inserting(rows: &State) -> Vec<Event> {
    rows.iter().map(|((table, _), row)| Event::Insert(*table, row.clone())).collect()
}

/// A transaction of up to so many changes. Rows that others have locked are left alone.
pub fn transaction(postgres: &Postgres, changes: usize, random: &mut Random) -> Vec<Event> {
    let mut rows = postgres.newest.clone();
    let mut events = Vec::new();
    for _ in 0..changes {
        if let Some(event) = change(postgres, &rows, random) {
            apply(&mut rows, &event);
            events.push(event);
        }
    }
    events
}

/// Tables by how often they are written to.
const WRITTEN: [(usize, usize); 9] = [
    (ACCOUNTS, 1),
    (ACTORS, 2),
    (GROUPS, 2),
    (MEMBERSHIPS, 10),
    (CLIENTS, 6),
    (SITES, 2),
    (RESOURCES, 8),
    (CONNECTIONS, 6),
    (POLICIES, 10),
];

fn change(postgres: &Postgres, rows: &State, random: &mut Random) -> Option<Event> {
    if random.permille(30) {
        return Some(Event::Message("application".to_owned(), "says something".to_owned()));
    }
    let (table, _) = WRITTEN[random.weighted(&WRITTEN.map(|(_, weight)| weight))];
    if random.permille(8) && [MEMBERSHIPS, CONNECTIONS, POLICIES].contains(&table) {
        let tables = if random.permille(300) { vec![CONNECTIONS, MEMBERSHIPS] } else { vec![table] };
        return tables.iter().all(|table| postgres.is_untouched(*table)).then_some(Event::Truncate(tables));
    }
    let each = if table == ACCOUNTS { 1 } else { EACH };
    let number = random.below(ACCOUNT_COUNT * each);
    let fresh = row(table, number, &account(number / each), random);
    let key = TABLES[table].key_of(&fresh);
    if !postgres.is_free(table, &key) {
        return None;
    }
    let Some(old) = rows.get(&(table, key)) else { return Some(Event::Insert(table, fresh)) };
    let updated = |new: Row| (new != *old).then(|| Event::Update(table, old.clone(), new));
    match random.below(10) {
        0..=2 if table != ACCOUNTS => Some(Event::Delete(table, old.clone())),
        3 if table != CONNECTIONS && table != MEMBERSHIPS => updated(soft_delete(table, old)),
        4 if table == CLIENTS => {
            let mut new = old.clone();
            new[TABLES[CLIENTS].column(IGNORED)] = some(format!("2024-01-01 00:00:{:02}", random.below(60)));
            updated(new)
        }
        5 if table != ACCOUNTS => {
            let mut new = old.clone();
            new[TABLES[table].account_column()] = some(account(random.below(ACCOUNT_COUNT)));
            updated(new)
        }
        6 if table != ACCOUNTS && table != CONNECTIONS => rekey(postgres, rows, table, old, random),
        _ => {
            let mut new = fresh;
            new[TABLES[table].account_column()] = some(TABLES[table].account_of(old));
            updated(new)
        }
    }
}

fn soft_delete(table: usize, old: &Row) -> Row {
    let column = TABLES[table].column("deleted_at");
    let mut new = old.clone();
    new[column] = if old[column].is_none() { some("2024-01-01 00:00:00") } else { None };
    new
}

/// A primary key changes, to one that nobody has.
fn rekey(postgres: &Postgres, rows: &State, table: usize, old: &Row, random: &mut Random) -> Option<Event> {
    let mut new = old.clone();
    new[0] = some(uuid(table, random.below(ACCOUNT_COUNT * EACH)));
    let key = TABLES[table].key_of(&new);
    let is_free = !rows.contains_key(&(table, key.clone())) && postgres.is_free(table, &key);
    is_free.then(|| Event::Update(table, old.clone(), new))
}
