//! The configuration as its user sees it: files, variables, messages.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::keys::{KEYS, TABLE_KEYS};
use super::*;
use crate::tls::TlsMode;

const MINIMAL: &str = r#"[source]
name = "portal"
url = "postgres://penstock@db.example:5433/portal"

[kafka]
brokers = ["kafka:9092"]

[registry]
url = "http://registry:8081/"

[tables]
capture = ["public.*"]
"#;

const EXAMPLE: &str = include_str!("../../penstock.example.toml");

/// A folder with a configuration in it that is as readable as the mode says.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(content: &str, mode: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("penstock.toml");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Self(folder)
    }

    fn load(&self, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(Some(&self.0.path().join("penstock.toml")), environment)
    }
}

fn load(content: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Folder::new(content, 0o644).load(environment)
}

/// The minimal file with a line put below its section's head.
fn minimal_with(section: &str, line: &str) -> String {
    let head = format!("[{section}]\n");
    if MINIMAL.contains(&head) {
        MINIMAL.replace(&head, &format!("{head}{line}\n"))
    } else {
        format!("{MINIMAL}{head}{line}\n")
    }
}

/// Every problem as `place: key: what; remedy`, the place without the folder.
fn problems(result: Result<Config, ConfigError>) -> Vec<String> {
    let error = result.expect_err("the configuration is wrong and must be refused");
    let file_name = |problem: &Problem| match &problem.origin {
        Origin::Line { line, .. } => format!("{line}"),
        Origin::Variable(name) => name.clone(),
        Origin::Nowhere => "-".to_owned(),
    };
    error
        .problems()
        .iter()
        .map(|problem| format!("{}: {}: {}; {}", file_name(problem), problem.key, problem.what, problem.remedy))
        .collect()
}

#[test]
fn twelve_lines_are_enough() {
    assert_eq!(MINIMAL.lines().count(), 12);
    let config = load(MINIMAL, &[]).unwrap();
    assert_eq!(config.source.slot, "penstock_portal");
    assert_eq!(config.source.publication, "penstock");
    assert_eq!(config.source.server.host, Host::Tcp { host: "db.example".into(), port: 5433 });
    assert_eq!((config.source.server.user.as_str(), config.source.server.database.as_str()), ("penstock", "portal"));
    assert_eq!(config.source.server.tls, TlsOptions::default());
    assert_eq!(config.kafka.topic, "access.changes");
    assert_eq!(config.kafka.namespace, "access.changes");
    assert_eq!((config.kafka.partitions, config.kafka.replication, config.kafka.min_insync_replicas), (12, 3, 2));
    assert_eq!(config.registry.url, "http://registry:8081");
    assert_eq!(config.limits.in_flight_bytes_max, penstock_core::limits::Limits::default().in_flight_bytes_max);
    let Backfill { workers, chunk_rows_max, chunk_bytes_max, rows_per_second } = config.backfill;
    assert_eq!((workers, chunk_rows_max, chunk_bytes_max, rows_per_second), (4, 5000, 2 << 20, 0));
    assert_eq!(config.tables.account_columns(&TableName::new("public", "policies")), ["account_id"]);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9464");
}

#[test]
fn the_tls_mode_is_left_to_the_host_unless_chosen() {
    for (url, variable, mode) in [
        ("postgres://u@db/d", None, None),
        ("postgres://u@db/d?sslmode=require", None, Some(TlsMode::Require)),
        ("postgres://u@db/d?sslmode=require", Some("verify-ca"), Some(TlsMode::VerifyCa)),
    ] {
        let mut environment = vec![("PENSTOCK_SOURCE__URL", url)];
        environment.extend(variable.map(|mode| ("PENSTOCK_SOURCE__TLS_MODE", mode)));
        let config = load(MINIMAL, &environment).unwrap();
        assert_eq!(config.source.server.tls.mode, mode, "{url}");
    }
}

#[test]
fn keys_of_their_own_win_over_the_url_and_variables_over_both() {
    let content = minimal_with("source", "port = 6000\ndatabase = \"other\"");
    let config =
        load(&content, &[("PENSTOCK_SOURCE__DATABASE", "third"), ("PENSTOCK_SOURCE__HOST", "/run/pg")]).unwrap();
    assert_eq!(config.source.server.database, "third");
    assert_eq!(config.source.server.host, Host::Unix { directory: PathBuf::from("/run/pg"), port: 6000 });
}

