//! Values in Postgres' text format, read strictly and written as Avro.

use super::{Place, Refusal, ValueKind, array, calendar};
use crate::avro::{put_bytes, put_length, put_long};

/// Appends one value that is not NULL, with its union branch.
#[inline]
pub(super) fn put(kind: ValueKind, place: Place, text: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    if !kind.is_array() {
        place.open_scalar(out);
    }
    match kind {
        ValueKind::Bool => out.push(u8::from(boolean(text)?)),
        ValueKind::Int2 => put_long(out, i64::from(narrow::<i16>(text)?)),
        ValueKind::Int4 => put_long(out, i64::from(narrow::<i32>(text)?)),
        ValueKind::Int8 => put_long(out, integer(text)?),
        ValueKind::Float4 => out.extend_from_slice(&float4(text)?.to_le_bytes()),
        ValueKind::Float8 => out.extend_from_slice(&float8(text)?.to_le_bytes()),
        ValueKind::Uuid => put_bytes(out, uuid(text)?),
        ValueKind::Timestamptz => put_long(out, calendar::timestamptz(text)?),
        ValueKind::Timestamp => put_long(out, calendar::timestamp(text)?),
        ValueKind::Date => put_long(out, i64::from(calendar::date(text)?)),
        ValueKind::Time => put_long(out, calendar::time(text)?),
        ValueKind::Bytea => put_bytea(text, out)?,
        ValueKind::Decimal(decimal) => decimal.put_text(text, out)?,
        ValueKind::Numeric
        | ValueKind::Text
        | ValueKind::Jsonb
        | ValueKind::Inet
        | ValueKind::Macaddr
        | ValueKind::String => put_string(text, out)?,
        ValueKind::Array(element) => array::put_text(element, place, text, out)?,
    }
    Ok(())
}

/// Appends text whose form is Postgres' own affair, as long as it is UTF-8.
#[inline]
pub(super) fn put_string(text: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    if std::str::from_utf8(text).is_err() {
        return Err(Refusal::NotUtf8);
    }
    put_bytes(out, text);
    Ok(())
}

fn boolean(text: &[u8]) -> Result<bool, Refusal> {
    match text {
        b"t" => Ok(true),
        b"f" => Ok(false),
        _ => Err(Refusal::Malformed),
    }
}

#[inline]
fn narrow<T: TryFrom<i64>>(text: &[u8]) -> Result<T, Refusal> {
    T::try_from(integer(text)?).map_err(|_| Refusal::Malformed)
}

/// `-?[0-9]+` within 64 bits.
#[inline]
fn integer(text: &[u8]) -> Result<i64, Refusal> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 19 {
        return Err(Refusal::Malformed);
    }
    let mut magnitude = 0_u64;
    for digit in digits {
        let value = digit.wrapping_sub(b'0');
        if value > 9 {
            return Err(Refusal::Malformed);
        }
        // Nineteen digits stay below 10^19, which 64 unsigned bits hold.
        magnitude = magnitude * 10 + u64::from(value);
    }
    let number = if negative { 0_i64.checked_sub_unsigned(magnitude) } else { 0_i64.checked_add_unsigned(magnitude) };
    number.ok_or(Refusal::Malformed)
}

fn float4(text: &[u8]) -> Result<f32, Refusal> {
    match text {
        b"NaN" => Ok(f32::NAN),
        b"Infinity" => Ok(f32::INFINITY),
        b"-Infinity" => Ok(f32::NEG_INFINITY),
        _ => decimal(text)?.parse().ok().filter(|value: &f32| value.is_finite()).ok_or(Refusal::Malformed),
    }
}

fn float8(text: &[u8]) -> Result<f64, Refusal> {
    match text {
        b"NaN" => Ok(f64::NAN),
        b"Infinity" => Ok(f64::INFINITY),
        b"-Infinity" => Ok(f64::NEG_INFINITY),
        _ => decimal(text)?.parse().ok().filter(|value: &f64| value.is_finite()).ok_or(Refusal::Malformed),
    }
}

/// Text made of a decimal's characters only: Rust's parser checks their order, but also takes `inf`, `nan` and `+1`.
fn decimal(text: &[u8]) -> Result<&str, Refusal> {
    let plain = text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e'));
    match (plain, text.first()) {
        (true, Some(b'-' | b'0'..=b'9')) => std::str::from_utf8(text).map_err(|_| Refusal::Malformed),
        _ => Err(Refusal::Malformed),
    }
}

/// The canonical 36 characters, which are all that Postgres prints.
///
/// Every character is judged, without a branch: the loop becomes a few vector instructions.
#[inline]
fn uuid(text: &[u8]) -> Result<&[u8], Refusal> {
    const SHAPE: &[u8; 36] = b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    let text: &[u8; 36] = text.try_into().map_err(|_| Refusal::Malformed)?;
    let mut wrong = 0;
    for (byte, shape) in text.iter().zip(SHAPE) {
        let digit = u8::from(byte.wrapping_sub(b'0') < 10) | u8::from(byte.wrapping_sub(b'a') < 6);
        let dash = u8::from(*shape == b'-');
        wrong |= (dash & u8::from(*byte != b'-')) | ((dash ^ 1) & (digit ^ 1));
    }
    if wrong == 0 { Ok(text) } else { Err(Refusal::Malformed) }
}

/// Both of `bytea_output`'s formats. A value printed in `escape` never starts with `\x`: its backslash is doubled.
fn put_bytea(text: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    match text {
        [b'\\', b'x', digits @ ..] => put_hex(digits, out),
        _ => put_escaped(text, out),
    }
}

