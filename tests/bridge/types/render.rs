//! Decoded Avro values as Postgres prints them, written from the wire contract alone: nothing of the encoder is used.

use apache_avro::types::Value;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A value that is not NULL, as `SELECT` prints it with datestyle ISO, timezone UTC and bytea_output hex; `None` for
/// NULL. Floats come as Rust prints them: the same numbers, in another notation.
pub fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Union(_, inner) => return text(inner),
        Value::Boolean(true) => "t".to_owned(),
        Value::Boolean(false) => "f".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Long(number) => number.to_string(),
        Value::Float(number) => float(f64::from(*number), number),
        Value::Double(number) => float(*number, number),
        Value::String(text) => text.clone(),
        Value::BigDecimal(number) => number.to_plain_string(),
        Value::Uuid(uuid) => uuid.to_string(),
        Value::Bytes(bytes) => bytes.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
        Value::Date(i32::MAX) | Value::TimestampMicros(i64::MAX) | Value::LocalTimestampMicros(i64::MAX) => {
            "infinity".to_owned()
        }
        Value::Date(i32::MIN) | Value::TimestampMicros(i64::MIN) | Value::LocalTimestampMicros(i64::MIN) => {
            "-infinity".to_owned()
        }
        Value::Date(days) => era(i64::from(*days), ""),
        Value::TimeMicros(micros) => time(*micros),
        Value::LocalTimestampMicros(micros) => timestamp(*micros, ""),
        Value::TimestampMicros(micros) => timestamp(*micros, "+00"),
        Value::Array(items) => {
            let items: Vec<String> =
                items.iter().map(|item| text(item).map_or("NULL".to_owned(), |text| quoted(&text))).collect();
            format!("{{{}}}", items.join(","))
        }
        other => panic!("the wire contract has no {other:?}"),
    })
}

fn float(number: f64, printed: &impl std::fmt::Debug) -> String {
    match number {
        _ if number.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => format!("{printed:?}"),
    }
}

fn timestamp(micros: i64, zone: &str) -> String {
    let time = time(micros.rem_euclid(MICROS_PER_DAY));
    era(micros.div_euclid(MICROS_PER_DAY), &format!(" {time}{zone}"))
}

/// `2024-02-29` with `behind` behind it, and ` BC` behind all. The day is counted back and forth from 1970, year by year
/// of 400 and then one by one: slow, and nothing like the encoder's way.
fn era(days: i64, behind: &str) -> String {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    // 2000-01-01 is day 10957 and begins a cycle.
    let from_2000 = days - 10_957;
    let mut year = 2000 + 400 * from_2000.div_euclid(DAYS_OF_400_YEARS);
    let mut left = from_2000.rem_euclid(DAYS_OF_400_YEARS);
    while left >= 365 + i64::from(leap(year)) {
        left -= 365 + i64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    let (printed_year, bc) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    format!("{printed_year:04}-{month:02}-{:02}{behind}{bc}", left + 1)
}

fn time(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let fraction =
        if fraction == 0 { String::new() } else { format!(".{fraction:06}").trim_end_matches('0').to_owned() };
    format!("{:02}:{:02}:{:02}{fraction}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// An array's element, in quotes if it would be read as something else without them.
fn quoted(text: &str) -> String {
    let special = |c: char| matches!(c, '"' | '\\' | '{' | '}' | ',' | ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    if !text.is_empty() && !text.eq_ignore_ascii_case("null") && !text.contains(special) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[test]
fn values_are_rendered_as_postgres_prints_them() {
    let day = |days| text(&Value::Date(days)).expect("a day");
    assert_eq!(day(0), "1970-01-01");
    assert_eq!(day(11_016), "2000-02-29");
    assert_eq!(day(-719_162), "0001-01-01");
    assert_eq!(day(-719_163), "0001-12-31 BC");
    assert_eq!(text(&Value::TimestampMicros(-1)).as_deref(), Some("1969-12-31 23:59:59.999999+00"));
    assert_eq!(text(&Value::TimeMicros(MICROS_PER_DAY)).as_deref(), Some("24:00:00"));
    let items = ["a b", "", "NULL", "x\\\"y", "plain"].map(|item| Value::String(item.to_owned()));
    let mut items = items.to_vec();
    items.push(Value::Null);
    assert_eq!(text(&Value::Array(items)).as_deref(), Some(r#"{"a b","","NULL","x\\\"y",plain,NULL}"#));
}