#[test]
fn everything_can_come_from_variables() {
    let environment = [
        ("PENSTOCK_SOURCE__NAME", "portal"),
        ("PENSTOCK_SOURCE__URL", "postgres://u:pw@db/portal"),
        ("PENSTOCK_KAFKA__BROKERS", "a:9092, b:9092"),
        ("PENSTOCK_KAFKA__PARTITIONS", "24"),
        ("PENSTOCK_KAFKA__PROPERTIES__SASL_PASSWORD", "pw"),
        ("PENSTOCK_REGISTRY__URL", "https://registry"),
        ("PENSTOCK_TABLES__EXCLUDE", "public.tokens.secret_hash,public.tokens.secret_salt"),
        ("PENSTOCK_CACHE", "not ours"),
        ("PATH", "/bin"),
    ];
    let variables = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::load(None, variables).unwrap();
    assert_eq!(config.kafka.brokers, ["a:9092", "b:9092"]);
    assert_eq!(config.kafka.partitions, 24);
    assert_eq!(config.kafka.properties["sasl.password"].expose(), "pw");
    assert_eq!(config.tables.exclude.len(), 2);
    assert_eq!(config.source.server.password, Some(Secret::new("pw")));
}

#[test]
fn unknown_names_are_refused_with_the_nearest_known() {
    for (section, line, expected) in [
        ("kafka", "partition = 3", "6: kafka.partition: there is no such key; did you mean partitions?"),
        ("source", "pasword_file = \"x\"", "2: source.pasword_file: there is no such key; did you mean password_file?"),
        ("kafka", "slot = \"x\"", "6: kafka.slot: there is no such key; slot belongs in section [source]"),
        ("kafak", "topic = \"x\"", "13: kafak: there is no such section; did you mean kafka?"),
        (
            "tables.\"public.a\"",
            "acount_column = \"id\"",
            "14: tables.\"public.a\".acount_column: there is no such key; did you mean account_column?",
        ),
        (
            "tables.public.a",
            "account_column = \"id\"",
            "13: tables.\"public\".a: a table's name is one key; write [tables.\"public.a\"], with the quotes",
        ),
    ] {
        assert_eq!(problems(load(&minimal_with(section, line), &[])), [expected]);
    }
    let variable = problems(load(MINIMAL, &[("PENSTOCK_KAFKA__PARTITION", "3")]));
    let expected =
        "PENSTOCK_KAFKA__PARTITION: : there is no setting of this name; did you mean PENSTOCK_KAFKA__PARTITIONS?";
    assert_eq!(variable, [expected]);
}

#[test]
fn values_that_make_no_sense_are_refused_with_a_remedy() {
    for (section, line, expected) in [
        ("kafka", "partitions = 0", "kafka.partitions: 0 is out of range; it must lie between 1 and 10000"),
        (
            "kafka",
            "partitions = \"3\"",
            "kafka.partitions: the value is of another kind (string); write a whole number",
        ),
        ("kafka", "topic = \"a b\"", "kafka.topic: \"a b\" is not a topic name"),
        ("kafka", "topic = \"a-b\"", "kafka.namespace: \"a-b\" cannot be the namespace of schemas"),
        ("kafka", "namespace = \"penstock.wire\"", "kafka.namespace: penstock is the bridge's own namespace"),
        (
            "kafka",
            "min_insync_replicas = 4",
            "kafka.min_insync_replicas: 4 is out of range; it must lie between 1 and 3",
        ),
        ("kafka", "properties = { acks = 1 }", "kafka.properties: acks is the bridge's own; remove it"),
        ("kafka", "properties.transactional.id = \"x\"", "kafka.properties: transactional.id is the bridge's own"),
        (
            "kafka",
            "properties = { \"sasl.password\" = \"x\" }",
            "kafka.properties: a secret stands in a file that others can read",
        ),
        ("source", "number = 65536", "source.number: 65536 is out of range; it must lie between 0 and 65535"),
        ("source", "slot = \"A\"", "source.slot: \"A\" is not a slot name"),
        (
            "source",
            "tls_mode = \"verify\"",
            "source.tls_mode: \"verify\" is no TLS mode; there are disable, prefer, require, verify-ca and verify-full",
        ),
        ("source", "user = \" \"", "source.user: the value is empty; set it or leave the key out"),
        (
            "tables",
            "exclude = [\"accounts.secret\"]",
            "tables.exclude: \"accounts.secret\" is not of the form schema.table.column",
        ),
        (
            "tables.accounts",
            "account_column = \"id\"",
            "tables.account_column: \"accounts\" is not of the form schema.table",
        ),
        ("tables", "account_column = []", "tables.account_column: the value is empty"),
        ("tables.\"public.a\"", "account_column = [\"id\", \"\"]", "tables.account_column: the value is empty"),
        (
            "limits",
            "group_bytes_max = 100_000_000",
            "limits.group_bytes_max: 100000000 never fits into the bytes in flight",
        ),
        ("backfill", "workers = 17", "backfill.workers: 17 is out of range; it must lie between 1 and 16"),
        ("backfill", "worker = 2", "backfill.worker: there is no such key; did you mean workers?"),
        ("backfill", "chunk_bytes_max = 1", "backfill.chunk_bytes_max: 1 is out of range; it must lie between 65536"),
        ("faults", "poison = \"skip\"", "faults.poison: \"skip\" is not known; accepted: halt, dead_letter"),
        (
            "faults",
            "oversized_transaction = \"skip\"",
            "faults.oversized_transaction: \"skip\" is not known; accepted: halt, split",
        ),
        ("http", "listen = \"9464\"", "http.listen: this is not address:port; write \"127.0.0.1:9464\""),
        ("log", "level = \"loud\"", "log.level: \"loud\" is not known; accepted: error, warn, info, debug, trace"),
        (
            "source",
            "tls_client_key = \"k\"",
            "source.tls_client_key: the key has no certificate; set source.tls_client_certificate",
        ),
        ("registry", "user = \"u\"", "registry.user: the user has no password; set registry.password_file"),
        ("source", "url = 3", "duplicate key"),
    ] {
        let found = problems(load(&minimal_with(section, line), &[]));
        assert!(found.len() == 1 && found[0].contains(expected), "{section} {line}: {found:?}");
    }
}

