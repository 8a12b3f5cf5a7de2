//! What each section means: defaults, ranges, and what settings demand of each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use super::document::Document;
use super::error::{ConfigError, Origin};
use super::reader::{Name, Reader};
use super::{
    Backfill, ColumnName, Config, Endpoints, Faults, Http, Kafka, Limits, Log, LogFormat, LogLevel, Login,
    OversizedTransaction, Poison, Registry, Server, Source, TableName, Tables, url,
};
use crate::source::Host;
use crate::tls::{ClientIdentity, TlsMode, TlsOptions};

/// Two rows of the largest record, since an update can hold the old one and the new one.
const FRAME_BYTES_DEFAULT: usize = 32 * 1024 * 1024;
const HOUR_MS: i64 = 60 * 60 * 1000;
const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;
const DECADE_MS: i64 = 3650 * 24 * HOUR_MS;
const TERABYTE: i64 = 1 << 40;

/// Longest name that leaves room for `penstock_` in the 63 bytes of a slot's name.
const SOURCE_NAME_MAX: usize = 54;
/// Longest topic that leaves room for `.dead_letter` in Kafka's 249 characters.
const TOPIC_MAX: usize = 237;
/// Longest identifier that Postgres does not cut off.
const IDENTIFIER_MAX: usize = 63;

/// The whole configuration, or everything that is wrong with it.
pub(super) fn read(document: &Document) -> Result<Config, ConfigError> {
    if document.broken {
        return Err(ConfigError::Refused(document.problems.clone()));
    }
    let mut reader = Reader::new(document);
    let config = Config {
        source: source(&mut reader),
        kafka: kafka(&mut reader),
        registry: registry(&mut reader),
        tables: tables(&mut reader, document),
        limits: limits(&mut reader),
        backfill: backfill(&mut reader),
        faults: faults(&mut reader),
        http: http(&mut reader),
        log: log(&mut reader),
    };
    let problems = reader.into_problems();
    if problems.is_empty() { Ok(config) } else { Err(ConfigError::Refused(problems)) }
}

/// What readers of the topic need; the other sections may be missing.
pub(super) fn read_endpoints(document: &Document) -> Result<Endpoints, ConfigError> {
    if document.broken {
        return Err(ConfigError::Refused(document.problems.clone()));
    }
    let mut reader = Reader::new(document);
    let endpoints = Endpoints { kafka: kafka(&mut reader), registry: registry(&mut reader) };
    let problems = reader.into_problems();
    if problems.is_empty() { Ok(endpoints) } else { Err(ConfigError::Refused(problems)) }
}

fn source(reader: &mut Reader<'_>) -> Source {
    const NAME: Name = ("source", "name");
    const SLOT: Name = ("source", "slot");
    const PUBLICATION: Name = ("source", "publication");
    let name = reader.required(NAME, "give this database a short name; it is pinned at the first start");
    if !name.is_empty() && !is_slot_name(&name, SOURCE_NAME_MAX) {
        let remedy = format!("use lower-case letters, digits and _, at most {SOURCE_NAME_MAX}");
        reader.refuse(&reader.origin(NAME), NAME, format!("{name:?} is not a source name"), remedy);
    }
    let slot = reader.text(SLOT).unwrap_or_else(|| format!("penstock_{name}"));
    if !reader.origin(SLOT).is_nowhere() && !is_slot_name(&slot, IDENTIFIER_MAX) {
        let remedy = format!("Postgres takes lower-case letters, digits and _, at most {IDENTIFIER_MAX}");
        reader.refuse(&reader.origin(SLOT), SLOT, format!("{slot:?} is not a slot name"), remedy);
    }
    let publication = reader.text(PUBLICATION).unwrap_or_else(|| "penstock".to_owned());
    if publication.len() > IDENTIFIER_MAX {
        let remedy = format!("Postgres takes at most {IDENTIFIER_MAX} bytes");
        reader.refuse(&reader.origin(PUBLICATION), PUBLICATION, "the name is too long", remedy);
    }
    Source {
        name,
        number: reader.number(("source", "number"), 1, 0..=i64::from(u16::MAX)),
        number_in_key: reader.boolean(("source", "number_in_key"), false),
        event_triggers: reader.boolean(("source", "event_triggers"), true),
        server: server(reader),
        slot,
        publication,
        status_interval: reader.milliseconds(("source", "status_interval_ms"), 1000, 10..=60_000),
    }
}

