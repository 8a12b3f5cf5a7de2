//! From a record's bytes to what happened to a row.
//!
//! ```text
//! schema id, JSON ─ insert ─▶ Schemas: a plan per schema        key ──▶ Key: account, table, row id
//!                                                               value ─▶ Event: the change, when it was written, problems
//! ```
//!
//! Columns are found by name in the schema that the record was written with: those that no decision reads are stepped over,
//! whatever they are, and those that are not there are told when the schema is inserted. No Avro value is built.
//!
//! Invariants: every function is total; the bytes of a record give an event or an error. An event has no less to it than the
//! record: what could not be read makes the row one that grants nothing, and is a [`Problem`]. Which of two records is newer,
//! and what an error means for the account, is for others to say.

mod columns;
mod documents;
mod envelope;
mod input;
mod key;
mod names;
mod problem;
mod rows;
mod schema;

use std::collections::BTreeMap;

use penstock_wire::account::GLOBAL;
use penstock_wire::event::Op;
use penstock_wire::framing::{self, FramingError};

use columns::Values;
use envelope::EnvelopePlan;
pub use envelope::Written;
use input::Input;
use key::KeyPlan;
use names::Kind;
pub use names::Names;
pub use problem::{Complaint, Problem};
pub use schema::SchemaError;

use crate::change::Action;
use crate::rows::{RowId, Table};

/// The schemas that records were written with, by their registry ids.
#[derive(Debug, Default)]
pub struct Schemas {
    names: Names,
    plans: BTreeMap<u32, Plan>,
}

#[derive(Debug)]
enum Plan {
    Key(KeyPlan),
    Envelope(Box<EnvelopePlan>),
    /// Of a table that decisions don't read, or of no table at all.
    Other,
}

/// A record's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// The account's text; `global` of rows without one.
    pub account: &'a str,
    /// The source's number, where the topic has it in its keys.
    pub source: Option<i64>,
    /// None: a row of a table that decisions don't read, or a record that is none of a row.
    pub row: Option<(Table, RowId)>,
}

/// What happened to a row of the access domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub table: Table,
    pub action: Action,
    /// None: a tombstone, of which there is nothing but its key.
    pub written: Option<Written>,
    /// What could not be read of the row.
    pub problems: Vec<Problem>,
}

/// A record cannot be read. The caller knows which; nothing here holds what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("not framed with a schema's id")]
    Frame(#[from] FramingError),
    /// Insert the schema, and decode again.
    #[error("the schema with id {0} is not known yet")]
    UnknownSchema(u32),
    #[error("the key does not begin with an account")]
    Account,
    #[error("schema {0} is not that of a key")]
    NoKey(u32),
    #[error("schema {schema} is not that of an envelope of {}", table.name())]
    NoEnvelope { schema: u32, table: Table },
    #[error("the key of {} is not what schema {schema} says", table.name())]
    Key { schema: u32, table: Table },
    #[error("in an envelope of {}, {part} is not what schema {schema} says", table.name())]
    Value { schema: u32, table: Table, part: &'static str },
    #[error("an envelope of {} with op {} has no row", table.name(), op.as_str())]
    NoRow { table: Table, op: Op },
}

impl Schemas {
    pub fn new(names: Names) -> Self {
        Self { names, plans: BTreeMap::new() }
    }

    /// Whether records that were written with this schema can be decoded.
    pub fn knows(&self, id: u32) -> bool {
        self.plans.contains_key(&id)
    }

    /// Compiles a writer's schema. The problems are columns that its rows lack and decisions need: none of them is live.
    ///
    /// Any schema can be inserted. One that is of the access domain, but that the bridge cannot have written, is an error.
    pub fn insert(&mut self, id: u32, json: &str) -> Result<Vec<Problem>, SchemaError> {
        let schema = serde_json::from_str(json).map_err(SchemaError::Json)?;
        let recognised = schema::record_name(&schema).and_then(|name| self.names.recognise(&name));
        let (plan, problems) = match recognised {
            None => (Plan::Other, Vec::new()),
            Some((table, kind)) => {
                let record = schema::record(&schema)?;
                match kind {
                    Kind::Key => (Plan::Key(KeyPlan::compile(table, &record)?), Vec::new()),
                    Kind::Envelope => {
                        let (plan, missing) = EnvelopePlan::compile(table, &record)?;
                        (Plan::Envelope(Box::new(plan)), missing)
                    }
                }
            }
        };
        self.plans.insert(id, plan);
        Ok(problems)
    }

    /// Reads a record's framed key. Not for controls, whose keys begin alike but are none of a row.
    pub fn decode_key<'a>(&self, key: &'a [u8]) -> Result<Key<'a>, DecodeError> {
        let (schema, body) = framing::split(key)?;
        let mut input = Input(body);
        let account = input.text().map_err(|_| DecodeError::Account)?;
        match self.plan(schema)? {
            Plan::Other => Ok(Key { account, source: None, row: None }),
            Plan::Envelope(_) => Err(DecodeError::NoKey(schema)),
            Plan::Key(plan) => {
                let read = plan.read(input).map_err(|_| DecodeError::Key { schema, table: plan.table });
                read.map(|(source, id)| Key { account, source, row: Some((plan.table, id)) })
            }
        }
    }

    /// Reads the framed value that stands under a key; None as a value is a tombstone. None as the answer: decisions don't
    /// read the key's table.
    pub fn decode_value(&self, key: &Key<'_>, value: Option<&[u8]>) -> Result<Option<Event>, DecodeError> {
        let Some((table, id)) = key.row else { return Ok(None) };
        let mut problems = Vec::new();
        if key.account == GLOBAL && table != Table::Tokens {
            problems.push(Problem { column: "account_id", complaint: Complaint::NoAccount });
        }
        let Some(value) = value else {
            return Ok(Some(Event { table, action: Action::Delete(id), written: None, problems }));
        };
        let (schema, body) = framing::split(value)?;
        let plan = match self.plan(schema)? {
            Plan::Envelope(plan) if plan.table == table => plan,
            Plan::Envelope(_) | Plan::Key(_) | Plan::Other => return Err(DecodeError::NoEnvelope { schema, table }),
        };
        let mut values = Values::ABSENT;
        let head = plan.read(body, &mut values).map_err(|part| DecodeError::Value { schema, table, part })?;
        if head.op != Op::Delete && !head.has_row {
            return Err(DecodeError::NoRow { table, op: head.op });
        }
        let row = if head.op == Op::Delete { None } else { plan.row(&values, &mut problems) };
        let action = match (head.op, row) {
            (Op::Delete, _) | (_, None) => Action::Delete(id),
            (Op::Create, Some(row)) => Action::Insert(id, row),
            (Op::Update, Some(row)) => Action::Update(id, row),
            (Op::Read, Some(row)) => Action::Load(id, row),
        };
        Ok(Some(Event { table, action, written: Some(head.written), problems }))
    }

    #[inline]
    fn plan(&self, id: u32) -> Result<&Plan, DecodeError> {
        self.plans.get(&id).ok_or(DecodeError::UnknownSchema(id))
    }
}
