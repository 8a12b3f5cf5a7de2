//! numeric(P, S) as Avro's decimal: the unscaled integer, two's complement, big-endian, in as few bytes as it takes.
//!
//! Invariants: text decides. A binary value is printed first and then read like any other, so that both formats give
//! the same bytes. The number is exact: what does not fit precision and scale was not printed by a column of the type
//! and is refused, never rounded.

use super::{Refusal, TypeInfo, ValueKind, numeric};
use crate::avro::put_bytes;

/// Digits that surely fit 128 bits with their sign.
const SMALL_DIGITS_MAX: usize = 38;
/// Digits that surely fit 32 bits.
const LIMB_DIGITS: u32 = 9;

/// Precision and scale of the Avro type. Avro wants `scale <= precision` and no negative scale; Postgres 15 and later
/// take both in a declaration, and what such columns hold fits the type that is made of them here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    precision: u16,
    scale: u16,
}

/// Why a column cannot be a decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDecimal {
    /// Another type; arrays of numeric are one.
    #[error("only numeric, and domains over it, can travel as a decimal; arrays of numeric hold strings")]
    NotNumeric,
    /// `numeric` alone: each value has a scale of its own.
    #[error("its type declares no precision and scale, which every value of an Avro decimal shares")]
    Undeclared,
    /// Key bytes are pinned for ever, and numbers in them are strings.
    #[error("it is a key column: numeric in keys is a string, for ever")]
    Key,
}

impl Decimal {
    /// What a column of this type becomes.
    pub fn of(info: &TypeInfo) -> Result<Self, NoDecimal> {
        if info.kind != ValueKind::Numeric {
            return Err(NoDecimal::NotNumeric);
        }
        // The name and not the modifier's bits: Postgres 15 gave those another meaning, the text has kept its own.
        let declared = info.pg_base.as_ref().unwrap_or(&info.pg_type);
        Self::declared(declared).ok_or(NoDecimal::Undeclared)
    }

    /// Digits at most.
    pub const fn precision(self) -> u16 {
        self.precision
    }

    /// Digits behind the point.
    pub const fn scale(self) -> u16 {
        self.scale
    }

    /// Of `numeric(P,S)`, as `format_type` prints it.
    fn declared(type_name: &str) -> Option<Self> {
        let inner = type_name.strip_prefix("numeric(")?.strip_suffix(')')?;
        let (precision, scale) = inner.split_once(',')?;
        let (precision, scale) = (precision.parse::<u16>().ok()?, scale.parse::<i16>().ok()?);
        match u16::try_from(scale) {
            // More digits behind the point than digits: those in front of them are zeros.
            Ok(scale) => Some(Self { precision: precision.max(scale), scale }),
            // The last digits in front of the point are zeros, and counted.
            Err(_) => Some(Self { precision: precision.checked_add(scale.unsigned_abs())?, scale: 0 }),
        }
        .filter(|decimal| decimal.precision > 0)
    }

    /// Appends a value in text format, behind its length.
    pub(super) fn put_text(self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        self.read(text)?.put(out);
        Ok(())
    }

    /// Appends a value in binary format, behind its length.
    pub(super) fn put_binary(self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let start = out.len();
        numeric::put(bytes, out)?;
        let unscaled = self.read(out.get(start..).unwrap_or_default());
        out.truncate(start);
        unscaled?.put(out);
        Ok(())
    }

    /// `-?[0-9]+(\.[0-9]+)?`, within precision and scale.
    fn read(self, text: &[u8]) -> Result<Unscaled, Refusal> {
        if matches!(text, b"NaN" | b"Infinity" | b"-Infinity") {
            return Err(Refusal::NotFinite);
        }
        let (negative, number) = match text {
            [b'-', number @ ..] => (true, number),
            number => (false, number),
        };
        let (whole, fraction) = match number.iter().position(|byte| *byte == b'.') {
            Some(point) => match number.split_at(point) {
                (whole, [b'.', fraction @ ..]) if !fraction.is_empty() => (whole, fraction),
                _ => return Err(Refusal::Malformed),
            },
            None => (number, [].as_slice()),
        };
        let digits_only = whole.iter().chain(fraction).all(u8::is_ascii_digit);
        let padding = usize::from(self.scale).checked_sub(fraction.len()).ok_or(Refusal::Malformed)?;
        if whole.is_empty() || !digits_only {
            return Err(Refusal::Malformed);
        }
        let digits = whole.iter().chain(fraction).map(|digit| digit - b'0').chain(std::iter::repeat_n(0, padding));
        let digits = digits.skip_while(|digit| *digit == 0);
        match digits.clone().count() {
            count if count > usize::from(self.precision) => Err(Refusal::Malformed),
            count if count > SMALL_DIGITS_MAX => Ok(Unscaled::Large(large(negative, digits))),
            _ => Ok(Unscaled::Small(small(negative, digits))),
        }
    }
}