/// The URL's parts, each replaced by the key of its own if that is set.
fn server(reader: &mut Reader<'_>) -> Server {
    const URL: Name = ("source", "url");
    const PASSWORD: Name = ("source", "password");
    let parts = reader.text(URL).map(|text| url::parse(&text)).unwrap_or_else(|| Ok(url::Parts::default()));
    let url_origin = reader.origin(URL);
    let parts = parts.unwrap_or_else(|error| {
        reader.refuse(&url_origin, URL, error.to_string(), "write postgres://user@host:port/database");
        url::Parts {
            host: Some(String::new()),
            user: Some(String::new()),
            database: Some(String::new()),
            ..url::Parts::default()
        }
    });
    if parts.password.is_some() {
        reader.check_literal(URL, &url_origin);
    }
    let port = port(reader, parts.port.as_deref());
    let host = part(reader, "host", parts.host);
    let host = if host.starts_with('/') {
        Host::Unix { directory: Path::new(&host).to_path_buf(), port }
    } else {
        Host::Tcp { host, port }
    };
    Server {
        tls: tls(reader, parts.tls_mode.as_deref(), parts.tls_root_certificate.as_deref()),
        host,
        user: part(reader, "user", parts.user),
        password: reader.password(PASSWORD.0).or(parts.password),
        database: part(reader, "database", parts.database),
        connect_timeout: reader.milliseconds(("source", "connect_timeout_ms"), 10_000, 100..=HOUR_MS),
    }
}

fn part(reader: &mut Reader<'_>, name: &'static str, from_url: Option<String>) -> String {
    match from_url {
        Some(value) => reader.text(("source", name)).unwrap_or(value),
        None => reader.required(
            ("source", name),
            &format!("set it, or source.url = \"postgres://user@host/database\" with its {name}"),
        ),
    }
}

fn port(reader: &mut Reader<'_>, from_url: Option<&str>) -> u16 {
    const DEFAULT: u16 = 5432;
    let url: Name = ("source", "url");
    let port = from_url.map(|text| text.parse::<u16>().ok().filter(|port| *port > 0));
    if port == Some(None) {
        reader.refuse(&reader.origin(url), url, "its port is not a number from 1 to 65535", "write host:5432");
    }
    reader.number(("source", "port"), port.flatten().unwrap_or(DEFAULT), 1..=i64::from(u16::MAX))
}

/// The mode stays open if none is chosen: it then follows from the host.
fn tls(reader: &mut Reader<'_>, mode: Option<&str>, root_certificate: Option<&str>) -> TlsOptions {
    const MODE: Name = ("source", "tls_mode");
    const URL: Name = ("source", "url");
    let url_mode = mode.and_then(|text| tls_mode(reader, URL, text));
    let own_mode = reader.text(MODE).and_then(|text| tls_mode(reader, MODE, &text));
    let url_root = root_certificate.map(|path| reader.resolve(path, &reader.origin(URL)));
    TlsOptions {
        mode: own_mode.or(url_mode),
        root_certificates: reader.path(("source", "tls_root_certificate")).or(url_root),
        client: client_identity(reader),
    }
}

fn tls_mode(reader: &mut Reader<'_>, key: Name, text: &str) -> Option<TlsMode> {
    let mode = text.parse::<TlsMode>();
    mode.map_err(|error| reader.refuse(&reader.origin(key), key, error.to_string(), "choose one of these")).ok()
}

