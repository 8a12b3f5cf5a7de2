//! The progress record: how far the bridge has come, what it has pinned, and how fresh readers are.
//!
//! Written in the same Kafka transaction as the data it covers, and as a heartbeat; the newest committed one is where a
//! restart goes on. Its Kafka key is no Avro: it is the source's name in UTF-8.
//!
//! Invariant: the schema only grows by fields with defaults, so that an older record can still be resumed from.

use std::sync::LazyLock;

use crate::avro::{put_bits, put_bytes, put_length, put_long};
use crate::decode::{DecodeError, Fields, WriterSchema};
use crate::framing;
use crate::lsn::{CommitLsn, EndLsn};
use crate::position::{Position, Seq};
use crate::record::{own_schema, put_position};
use crate::reload::{Reload, put_reload, reloads_schema, take_reload};

/// How far a source has come, and everything about it that must never change silently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Postgres' system identifier.
    pub system_identifier: u64,
    /// The database's OID.
    pub database_oid: u32,
    /// The replication slot.
    pub slot: String,
    /// The source's number in headers and keys.
    pub source_number: u16,
    /// The WAL timeline the end LSN lies on.
    pub timeline: u32,
    /// The current epoch, from 1.
    pub epoch: u32,
    /// Partitions of the change topic.
    pub partition_count: u32,
    /// The change topic's id, in Kafka's text form.
    pub topic_id: String,
    /// Everything committed before it is delivered.
    pub end_lsn: EndLsn,
    /// The last event of the last delivered commit.
    pub through: Through,
    /// One entry for every partition.
    pub partitions: Vec<PartitionProgress>,
    /// The tables' keys, which never change.
    pub key_pins: Vec<KeyPin>,
    /// The server's clock behind `end_lsn`, microseconds since 1970.
    pub postgres_clock_us: i64,
    /// Whether the topic holds every row of the captured tables, not only those changed since the slot was made.
    pub load_complete: bool,
    /// Names of types as first seen. Absent in records of older writers.
    pub type_pins: Vec<TypePin>,
    /// Reloads that are asked for, under way, or ended not long ago. Absent in records of older writers.
    pub reloads: Vec<Reload>,
    /// Avro namespace of the tables' schemas. Empty in records of older writers.
    pub namespace: String,
    /// Whether keys hold the source's number; says nothing where the namespace is empty.
    pub source_in_key: bool,
}

/// The last event of a delivered commit; zeros until there is one in the epoch. Where the end LSN does not cover the
/// commit, it is split, and this is how far it is delivered; all but the newest record of each partition, that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Through {
    /// The commit.
    pub commit_lsn: CommitLsn,
    /// Its last event that was delivered.
    pub seq: Seq,
    /// Its transaction id.
    pub xid: u32,
    /// When it committed, microseconds since 1970.
    pub commit_time_us: i64,
}

/// How far a partition has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionProgress {
    /// Its number.
    pub partition: u32,
    /// The source's last record there; zero if none.
    pub last: Position,
    /// The offset behind that record; 0 only if there is none.
    pub next_offset: i64,
}

/// A table's key, as it was first written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPin {
    /// Schema in Postgres.
    pub schema: String,
    /// Table in Postgres.
    pub table: String,
    /// Key columns, in key order.
    pub columns: Vec<String>,
    /// The key schema's registry id.
    pub key_schema_id: u32,
    /// OID of the table that bears the name; 0 if none does, or in records of older writers.
    pub table_oid: u32,
    /// OIDs of a partitioned table's leaves, rising.
    pub leaves: Vec<u32>,
    /// The column that tells the account; empty in records of older writers.
    pub account_column: String,
}

/// A type's name, as it was first seen: `format_type` may answer otherwise after a rename.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypePin {
    /// The type's OID.
    pub oid: u32,
    /// The type modifier; -1 for none.
    pub modifier: i32,
    /// The pinned name.
    pub name: String,
    /// Of a domain, the pinned name of the type below it. `None` in records of older writers, too.
    pub base: Option<String>,
}

