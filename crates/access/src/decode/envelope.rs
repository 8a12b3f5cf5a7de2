//! The decode plan of a table's envelopes: compiled once per schema, then from bytes to a row in one pass.
//!
//! The pass keeps what it needs where it stands in the record, and steps over the rest; a row is made of it afterwards,
//! because what Postgres did not send is told at the record's end.

use penstock_wire::event::Op;
use penstock_wire::lsn::CommitLsn;
use penstock_wire::position::Seq;

use super::columns::{Columns, Values};
use super::input::{Input, Malformed};
use super::problem::{Complaint, Problem};
use super::rows;
use super::schema::{Raw, Record, SchemaError, Type, each};
use crate::rows::{Row, Table};

/// How envelopes of one schema are read.
#[derive(Debug)]
pub(super) struct EnvelopePlan {
    pub(super) table: Table,
    parts: Box<[(&'static str, Part)]>,
    /// Of the new row.
    fields: Box<[RowField]>,
    /// The rows have all columns that are needed.
    complete: bool,
}

/// A field of the envelope, in the writer's order.
#[derive(Debug)]
enum Part {
    /// What stood there before is in the state already, if it matters.
    Skipped(Type),
    After,
    Source(Box<[SourceField]>),
    Op,
    Unchanged,
}

/// A column of the row.
#[derive(Debug)]
struct RowField {
    name: String,
    of: Type,
    slot: Option<usize>,
}

/// A field of `source`.
#[derive(Debug)]
struct SourceField {
    known: Option<Known>,
    of: Type,
}

/// A number in `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    CommitTime,
    CommitLsn,
    Seq,
}

/// What an envelope tells besides its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Commit time, microseconds since 1970, by Postgres' clock.
    pub time_us: i64,
    pub commit_lsn: CommitLsn,
    pub seq: Seq,
}

/// What an envelope tells besides the columns of its new row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) op: Op,
    pub(super) written: Written,
    /// There is a new row.
    pub(super) has_row: bool,
}

impl EnvelopePlan {
    /// Compiles a table's envelope; with it come the needed columns that its rows don't have.
    pub(super) fn compile(table: Table, envelope: &Record) -> Result<(Self, Vec<Problem>), SchemaError> {
        let form = |what| SchemaError::Form { record: envelope.name.clone(), what };
        let row = match envelope.field("after").map(|field| &field.of) {
            Some(Type::Union(branches)) => match &**branches {
                [Type::Null, Type::Record(row)] => row.clone(),
                _ => return Err(form("after is not a record or null")),
            },
            _ => return Err(form("after is not a record or null")),
        };
        for name in ["source", "op", "unchanged"] {
            envelope.field(name).ok_or_else(|| form("one of after, source, op and unchanged is missing"))?;
        }
        let parts = envelope.fields.iter().map(|field| {
            Ok(match (field.name.as_str(), &field.of) {
                ("after", _) => ("after", Part::After),
                ("source", Type::Record(source)) => ("source", Part::Source(source_fields(source)?)),
                ("op", Type::Text) => ("op", Part::Op),
                ("unchanged", Type::Array(items)) if **items == Type::Text => ("unchanged", Part::Unchanged),
                ("source" | "op" | "unchanged", _) => return Err(form("source, op or unchanged is of another type")),
                (_, of) => ("a field that is not needed", Part::Skipped(of.clone())),
            })
        });
        let parts = parts.collect::<Result<_, SchemaError>>()?;
        let columns = rows::columns(table);
        let field = |field: &super::schema::Field| RowField {
            name: field.name.clone(),
            of: field.of.clone(),
            slot: Values::slot(&field.name, columns),
        };
        let missing = columns.iter().filter(|column| column.needed && row.field(column.name).is_none());
        let missing: Vec<Problem> =
            missing.map(|column| Problem { column: column.name, complaint: Complaint::Missing }).collect();
        let fields = row.fields.iter().map(field).collect();
        Ok((Self { table, parts, fields, complete: missing.is_empty() }, missing))
    }

