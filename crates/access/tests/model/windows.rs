//! Windows of time in UTC, second by second as a reader of the rule would find them.

const DAYS: &str = "MTWRFSU";

/// (day of the week, first second, last second) of well-formed values such as `F/09:00:00-10:30:00,12:00:00-13:00:00/UTC`.
fn ranges(values: &[&str]) -> Vec<(i64, i64, i64)> {
    let mut all = Vec::new();
    for value in values {
        let parts: Vec<&str> = value.split('/').collect();
        let day = DAYS.find(parts[0]).expect("a day") as i64;
        if parts[1] == "true" {
            all.push((day, 0, 86_399));
            continue;
        }
        for range in parts[1].split(',') {
            let (first, last) = range.split_once('-').expect("a range");
            all.push((day, second(first), second(last)));
        }
    }
    all
}

fn second(text: &str) -> i64 {
    text.split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().expect("a number"))
}

/// 1970-01-01 was a Thursday.
fn weekday(day: i64) -> i64 {
    (day + 3).rem_euclid(7)
}

fn is_open(ranges: &[(i64, i64, i64)], day: i64, second: i64) -> bool {
    ranges.iter().any(|(of, first, last)| *of == weekday(day) && (*first..=*last).contains(&second))
}

/// The last second of the window that is open now, None where none is. Ranges that overlap or share an endpoint are one.
pub fn open_until(values: &[&str], now: i64) -> Option<i64> {
    let ranges = ranges(values);
    let (day, mut second) = (now.div_euclid(86_400), now.rem_euclid(86_400));
    if !is_open(&ranges, day, second) {
        return None;
    }
    loop {
        let of_day =
            ranges.iter().filter(|(of, first, last)| *of == weekday(day) && (*first..=*last).contains(&second));
        let end = of_day.map(|(_, _, last)| *last).max().expect("it is open");
        if end == second {
            return Some(day * 86_400 + end);
        }
        second = end;
    }
}

/// Seconds in which something may begin or cease, within (from, to].
pub fn edges(values: &[&str], from: i64, to: i64) -> Vec<i64> {
    let mut edges = Vec::new();
    for day in from.div_euclid(86_400)..=to.div_euclid(86_400) {
        for (of, first, last) in ranges(values) {
            if of == weekday(day) {
                edges.push(day * 86_400 + first);
                edges.push(day * 86_400 + last + 1);
            }
        }
    }
    edges
}
