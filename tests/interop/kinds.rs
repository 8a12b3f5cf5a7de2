//! Every kind of record that the bridge writes, as the reader in Python tells it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::lines::{check_sources, read};
use crate::scene::{A, B, Scene};
use crate::world::World;

/// `policies` has another identity than the whole row, and a column that is stored out of line.
const SCHEMA: &str = "
CREATE TABLE notes (id bigint PRIMARY KEY, account_id uuid, v text);
ALTER TABLE notes REPLICA IDENTITY FULL;
CREATE TABLE flows (id int PRIMARY KEY, account_id uuid NOT NULL);
ALTER TABLE flows REPLICA IDENTITY FULL;
CREATE TABLE policies (account_id uuid, id int, n int, conditions text, PRIMARY KEY (account_id, id));
ALTER TABLE policies ALTER conditions SET STORAGE EXTERNAL;
";
const TABLES: [&str; 3] = ["notes", "flows", "policies"];
const CONFIGURATION: &str = "[tables]\ncapture = [\"public.*\"]\naccept_unchanged = [\"public.policies.conditions\"]\n";

fn sql(large: &str) -> String {
    format!(
        "INSERT INTO notes VALUES (1, '{A}', 'a');
         UPDATE notes SET v = 'b' WHERE id = 1;
         UPDATE notes SET account_id = '{B}' WHERE id = 1;
         UPDATE notes SET id = 2 WHERE id = 1;
         INSERT INTO notes VALUES (3, NULL, NULL), (4, '{A}', 'ünïcode 🌊');
         DELETE FROM notes WHERE id = 2;
         BEGIN; INSERT INTO notes VALUES (5, '{A}', 'gone'); ROLLBACK;
         INSERT INTO policies VALUES ('{A}', 1, 1, '{large}'), ('{B}', 2, 1, '');
         UPDATE policies SET n = 2 WHERE id = 1;
         DELETE FROM policies WHERE id = 2;
         BEGIN; INSERT INTO flows VALUES (1, '{A}'); TRUNCATE flows; INSERT INTO flows VALUES (2, '{B}'); COMMIT;"
    )
}

/// The whole of a record but its place and its schemas' names: control, or operation, table, key, before, after, unchanged.
fn tell(line: &Value) -> Value {
    let value = &line["value"];
    match line["kind"].as_str() {
        Some("data") => {
            let table = &value["source"]["table"];
            json!([line["op"], table, line["key"], value["before"], value["after"], value["unchanged"]])
        }
        Some("tombstone") => json!(["tombstone", line["key"]]),
        Some("control") => json!([line["control"], value["table"], line["partition"]]),
        _ => panic!("a kind of record that this bridge does not write: {line}"),
    }
}

fn expected(large: &str) -> Vec<Value> {
    let note = |id: u32, account: Value, v: Value| json!({ "id": id, "account_id": account, "v": v });
    let key = |account: &str, id: u32| json!({ "__account": account, "id": id });
    let policy = |n: u32, conditions: Value| json!({ "account_id": A, "id": 1, "n": n, "conditions": conditions });
    let policy_key = |account: &str, id: u32| json!({ "__account": account, "account_id": account, "id": id });
    let (a, b, moved) = (note(1, json!(A), json!("a")), note(1, json!(A), json!("b")), note(1, json!(B), json!("b")));
    let renamed = note(2, json!(B), json!("b"));
    vec![
        json!(["epoch", "", 0]),
        json!(["epoch", "", 1]),
        json!(["epoch", "", 2]),
        json!(["c", "notes", key(A, 1), null, a, []]),
        json!(["u", "notes", key(A, 1), a, b, []]),
        // To another account: gone here, new there.
        json!(["d", "notes", key(A, 1), b, null, []]),
        json!(["tombstone", key(A, 1)]),
        json!(["c", "notes", key(B, 1), null, moved, []]),
        // To another key: the same.
        json!(["d", "notes", key(B, 1), moved, null, []]),
        json!(["tombstone", key(B, 1)]),
        json!(["c", "notes", key(B, 2), null, renamed, []]),
        json!(["c", "notes", key("global", 3), null, note(3, json!(null), json!(null)), []]),
        json!(["c", "notes", key(A, 4), null, note(4, json!(A), json!("ünïcode 🌊")), []]),
        json!(["d", "notes", key(B, 2), renamed, null, []]),
        json!(["tombstone", key(B, 2)]),
        json!(["c", "policies", policy_key(A, 1), null, policy(1, json!(large)), []]),
        json!(["c", "policies", policy_key(B, 2), null, { "account_id": B, "id": 2, "n": 1, "conditions": "" }, []]),
        json!(["u", "policies", policy_key(A, 1), null, policy(2, json!(null)), ["conditions"]]),
        // All that the identity tells.
        json!(["d", "policies", policy_key(B, 2), { "account_id": B, "id": 2, "n": null, "conditions": null }, null, []]),
        json!(["tombstone", policy_key(B, 2)]),
        json!(["c", "flows", key(A, 1), null, { "id": 1, "account_id": A }, []]),
        json!(["truncate", "flows", 0]),
        json!(["truncate", "flows", 1]),
        json!(["truncate", "flows", 2]),
        json!(["c", "flows", key(B, 2), null, { "id": 2, "account_id": B }, []]),
    ]
}