/// The number without its point: two's complement, big-endian, with more sign bytes in front than are needed.
enum Unscaled {
    Small([u8; 16]),
    Large(Vec<u8>),
}

impl Unscaled {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Small(bytes) => put_bytes(out, shortest(bytes)),
            Self::Large(bytes) => put_bytes(out, shortest(bytes)),
        }
    }
}

fn small(negative: bool, digits: impl Iterator<Item = u8>) -> [u8; 16] {
    // Below 10^38, which 127 bits hold.
    let magnitude = digits.fold(0_i128, |number, digit| number * 10 + i128::from(digit));
    if negative { -magnitude } else { magnitude }.to_be_bytes()
}

fn large(negative: bool, digits: impl Iterator<Item = u8>) -> Vec<u8> {
    // The magnitude, 32 bits at a time, the lowest first.
    let mut limbs: Vec<u32> = Vec::new();
    let (mut chunk, mut length) = (0_u32, 0);
    for digit in digits {
        chunk = chunk * 10 + u32::from(digit);
        length += 1;
        if length == LIMB_DIGITS {
            multiply_and_add(&mut limbs, 10_u32.pow(length), chunk);
            (chunk, length) = (0, 0);
        }
    }
    multiply_and_add(&mut limbs, 10_u32.pow(length), chunk);
    let mut bytes = vec![0];
    bytes.extend(limbs.iter().rev().flat_map(|limb| limb.to_be_bytes()));
    if negative {
        negate(&mut bytes);
    }
    bytes
}

fn multiply_and_add(limbs: &mut Vec<u32>, factor: u32, addend: u32) {
    let mut carry = addend;
    for limb in limbs.iter_mut() {
        let product = u64::from(*limb) * u64::from(factor) + u64::from(carry);
        let [b0, b1, b2, b3, b4, b5, b6, b7] = product.to_le_bytes();
        *limb = u32::from_le_bytes([b0, b1, b2, b3]);
        carry = u32::from_le_bytes([b4, b5, b6, b7]);
    }
    if carry > 0 {
        limbs.push(carry);
    }
}

fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes.iter_mut().rev() {
        (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
    }
}

