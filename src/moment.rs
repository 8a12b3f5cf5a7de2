//! Moments as people write them and as Kafka and Postgres count them: RFC 3339 and numbers since 1970.
//!
//! Proleptic Gregorian calendar, no leap seconds (a second of 60 is refused), years 0000 to 9999.

const DAY_SECONDS: i64 = 86_400;

/// The text is neither RFC 3339 nor a whole number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no time: write 2026-07-01T12:00:00Z (with Z or an offset such as +02:00), or milliseconds since 1970"
)]
pub struct MomentError(String);

/// Milliseconds since 1970 of a text: RFC 3339, or that number itself. Fractions of a millisecond are cut off.
pub fn parse_ms(text: &str) -> Result<i64, MomentError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| MomentError(text.to_owned()));
    }
    rfc3339_ms(text.as_bytes()).ok_or_else(|| MomentError(text.to_owned()))
}

/// RFC 3339 in UTC with milliseconds; a number where the calendar ends.
pub fn format_us(micros: i64) -> String {
    let seconds = micros.div_euclid(1_000_000);
    let (day, second) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
    let (year, month, day) = civil_from_days(day);
    if !(0..=9999).contains(&year) {
        return format!("{micros} µs since 1970");
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millis = micros.div_euclid(1000).rem_euclid(1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

fn rfc3339_ms(text: &[u8]) -> Option<i64> {
    let mut input = Input(text);
    let year = input.number(4)?;
    input.expect(b"-")?;
    let month = input.number(2).filter(|month| (1..=12).contains(month))?;
    input.expect(b"-")?;
    let day = input.number(2).filter(|day| (1..=month_length(year, month)).contains(day))?;
    input.expect(b"Tt ")?;
    let hour = input.number(2).filter(|hour| *hour < 24)?;
    input.expect(b":")?;
    let minute = input.number(2).filter(|minute| *minute < 60)?;
    input.expect(b":")?;
    let second = input.number(2).filter(|second| *second < 60)?;
    let millis = input.fraction_ms()?;
    let offset = input.offset_seconds()?;
    if !input.0.is_empty() {
        return None;
    }
    let seconds = days_from_civil(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second - offset;
    Some(seconds * 1000 + millis)
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn expect(&mut self, any_of: &[u8]) -> Option<u8> {
        self.next().filter(|byte| any_of.contains(byte))
    }

    fn digit(&mut self) -> Option<i64> {
        self.next().filter(u8::is_ascii_digit).map(|byte| i64::from(byte - b'0'))
    }

    fn number(&mut self, digits: u32) -> Option<i64> {
        (0..digits).try_fold(0, |number, _| Some(number * 10 + self.digit()?))
    }

    fn fraction_ms(&mut self) -> Option<i64> {
        if self.0.first() != Some(&b'.') {
            return Some(0);
        }
        self.next();
        let mut millis = self.digit()? * 100;
        for scale in [10, 1].into_iter().chain(std::iter::repeat(0)) {
            if !self.0.first().is_some_and(u8::is_ascii_digit) {
                break;
            }
            millis += self.digit()? * scale;
        }
        Some(millis)
    }

    fn offset_seconds(&mut self) -> Option<i64> {
        let sign = match self.next()? {
            b'Z' | b'z' => return Some(0),
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let hours = self.number(2).filter(|hours| *hours < 24)?;
        self.expect(b":")?;
        let minutes = self.number(2).filter(|minutes| *minutes < 60)?;
        Some(sign * (hours * 3600 + minutes * 60))
    }
}

fn month_length(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01, by counting from 1 March so that the leap day ends the year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2000-02-29T12:34:56.789Z", 951_827_696_789),
            ("2000-02-29t12:34:56.7899999z", 951_827_696_789),
            ("2000-02-29 14:34:56.7+02:00", 951_827_696_700),
            ("2000-02-29T07:04:56-05:30", 951_827_696_000),
            ("1780000000000", 1_780_000_000_000),
            ("-5", -5),
        ] {
            assert_eq!(parse_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-",
            "now",
            "2000-02-30T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2000-13-01T00:00:00Z",
            "2000-01-01T24:00:00Z",
            "2000-01-01T00:00:60Z",
            "2000-01-01T00:00:00",
            "2000-01-01",
            "2000-01-01T00:00:00.Z",
            "2000-01-01T00:00:00Zx",
            "2000-01-01T00:00:00+2:00",
            "99999999999999999999",
        ] {
            assert_eq!(parse_ms(text), Err(MomentError(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for micros in [0, -1_000, 951_827_696_789_000, 4_102_444_800_000_000, -62_167_219_200_000_000] {
            assert_eq!(parse_ms(&format_us(micros)), Ok(micros / 1000), "{micros}");
        }
        assert_eq!(format_us(951_827_696_789_999), "2000-02-29T12:34:56.789Z");
        assert_eq!(format_us(i64::MAX), format!("{} µs since 1970", i64::MAX));
    }
}
