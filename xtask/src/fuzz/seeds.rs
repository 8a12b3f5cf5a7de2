//! What each target starts from: messages that a real Postgres sent, values that it printed and sent, golden records.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::Value;

const MESSAGES: &str = "crates/core/fuzz/seeds/pgoutput.hex";
const VALUES: &str = "crates/wire/tests/golden/postgres_values.json";
const ROWS: &str = "crates/wire/tests/golden/records.json";
const EXAMPLE: &str = "tests/interop/golden.json";

/// Every message of the stream; a line is the format and the bytes.
pub fn pgoutput(root: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let message = |line: &str| {
        let (_, digits) = line.split_once('|').with_context(|| format!("{MESSAGES} has the line {line:?}"))?;
        bytes(digits)
    };
    text(root, MESSAGES)?.lines().map(message).collect()
}

/// The header of the contract's example, and one that has grown.
pub fn header(root: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let header = bytes(field(&json(root, EXAMPLE)?, "header")?)?;
    let mut grown = header.clone();
    grown.extend([0, 0, 0]);
    Ok(vec![header, grown])
}

/// Every golden record, framed.
pub fn record(root: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let (rows, example) = (json(root, ROWS)?, json(root, EXAMPLE)?);
    let rows = rows.as_array().context("golden rows are a list")?;
    let example = example.get("records").and_then(Value::as_object).context("golden records have names")?;
    let rows = rows.iter().map(|row| bytes(field(row, "bytes")?));
    rows.chain(example.values().map(|record| bytes(field(record, "framed")?))).collect()
}

/// Every golden value in both formats, behind a line that says which and of what kind.
pub fn value(root: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let samples = json(root, VALUES)?;
    let mut seeds = Vec::new();
    for sample in samples.as_array().context("golden values are a list")? {
        let kind = field(sample, "kind")?;
        seeds.push(format!("text {kind}\n{}", field(sample, "text")?).into_bytes());
        let mut binary = format!("binary {kind}\n").into_bytes();
        binary.extend(bytes(field(sample, "binary")?)?);
        seeds.push(binary);
    }
    Ok(seeds)
}

fn text(root: &Path, file: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(root.join(file)).with_context(|| format!("reading {file}"))
}

fn json(root: &Path, file: &str) -> anyhow::Result<Value> {
    serde_json::from_str(&text(root, file)?).with_context(|| format!("{file} is no JSON"))
}

fn field<'v>(value: &'v Value, name: &str) -> anyhow::Result<&'v str> {
    value.get(name).and_then(Value::as_str).with_context(|| format!("no text {name:?} in a golden file"))
}

fn bytes(digits: &str) -> anyhow::Result<Vec<u8>> {
    ensure!(digits.len().is_multiple_of(2), "{} hexadecimal digits", digits.len());
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair)?, 16).context("not hexadecimal");
    pairs.map(byte).collect()
}
