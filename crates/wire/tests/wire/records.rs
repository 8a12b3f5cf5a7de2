//! Golden bytes: one record of every kind, with its schema. They are what readers in other languages are tested with,
//! and what a later version of this crate must still write. A difference here is a break of the contract.

use penstock_wire::account::Account;
use penstock_wire::column::Column;
use penstock_wire::control::{Control, ControlKey, ControlKind};
use penstock_wire::dead_letter::DeadLetter;
use penstock_wire::decode::{WriterSchema, to_json};
use penstock_wire::event::{Event, Op, Transaction};
use penstock_wire::framing;
use penstock_wire::lsn::{CommitLsn, EndLsn, Lsn};
use penstock_wire::plan::Plan;
use penstock_wire::position::{Position, Seq};
use penstock_wire::progress::{KeyPin, PartitionProgress, Progress, Through, TypePin};
use penstock_wire::reload::{Reload, ReloadRange, ReloadState, Scope};
use penstock_wire::table::{ColumnShape, SourceInfo, TableShape};
use penstock_wire::types::{TypeInfo, ValueKind};
use serde_json::{Value, json};

/// Name, kind, type, base type, and what Postgres printed.
type Sample = (&'static str, ValueKind, &'static str, Option<&'static str>, Column<'static>);

const ACCOUNT: &str = "7a6bb3b6-9c4d-4a0e-8b0f-0d7d1f6b2c11";