fn put_hex(digits: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Refusal::Malformed);
    }
    put_length(out, pairs.len());
    for [high, low] in pairs {
        out.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
    }
    Ok(())
}

fn hex_digit(digit: u8) -> Result<u8, Refusal> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(Refusal::Malformed),
    }
}

fn put_escaped(text: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut input = text;
    loop {
        input = match input {
            [] => break,
            [b'\\', b'\\', rest @ ..] => {
                bytes.push(b'\\');
                rest
            }
            [b'\\', high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', rest @ ..] => {
                bytes.push((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'));
                rest
            }
            // Bytes outside printable ASCII are always printed in octal.
            [byte @ 0x20..=0x7e, rest @ ..] if *byte != b'\\' => {
                bytes.push(*byte);
                rest
            }
            _ => return Err(Refusal::Malformed),
        };
    }
    put_bytes(out, &bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(kind: ValueKind, text: &str) -> Result<Vec<u8>, Refusal> {
        let mut out = Vec::new();
        put(kind, Place::Bare, text.as_bytes(), &mut out).map(|()| out)
    }

    fn check(kind: ValueKind, cases: &[(&str, &[u8])]) {
        for (text, bytes) in cases {
            assert_eq!(written(kind, text).as_deref(), Ok(*bytes), "{kind:?} {text}");
        }
    }

    fn refuse(kind: ValueKind, cases: &[&str]) {
        for text in cases {
            assert_eq!(written(kind, text), Err(Refusal::Malformed), "{kind:?} {text}");
        }
    }

    #[test]
    fn booleans() {
        check(ValueKind::Bool, &[("t", &[1]), ("f", &[0])]);
        refuse(ValueKind::Bool, &["", "true", "T", "1"]);
    }

    #[test]
    fn integers() {
        check(ValueKind::Int2, &[("0", &[0]), ("-32768", &[255, 255, 3]), ("32767", &[254, 255, 3])]);
        check(ValueKind::Int4, &[("-1", &[1]), ("-2147483648", &[255, 255, 255, 255, 15])]);
        check(
            ValueKind::Int8,
            &[
                ("-9223372036854775808", &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
                ("9223372036854775807", &[254, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
            ],
        );
        refuse(ValueKind::Int2, &["32768", "-32769"]);
        refuse(ValueKind::Int4, &["2147483648", "-2147483649"]);
        refuse(
            ValueKind::Int8,
            &[
                "",
                "-",
                "+1",
                "1 ",
                "0x1",
                "9223372036854775808",
                "-9223372036854775809",
                "99999999999999999999",
                "/",
                ":",
            ],
        );
    }

    #[test]
    fn floats() {
        for (text, value) in
            [("0", 0.0), ("-0", -0.0), ("0.1", 0.1), ("1e-05", 1e-5), ("1e+15", 1e15), ("5e-324", 5e-324)]
        {
            check(ValueKind::Float8, &[(text, &f64::to_le_bytes(value))]);
        }
        check(
            ValueKind::Float8,
            &[
                ("NaN", &f64::NAN.to_le_bytes()),
                ("Infinity", &f64::INFINITY.to_le_bytes()),
                ("-Infinity", &f64::NEG_INFINITY.to_le_bytes()),
            ],
        );
        check(
            ValueKind::Float4,
            &[
                ("3.4028235e+38", &f32::MAX.to_le_bytes()),
                ("1e-45", &1e-45_f32.to_le_bytes()),
                ("NaN", &f32::NAN.to_le_bytes()),
            ],
        );
        refuse(ValueKind::Float8, &["", "inf", "nan", "infinity", "+1", "1e999", "1e", "--1", ".", "1E5", "e5", ".5"]);
        refuse(ValueKind::Float4, &["1e39", "-1e39"]);
    }

    #[test]
    fn uuids() {
        let text = "0123abcd-4567-89ef-0123-456789abcdef";
        let mut bytes = vec![72];
        bytes.extend(text.bytes());
        check(ValueKind::Uuid, &[(text, &bytes)]);
        refuse(
            ValueKind::Uuid,
            &[
                "",
                "0123ABCD-4567-89ef-0123-456789abcdef",
                "0123abcd4567-89ef-0123-456789abcdef-",
                "0123abcd-4567-89ef-0123-456789abcdeg",
                "{0123abcd-4567-89ef-0123-456789abcd}",
            ],
        );
    }

    #[test]
    fn bytea_in_both_output_formats() {
        check(
            ValueKind::Bytea,
            &[
                ("\\x", &[0]),
                ("\\x00ff5c", &[6, 0, 255, 92]),
                ("", &[0]),
                ("a b", &[6, b'a', b' ', b'b']),
                ("\\\\x00", &[8, b'\\', b'x', b'0', b'0']),
                ("\\000\\377~", &[6, 0, 255, b'~']),
            ],
        );
        refuse(ValueKind::Bytea, &["\\x0", "\\x0G", "\\xAB", "\\", "\\40", "\\400", "\\08", "\u{7f}", "é"]);
    }

    #[test]
    fn strings_must_be_utf8() {
        check(ValueKind::Numeric, &[("1.50", b"\x081.50"), ("NaN", b"\x06NaN")]);
        check(ValueKind::Text, &[("", &[0]), ("é", "\u{4}é".as_bytes())]);
        assert_eq!(put(ValueKind::Text, Place::Bare, b"\xff", &mut Vec::new()), Err(Refusal::NotUtf8));
        assert_eq!(put(ValueKind::Jsonb, Place::Bare, b"\"\xed\xa0\x80\"", &mut Vec::new()), Err(Refusal::NotUtf8));
    }
}
