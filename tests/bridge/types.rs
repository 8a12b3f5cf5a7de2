//! What is in the topic is what a SELECT prints: random values of every type, inserted, read back and compared.
//!
//! The seed is printed; `PENSTOCK_SEED` runs the same values again.

mod decimals;
mod render;
mod values;

use std::collections::BTreeMap;

use penstock_testbed::cluster::unique_name;
use penstock_testbed::registry::http;
use penstock_wire::decode::Row;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio_postgres::SimpleQueryMessage;

use self::values::{Column, columns};
use crate::scene::{A, B, Scene, Session};

const ROWS: usize = 64;
const ROWS_PER_TRANSACTION: usize = 16;

/// What the bridge's own sessions pin, and a SELECT must be made with to print the same.
const SETTINGS: &str = "SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC';
    SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET search_path = '';";

/// Any number: from the environment, or another one each time.
fn seed() -> u64 {
    let given = std::env::var("PENSTOCK_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let name = unique_name("seed");
        name.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(131).wrapping_add(u64::from(byte)))
    });
    eprintln!("PENSTOCK_SEED={seed}");
    seed
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// The configuration that lets the columns travel as they want.
fn configuration(columns: &[Column]) -> String {
    let decimals = columns
        .iter()
        .filter(|column| column.decimal)
        .map(|column| format!("{:?}", format!("public.t.{}", column.name)));
    format!("[tables]\ncapture = [\"public.*\"]\ndecimal = [{}]\n", decimals.collect::<Vec<_>>().join(", "))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn create(columns: &[Column]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| format!("{} {}", column.name, column.sql_type)).collect();
    format!(
        "{} CREATE TABLE t (id int PRIMARY KEY, account_id uuid NOT NULL, n int NOT NULL DEFAULT 0, {});
         ALTER TABLE t REPLICA IDENTITY FULL;",
        values::TYPES,
        columns.join(", ")
    )
}

/// Rows as Postgres takes them; now and then a column is NULL.
fn insert(columns: &[Column], runner: &mut TestRunner) -> String {
    let mut sql = String::new();
    for id in 0..ROWS {
        if id % ROWS_PER_TRANSACTION == 0 {
            sql.push_str(if id == 0 { "BEGIN;\n" } else { "COMMIT; BEGIN;\n" });
        }
        let values: Vec<String> = columns
            .iter()
            .map(|column| {
                let value = proptest::option::weighted(0.9, column.literals.clone()).new_tree(runner);
                let value = value.expect("a value").current();
                value.map_or("NULL".to_owned(), |value| literal(&value))
            })
            .collect();
        let account = if id % 2 == 0 { A } else { B };
        sql.push_str(&format!("INSERT INTO t VALUES ({id}, '{account}', 0, {});\n", values.join(", ")));
    }
    // Each row a second time, now also as the old one.
    sql + "UPDATE t SET n = 1; COMMIT;"
}

/// The table as a SELECT prints it: by id, then by column.
fn selected(session: &Session, columns: &[Column]) -> BTreeMap<i32, Vec<Option<String>>> {
    session.run(SETTINGS);
    let rows = session.simple_query("SELECT * FROM public.t");
    let rows = rows.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            let id = row.get("id").expect("an id").parse().expect("a number");
            let values = columns.iter().map(|column| row.get(column.name.as_str()).map(str::to_owned));
            Some((id, values.collect()))
        }
        _ => None,
    });
    rows.collect()
}

/// A row of the topic as a SELECT would print it.
fn rendered(row: &Row, columns: &[Column], canonical: &BTreeMap<(String, String), String>) -> Vec<Option<String>> {
    let values = columns.iter().map(|column| {
        let value = row.get(&column.name).unwrap_or_else(|| panic!("no field for column {}", column.name));
        let text = render::text(value)?;
        Some(canonical.get(&(column.sql_type.clone(), text.clone())).cloned().unwrap_or(text))
    });
    values.collect()
}

/// Floats are compared as numbers: Postgres is asked how it prints the ones that the topic holds.
fn canonical_floats(session: &Session, rows: &[&Row], columns: &[Column]) -> BTreeMap<(String, String), String> {
    let mut canonical = BTreeMap::new();
    for column in
        columns.iter().filter(|column| ["real", "double"].iter().any(|name| column.sql_type.starts_with(name)))
    {
        let texts: Vec<String> = rows.iter().filter_map(|row| render::text(row.get(&column.name)?)).collect();
        let values: Vec<String> =
            texts.iter().map(|text| format!("({}::{})", literal(text), column.sql_type)).collect();
        let printed = session.simple_query(&format!("SELECT * FROM (VALUES {}) v", values.join(", ")));
        let printed = printed.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).expect("a float").to_owned()),
            _ => None,
        });
        canonical.extend(texts.into_iter().map(|text| (column.sql_type.clone(), text)).zip(printed));
    }
    canonical
}

