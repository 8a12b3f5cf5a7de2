//! Tables and publications, described as they are.

use std::collections::BTreeMap;

use penstock::catalog::{Identity, Kind, Persistence, Table};
use penstock::config::{TableName, TablePattern};

use crate::server::{Database, database};

pub fn public(table: &str) -> TableName {
    TableName::new("public", table)
}

pub const TABLES: &str = "
CREATE EXTENSION citext;
CREATE DOMAIN short AS varchar(10);
CREATE TABLE accounts (id uuid PRIMARY KEY, name citext NOT NULL, note short, code char(2), n numeric(8,2),
                       doubled numeric GENERATED ALWAYS AS (n * 2) STORED);
ALTER TABLE accounts REPLICA IDENTITY FULL;
CREATE TABLE pairs (b int, a uuid, gone int, PRIMARY KEY (a, b));
ALTER TABLE pairs DROP COLUMN gone;
CREATE TABLE chosen (id int PRIMARY KEY, y int NOT NULL, x int NOT NULL, rest text);
CREATE UNIQUE INDEX chosen_index ON chosen (x, y) INCLUDE (id);
ALTER TABLE chosen REPLICA IDENTITY USING INDEX chosen_index;
CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);
CREATE UNLOGGED TABLE loose (id int);
ALTER TABLE loose REPLICA IDENTITY NOTHING;
CREATE TABLE parts (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
ALTER TABLE parts_1 REPLICA IDENTITY FULL;
CREATE VIEW seen AS SELECT 1 AS id;
CREATE SCHEMA \"Odd\";
CREATE TABLE \"Odd\".\"a.b\" (id int PRIMARY KEY);
";

pub async fn all_tables(database: &Database, patterns: &[&str]) -> BTreeMap<TableName, Table> {
    let patterns: Vec<TablePattern> = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
    database.catalog().tables(&patterns, "p").await.unwrap()
}

#[tokio::test]
async fn tables_are_described_as_they_are() {
    let database = database();
    database.sql(TABLES);
    let tables = all_tables(&database, &["public.*"]).await;
    let names: Vec<&str> = tables.keys().map(|name| name.table.as_str()).collect();
    assert_eq!(names, ["accounts", "chosen", "late", "loose", "pairs", "parts"]);
    let identities: Vec<&Identity> = tables.values().map(|table| &table.identity).collect();
    let index = Identity::Index(vec!["x".to_owned(), "y".to_owned()]);
    let default = Identity::Default;
    assert_eq!(identities, [&Identity::Full, &index, &default, &Identity::Nothing, &default, &default]);
    assert_eq!(tables[&public("pairs")].primary_key, ["a", "b"]);
    assert!(tables[&public("late")].primary_key_deferrable && !tables[&public("pairs")].primary_key_deferrable);
    assert_eq!(tables[&public("loose")].persistence, Persistence::Unlogged);
    assert_eq!(tables[&public("loose")].primary_key, Vec::<String>::new());
    let parts = &tables[&public("parts")];
    assert_eq!(
        (parts.kind, parts.primary_key.as_slice()),
        (Kind::Partitioned, &["id".to_owned(), "day".to_owned()][..])
    );
    let leaves: Vec<(&str, &Identity)> =
        parts.partitions.iter().map(|leaf| (leaf.name.table.as_str(), &leaf.identity)).collect();
    assert_eq!(leaves, [("parts_1", &Identity::Full), ("parts_2", &Identity::Default)]);
}

#[tokio::test]
async fn columns_are_described_as_they_are() {
    let database = database();
    database.sql(TABLES);
    let tables = all_tables(&database, &["public.*"]).await;
    let columns: Vec<String> = tables[&public("accounts")]
        .columns
        .iter()
        .map(|column| {
            let flags = [(column.not_null, "not null"), (column.generated, "generated"), (column.out_of_line, "large")];
            let flags: Vec<&str> = flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).collect();
            format!("{} {} {} {}", column.number, column.name, column.type_name, flags.join(" "))
        })
        .collect();
    assert_eq!(
        columns,
        [
            "1 id uuid not null",
            "2 name public.citext not null large",
            "3 note public.short large",
            "4 code character(2) large",
            "5 n numeric(8,2) large",
            "6 doubled numeric generated large"
        ]
    );
    let note = tables[&public("accounts")].column("note").unwrap();
    assert_eq!((note.base_oid, note.type_oid == note.base_oid), (1043, false));
    let base = |name: &str| tables[&public("accounts")].column(name).unwrap().base_name.as_str();
    assert_eq!(
        ["id", "note", "code", "n"].map(base),
        ["uuid", "character varying(10)", "character(2)", "numeric(8,2)"]
    );
    let numbers: Vec<i16> = tables[&public("pairs")].columns.iter().map(|column| column.number).collect();
    assert_eq!(numbers, [1, 2], "dropped columns are left out");
}

#[tokio::test]
async fn names_find_whatever_bears_them_and_patterns_only_tables() {
    let database = database();
    database.sql(TABLES);
    let tables = all_tables(&database, &["public.seen", "public.parts_1", "\"Odd\".*", "public.nothing"]).await;
    let found: Vec<(String, Kind, bool)> =
        tables.values().map(|table| (table.name.to_string(), table.kind, table.is_partition)).collect();
    let expected = [
        ("Odd.\"a.b\"".to_owned(), Kind::Ordinary, false),
        ("public.parts_1".to_owned(), Kind::Ordinary, true),
        ("public.seen".to_owned(), Kind::Other, false),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn publications_are_read_with_lists_and_filters() {
    let database = database();
    database.sql(TABLES);
    database.sql(
        "CREATE PUBLICATION p FOR TABLE accounts, pairs (a, b), chosen WHERE (x > 1), parts WITH (publish = 'insert, delete');
         CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root = true)",
    );
    let mut catalog = database.catalog();
    assert_eq!(catalog.publication("nothing").await.unwrap(), None);
    let publication = catalog.publication("p").await.unwrap().unwrap();
    assert_eq!(
        (publication.insert, publication.update, publication.delete, publication.truncate),
        (true, false, true, false)
    );
    assert!(!publication.via_root && !publication.all_tables && !publication.generated_columns);
    let published: Vec<String> = publication
        .tables
        .iter()
        .map(|(name, how)| format!("{} {:?} {:?}", name.table, how.columns, how.row_filter))
        .collect();
    assert_eq!(
        published,
        [
            "accounts None None",
            "chosen None Some(\"(x > 1)\")",
            "pairs Some([\"b\", \"a\"]) None",
            "parts_1 None None",
            "parts_2 None None"
        ]
    );
    let everything = catalog.publication("everything").await.unwrap().unwrap();
    assert!(everything.all_tables && everything.via_root && everything.truncate && everything.update);
    assert!(everything.tables.contains_key(&public("parts")) && !everything.tables.contains_key(&public("parts_1")));
    let tables = all_tables(&database, &[]).await;
    assert_eq!(
        tables.keys().collect::<Vec<_>>(),
        publication.tables.keys().collect::<Vec<_>>(),
        "published tables are described unasked"
    );
}
