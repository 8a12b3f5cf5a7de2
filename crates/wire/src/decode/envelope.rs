//! An envelope as a reader sees it.

use apache_avro::types::Value;

use super::fields::{Fields, wrong};
use super::{DecodeError, WriterSchema};
use crate::event::Op;
use crate::lsn::{CommitLsn, Lsn};
use crate::position::Seq;

/// A change of a row, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The old row, as far as it is known.
    pub before: Option<Row>,
    /// The new row.
    pub after: Option<Row>,
    /// Where the change comes from.
    pub source: Source,
    /// What happened.
    pub op: Op,
    /// Commit time, milliseconds since 1970.
    pub ts_ms: i64,
    /// The place in the Postgres transaction; `None` for backfilled rows.
    pub transaction: Option<TransactionPlace>,
    /// Fields of `after` that Postgres did not send: null there, and null is not the value.
    pub unchanged: Vec<String>,
}

/// A row's fields in schema order, by their Avro names, out of their unions. Decimals are `Value::BigDecimal`, with the
/// scale of the writer's schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub Vec<(String, Value)>);

/// `source` of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Wire version.
    pub version: String,
    /// Always `postgresql`.
    pub connector: String,
    /// The source's name.
    pub name: String,
    /// Commit time, milliseconds since 1970.
    pub ts_ms: i64,
    /// Commit time, microseconds since 1970.
    pub ts_us: i64,
    /// `false`, or `incremental` for backfilled rows.
    pub snapshot: String,
    /// Database.
    pub database: String,
    /// Schema in Postgres.
    pub schema: String,
    /// Table in Postgres.
    pub table: String,
    /// Transaction id.
    pub xid: Option<i64>,
    /// Where the change stands in the WAL: neither unique nor monotonic.
    pub row_lsn: Option<Lsn>,
    /// The commit.
    pub commit_lsn: CommitLsn,
    /// The record's place in the commit.
    pub seq: Seq,
}

/// `transaction` of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionPlace {
    /// `<xid>:<commit LSN>`, both decimal.
    pub id: String,
    /// 1-based place among the envelopes of the commit.
    pub total_order: u64,
    /// 1-based place among the table's envelopes of the commit.
    pub data_collection_order: u64,
}

impl Row {
    /// The field's value; `None` if the schema has no such field.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == field).map(|(_, value)| value)
    }
}

impl Envelope {
    /// Reads an envelope (what follows the frame) with the schema it was written with.
    pub fn decode(writer: &WriterSchema, body: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(writer.read(body)?)?;
        let letter = fields.text("op")?;
        let row = |row: Fields| {
            let scaled = |(name, value): (String, Value)| {
                let value = writer.scales.apply(&name, value);
                (name, value)
            };
            Row(row.into_plain().into_iter().map(scaled).collect())
        };
        Ok(Self {
            before: fields.optional_record("before")?.map(row),
            after: fields.optional_record("after")?.map(row),
            source: source(fields.record("source")?)?,
            op: Op::from_letter(&letter).ok_or_else(|| wrong("op", "one of c, u, d, r"))?,
            ts_ms: fields.long("ts_ms")?,
            transaction: fields.optional_record("transaction")?.map(transaction).transpose()?,
            unchanged: fields.texts("unchanged")?,
        })
    }
}

fn source(mut fields: Fields) -> Result<Source, DecodeError> {
    Ok(Source {
        version: fields.text("version")?,
        connector: fields.text("connector")?,
        name: fields.text("name")?,
        ts_ms: fields.long("ts_ms")?,
        ts_us: fields.long("ts_us")?,
        snapshot: fields.text("snapshot")?,
        database: fields.text("db")?,
        schema: fields.text("schema")?,
        table: fields.text("table")?,
        xid: fields.optional_long("txId")?,
        row_lsn: fields.optional_long("lsn")?.map(|lsn| Lsn(lsn.cast_unsigned())),
        commit_lsn: CommitLsn::new(fields.bits("commit_lsn")?),
        seq: Seq(fields.bits("seq")?),
    })
}

fn transaction(mut fields: Fields) -> Result<TransactionPlace, DecodeError> {
    Ok(TransactionPlace {
        id: fields.text("id")?,
        total_order: fields.bits("total_order")?,
        data_collection_order: fields.bits("data_collection_order")?,
    })
}
