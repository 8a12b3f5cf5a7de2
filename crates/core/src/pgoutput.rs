//! Decodes one message of Postgres' `pgoutput` plugin, protocol version 1, with logical messages.
//!
//! Total: any bytes give a message or an error, never a panic. Nothing is copied; everything borrows from the frame.
//! It knows no relation: a tuple is a list of columns, and what they mean stands in [`crate::relation`].
//!
//! Format: <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>

use penstock_wire::column::Column;
use penstock_wire::lsn::{CommitLsn, EndLsn, Lsn};

/// Microseconds between the Unix epoch and Postgres' (2000-01-01 00:00:00 UTC).
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// One message, borrowing from the frame it was read from.
#[derive(Debug, PartialEq)]
pub enum Message<'a> {
    /// A transaction begins; all of it follows before the next.
    Begin(Begin),
    /// The transaction ended.
    Commit(Commit),
    /// The transaction came from another node; not used.
    Origin,
    /// Shape of a table, sent before its first change and whenever it may have changed.
    Relation(Relation),
    /// A row was inserted.
    Insert { relation: u32, new: Tuple<'a> },
    /// A row was updated.
    Update { relation: u32, old: Option<OldTuple<'a>>, new: Tuple<'a> },
    /// A row was deleted.
    Delete { relation: u32, old: OldTuple<'a> },
    /// Tables were emptied.
    Truncate { relations: Vec<u32> },
    /// `pg_logical_emit_message`.
    Logical(LogicalMessage<'a>),
    /// Name of a type that is not built in; not used, the catalog is asked by OID.
    Type,
}

/// Start of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Where its commit record starts.
    pub commit_lsn: CommitLsn,
    /// Commit time, Unix microseconds.
    pub commit_time_us: i64,
    /// The top-level transaction id, 32 bits, wraps.
    pub xid: u32,
}

/// End of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where its commit record starts: equal to Begin's.
    pub commit_lsn: CommitLsn,
    /// Where its commit record ends: what may be confirmed.
    pub end_lsn: EndLsn,
}

/// Shape of a table as of the change that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The table's OID.
    pub id: u32,
    /// Its schema (`pg_catalog` is sent empty).
    pub schema: String,
    /// Its name.
    pub table: String,
    /// What old tuples hold.
    pub identity: ReplicaIdentity,
    /// Columns in the order of tuples; generated and dropped ones are not among them.
    pub columns: Vec<RelationColumn>,
}

/// One column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Part of the replica identity (under FULL: every column).
    pub in_identity: bool,
    /// Its name.
    pub name: String,
    /// OID of its type.
    pub type_oid: u32,
    /// Type modifier, −1 for none.
    pub type_modifier: i32,
}

/// `pg_class.relreplident`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// Nothing: updates and deletes are refused by Postgres.
    Nothing,
    /// The whole old row.
    Full,
    /// The columns of a chosen unique index.
    Index,
}

/// The columns of one row version.
#[derive(Debug, Default, PartialEq)]
pub struct Tuple<'a>(pub Vec<Column<'a>>);

/// What Postgres tells of a row's previous version.
#[derive(Debug, PartialEq)]
pub enum OldTuple<'a> {
    /// The identity's columns; every other column is NULL here and NULL is not its value.
    Identity(Tuple<'a>),
    /// The whole row (REPLICA IDENTITY FULL).
    Full(Tuple<'a>),
}

/// A message written by `pg_logical_emit_message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogicalMessage<'a> {
    /// Whether it is part of a transaction; others are sent even if theirs was rolled back.
    pub transactional: bool,
    /// Where it stands.
    pub lsn: Lsn,
    /// Its prefix.
    pub prefix: &'a str,
    /// Its content.
    pub content: &'a [u8],
}

/// The bytes are not a message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends inside a field.
    #[error("the message ends inside {0}")]
    Truncated(&'static str),
    /// Bytes are left over after the last field.
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
    /// Message type unknown to protocol version 1.
    #[error("unknown message type 0x{0:02x}")]
    UnknownMessage(u8),
    /// A marker byte has no meaning at its place.
    #[error("0x{found:02x} where {field} was expected")]
    Marker {
        /// What was expected.
        field: &'static str,
        /// What stood there.
        found: u8,
    },
    /// A count or length below zero.
    #[error("negative {0}")]
    Negative(&'static str),
    /// A name that is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// A commit time outside the range of 64-bit Unix microseconds.
    #[error("commit time out of range")]
    Time,
}

/// Decodes one message.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut reader = Reader { rest: bytes };
    let message = match reader.u8("message type")? {
        b'B' => Message::Begin(begin(&mut reader)?),
        b'C' => Message::Commit(commit(&mut reader)?),
        b'R' => Message::Relation(relation(&mut reader)?),
        b'I' => Message::Insert { relation: reader.u32("relation")?, new: new_tuple(&mut reader)? },
        b'U' => update(&mut reader)?,
        b'D' => delete(&mut reader)?,
        b'T' => truncate(&mut reader)?,
        b'M' => Message::Logical(logical(&mut reader)?),
        b'O' => {
            reader.u64("origin LSN")?;
            reader.text("origin name")?;
            Message::Origin
        }
        b'Y' => {
            reader.u32("type OID")?;
            reader.text("type schema")?;
            reader.text("type name")?;
            Message::Type
        }
        other => return Err(DecodeError::UnknownMessage(other)),
    };
    match reader.rest.len() {
        0 => Ok(message),
        left => Err(DecodeError::Trailing(left)),
    }
}

