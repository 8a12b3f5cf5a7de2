//! Values in Postgres' binary format, printed as Postgres prints them.
//!
//! For types that travel as their text, for arrays that travel as their literal, and for whoever needs a column's text
//! (the account, a dead letter) from a binary stream. The pinned session settings are assumed: ISO dates, UTC, shortest
//! exact floats, hexadecimal bytea.

use super::binary::{boolean, fixed, jsonb, time};
use super::{Refusal, ValueKind, array_binary, float_text, network, numeric};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Appends the text of one value that is not NULL, without a length.
pub(super) fn put(kind: ValueKind, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    match kind {
        ValueKind::Bool => out.push(if boolean(bytes)? { b't' } else { b'f' }),
        ValueKind::Int2 => put_display(out, i16::from_be_bytes(fixed(bytes)?)),
        ValueKind::Int4 => put_display(out, i32::from_be_bytes(fixed(bytes)?)),
        ValueKind::Int8 => put_display(out, i64::from_be_bytes(fixed(bytes)?)),
        ValueKind::Float4 => float_text::put_float4(f32::from_be_bytes(fixed(bytes)?), out),
        ValueKind::Float8 => float_text::put_float8(f64::from_be_bytes(fixed(bytes)?), out),
        ValueKind::Numeric | ValueKind::Decimal(_) => numeric::put(bytes, out)?,
        ValueKind::Uuid => put_uuid(fixed(bytes)?, out),
        ValueKind::Timestamp => put_timestamp(i64::from_be_bytes(fixed(bytes)?), "", out),
        ValueKind::Timestamptz => put_timestamp(i64::from_be_bytes(fixed(bytes)?), "+00", out),
        ValueKind::Date => put_date(i32::from_be_bytes(fixed(bytes)?), out),
        ValueKind::Time => put_time(time(bytes)?, out),
        ValueKind::Bytea => {
            out.extend_from_slice(b"\\x");
            put_hex(bytes, out);
        }
        ValueKind::Text => put_utf8(bytes, out)?,
        ValueKind::Jsonb => put_utf8(jsonb(bytes)?, out)?,
        ValueKind::Inet => network::put_inet(bytes, out)?,
        ValueKind::Macaddr => network::put_macaddr(fixed(bytes)?, out),
        ValueKind::String => return Err(Refusal::BinaryUnknown),
        ValueKind::Array(element) => array_binary::put_literal(element, bytes, out)?,
    }
    Ok(())
}

/// Appends anything that prints itself.
pub(super) fn put_display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    use std::io::Write as _;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

pub(super) fn put_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 0xf)]);
    }
}

fn put_utf8(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    if std::str::from_utf8(bytes).is_err() {
        return Err(Refusal::NotUtf8);
    }
    out.extend_from_slice(bytes);
    Ok(())
}

fn put_uuid(bytes: [u8; 16], out: &mut Vec<u8>) {
    let mut rest = bytes.as_slice();
    for (group, length) in [4, 2, 2, 2, 6].into_iter().enumerate() {
        if group > 0 {
            out.push(b'-');
        }
        let (digits, behind) = rest.split_at(length);
        put_hex(digits, out);
        rest = behind;
    }
}

fn put_date(postgres_days: i32, out: &mut Vec<u8>) {
    match postgres_days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        days => {
            let before_christ = put_day(i64::from(days), out);
            put_era(before_christ, out);
        }
    }
}

fn put_timestamp(postgres_micros: i64, zone: &str, out: &mut Vec<u8>) {
    match postgres_micros {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        micros => {
            let before_christ = put_day(micros.div_euclid(MICROS_PER_DAY), out);
            out.push(b' ');
            put_time(micros.rem_euclid(MICROS_PER_DAY), out);
            out.extend_from_slice(zone.as_bytes());
            put_era(before_christ, out);
        }
    }
}

/// `HH:MM:SS[.ffffff]`, without trailing zeros in the fraction.
fn put_time(micros: i64, out: &mut Vec<u8>) {
    let seconds = micros / 1_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    put_display(out, format_args!("{hours:02}:{minutes:02}:{:02}", seconds % 60));
    let fraction = micros % 1_000_000;
    if fraction > 0 {
        put_display(out, format_args!(".{fraction:06}"));
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// `YYYY-MM-DD`; returns whether the era must follow at the end.
fn put_day(postgres_days: i64, out: &mut Vec<u8>) -> bool {
    let (year, month, day) = civil_from_days(postgres_days + 10_957);
    let before_christ = year <= 0;
    let printed = if before_christ { 1 - year } else { year };
    put_display(out, format_args!("{printed:04}-{month:02}-{day:02}"));
    before_christ
}

fn put_era(before_christ: bool, out: &mut Vec<u8>) {
    if before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// The inverse of `days_from_civil`: year (0 is 1 BC), month and day of a day since 1970-01-01.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(kind: ValueKind, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        put(kind, bytes, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn days() {
        for (days, text) in [
            (0_i32, "2000-01-01"),
            (59, "2000-02-29"),
            (-10_957, "1970-01-01"),
            (-730_119, "0001-01-01"),
            (-730_120, "0001-12-31 BC"),
            (-2_451_545, "4714-11-24 BC"),
            (2_145_031_948, "5874897-12-31"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
        ] {
            assert_eq!(printed(ValueKind::Date, &days.to_be_bytes()), text);
        }
    }

    #[test]
    fn instants() {
        for (micros, text) in [
            (0_i64, "2000-01-01 00:00:00"),
            (-1, "1999-12-31 23:59:59.999999"),
            (1_500_000, "2000-01-01 00:00:01.5"),
            (i64::MAX, "infinity"),
        ] {
            assert_eq!(printed(ValueKind::Timestamp, &micros.to_be_bytes()), text);
        }
        let before_christ = -63_082_281_600_000_000_i64 - 86_400_000_000 * 366;
        assert_eq!(printed(ValueKind::Timestamptz, &before_christ.to_be_bytes()), "0001-01-01 00:00:00+00 BC");
        assert_eq!(printed(ValueKind::Time, &86_400_000_000_i64.to_be_bytes()), "24:00:00");
    }

    #[test]
    fn the_rest() {
        assert_eq!(printed(ValueKind::Bool, &[0]), "f");
        assert_eq!(printed(ValueKind::Int2, &[0xff, 0xff]), "-1");
        assert_eq!(printed(ValueKind::Bytea, &[0, 0xab]), "\\x00ab");
        assert_eq!(printed(ValueKind::Uuid, &[0x1f; 16]), "1f1f1f1f-1f1f-1f1f-1f1f-1f1f1f1f1f1f");
    }
}
