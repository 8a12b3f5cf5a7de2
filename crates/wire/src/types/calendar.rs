//! Dates and times as Postgres prints them under `datestyle ISO`, turned into Avro's numbers.
//!
//! Postgres uses the proleptic Gregorian calendar without leap seconds and has no year 0: 1 BC is followed by 1 AD.
//! `infinity` and `-infinity` are the ends of the number range, so a finite value that falls there is refused.

use super::Refusal;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// Days since 1970-01-01; the ends of the range for ±infinity.
pub(super) fn date(text: &[u8]) -> Result<i32, Refusal> {
    match text {
        b"infinity" => return Ok(i32::MAX),
        b"-infinity" => return Ok(i32::MIN),
        _ => {}
    }
    let mut input = Input(text);
    let date = input.date()?;
    let before_christ = input.before_christ();
    input.end()?;
    let days = i32::try_from(date.days(before_christ)?).map_err(|_| Refusal::OutOfRange)?;
    if days == i32::MAX || days == i32::MIN { Err(Refusal::OutOfRange) } else { Ok(days) }
}

/// Microseconds since midnight; 24:00:00 is a time of its own.
pub(super) fn time(text: &[u8]) -> Result<i64, Refusal> {
    let mut input = Input(text);
    let micros = input.time()?;
    input.end()?;
    if micros > MICROS_PER_DAY { Err(Refusal::Malformed) } else { Ok(micros) }
}

/// Microseconds since 1970-01-01 00:00 of whatever clock the column means.
pub(super) fn timestamp(text: &[u8]) -> Result<i64, Refusal> {
    instant(text, |_| Ok(0))
}

/// Microseconds since 1970-01-01 00:00 UTC.
pub(super) fn timestamptz(text: &[u8]) -> Result<i64, Refusal> {
    instant(text, |input| input.offset_seconds())
}

