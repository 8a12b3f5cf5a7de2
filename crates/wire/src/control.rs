//! Control records: what happened to a table, an account or the stream itself, in its place among the rows.
//!
//! Scope stands in the key, one key per scope and kind, and such keys never get a tombstone: compaction keeps the newest
//! of each. Readers tell them by the Kafka header `penstock.control` before they look at the key.

use std::sync::LazyLock;

use crate::avro::{put_bytes, put_long};
use crate::decode::{DecodeError, Fields, WriterSchema};
use crate::framing;
use crate::position::Position;
use crate::record::{own_schema, put_optional_text, put_position};
use crate::reload::Scope;

/// What a control record means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ControlKind {
    /// Delete all older rows of the table.
    Truncate,
    /// A new epoch begins.
    Epoch,
    /// Changes may be missing: accounts are unproven until they are reloaded.
    Gap,
    /// A backfill of a scope begins.
    ReloadBegin,
    /// A backfill ends: delete the scope's rows that are older than its begin.
    ReloadEnd,
    /// A row could not be delivered: quarantine the account.
    DeadLetter,
}

/// The value of a control record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// What it means.
    pub kind: ControlKind,
    /// Schema of the table concerned; empty if none.
    pub schema: String,
    /// The table concerned; empty if none.
    pub table: String,
    /// The account concerned; `None` for all or unknown.
    pub account: Option<String>,
    /// Of an epoch: the last valid position of the old one in this partition. Of a reload: where it began.
    pub begin: Option<Position>,
    /// For people, and the `complete: …` or `incomplete: …` of an epoch.
    pub detail: Option<String>,
}

/// The key of a control record: its scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ControlKey {
    /// `__account`; empty if not applicable.
    pub account: String,
    /// The source's number.
    pub source: u16,
    /// The kind.
    pub kind: ControlKind,
    /// Empty if not applicable.
    pub schema: String,
    /// Empty if not applicable.
    pub table: String,
}

/// The value's schema.
pub const CONTROL_SCHEMA: &str = concat!(
    r#"{"type":"record","name":"Control","namespace":"penstock.wire","fields":["#,
    r#"{"name":"kind","type":"string"},{"name":"schema","type":"string"},{"name":"table","type":"string"},"#,
    r#"{"name":"account","type":["null","string"],"default":null},"#,
    r#"{"name":"begin","type":["null",{"type":"record","name":"Position","namespace":"penstock.wire","fields":["#,
    r#"{"name":"epoch","type":"long"},{"name":"commit_lsn","type":"long"},{"name":"seq","type":"long"}]}],"default":null},"#,
    r#"{"name":"detail","type":["null","string"],"default":null}]}"#,
);

/// The key's schema.
pub const CONTROL_KEY_SCHEMA: &str = concat!(
    r#"{"type":"record","name":"ControlKey","namespace":"penstock.wire","fields":["#,
    r#"{"name":"__account","type":"string"},{"name":"source","type":"int"},{"name":"kind","type":"string"},"#,
    r#"{"name":"schema","type":"string"},{"name":"table","type":"string"}]}"#,
);

static CONTROL: LazyLock<WriterSchema> = LazyLock::new(|| own_schema(CONTROL_SCHEMA));
static CONTROL_KEY: LazyLock<WriterSchema> = LazyLock::new(|| own_schema(CONTROL_KEY_SCHEMA));

impl ControlKind {
    const ALL: [Self; 6] =
        [Self::Truncate, Self::Epoch, Self::Gap, Self::ReloadBegin, Self::ReloadEnd, Self::DeadLetter];

    /// The kind's name: in the record, and as the value of the header `penstock.control`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Truncate => "truncate",
            Self::Epoch => "epoch",
            Self::Gap => "gap",
            Self::ReloadBegin => "reload_begin",
            Self::ReloadEnd => "reload_end",
            Self::DeadLetter => "dead_letter",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    fn take(fields: &mut Fields) -> Result<Self, DecodeError> {
        let unknown = || DecodeError::Field { field: "kind".to_owned(), expected: "a kind this reader knows" };
        Self::from_name(&fields.text("kind")?).ok_or_else(unknown)
    }
}

