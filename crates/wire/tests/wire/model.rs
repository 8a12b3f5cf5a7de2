//! Values as a test thinks of them: printed as Postgres prints them, sent as Postgres sends them, and as apache-avro's
//! `Value`. Shares no code with the crate: dates are counted year by year, numbers are cut as text.

use apache_avro::types::Value;
use apache_avro::{Decimal as AvroDecimal, Uuid};
use penstock_wire::column::Column;
use penstock_wire::types::{Decimal, TypeInfo, ValueKind};
use proptest::prelude::*;

pub const SCALARS: [ValueKind; 17] = [
    ValueKind::Bool,
    ValueKind::Int2,
    ValueKind::Int4,
    ValueKind::Int8,
    ValueKind::Float4,
    ValueKind::Float8,
    ValueKind::Numeric,
    ValueKind::Uuid,
    ValueKind::Timestamptz,
    ValueKind::Timestamp,
    ValueKind::Date,
    ValueKind::Time,
    ValueKind::Bytea,
    ValueKind::Text,
    ValueKind::Jsonb,
    ValueKind::Inet,
    ValueKind::Macaddr,
];

/// One value of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Logical {
    Null,
    Unchanged,
    Bool(bool),
    Integer(i64),
    Float4(f32),
    Float8(f64),
    /// Sign, digits before and behind the point.
    Numeric(bool, String, String),
    Uuid([u8; 16]),
    /// Microseconds since 1970; the ends for infinity.
    Micros(i64),
    /// Days since 1970; the ends for infinity.
    Days(i32),
    Bytes(Vec<u8>),
    Text(String),
    Inet([u8; 4], u8),
    Macaddr([u8; 6]),
    Array(Vec<Logical>),
}

/// A column with its bytes in one of the two formats.
#[derive(Clone, Debug)]
pub struct Sent {
    logical: Logical,
    bytes: Vec<u8>,
    binary: bool,
}

impl Sent {
    pub fn new(kind: ValueKind, logical: &Logical, binary: bool) -> Self {
        let binary = binary && kind.reads_binary();
        let bytes = if binary { logical.binary(kind) } else { logical.text(kind).into_bytes() };
        Self { logical: logical.clone(), bytes, binary }
    }

    pub fn column(&self) -> Column<'_> {
        match (&self.logical, self.binary) {
            (Logical::Null, _) => Column::Null,
            (Logical::Unchanged, _) => Column::Unchanged,
            (_, true) => Column::Binary(&self.bytes),
            (_, false) => Column::Text(&self.bytes),
        }
    }
}

pub fn info(kind: ValueKind) -> TypeInfo {
    TypeInfo { kind, pg_type: format!("{kind:?}"), pg_base: None }
}

/// The kind of a column declared `numeric(precision, scale)` that was chosen as a decimal.
pub fn decimal(precision: u16, scale: i16) -> ValueKind {
    let pg_type = format!("numeric({precision},{scale})");
    ValueKind::Decimal(Decimal::of(&TypeInfo { kind: ValueKind::Numeric, pg_type, pg_base: None }).unwrap())
}

/// Any kind of column.
pub fn kind() -> impl Strategy<Value = ValueKind> {
    let declared = (prop_oneof![1..40_u16, 1..120_u16], -20..60_i16);
    prop_oneof![6 => key_kind(), 1 => declared.prop_map(|(precision, scale)| decimal(precision, scale))]
}

/// Any kind that a key column can have.
pub fn key_kind() -> impl Strategy<Value = ValueKind> {
    let scalar = || prop::sample::select(SCALARS.to_vec());
    prop_oneof![4 => scalar(), 1 => Just(ValueKind::String), 2 => scalar().prop_map(ValueKind::array)]
}

