//! Questions to the catalog of a real Postgres, and what `setup` makes there.

#[path = "catalog/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::time::Duration;

use penstock::catalog::findings::{Facts, Finding, Severity, findings};
use penstock::catalog::{Catalog, CatalogError, Identity, Kind, Persistence, ResolvedType, Step, Table, WalStatus};
use penstock::config::{Config, Secret, TableName, TablePattern};
use penstock::source::{Class, ConnectOptions};
use penstock::tls::TlsMode;
use penstock_testbed::postgres::Postgres;
use penstock_wire::lsn::{EndLsn, Lsn};
use penstock_wire::types::ValueKind;
use server::{Database, database};

const SLOT_LIMIT: Duration = Duration::from_secs(60);

fn public(table: &str) -> TableName {
    TableName::new("public", table)
}

async fn error_of(options: ConnectOptions) -> CatalogError {
    let error = Catalog::new(options).connect().await.expect_err("the connection should fail");
    assert!(!format!("{error} {error:?}").contains("penstock-testbed"), "passwords must not be printed");
    error
}

// Connecting.

#[tokio::test]
async fn connects_over_tcp_with_and_without_tls() {
    let database = database();
    let authority = Some(database.server.certificates().unwrap().authority.clone());
    for (mode, root, encrypted) in [
        (TlsMode::Disable, None, false),
        (TlsMode::Prefer, None, true),
        (TlsMode::Require, None, true),
        (TlsMode::VerifyCa, authority.clone(), true),
        (TlsMode::VerifyFull, authority, true),
    ] {
        let name = format!("{mode} {}", database.address.database);
        let mut catalog =
            Catalog::new(ConnectOptions { application_name: name.clone(), ..database.over_tcp(mode, root) });
        catalog.connect().await.unwrap();
        let session =
            format!("SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = '{name}'");
        assert_eq!(database.sql(&session), if encrypted { "t" } else { "f" }, "{mode}");
    }
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused_with_the_remedy() {
    let database = database();
    let foreign = database.server.certificates().unwrap().foreign_authority.clone();
    let error = error_of(database.over_tcp(TlsMode::VerifyFull, Some(foreign))).await;
    assert_eq!(error.class(), Class::Halt, "{error:?}");
    assert!(error.advice().contains("root certificate"), "{}", error.advice());
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let database = database();
    let plain = Postgres::builder().start().unwrap();
    let mut options = database.over_tcp(TlsMode::Require, None);
    options.host = penstock::source::Host::Tcp { host: "127.0.0.1".into(), port: plain.address().port };
    let error = error_of(options).await;
    assert_eq!(error.class(), Class::Halt, "{error:?}");
    assert!(error.advice().contains("ssl = on"), "{}", error.advice());
}

#[tokio::test]
async fn wrong_passwords_and_databases_halt_and_absent_servers_are_waited_for() {
    let database = database();
    let tcp = || database.over_tcp(TlsMode::Disable, None);
    let wrong = error_of(ConnectOptions { password: Some(Secret::new("wrong")), ..tcp() }).await;
    assert_eq!((wrong.sqlstate(), wrong.class()), (Some("28P01"), Class::Halt), "{wrong:?}");
    let missing = error_of(ConnectOptions { password: None, ..tcp() }).await;
    assert_eq!(missing.class(), Class::Halt, "{missing:?}");
    assert_eq!(missing.advice(), "configure the password");
    let unknown = error_of(ConnectOptions { database: "nowhere".into(), ..tcp() }).await;
    assert_eq!((unknown.sqlstate(), unknown.class()), (Some("3D000"), Class::Halt), "{unknown:?}");
    let absent = penstock::source::Host::Tcp { host: "127.0.0.1".into(), port: 1 };
    let absent = error_of(ConnectOptions { host: absent, ..tcp() }).await;
    assert_eq!(absent.class(), Class::Retry, "{absent:?}");
}

#[tokio::test]
async fn a_frozen_server_is_given_up_in_time() {
    let server = Postgres::builder().start().unwrap();
    let database = database();
    let mut options = database.over_tcp(TlsMode::Disable, None);
    options.host = penstock::source::Host::Tcp { host: "127.0.0.1".into(), port: server.address().port };
    options.connect_timeout = Duration::from_millis(300);
    server.pause().unwrap();
    let error = error_of(options).await;
    assert_eq!(error.class(), Class::Retry, "{error:?}");
}

#[tokio::test]
async fn a_broken_connection_is_opened_again() {
    let database = database();
    let mut catalog = database.catalog();
    catalog.server_facts().await.unwrap();
    database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'test of %' AND datname = current_database()");
    // Whether the break is noticed before or by the next question is a race that both ways must survive.
    if let Err(error) = catalog.server_facts().await {
        assert_eq!(error.class(), Class::Retry, "{error:?}");
    }
    catalog.server_facts().await.unwrap();
}

// Server.

#[tokio::test]
async fn the_server_says_what_it_is() {
    let database = database();
    let mut catalog = database.catalog();
    let facts = catalog.server_facts().await.unwrap();
    assert_eq!(facts.version / 10_000, 15);
    assert_eq!((facts.wal_level.as_str(), facts.in_recovery, facts.encoding.as_str()), ("logical", false, "UTF8"));
    assert_eq!(facts.database, database.address.database);
    assert_eq!(
        facts.database_oid.to_string(),
        database.sql("SELECT oid FROM pg_database WHERE datname = current_database()")
    );
    assert_eq!((facts.slots_max, facts.wal_senders_max), (50, 50));
    assert_eq!((facts.wal_sender_timeout_ms, facts.slot_wal_keep_bytes), (Some(60_000), None));
    assert!(facts.superuser && !facts.rds);
    let identifier = catalog.system_identifier().await.unwrap().unwrap();
    assert_eq!(identifier.to_string(), database.sql("SELECT system_identifier FROM pg_control_system()"));
}

#[tokio::test]
async fn roles_are_seen_with_their_rights() {
    let database = database();
    let role = format!("role_{}", database.address.database);
    database.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'"));
    let options = ConnectOptions {
        user: role.clone(),
        password: Some(Secret::new("pw")),
        ..database.over_tcp(TlsMode::Disable, None)
    };
    let mut catalog = Catalog::new(options.clone());
    let facts = catalog.server_facts().await.unwrap();
    assert_eq!((facts.superuser, facts.replication, facts.role), (false, false, role.clone()));
    database.sql(&format!("ALTER ROLE {role} REPLICATION; REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"));
    let mut catalog = Catalog::new(options);
    assert!(catalog.server_facts().await.unwrap().replication);
    assert_eq!(catalog.system_identifier().await.unwrap(), None);
}

#[tokio::test]
async fn the_position_is_taken_after_the_clock() {
    let database = database();
    let mut catalog = database.catalog();
    database.sql("CREATE TABLE t (id int)");
    let before: Lsn = database.sql("INSERT INTO t VALUES (1); SELECT pg_current_wal_insert_lsn()").parse().unwrap();
    let clock: i64 = database.sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8").parse().unwrap();
    let reading = catalog.clock_reading().await.unwrap();
    assert!(reading.lsn >= EndLsn(before), "{} is before {before}", reading.lsn);
    assert!(reading.clock_us >= clock && reading.clock_us < clock + 60_000_000, "{} at {clock}", reading.clock_us);
}

// Tables and publications.

const TABLES: &str = "
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

async fn all_tables(database: &Database, patterns: &[&str]) -> BTreeMap<TableName, Table> {
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

// Types.

#[tokio::test]
async fn types_are_resolved_to_how_their_values_travel() {
    let database = database();
    database.sql(
        "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('fine'); CREATE TYPE pair AS (a int, b int);
         CREATE DOMAIN short AS varchar(10); CREATE DOMAIN shorter AS short; CREATE DOMAIN moods AS mood[];
         ALTER ROLE CURRENT_USER IN DATABASE CURRENT_CATALOG_NAME SET search_path = public"
            .replace("CURRENT_CATALOG_NAME", &database.address.database)
            .as_str(),
    );
    let expected = [
        ("uuid", ValueKind::Uuid, "uuid", None),
        ("varchar(255)", ValueKind::Text, "character varying(255)", None),
        ("numeric(8,2)", ValueKind::Numeric, "numeric(8,2)", None),
        ("timestamp(3)", ValueKind::Timestamp, "timestamp(3) without time zone", None),
        ("jsonb[]", ValueKind::Jsonb.array(), "jsonb[]", None),
        ("public.citext", ValueKind::Text, "public.citext", None),
        ("public.citext[]", ValueKind::Text.array(), "public.citext[]", None),
        ("public.mood", ValueKind::Text, "public.mood", None),
        ("public.mood[]", ValueKind::Text.array(), "public.mood[]", None),
        ("public.short", ValueKind::Text, "public.short", Some("character varying(10)")),
        ("public.shorter", ValueKind::Text, "public.shorter", Some("character varying(10)")),
        ("public.short[]", ValueKind::String, "public.short[]", None),
        ("public.moods", ValueKind::Text.array(), "public.moods", Some("public.mood[]")),
        ("public.pair", ValueKind::String, "public.pair", None),
        ("interval", ValueKind::String, "interval", None),
        ("interval[]", ValueKind::String, "interval[]", None),
        ("int2vector", ValueKind::String, "int2vector", None),
    ];
    let columns: Vec<String> =
        expected.iter().enumerate().map(|(number, (name, ..))| format!("c{number} {name}")).collect();
    database.sql(&format!("CREATE TABLE typed ({})", columns.join(", ")));
    let tables = all_tables(&database, &["public.typed"]).await;
    let wanted: Vec<(u32, i32)> =
        tables[&public("typed")].columns.iter().map(|column| (column.type_oid, column.modifier)).collect();
    let resolved = database.catalog().types(&wanted).await.unwrap();
    assert_eq!(resolved.len(), expected.len());
    for (found, (name, kind, pg_type, pg_base)) in resolved.into_iter().zip(expected) {
        let ResolvedType { info, .. } = found.unwrap_or_else(|| panic!("{name} is not found"));
        assert_eq!((info.kind, info.pg_type.as_str(), info.pg_base.as_deref()), (kind, pg_type, pg_base), "{name}");
    }
}

#[tokio::test]
async fn types_keep_their_place_and_unknown_ones_are_none() {
    let database = database();
    let resolved = database.catalog().types(&[(4_000_000, -1), (2950, -1), (25, -1), (2950, -1)]).await.unwrap();
    let found: Vec<Option<(&str, bool)>> = resolved
        .iter()
        .map(|found| found.as_ref().map(|found| (found.info.pg_type.as_str(), found.out_of_line)))
        .collect();
    assert_eq!(found, [None, Some(("uuid", false)), Some(("text", true)), Some(("uuid", false))]);
    assert!(database.catalog().types(&[]).await.unwrap().is_empty());
}

// Rows.

#[tokio::test]
async fn rows_are_seen_counted_and_estimated() {
    let database = database();
    database.sql(TABLES);
    database.sql(
        "INSERT INTO parts SELECT n, '2021-06-01' FROM generate_series(1, 100) n; ANALYZE parts_1; ANALYZE parts_2",
    );
    let tables = all_tables(&database, &["public.parts", "public.pairs"]).await;
    let rows = database.catalog().rows(&tables).await.unwrap();
    assert_eq!((rows[&public("parts")].any, rows[&public("parts")].estimate), (Some(true), Some(100)));
    assert_eq!((rows[&public("pairs")].any, rows[&public("pairs")].estimate), (Some(false), None));
    assert_eq!(database.catalog().count_rows(&public("parts")).await.unwrap(), 100);
}

#[tokio::test]
async fn rows_that_may_not_be_read_are_not_taken_for_none() {
    let database = database();
    let role = format!("role_{}", database.address.database);
    database.sql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'pw'; CREATE TABLE closed (id int); CREATE TABLE hidden (id int);
         INSERT INTO hidden VALUES (1); GRANT SELECT ON hidden TO {role}; ALTER TABLE hidden ENABLE ROW LEVEL SECURITY"
    ));
    let tables = all_tables(&database, &["public.*"]).await;
    let options =
        ConnectOptions { user: role, password: Some(Secret::new("pw")), ..database.over_tcp(TlsMode::Disable, None) };
    let rows = Catalog::new(options).rows(&tables).await.unwrap();
    assert_eq!((rows[&public("closed")].any, rows[&public("hidden")].any), (None, None));
}

