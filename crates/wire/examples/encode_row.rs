//! How long a row of 20 columns takes from the replication stream's bytes to an envelope's.
//!
//! `cargo run --release -p penstock-wire --example encode_row [-- --json]`
//!
//! One insert, encoded over and over into the same buffer, in both formats of the stream: nothing but the encoder is
//! measured, with warm caches. Rounds alternate between the formats; the median round is the figure.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a measurement needs a clock; the crate itself has none"
)]

use std::hint::black_box;
use std::time::Instant;

use penstock_wire::account::Account;
use penstock_wire::column::Column;
use penstock_wire::event::{Event, Op, Transaction};
use penstock_wire::lsn::{CommitLsn, Lsn};
use penstock_wire::plan::{Plan, ValueError};
use penstock_wire::position::Seq;
use penstock_wire::table::{ColumnShape, SourceInfo, TableShape};
use penstock_wire::types::{TypeInfo, ValueKind};

const ROUNDS: usize = 15;
const ROWS: u32 = 100_000;
const ACCOUNT: &str = "7a6bb3b6-9c4d-4a0e-8b0f-0d7d1f6b2c11";

/// Name, kind, type name, text format, binary format.
type Sample = (&'static str, ValueKind, &'static str, &'static str, &'static [u8]);

const COLUMNS: [Sample; 20] = [
    (
        "id",
        ValueKind::Uuid,
        "uuid",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        b"\x0f\x8f\xad\x5b\xd9\xcb\x46\x9f\xa1\x65\x70\x86\x77\x28\x95\x0e",
    ),
    (
        "account_id",
        ValueKind::Uuid,
        "uuid",
        ACCOUNT,
        b"\x7a\x6b\xb3\xb6\x9c\x4d\x4a\x0e\x8b\x0f\x0d\x7d\x1f\x6b\x2c\x11",
    ),
    (
        "actor_id",
        ValueKind::Uuid,
        "uuid",
        "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        b"\x7c\x9e\x66\x79\x74\x25\x40\xde\x94\x4b\xe0\x7f\xc1\xf9\x0a\xe7",
    ),
    ("name", ValueKind::Text, "text", "Jane's laptop", b"Jane's laptop"),
    (
        "external_id",
        ValueKind::Text,
        "character varying(255)",
        "8f14e45fceea167a5a36dedd4bea2543",
        b"8f14e45fceea167a5a36dedd4bea2543",
    ),
    (
        "public_key",
        ValueKind::Text,
        "text",
        "Yk1wQnJtN2s4dWd4cGJ0Y0F1Z3VzdGE0MzIxMDk4NzY=",
        b"Yk1wQnJtN2s4dWd4cGJ0Y0F1Z3VzdGE0MzIxMDk4NzY=",
    ),
    ("ipv4", ValueKind::Inet, "inet", "100.64.0.17", b"\x02\x20\x00\x04\x64\x40\x00\x11"),
    ("last_seen_version", ValueKind::Text, "character varying(255)", "1.3.12", b"1.3.12"),
    (
        "last_seen_user_agent",
        ValueKind::Text,
        "text",
        "Mac OS/14.4.1 apple-client/1.3.12 (23.4.0; arm64)",
        b"Mac OS/14.4.1 apple-client/1.3.12 (23.4.0; arm64)",
    ),
    ("last_seen_lat", ValueKind::Float8, "double precision", "50.4333", b"\x40\x49\x37\x76\x5f\xd8\xad\xac"),
    ("last_seen_lon", ValueKind::Float8, "double precision", "30.5167", b"\x40\x3e\x84\x46\x73\x81\xd7\xdc"),
    ("logins", ValueKind::Int4, "integer", "1234", b"\x00\x00\x04\xd2"),
    ("bytes_sent", ValueKind::Int8, "bigint", "98765432101", b"\x00\x00\x00\x16\xfe\xe0\xe5\x25"),
    ("enabled", ValueKind::Bool, "boolean", "t", b"\x01"),
    ("price", ValueKind::Numeric, "numeric(12,2)", "1234.50", b"\x00\x02\x00\x00\x00\x00\x00\x02\x04\xd2\x13\x88"),
    (
        "subject",
        ValueKind::Jsonb,
        "jsonb",
        "{\"actor\": {\"id\": 7}, \"provider\": \"google\"}",
        b"\x01{\"actor\": {\"id\": 7}, \"provider\": \"google\"}",
    ),
    ("birthday", ValueKind::Date, "date", "1984-02-29", b"\xff\xff\xe9\x5f"),
    (
        "last_seen_at",
        ValueKind::Timestamptz,
        "timestamp with time zone",
        "2024-05-17 09:31:44.123456+00",
        b"\x00\x02\xbb\xfd\xf6\x9a\x10\x40",
    ),
    (
        "inserted_at",
        ValueKind::Timestamp,
        "timestamp without time zone",
        "2023-11-02 17:00:01.5",
        b"\x00\x02\xac\x35\x4d\x23\x31\x20",
    ),
    (
        "updated_at",
        ValueKind::Timestamp,
        "timestamp without time zone",
        "2024-05-17 09:31:44.123456",
        b"\x00\x02\xbb\xfd\xf6\x9a\x10\x40",
    ),
];

