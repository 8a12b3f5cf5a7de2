//! The schema registry: a schema's text in, its id out.
//!
//! Registered before first use. A registry that is down or overloaded is waited for, however long; one that refuses stops
//! the bridge with what it said, and so does one whose certificate is not trusted. Ids are cached by the caller's
//! relation versions, not here. One schema is registered at a time: a registry may refuse a subject that is being created for
//! another request. A change that the registry's rule would take for harmless, and readers for other numbers,
//! is refused where the rule refuses any ([`meaning`]). The file of trusted roots is read once, when the client is set up.

mod difference;
mod error;
mod meaning;
mod rules;

pub use difference::Difference;
pub use error::RegistryError;

use std::collections::BTreeSet;
use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_all_subjects, get_schema_by_id, get_schema_by_subject_and_version, is_compatible_schema,
    perform_sr_call, post_schema,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{SchemaType, SrCall, SuppliedSchema};
use tokio::sync::Mutex;
use tokio_rustls::rustls::CertificateError;

use crate::config;
use crate::health::Health;
use crate::metrics::{Metrics, Registration};
use crate::run::describe;
use crate::tls::{TlsError, TlsMode, TlsOptions, refusal_behind};

use rules::Rules;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How to reach it.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Base URL of the Confluent API, for instance `http://localhost:8081`.
    pub url: String,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// PEM file of the roots to trust instead of the system's.
    pub ca_certificate: Option<PathBuf>,
    /// How long one request may take.
    pub timeout: Duration,
}

impl From<&config::Registry> for RegistryOptions {
    fn from(registry: &config::Registry) -> Self {
        Self {
            url: registry.url.clone(),
            login: registry.login.as_ref().map(|login| (login.user.clone(), login.password.expose().to_owned())),
            ca_certificate: registry.ca_certificate.clone(),
            timeout: registry.timeout,
        }
    }
}

/// Client of one registry.
#[derive(Clone, Debug)]
pub struct Registry {
    settings: SrSettings,
    url: String,
    metrics: Option<Metrics>,
    rules: Rules,
    /// Whose turn it is to register.
    turn: Arc<Mutex<()>>,
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
        let settings = builder
            .build_with(client(options)?)
            .map_err(|error| RegistryError::Setup { url: url.clone(), reason: error.error })?;
        let rules = Rules::new(options)?;
        Ok(Self { settings, url, metrics: None, rules, turn: Arc::default() })
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
        let _turn = self.turn.lock().await;
        let attempt = || async {
            if let Some(difference) = self.changed_meaning(subject, schema).await? {
                return Ok(Err(RegistryError::Meaning { subject: subject.to_owned(), difference }));
            }
            post_schema(&self.settings, subject.to_owned(), avro(schema)).await.map(|registered| Ok(registered.id))
        };
        let registered = match self.persist(subject, health, attempt).await {
            Ok(registered) => registered,
            Err(RegistryError::Incompatible { subject, reason, .. }) => {
                let (rule, difference) = tokio::join!(self.rules.refusing(&subject), self.difference(&subject, schema));
                return Err(RegistryError::Incompatible { subject, rule, difference, reason });
            }
            Err(error) => return Err(error),
        };
        self.count(if registered.is_ok() { Registration::Registered } else { Registration::Refused });
        registered
    }

    /// Registers the schema of a table's key. Keys that are written already, with the schema `pinned`, never change: then
    /// nothing is registered.
    pub async fn register_key(
        &self,
        subject: &str,
        schema: &str,
        pinned: Option<u32>,
        health: &Health,
    ) -> Result<u32, RegistryError> {
        if let Some(pinned) = pinned {
            // One that the registry has lost cannot be compared; its id will tell.
            let attempt = || async { unless_missing(get_schema_by_id(pinned, &self.settings).await) };
            let known = self.persist(subject, health, attempt).await?;
            let difference = known.and_then(|known| Difference::between(&known.schema, schema));
            if let Some(difference) = difference.filter(|difference| !difference.is_empty()) {
                self.count(Registration::Refused);
                return Err(RegistryError::KeyChanged { subject: subject.to_owned(), pinned, difference });
            }
        }
        self.register(subject, schema, health).await
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
        let ask = async {
            Ok(self.changed_meaning(subject, schema).await?.is_none()
                && is_compatible_schema(&self.settings, subject.to_owned(), avro(schema)).await?)
        };
        let answer: Result<bool, SRCError> = ask.await;
        answer.map_err(|error| self.refused(subject, &error))
    }

    /// The fields that the schema would give another meaning than the newest one of the subject, if the subject's rule
    /// forbids that. A schema that the registry knows already was allowed then.
    async fn changed_meaning(&self, subject: &str, schema: &str) -> Result<Option<Difference>, SRCError> {
        if !subject.ends_with(".Envelope") {
            return Ok(None);
        }
        let newest = unless_missing(get_schema_by_subject_and_version(&self.settings, subject, None).await)?;
        let Some(newest) = newest else { return Ok(None) };
        let Some(change) = meaning::change(&newest.schema, schema) else { return Ok(None) };
        let body = serde_json::json!({ "schema": schema, "schemaType": "AVRO" }).to_string();
        if unless_missing(perform_sr_call(&self.settings, SrCall::PostForVersion(subject, &body)).await)?.is_some() {
            return Ok(None);
        }
        let allowed = is_compatible_schema(&self.settings, subject.to_owned(), avro(&change.question)).await?;
        let difference = Difference::between(&newest.schema, schema).unwrap_or_default().only(&change.fields);
        Ok((!allowed).then_some(difference))
    }

    /// From the subject's newest schema to this one, if the registry tells it.
    async fn difference(&self, subject: &str, schema: &str) -> Option<Difference> {
        let newest = get_schema_by_subject_and_version(&self.settings, subject, None).await.ok()?;
        Difference::between(&newest.schema, schema)
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
            // Somebody else is creating the subject; once that is done, the schemas are compared.
            Some(409) if reason.contains("already exists") => Verdict::Wait(format!("{subject}: {reason}")),
            Some(409) => Verdict::Stop(RegistryError::Incompatible { subject, rule: None, difference: None, reason }),
            Some(status) => Verdict::Stop(RegistryError::Refused { subject, status, reason }),
            None if error.error.starts_with("could not parse") || error.error.starts_with("Could not get id") => {
                Verdict::Stop(RegistryError::NotARegistry { url: self.url.clone(), reason })
            }
            None => self.judge_connection(error),
        }
    }

    /// No answer came. A certificate does not become another by waiting; everything else passes.
    fn judge_connection(&self, error: &SRCError) -> Verdict {
        let url = self.url.clone();
        let cause = error.source();
        match cause.and_then(refusal_behind) {
            Some(TlsError::Certificate(reason)) => {
                let advice = certificate_advice(&reason);
                Verdict::Stop(RegistryError::Untrusted { url, reason, advice })
            }
            Some(refusal) => Verdict::Stop(RegistryError::Incommunicable { url, reason: describe(&refusal) }),
            None => Verdict::Wait(format!("{url}: {}", cause.map_or_else(|| error.error.clone(), describe))),
        }
    }
}

