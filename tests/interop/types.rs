//! Every listed type, and some that are not, as the reader in Python decodes them: the numbers and texts that the
//! contract names, computed by Postgres itself from what the table holds.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::lines::{check_sources, read};
use crate::scene::{A, B, Scene};
use crate::world::World;

const TYPES: &str = "
CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('fine', 'NULL', 'very \"happy\" 🌊');
CREATE DOMAIN price AS numeric(12, 2);
CREATE DOMAIN short AS varchar(10);
";

/// A type, its form on the wire, and values of it.
struct Listed {
    sql_type: &'static str,
    form: Form,
    literals: [&'static str; 4],
}

/// What a value becomes.
#[derive(Clone, Copy)]
enum Form {
    /// A boolean or a number, as JSON has it.
    Plain,
    /// The number as a double holds it.
    Double,
    /// The text that Postgres prints.
    Text,
    /// Microseconds since 1970.
    Instant,
    /// Days since 1970.
    Days,
    /// Microseconds since midnight.
    OfDay,
}

const fn listed(sql_type: &'static str, form: Form, literals: [&'static str; 4]) -> Listed {
    Listed { sql_type, form, literals }
}

const LISTED: [Listed; 25] = [
    listed("boolean", Form::Plain, ["true", "false", "true", "false"]),
    listed("smallint", Form::Plain, ["-32768", "32767", "0", "-1"]),
    listed("integer", Form::Plain, ["-2147483648", "2147483647", "0", "-1"]),
    listed("bigint", Form::Plain, ["-9223372036854775808", "9223372036854775807", "0", "-1"]),
    listed("real", Form::Double, ["0.1", "-16777216", "NaN", "Infinity"]),
    listed("double precision", Form::Plain, ["0.1", "5e-324", "NaN", "-Infinity"]),
    listed("numeric", Form::Text, ["123456789012345678901234567890.10", "NaN", "-Infinity", "0.000"]),
    listed("numeric(20, 5)", Form::Text, ["1.5", "-99999.99999", "0", "NaN"]),
    listed("text", Form::Text, ["", "NULL", "a \"b\" \\c\t\nd", "ﬀ\u{301}🌊"]),
    listed("character varying(40)", Form::Text, ["", " a ", "{b}", "c,d"]),
    listed("character(7)", Form::Text, ["", "a", "b b", "cccccc"]),
    listed("citext", Form::Text, ["", "Mixed", "{", "x y"]),
    listed("name", Form::Text, ["", "a", "b c", "é"]),
    listed("mood", Form::Text, ["fine", "NULL", "very \"happy\" 🌊", "fine"]),
    listed("uuid", Form::Text, [A, B, "ffffffff-ffff-ffff-ffff-ffffffffffff", A]),
    listed(
        "timestamp with time zone",
        Form::Instant,
        ["2024-02-29 12:34:56.789012+01", "infinity", "-infinity", "0044-03-15 12:00+00 BC"],
    ),
    listed(
        "timestamp",
        Form::Instant,
        ["1969-12-31 23:59:59.999999", "infinity", "-infinity", "294246-12-31 23:59:59"],
    ),
    listed("date", Form::Days, ["1984-02-29", "infinity", "-infinity", "5874897-12-31"]),
    listed("time", Form::OfDay, ["00:00", "12:34:56.789012", "23:59:59.999999", "24:00:00"]),
    listed("json", Form::Text, ["{ \"b\": 1,  \"b\": 2 }", "null", "[\"\\u00e9\"]", "1e3"]),
    listed("jsonb", Form::Text, ["{\"b\": 1, \"a\": [null]}", "null", "\"é\"", "1e3"]),
    listed("bytea", Form::Text, ["", "\\x00ff5c", "\\x22", "\\xdeadbeef"]),
    listed("inet", Form::Text, ["10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::1:0:0:1/64"]),
    listed("cidr", Form::Text, ["10.0.0.0/8", "::/0", "1.2.3.4", "::1"]),
    listed("macaddr", Form::Text, ["08:00:2b:01:02:ff", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:02:03:04:05:06"]),
];

/// Domains travel as what they are made of, everything that is not listed as its text; so do arrays of either.
const OTHERS: [Listed; 6] = [
    listed("price", Form::Text, ["1.50", "0", "-9999999999.99", "NaN"]),
    listed("short", Form::Text, ["", "ab", "NULL", "é"]),
    listed("price[]", Form::Text, ["{}", "{1.50,NULL}", "{{1},{2}}", "[0:0]={7}"]),
    listed("interval", Form::Text, ["1 day 02:03:04.5", "-3 mons", "00:00:00", "1 year"]),
    listed("interval[]", Form::Text, ["{}", "{\"1 day\",NULL}", "{1 mon}", "{00:00:01}"]),
    listed("int4range", Form::Text, ["[1,10)", "empty", "(,5)", "[7,)"]),
];

/// SQL that gives what the wire has for `value`, as jsonb.
fn on_the_wire(form: Form, value: &str) -> String {
    let instant = |infinite: &str, finite: &str| {
        format!("CASE {value} WHEN 'infinity' THEN {infinite} WHEN '-infinity' THEN -{infinite} - 1 ELSE {finite} END")
    };
    let given = match form {
        Form::Plain => value.to_owned(),
        Form::Double => format!("{value}::double precision"),
        // As the type prints it; a cast to text is another function, which leaves out the blanks of a character(7).
        Form::Text => format!("format('%s', {value})"),
        Form::Instant => instant("9223372036854775807", &format!("(extract(epoch FROM {value}) * 1000000)::bigint")),
        Form::Days => instant("2147483647", &format!("{value} - date '1970-01-01'")),
        Form::OfDay => format!("(extract(epoch FROM {value}) * 1000000)::bigint"),
    };
    format!("CASE WHEN {value} IS NOT NULL THEN to_jsonb({given}) END")
}

/// The same for an array of it: an array, or the literal where Avro has no such array.
fn array_on_the_wire(form: Form, value: &str) -> String {
    let element = on_the_wire(form, "element");
    format!(
        "CASE WHEN array_ndims({value}) > 1 OR array_lower({value}, 1) <> 1 THEN to_jsonb(format('%s', {value}))
         WHEN {value} IS NOT NULL THEN (
             SELECT coalesce(jsonb_agg({element} ORDER BY number), '[]')
             FROM unnest({value}) WITH ORDINALITY u (element, number)
         ) END"
    )
}

struct Column {
    name: String,
    sql_type: String,
    /// SQL of what the wire has.
    expected: String,
    /// SQL of each row's value.
    values: [String; 4],
}

fn columns() -> Vec<Column> {
    let literal = |text: &str, sql_type: &str| format!("'{}'::{sql_type}", text.replace('\'', "''"));
    let mut columns = Vec::new();
    for Listed { sql_type, form, literals } in LISTED.iter().chain(&OTHERS) {
        let name = format!("c{}", columns.len());
        columns.push(Column {
            expected: on_the_wire(*form, &name),
            sql_type: (*sql_type).to_owned(),
            values: literals.map(|text| literal(text, sql_type)),
            name,
        });
    }
    for Listed { sql_type, form, literals } in &LISTED {
        let name = format!("c{}", columns.len());
        let [a, b, c, d] = literals.map(|text| literal(text, sql_type));
        let arrays = [
            format!("ARRAY[{a}, NULL, {b}, {c}, {d}]"),
            "'{}'".to_owned(),
            format!("ARRAY[[{a}, {b}], [NULL, {c}]]"),
            format!("array_fill({d}, '{{2}}', '{{0}}')"),
        ];
        let expected = array_on_the_wire(*form, &name);
        columns.push(Column { expected, sql_type: format!("{sql_type}[]"), values: arrays, name });
    }
    columns
}

fn create(columns: &[Column]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| format!("{} {}", column.name, column.sql_type)).collect();
    format!(
        "{TYPES} CREATE TABLE t (id int PRIMARY KEY, account_id uuid NOT NULL, n int NOT NULL DEFAULT 0, {});
         ALTER TABLE t REPLICA IDENTITY FULL;",
        columns.join(", ")
    )
}

/// Four rows of values and one of NULLs; each a second time, as old and new.
fn fill(columns: &[Column]) -> String {
    let row = |index: usize| -> String {
        let values: Vec<&str> =
            columns.iter().map(|column| column.values.get(index).map_or("NULL", String::as_str)).collect();
        let account = if index.is_multiple_of(2) { A } else { B };
        format!("INSERT INTO t VALUES ({index}, '{account}', 0, {});", values.join(", "))
    };
    (0..=4).map(row).collect::<String>() + "UPDATE t SET n = 1;"
}

/// What the wire has of each row, by its id.
fn expected(world: &World, columns: &[Column]) -> BTreeMap<String, Value> {
    let pairs: Vec<String> = columns.iter().map(|column| format!("('{}', {})", column.name, column.expected)).collect();
    let question = format!(
        "SET timezone = 'UTC'; SET extra_float_digits = 3;
         SELECT jsonb_build_object('id', id, 'account_id', account_id, 'n', n)
             || (SELECT jsonb_object_agg(name, value) FROM (VALUES {}) v (name, value)) FROM t",
        pairs.join(", ")
    );
    let rows = world.database.psql(&question).expect("ask the table");
    let rows = rows.lines().filter(|line| line.starts_with('{'));
    rows.map(|line| {
        let row: Value = serde_json::from_str(line).expect("a row as JSON");
        (row["id"].to_string(), row)
    })
    .collect()
}

/// One number can be printed in two ways: an integer and a double are the same if they are equal. (What serde_json makes
/// of two notations may differ in the last bit; the literals above have doubles that come out right.)
fn same(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Number(found), Value::Number(expected)) => {
            found == expected || found.as_f64() == expected.as_f64() && (found.is_f64() || expected.is_f64())
        }
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len() && found.iter().zip(expected).all(|(found, expected)| same(found, expected))
        }
        (found, expected) => found == expected,
    }
}

#[test]
fn every_type_is_decoded_in_python_to_what_the_contract_says_of_the_tables_value() {
    let columns = columns();
    let scene = Scene::start(&create(&columns), "");
    scene.sql(&fill(&columns));
    let (world, changes, _) = read(scene);
    check_sources(&world, &changes);

    let expected = expected(&world, &columns);
    assert_eq!(expected.len(), 5);
    let rows = changes.iter().filter(|line| line["kind"] == "data");
    let mut compared = 0;
    for (line, side, n) in rows.flat_map(|line| [(line, "before", 0), (line, "after", i32::from(line["op"] == "u"))]) {
        let found = &line["value"][side];
        if found.is_null() {
            continue;
        }
        let mut row = expected[&found["id"].to_string()].clone();
        row["n"] = json!(n);
        let names = |row: &Value| row.as_object().expect("a row").keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(found), names(&row));
        for (name, value) in row.as_object().expect("a row") {
            let sql_type = columns.iter().find(|column| column.name == *name).map(|column| column.sql_type.as_str());
            assert!(same(&found[name], value), "{sql_type:?}: {} in the topic, {value} in the table", found[name]);
        }
        compared += 1;
    }
    assert_eq!(compared, 15, "five rows created, and five that are old and new");
}