fn client_identity(reader: &mut Reader<'_>) -> Option<ClientIdentity> {
    const CERTIFICATE: Name = ("source", "tls_client_certificate");
    const KEY: Name = ("source", "tls_client_key");
    match (reader.path(CERTIFICATE), reader.path(KEY)) {
        (Some(certificate), Some(key)) => Some(ClientIdentity { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            reader.refuse(
                &reader.origin(CERTIFICATE),
                CERTIFICATE,
                "the certificate has no key",
                "set source.tls_client_key",
            );
            None
        }
        (None, Some(_)) => {
            reader.refuse(&reader.origin(KEY), KEY, "the key has no certificate", "set source.tls_client_certificate");
            None
        }
    }
}

fn kafka(reader: &mut Reader<'_>) -> Kafka {
    const BROKERS: Name = ("kafka", "brokers");
    const TOPIC: Name = ("kafka", "topic");
    let brokers = reader.list::<String>(BROKERS, "");
    if brokers.is_empty() {
        let origin = reader.origin(BROKERS);
        reader.refuse(&origin, BROKERS, "no broker is named", "write brokers = [\"host:9092\"]");
    }
    for broker in brokers.iter().filter(|broker| !is_broker(broker)) {
        let what = format!("{broker:?} is not host:port");
        reader.refuse(&reader.origin(BROKERS), BROKERS, what, "write brokers = [\"host:9092\"]");
    }
    let topic = reader.text(TOPIC).unwrap_or_else(|| "access.changes".to_owned());
    if !is_topic(&topic) {
        let remedy = format!("Kafka takes letters, digits, dot, _ and -, here at most {TOPIC_MAX}");
        reader.refuse(&reader.origin(TOPIC), TOPIC, format!("{topic:?} is not a topic name"), remedy);
    }
    let replication = reader.number(("kafka", "replication"), 3, 1..=i64::from(i16::MAX));
    Kafka {
        brokers,
        namespace: namespace(reader, &topic),
        topic,
        partitions: reader.number(("kafka", "partitions"), 12, 1..=10_000),
        replication,
        min_insync_replicas: reader.number(
            ("kafka", "min_insync_replicas"),
            replication.min(2),
            1..=i64::from(replication),
        ),
        min_compaction_lag: reader.milliseconds(("kafka", "min_compaction_lag_ms"), WEEK_MS, 0..=DECADE_MS),
        delete_retention: reader.milliseconds(("kafka", "delete_retention_ms"), WEEK_MS, 60_000..=DECADE_MS),
        transaction_timeout: reader.milliseconds(("kafka", "transaction_timeout_ms"), 900_000, 1000..=24 * HOUR_MS),
        properties: reader.properties(),
    }
}

/// Schemas are named after the topic unless said otherwise.
fn namespace(reader: &mut Reader<'_>, topic: &str) -> String {
    const NAMESPACE: Name = ("kafka", "namespace");
    let namespace = reader.text(NAMESPACE).unwrap_or_else(|| topic.to_owned());
    let proposal = topic.replace(|letter: char| letter != '.' && !letter.is_ascii_alphanumeric(), "_");
    if !is_topic(topic) && reader.origin(NAMESPACE).is_nowhere() {
        return namespace; // The topic is complained about already.
    }
    if !is_namespace(&namespace) {
        let remedy = format!(
            "Avro takes names of letters, digits and _ between dots, none beginning with a digit; for instance namespace = {proposal:?}"
        );
        let what = format!("{namespace:?} cannot be the namespace of schemas");
        reader.refuse(&reader.origin(NAMESPACE), NAMESPACE, what, remedy);
    } else if namespace == "penstock" || namespace.starts_with("penstock.") {
        reader.refuse(&reader.origin(NAMESPACE), NAMESPACE, "penstock is the bridge's own namespace", "choose another");
    }
    namespace
}

fn registry(reader: &mut Reader<'_>) -> Registry {
    const URL: Name = ("registry", "url");
    const USER: Name = ("registry", "user");
    let url = reader.required(URL, "write the address of the registry's Confluent API");
    let origin = reader.origin(URL);
    if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
        reader.refuse(&origin, URL, "it does not begin with http:// or https://", "write http://host:8081");
    }
    // Wherever it stands: a / in a password ends the part that users stand in, and the address is told in errors.
    if url.contains('@') {
        reader.refuse(&origin, URL, "it holds a user", "set registry.user and registry.password_file");
    }
    let login = match (reader.text(USER), reader.password(USER.0)) {
        (Some(user), Some(password)) => Some(Login { user, password }),
        (None, None) => None,
        (Some(_), None) => {
            reader.refuse(&reader.origin(USER), USER, "the user has no password", "set registry.password_file");
            None
        }
        (None, Some(_)) => {
            reader.refuse(&Origin::Nowhere, USER, "the password has no user", "set registry.user");
            None
        }
    };
    Registry {
        url: url.trim_end_matches('/').to_owned(),
        login,
        ca_certificate: reader.path(("registry", "ca_certificate")),
        timeout: reader.milliseconds(("registry", "timeout_ms"), 10_000, 100..=HOUR_MS),
    }
}