// Setup.

#[tokio::test]
async fn setup_makes_what_is_missing_and_leaves_what_is_there() {
    let database = database();
    database.sql(TABLES);
    let mut catalog = database.catalog();
    let slot = format!("slot_{}", database.address.database);
    let names = [public("accounts"), TableName::new("Odd", "a.b")];
    assert_eq!(catalog.create_publication("p", &names).await.unwrap(), Step::Made(()));
    assert_eq!(catalog.create_publication("p", &names[..1]).await.unwrap(), Step::Found);
    let publication = catalog.publication("p").await.unwrap().unwrap();
    assert_eq!(publication.tables.keys().collect::<Vec<_>>(), [&names[1], &names[0]]);
    assert!(publication.via_root && publication.truncate);

    assert_eq!(catalog.slot(&slot).await.unwrap(), None);
    assert_eq!(catalog.slot_sample(&slot).await.unwrap(), None);
    let Step::Made(point) = catalog.create_slot(&slot, SLOT_LIMIT).await.unwrap() else { panic!("the slot is new") };
    assert_eq!(catalog.create_slot(&slot, SLOT_LIMIT).await.unwrap(), Step::Found);
    let made = catalog.slot(&slot).await.unwrap().unwrap();
    assert_eq!(
        (made.plugin.as_deref(), made.logical, made.temporary, made.active_pid),
        (Some("pgoutput"), true, false, None)
    );
    assert_eq!((made.database.as_ref(), made.confirmed_lsn), (Some(&database.address.database), Some(point)));
    assert_eq!((made.wal_status, made.two_phase, made.failover), (Some(WalStatus::Reserved), false, None));

    database.sql("INSERT INTO pairs SELECT n, gen_random_uuid() FROM generate_series(1, 1000) n");
    let sample = catalog.slot_sample(&slot).await.unwrap().unwrap();
    assert!(sample.confirmed_lag_bytes().unwrap() > 50_000, "{sample:?}");
    assert!(sample.retained_bytes() >= sample.confirmed_lag_bytes(), "{sample:?}");
    assert!(!sample.active);
}

