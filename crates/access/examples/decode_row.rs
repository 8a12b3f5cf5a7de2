//! How long a record takes from its bytes to a row.
//!
//! `cargo run --release -p penstock-access --example decode_row [-- --json]`
//!
//! One record of each table as the bridge writes it, key and value, decoded over and over: nothing but the decoder is
//! measured, with warm caches. Rounds are short, and the figure is the tenth part of them from below: what a machine that
//! has other work too needs when it is left alone.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a measurement needs a clock; the crate itself has none"
)]

#[path = "../tests/decode/fixture.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod fixture;

use std::hint::black_box;
use std::time::Instant;

use penstock_access::decode::{DecodeError, Schemas};
use penstock_access::rows::Table;
use penstock_wire::event::Op;

const ROUNDS: usize = 500;
const ROWS: u32 = 2_000;

fn main() -> Result<(), DecodeError> {
    let json = std::env::args().any(|argument| argument == "--json");
    for table in Table::ALL {
        let shape = fixture::shape(table);
        let mut figures = Vec::new();
        for op in [Op::Read, Op::Update] {
            let record = fixture::encode(&shape, op, &fixture::sample(table));
            figures.push((record.value.len(), undisturbed(&fixture::schemas(&shape), &record)?));
        }
        if let [(read_bytes, read_ns), (update_bytes, update_ns)] = figures[..] {
            let name = table.name();
            if json {
                println!(
                    r#"{{"table":"{name}","read_bytes":{read_bytes},"read_ns":{read_ns:.0},"update_bytes":{update_bytes},"update_ns":{update_ns:.0}}}"#
                );
            } else {
                println!(
                    "{name:24} {read_ns:5.0} ns ({read_bytes} bytes), with the old row {update_ns:5.0} ns ({update_bytes} bytes)"
                );
            }
        }
    }
    Ok(())
}

fn undisturbed(schemas: &Schemas, record: &fixture::Record) -> Result<f64, DecodeError> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..ROWS {
            let key = schemas.decode_key(black_box(&record.key))?;
            black_box(schemas.decode_value(&key, Some(black_box(&record.value)))?);
        }
        rounds.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(ROWS));
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds.get(rounds.len() / 10).copied().unwrap_or(f64::NAN))
}