const ACCOUNT_COLUMN: Name = ("tables", "account_column");

fn tables(reader: &mut Reader<'_>, document: &Document) -> Tables {
    const COLUMN: &str = "write \"schema.table.column\", parts with dots in double quotes";
    let mut account_columns = BTreeMap::new();
    for (name, (columns, origin)) in &document.account_columns {
        match name.parse::<TableName>() {
            Ok(table) => {
                let columns: Vec<String> = columns.iter().map(|column| column.text.clone()).collect();
                check_account_columns(&columns, origin, reader);
                account_columns.insert(table, columns);
            }
            Err(error) => {
                let remedy = "write [tables.\"schema.table\"], with the quotes";
                reader.refuse(origin, ACCOUNT_COLUMN, error.to_string(), remedy);
            }
        }
    }
    let account_column = match reader.is_set(ACCOUNT_COLUMN) {
        true => reader.list::<String>(ACCOUNT_COLUMN, ""),
        false => vec!["account_id".to_owned()],
    };
    check_account_columns(&account_column, &reader.origin(ACCOUNT_COLUMN), reader);
    let mut columns = |name| reader.list::<ColumnName>(("tables", name), COLUMN).into_iter().collect::<BTreeSet<_>>();
    Tables {
        exclude: columns("exclude"),
        ignore_updates: columns("ignore_updates"),
        accept_unchanged: columns("accept_unchanged"),
        accept_absent: columns("accept_absent"),
        decimal: columns("decimal"),
        leave_out: reader.list(("tables", "leave_out"), "write \"schema.table\"").into_iter().collect(),
        accept_missing: reader.list(("tables", "accept_missing"), "write \"schema.table\"").into_iter().collect(),
        capture: reader.list(("tables", "capture"), "write \"schema.table\" or \"schema.*\""),
        account_column,
        account_columns,
    }
}

fn check_account_columns(columns: &[String], origin: &Origin, reader: &mut Reader<'_>) {
    if columns.is_empty() || columns.iter().any(|column| column.trim().is_empty()) {
        reader.refuse(origin, ACCOUNT_COLUMN, "the value is empty", "name the column, or leave the key out");
    }
}