/// A value that is not NULL.
pub fn present(kind: ValueKind) -> BoxedStrategy<Logical> {
    let micros = prop_oneof![
        -210_866_803_200_000_000..i64::MAX,
        -62_200_000_000_000_000..4_000_000_000_000_000_i64,
        Just(i64::MAX),
        Just(i64::MIN)
    ];
    match kind {
        ValueKind::Bool => any::<bool>().prop_map(Logical::Bool).boxed(),
        ValueKind::Int2 => any::<i16>().prop_map(|number| Logical::Integer(number.into())).boxed(),
        ValueKind::Int4 => any::<i32>().prop_map(|number| Logical::Integer(number.into())).boxed(),
        ValueKind::Int8 => any::<i64>().prop_map(Logical::Integer).boxed(),
        ValueKind::Float4 => prop::num::f32::ANY.prop_map(Logical::Float4).boxed(),
        ValueKind::Float8 => prop::num::f64::ANY.prop_map(Logical::Float8).boxed(),
        ValueKind::Numeric => (any::<bool>(), "0|[1-9][0-9]{0,20}", "[0-9]{0,12}")
            .prop_map(|(negative, whole, fraction)| {
                let zero = whole == "0" && fraction.bytes().all(|digit| digit == b'0');
                Logical::Numeric(negative && !zero, whole, fraction)
            })
            .boxed(),
        ValueKind::Decimal(decimal) => {
            let (precision, scale) = (usize::from(decimal.precision()), usize::from(decimal.scale()));
            let most = "9".repeat(precision);
            let some = prop::string::string_regex(&format!("[0-9]{{1,{precision}}}")).unwrap();
            let digits = prop_oneof![1 => Just(most), 1 => Just("0".to_owned()), 6 => some];
            (any::<bool>(), digits)
                .prop_map(move |(negative, digits)| {
                    let digits = format!("{digits:0>width$}", width = scale + 1);
                    let (whole, fraction) = digits.split_at(digits.len() - scale);
                    let whole = whole.trim_start_matches('0');
                    let zero = whole.is_empty() && fraction.bytes().all(|digit| digit == b'0');
                    let whole = if whole.is_empty() { "0" } else { whole };
                    Logical::Numeric(negative && !zero, whole.to_owned(), fraction.to_owned())
                })
                .boxed()
        }
        ValueKind::Uuid => any::<[u8; 16]>().prop_map(Logical::Uuid).boxed(),
        ValueKind::Timestamptz | ValueKind::Timestamp => micros.prop_map(Logical::Micros).boxed(),
        ValueKind::Date => {
            prop_oneof![-2_440_588..3_000_000, Just(i32::MAX), Just(i32::MIN)].prop_map(Logical::Days).boxed()
        }
        ValueKind::Time => (0..=86_400_000_000_i64).prop_map(Logical::Integer).boxed(),
        ValueKind::Bytea => prop::collection::vec(any::<u8>(), 0..40).prop_map(Logical::Bytes).boxed(),
        ValueKind::Text | ValueKind::Jsonb | ValueKind::String => {
            prop_oneof![any::<String>(), "(NULL|null|[a\"\\\\{},; \t]){0,6}"].prop_map(Logical::Text).boxed()
        }
        ValueKind::Inet => {
            (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(address, bits)| Logical::Inet(address, bits)).boxed()
        }
        ValueKind::Macaddr => any::<[u8; 6]>().prop_map(Logical::Macaddr).boxed(),
        ValueKind::Array(element) => {
            let item = prop_oneof![1 => Just(Logical::Null), 4 => present(element.kind())];
            prop::collection::vec(item, 0..5).prop_map(Logical::Array).boxed()
        }
    }
}

/// A value or NULL.
pub fn nullable(kind: ValueKind) -> BoxedStrategy<Logical> {
    prop_oneof![1 => Just(Logical::Null), 6 => present(kind)].boxed()
}

impl Logical {
    /// As apache-avro has it, without its union.
    fn bare(&self, kind: ValueKind) -> Value {
        match (self, kind) {
            (Self::Bool(value), _) => Value::Boolean(*value),
            (Self::Integer(number), ValueKind::Int2 | ValueKind::Int4) => Value::Int(i32::try_from(*number).unwrap()),
            (Self::Integer(micros), ValueKind::Time) => Value::TimeMicros(*micros),
            (Self::Integer(number), _) => Value::Long(*number),
            (Self::Float4(number), _) => Value::Float(if number.is_nan() { f32::NAN } else { *number }),
            (Self::Float8(number), _) => Value::Double(if number.is_nan() { f64::NAN } else { *number }),
            (Self::Uuid(bytes), _) => Value::Uuid(Uuid::from_bytes(*bytes)),
            (Self::Micros(micros), ValueKind::Timestamptz) => Value::TimestampMicros(*micros),
            (Self::Micros(micros), _) => Value::LocalTimestampMicros(*micros),
            (Self::Days(days), _) => Value::Date(*days),
            (Self::Bytes(bytes), _) => Value::Bytes(bytes.clone()),
            (Self::Numeric(negative, whole, fraction), ValueKind::Decimal(_)) => {
                Value::Decimal(AvroDecimal::from(twos_complement(*negative, &format!("{whole}{fraction}"))))
            }
            (Self::Array(items), ValueKind::Array(element)) => {
                Value::Array(items.iter().map(|item| item.avro(element.kind())).collect())
            }
            _ => Value::String(self.text(kind)),
        }
    }