impl Control {
    /// All older rows of the table are gone.
    pub fn truncate(schema: &str, table: &str) -> Self {
        Self {
            kind: ControlKind::Truncate,
            schema: schema.to_owned(),
            table: table.to_owned(),
            account: None,
            begin: None,
            detail: None,
        }
    }

    /// A new epoch begins; `begin` is the partition's last valid position in the old one, if there was one. `detail`
    /// begins with `complete: ` or `incomplete: `.
    pub fn epoch(begin: Option<Position>, detail: String) -> Self {
        Self {
            kind: ControlKind::Epoch,
            schema: String::new(),
            table: String::new(),
            account: None,
            begin,
            detail: Some(detail),
        }
    }

    /// Changes before this epoch may be missing; `detail` says why.
    pub fn gap(detail: String) -> Self {
        Self {
            kind: ControlKind::Gap,
            schema: String::new(),
            table: String::new(),
            account: None,
            begin: None,
            detail: Some(detail),
        }
    }

    /// A row of the table could not be delivered; `account` is whose, if that is known. `detail` says why, without values.
    pub fn dead_letter(schema: &str, table: &str, account: Option<&str>, detail: String) -> Self {
        Self {
            kind: ControlKind::DeadLetter,
            schema: schema.to_owned(),
            table: table.to_owned(),
            account: account.map(str::to_owned),
            begin: None,
            detail: Some(detail),
        }
    }

    /// A reload of `scope` began at `begin`, or, as an end, is complete: its rows older than that are gone.
    pub fn reload(kind: ControlKind, scope: &Scope, begin: Position) -> Self {
        let (schema, table) = scope.table.clone().unwrap_or_default();
        Self { kind, schema, table, account: scope.account.clone(), begin: Some(begin), detail: None }
    }

    /// The value's schema.
    pub const fn schema() -> &'static str {
        CONTROL_SCHEMA
    }

    /// Appends the framed value.
    pub fn encode(&self, schema_id: u32, out: &mut Vec<u8>) {
        framing::put_header(schema_id, out);
        put_bytes(out, self.kind.as_str().as_bytes());
        put_bytes(out, self.schema.as_bytes());
        put_bytes(out, self.table.as_bytes());
        put_optional_text(out, self.account.as_deref());
        match self.begin {
            None => out.push(0),
            Some(begin) => {
                out.push(2);
                put_position(out, begin);
            }
        }
        put_optional_text(out, self.detail.as_deref());
    }

    /// Reads a value (what follows the frame) that was written with [`CONTROL_SCHEMA`].
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_with(&CONTROL, body)
    }

    /// Reads a value that was written with another version of the schema.
    pub fn decode_with(writer: &WriterSchema, body: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(writer.read_resolved(&CONTROL, body)?)?;
        Ok(Self {
            kind: ControlKind::take(&mut fields)?,
            schema: fields.text("schema")?,
            table: fields.text("table")?,
            account: fields.optional_text("account")?,
            begin: fields.optional_record("begin")?.map(Fields::position).transpose()?,
            detail: fields.optional_text("detail")?,
        })
    }
}

impl ControlKey {
    /// Of a record about the whole source.
    pub fn of_source(source: u16, kind: ControlKind) -> Self {
        Self { account: String::new(), source, kind, schema: String::new(), table: String::new() }
    }

    /// Of a record about a table.
    pub fn of_table(source: u16, kind: ControlKind, schema: &str, table: &str) -> Self {
        Self { schema: schema.to_owned(), table: table.to_owned(), ..Self::of_source(source, kind) }
    }