#[test]
fn every_kind_of_record_is_told_in_python_as_it_was_done_in_sql() {
    let large: String = (0..100).map(|n| format!("{n:032}")).collect();
    let scene = Scene::start(SCHEMA, CONFIGURATION);
    scene.sql(&sql(&large));
    let (world, changes, progress) = read(scene);

    let told: Vec<Value> = changes.iter().map(tell).collect();
    let expected = expected(&large);
    for (told, expected) in told.iter().zip(&expected) {
        assert_eq!(told, expected);
    }
    assert_eq!(told.len(), expected.len());
    check_sources(&world, &changes);
    check_identities(&changes);
    for table in TABLES {
        assert_eq!(folded(&changes, table), selected(&world, table), "{table}");
    }
    let pins = progress.last().map(|line| line["value"]["key_pins"].clone()).expect("progress was written");
    let mut pinned: Vec<&str> =
        pins.as_array().expect("a list").iter().filter_map(|pin| pin["table"].as_str()).collect();
    pinned.sort_unstable();
    assert_eq!(pinned, ["flows", "notes", "policies"], "{pins}");
}

/// The header says which `before` is not the whole row.
fn check_identities(changes: &[Value]) {
    for line in changes.iter().filter(|line| line["kind"] == "data" && !line["value"]["before"].is_null()) {
        let whole = line["value"]["source"]["table"] != "policies";
        assert_eq!(line["header"]["identity_only"], !whole, "{line}");
    }
}

/// The rows that a reader has at the end, by the text of their keys.
fn folded(changes: &[Value], table: &str) -> BTreeMap<String, Value> {
    let mut rows: BTreeMap<String, Value> = BTreeMap::new();
    for line in changes {
        let value = &line["value"];
        if line["control"] == "truncate" && value["table"] == table {
            rows.clear();
        }
        if line["kind"] != "data" || value["source"]["table"] != table {
            continue;
        }
        let key = line["key"].to_string();
        let mut after = value["after"].clone();
        for column in value["unchanged"].as_array().into_iter().flatten() {
            let column = column.as_str().expect("a column's name");
            after[column] = rows.get(&key).expect("the row whose value is unchanged")[column].clone();
        }
        match after.is_null() {
            true => drop(rows.remove(&key)),
            false => drop(rows.insert(key, after)),
        }
    }
    rows
}

/// The rows of the table, by what their keys must be.
fn selected(world: &World, table: &str) -> BTreeMap<String, Value> {
    let rows = world.database.psql(&format!("SELECT to_jsonb(t) FROM {table} t")).expect("select");
    let entry = |line: &str| {
        let row: Value = serde_json::from_str(line).expect("a row as JSON");
        let account = row["account_id"].as_str().unwrap_or("global");
        let mut key = Map::from_iter([("__account".to_owned(), json!(account)), ("id".to_owned(), row["id"].clone())]);
        if table == "policies" {
            key.insert("account_id".to_owned(), row["account_id"].clone());
        }
        (Value::Object(key).to_string(), row)
    };
    rows.lines().filter(|line| !line.trim().is_empty()).map(entry).collect()
}
