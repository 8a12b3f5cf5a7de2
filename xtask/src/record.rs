//! A record as `penstock replay` prints it, as far as the demo looks at it.
//!
//! The lines come from another process: whatever does not look as expected is an error, never a guess.

use anyhow::{Context as _, bail};
use serde_json::Value;

/// A record of the change topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The partition.
    pub partition: u32,
    /// Its place in it.
    pub offset: u64,
    /// Its place in the source's order.
    pub position: Position,
    /// From the commit in Postgres until the reader had it, by the machine's clock; told while following only.
    pub delay_ms: Option<f64>,
    /// What it is.
    pub content: Content,
}

/// Epoch, commit LSN, seq; ordered as records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Raised when continuity is not certain.
    pub epoch: u64,
    /// Where the commit stands in the WAL.
    pub commit_lsn: u64,
    /// The place within the commit.
    pub seq: u64,
}

/// What a record is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A change of a row.
    Row(Row),
    /// The tombstone that follows a delete.
    Tombstone {
        /// The deleted row.
        subject: Subject,
    },
    /// A table was truncated.
    Truncate {
        /// Its name without the schema.
        table: String,
    },
    /// Another control record.
    Control {
        /// Which.
        kind: String,
        /// What it says.
        detail: String,
    },
}

/// A row, by what identifies it in the topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// The account it belongs to.
    pub account: String,
    /// Its table without the schema.
    pub table: String,
    /// The values of its primary key in the alphabetical order of its columns, separated by commas.
    pub key: String,
}

/// A change of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The row.
    pub subject: Subject,
    /// What happened to it.
    pub op: Op,
    /// The transaction that did it.
    pub xid: u32,
}

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Created.
    Create,
    /// Updated.
    Update,
    /// Deleted.
    Delete,
}

impl Op {
    /// From its letter in the topic and in the ledger.
    pub fn parse(letter: &str) -> Option<Self> {
        match letter {
            "c" => Some(Self::Create),
            "u" => Some(Self::Update),
            "d" => Some(Self::Delete),
            _ => None,
        }
    }

    /// Its letter.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Create => "c",
            Self::Update => "u",
            Self::Delete => "d",
        }
    }
}

impl Record {
    /// From a line of `penstock replay`.
    pub fn from_json(json: &Value) -> anyhow::Result<Self> {
        let number = |name: &str| json.get(name).and_then(Value::as_u64).with_context(|| format!("no {name}"));
        Ok(Self {
            partition: number("partition")?.try_into().context("partition")?,
            offset: number("offset")?,
            position: position(json.get("position").context("no position")?)?,
            delay_ms: json.get("delay_ms").and_then(Value::as_f64),
            content: content(json)?,
        })
    }
}

fn position(json: &Value) -> anyhow::Result<Position> {
    let number =
        |name: &str| json.get(name).and_then(Value::as_u64).with_context(|| format!("position without {name}"));
    let lsn = json.get("commit_lsn").and_then(Value::as_str).and_then(lsn).context("position without commit_lsn")?;
    Ok(Position { epoch: number("epoch")?, commit_lsn: lsn, seq: number("seq")? })
}

/// `16/B374D848`.
pub fn lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let half = |digits| u32::from_str_radix(digits, 16).ok().map(u64::from);
    Some(half(high)? << 32 | half(low)?)
}