/// The record's schema.
pub const PROGRESS_SCHEMA: &str = concat!(
    r#"{"type":"record","name":"Progress","namespace":"penstock.wire","fields":["#,
    r#"{"name":"system_identifier","type":"long"},{"name":"database_oid","type":"long"},"#,
    r#"{"name":"slot","type":"string"},{"name":"source_number","type":"long"},{"name":"timeline","type":"long"},"#,
    r#"{"name":"epoch","type":"long"},{"name":"partition_count","type":"long"},{"name":"topic_id","type":"string"},"#,
    r#"{"name":"end_lsn","type":"long"},"#,
    r#"{"name":"through","type":{"type":"record","name":"Through","namespace":"penstock.wire","fields":["#,
    r#"{"name":"commit_lsn","type":"long"},{"name":"seq","type":"long"},{"name":"xid","type":"long"},"#,
    r#"{"name":"commit_time_us","type":"long"}]}},"#,
    r#"{"name":"partitions","type":{"type":"array","items":"#,
    r#"{"type":"record","name":"PartitionProgress","namespace":"penstock.wire","fields":["#,
    r#"{"name":"partition","type":"long"},"#,
    r#"{"name":"last","type":{"type":"record","name":"Position","namespace":"penstock.wire","fields":["#,
    r#"{"name":"epoch","type":"long"},{"name":"commit_lsn","type":"long"},{"name":"seq","type":"long"}]}},"#,
    r#"{"name":"next_offset","type":"long"}]}}},"#,
    r#"{"name":"key_pins","type":{"type":"array","items":"#,
    r#"{"type":"record","name":"KeyPin","namespace":"penstock.wire","fields":["#,
    r#"{"name":"schema","type":"string"},{"name":"table","type":"string"},"#,
    r#"{"name":"columns","type":{"type":"array","items":"string"}},{"name":"key_schema_id","type":"long"},"#,
    r#"{"name":"table_oid","type":"long","default":0},"#,
    r#"{"name":"leaves","type":{"type":"array","items":"long"},"default":[]},"#,
    r#"{"name":"account_column","type":"string","default":""}]}}},"#,
    r#"{"name":"postgres_clock_us","type":"long"},{"name":"load_complete","type":"boolean"},"#,
    r#"{"name":"type_pins","type":{"type":"array","items":"#,
    r#"{"type":"record","name":"TypePin","namespace":"penstock.wire","fields":["#,
    r#"{"name":"oid","type":"long"},{"name":"modifier","type":"long"},{"name":"name","type":"string"},"#,
    r#"{"name":"base","type":["null","string"],"default":null}]}},"default":[]},"#,
    r#"{"name":"reloads","type":"#,
    reloads_schema!(),
    r#","default":[]},"#,
    r#"{"name":"namespace","type":"string","default":""},{"name":"source_in_key","type":"boolean","default":false}"#,
    r#"]}"#,
);

static PROGRESS: LazyLock<WriterSchema> = LazyLock::new(|| own_schema(PROGRESS_SCHEMA));

impl Progress {
    /// The record's schema.
    pub const fn schema() -> &'static str {
        PROGRESS_SCHEMA
    }

    /// Appends the framed record.
    pub fn encode(&self, schema_id: u32, out: &mut Vec<u8>) {
        framing::put_header(schema_id, out);
        put_bits(out, self.system_identifier);
        put_long(out, i64::from(self.database_oid));
        put_bytes(out, self.slot.as_bytes());
        put_long(out, i64::from(self.source_number));
        put_long(out, i64::from(self.timeline));
        put_long(out, i64::from(self.epoch));
        put_long(out, i64::from(self.partition_count));
        put_bytes(out, self.topic_id.as_bytes());
        put_bits(out, self.end_lsn.raw());
        put_bits(out, self.through.commit_lsn.raw());
        put_bits(out, self.through.seq.0);
        put_long(out, i64::from(self.through.xid));
        put_long(out, self.through.commit_time_us);
        put_array(out, &self.partitions, put_partition);
        put_array(out, &self.key_pins, put_key_pin);
        put_long(out, self.postgres_clock_us);
        out.push(u8::from(self.load_complete));
        put_array(out, &self.type_pins, put_type_pin);
        put_array(out, &self.reloads, put_reload);
        put_bytes(out, self.namespace.as_bytes());
        out.push(u8::from(self.source_in_key));
    }

    /// Reads a record (what follows the frame) that was written with [`PROGRESS_SCHEMA`].
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_with(&PROGRESS, body)
    }

    /// Reads a record that was written with an older or newer version of the schema.
    pub fn decode_with(writer: &WriterSchema, body: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::of(writer.read_resolved(&PROGRESS, body)?)?;
        Ok(Self {
            system_identifier: fields.bits("system_identifier")?,
            database_oid: fields.narrow("database_oid")?,
            slot: fields.text("slot")?,
            source_number: fields.narrow("source_number")?,
            timeline: fields.narrow("timeline")?,
            epoch: fields.narrow("epoch")?,
            partition_count: fields.narrow("partition_count")?,
            topic_id: fields.text("topic_id")?,
            end_lsn: EndLsn::new(fields.bits("end_lsn")?),
            through: through(fields.record("through")?)?,
            partitions: fields.records("partitions")?.into_iter().map(partition).collect::<Result<_, _>>()?,
            key_pins: fields.records("key_pins")?.into_iter().map(key_pin).collect::<Result<_, _>>()?,
            postgres_clock_us: fields.long("postgres_clock_us")?,
            load_complete: fields.boolean("load_complete")?,
            type_pins: fields.records("type_pins")?.into_iter().map(type_pin).collect::<Result<_, _>>()?,
            reloads: fields.records("reloads")?.into_iter().map(take_reload).collect::<Result<_, _>>()?,
            namespace: fields.text("namespace")?,
            source_in_key: fields.boolean("source_in_key")?,
        })
    }
}