fn main() -> Result<(), ValueError> {
    let plan = plan();
    let text = COLUMNS.map(|(_, _, _, text, _)| Column::Text(text.as_bytes()));
    let binary = COLUMNS.map(|(_, _, _, _, binary)| Column::Binary(binary));
    let mut rounds = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (times, row) in rounds.iter_mut().zip([&text, &binary]) {
            times.push(nanoseconds_per_row(&plan, row)?);
        }
    }
    let [text_ns, binary_ns] = rounds.map(median);
    let mut envelope = Vec::new();
    plan.encode_envelope(&event(&text), &mut envelope)?;
    if std::env::args().any(|argument| argument == "--json") {
        let length = envelope.len();
        println!(
            r#"{{"columns":20,"envelope_bytes":{length},"text_ns":{text_ns:.0},"binary_ns":{binary_ns:.0},"rounds":{ROUNDS}}}"#
        );
    } else {
        println!("20 columns, envelope of {} bytes, median of {ROUNDS} rounds of {ROWS} rows", envelope.len());
        println!("text    {text_ns:.0} ns/row");
        println!("binary  {binary_ns:.0} ns/row");
    }
    Ok(())
}

fn nanoseconds_per_row(plan: &Plan, row: &[Column<'_>]) -> Result<f64, ValueError> {
    let mut out = Vec::with_capacity(4096);
    let start = Instant::now();
    for _ in 0..ROWS {
        out.clear();
        plan.encode_envelope(black_box(&event(row)), &mut out)?;
        black_box(&out);
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / f64::from(ROWS))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn event<'a>(row: &'a [Column<'a>]) -> Event<'a> {
    Event {
        op: Op::Create,
        before: None,
        after: Some(row),
        commit_time_us: 1_715_938_304_123_456,
        commit_lsn: CommitLsn::new(0x16_b374_d848),
        seq: Seq(24),
        transaction: Some(Transaction { xid: 73_412, total_order: 2, data_collection_order: 1 }),
        row_lsn: Some(Lsn(0x16_b374_d000)),
    }
}

fn plan() -> Plan {
    let columns = COLUMNS.map(|(name, kind, pg_type, _, _)| ColumnShape {
        name: name.to_owned(),
        type_info: TypeInfo { kind, pg_type: pg_type.to_owned(), pg_base: None },
        excluded: false,
    });
    let shape = TableShape {
        namespace: "penstock".to_owned(),
        schema: "public".to_owned(),
        table: "clients".to_owned(),
        columns: columns.to_vec(),
        account: 1,
        key: vec![0],
        source_in_key: false,
    };
    let source = SourceInfo { name: "main".to_owned(), number: 1, database: "access".to_owned() };
    let mut plan = match Plan::compile(&shape, &source) {
        Ok(plan) => plan,
        Err(error) => panic!("the example's table cannot be captured: {error}"),
    };
    plan.registered(1, 2);
    let mut key = Vec::new();
    let row = COLUMNS.map(|(_, _, _, text, _)| Column::Text(text.as_bytes()));
    if let Err(error) =
        Account::from_column(Some(ACCOUNT.as_bytes())).map(|account| plan.encode_key(&row, account, &mut key))
    {
        panic!("the example's account is refused: {error}");
    }
    plan
}
