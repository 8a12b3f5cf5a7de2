//! The bridge's configuration for the demo, written as a person would write it.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// What differs from one demo to the next.
#[derive(Debug)]
pub struct Configuration<'a> {
    /// The source's name.
    pub source: &'a str,
    /// The database's URL, with the password.
    pub url: &'a str,
    /// Kafka's bootstrap servers, separated by commas.
    pub bootstrap: &'a str,
    /// The change topic.
    pub topic: &'a str,
    /// The registry's base URL.
    pub registry: &'a str,
    /// Port of /metrics on loopback.
    pub http_port: u16,
}

impl Configuration<'_> {
    /// Writes it to `penstock.toml` in a folder, readable by its owner only: it holds a password.
    pub fn write(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let path = folder.join("penstock.toml");
        let mut file = std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("writing {}", path.display()))?;
        file.write_all(self.text().as_bytes()).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    fn text(&self) -> String {
        let brokers: Vec<String> = self.bootstrap.split(',').map(|broker| quoted(broker.trim())).collect();
        format!(
            r#"# Written by `cargo xtask demo`. Every key with its meaning: penstock.example.toml.

[source]
name = {source}
url = {url}

[kafka]
brokers = [{brokers}]
topic = {topic}
replication = 1

[registry]
url = {registry}

[tables]
capture = ["public.*"]
# Secrets: in no record, no schema, no log.
exclude = [
    "public.auth_providers.adapter_config",
    "public.auth_providers.adapter_state",
    "public.auth_identities.provider_state",
    "public.tokens.secret_salt",
    "public.tokens.secret_hash",
]

[tables."public.accounts"]
account_column = "id"

[http]
listen = "127.0.0.1:{port}"
"#,
            source = quoted(self.source),
            url = quoted(self.url),
            brokers = brokers.join(", "),
            topic = quoted(self.topic),
            registry = quoted(self.registry),
            port = self.http_port,
        )
    }
}

/// A TOML basic string. JSON's escapes are all TOML escapes.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::Configuration;

    #[test]
    fn values_are_quoted_and_brokers_are_a_list() {
        let configuration = Configuration {
            source: "demo",
            url: "postgres://u:\"\\@h/d",
            bootstrap: "one:9092, two:9092",
            topic: "demo.changes",
            registry: "http://127.0.0.1:1/",
            http_port: 9_464,
        };
        let text = configuration.text();
        assert!(text.contains(r#"url = "postgres://u:\"\\@h/d""#), "{text}");
        assert!(text.contains(r#"brokers = ["one:9092", "two:9092"]"#), "{text}");
        assert!(text.contains(r#"listen = "127.0.0.1:9464""#), "{text}");
    }
}
