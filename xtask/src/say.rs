//! What goes to the person in front of the screen. Narration goes to standard error, so that standard output holds
//! results only: records, the final line, JSON.

use std::io::IsTerminal as _;
use std::time::Duration;

/// One line of narration.
pub fn line(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// `40 s`, `3 min`, `1 min 20 s`: as exact as an estimate deserves.
pub fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        seconds @ 1..=99 => format!("{seconds} s"),
        seconds @ 100..=599 => format!("{} min {} s", seconds / 60, seconds % 60 / 10 * 10),
        seconds => format!("{} min", seconds / 60),
    }
}

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Whether standard output may be coloured.
pub fn coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn durations_are_as_exact_as_they_deserve() {
        let cases = [(0, "0 ms"), (7, "7 s"), (99, "99 s"), (100, "1 min 40 s"), (305, "5 min 0 s"), (900, "15 min")];
        for (seconds, expected) in cases {
            assert_eq!(super::duration(Duration::from_secs(seconds)), expected);
        }
        assert_eq!(super::duration(Duration::from_millis(250)), "250 ms");
    }

    #[test]
    fn counts_have_their_commas() {
        for (number, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(super::count(number), expected);
        }
    }
}