fn row() -> Vec<Sample> {
    use ValueKind as Kind;
    let text = |text: &'static str| Column::Text(text.as_bytes());
    vec![
        ("account_id", Kind::Uuid, "uuid", None, text(ACCOUNT)),
        ("id", Kind::Int8, "bigint", None, text("9223372036854775807")),
        ("bool", Kind::Bool, "boolean", None, text("t")),
        ("int2", Kind::Int2, "smallint", None, text("-32768")),
        ("int4", Kind::Int4, "integer", None, text("2147483647")),
        ("float4", Kind::Float4, "real", None, text("0.1")),
        ("float8", Kind::Float8, "double precision", None, text("-Infinity")),
        ("numeric", Kind::Numeric, "numeric(12,2)", None, text("1234.50")),
        ("timestamptz", Kind::Timestamptz, "timestamp with time zone", None, text("2024-05-17 09:31:44.123456+00")),
        ("timestamp", Kind::Timestamp, "timestamp without time zone", None, text("infinity")),
        ("date", Kind::Date, "date", None, text("0044-03-15 BC")),
        ("time", Kind::Time, "time without time zone", None, text("24:00:00")),
        ("bytea", Kind::Bytea, "bytea", None, text("\\x00ff")),
        ("text", Kind::Text, "email", Some("citext"), text("größe")),
        ("jsonb", Kind::Jsonb, "jsonb", None, text("{\"a\": 1}")),
        ("inet", Kind::Inet, "inet", None, text("100.64.0.17")),
        ("1st mac", Kind::Macaddr, "macaddr", None, text("08:00:2b:01:02:ff")),
        ("interval", Kind::String, "interval", None, text("1 day 02:00:00")),
        ("jsonb_array", Kind::Jsonb.array(), "jsonb[]", None, text(r#"{"{\"a\": \"NULL\"}",NULL}"#)),
        ("int_matrix", Kind::Int4.array(), "integer[]", None, text("{{1,2},{3,4}}")),
        ("nothing", Kind::Text, "text", None, Column::Null),
        ("secret", Kind::Text, "text", None, text("never")),
    ]
}

fn plan() -> Plan {
    let column = |(name, kind, pg_type, pg_base, _): &Sample| ColumnShape {
        name: (*name).to_owned(),
        type_info: TypeInfo { kind: *kind, pg_type: (*pg_type).to_owned(), pg_base: pg_base.map(str::to_owned) },
        excluded: *name == "secret",
    };
    let shape = TableShape {
        namespace: "penstock".into(),
        schema: "public".into(),
        table: "samples".into(),
        columns: row().iter().map(column).collect(),
        account: 0,
        key: vec![1],
        source_in_key: true,
    };
    let mut plan =
        Plan::compile(&shape, &SourceInfo { name: "main".into(), number: 7, database: "portal".into() }).unwrap();
    plan.registered(11, 12);
    plan
}

fn change_records() -> Vec<Value> {
    let plan = plan();
    let columns: Vec<Column<'_>> = row().into_iter().map(|(.., column)| column).collect();
    let mut toasted = columns.clone();
    toasted[14] = Column::Unchanged;
    let identity: Vec<Column<'_>> =
        columns.iter().enumerate().map(|(index, column)| if index < 2 { *column } else { Column::Null }).collect();
    let transaction = Some(Transaction { xid: 73_412, total_order: 2, data_collection_order: 1 });
    let insert = Event {
        op: Op::Create,
        before: None,
        after: Some(&columns),
        commit_time_us: 1_715_938_304_123_456,
        commit_lsn: CommitLsn::new(0x16_b374_d848),
        seq: Seq(24),
        transaction,
        row_lsn: Some(Lsn(0x16_b374_d000)),
    };
    let update = Event { op: Op::Update, before: Some(&identity), after: Some(&toasted), ..insert };
    let delete = Event { op: Op::Delete, before: Some(&columns), after: None, ..insert };
    let read = Event { op: Op::Read, transaction: None, ..insert };
    let mut key = Vec::new();
    plan.encode_key(&columns, Account::from_column(Some(ACCOUNT.as_bytes())).unwrap(), &mut key).unwrap();
    let mut records = vec![record("row key", plan.key_schema(), &key)];
    for (name, event) in [("insert", insert), ("update", update), ("delete", delete), ("backfilled row", read)] {
        let mut bytes = Vec::new();
        plan.encode_envelope(&event, &mut bytes).unwrap();
        records.push(record(name, plan.envelope_schema(), &bytes));
    }
    records
}

fn own_records() -> Vec<Value> {
    let at = Position { epoch: 3, commit_lsn: CommitLsn::new(0x16_b374_d848), seq: Seq(24) };
    let key = ControlKey::of_table(7, ControlKind::ReloadEnd, "public", "samples").of_account(ACCOUNT);
    let control = Control {
        kind: ControlKind::ReloadEnd,
        schema: "public".into(),
        table: "samples".into(),
        account: Some(ACCOUNT.into()),
        begin: Some(at),
        detail: None,
    };
    let progress = Progress {
        system_identifier: 7_312_345_678_901_234_567,
        database_oid: 16_384,
        slot: "penstock".into(),
        source_number: 7,
        timeline: 1,
        epoch: 3,
        partition_count: 2,
        topic_id: "Zk3mYx0bQwW1t4kq7vNn2A".into(),
        end_lsn: EndLsn::new(0x16_b374_d900),
        through: Through { commit_lsn: at.commit_lsn, seq: at.seq, xid: 73_412, commit_time_us: 1_715_938_304_123_456 },
        partitions: vec![
            PartitionProgress { partition: 0, last: Position::ZERO, next_offset: 0 },
            PartitionProgress { partition: 1, last: at, next_offset: 42 },
        ],
        key_pins: vec![KeyPin {
            schema: "public".into(),
            table: "samples".into(),
            columns: vec!["id".into()],
            key_schema_id: 11,
            table_oid: 16_401,
            leaves: vec![16_410, 16_417],
            account_column: "account_id".into(),
        }],
        postgres_clock_us: 1_715_938_305_000_000,
        load_complete: true,
        type_pins: vec![
            TypePin { oid: 16_390, modifier: -1, name: "email".into(), base: Some("citext".into()) },
            TypePin { oid: 16_380, modifier: -1, name: "citext".into(), base: None },
        ],
        reloads: vec![Reload {
            id: "first-load".into(),
            scope: Scope { table: Some(("public".into(), "samples".into())), account: Some(ACCOUNT.into()) },
            why: "penstock backfill".into(),
            state: ReloadState::Running,
            rows_per_second: 1_000,
            begin: at,
            ranges: vec![ReloadRange {
                schema: "public".into(),
                table: "samples".into(),
                after: vec!["41".into()],
                until: vec!["99".into()],
                rows: 41,
                rows_estimated: 99,
                done: false,
            }],
            ..Reload::default()
        }],
        namespace: "access.changes".into(),
        source_in_key: true,
    };
    let dead_letter = DeadLetter {
        schema: "public".into(),
        table: "samples".into(),
        op: "c".into(),
        reason: "column \"at\" of type timestamp: the value lies outside the range of the Avro type".into(),
        columns: [("at".to_owned(), Some("294276-12-31 00:00:00".to_owned())), ("note".to_owned(), None)].into(),
    };
    vec![
        record("control key", ControlKey::schema(), &encoded(|out| key.encode(13, out))),
        record("control", Control::schema(), &encoded(|out| control.encode(14, out))),
        record("progress", Progress::schema(), &encoded(|out| progress.encode(15, out))),
        record("dead letter", DeadLetter::schema(), &encoded(|out| dead_letter.encode(16, out))),
    ]
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

/// The record's framed bytes, with the schema that reads them and what is read.
fn record(name: &str, schema: &str, bytes: &[u8]) -> Value {
    let (id, body) = framing::split(bytes).unwrap();
    let decoded = to_json(&WriterSchema::parse(schema).unwrap().read(body).unwrap());
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "name": name, "schema": schema, "schema_id": id, "bytes": hex, "decoded": decoded })
}

#[test]
fn records_have_the_bytes_they_always_had() {
    let golden: Value = serde_json::from_str(include_str!("../golden/records.json")).unwrap();
    let records: Vec<Value> = change_records().into_iter().chain(own_records()).collect();
    let golden_records = golden.as_array().unwrap();
    for (record, golden) in records.iter().zip(golden_records) {
        assert_eq!(record, golden, "the whole file would now be\n{:#}", Value::from(records.clone()));
    }
    assert_eq!(records.len(), golden_records.len(), "the whole file would now be\n{:#}", Value::from(records.clone()));
}