#[inline]
fn instant(text: &[u8], offset: impl FnOnce(&mut Input<'_>) -> Result<i64, Refusal>) -> Result<i64, Refusal> {
    match text {
        b"infinity" => return Ok(i64::MAX),
        b"-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    let mut input = Input(text);
    let date = input.date()?;
    input.expect(b' ')?;
    let micros = input.time()?;
    if micros >= MICROS_PER_DAY {
        return Err(Refusal::Malformed);
    }
    let offset_micros = offset(&mut input)? * MICROS_PER_SECOND;
    let before_christ = input.before_christ();
    input.end()?;
    let midnight = date.days(before_christ)?.checked_mul(MICROS_PER_DAY).ok_or(Refusal::OutOfRange)?;
    let instant = midnight.checked_add(micros - offset_micros).ok_or(Refusal::OutOfRange)?;
    if instant == i64::MAX || instant == i64::MIN { Err(Refusal::OutOfRange) } else { Ok(instant) }
}

/// A date as printed: the era follows only at the end of the text.
#[derive(Clone, Copy)]
struct Printed {
    year: i64,
    month: i64,
    day: i64,
}

impl Printed {
    /// Days since 1970-01-01.
    fn days(self, before_christ: bool) -> Result<i64, Refusal> {
        if self.year == 0 {
            return Err(Refusal::Malformed);
        }
        let year = if before_christ { 1 - self.year } else { self.year };
        if self.day > days_in_month(year, self.month) {
            return Err(Refusal::Malformed);
        }
        Ok(days_from_civil(year, self.month, self.day))
    }
}

/// What is left of the text.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    /// `YYYY-MM-DD`, the year with four to seven digits.
    #[inline]
    fn date(&mut self) -> Result<Printed, Refusal> {
        let (year, digits) = self.number();
        if !(4..=7).contains(&digits) {
            return Err(Refusal::Malformed);
        }
        self.expect(b'-')?;
        let month = self.two_digits()?;
        self.expect(b'-')?;
        let day = self.two_digits()?;
        if !(1..=12).contains(&month) || day == 0 {
            return Err(Refusal::Malformed);
        }
        Ok(Printed { year, month, day })
    }

    /// `HH:MM:SS[.ffffff]` in microseconds, up to hour 24.
    #[inline]
    fn time(&mut self) -> Result<i64, Refusal> {
        let hour = self.two_digits()?;
        self.expect(b':')?;
        let minute = self.two_digits()?;
        self.expect(b':')?;
        let second = self.two_digits()?;
        if hour > 24 || minute > 59 || second > 59 {
            return Err(Refusal::Malformed);
        }
        let mut fraction = 0;
        if self.eat(b'.') {
            let (number, digits) = self.number();
            let scale = [0, 100_000, 10_000, 1_000, 100, 10, 1].get(digits).copied().unwrap_or(0);
            if scale == 0 {
                return Err(Refusal::Malformed);
            }
            fraction = number * scale;
        }
        Ok((hour * 3600 + minute * 60 + second) * MICROS_PER_SECOND + fraction)
    }

    /// `±HH[:MM[:SS]]`; local mean times have seconds.
    #[inline]
    fn offset_seconds(&mut self) -> Result<i64, Refusal> {
        let east = self.eat(b'+');
        if !east {
            self.expect(b'-')?;
        }
        let hours = self.two_digits()?;
        let minutes = if self.eat(b':') { self.two_digits()? } else { 0 };
        let seconds = if self.eat(b':') { self.two_digits()? } else { 0 };
        if hours > 15 || minutes > 59 || seconds > 59 {
            return Err(Refusal::Malformed);
        }
        let offset = hours * 3600 + minutes * 60 + seconds;
        Ok(if east { offset } else { -offset })
    }

    fn before_christ(&mut self) -> bool {
        match self.0.strip_prefix(b" BC") {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    #[inline]
    fn two_digits(&mut self) -> Result<i64, Refusal> {
        match self.0 {
            [tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] => {
                self.0 = rest;
                Ok(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
            }
            _ => Err(Refusal::Malformed),
        }
    }

    /// The digits in front, at most eight of them, and how many there were.
    #[inline]
    fn number(&mut self) -> (i64, usize) {
        let mut number = 0;
        let mut digits = 0;
        while let [digit @ b'0'..=b'9', rest @ ..] = self.0
            && digits < 8
        {
            number = number * 10 + i64::from(digit - b'0');
            digits += 1;
            self.0 = rest;
        }
        (number, digits)
    }

    #[inline]
    fn eat(&mut self, wanted: u8) -> bool {
        match self.0 {
            [first, rest @ ..] if *first == wanted => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    #[inline]
    fn expect(&mut self, wanted: u8) -> Result<(), Refusal> {
        if self.eat(wanted) { Ok(()) } else { Err(Refusal::Malformed) }
    }

    #[inline]
    fn end(&self) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(Refusal::Malformed) }
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a proleptic Gregorian date, year 0 being 1 BC.
/// The algorithm is Howard Hinnant's `days_from_civil`: years start in March, so that the leap day is the last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: PartialEq + std::fmt::Debug>(
        read: fn(&[u8]) -> Result<T, Refusal>,
        cases: &[(&str, Result<T, Refusal>)],
    ) {
        for (text, expected) in cases {
            assert_eq!(&read(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn dates() {
        check(
            date,
            &[
                ("1970-01-01", Ok(0)),
                ("1969-12-31", Ok(-1)),
                ("2000-01-01", Ok(10_957)),
                ("2024-02-29", Ok(19_782)),
                ("0001-01-01", Ok(-719_162)),
                ("0001-12-31 BC", Ok(-719_163)),
                ("0001-02-29 BC", Ok(-719_469)),
                ("4714-11-24 BC", Ok(-2_440_588)),
                ("10000-01-01", Ok(2_932_897)),
                ("5874897-12-31", Ok(2_145_042_905)),
                ("infinity", Ok(i32::MAX)),
                ("-infinity", Ok(i32::MIN)),
            ],
        );
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "2024",
            "2024-1-1",
            "2023-02-29",
            "1900-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-01-00",
            "2024-04-31",
            "0000-01-01",
            "2024-01-01 AD",
            "2024-01-01 ",
            "999-01-01",
            "99999999-01-01",
            "Infinity",
            "01/02/2024",
            "2024-01-01T00",
            "+2024-01-01",
        ] {
            assert_eq!(date(text.as_bytes()), Err(Refusal::Malformed), "{text}");
        }
    }

    #[test]
    fn times() {
        check(
            time,
            &[
                ("00:00:00", Ok(0)),
                ("12:34:56", Ok(45_296_000_000)),
                ("12:34:56.7", Ok(45_296_700_000)),
                ("23:59:59.999999", Ok(86_399_999_999)),
                ("24:00:00", Ok(86_400_000_000)),
                ("24:00:00.000001", Err(Refusal::Malformed)),
                ("24:00:01", Err(Refusal::Malformed)),
                ("25:00:00", Err(Refusal::Malformed)),
                ("12:60:00", Err(Refusal::Malformed)),
                ("12:00:60", Err(Refusal::Malformed)),
                ("12:00:00.", Err(Refusal::Malformed)),
                ("12:00:00.1234567", Err(Refusal::Malformed)),
                ("12:00", Err(Refusal::Malformed)),
                ("12:00:00+00", Err(Refusal::Malformed)),
            ],
        );
    }

    #[test]
    fn timestamps() {
        check(
            timestamp,
            &[
                ("1970-01-01 00:00:00", Ok(0)),
                ("1969-12-31 23:59:59.999999", Ok(-1)),
                ("2024-02-29 12:34:56.789", Ok(1_709_210_096_789_000)),
                ("0044-03-15 12:00:00 BC", Ok(-63_517_780_800_000_000)),
                ("294246-12-31 23:59:59.999999", Ok(9_223_371_244_799_999_999)),
                ("294276-12-31 23:59:59.999999", Err(Refusal::OutOfRange)),
                ("infinity", Ok(i64::MAX)),
                ("-infinity", Ok(i64::MIN)),
                ("2024-01-01 24:00:00", Err(Refusal::Malformed)),
                ("2024-01-01 00:00:00+00", Err(Refusal::Malformed)),
                ("2024-01-01", Err(Refusal::Malformed)),
            ],
        );
    }

    #[test]
    fn the_numbers_that_mean_infinity_are_never_a_finite_time() {
        check(
            timestamp,
            &[
                ("294247-01-10 04:00:54.775806", Ok(i64::MAX - 1)),
                ("294247-01-10 04:00:54.775807", Err(Refusal::OutOfRange)),
                ("294247-01-10 04:00:54.775808", Err(Refusal::OutOfRange)),
            ],
        );
    }

    #[test]
    fn timestamps_with_time_zone() {
        check(
            timestamptz,
            &[
                ("1970-01-01 00:00:00+00", Ok(0)),
                ("1970-01-01 00:00:00.5+00", Ok(500_000)),
                ("1970-01-01 05:30:00+05:30", Ok(0)),
                ("1969-12-31 16:07:02-07:52:58", Ok(0)),
                ("0001-01-01 00:00:00+00 BC", Ok(-62_167_219_200_000_000)),
                ("infinity", Ok(i64::MAX)),
                ("1970-01-01 00:00:00", Err(Refusal::Malformed)),
                ("1970-01-01 00:00:00Z", Err(Refusal::Malformed)),
                ("1970-01-01 00:00:00+5", Err(Refusal::Malformed)),
                ("1970-01-01 00:00:00+00:", Err(Refusal::Malformed)),
                ("1970-01-01 00:00:00+16", Err(Refusal::Malformed)),
            ],
        );
    }
}