/// Without the sign bytes that the next byte's highest bit repeats. One byte is always left.
fn shortest(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [0 | 0xff, next, ..] = rest
        && let [sign, tail @ ..] = rest
        && sign >> 7 == next >> 7
    {
        rest = tail;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(kind: ValueKind, pg_type: &str, pg_base: Option<&str>) -> TypeInfo {
        TypeInfo { kind, pg_type: pg_type.to_owned(), pg_base: pg_base.map(str::to_owned) }
    }

    fn decimal(precision: u16, scale: u16) -> Decimal {
        Decimal { precision, scale }
    }

    fn written(decimal: Decimal, text: &str) -> Result<Vec<u8>, Refusal> {
        let mut out = Vec::new();
        decimal.put_text(text.as_bytes(), &mut out).map(|()| out)
    }

    #[test]
    fn precision_and_scale_are_those_that_hold_every_value_of_the_declared_type() {
        for (name, precision, scale) in [
            ("numeric(12,2)", 12, 2),
            ("numeric(1,0)", 1, 0),
            ("numeric(1000,1000)", 1000, 1000),
            // At most 0.00999.
            ("numeric(3,5)", 5, 5),
            // At most 99900.
            ("numeric(3,-2)", 5, 0),
            ("numeric(1000,-1000)", 2000, 0),
        ] {
            assert_eq!(Decimal::of(&info(ValueKind::Numeric, name, None)), Ok(decimal(precision, scale)), "{name}");
            let domain = info(ValueKind::Numeric, "public.price", Some(name));
            assert_eq!(Decimal::of(&domain), Ok(decimal(precision, scale)), "a domain over {name}");
        }
    }

    #[test]
    fn what_cannot_be_a_decimal() {
        let numeric = |name: &str| Decimal::of(&info(ValueKind::Numeric, name, None));
        for name in ["numeric", "", "numeric(12,2", "numeric(12)", "numeric(,)", "numeric(0,0)", "numeric(65535,-9)"] {
            assert_eq!(numeric(name), Err(NoDecimal::Undeclared), "{name}");
        }
        assert_eq!(Decimal::of(&info(ValueKind::Numeric, "public.price", Some("numeric"))), Err(NoDecimal::Undeclared));
        for kind in [ValueKind::Int4, ValueKind::String, ValueKind::Numeric.array()] {
            assert_eq!(Decimal::of(&info(kind, "numeric(12,2)", None)), Err(NoDecimal::NotNumeric), "{kind:?}");
        }
    }

    #[test]
    fn numbers_are_written_in_as_few_bytes_as_they_take() {
        for (text, bytes) in [
            ("0.00", [0].as_slice()),
            ("0.01", &[1]),
            ("1.27", &[127]),
            ("1.28", &[0, 128]),
            ("-0.01", &[0xff]),
            ("-1.28", &[128]),
            ("-1.29", &[0xff, 127]),
            ("2.55", &[0, 255]),
            ("2.56", &[1, 0]),
            ("-2.56", &[0xff, 0]),
            ("-327.68", &[128, 0]),
            ("1234567890.12", &[0x1c, 0xbe, 0x99, 0x1a, 0x14]),
            // A scale that Postgres would have filled up.
            ("3", &[1, 44]),
        ] {
            let length = u8::try_from(2 * bytes.len()).unwrap();
            assert_eq!(written(decimal(12, 2), text), Ok([&[length], bytes].concat()), "{text}");
        }
    }

    #[test]
    fn many_digits_are_written_like_few() {
        // 2^127 and its neighbours have 39 digits, one more than the short way takes.
        for (text, first, last, length) in [
            ("170141183460469231731687303715884105727", 0x7f, 0xff, 16),
            ("170141183460469231731687303715884105728", 0x00, 0x00, 17),
            ("-170141183460469231731687303715884105728", 0x80, 0x00, 16),
            ("-170141183460469231731687303715884105729", 0xff, 0xff, 17),
            ("99999999999999999999999999999999999999", 0x4b, 0xff, 16),
            ("-99999999999999999999999999999999999999", 0xb4, 0x01, 16),
        ] {
            let out = written(decimal(2000, 0), text).unwrap();
            assert_eq!((out[0], out[1], out.last()), (2 * length, first, Some(&last)), "{text}");
        }
        let googol = written(decimal(2000, 0), &format!("1{}", "0".repeat(100))).unwrap();
        assert_eq!(googol[..4], [84, 0x12, 0x49, 0xad]);
    }

    #[test]
    fn leading_zeros_do_not_count_and_too_many_digits_are_no_value_of_the_type() {
        assert_eq!(written(decimal(5, 5), "0.00999"), Ok(vec![4, 0x03, 0xe7]));
        assert_eq!(written(decimal(5, 0), "99900"), Ok(vec![6, 0x01, 0x86, 0x3c]));
        for text in ["1000.00", "-1000.00", "1000", "0.001", "0.010"] {
            assert_eq!(written(decimal(5, 2), text), Err(Refusal::Malformed), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["NaN", "Infinity", "-Infinity"] {
            assert_eq!(written(decimal(12, 2), text), Err(Refusal::NotFinite), "{text}");
        }
        for text in ["", "-", ".", "1.", ".5", "-.5", "+1", "1e5", "1.2.3", "0x1", " 1", "nan", "--1", "1,5"] {
            assert_eq!(written(decimal(12, 2), text), Err(Refusal::Malformed), "{text}");
        }
    }

    #[test]
    fn binary_nan_is_refused_like_its_text() {
        let nan = [0, 0, 0, 0, 0xc0, 0, 0, 0];
        assert_eq!(decimal(12, 2).put_binary(&nan, &mut Vec::new()), Err(Refusal::NotFinite));
        let mut out = vec![7];
        decimal(12, 2).put_binary(&[0, 2, 0, 0, 0x40, 0, 0, 2, 0, 1, 0x13, 0x88], &mut out).unwrap();
        assert_eq!(out, [7, 4, 0xff, 0x6a], "-1.50");
    }
}
