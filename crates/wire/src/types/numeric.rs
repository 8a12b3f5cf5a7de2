//! numeric, from its binary form to the text Postgres prints (`numeric.c`, `get_str_from_var`).
//!
//! The form: number of digits, weight of the first, sign, digits behind the point; then base-10000 digits.

use super::Refusal;

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;
/// Decimal digits in a base-10000 digit.
const GROUP: usize = 4;
const BASE: u16 = 10_000;

struct Numeric<'a> {
    /// Place of the first digit: 0 is the group before the decimal point.
    weight: i32,
    scale: usize,
    digits: &'a [[u8; 2]],
}

/// Appends the text.
pub(super) fn put(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let (header, rest) = bytes.split_first_chunk::<8>().ok_or(Refusal::Malformed)?;
    let [count_high, count_low, weight_high, weight_low, sign_high, sign_low, scale_high, scale_low] = *header;
    let (digits, odd) = rest.as_chunks::<2>();
    let count = usize::from(u16::from_be_bytes([count_high, count_low]));
    let in_base = digits.iter().all(|digit| u16::from_be_bytes(*digit) < BASE);
    if digits.len() != count || !odd.is_empty() || !in_base {
        return Err(Refusal::Malformed);
    }
    match u16::from_be_bytes([sign_high, sign_low]) {
        POSITIVE => {}
        NEGATIVE => out.push(b'-'),
        NAN => return special(digits, b"NaN", out),
        INFINITY => return special(digits, b"Infinity", out),
        MINUS_INFINITY => return special(digits, b"-Infinity", out),
        _ => return Err(Refusal::Malformed),
    }
    let numeric = Numeric {
        weight: i32::from(i16::from_be_bytes([weight_high, weight_low])),
        scale: usize::from(u16::from_be_bytes([scale_high, scale_low])),
        digits,
    };
    numeric.put_integer(out);
    numeric.put_fraction(out);
    Ok(())
}

fn special(digits: &[[u8; 2]], text: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    if !digits.is_empty() {
        return Err(Refusal::Malformed);
    }
    out.extend_from_slice(text);
    Ok(())
}

impl Numeric<'_> {
    fn put_integer(&self, out: &mut Vec<u8>) {
        let start = out.len();
        for place in (0..=self.weight).rev() {
            out.extend_from_slice(&self.group(place));
        }
        let zeros = out.iter().skip(start).take_while(|digit| **digit == b'0').count();
        out.drain(start..start + zeros);
        if out.len() == start {
            out.push(b'0');
        }
    }

    fn put_fraction(&self, out: &mut Vec<u8>) {
        if self.scale == 0 {
            return;
        }
        out.push(b'.');
        let end = out.len() + self.scale;
        for place in (i32::MIN..0).rev() {
            if out.len() >= end {
                break;
            }
            out.extend_from_slice(&self.group(place));
        }
        out.truncate(end);
    }

    /// The four decimal digits at a place; those that are not sent are zeros.
    fn group(&self, place: i32) -> [u8; GROUP] {
        let index = usize::try_from(self.weight - place).ok();
        let digit = index.and_then(|index| self.digits.get(index)).map_or(0, |digit| u16::from_be_bytes(*digit));
        [digit / 1000, digit / 100 % 10, digit / 10 % 10, digit % 10].map(|digit| b'0' + digit.to_le_bytes()[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(weight: i16, sign: u16, scale: u16, digits: &[u16]) -> Result<String, Refusal> {
        let mut bytes = u16::try_from(digits.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(weight.to_be_bytes());
        for number in [sign, scale].iter().chain(digits) {
            bytes.extend(number.to_be_bytes());
        }
        let mut out = Vec::new();
        put(&bytes, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn numbers() {
        for (weight, sign, scale, digits, text) in [
            (0, POSITIVE, 0, [].as_slice(), "0"),
            (0, POSITIVE, 3, &[], "0.000"),
            (0, POSITIVE, 0, &[1], "1"),
            (0, NEGATIVE, 2, &[1, 5000], "-1.50"),
            (1, POSITIVE, 0, &[1], "10000"),
            (1, POSITIVE, 5, &[12, 345, 6789], "120345.67890"),
            (-1, POSITIVE, 4, &[1], "0.0001"),
            (-2, NEGATIVE, 8, &[1234], "-0.00001234"),
            (-1, POSITIVE, 2, &[1200], "0.12"),
            (2, POSITIVE, 1, &[9999], "999900000000.0"),
        ] {
            assert_eq!(printed(weight, sign, scale, digits).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_number() {
        assert_eq!(printed(0, NAN, 0, &[]).as_deref(), Ok("NaN"));
        assert_eq!(printed(0, INFINITY, 0, &[]).as_deref(), Ok("Infinity"));
        assert_eq!(printed(0, MINUS_INFINITY, 32, &[]).as_deref(), Ok("-Infinity"));
        assert_eq!(printed(0, NAN, 0, &[1]), Err(Refusal::Malformed));
        assert_eq!(printed(0, 0x8000, 0, &[]), Err(Refusal::Malformed));
        assert_eq!(printed(0, POSITIVE, 0, &[10_000]), Err(Refusal::Malformed));
        assert_eq!(put(&[0, 0, 0, 0, 0, 0, 0], &mut Vec::new()), Err(Refusal::Malformed));
        assert_eq!(put(&[0, 1, 0, 0, 0, 0, 0, 0], &mut Vec::new()), Err(Refusal::Malformed));
        assert_eq!(put(&[0, 0, 0, 0, 0, 0, 0, 0, 0], &mut Vec::new()), Err(Refusal::Malformed));
    }
}
