//! Why the registry's answer stops the bridge, and what the operator can do about it.
//!
//! Every error here tells its remedy itself. None holds a credential.

use tokio_rustls::rustls::CertificateError;

use super::difference::Difference;

/// The registry refused, or what answers is no registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The compatibility rule of the subject forbids the schema.
    #[error(
        "the registry refuses the schema of subject {subject:?} as incompatible (409) under its compatibility rule{}: {}{reason}. \
         Nothing was written with it. Rows of this shape stand in the WAL, so undoing the change of the table does not bring the \
         bridge past them. Choose: let the registry take the schema (set the subject's compatibility rule to one that allows it, \
         NONE allows any; start; then set it back), once readers that resolve to one version can read both; or leave the \
         field out of all records (tables.exclude); or begin a new topic. `penstock schema --check` shows a change before it is \
         made", named(.rule.as_deref()), told(.difference.as_ref())
    )]
    Incompatible {
        /// The subject.
        subject: String,
        /// Its rule, if the registry tells it.
        rule: Option<String>,
        /// From the newest version to this one, if the registry tells that.
        difference: Option<Difference>,
        /// What the registry said.
        reason: String,
    },
    /// A table's key would be written differently.
    #[error(
        "the key schema of subject {subject:?}, pinned as id {pinned}, would change: {difference}. A table's key bytes never \
         change: readers would hold rows under two keys. Nothing was written with it, and nothing registered. Rows of this \
         shape stand in the WAL, so undoing the change of the table does not bring the bridge past them: begin a new topic \
         (kafka.topic, source.slot) and load it"
    )]
    KeyChanged {
        /// The subject.
        subject: String,
        /// The id of the schema that the topic's keys are written with.
        pinned: u32,
        /// From the pinned schema to this one.
        difference: Difference,
    },
    /// The compatibility rule would let it pass, and readers would take older bytes for other numbers.
    #[error(
        "the schema of subject {subject:?} would give older records another meaning: {difference}. Avro's rules take strings, \
         and decimals of any scale, for the same, and a reader that resolves to the new schema would read wrong numbers. \
         Nothing was written with it. Choose: take the choice in tables.decimal back, if that is what changed; or let the \
         subject's compatibility rule allow any change (NONE) until it is registered; or leave the field out of all records \
         (tables.exclude)"
    )]
    Meaning {
        /// The subject.
        subject: String,
        /// The fields that mean something else.
        difference: Difference,
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
    /// It does not prove who it is.
    #[error("the certificate of the registry at {url} is not trusted: {reason}. {advice}")]
    Untrusted {
        /// The URL.
        url: String,
        /// What is wrong with its certificate.
        reason: CertificateError,
        /// What the operator can do.
        advice: &'static str,
    },
    /// It speaks another TLS than we do, or asks for what we do not have.
    #[error(
        "no TLS with the registry at {url}: {reason}. See its log: it may ask for a client certificate, which Penstock does not show it, or have no TLS version in common"
    )]
    Incommunicable {
        /// The URL.
        url: String,
        /// What either side said.
        reason: String,
    },
    /// The file of roots cannot be used.
    #[error(
        "registry.ca_certificate: {reason}. Name a PEM file of certificates that the user that runs Penstock may read"
    )]
    CaCertificate {
        /// The file, and what is wrong with it.
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

fn named(rule: Option<&str>) -> String {
    rule.map(|rule| format!(" {rule}")).unwrap_or_default()
}

/// The difference as the beginning of a sentence's rest.
fn told(difference: Option<&Difference>) -> String {
    match difference {
        Some(difference) if !difference.is_empty() => format!("{difference}. It says: "),
        Some(_) | None => String::new(),
    }
}
