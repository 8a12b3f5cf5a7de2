//! Every setting there is: its section, its name, and the kind of its value.
//!
//! Invariant: a setting that is not listed here can neither be written in the file nor be set by a variable, and
//! `read` cannot ask for it; `penstock.example.toml` names all of them (a test compares).

/// What a setting's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A text that must not lie where others can read it.
    Secret,
    Integer,
    Boolean,
    /// A list of texts; comma-separated in a variable.
    List,
    /// A text, or a list of texts; comma-separated in a variable.
    Names,
    /// Free names with texts; in the file a table of its own.
    Map,
}

impl Kind {
    /// How messages call it, with an example of how it is written in the file.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Text | Self::Secret => "a text, as in key = \"value\"",
            Self::Integer => "a whole number, as in key = 10",
            Self::Boolean => "true or false",
            Self::List => "a list of texts, as in key = [\"one\", \"two\"]",
            Self::Names => "a text, as in key = \"value\", or a list of texts",
            Self::Map => "a table of texts, as in [section.key] and below it name = \"value\"",
        }
    }
}

/// A setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub section: &'static str,
    pub name: &'static str,
    pub kind: Kind,
}

const fn key(section: &'static str, name: &'static str, kind: Kind) -> Key {
    Key { section, name, kind }
}

/// All settings, in the order of the example file.
pub(super) const KEYS: &[Key] = &[
    key("source", "name", Kind::Text),
    key("source", "number", Kind::Integer),
    key("source", "number_in_key", Kind::Boolean),
    key("source", "event_triggers", Kind::Boolean),
    key("source", "url", Kind::Text),
    key("source", "host", Kind::Text),
    key("source", "port", Kind::Integer),
    key("source", "user", Kind::Text),
    key("source", "database", Kind::Text),
    key("source", "password", Kind::Secret),
    key("source", "password_file", Kind::Text),
    key("source", "tls_mode", Kind::Text),
    key("source", "tls_root_certificate", Kind::Text),
    key("source", "tls_client_certificate", Kind::Text),
    key("source", "tls_client_key", Kind::Text),
    key("source", "slot", Kind::Text),
    key("source", "publication", Kind::Text),
    key("source", "status_interval_ms", Kind::Integer),
    key("source", "connect_timeout_ms", Kind::Integer),
    key("kafka", "brokers", Kind::List),
    key("kafka", "topic", Kind::Text),
    key("kafka", "partitions", Kind::Integer),
    key("kafka", "replication", Kind::Integer),
    key("kafka", "min_insync_replicas", Kind::Integer),
    key("kafka", "min_compaction_lag_ms", Kind::Integer),
    key("kafka", "delete_retention_ms", Kind::Integer),
    key("kafka", "namespace", Kind::Text),
    key("kafka", "transaction_timeout_ms", Kind::Integer),
    key("kafka", "properties", Kind::Map),
    key("kafka", "property_files", Kind::Map),
    key("registry", "url", Kind::Text),
    key("registry", "user", Kind::Text),
    key("registry", "password", Kind::Secret),
    key("registry", "password_file", Kind::Text),
    key("registry", "ca_certificate", Kind::Text),
    key("registry", "timeout_ms", Kind::Integer),
    key("tables", "capture", Kind::List),
    key("tables", "leave_out", Kind::List),
    key("tables", "account_column", Kind::Names),
    key("tables", "exclude", Kind::List),
    key("tables", "ignore_updates", Kind::List),
    key("tables", "accept_unchanged", Kind::List),
    key("tables", "accept_absent", Kind::List),
    key("tables", "accept_missing", Kind::List),
    key("tables", "decimal", Kind::List),
    key("limits", "in_flight_bytes_max", Kind::Integer),
    key("limits", "group_bytes_max", Kind::Integer),
    key("limits", "group_records_max", Kind::Integer),
    key("limits", "group_age_ms_max", Kind::Integer),
    key("limits", "record_bytes_max", Kind::Integer),
    key("limits", "frame_bytes_max", Kind::Integer),
    key("backfill", "workers", Kind::Integer),
    key("backfill", "chunk_rows_max", Kind::Integer),
    key("backfill", "chunk_bytes_max", Kind::Integer),
    key("backfill", "rows_per_second", Kind::Integer),
    key("faults", "oversized_transaction", Kind::Text),
    key("faults", "poison", Kind::Text),
    key("http", "listen", Kind::Text),
    key("log", "format", Kind::Text),
    key("log", "level", Kind::Text),
];

/// The keys of a `[tables."schema.table"]` section.
pub(super) const TABLE_KEYS: &[&str] = &["account_column"];

/// The setting of this name, if there is one.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// Whether there is a section of this name.
pub(super) fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.section == name)
}

/// The remedy for an unknown name: the nearest of the known ones if one is near, else all of them.
pub(super) fn suggest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.dedup();
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(unknown, name), *name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3));
    match nearest {
        Some((_, name)) => format!("did you mean {name}?"),
        None => format!("known are {}", known.join(", ")),
    }
}

/// The remedy for an unknown setting of a known section. A name that another section knows is pointed there.
pub(super) fn suggest_key(section: &str, unknown: &str) -> String {
    let elsewhere = KEYS.iter().find(|key| key.name == unknown && key.section != section);
    match elsewhere {
        Some(key) => format!("{unknown} belongs in section [{}]", key.section),
        None => suggest(unknown, KEYS.iter().filter(|key| key.section == section).map(|key| key.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_listed_once_and_sections_together() {
        for (index, key) in KEYS.iter().enumerate() {
            assert_eq!(
                KEYS.iter().position(|other| other.name == key.name && other.section == key.section),
                Some(index)
            );
        }
        let mut sections: Vec<_> = KEYS.iter().map(|key| key.section).collect();
        sections.dedup();
        assert_eq!(sections, ["source", "kafka", "registry", "tables", "limits", "backfill", "faults", "http", "log"]);
    }

    #[test]
    fn the_nearest_known_name_is_suggested() {
        for (section, unknown, expected) in [
            ("kafka", "partition", "did you mean partitions?"),
            ("kafka", "broker", "did you mean brokers?"),
            ("source", "pasword_file", "did you mean password_file?"),
            ("limits", "inflight_bytes_max", "did you mean in_flight_bytes_max?"),
            ("kafka", "publication", "publication belongs in section [source]"),
            ("log", "zzzzzzzzzzzz", "known are format, level"),
        ] {
            assert_eq!(suggest_key(section, unknown), expected, "{section}.{unknown}");
        }
    }
}
