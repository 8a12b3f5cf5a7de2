//! Values in Postgres' binary format, written as Avro: the same bytes as from the text format.
//!
//! What a type's send function writes is its own affair and has been stable for decades; each form read here is named
//! after the source file that writes it (`src/backend/utils/adt`). Types whose form is not known are refused.

use super::{Place, Refusal, ValueKind, array_binary, render, text};
use crate::avro::{put_bytes, put_long};
use crate::postgres_time::{POSTGRES_EPOCH_DAYS, unix_micros};

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// The only version of jsonb's binary form there is.
const JSONB_VERSION: u8 = 1;

/// Appends one value that is not NULL, with its union branch.
#[inline]
pub(super) fn put(kind: ValueKind, place: Place, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    if !kind.is_array() {
        place.open_scalar(out);
    }
    match kind {
        ValueKind::Bool => out.push(u8::from(boolean(bytes)?)),
        ValueKind::Int2 => put_long(out, i64::from(i16::from_be_bytes(fixed(bytes)?))),
        ValueKind::Int4 => put_long(out, i64::from(i32::from_be_bytes(fixed(bytes)?))),
        ValueKind::Int8 => put_long(out, i64::from_be_bytes(fixed(bytes)?)),
        ValueKind::Float4 => out.extend_from_slice(&one_nan4(f32::from_be_bytes(fixed(bytes)?)).to_le_bytes()),
        ValueKind::Float8 => out.extend_from_slice(&one_nan8(f64::from_be_bytes(fixed(bytes)?)).to_le_bytes()),
        ValueKind::Timestamptz | ValueKind::Timestamp => put_long(out, timestamp(bytes)?),
        ValueKind::Date => put_long(out, i64::from(date(bytes)?)),
        ValueKind::Time => put_long(out, time(bytes)?),
        ValueKind::Bytea => put_bytes(out, bytes),
        ValueKind::Decimal(decimal) => decimal.put_binary(bytes, out)?,
        ValueKind::Text => text::put_string(bytes, out)?,
        ValueKind::Jsonb => text::put_string(jsonb(bytes)?, out)?,
        ValueKind::Uuid | ValueKind::Numeric | ValueKind::Inet | ValueKind::Macaddr => put_rendered(kind, bytes, out)?,
        ValueKind::String => return Err(Refusal::BinaryUnknown),
        ValueKind::Array(element) => array_binary::put(element, place, bytes, out)?,
    }
    Ok(())
}

/// Appends as a string what Postgres would print. The length in front is known only behind the text: one byte is kept
/// for it, which nearly always suffices.
fn put_rendered(kind: ValueKind, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let start = out.len();
    out.push(0);
    render::put(kind, bytes, out)?;
    let text = start + 1;
    let length = out.len() - text;
    match u8::try_from(length * 2) {
        Ok(short @ 0..0x80) => out[start] = short,
        _ => {
            let mut prefix = Vec::with_capacity(10);
            put_long(&mut prefix, length as i64);
            out.splice(start..text, prefix);
        }
    }
    Ok(())
}

/// Exactly as many bytes as the type has.
#[inline]
pub(super) fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Refusal> {
    bytes.try_into().map_err(|_| Refusal::Malformed)
}

/// `bool.c`.
pub(super) fn boolean(bytes: &[u8]) -> Result<bool, Refusal> {
    match bytes {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Refusal::Malformed),
    }
}

/// `jsonb.c`: a version, then the text.
pub(super) fn jsonb(bytes: &[u8]) -> Result<&[u8], Refusal> {
    match bytes {
        [JSONB_VERSION, text @ ..] => Ok(text),
        _ => Err(Refusal::Malformed),
    }
}

/// `date.c`: days since 2000-01-01, the ends of the range for ±infinity. Days since 1970 come out.
fn date(bytes: &[u8]) -> Result<i32, Refusal> {
    match i32::from_be_bytes(fixed(bytes)?) {
        infinite @ (i32::MAX | i32::MIN) => Ok(infinite),
        days => days.checked_add(POSTGRES_EPOCH_DAYS).filter(|days| *days != i32::MAX).ok_or(Refusal::OutOfRange),
    }
}

/// `date.c`: microseconds since midnight.
pub(super) fn time(bytes: &[u8]) -> Result<i64, Refusal> {
    match i64::from_be_bytes(fixed(bytes)?) {
        micros @ 0..=MICROS_PER_DAY => Ok(micros),
        _ => Err(Refusal::Malformed),
    }
}

/// `timestamp.c`: microseconds since 2000-01-01, the ends of the range for ±infinity. Microseconds since 1970 come out.
#[inline]
fn timestamp(bytes: &[u8]) -> Result<i64, Refusal> {
    match i64::from_be_bytes(fixed(bytes)?) {
        infinite @ (i64::MAX | i64::MIN) => Ok(infinite),
        micros => unix_micros(micros).filter(|micros| *micros != i64::MAX).ok_or(Refusal::OutOfRange),
    }
}