    /// Of a record about a reload.
    pub fn of_reload(source: u16, kind: ControlKind, scope: &Scope) -> Self {
        let (schema, table) = scope.table.clone().unwrap_or_default();
        Self { schema, table, account: scope.account.clone().unwrap_or_default(), ..Self::of_source(source, kind) }
    }

    /// The same about one account.
    pub fn of_account(self, account: &str) -> Self {
        Self { account: account.to_owned(), ..self }
    }

    /// The key's schema.
    pub const fn schema() -> &'static str {
        CONTROL_KEY_SCHEMA
    }

    /// Appends the framed key.
    pub fn encode(&self, schema_id: u32, out: &mut Vec<u8>) {
        framing::put_header(schema_id, out);
        put_bytes(out, self.account.as_bytes());
        put_long(out, i64::from(self.source));
        put_bytes(out, self.kind.as_str().as_bytes());
        put_bytes(out, self.schema.as_bytes());
        put_bytes(out, self.table.as_bytes());
    }

    /// Reads a key (what follows the frame).
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(CONTROL_KEY.read(body)?)?;
        Ok(Self {
            account: fields.text("__account")?,
            source: fields.narrow("source")?,
            kind: ControlKind::take(&mut fields)?,
            schema: fields.text("schema")?,
            table: fields.text("table")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::CommitLsn;
    use crate::position::Seq;

    fn reload_end() -> Control {
        Control {
            kind: ControlKind::ReloadEnd,
            schema: "access".into(),
            table: "grants".into(),
            account: Some("a1".into()),
            begin: Some(Position { epoch: 3, commit_lsn: CommitLsn::new(u64::MAX), seq: Seq(8) }),
            detail: Some("é".into()),
        }
    }

    #[test]
    fn values_come_back() {
        let epoch = Control::epoch(None, "complete: first start".into());
        let dead_letter = Control::dead_letter("s", "t", None, "too large".into());
        for control in [reload_end(), epoch, Control::truncate("s", "t"), dead_letter] {
            let mut out = Vec::new();
            control.encode(7, &mut out);
            let (id, body) = framing::split(&out).unwrap();
            assert_eq!(id, 7);
            assert_eq!(Control::decode(body).unwrap(), control);
        }
    }

    #[test]
    fn keys_come_back_and_begin_with_the_account() {
        let key = ControlKey::of_table(9, ControlKind::Truncate, "access", "grants").of_account("a1");
        let mut out = Vec::new();
        key.encode(8, &mut out);
        let (id, body) = framing::split(&out).unwrap();
        assert_eq!(id, 8);
        assert_eq!(ControlKey::decode(body).unwrap(), key);
        assert_eq!(crate::decode::account_of_key(body).unwrap(), "a1");
    }

    #[test]
    fn bytes_are_the_contract() {
        let mut out = Vec::new();
        Control::truncate("s", "t").encode(1, &mut out);
        assert_eq!(out, b"\0\0\0\0\x01\x10truncate\x02s\x02t\0\0\0");
        out.clear();
        ControlKey::of_table(1, ControlKind::Truncate, "s", "t").encode(1, &mut out);
        assert_eq!(out, b"\0\0\0\0\x01\0\x02\x10truncate\x02s\x02t");
    }

    #[test]
    fn a_kind_from_the_future_and_every_cut_are_errors() {
        let mut out = Vec::new();
        reload_end().encode(1, &mut out);
        let (_, body) = framing::split(&out).unwrap();
        for end in 0..body.len() {
            assert!(Control::decode(&body[..end]).is_err(), "{end}");
        }
        assert!(matches!(Control::decode(b"\x02x\0\0\0\0\0"), Err(DecodeError::Field { .. })));
    }

    #[test]
    fn names_are_unique_and_come_back() {
        for kind in ControlKind::ALL {
            assert_eq!(ControlKind::from_name(kind.as_str()), Some(kind));
        }
        assert_eq!(ControlKind::from_name("Truncate"), None);
    }
}