fn begin(reader: &mut Reader<'_>) -> Result<Begin, DecodeError> {
    Ok(Begin {
        commit_lsn: CommitLsn::new(reader.u64("commit LSN")?),
        commit_time_us: reader.time("commit time")?,
        xid: reader.u32("transaction id")?,
    })
}

fn commit(reader: &mut Reader<'_>) -> Result<Commit, DecodeError> {
    reader.u8("commit flags")?;
    let commit =
        Commit { commit_lsn: CommitLsn::new(reader.u64("commit LSN")?), end_lsn: EndLsn::new(reader.u64("end LSN")?) };
    reader.time("commit time")?;
    Ok(commit)
}

fn relation(reader: &mut Reader<'_>) -> Result<Relation, DecodeError> {
    let id = reader.u32("relation")?;
    let schema = match reader.text("schema name")? {
        "" => "pg_catalog",
        other => other,
    };
    let table = reader.text("table name")?;
    let identity = match reader.u8("replica identity")? {
        b'd' => ReplicaIdentity::Default,
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        found => return Err(DecodeError::Marker { field: "replica identity", found }),
    };
    let count = reader.count("column count")?;
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        columns.push(RelationColumn {
            in_identity: reader.u8("column flags")? & 1 != 0,
            name: reader.text("column name")?.to_owned(),
            type_oid: reader.u32("column type")?,
            type_modifier: reader.i32("type modifier")?,
        });
    }
    Ok(Relation { id, schema: schema.to_owned(), table: table.to_owned(), identity, columns })
}

fn update<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = reader.u32("relation")?;
    let old = match reader.peek() {
        Some(b'K' | b'O') => Some(old_tuple(reader)?),
        _ => None,
    };
    Ok(Message::Update { relation, old, new: new_tuple(reader)? })
}

fn delete<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    Ok(Message::Delete { relation: reader.u32("relation")?, old: old_tuple(reader)? })
}

fn truncate<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let count = reader.i32("relation count")?;
    let count = usize::try_from(count).map_err(|_| DecodeError::Negative("relation count"))?;
    reader.u8("truncate options")?;
    // The count comes from outside: capacity is bounded by what the bytes can hold.
    let mut relations = Vec::with_capacity(count.min(reader.rest.len() / 4));
    for _ in 0..count {
        relations.push(reader.u32("relation")?);
    }
    Ok(Message::Truncate { relations })
}

fn logical<'a>(reader: &mut Reader<'a>) -> Result<LogicalMessage<'a>, DecodeError> {
    let transactional = reader.u8("message flags")? & 1 != 0;
    let lsn = Lsn(reader.u64("message LSN")?);
    let prefix = reader.text("message prefix")?;
    let length = reader.length("message length")?;
    Ok(LogicalMessage { transactional, lsn, prefix, content: reader.take(length, "message content")? })
}

fn new_tuple<'a>(reader: &mut Reader<'a>) -> Result<Tuple<'a>, DecodeError> {
    match reader.u8("new tuple")? {
        b'N' => tuple(reader),
        found => Err(DecodeError::Marker { field: "a new tuple (N)", found }),
    }
}

fn old_tuple<'a>(reader: &mut Reader<'a>) -> Result<OldTuple<'a>, DecodeError> {
    match reader.u8("old tuple")? {
        b'K' => Ok(OldTuple::Identity(tuple(reader)?)),
        b'O' => Ok(OldTuple::Full(tuple(reader)?)),
        found => Err(DecodeError::Marker { field: "an old tuple (K or O)", found }),
    }
}