/// The defaults are the core's, which are what the memory guarantee is stated for.
fn limits(reader: &mut Reader<'_>) -> Limits {
    const IN_FLIGHT: Name = ("limits", "in_flight_bytes_max");
    const GROUP: Name = ("limits", "group_bytes_max");
    const RECORD: Name = ("limits", "record_bytes_max");
    let default = penstock_core::limits::Limits::default();
    let age_default_ms = u64::try_from(default.group_age_max.as_millis()).unwrap_or(u64::MAX);
    let limits = Limits {
        in_flight_bytes_max: reader.number(IN_FLIGHT, default.in_flight_bytes_max, 65_536..=TERABYTE),
        group_bytes_max: reader.number(GROUP, default.group_bytes_max, 65_536..=TERABYTE),
        group_records_max: reader.number(("limits", "group_records_max"), default.group_records_max, 1..=100_000_000),
        group_age_max: reader.milliseconds(("limits", "group_age_ms_max"), age_default_ms, 1..=60_000),
        record_bytes_max: reader.number(RECORD, default.record_bytes_max, 1024..=i64::from(i32::MAX)),
        frame_bytes_max: reader.number(
            ("limits", "frame_bytes_max"),
            FRAME_BYTES_DEFAULT,
            65_536..=i64::from(i32::MAX),
        ),
    };
    for (key, bytes) in [(GROUP, limits.group_bytes_max), (RECORD, limits.record_bytes_max)] {
        if bytes > limits.in_flight_bytes_max {
            let remedy = format!("lower it, or raise limits.in_flight_bytes_max (now {})", limits.in_flight_bytes_max);
            reader.refuse(&reader.origin(key), key, format!("{bytes} never fits into the bytes in flight"), remedy);
        }
    }
    limits
}

/// The defaults are the core's. A chunk goes through the bridge as one transaction does.
fn backfill(reader: &mut Reader<'_>) -> Backfill {
    let default = penstock_core::limits::Limits::default();
    Backfill {
        workers: reader.number(("backfill", "workers"), default.backfill_workers, 1..=16),
        chunk_rows_max: reader.number(("backfill", "chunk_rows_max"), default.chunk_rows_max, 1..=100_000),
        chunk_bytes_max: reader.number(("backfill", "chunk_bytes_max"), default.chunk_bytes_max, 65_536..=1 << 30),
        rows_per_second: reader.number(
            ("backfill", "rows_per_second"),
            default.backfill_rows_per_second,
            0..=1_000_000_000,
        ),
    }
}

fn faults(reader: &mut Reader<'_>) -> Faults {
    let policies = [("halt", OversizedTransaction::Halt), ("split", OversizedTransaction::Split)];
    let oversized = reader.choice(("faults", "oversized_transaction"), &policies);
    let poison = reader.choice(("faults", "poison"), &[("halt", Poison::Halt), ("dead_letter", Poison::DeadLetter)]);
    Faults {
        oversized_transaction: oversized.unwrap_or(OversizedTransaction::Halt),
        poison: poison.unwrap_or(Poison::Halt),
    }
}

fn http(reader: &mut Reader<'_>) -> Http {
    const LISTEN: Name = ("http", "listen");
    let default = SocketAddr::from(([127, 0, 0, 1], 9464));
    let listen = reader.text(LISTEN).map_or(Ok(default), |text| text.parse());
    Http {
        listen: listen.unwrap_or_else(|_| {
            reader.refuse(&reader.origin(LISTEN), LISTEN, "this is not address:port", "write \"127.0.0.1:9464\"");
            default
        }),
    }
}

fn log(reader: &mut Reader<'_>) -> Log {
    let format = reader.choice(("log", "format"), &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let level = reader.choice(("log", "level"), &levels.map(|level| (level.as_str(), level)));
    Log { format: format.unwrap_or(LogFormat::Text), level: level.unwrap_or(LogLevel::Info) }
}

fn is_slot_name(name: &str, length_max: usize) -> bool {
    let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    letters && !name.is_empty() && name.len() <= length_max
}

fn is_topic(name: &str) -> bool {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    letters && !name.is_empty() && name.len() <= TOPIC_MAX && name != "." && name != ".."
}

fn is_namespace(name: &str) -> bool {
    name.split('.').all(|part| {
        let letters = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        letters && part.bytes().next().is_some_and(|first| !first.is_ascii_digit())
    })
}

fn is_broker(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}