fn put_array<T>(out: &mut Vec<u8>, items: &[T], put: fn(&mut Vec<u8>, &T)) {
    if !items.is_empty() {
        put_length(out, items.len());
        for item in items {
            put(out, item);
        }
    }
    out.push(0);
}

fn put_partition(out: &mut Vec<u8>, entry: &PartitionProgress) {
    put_long(out, i64::from(entry.partition));
    put_position(out, entry.last);
    put_long(out, entry.next_offset);
}

fn put_key_pin(out: &mut Vec<u8>, pin: &KeyPin) {
    put_bytes(out, pin.schema.as_bytes());
    put_bytes(out, pin.table.as_bytes());
    put_array(out, &pin.columns, |out, column| put_bytes(out, column.as_bytes()));
    put_long(out, i64::from(pin.key_schema_id));
    put_long(out, i64::from(pin.table_oid));
    put_array(out, &pin.leaves, |out, leaf| put_long(out, i64::from(*leaf)));
    put_bytes(out, pin.account_column.as_bytes());
}

fn put_type_pin(out: &mut Vec<u8>, pin: &TypePin) {
    put_long(out, i64::from(pin.oid));
    put_long(out, i64::from(pin.modifier));
    put_bytes(out, pin.name.as_bytes());
    match &pin.base {
        None => out.push(0),
        Some(base) => {
            out.push(2);
            put_bytes(out, base.as_bytes());
        }
    }
}

fn through(mut fields: Fields) -> Result<Through, DecodeError> {
    Ok(Through {
        commit_lsn: CommitLsn::new(fields.bits("commit_lsn")?),
        seq: Seq(fields.bits("seq")?),
        xid: fields.narrow("xid")?,
        commit_time_us: fields.long("commit_time_us")?,
    })
}

fn partition(mut fields: Fields) -> Result<PartitionProgress, DecodeError> {
    Ok(PartitionProgress {
        partition: fields.narrow("partition")?,
        last: fields.record("last")?.position()?,
        next_offset: fields.long("next_offset")?,
    })
}

fn key_pin(mut fields: Fields) -> Result<KeyPin, DecodeError> {
    Ok(KeyPin {
        schema: fields.text("schema")?,
        table: fields.text("table")?,
        columns: fields.texts("columns")?,
        key_schema_id: fields.narrow("key_schema_id")?,
        table_oid: fields.narrow("table_oid")?,
        leaves: fields.narrows("leaves")?,
        account_column: fields.text("account_column")?,
    })
}

