//! The event triggers: what they write into the stream, and that they are told from others.

use penstock::catalog::{Catalog, Triggers};
use penstock::config::Secret;
use penstock::source::ConnectOptions;
use penstock::tls::TlsMode;

use crate::server::{Database, database};
use crate::setup::SLOT_LIMIT;

/// The messages since the last time, a line each: kind, table or publication, and what else the list of fields names.
fn told(database: &Database, slot: &str) -> Vec<String> {
    let messages = database.sql(&format!(
        "SELECT convert_from(substring(data FROM position('{{'::bytea IN data)), 'UTF8')
           FROM pg_logical_slot_get_binary_changes('{slot}', NULL, NULL, 'proto_version', '1', 'publication_names', 'penstock',
                                                   'messages', 'true')
          WHERE get_byte(data, 0) = ascii('M') AND position('{{'::bytea IN data) > 0"
    ));
    let tell = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(message["v"], 1, "{message}");
        let table = &message["table"];
        let of_a_table = || format!("filled {} leaves {}", table["filled"], table["leaves"].as_array().unwrap().len());
        let of_a_publication = || format!("added {}", message["publication"]["added"].as_array().unwrap().len());
        let more = match message["kind"].as_str().unwrap() {
            "table" => of_a_table(),
            "publication" => of_a_publication(),
            "rewrite" => format!("reason {}", message["reason"]),
            "drop" | "unpublish" | "truncate" => String::new(),
            other => panic!("{other}: {message}"),
        };
        format!("{} {} {more}", message["kind"].as_str().unwrap(), message["name"].as_str().unwrap())
            .trim_end()
            .to_owned()
    };
    messages.lines().map(tell).collect()
}

/// Against a slot whose publication holds the tables `a` and `parts`, with one partition.
pub fn told_of_ddl(database: &Database, slot: &str) {
    told(database, slot);
    database.sql("ALTER TABLE a ADD COLUMN d int DEFAULT 5; ALTER TABLE a ALTER COLUMN d SET NOT NULL;");
    assert_eq!(told(database, slot), ["table a filled [\"d\"] leaves 0", "table a filled [] leaves 0"]);
    database.sql("ALTER TABLE a ALTER COLUMN d TYPE text; ALTER TABLE parts ADD COLUMN d int DEFAULT 5;");
    let expected = ["rewrite a reason 4", "table a filled [] leaves 0", "table parts filled [\"d\"] leaves 1"];
    assert_eq!(told(database, slot), expected);
    database.sql("TRUNCATE parts_0; TRUNCATE a;");
    assert_eq!(told(database, slot), ["truncate parts"]);
    database.sql(
        "ALTER TABLE parts_0 RENAME TO parts_1; ALTER TABLE parts DETACH PARTITION parts_1;
         ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES WITH (MODULUS 1, REMAINDER 0); DROP TABLE parts_1;",
    );
    let expected = [
        "table parts filled [] leaves 1",
        "table parts filled [] leaves 0",
        "table parts filled [\"d\"] leaves 1",
        "drop parts_1",
    ];
    assert_eq!(told(database, slot), expected);
    database.sql(
        "CREATE TABLE b (id int PRIMARY KEY); ALTER PUBLICATION penstock ADD TABLE b; ALTER PUBLICATION penstock DROP TABLE b;
         ALTER PUBLICATION penstock SET (publish = 'insert'); DROP TABLE b;
         ALTER PUBLICATION penstock SET (publish = 'insert, update, delete, truncate');",
    );
    let expected = [
        "table b filled [] leaves 0",
        "publication penstock added 1",
        "unpublish b",
        "publication penstock added 0",
        "drop b",
        "publication penstock added 0",
    ];
    assert_eq!(told(database, slot), expected);
    database.sql("CREATE TEMP TABLE x (id int); ALTER TABLE x ADD COLUMN d int DEFAULT 5; DROP TABLE x; CREATE VIEW v AS SELECT 1;");
    assert_eq!(told(database, slot), Vec::<String>::new());
}

/// A message stands before the changes that follow its command, whatever subtransactions there are.
#[tokio::test]
async fn messages_stand_at_their_command() {
    let database = database();
    database.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION penstock FOR TABLE t;");
    let mut catalog = database.catalog();
    assert!(catalog.create_triggers().await.unwrap());
    let slot = format!("slot_{}", database.address.database);
    catalog.create_slot(&slot, SLOT_LIMIT).await.unwrap();
    database.sql(
        "BEGIN; INSERT INTO t VALUES (1); ALTER TABLE t ADD COLUMN a int; INSERT INTO t VALUES (2);
         SAVEPOINT s; ALTER TABLE t ADD COLUMN b int; RELEASE s; INSERT INTO t VALUES (3); DROP TABLE t; COMMIT;",
    );
    let kinds = database.sql(&format!(
        "SELECT string_agg(chr(get_byte(data, 0)), '')
           FROM pg_logical_slot_get_binary_changes('{slot}', NULL, NULL, 'proto_version', '1', 'publication_names', 'penstock',
                                                   'messages', 'true')
          WHERE get_byte(data, 0) IN (ascii('I'), ascii('M')) AND position('penstock.ddl.end'::bytea IN data) = 0"
    ));
    assert_eq!(kinds, "IMIMIM");
}

#[tokio::test]
async fn triggers_that_are_not_what_they_should_be_are_made_anew() {
    let database = database();
    let mut catalog = database.catalog();
    assert_eq!(catalog.triggers().await.unwrap(), Triggers::Missing);
    for (broken, found) in [
        ("ALTER EVENT TRIGGER penstock_sql_drop DISABLE", Triggers::Missing),
        ("DROP EVENT TRIGGER penstock_table_rewrite", Triggers::Missing),
        (
            "CREATE OR REPLACE FUNCTION penstock.tell_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
            Triggers::Other,
        ),
    ] {
        assert!(catalog.create_triggers().await.unwrap());
        assert_eq!(catalog.triggers().await.unwrap(), Triggers::Whole);
        database.sql(broken);
        assert_eq!(catalog.triggers().await.unwrap(), found, "{broken}");
    }
}

#[tokio::test]
async fn a_role_that_may_not_make_them_does_without() {
    let database = database();
    let role = format!("role_{}", database.address.database);
    database.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'pw' REPLICATION"));
    let options = |role: &str| ConnectOptions {
        user: role.to_owned(),
        password: Some(Secret::new("pw")),
        ..database.over_tcp(TlsMode::Disable, None)
    };
    let mut catalog = Catalog::new(options(&role));
    assert!(!catalog.create_triggers().await.unwrap());
    assert_eq!(catalog.triggers().await.unwrap(), Triggers::Missing);
    assert!(database.catalog().create_triggers().await.unwrap());
    assert_eq!(catalog.triggers().await.unwrap(), Triggers::Whole, "who may not make them sees them");
    database.sql(&format!("DROP ROLE {role}"));
}
