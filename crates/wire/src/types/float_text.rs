//! Floats as Postgres prints them with `extra_float_digits` above 0: the shortest text that reads back exactly.
//!
//! Postgres' Ryu (`d2s.c`, `f2s.c`) differs from Rust's shortest text in two points. It takes no text that lies exactly
//! on the boundary to a neighbouring number, and of two equally near texts the one that ends in an even digit.

use super::render::put_display;

/// Appends a float8.
pub(super) fn put_float8(value: f64, out: &mut Vec<u8>) {
    if let Some(text) = special(value) {
        out.extend_from_slice(text);
        return;
    }
    let bits = value.abs().to_bits();
    let (fraction, exponent) = (bits & 0x000f_ffff_ffff_ffff, bits >> 52);
    let mantissa = if exponent == 0 { fraction } else { fraction | 1 << 52 };
    let dense_below = fraction == 0 && exponent > 1;
    let binary = Binary { mantissa, exponent: exponent.max(1).cast_signed() - 1075, dense_below };
    let digits = shortest(
        format!("{:e}", value.abs()),
        17,
        |length| {
            let text = format!("{:.*e}", length - 1, value.abs());
            (text.parse() == Ok(value.abs())).then_some(text)
        },
        binary,
    );
    put_decimal(value.is_sign_negative(), &digits, 15, out);
}

/// Appends a float4.
pub(super) fn put_float4(value: f32, out: &mut Vec<u8>) {
    if let Some(text) = special(f64::from(value)) {
        out.extend_from_slice(text);
        return;
    }
    let bits = u64::from(value.abs().to_bits());
    let (fraction, exponent) = (bits & 0x007f_ffff, bits >> 23);
    let mantissa = if exponent == 0 { fraction } else { fraction | 1 << 23 };
    let dense_below = fraction == 0 && exponent > 1;
    let binary = Binary { mantissa, exponent: exponent.max(1).cast_signed() - 150, dense_below };
    let digits = shortest(
        format!("{:e}", value.abs()),
        9,
        |length| {
            let text = format!("{:.*e}", length - 1, value.abs());
            (text.parse() == Ok(value.abs())).then_some(text)
        },
        binary,
    );
    put_decimal(value.is_sign_negative(), &digits, 6, out);
}

fn special(value: f64) -> Option<&'static [u8]> {
    if value.is_nan() {
        Some(b"NaN")
    } else if value == f64::INFINITY {
        Some(b"Infinity")
    } else if value == f64::NEG_INFINITY {
        Some(b"-Infinity")
    } else if value == 0.0 {
        Some(if value.is_sign_negative() { b"-0" } else { b"0" })
    } else {
        None
    }
}

/// A number as `mantissa × 2^exponent`.
#[derive(Clone, Copy)]
struct Binary {
    mantissa: u64,
    exponent: i64,
    /// A power of two: the numbers below are twice as dense as those above.
    dense_below: bool,
}

/// A number as its decimal digits, the point behind the first, times a power of ten.
struct Decimal {
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Of Rust's scientific notation: `d[.ddd]e[-]dd`. Trailing zeros say nothing.
    fn of(scientific: &str) -> Option<Self> {
        let (digits, exponent) = scientific.split_once('e')?;
        let digits = digits.replace('.', "");
        let digits = match digits.trim_end_matches('0') {
            "" => "0".to_owned(),
            significant => significant.to_owned(),
        };
        Some(Self { digits, exponent: exponent.parse().ok()? })
    }
}

