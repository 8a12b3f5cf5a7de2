//! A record as one line of JSON: the same fields in the same order for every kind, columns in the schema's order.

use apache_avro::types::Value;
use penstock_wire::control::Control;
use penstock_wire::dead_letter::DeadLetter;
use penstock_wire::decode::{Envelope, Row, to_json};
use penstock_wire::header::Header;
use penstock_wire::position::Position;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// What a record is.
#[derive(Debug)]
pub enum Content {
    /// A change of a row.
    Row { envelope: Box<Envelope>, key: Vec<(String, Value)> },
    /// The key of a deleted row, for compaction.
    Tombstone { key: Vec<(String, Value)>, table: String },
    /// What happened to a table or the stream itself.
    Control(Control),
    /// A row that could not be delivered, with its key where that could be made.
    DeadLetter { letter: Box<DeadLetter>, key: Option<Vec<(String, Value)>> },
    /// Not a record of the wire contract, or its schema is gone.
    Undecodable(String),
}

/// A record and where it stands.
#[derive(Debug)]
pub struct Line {
    pub partition: i32,
    pub offset: i64,
    /// Kafka's timestamp: the commit time.
    pub timestamp_ms: i64,
    /// `None` if it cannot be read.
    pub header: Option<Header>,
    pub account: Option<String>,
    pub content: Content,
    /// From the commit until this reader had it, by this machine's clock; only told while following.
    pub delay_ms: Option<f64>,
}

impl Content {
    /// The kind's name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Row { .. } => "row",
            Self::Tombstone { .. } => "tombstone",
            Self::Control(_) => "control",
            Self::DeadLetter { .. } => "dead_letter",
            Self::Undecodable(_) => "undecodable",
        }
    }

    /// `schema.table` as configurations write it; of a tombstone as far as Avro's names tell it.
    pub fn table(&self) -> Option<String> {
        let name = |schema: &str, table: &str| crate::config::TableName::new(schema, table).to_string();
        match self {
            Self::Row { envelope, .. } => Some(name(&envelope.source.schema, &envelope.source.table)),
            Self::Tombstone { table, .. } => Some(table.clone()),
            Self::DeadLetter { letter, .. } => Some(name(&letter.schema, &letter.table)),
            Self::Control(control) if !control.table.is_empty() => Some(name(&control.schema, &control.table)),
            Self::Control(_) | Self::Undecodable(_) => None,
        }
    }

    /// What happened to a row, if it is about one.
    pub fn op(&self) -> Option<&str> {
        match self {
            Self::Row { envelope, .. } => Some(envelope.op.as_str()),
            Self::DeadLetter { letter, .. } => Some(&letter.op),
            Self::Tombstone { .. } | Self::Control(_) | Self::Undecodable(_) => None,
        }
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (envelope, key) = match &self.content {
            Content::Row { envelope, key } => (Some(&**envelope), Some(key)),
            Content::Tombstone { key, .. } => (None, Some(key)),
            Content::DeadLetter { key, .. } => (None, key.as_ref()),
            Content::Control(_) | Content::Undecodable(_) => (None, None),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("position", &self.header.map(|header| At(header.position)))?;
        map.serialize_entry("partition", &self.partition)?;
        map.serialize_entry("offset", &self.offset)?;
        map.serialize_entry("kind", self.content.kind())?;
        map.serialize_entry("account", &self.account)?;
        map.serialize_entry("table", &self.content.table())?;
        map.serialize_entry("op", &self.content.op())?;
        map.serialize_entry("key", &key.map(|key| Columns(key)))?;
        map.serialize_entry("before", &envelope.and_then(|envelope| envelope.before.as_ref()).map(columns))?;
        map.serialize_entry("after", &envelope.and_then(|envelope| envelope.after.as_ref()).map(columns))?;
        map.serialize_entry("unchanged", envelope.map_or(&[][..], |envelope| &envelope.unchanged))?;
        map.serialize_entry("source", &envelope.map(SourceFacts))?;
        map.serialize_entry("transaction", &envelope.and_then(|e| e.transaction.as_ref()).map(Place))?;
        map.serialize_entry("control", &self.control())?;
        map.serialize_entry("header", &self.header.map(HeaderFacts))?;
        map.serialize_entry("timestamp_ms", &self.timestamp_ms)?;
        if let Some(delay_ms) = self.delay_ms {
            map.serialize_entry("delay_ms", &delay_ms)?;
        }
        if let Content::DeadLetter { letter, .. } = &self.content {
            map.serialize_entry("reason", &letter.reason)?;
            map.serialize_entry("columns", &letter.columns)?;
        }
        if let Content::Undecodable(reason) = &self.content {
            map.serialize_entry("error", reason)?;
        }
        map.end()
    }
}

impl Line {
    fn control(&self) -> Option<ControlFacts<'_>> {
        match &self.content {
            Content::Control(control) => Some(ControlFacts(control)),
            Content::Row { .. } | Content::Tombstone { .. } | Content::DeadLetter { .. } | Content::Undecodable(_) => {
                None
            }
        }
    }
}

/// A position as every JSON of Penstock's tells it.
#[derive(Clone, Copy, Debug)]
pub struct At(pub Position);