fn tuple<'a>(reader: &mut Reader<'a>) -> Result<Tuple<'a>, DecodeError> {
    let count = reader.count("column count")?;
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        columns.push(match reader.u8("column kind")? {
            b'n' => Column::Null,
            b'u' => Column::Unchanged,
            b't' => Column::Text(reader.value()?),
            b'b' => Column::Binary(reader.value()?),
            found => return Err(DecodeError::Marker { field: "a column kind (n, u, t or b)", found }),
        });
    }
    Ok(Tuple(columns))
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated(field))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated(field))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    fn time(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        let since_2000 = self.array(field).map(i64::from_be_bytes)?;
        since_2000.checked_add(POSTGRES_EPOCH_US).ok_or(DecodeError::Time)
    }

    fn count(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        let count = self.array(field).map(i16::from_be_bytes)?;
        usize::try_from(count).map_err(|_| DecodeError::Negative(field))
    }

    fn length(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        usize::try_from(self.i32(field)?).map_err(|_| DecodeError::Negative(field))
    }

    fn value(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.length("column length")?;
        self.take(length, "column value")
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(DecodeError::Truncated(field))?;
        let text = self.take(end, field)?;
        self.take(1, field)?;
        std::str::from_utf8(text).map_err(|_| DecodeError::NotUtf8(field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn begin_bytes() -> Vec<u8> {
        let mut bytes = vec![b'B'];
        bytes.extend(0x16_B374_D848_u64.to_be_bytes());
        bytes.extend(1_000_000_i64.to_be_bytes());
        bytes.extend(731_u32.to_be_bytes());
        bytes
    }

    fn update_bytes() -> Vec<u8> {
        let mut bytes = vec![b'U', 0, 0, 0x40, 0, b'O', 0, 2];
        bytes.extend(*b"t\0\0\0\x011t\0\0\0\x03old");
        bytes.extend([b'N', 0, 2]);
        bytes.extend(*b"t\0\0\0\x011u");
        bytes
    }

    fn relation_bytes() -> Vec<u8> {
        let mut bytes = vec![b'R', 0, 0, 0x40, 0];
        bytes.extend(*b"public\0policies\0f\0\x01\x01id\0");
        bytes.extend(2950_u32.to_be_bytes());
        bytes.extend((-1_i32).to_be_bytes());
        bytes
    }

    fn message_bytes() -> Vec<u8> {
        let mut bytes = vec![b'M', 1];
        bytes.extend(5_u64.to_be_bytes());
        bytes.extend(*b"penstock.ddl\0\0\0\0\x02hi");
        bytes
    }

    #[test]
    fn messages_are_read_field_by_field() {
        let begin = Begin {
            commit_lsn: CommitLsn::new(0x16_B374_D848),
            commit_time_us: POSTGRES_EPOCH_US + 1_000_000,
            xid: 731,
        };
        assert_eq!(decode(&begin_bytes()), Ok(Message::Begin(begin)));
        let old = OldTuple::Full(Tuple(vec![Column::Text(b"1"), Column::Text(b"old")]));
        let new = Tuple(vec![Column::Text(b"1"), Column::Unchanged]);
        assert_eq!(decode(&update_bytes()), Ok(Message::Update { relation: 0x4000, old: Some(old), new }));
        let column = RelationColumn { in_identity: true, name: "id".into(), type_oid: 2950, type_modifier: -1 };
        let relation = Relation {
            id: 0x4000,
            schema: "public".into(),
            table: "policies".into(),
            identity: ReplicaIdentity::Full,
            columns: vec![column],
        };
        assert_eq!(decode(&relation_bytes()), Ok(Message::Relation(relation)));
        let message = LogicalMessage { transactional: true, lsn: Lsn(5), prefix: "penstock.ddl", content: b"hi" };
        assert_eq!(decode(&message_bytes()), Ok(Message::Logical(message)));
        assert_eq!(decode(b"T\0\0\0\x02\0\0\0\0\x01\0\0\0\x02"), Ok(Message::Truncate { relations: vec![1, 2] }));
    }

    #[test]
    fn every_proper_prefix_is_an_error_and_so_is_a_byte_more() {
        for whole in [begin_bytes(), update_bytes(), relation_bytes(), message_bytes()] {
            for length in 0..whole.len() {
                assert!(decode(&whole[..length]).is_err(), "{length} of {whole:?}");
            }
            let mut longer = whole.clone();
            longer.push(0);
            assert_eq!(decode(&longer), Err(DecodeError::Trailing(1)));
        }
    }

    #[test]
    fn absurd_counts_are_errors() {
        assert_eq!(decode(b"T\xff\xff\xff\xff\0"), Err(DecodeError::Negative("relation count")));
        assert_eq!(decode(b"T\x7f\xff\xff\xff\0"), Err(DecodeError::Truncated("relation")));
        assert_eq!(decode(b"I\0\0\0\x01N\xff\xff"), Err(DecodeError::Negative("column count")));
        assert_eq!(decode(b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xff"), Err(DecodeError::Negative("column length")));
        assert_eq!(decode(b"Z"), Err(DecodeError::UnknownMessage(b'Z')));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn damaged_messages_give_a_message_or_an_error(at in 0_usize..60, byte: u8, which in 0_usize..4) {
            let mut bytes = [begin_bytes(), update_bytes(), relation_bytes(), message_bytes()][which].clone();
            if let Some(slot) = bytes.get_mut(at) {
                *slot = byte;
            }
            let _ = decode(&bytes);
        }
    }
}