fn content(json: &Value) -> anyhow::Result<Content> {
    match text(json, "kind")? {
        "row" => {
            let op = text(json, "op")?;
            let xid = json.pointer("/source/txId").and_then(Value::as_u64).context("row without txId")?;
            Ok(Content::Row(Row {
                subject: subject(json)?,
                op: Op::parse(op).with_context(|| format!("a row with op {op:?}"))?,
                // The ledger knows a transaction by Postgres' 32-bit id.
                xid: u32::try_from(xid & u64::from(u32::MAX)).context("txId")?,
            }))
        }
        "tombstone" => Ok(Content::Tombstone { subject: subject(json)? }),
        "control" => {
            let facts = json.get("control").context("control record without its content")?;
            match text(facts, "kind")? {
                "truncate" => Ok(Content::Truncate { table: text(facts, "table")?.to_owned() }),
                kind => {
                    let detail = facts.get("detail").and_then(Value::as_str).unwrap_or_default();
                    Ok(Content::Control { kind: kind.to_owned(), detail: detail.to_owned() })
                }
            }
        }
        "undecodable" => bail!("a record that can't be decoded: {}", text(json, "error").unwrap_or("no reason given")),
        other => bail!("a record of the unknown kind {other:?}"),
    }
}

fn subject(json: &Value) -> anyhow::Result<Subject> {
    let table = text(json, "table")?;
    let key = json.get("key").and_then(Value::as_object).context("no key")?;
    // Sorted, because JSON's own order is not kept on the way here. Names with two underscores are Penstock's.
    let columns: std::collections::BTreeMap<&String, &Value> =
        key.iter().filter(|(name, _)| !name.starts_with("__")).collect();
    let values: Vec<String> =
        columns.into_values().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
    Ok(Subject {
        account: text(json, "account")?.to_owned(),
        table: table.rsplit_once('.').map_or(table, |(_, name)| name).to_owned(),
        key: values.join(","),
    })
}

fn text<'a>(json: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    json.get(name).and_then(Value::as_str).with_context(|| format!("no {name}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Content, Op, Position, Record, Row, Subject, lsn};

    fn row() -> serde_json::Value {
        json!({
            "position": {"epoch": 1, "commit_lsn": "16/B374D848", "seq": 17}, "partition": 3, "offset": 9, "kind": "row",
            "account": "a", "table": "public.t", "op": "u", "key": {"__account": "a", "z": "1", "b": 2},
            "source": {"txId": 4_294_967_303_u64}, "control": null, "delay_ms": 1.5
        })
    }

    #[test]
    fn row_is_read() {
        let subject = Subject { account: "a".to_owned(), table: "t".to_owned(), key: "2,1".to_owned() };
        let expected = Record {
            partition: 3,
            offset: 9,
            position: Position { epoch: 1, commit_lsn: 0x16_B374_D848, seq: 17 },
            delay_ms: Some(1.5),
            content: Content::Row(Row { subject, op: Op::Update, xid: 7 }),
        };
        assert_eq!(Record::from_json(&row()).expect("a record"), expected);
    }

    #[test]
    fn truncate_is_told_from_other_controls() {
        let mut json = row();
        json["kind"] = json!("control");
        json["control"] = json!({"kind": "truncate", "table": "flows"});
        let content = |json: &serde_json::Value| Record::from_json(json).expect("a record").content;
        assert_eq!(content(&json), Content::Truncate { table: "flows".to_owned() });
        json["control"] = json!({"kind": "epoch", "detail": "complete: x"});
        assert_eq!(content(&json), Content::Control { kind: "epoch".to_owned(), detail: "complete: x".to_owned() });
    }

    #[test]
    fn what_lacks_something_is_an_error() {
        for name in ["position", "partition", "offset", "kind", "account", "table", "op", "key", "source"] {
            let mut json = row();
            json.as_object_mut().expect("an object").remove(name);
            assert!(Record::from_json(&json).is_err(), "without {name}");
        }
        let mut json = row();
        json["kind"] = json!("undecodable");
        json["error"] = json!("no schema 7");
        let error = Record::from_json(&json).expect_err("undecodable").to_string();
        assert!(error.contains("no schema 7"), "{error}");
    }

    #[test]
    fn lsns_are_two_halves() {
        assert_eq!(lsn("0/16B3748"), Some(0x16B_3748));
        for broken in ["", "1", "1/", "x/1", "1/100000000"] {
            assert_eq!(lsn(broken), None, "{broken}");
        }
    }
}