struct Columns<'a>(&'a [(String, Value)]);
struct SourceFacts<'a>(&'a Envelope);
struct Place<'a>(&'a penstock_wire::decode::TransactionPlace);
struct ControlFacts<'a>(&'a Control);
struct HeaderFacts(Header);

fn columns(row: &Row) -> Columns<'_> {
    Columns(&row.0)
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("epoch", &self.0.epoch)?;
        map.serialize_entry("commit_lsn", &self.0.commit_lsn.to_string())?;
        map.serialize_entry("seq", &self.0.seq.0)?;
        map.end()
    }
}

impl Serialize for Columns<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            match value {
                // Most values are texts, which need no copy to be printed.
                Value::String(text) => map.serialize_entry(name, text)?,
                other => map.serialize_entry(name, &to_json(other))?,
            }
        }
        map.end()
    }
}

impl Serialize for SourceFacts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let source = &self.0.source;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", &source.version)?;
        map.serialize_entry("connector", &source.connector)?;
        map.serialize_entry("name", &source.name)?;
        map.serialize_entry("ts_ms", &source.ts_ms)?;
        map.serialize_entry("ts_us", &source.ts_us)?;
        map.serialize_entry("snapshot", &source.snapshot)?;
        map.serialize_entry("db", &source.database)?;
        map.serialize_entry("schema", &source.schema)?;
        map.serialize_entry("table", &source.table)?;
        map.serialize_entry("txId", &source.xid)?;
        map.serialize_entry("lsn", &source.row_lsn.map(|lsn| lsn.to_string()))?;
        map.end()
    }
}

impl Serialize for Place<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("id", &self.0.id)?;
        map.serialize_entry("total_order", &self.0.total_order)?;
        map.serialize_entry("data_collection_order", &self.0.data_collection_order)?;
        map.end()
    }
}

impl Serialize for ControlFacts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let control = self.0;
        let mut map = serializer.serialize_map(Some(6))?;
        map.serialize_entry("kind", control.kind.as_str())?;
        map.serialize_entry("schema", &control.schema)?;
        map.serialize_entry("table", &control.table)?;
        map.serialize_entry("account", &control.account)?;
        map.serialize_entry("begin", &control.begin.map(At))?;
        map.serialize_entry("detail", &control.detail)?;
        map.end()
    }
}

impl Serialize for HeaderFacts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let header = &self.0;
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("source", &header.source)?;
        map.serialize_entry("end_of_transaction", &header.end_of_transaction)?;
        map.serialize_entry("identity_only", &header.identity_only)?;
        map.serialize_entry("previous", &At(header.previous))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_wire::lsn::CommitLsn;
    use penstock_wire::position::Seq;

    #[test]
    fn fields_stand_in_their_order_whatever_the_kind() {
        let position = Position { epoch: 1, commit_lsn: CommitLsn::new(0x16B_3748), seq: Seq(8) };
        let header = Header { end_of_transaction: true, position, ..Header::default() };
        let line = |content, delay_ms| Line {
            partition: 3,
            offset: 17,
            timestamp_ms: 5,
            header: Some(header),
            account: Some("a".into()),
            content,
            delay_ms,
        };
        let key = vec![("z".to_owned(), Value::Long(1)), ("a".to_owned(), Value::String("x".into()))];
        let tombstone = line(Content::Tombstone { key, table: "s.t".into() }, Some(1.5));
        assert_eq!(
            serde_json::to_string(&tombstone).unwrap(),
            r#"{"position":{"epoch":1,"commit_lsn":"0/16B3748","seq":8},"partition":3,"offset":17,"kind":"tombstone","#
                .to_owned()
                + r#""account":"a","table":"s.t","op":null,"key":{"z":1,"a":"x"},"before":null,"after":null,"#
                + r#""unchanged":[],"source":null,"transaction":null,"control":null,"#
                + r#""header":{"source":0,"end_of_transaction":true,"identity_only":false,"#
                + r#""previous":{"epoch":0,"commit_lsn":"0/0","seq":0}},"timestamp_ms":5,"delay_ms":1.5}"#
        );
        let columns = [("b".to_owned(), None), ("a".to_owned(), Some("1".to_owned()))].into();
        let (schema, table, op, reason) = ("s".into(), "t".into(), "u".into(), "too large".into());
        let letter = Box::new(DeadLetter { schema, table, op, reason, columns });
        let json = serde_json::to_string(&line(Content::DeadLetter { letter, key: None }, None)).unwrap();
        assert!(json.contains(r#""kind":"dead_letter","account":"a","table":"s.t","op":"u","key":null,"#), "{json}");
        assert!(json.ends_with(r#""timestamp_ms":5,"reason":"too large","columns":{"a":"1","b":null}}"#), "{json}");
        let control = line(Content::Control(Control::truncate("s", "t.u")), None);
        let json: serde_json::Value = serde_json::to_value(&control).unwrap();
        assert_eq!((&json["kind"], &json["table"]), (&"control".into(), &"s.\"t.u\"".into()));
        assert_eq!(json["control"]["kind"], "truncate");
        assert!(json.get("delay_ms").is_none());
    }
}
