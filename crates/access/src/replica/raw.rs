//! A record as Kafka gives it, and what the reading rules need of it.

use std::collections::BTreeMap;

use penstock_wire::control::Control;
use penstock_wire::decode::{WriterSchema, account_of_key};
use penstock_wire::framing;
use penstock_wire::header::Header;

use super::problem::{Problem, ProblemKind};
use crate::change::Action;
use crate::decode::{DecodeError, Event, Names, Schemas};
use crate::partition::{Kind, Record};

/// A record of an assigned partition, in Kafka's parts.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    pub partition: u32,
    pub offset: i64,
    /// Kafka's timestamp: milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The value of the header `penstock`.
    pub header: Option<&'a [u8]>,
    /// There is a header `penstock.control`.
    pub is_control: bool,
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// The registry has to be asked for a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schema {0} is not known yet")]
pub struct UnknownSchema(pub u32);

/// The schemas that records were written with.
#[derive(Debug)]
pub(crate) struct Written {
    plans: Schemas,
    /// For controls.
    writers: BTreeMap<u32, WriterSchema>,
    /// Nothing can be read with them, and why.
    broken: BTreeMap<u32, String>,
}

impl Written {
    pub(crate) fn new(names: Names) -> Self {
        Self { plans: Schemas::new(names), writers: BTreeMap::new(), broken: BTreeMap::new() }
    }

    pub(crate) fn insert(&mut self, id: u32, json: Option<&str>) -> Vec<Problem> {
        let problem = |kind| Problem { partition: None, offset: None, position: None, kind };
        let inserted = match json {
            None => Err("the registry does not have it".to_owned()),
            Some(json) => self.compile(id, json),
        };
        match inserted {
            Ok(problems) => problems.into_iter().map(|of| problem(ProblemKind::Columns { id, problem: of })).collect(),
            Err(reason) => {
                self.broken.insert(id, reason.clone());
                vec![problem(ProblemKind::Schema { id, reason })]
            }
        }
    }

    fn compile(&mut self, id: u32, json: &str) -> Result<Vec<crate::decode::Problem>, String> {
        let problems = self.plans.insert(id, json).map_err(|error| error.to_string())?;
        let writer = WriterSchema::parse(json).map_err(|error| error.to_string())?;
        self.writers.insert(id, writer);
        Ok(problems)
    }

    /// What the reading rules need. The inner error: the record has no place.
    pub(crate) fn read(&self, raw: &RawRecord<'_>) -> Result<Result<Record<Event>, String>, UnknownSchema> {
        let header = match raw.header.map(Header::decode) {
            Some(Ok(header)) => header,
            Some(Err(error)) => return Ok(Err(error.to_string())),
            None => return Ok(Err("it has no header \"penstock\"".to_owned())),
        };
        let (account, kind) = if raw.is_control { (None, self.control(raw)?) } else { self.row(raw)? };
        let bytes = raw.key.len() + raw.value.map_or(0, <[u8]>::len);
        Ok(Ok(Record { offset: raw.offset, timestamp_ms: raw.timestamp_ms, bytes, header, account, kind }))
    }

    fn control(&self, raw: &RawRecord<'_>) -> Result<Kind<Event>, UnknownSchema> {
        let Ok((id, body)) = framing::split(raw.value.unwrap_or_default()) else {
            return Ok(Kind::Undecodable { reason: "a control record that is not framed".to_owned(), row: None });
        };
        let reason = match (self.writers.get(&id), self.broken.get(&id)) {
            (Some(writer), _) => match Control::decode_with(writer, body) {
                Ok(control) => return Ok(Kind::Control(control)),
                Err(error) => error.to_string(),
            },
            (None, Some(reason)) => format!("schema {id}: {reason}"),
            (None, None) => return Err(UnknownSchema(id)),
        };
        Ok(Kind::Undecodable { reason, row: None })
    }

    fn row(&self, raw: &RawRecord<'_>) -> Result<(Option<std::sync::Arc<str>>, Kind<Event>), UnknownSchema> {
        let key = match self.plans.decode_key(raw.key) {
            Ok(key) => key,
            Err(error) => {
                let reason = self.reason(error)?;
                let account = framing::split(raw.key).ok().and_then(|(_, body)| account_of_key(body).ok());
                return Ok((account.map(Into::into), Kind::Undecodable { reason, row: None }));
            }
        };
        let account = Some(key.account.into());
        let kind = match self.plans.decode_value(&key, raw.value) {
            Ok(None) => Kind::Skipped,
            Ok(Some(event)) if raw.value.is_none() => Kind::Tombstone(event),
            Ok(Some(event)) => Kind::Row(event),
            Err(error) => {
                let gone =
                    |(table, id)| Event { table, action: Action::Delete(id), written: None, problems: Vec::new() };
                Kind::Undecodable { reason: self.reason(error)?, row: key.row.map(gone) }
            }
        };
        Ok((account, kind))
    }

    /// Why a record cannot be read, if a schema is not all that is lacking.
    fn reason(&self, error: DecodeError) -> Result<String, UnknownSchema> {
        match error {
            DecodeError::UnknownSchema(id) => match self.broken.get(&id) {
                Some(reason) => Ok(format!("schema {id}: {reason}")),
                None => Err(UnknownSchema(id)),
            },
            error => Ok(error.to_string()),
        }
    }
}