/// Rust's shortest text unless it is on a boundary; then the nearest of one digit more, and so on.
fn shortest(rust: String, digits_max: usize, exact: impl Fn(usize) -> Option<String>, binary: Binary) -> Decimal {
    let fallback = Decimal { digits: "0".to_owned(), exponent: 0 };
    let Some(rust) = Decimal::of(&rust) else { return fallback };
    // Rust rounds a tie up and Postgres to even, as exact formatting does; where only Rust's text reads back, it stands.
    let nearest = exact(rust.digits.len()).and_then(|text| Decimal::of(&text)).unwrap_or(rust);
    if !on_boundary(&nearest, binary) {
        return nearest;
    }
    let longer = nearest.digits.len() + 1..=digits_max;
    let inside = |decimal: &Decimal| !on_boundary(decimal, binary);
    longer.filter_map(|length| exact(length).and_then(|text| Decimal::of(&text))).find(inside).unwrap_or(nearest)
}

/// Whether the decimal lies exactly half-way between the number and a neighbour.
fn on_boundary(decimal: &Decimal, binary: Binary) -> bool {
    let Ok(digits) = decimal.digits.parse::<u64>() else { return false };
    let power = decimal.exponent + 1 - decimal.digits.len() as i64;
    let mantissa = u128::from(binary.mantissa);
    let up = (mantissa * 2 + 1, binary.exponent - 1);
    let down = match binary.dense_below {
        true => (mantissa * 4 - 1, binary.exponent - 2),
        false => (mantissa * 2 - 1, binary.exponent - 1),
    };
    [up, down].into_iter().any(|(mantissa, exponent)| equal(u128::from(digits), power, mantissa, exponent))
}

/// Whether `digits × 10^power = mantissa × 2^exponent`, compared as an odd number and a power of two.
fn equal(digits: u128, power: i64, mantissa: u128, exponent: i64) -> bool {
    let five = |number: u128, power: i64| {
        let factor = u32::try_from(power).ok().and_then(|power| 5_u128.checked_pow(power));
        factor.and_then(|factor| number.checked_mul(factor))
    };
    let (left, right) =
        if power >= 0 { (five(digits, power), Some(mantissa)) } else { (Some(digits), five(mantissa, -power)) };
    let (Some(left), Some(right)) = (left, right) else { return false };
    let twos = |number: u128| (number >> number.trailing_zeros(), i64::from(number.trailing_zeros()));
    let ((left, left_twos), (right, right_twos)) = (twos(left), twos(right));
    left == right && left_twos + power == right_twos + exponent
}

/// Fixed notation from 0.0001 up to `fixed_digits` digits before the point, else scientific with at least two digits of
/// exponent.
fn put_decimal(negative: bool, decimal: &Decimal, fixed_digits: i64, out: &mut Vec<u8>) {
    let Decimal { digits, exponent } = decimal;
    if negative {
        out.push(b'-');
    }
    if (-4..0).contains(exponent) {
        let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
        put_display(out, format_args!("0.{}{digits}", "0".repeat(zeros)));
        return;
    }
    if (0..fixed_digits).contains(exponent) {
        let before = usize::try_from(exponent + 1).unwrap_or(0);
        match digits.split_at_checked(before) {
            Some((whole, "")) => out.extend_from_slice(whole.as_bytes()),
            Some((whole, fraction)) => put_display(out, format_args!("{whole}.{fraction}")),
            None => put_display(out, format_args!("{digits:0<before$}")),
        }
        return;
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let sign = if *exponent < 0 { '-' } else { '+' };
    put_display(out, format_args!("{first}{point}{rest}e{sign}{:02}", exponent.unsigned_abs()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float8_as_postgres_prints_it() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (100.0, "100"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1e+15"),
            (1.234_567_890_123_456_7e19, "1.2345678901234567e+19"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let mut out = Vec::new();
            put_float8(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn float4_as_postgres_prints_it() {
        for (value, text) in [
            (0.1, "0.1"),
            (123_456.0, "123456"),
            (1e6, "1e+06"),
            (16_777_216.0, "1.6777216e+07"),
            (f32::MAX, "3.4028235e+38"),
            (1e-45, "1e-45"),
            (f32::NAN, "NaN"),
        ] {
            let mut out = Vec::new();
            put_float4(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
