//! The schemas that records were written with, each asked for once.
//!
//! A registry that is away is waited for, but not for ever: whoever reads wants to be told. An id that the registry does
//! not know is remembered as such: the records written with it cannot be read, all others can.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_wire::decode::WriterSchema;
use tokio::time::timeout;

use crate::health::{Health, Verdict};
use crate::registry::{Registry, RegistryError};

const PATIENCE: Duration = Duration::from_secs(30);

/// A schema, ready to be read with.
#[derive(Debug)]
pub struct Known {
    pub writer: WriterSchema,
    /// The namespace of the record it describes.
    pub namespace: String,
}

/// The registry cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// It answers with something else.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It does not answer.
    #[error("the schema registry did not answer within {} s: {reason}. Check registry.url", PATIENCE.as_secs())]
    Away {
        /// The last error.
        reason: String,
    },
}

/// By registry id.
#[derive(Debug)]
pub struct Schemas {
    registry: Registry,
    health: Health,
    known: BTreeMap<u32, Result<Known, String>>,
}

impl Schemas {
    /// Asks `registry`.
    pub fn new(registry: Registry) -> Self {
        Self { registry, health: Health::default(), known: BTreeMap::new() }
    }

    /// Asks for the schema unless it is known already.
    pub async fn fetch(&mut self, id: u32) -> Result<(), SchemaError> {
        if self.known.contains_key(&id) {
            return Ok(());
        }
        let known = match timeout(PATIENCE, self.registry.schema(id, &self.health)).await {
            Ok(Ok(text)) => Known::parse(&text),
            Ok(Err(RegistryError::Refused { status: 404, .. })) => Err(format!("the registry knows no schema {id}")),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(SchemaError::Away { reason: self.last_reason() }),
        };
        self.known.insert(id, known);
        Ok(())
    }

    /// A schema that was fetched, or why records cannot be read with it.
    pub fn get(&self, id: u32) -> Result<&Known, String> {
        match self.known.get(&id) {
            Some(Ok(known)) => Ok(known),
            Some(Err(reason)) => Err(reason.clone()),
            None => Err(format!("schema {id} was not asked for")),
        }
    }

    fn last_reason(&self) -> String {
        match self.health.verdict() {
            Verdict::Waiting(reasons) => reasons.join("; "),
            Verdict::Ready | Verdict::Delayed(_) | Verdict::Stopped(_) => "no answer".to_owned(),
        }
    }
}

impl Known {
    fn parse(text: &str) -> Result<Self, String> {
        let writer = WriterSchema::parse(text).map_err(|error| crate::run::describe(&error))?;
        let json: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let field = |name| json.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        // A registry may write the namespace as a part of the name.
        let namespace = match field("name").rsplit_once('.') {
            Some((namespace, _)) => namespace,
            None => field("namespace"),
        };
        Ok(Self { writer, namespace: namespace.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_found_however_the_registry_writes_it() {
        for text in [
            r#"{"type":"record","name":"Key","namespace":"t.public.a","fields":[]}"#,
            r#"{"type":"record","name":"t.public.a.Key","fields":[]}"#,
            r#"{"type":"record","name":"t.public.a.Key","namespace":"x","fields":[]}"#,
        ] {
            assert_eq!(Known::parse(text).unwrap().namespace, "t.public.a", "{text}");
        }
        assert!(Known::parse("{").is_err());
    }
}