fn avro(schema: &str) -> SuppliedSchema {
    SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned())
}

/// `None` for what the registry does not know.
fn unless_missing<T>(answer: Result<T, SRCError>) -> Result<Option<T>, SRCError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if status(&error.error) == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The HTTP client, as far as the settings' builder leaves it to us. Roots that are named are trusted instead of the
/// system's, as they are for Postgres.
fn client(options: &RegistryOptions) -> Result<reqwest::ClientBuilder, RegistryError> {
    let builder = reqwest::Client::builder();
    let Some(path) = &options.ca_certificate else { return Ok(builder) };
    let tls = TlsOptions { root_certificates: Some(path.clone()), ..TlsOptions::default() };
    let config = tls.client_config(TlsMode::VerifyFull);
    let config = config.map_err(|error| RegistryError::CaCertificate { reason: describe(&error) })?;
    Ok(builder.tls_backend_preconfigured(config))
}

fn certificate_advice(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "Write registry.url with a name that is among the certificate's subject alternative names"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "Renew it, or set this machine's clock right",
        _ => "Name the certificate (PEM) of who signed it in registry.ca_certificate",
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
    fn a_file_of_roots_that_cannot_be_used_is_named_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry-ca.pem");
        let set_up = || {
            let options = RegistryOptions {
                url: "https://registry".to_owned(),
                login: None,
                ca_certificate: Some(path.clone()),
                timeout: Duration::from_secs(1),
            };
            Registry::new(&options).map(|_| ()).unwrap_err().to_string()
        };
        let at = path.display();
        let missing = set_up();
        assert!(missing.starts_with(&format!("registry.ca_certificate: cannot read {at}: No such file")), "{missing}");
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for content in ["", "not a certificate", "-----BEGIN CERTIFICATE-----\n", damaged] {
            std::fs::write(&path, content).unwrap();
            let expected =
                format!("registry.ca_certificate: {at} holds no usable certificate in PEM form. Name a PEM file");
            let refused = set_up();
            assert!(refused.starts_with(&expected), "{content:?}: {refused}");
        }
    }

    #[test]
    fn the_status_is_read_from_the_clients_text() {
        assert_eq!(status("HTTP request to schema registry failed with status 409 Conflict"), Some(409));
        assert_eq!(status("error sending request"), None);
    }
}