#[tokio::test]
async fn a_refused_statement_leaves_nothing_behind() {
    let database = database();
    let mut catalog = database.catalog();
    let error = catalog.create_publication("p", &[public("nothing")]).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42P01"), "{error:?}");
    assert_eq!(catalog.publication("p").await.unwrap(), None);
}

#[tokio::test]
async fn a_slot_that_has_to_wait_for_a_transaction_is_given_up_in_time() {
    let database = database();
    database.sql("CREATE TABLE t (id int)");
    let mut session = database.address.psql_command().unwrap();
    let mut session = session.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut input = session.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"BEGIN; INSERT INTO t VALUES (1);\n").unwrap();
    database.address.wait_for("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database())").unwrap();
    let slot = format!("slot_{}", database.address.database);
    let error = database.catalog().create_slot(&slot, Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.class(), Class::Retry, "{error:?}");
    drop(input);
    session.wait().unwrap();
}

// Findings.

async fn found(catalog: &mut Catalog, config: &Config) -> Vec<Finding> {
    let source = &config.source;
    let server = catalog.server_facts().await.unwrap();
    let publication = catalog.publication(&source.publication).await.unwrap();
    let slot = catalog.slot(&source.slot).await.unwrap();
    let tables = catalog.tables(&config.tables.capture, &source.publication).await.unwrap();
    findings(
        &Facts { server: &server, publication: publication.as_ref(), slot: slot.as_ref(), tables: &tables },
        config,
    )
}

