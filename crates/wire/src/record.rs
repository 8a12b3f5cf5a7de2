//! What Penstock's own records (control, progress, dead letter) have in common.

use crate::avro::{put_bits, put_bytes, put_long};
use crate::decode::WriterSchema;
use crate::position::Position;

/// Parses a schema that is part of this crate.
pub(crate) fn own_schema(json: &str) -> WriterSchema {
    match WriterSchema::parse(json) {
        Ok(schema) => schema,
        // The text is a constant that every test run parses.
        Err(error) => panic!("a schema of this crate is not valid: {error:?}"),
    }
}

/// A record `penstock.wire.Position`.
pub(crate) fn put_position(out: &mut Vec<u8>, position: Position) {
    put_long(out, i64::from(position.epoch));
    put_bits(out, position.commit_lsn.raw());
    put_bits(out, position.seq.0);
}

/// A `["null", "string"]`.
pub(crate) fn put_optional_text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => out.push(0),
        Some(text) => {
            out.push(2);
            put_bytes(out, text.as_bytes());
        }
    }
}
