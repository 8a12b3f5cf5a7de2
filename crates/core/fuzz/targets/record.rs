//! Any bytes in the place of a record's key or value, read with the schema that the frame names: a record or an error.
//!
//! The registry holds the schemas of the golden records. What is read as one of Penstock's own records is written and
//! read again as the same; a key that reads has the account that slicing finds; a row that reads can be printed.

#![no_main]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::LazyLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use penstock_wire::control::{Control, ControlKey};
use penstock_wire::dead_letter::DeadLetter;
use penstock_wire::decode::{DecodeError, Envelope, WriterSchema, account_of_key, to_json};
use penstock_wire::framing;
use penstock_wire::progress::Progress;
use serde_json::Value;

const ROWS: &str = include_str!("../../../wire/tests/golden/records.json");
const EXAMPLE: &str = include_str!("../../../../tests/interop/golden.json");

/// Schemas and record names by registry id.
static REGISTRY: LazyLock<BTreeMap<u32, (WriterSchema, String)>> = LazyLock::new(|| {
    let rows: Value = serde_json::from_str(ROWS).expect("golden records");
    let example: Value = serde_json::from_str(EXAMPLE).expect("golden records");
    let rows = rows
        .as_array()
        .expect("a list")
        .iter()
        .map(|record| (&record["schema_id"], record["schema"].as_str().expect("a schema's text").to_owned()));
    let example = example["records"].as_object().expect("records by name");
    let example = example.values().map(|record| (&record["schema_id"], record["schema"].to_string()));
    let entry = |(id, text): (&Value, String)| {
        let schema: Value = serde_json::from_str(&text).expect("a schema");
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).expect("an id");
        let name = schema["name"].as_str().expect("a record's name").to_owned();
        let name = name.rsplit('.').next().unwrap_or_default().to_owned();
        (id, (WriterSchema::parse(&text).expect("a schema"), name))
    };
    rows.chain(example).map(entry).collect()
});

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok((id, body)) = framing::split(bytes) else { return Corpus::Keep };
    let Some((schema, name)) = REGISTRY.get(&id) else { return Corpus::Reject };
    match name.as_str() {
        "Key" => key(schema, body),
        "Envelope" => envelope(schema, body),
        "Control" => again(body, Control::decode, |control, out| control.encode(id, out)),
        "ControlKey" => again(body, ControlKey::decode, |key, out| key.encode(id, out)),
        "Progress" => again(body, Progress::decode, |progress, out| progress.encode(id, out)),
        "DeadLetter" => again(body, DeadLetter::decode, |letter, out| letter.encode(id, out)),
        other => panic!("no reader of {other}"),
    }
    Corpus::Keep
});

fn key(schema: &WriterSchema, body: &[u8]) {
    let sliced = account_of_key(body).ok();
    let Ok(value) = schema.read(body) else { return };
    let json = to_json(&value);
    let read = json["__account"].as_str();
    assert!(read.is_some() && sliced == read, "{sliced:?} was sliced, {read:?} read");
}

fn envelope(schema: &WriterSchema, body: &[u8]) {
    let Ok(envelope) = Envelope::decode(schema, body) else { return };
    for row in [&envelope.before, &envelope.after].into_iter().flatten() {
        for (name, value) in &row.0 {
            assert!(!name.is_empty());
            to_json(value).to_string();
        }
    }
}

fn again<T: PartialEq + Debug>(
    body: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T, &mut Vec<u8>),
) {
    let Ok(record) = decode(body) else { return };
    let mut written = Vec::new();
    encode(&record, &mut written);
    let (_, body) = framing::split(&written).expect("what was written is framed");
    assert_eq!(decode(body).expect("what was written is read"), record);
}