#[tokio::test]
async fn the_access_schema_can_be_captured_as_the_example_says() {
    let database = database();
    database.sql(include_str!("sql/access.sql"));
    let config = database
        .config(&[("TABLES__CAPTURE", "public.*"), ("TABLES__EXCLUDE", "public.auth_providers.adapter_config")]);
    let stops: Vec<String> = found(&mut database.catalog(), &config).await.iter().map(ToString::to_string).collect();
    let account = "stop table public.accounts: it has no account column account_id";
    assert!(
        stops.iter().filter(|line| !line.contains("penstock setup")).all(|line| line.starts_with(account)),
        "{stops:#?}"
    );
    assert_eq!(stops.len(), 3, "accounts have another column, and setup was not run: {stops:#?}");
}

/// Runs each remedy that is SQL until nothing is left that stops; a remedy that does not mend would go on for ever.
#[tokio::test]
async fn the_sql_of_every_remedy_mends_its_finding() {
    let database = database();
    database.sql(
        "CREATE TABLE accounts (account_id uuid, id int PRIMARY KEY, note text);
         CREATE UNLOGGED TABLE loose (account_id uuid, id int PRIMARY KEY);
         CREATE TABLE listed (account_id uuid, id int PRIMARY KEY, rest text);
         CREATE TABLE filtered (account_id uuid, id int PRIMARY KEY);
         CREATE TABLE parts (account_id uuid, id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
         CREATE PUBLICATION penstock FOR TABLE accounts, listed (account_id, id), filtered WHERE (id > 1), parts WITH (publish = 'insert')",
    );
    let config = database
        .config(&[("TABLES__CAPTURE", "public.accounts,public.loose,public.listed,public.filtered,public.parts")]);
    let mut catalog = database.catalog();
    let before = found(&mut catalog, &config).await;
    assert!(before.iter().filter(|finding| finding.severity == Severity::Stop).count() >= 9, "{before:#?}");
    for _ in 0..4 {
        for finding in found(&mut catalog, &config).await.iter().filter(|finding| !finding.mended_by_setup) {
            let sql = finding.remedy.rsplit_once(';').map_or("", |(sql, _)| sql);
            assert!(sql.starts_with("ALTER") || sql.starts_with("BEGIN"), "{finding}");
            database.sql(sql);
        }
    }
    catalog.create_slot(&config.source.slot, SLOT_LIMIT).await.unwrap();
    let after: Vec<String> = found(&mut catalog, &config).await.iter().map(ToString::to_string).collect();
    assert_eq!(after, Vec::<String>::new());
}

// Versions.

/// Major versions differ in columns of the catalog: what one lacks must be `None`, not an error.
#[tokio::test]
async fn every_supported_version_answers() {
    for major in [14, 16, 17, 18] {
        let postgres = Postgres::builder().major(major).start().unwrap();
        let database = Database { address: postgres.create_database("versions").unwrap(), server: postgres.into() };
        database.sql(
            "CREATE TABLE a (account_id uuid NOT NULL, id int PRIMARY KEY, c text[]); ALTER TABLE a REPLICA IDENTITY FULL;
             CREATE TABLE parts (account_id uuid NOT NULL, id int PRIMARY KEY) PARTITION BY HASH (id);
             CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
             ALTER TABLE parts REPLICA IDENTITY FULL; ALTER TABLE parts_0 REPLICA IDENTITY FULL",
        );
        let config = database.config(&[("TABLES__CAPTURE", "public.*")]);
        let mut catalog = database.catalog();
        assert!(catalog.clock_reading().await.unwrap().clock_us > 0);
        assert!(catalog.system_identifier().await.unwrap().is_some());
        let before = found(&mut catalog, &config).await;
        assert!(before.len() == 2 && before.iter().all(|finding| finding.mended_by_setup), "{major}: {before:#?}");
        let tables = all_tables(&database, &["public.*"]).await;
        catalog.create_publication(&config.source.publication, tables.keys()).await.unwrap();
        catalog.create_slot(&config.source.slot, SLOT_LIMIT).await.unwrap();
        assert_eq!(found(&mut catalog, &config).await, [], "{major}");
        let slot = catalog.slot(&config.source.slot).await.unwrap().unwrap();
        assert_eq!(
            (slot.failover, slot.inactive_since.is_some()),
            ((major >= 17).then_some(false), major >= 17),
            "{major}"
        );
        assert!(catalog.slot_sample(&config.source.slot).await.unwrap().is_some());
        let types: Vec<_> =
            tables[&public("a")].columns.iter().map(|column| (column.type_oid, column.modifier)).collect();
        assert!(catalog.types(&types).await.unwrap().iter().all(Option::is_some), "{major}");
        assert_eq!(catalog.rows(&tables).await.unwrap()[&public("parts")].any, Some(false), "{major}");
        if major == 18 {
            database.sql("ALTER PUBLICATION penstock SET (publish_generated_columns = stored)");
            let stops: Vec<String> = found(&mut catalog, &config).await.iter().map(ToString::to_string).collect();
            assert!(stops.len() == 1 && stops[0].contains("generated columns"), "{stops:?}");
        }
    }
}

#[tokio::test]
async fn a_standby_is_seen_for_what_it_is() {
    let primary = Postgres::builder().start().unwrap();
    let standby = primary.standby().unwrap();
    let database = Database { address: standby.address().clone(), server: standby.into() };
    let mut catalog = database.catalog();
    assert!(catalog.server_facts().await.unwrap().in_recovery);
    assert!(catalog.clock_reading().await.unwrap().lsn > EndLsn::default());
    let config = database.config(&[("TABLES__CAPTURE", "public.*")]);
    let found = found(&mut catalog, &config).await;
    assert!(found[0].to_string().starts_with("stop server: this is a standby"), "{found:#?}");
}