#[test]
fn every_type_reads_back_as_a_select_prints_it() {
    let columns = columns();
    let mut runner = runner(seed());
    let mut scene = Scene::start(&create(&columns), &configuration(&columns));
    let session = Session::open(&scene.world);
    session.run(&insert(&columns, &mut runner));
    let records = scene.records();
    assert_eq!(records.len(), 2 * ROWS);

    let expected = selected(&session, &columns);
    let rows: Vec<&Row> = records.iter().filter_map(|record| record.change()?.after.as_ref()).collect();
    let canonical = canonical_floats(&session, &rows, &columns);
    for record in &records {
        let envelope = record.change().expect("a change");
        for row in [&envelope.before, &envelope.after].into_iter().flatten() {
            let id = render::text(row.get("id").expect("an id")).and_then(|id| id.parse::<i32>().ok()).expect("an id");
            let found = rendered(row, &columns, &canonical);
            for (index, column) in columns.iter().enumerate() {
                assert_eq!(found[index], expected[&id][index], "row {id}, column of type {}", column.sql_type);
            }
        }
    }
    check_schema(&scene, &session, &columns);
    scene.stop();
}

/// Each field's `pg.type` is what `format_type` says of the column, and a domain's `pg.base` of what it is made of.
fn check_schema(scene: &Scene, session: &Session, columns: &[Column]) {
    let rest = scene.world.registry_url.strip_prefix("http://127.0.0.1:").expect("a loopback URL");
    let (port, path) = rest.split_once('/').expect("a path");
    let subject = format!("{0}-{0}.public.t.Envelope", scene.world.topic);
    let port = port.parse().expect("a port");
    let answer =
        http::request(port, "GET", &format!("/{path}/subjects/{subject}/versions/latest"), "").expect("an answer");
    let version: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    let schema: serde_json::Value = serde_json::from_str(version["schema"].as_str().expect("a schema")).expect("JSON");
    let fields = schema["fields"][0]["type"][1]["fields"].as_array().expect("the row's fields");
    let found: BTreeMap<&str, (&str, Option<&str>)> = fields
        .iter()
        .map(|field| {
            let text = |name: &str| field[name].as_str();
            (text("name").expect("a name"), (text("pg.type").expect("a type"), text("pg.base")))
        })
        .collect();
    let types = session.simple_query(
        "SELECT attname, format_type(atttypid, atttypmod),
                CASE typtype WHEN 'd' THEN (
                    WITH RECURSIVE chain AS (
                        SELECT typbasetype AS oid, typtypmod AS modifier, 1 AS depth
                        UNION ALL
                        SELECT t.typbasetype, t.typtypmod, depth + 1 FROM chain JOIN pg_type t USING (oid) WHERE t.typtype = 'd'
                    )
                    SELECT format_type(oid, modifier) FROM chain ORDER BY depth DESC LIMIT 1
                ) END
         FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid WHERE attrelid = 'public.t'::regclass AND attnum > 0",
    );
    let mut compared = 0;
    for message in &types {
        if let SimpleQueryMessage::Row(row) = message {
            let name = row.get(0).expect("a name");
            assert_eq!(found.get(name), Some(&(row.get(1).expect("a type"), row.get(2))), "column {name}");
            compared += 1;
        }
    }
    assert_eq!(compared, columns.len() + 3);
}

/// The last years of Postgres' range do not fit into 64 bits of microseconds since 1970: such a row is not delivered
/// wrong, nor skipped.
#[test]
fn a_value_that_the_wire_cannot_hold_stops_the_bridge() {
    let schema =
        "CREATE TABLE t (id int PRIMARY KEY, account_id uuid, at timestamptz); ALTER TABLE t REPLICA IDENTITY FULL;";
    let mut scene = Scene::start(schema, "");
    scene.sql(&format!("INSERT INTO t VALUES (1, '{A}', '294247-01-10 04:00:54.775806+00')"));
    assert_eq!(crate::scene::tell(&scene.records(), &["id", "at"]), ["c (1 9223372036854775806)"]);
    scene.sql(&format!("INSERT INTO t VALUES (2, '{A}', '294247-01-10 04:00:54.775807+00')"));
    scene.expect_halt(&["row of public.t at 1:0/", "cannot be delivered", "\"at\"", "tables.exclude"]);
    assert_eq!(scene.delivered().len(), 1);
}