    /// As a field of a row.
    pub fn avro(&self, kind: ValueKind) -> Value {
        match self {
            Self::Null | Self::Unchanged => Value::Union(0, Box::new(Value::Null)),
            _ => Value::Union(1, Box::new(self.bare(kind))),
        }
    }

    /// As a field of a key.
    pub fn avro_key(&self, kind: ValueKind) -> Value {
        match (self.bare(kind), kind) {
            (Value::Int(number), ValueKind::Int2 | ValueKind::Int4) => Value::Long(number.into()),
            (array @ Value::Array(_), _) => Value::Union(0, Box::new(array)),
            (value, _) => value,
        }
    }

    /// What Postgres prints.
    pub fn text(&self, kind: ValueKind) -> String {
        match self {
            Self::Null | Self::Unchanged => String::new(),
            Self::Bool(value) => if *value { "t" } else { "f" }.to_owned(),
            Self::Integer(micros) if kind == ValueKind::Time => clock(*micros),
            Self::Integer(number) => number.to_string(),
            // Not Postgres' notation, but a number it reads alike; its own stands in the golden values.
            Self::Float4(number) => float(f64::from(*number), format!("{number:e}")),
            Self::Float8(number) => float(*number, format!("{number:e}")),
            Self::Numeric(negative, whole, fraction) => {
                let point = if fraction.is_empty() { "" } else { "." };
                format!("{}{whole}{point}{fraction}", if *negative { "-" } else { "" })
            }
            Self::Uuid(bytes) => Uuid::from_bytes(*bytes).to_string(),
            Self::Micros(i64::MAX) | Self::Days(i32::MAX) => "infinity".to_owned(),
            Self::Micros(i64::MIN) | Self::Days(i32::MIN) => "-infinity".to_owned(),
            Self::Micros(micros) => {
                let (date, era) = calendar(micros.div_euclid(86_400_000_000));
                let zone = if kind == ValueKind::Timestamptz { "+00" } else { "" };
                format!("{date} {}{zone}{era}", clock(micros.rem_euclid(86_400_000_000)))
            }
            Self::Days(days) => {
                let (date, era) = calendar(i64::from(*days));
                format!("{date}{era}")
            }
            Self::Bytes(bytes) => format!("\\x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
            Self::Text(text) => text.clone(),
            Self::Inet([a, b, c, d], 32) => format!("{a}.{b}.{c}.{d}"),
            Self::Inet([a, b, c, d], bits) => format!("{a}.{b}.{c}.{d}/{bits}"),
            Self::Macaddr(bytes) => bytes.map(|byte| format!("{byte:02x}")).join(":"),
            Self::Array(items) => {
                let ValueKind::Array(element) = kind else { panic!("an array of kind {kind:?}") };
                let items: Vec<String> = items.iter().map(|item| item.quoted(element.kind())).collect();
                format!("{{{}}}", items.join(","))
            }
        }
    }

    fn quoted(&self, kind: ValueKind) -> String {
        if *self == Self::Null {
            return "NULL".to_owned();
        }
        let text = self.text(kind);
        let plain = !text.is_empty()
            && !text.eq_ignore_ascii_case("null")
            && !text.contains(['"', '\\', '{', '}', ',', ' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
        if plain { text } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
    }

    /// What Postgres sends with `binary 'true'`.
    fn binary(&self, kind: ValueKind) -> Vec<u8> {
        match self {
            Self::Null | Self::Unchanged => Vec::new(),
            Self::Bool(value) => vec![u8::from(*value)],
            Self::Integer(number) => {
                let length = match kind {
                    ValueKind::Int2 => 2,
                    ValueKind::Int4 => 4,
                    _ => 8,
                };
                number.to_be_bytes()[8 - length..].to_vec()
            }
            Self::Float4(number) => number.to_be_bytes().to_vec(),
            Self::Float8(number) => number.to_be_bytes().to_vec(),
            Self::Numeric(negative, whole, fraction) => numeric(*negative, whole, fraction),
            Self::Uuid(bytes) => bytes.to_vec(),
            Self::Micros(end @ (i64::MAX | i64::MIN)) => end.to_be_bytes().to_vec(),
            Self::Micros(micros) => (micros - 946_684_800_000_000).to_be_bytes().to_vec(),
            Self::Days(end @ (i32::MAX | i32::MIN)) => end.to_be_bytes().to_vec(),
            Self::Days(days) => (days - 10_957).to_be_bytes().to_vec(),
            Self::Bytes(bytes) => bytes.clone(),
            Self::Text(text) if kind == ValueKind::Jsonb => [b"\x01", text.as_bytes()].concat(),
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Inet(address, bits) => [[2, *bits, 0, 4].as_slice(), address].concat(),
            Self::Macaddr(bytes) => bytes.to_vec(),
            Self::Array(items) => {
                let ValueKind::Array(element) = kind else { panic!("an array of kind {kind:?}") };
                array(items, element.kind())
            }
        }
    }
}

fn array(items: &[Logical], kind: ValueKind) -> Vec<u8> {
    let nulls = i32::from(items.contains(&Logical::Null));
    let mut bytes = [i32::from(!items.is_empty()), nulls, 0].map(i32::to_be_bytes).concat();
    if !items.is_empty() {
        bytes.extend(i32::try_from(items.len()).unwrap().to_be_bytes());
        bytes.extend(1_i32.to_be_bytes());
    }
    for item in items {
        if *item == Logical::Null {
            bytes.extend((-1_i32).to_be_bytes());
            continue;
        }
        let value = item.binary(kind);
        bytes.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
        bytes.extend(value);
    }
    bytes
}

fn numeric(negative: bool, whole: &str, fraction: &str) -> Vec<u8> {
    let padding = (4 - whole.len() % 4) % 4;
    let digits = format!("{}{whole}{fraction}{}", "0".repeat(padding), "0".repeat((4 - fraction.len() % 4) % 4));
    let mut groups: Vec<u16> =
        digits.as_bytes().chunks(4).map(|group| std::str::from_utf8(group).unwrap().parse().unwrap()).collect();
    let mut weight = i16::try_from((whole.len() + padding) / 4).unwrap() - 1;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    while groups.first() == Some(&0) {
        groups.remove(0);
        weight -= 1;
    }
    if groups.is_empty() {
        weight = 0;
    }
    let scale = u16::try_from(fraction.len()).unwrap();
    let mut bytes = u16::try_from(groups.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(weight.to_be_bytes());
    for number in [if negative { 0x4000 } else { 0 }, scale].iter().chain(&groups) {
        bytes.extend(number.to_be_bytes());
    }
    bytes
}

/// The shortest that holds the number: divided by 256 as on paper, then subtracted from the power above.
fn twos_complement(negative: bool, digits: &str) -> Vec<u8> {
    let mut digits: Vec<u32> = digits.bytes().map(|digit| u32::from(digit - b'0')).collect();
    let mut bytes = Vec::new();
    while digits.iter().any(|digit| *digit != 0) {
        let mut rest = 0;
        for digit in &mut digits {
            rest = rest * 10 + *digit;
            *digit = rest / 256;
            rest %= 256;
        }
        bytes.insert(0, u8::try_from(rest).unwrap());
    }
    bytes.insert(0, 0);
    if negative {
        let one = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[..one].iter_mut().for_each(|byte| *byte = 255 - *byte);
        bytes[one] = (256 - u16::from(bytes[one])).try_into().unwrap();
    }
    let sign = if negative { 255 } else { 0 };
    while bytes.len() > 1 && bytes[0] == sign && (bytes[1] >= 128) == negative {
        bytes.remove(0);
    }
    bytes
}

fn float(value: f64, scientific: String) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        scientific
    }
}

fn clock(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if micros % 1_000_000 != 0 {
        let fraction = format!(".{:06}", micros % 1_000_000);
        text.push_str(fraction.trim_end_matches('0'));
    }
    text
}

/// The date and, before Christ, what follows the time.
fn calendar(days_since_1970: i64) -> (String, &'static str) {
    let leap = |year: i64| i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
    let mut year = 1970;
    let mut days = days_since_1970;
    // Whole cycles of 400 years first: the rest is counted year by year, month by month.
    year += 400 * days.div_euclid(146_097);
    days = days.rem_euclid(146_097);
    while days >= 365 + leap(year) {
        days -= 365 + leap(year);
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (printed, era) = if year <= 0 { (1 - year, " BC") } else { (year, "") };
    (format!("{printed:04}-{month:02}-{:02}", days + 1), era)
}
