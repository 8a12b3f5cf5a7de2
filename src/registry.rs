//! The schema registry: a schema's text in, its id out.
//!
//! Registered before first use. A registry that is down or overloaded is waited for, however long; one that refuses stops
//! the bridge with what it said. Ids are cached by the caller's relation versions, not here.

use std::collections::BTreeSet;
use std::time::Duration;

use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_all_subjects, get_schema_by_id, is_compatible_schema, post_schema,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{SchemaType, SuppliedSchema};

use crate::health::Health;
use crate::metrics::{Metrics, Registration};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How to reach it.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Base URL of the Confluent API, for instance `http://localhost:8081`.
    pub url: String,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// How long one request may take.
    pub timeout: Duration,
}

/// The registry refused, or what answers is no registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The compatibility rule of the subject forbids the schema.
    #[error(
        "the registry refuses the schema of subject {subject:?} as incompatible (409): {reason}. Nothing was written with it. \
             Look at the difference with `penstock schema`, then either change the subject's compatibility rule or undo the change of the table"
    )]
    Incompatible {
        /// The subject.
        subject: String,
        /// What the registry said.
        reason: String,
    },
    /// Any other refusal.
    #[error(
        "the registry refuses subject {subject:?} ({status}): {reason}. Check registry.url, its credentials and rights"
    )]
    Refused {
        /// The subject, or the schema id asked for.
        subject: String,
        /// HTTP status.
        status: u16,
        /// What the registry said.
        reason: String,
    },
    /// A successful answer without an id in it.
    #[error(
        "what answers at {url} is not a schema registry: {reason}. registry.url must be the base of a Confluent-compatible API"
    )]
    NotARegistry {
        /// The URL.
        url: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// Whoever asked does not wait.
    #[error("the registry at {url} does not answer: {reason}. Check registry.url, and that it is up")]
    Away {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// The client cannot be set up.
    #[error("cannot set up the registry's client for {url}: {reason}")]
    Setup {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
}

/// Client of one registry.
#[derive(Clone, Debug)]
pub struct Registry {
    settings: SrSettings,
    url: String,
    metrics: Option<Metrics>,
}

/// What to do about a failed request.
enum Verdict {
    Wait(String),
    Stop(RegistryError),
}

impl Registry {
    /// Sets up the client; connects on first use.
    pub fn new(options: &RegistryOptions) -> Result<Self, RegistryError> {
        let mut builder = SrSettings::new_builder(options.url.trim_end_matches('/').to_owned());
        builder.set_timeout(options.timeout);
        if let Some((user, password)) = &options.login {
            builder.set_basic_authorization(user, Some(password));
        }
        let url = options.url.clone();
        let settings =
            builder.build().map_err(|error| RegistryError::Setup { url: url.clone(), reason: error.error })?;
        Ok(Self { settings, url, metrics: None })
    }

    /// Counts what the registry answers.
    pub fn counted(self, metrics: Metrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    fn count(&self, result: Registration) {
        if let Some(metrics) = &self.metrics {
            metrics.schema_registration(result);
        }
    }

    /// Registers `schema` under `subject` and gives its id. Waits as long as the registry is away; dropping the future
    /// ends the wait.
    pub async fn register(&self, subject: &str, schema: &str, health: &Health) -> Result<u32, RegistryError> {
        let attempt = || async {
            let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
            post_schema(&self.settings, subject.to_owned(), supplied).await.map(|registered| registered.id)
        };
        self.persist(subject, health, attempt).await
    }

    /// The text of the schema with that id.
    pub async fn schema(&self, id: u32, health: &Health) -> Result<String, RegistryError> {
        let attempt = || async { get_schema_by_id(id, &self.settings).await.map(|registered| registered.schema) };
        self.persist(&format!("schema id {id}"), health, attempt).await
    }

    /// The subjects it knows. Asks once.
    pub async fn subjects(&self) -> Result<BTreeSet<String>, RegistryError> {
        let subjects = get_all_subjects(&self.settings).await;
        subjects.map(BTreeSet::from_iter).map_err(|error| self.refused("(all)", &error))
    }

    /// Whether the subject's compatibility rule would let the schema be registered. Asks once and registers nothing.
    pub async fn would_accept(&self, subject: &str, schema: &str) -> Result<bool, RegistryError> {
        let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
        let answer = is_compatible_schema(&self.settings, subject.to_owned(), supplied).await;
        answer.map_err(|error| self.refused(subject, &error))
    }

    /// A failed request as an error, for whoever does not wait.
    fn refused(&self, subject: &str, error: &SRCError) -> RegistryError {
        match self.judge(subject, error) {
            Verdict::Stop(error) => error,
            Verdict::Wait(reason) => RegistryError::Away { url: self.url.clone(), reason },
        }
    }

    async fn persist<T, F>(&self, subject: &str, health: &Health, attempt: impl Fn() -> F) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, SRCError>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match attempt().await {
                Ok(answer) => {
                    health.no_longer_waits("registry");
                    self.count(Registration::Registered);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            match self.judge(subject, &error) {
                Verdict::Stop(error) => {
                    self.count(Registration::Refused);
                    return Err(error);
                }
                Verdict::Wait(reason) => {
                    self.count(Registration::Unavailable);
                    health.waits_for("registry", reason);
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The one place that decides between waiting and stopping.
    fn judge(&self, subject: &str, error: &SRCError) -> Verdict {
        let reason = error.cause.clone().unwrap_or_else(|| error.error.clone());
        let subject = subject.to_owned();
        match status(&error.error) {
            Some(408 | 429) | Some(500..=599) => Verdict::Wait(format!("{}: {reason}", error.error)),
            Some(409) => Verdict::Stop(RegistryError::Incompatible { subject, reason }),
            Some(status) => Verdict::Stop(RegistryError::Refused { subject, status, reason }),
            None if error.error.starts_with("could not parse") || error.error.starts_with("Could not get id") => {
                Verdict::Stop(RegistryError::NotARegistry { url: self.url.clone(), reason })
            }
            None => Verdict::Wait(format!("{}: {reason}", self.url)),
        }
    }
}

/// The client tells the status only in its text: "… failed with status 409 Conflict".
fn status(text: &str) -> Option<u16> {
    let (_, after) = text.split_once("failed with status ")?;
    after.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_from_the_clients_text() {
        assert_eq!(status("HTTP request to schema registry failed with status 409 Conflict"), Some(409));
        assert_eq!(status("error sending request"), None);
    }
}