/// The text format has one NaN, the binary format many.
fn one_nan4(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value }
}

fn one_nan8(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(kind: ValueKind, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
        let mut out = Vec::new();
        put(kind, Place::Nullable, bytes, &mut out).map(|()| out)
    }

    fn same(kind: ValueKind, bytes: &[u8], printed: &str) {
        let mut out = Vec::new();
        let from_text = text::put(kind, Place::Nullable, printed.as_bytes(), &mut out).map(|()| out);
        assert_eq!(written(kind, bytes), from_text, "{kind:?} {printed}");
    }

    #[test]
    fn binary_gives_the_bytes_of_text() {
        same(ValueKind::Bool, &[1], "t");
        same(ValueKind::Int2, &[0x80, 0], "-32768");
        same(ValueKind::Int4, &[0, 0, 4, 0xd2], "1234");
        same(ValueKind::Int8, &i64::MIN.to_be_bytes(), "-9223372036854775808");
        same(ValueKind::Float4, &0.1_f32.to_be_bytes(), "0.1");
        same(ValueKind::Float4, &(-f32::NAN).to_be_bytes(), "NaN");
        same(ValueKind::Float8, &f64::INFINITY.to_be_bytes(), "Infinity");
        same(ValueKind::Float8, &0x7ff0_0000_0000_0001_u64.to_be_bytes(), "NaN");
        same(ValueKind::Date, &0_i32.to_be_bytes(), "2000-01-01");
        same(ValueKind::Date, &i32::MIN.to_be_bytes(), "-infinity");
        same(ValueKind::Time, &86_400_000_000_i64.to_be_bytes(), "24:00:00");
        same(ValueKind::Timestamp, &(-1_i64).to_be_bytes(), "1999-12-31 23:59:59.999999");
        same(ValueKind::Timestamptz, &i64::MAX.to_be_bytes(), "infinity");
        same(ValueKind::Bytea, b"\0\xff", "\\x00ff");
        same(ValueKind::Text, "é".as_bytes(), "é");
        same(ValueKind::Jsonb, b"\x01{}", "{}");
        same(ValueKind::Macaddr, &[8, 0, 0x2b, 1, 2, 0xff], "08:00:2b:01:02:ff");
        same(ValueKind::Inet, &[2, 32, 0, 4, 127, 0, 0, 1], "127.0.0.1");
        same(ValueKind::Numeric, &[0, 1, 0, 0, 0, 0, 0, 2, 0, 1], "1.00");
    }

    #[test]
    fn long_rendered_text_has_a_longer_length() {
        let mut bytes = vec![0, 1, 0, 30, 0, 0, 0, 0];
        bytes.extend([0x27, 0x0f]);
        same(ValueKind::Numeric, &bytes, &format!("9999{}", "0".repeat(120)));
    }

    #[test]
    fn what_no_send_function_writes_is_refused() {
        for (kind, bytes) in [
            (ValueKind::Bool, [2].as_slice()),
            (ValueKind::Bool, &[]),
            (ValueKind::Int2, &[0]),
            (ValueKind::Int4, &[0; 5]),
            (ValueKind::Int8, &[0; 4]),
            (ValueKind::Float4, &[0; 8]),
            (ValueKind::Float8, &[0; 4]),
            (ValueKind::Uuid, &[0; 15]),
            (ValueKind::Date, &[0; 8]),
            (ValueKind::Time, &[0xff; 8]),
            (ValueKind::Time, &86_400_000_001_i64.to_be_bytes()),
            (ValueKind::Timestamp, &[0; 7]),
            (ValueKind::Jsonb, &[]),
            (ValueKind::Jsonb, b"\x02{}"),
            (ValueKind::Macaddr, &[0; 8]),
        ] {
            assert_eq!(written(kind, bytes), Err(Refusal::Malformed), "{kind:?} {bytes:?}");
        }
        assert_eq!(written(ValueKind::Text, &[0xff]), Err(Refusal::NotUtf8));
        assert_eq!(written(ValueKind::String, b"1 day"), Err(Refusal::BinaryUnknown));
    }

    #[test]
    fn times_beyond_the_range_are_refused_and_never_become_infinity() {
        let last = i64::MAX - 946_684_800_000_000;
        assert!(written(ValueKind::Timestamp, &(last - 1).to_be_bytes()).is_ok());
        for micros in [last, last + 1, i64::MAX - 1] {
            assert_eq!(written(ValueKind::Timestamp, &micros.to_be_bytes()), Err(Refusal::OutOfRange), "{micros}");
        }
        let last = i32::MAX - 10_957;
        assert!(written(ValueKind::Date, &(last - 1).to_be_bytes()).is_ok());
        assert_eq!(written(ValueKind::Date, &last.to_be_bytes()), Err(Refusal::OutOfRange));
    }
}