    /// Reads an envelope (what follows the frame), and its new row's columns into `values`, which are absent. An error names
    /// the part that is not what the schema says.
    pub(super) fn read<'a>(&self, body: &'a [u8], values: &mut Values<'a>) -> Result<Head, &'static str> {
        let mut input = Input(body);
        let mut op = None;
        let mut written = Written { time_us: 0, commit_lsn: CommitLsn::default(), seq: Seq::default() };
        let mut has_row = false;
        for (name, part) in &self.parts {
            let read = match part {
                Part::Skipped(of) => of.read(&mut input).map(|_| ()),
                Part::After => self.read_row(&mut input, values).map(|present| has_row = present),
                Part::Source(fields) => read_source(fields, &mut input, &mut written),
                Part::Op => read_op(&mut input).map(|found| op = Some(found)),
                Part::Unchanged => self.read_unchanged(&mut input, values),
            };
            read.map_err(|Malformed| *name)?;
        }
        if !input.0.is_empty() {
            return Err("what follows the last field");
        }
        Ok(Head { op: op.ok_or("op")?, written, has_row })
    }

    /// Makes a row of its columns. None: it is not live, and of a table whose rows can't say so.
    #[inline]
    pub(super) fn row(&self, values: &Values<'_>, problems: &mut Vec<Problem>) -> Option<Row> {
        rows::row(self.table, Columns::new(rows::columns(self.table), self.complete, values, problems))
    }

    /// Whether there is a row.
    #[inline]
    fn read_row<'a>(&self, input: &mut Input<'a>, values: &mut Values<'a>) -> Result<bool, Malformed> {
        match input.byte()? {
            0 => return Ok(false),
            2 => {}
            _ => return Err(Malformed),
        }
        for field in &self.fields {
            let value = field.of.read(input)?;
            if let Some(slot) = field.slot {
                values.put(slot, value);
            }
        }
        Ok(true)
    }

    fn read_unchanged<'a>(&self, input: &mut Input<'a>, values: &mut Values<'a>) -> Result<(), Malformed> {
        each(input, |input| {
            let name = input.bytes()?;
            let listed = self.fields.iter().find(|field| field.name.as_bytes() == name);
            if let Some(slot) = listed.and_then(|field| field.slot) {
                values.put(slot, Raw::Unchanged);
            }
            Ok(())
        })
    }
}

fn source_fields(source: &Record) -> Result<Box<[SourceField]>, SchemaError> {
    let form = || SchemaError::Form { record: source.name.clone(), what: "ts_us, commit_lsn or seq is no long" };
    let numbers = [("ts_us", Known::CommitTime), ("commit_lsn", Known::CommitLsn), ("seq", Known::Seq)];
    if numbers.iter().any(|(name, _)| source.field(name).is_none_or(|field| field.of != Type::Long)) {
        return Err(form());
    }
    let known = |name: &str| numbers.iter().find(|(number, _)| *number == name).map(|(_, known)| *known);
    let fields = source.fields.iter();
    Ok(fields.map(|field| SourceField { known: known(&field.name), of: field.of.clone() }).collect())
}

fn read_source(fields: &[SourceField], input: &mut Input<'_>, out: &mut Written) -> Result<(), Malformed> {
    for field in fields {
        match field.known {
            None => {
                field.of.read(input)?;
            }
            Some(Known::CommitTime) => out.time_us = input.long()?,
            Some(Known::CommitLsn) => out.commit_lsn = CommitLsn::new(input.long()?.cast_unsigned()),
            Some(Known::Seq) => out.seq = Seq(input.long()?.cast_unsigned()),
        }
    }
    Ok(())
}

fn read_op(input: &mut Input<'_>) -> Result<Op, Malformed> {
    match input.bytes()? {
        b"c" => Ok(Op::Create),
        b"u" => Ok(Op::Update),
        b"d" => Ok(Op::Delete),
        b"r" => Ok(Op::Read),
        _ => Err(Malformed),
    }
}