fn type_pin(mut fields: Fields) -> Result<TypePin, DecodeError> {
    Ok(TypePin {
        oid: fields.narrow("oid")?,
        modifier: fields.narrow("modifier")?,
        name: fields.text("name")?,
        base: fields.optional_text("base")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload::{ReloadRange, ReloadState, Scope};

    fn example() -> Progress {
        Progress {
            system_identifier: 0xf000_0000_0000_0001,
            database_oid: u32::MAX,
            slot: "penstock".into(),
            source_number: u16::MAX,
            timeline: 2,
            epoch: 3,
            partition_count: 2,
            topic_id: "AbC-_0123456789abcdefg".into(),
            end_lsn: EndLsn::new(0x16_b374_d848),
            through: Through { commit_lsn: CommitLsn::new(7), seq: Seq(16), xid: u32::MAX, commit_time_us: -1 },
            partitions: vec![
                PartitionProgress::default(),
                PartitionProgress {
                    partition: 1,
                    last: Position { epoch: 3, commit_lsn: CommitLsn::new(7), seq: Seq(16) },
                    next_offset: 42,
                },
            ],
            key_pins: vec![KeyPin {
                schema: "access".into(),
                table: "grants".into(),
                columns: vec!["id".into(), "größe".into()],
                key_schema_id: 5,
                table_oid: u32::MAX,
                leaves: vec![16_390, u32::MAX],
                account_column: "tenant".into(),
            }],
            postgres_clock_us: 1_700_000_000_000_000,
            load_complete: true,
            type_pins: vec![
                TypePin { oid: 16_400, modifier: -1, name: "mood".into(), base: None },
                TypePin { oid: 16_410, modifier: -1, name: "good_mood".into(), base: Some("mood".into()) },
            ],
            reloads: vec![
                Reload::default(),
                Reload {
                    id: "first-load".into(),
                    scope: Scope { table: Some(("public".into(), "t".into())), account: Some("a".into()) },
                    why: "asked for".into(),
                    state: ReloadState::Running,
                    rows_per_second: 9,
                    begin: Position { epoch: 3, commit_lsn: CommitLsn::new(5), seq: Seq(8) },
                    end: Position::ZERO,
                    detail: "d".into(),
                    ranges: vec![
                        ReloadRange::default(),
                        ReloadRange {
                            schema: "public".into(),
                            table: "t".into(),
                            after: vec!["1".into(), "ü".into()],
                            until: vec!["7".into(), "z".into()],
                            rows: 70,
                            rows_estimated: 90,
                            done: true,
                        },
                    ],
                },
            ],
            namespace: "access.changes".into(),
            source_in_key: true,
        }
    }

    fn body(progress: &Progress) -> Vec<u8> {
        let mut out = Vec::new();
        progress.encode(1, &mut out);
        framing::split(&out).unwrap().1.to_vec()
    }

    #[test]
    fn records_come_back() {
        for progress in [example(), Progress::default()] {
            assert_eq!(Progress::decode(&body(&progress)).unwrap(), progress);
        }
    }

    /// A writer whose schema ended before `field`: `bytes` is what it would not have written of these defaults.
    fn check_older(field: &str, bytes: &[u8], progress: &Progress) {
        let (before, after) = PROGRESS_SCHEMA.split_once(&format!(r#",{{"name":"{field}""#)).unwrap();
        assert!(after.ends_with("]}"));
        let older = WriterSchema::parse(&format!("{before}]}}")).unwrap();
        let written = body(progress);
        let body = written.strip_suffix(bytes).expect("the defaults come last");
        assert_eq!(Progress::decode_with(&older, body).unwrap(), *progress);
    }

    #[test]
    fn records_of_older_writers_are_read() {
        let older = Progress { namespace: String::new(), source_in_key: false, ..example() };
        check_older("namespace", &[0, 0], &older);
        let older = Progress { reloads: Vec::new(), ..older };
        check_older("reloads", &[0, 0, 0], &older);
        check_older("type_pins", &[0, 0, 0, 0], &Progress { type_pins: Vec::new(), ..older });
    }

    #[test]
    fn pins_of_a_writer_that_knew_no_bases_are_read() {
        let base = r#",{"name":"base","type":["null","string"],"default":null}"#;
        let (before, after) = PROGRESS_SCHEMA.split_once(base).unwrap();
        let older = WriterSchema::parse(&format!("{before}{after}")).unwrap();
        let pin = TypePin { oid: 16_400, modifier: -1, name: "mood".into(), base: None };
        let (reloads, namespace, source_in_key) = (Vec::new(), String::new(), false);
        let progress = Progress { type_pins: vec![pin], reloads, namespace, source_in_key, ..example() };
        let written = body(&progress);
        // The branch of the base, the end of the array, no reloads, the namespace, the flag.
        let mut bytes = written.strip_suffix(&[0, 0, 0, 0, 0]).expect("the defaults come last").to_vec();
        bytes.extend([0, 0, 0, 0]);
        assert_eq!(Progress::decode_with(&older, &bytes).unwrap(), progress);
    }

    #[test]
    fn a_record_of_a_writer_without_table_oids_is_read() {
        let added = concat!(
            r#",{"name":"table_oid","type":"long","default":0},"#,
            r#"{"name":"leaves","type":{"type":"array","items":"long"},"default":[]},"#,
            r#"{"name":"account_column","type":"string","default":""}"#,
        );
        let older = PROGRESS_SCHEMA.replace(added, "");
        assert_ne!(older, PROGRESS_SCHEMA);
        let pin = example().key_pins.remove(0);
        let pins = vec![KeyPin { table_oid: 0, leaves: Vec::new(), account_column: String::new(), ..pin }];
        let progress = Progress { key_pins: pins, ..example() };
        let mut bytes = body(&progress);
        // Of the one pin: the registry id 5, then what older writers do not have, then the end of the array of pins.
        let at = bytes.windows(5).rposition(|window| window == [10, 0, 0, 0, 0]).unwrap();
        bytes.drain(at + 1..at + 4);
        assert_eq!(Progress::decode_with(&WriterSchema::parse(&older).unwrap(), &bytes).unwrap(), progress);
    }

    #[test]
    fn a_record_of_a_newer_writer_is_read() {
        let newer = format!(r#"{},{{"name":"more","type":"long"}}]}}"#, PROGRESS_SCHEMA.strip_suffix("]}").unwrap());
        let mut bytes = body(&example());
        put_long(&mut bytes, 99);
        assert_eq!(Progress::decode_with(&WriterSchema::parse(&newer).unwrap(), &bytes).unwrap(), example());
    }

    #[test]
    fn every_cut_is_an_error() {
        let bytes = body(&example());
        for end in 0..bytes.len() {
            assert!(Progress::decode(&bytes[..end]).is_err(), "{end}");
        }
    }
}
