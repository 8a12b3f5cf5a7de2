//! The text of time ranges: `F/09:00-11:30,14-18/Europe/Berlin`, as it is written, without what a calendar makes of it.

/// One value of a condition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// Days after Monday, 0 to 6.
    pub(super) day: usize,
    pub(super) ranges: Vec<Range>,
    /// Not looked up.
    pub(super) zone: &'a str,
}

/// First and last second of a day, both inclusive, counted on the clock: every day has 86,400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub(super) first: u32,
    pub(super) last: u32,
}

const WHOLE_DAY: Range = Range { first: 0, last: 24 * 3600 - 1 };

impl<'a> Entry<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (day, rest) = text.split_once('/')?;
        let (ranges, zone) = rest.split_once('/')?;
        let day = ["M", "T", "W", "R", "F", "S", "U"].iter().position(|letter| *letter == day)?;
        let ranges = match ranges {
            "true" => vec![WHOLE_DAY],
            list => list.split(',').map(|item| Range::parse(item.trim_matches(' '))).collect::<Option<_>>()?,
        };
        Some(Self { day, ranges, zone })
    }
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        let (first, last) = (second_of_day(first)?, second_of_day(last)?);
        (first <= last).then_some(Self { first, last })
    }
}

/// Sorts ranges, and makes one of those that overlap or share a second.
pub(super) fn merge(ranges: &mut Vec<Range>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, previous| {
        let meet = next.first <= previous.last;
        if meet {
            previous.last = previous.last.max(next.last);
        }
        meet
    });
}

/// `H[:M[:S[.fraction]]]`, the fraction cut off.
fn second_of_day(text: &str) -> Option<u32> {
    let mut parts = text.split(':');
    let hour = part(parts.next()?, 23)?;
    let minute = parts.next().map_or(Some(0), |minute| part(minute, 59))?;
    let second = parts.next().map_or(Some(0), |second| part(whole(second)?, 59))?;
    parts.next().is_none().then_some(hour * 3600 + minute * 60 + second)
}

fn whole(second: &str) -> Option<&str> {
    let Some((second, fraction)) = second.split_once('.') else { return Some(second) };
    let digits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    digits.then_some(second)
}

/// One or two digits.
fn part(text: &str, most: u32) -> Option<u32> {
    let number = match *text.as_bytes() {
        [one @ b'0'..=b'9'] => u32::from(one - b'0'),
        [ten @ b'0'..=b'9', one @ b'0'..=b'9'] => u32::from(ten - b'0') * 10 + u32::from(one - b'0'),
        _ => return None,
    };
    (number <= most).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Day, first and last seconds, zone.
    type Written<'a> = (usize, Vec<(u32, u32)>, &'a str);

    fn entry(text: &str) -> Option<Written<'_>> {
        let Entry { day, ranges, zone } = Entry::parse(text)?;
        Some((day, ranges.iter().map(|range| (range.first, range.last)).collect(), zone))
    }

    #[test]
    fn what_is_written() {
        for (text, day, ranges, zone) in [
            ("M/10-11/UTC", 0, vec![(36_000, 39_600)], "UTC"),
            ("U/0-0/UTC", 6, vec![(0, 0)], "UTC"),
            ("R/true/US/Pacific", 3, vec![(0, 86_399)], "US/Pacific"),
            ("T/9:5:7-9:05:08/America/Argentina/Ushuaia", 1, vec![(32_707, 32_708)], "America/Argentina/Ushuaia"),
            ("W/23:59:59-23:59:59/UTC", 2, vec![(86_399, 86_399)], "UTC"),
            ("S/ 10-11 ,  12-13/UTC", 5, vec![(36_000, 39_600), (43_200, 46_800)], "UTC"),
            ("F/14-15,10-11/UTC", 4, vec![(50_400, 54_000), (36_000, 39_600)], "UTC"),
            ("F/10:00:00.999-10:00:00.001/UTC", 4, vec![(36_000, 36_000)], "UTC"),
            ("F/10-11/ anything", 4, vec![(36_000, 39_600)], " anything"),
        ] {
            assert_eq!(entry(text), Some((day, ranges, zone)), "{text}");
        }
    }

    #[test]
    fn what_is_invalid() {
        for text in [
            "",
            "F",
            "F/10-11",
            "/10-11/UTC",
            "X/10-11/UTC",
            "f/10-11/UTC",
            "MT/10-11/UTC",
            " F/10-11/UTC",
            "F //UTC",
            "F//UTC",
            "F/ /UTC",
            "F/,/UTC",
            "F/10-11,/UTC",
            "F/,10-11/UTC",
            "F/10-11,,12-13/UTC",
            "F/11-10/UTC",
            "F/10:00:01-10:00:00/UTC",
            "F/10/UTC",
            "F/-/UTC",
            "F/10-/UTC",
            "F/-11/UTC",
            "F/10--11/UTC",
            "F/10-11-12/UTC",
            "F/10 -11/UTC",
            "F/10- 11/UTC",
            "F/10:-11/UTC",
            "F/:10-11/UTC",
            "F/10:00:00:00-11/UTC",
            "F/24-24/UTC",
            "F/23-24/UTC",
            "F/23:60-23:61/UTC",
            "F/10-11:00:60/UTC",
            "F/010-11/UTC",
            "F/10:000-11/UTC",
            "F/+1-2/UTC",
            "F/10.5-11/UTC",
            "F/10:30.5-11/UTC",
            "F/10:00:00.-11/UTC",
            "F/10:00:00.5.5-11/UTC",
            "F/10:00:00,5-11/UTC",
            "F/１0-11/UTC",
            "F/10–11/UTC",
            "F/10\u{a0}-11/UTC",
            "F/\t10-11/UTC",
            "F/false/UTC",
            "F/TRUE/UTC",
            "F/ true/UTC",
            "F/true,10-11/UTC",
            "F/10-11,true/UTC",
            "F/true,true/UTC",
        ] {
            assert_eq!(entry(text), None, "{text:?}");
        }
    }

    #[test]
    fn ranges_that_share_a_second_are_one() {
        let hours = |pairs: &[(u32, u32)]| -> Vec<Range> {
            pairs.iter().map(|(first, last)| Range { first: *first, last: *last }).collect()
        };
        for (ranges, merged) in [
            (hours(&[(10, 11), (11, 12)]), hours(&[(10, 12)])),
            (hours(&[(10, 11), (12, 13)]), hours(&[(10, 11), (12, 13)])),
            (hours(&[(14, 22), (11, 15), (9, 11)]), hours(&[(9, 22)])),
            (hours(&[(1, 9), (2, 3), (4, 5)]), hours(&[(1, 9)])),
            (hours(&[(5, 5), (5, 5)]), hours(&[(5, 5)])),
            (hours(&[]), hours(&[])),
        ] {
            let mut found = ranges.clone();
            merge(&mut found);
            assert_eq!(found, merged, "{ranges:?}");
        }
    }
}
