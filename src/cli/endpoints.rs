//! What a command that only reads the topic has to be told, and in how many places: a file, variables, options.

use std::path::{Path, PathBuf};

use clap::Args;

use super::environment;
use crate::config::{self, ConfigError, Endpoints};
use crate::kafka::client::Brokers;
use crate::registry::RegistryOptions;

/// The file that is read if it is there and no other is named.
const FILE: &str = "penstock.toml";

/// Where the topic and the registry are.
#[derive(Clone, Debug, Args)]
pub(super) struct EndpointArgs {
    /// Configuration file; of its sections [kafka] and [registry] are used. Without this option penstock.toml is read
    /// if there is one.
    #[arg(short, long, value_name = "FILE", env = "PENSTOCK_CONFIG")]
    config: Option<PathBuf>,
    /// Kafka's brokers; wins over the file's kafka.brokers, as PENSTOCK_KAFKA__BROKERS does.
    #[arg(long, value_name = "HOST:PORT,…", help_heading = "Instead of a configuration file")]
    brokers: Option<String>,
    /// The change topic; wins over kafka.topic.
    #[arg(long, value_name = "TOPIC", help_heading = "Instead of a configuration file")]
    topic: Option<String>,
    /// Base address of the registry's Confluent API; wins over registry.url.
    #[arg(long, value_name = "URL", help_heading = "Instead of a configuration file")]
    registry: Option<String>,
}

impl EndpointArgs {
    /// The configuration with the options over it.
    pub(super) fn load(&self) -> Result<Endpoints, ConfigError> {
        let options = [
            ("PENSTOCK_KAFKA__BROKERS", &self.brokers),
            ("PENSTOCK_KAFKA__TOPIC", &self.topic),
            ("PENSTOCK_REGISTRY__URL", &self.registry),
        ];
        let mut variables: Vec<(String, String)> = environment().collect();
        for (name, value) in options {
            if let Some(value) = value {
                variables.retain(|(variable, _)| variable != name);
                variables.push((name.to_owned(), value.clone()));
            }
        }
        if self.topic.is_some() {
            // Readers make no schemas: whether the topic's name could be their namespace does not matter.
            variables.push(("PENSTOCK_KAFKA__NAMESPACE".to_owned(), "reader".to_owned()));
        }
        let implied = Some(Path::new(FILE)).filter(|path| path.exists());
        Endpoints::load(self.config.as_deref().or(implied), variables)
    }
}

/// How to reach Kafka.
pub(super) fn brokers(kafka: &config::Kafka) -> Brokers {
    Brokers {
        bootstrap: kafka.brokers.join(","),
        properties: kafka.properties.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect(),
        transaction_timeout: kafka.transaction_timeout,
    }
}

/// How to reach the registry.
pub(super) fn registry(registry: &config::Registry) -> RegistryOptions {
    RegistryOptions::from(registry)
}
