//! Unsigned numbers as decimal text, without the formatting machinery: in an envelope that costs as much as several
//! columns.

/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

/// Appends the number's digits.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0_u8; DIGITS_MAX];
    let mut rest = number;
    let mut start = DIGITS_MAX;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_are_those_of_display() {
        for number in [0, 1, 9, 10, 99, 255, 1_000_000_007, u64::MAX] {
            let mut out = Vec::new();
            super::put(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