#[test]
fn addresses_with_a_password_are_refused_without_showing_it() {
    for (variable, address, expected) in [
        ("PENSTOCK_REGISTRY__URL", "http://u:hunter2@registry", "registry.url: it holds a user"),
        ("PENSTOCK_REGISTRY__URL", "http://u:hun/ter2@registry", "registry.url: it holds a user"),
        ("PENSTOCK_SOURCE__URL", "postgres://u:hun?ter2@host/d", "source.url: an @ stands behind a ?"),
        ("PENSTOCK_SOURCE__URL", "postgres://u:hun?ter2=@host/d", "source.url: an @ stands behind a ?"),
    ] {
        let found = problems(load(MINIMAL, &[(variable, address)]));
        assert!(found.iter().any(|line| line.contains(expected)), "{address}: {found:?}");
        assert!(found.iter().all(|line| !line.contains("ter2")), "{address}: {found:?}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let found = problems(load("[kafka]\npartitions = 0\n", &[]));
    let keys: Vec<&str> = found.iter().filter_map(|line| line.split(": ").nth(1)).collect();
    let expected = [
        "source.name",
        "source.host",
        "source.user",
        "source.database",
        "kafka.brokers",
        "kafka.partitions",
        "registry.url",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn broken_toml_names_its_line() {
    let found = problems(load("[source]\nname = \n", &[]));
    assert!(found.len() == 1 && found[0].starts_with("2: : not valid TOML"), "{found:?}");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Some(Path::new("/nonexistent/penstock.toml")), []).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/penstock.toml"), "{error}");
}

#[test]
fn a_password_may_stand_only_in_a_file_of_the_owner() {
    let content = minimal_with("source", "password = \"hunter2\"");
    assert_eq!(Folder::new(&content, 0o600).load(&[]).unwrap().source.server.password, Some(Secret::new("hunter2")));
    assert_eq!(Folder::new(&content, 0o400).load(&[]).unwrap().source.server.password, Some(Secret::new("hunter2")));
    for mode in [0o644, 0o640, 0o604, 0o660] {
        let found = problems(Folder::new(&content, mode).load(&[]));
        assert!(found.len() == 1 && found[0].starts_with("2: source.password: a secret stands"), "{mode:o}: {found:?}");
        assert!(!found[0].contains("hunter2"));
    }
    let content = MINIMAL.replace("penstock@", "penstock:hunter2@");
    let found = problems(Folder::new(&content, 0o644).load(&[]));
    assert!(found.len() == 1 && found[0].starts_with("3: source.url: a secret stands"), "{found:?}");
    assert!(Folder::new(&content, 0o600).load(&[]).is_ok());
}

#[test]
fn a_password_comes_from_a_file_beside_the_configuration_or_from_a_variable() {
    let folder = Folder::new(&minimal_with("source", "password_file = \"password\""), 0o644);
    let found = problems(folder.load(&[]));
    assert!(found[0].contains("source.password_file: cannot read"), "{found:?}");
    for (content, expected) in [("pw\n", "pw"), ("pw\r\n", "pw"), ("pw", "pw"), (" p w \n\n", " p w \n")] {
        fs::write(folder.0.path().join("password"), content).unwrap();
        assert_eq!(folder.load(&[]).unwrap().source.server.password, Some(Secret::new(expected)));
    }
    let by_variable = folder.load(&[("PENSTOCK_SOURCE__PASSWORD", "other")]).unwrap();
    assert_eq!(by_variable.source.server.password, Some(Secret::new("other")));
    fs::write(folder.0.path().join("password"), "\n").unwrap();
    assert!(problems(folder.load(&[]))[0].contains("is empty"));
    let both = minimal_with("source", "password_file = \"password\"\npassword = \"x\"");
    assert!(problems(Folder::new(&both, 0o600).load(&[]))[0].contains("both set"));
}

#[test]
fn kafka_properties_are_read_with_and_without_quotes_and_from_files() {
    let folder = Folder::new(
        &format!(
            "{MINIMAL}[kafka.properties]\nsecurity.protocol = \"SASL_SSL\"\n\"linger.ms\" = 5\n[kafka.property_files]\nsasl.password = \"secret\"\n"
        ),
        0o644,
    );
    fs::write(folder.0.path().join("secret"), "pw\n").unwrap();
    let config = folder.load(&[]).unwrap();
    let read: Vec<(&str, &str)> =
        config.kafka.properties.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(read, [("linger.ms", "5"), ("sasl.password", "pw"), ("security.protocol", "SASL_SSL")]);
    assert!(!format!("{config:?}").contains("\"pw\""), "passwords must not be printed");
}

#[test]
fn tables_have_rules_of_their_own() {
    let content = format!(
        "{MINIMAL}exclude = [\"public.tokens.secret_hash\"]\n[tables.\"public.accounts\"]\naccount_column = \"id\"\n"
    );
    let tables = load(&content, &[]).unwrap().tables;
    let accounts = TableName::new("public", "accounts");
    assert_eq!(tables.account_columns(&accounts), ["id"]);
    assert_eq!(tables.account_columns(&TableName::new("public", "tokens")), ["account_id"]);
    let renamed = content.replace("\"id\"", "[\"id\", \"account\"]");
    let environment = [("PENSTOCK_TABLES__ACCOUNT_COLUMN", "account_id, tenant_id")];
    let renamed = load(&renamed, &environment).unwrap().tables;
    assert_eq!(renamed.account_columns(&accounts), ["id", "account"]);
    assert_eq!(renamed.account_columns(&TableName::new("public", "tokens")), ["account_id", "tenant_id"]);
    assert!(tables.captures(&accounts) && !tables.captures(&TableName::new("private", "accounts")));
    let tables_left_out = load(&minimal_with("tables", "leave_out = [\"public.accounts\"]"), &[]).unwrap().tables;
    assert!(!tables_left_out.captures(&accounts) && tables_left_out.captures(&TableName::new("public", "tokens")));
    assert!(tables.exclude.contains(&TableName::new("public", "tokens").column("secret_hash")));
}

#[test]
fn the_example_is_valid_and_names_every_key() {
    load(EXAMPLE, &[]).unwrap_or_else(|error| panic!("{error}"));
    let mut section = "";
    let mut named = Vec::new();
    for line in EXAMPLE.lines().map(|line| line.trim_start_matches('#').trim_start()) {
        if let Some(head) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = head;
            named.push(head.to_owned());
        } else if let Some((key, _)) = line.split_once(" = ") {
            named.push(format!("{section}.{key}"));
        }
    }
    for key in KEYS {
        assert!(
            named.contains(&format!("{}.{}", key.section, key.name)),
            "{}.{} is not in the example",
            key.section,
            key.name
        );
    }
    for key in TABLE_KEYS {
        assert!(named.contains(&format!("tables.\"public.accounts\".{key}")), "{key} is not in the example");
    }
}

/// In the example, `#key = value` shows a default; with it written out nothing may change.
#[test]
fn the_defaults_in_the_example_are_the_defaults() {
    let written_out: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|letter: char| letter.is_ascii_lowercase()) => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(written_out.matches('\n').count() > 20 && written_out != EXAMPLE);
    let folder = Folder::new(EXAMPLE, 0o644);
    let before = folder.load(&[]).unwrap();
    fs::write(folder.0.path().join("penstock.toml"), written_out).unwrap();
    assert_eq!(folder.load(&[]).unwrap_or_else(|error| panic!("{error}")), before);
}
