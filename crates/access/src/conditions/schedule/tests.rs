//! Windows where clocks jump, and against clocks that are read second by second.

use proptest::prelude::*;

use super::*;

fn schedule(values: &[&str]) -> Schedule {
    Schedule::compile(values.iter().copied()).unwrap()
}

fn second(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

fn text(second: i64) -> String {
    Timestamp::from_second(second).unwrap().to_string()
}

/// The first window that opens at or after an instant.
fn first_window(values: &[&str], from: &str) -> (String, String) {
    let schedule = schedule(values);
    let mut at = second(from);
    for _ in 0..4 {
        let window = schedule.window_at(at);
        if let Some(Some(end)) = window.open {
            return (text(at), text(end));
        }
        at = window.until.unwrap();
    }
    panic!("{values:?} do not open up to {}", text(at));
}

#[test]
fn windows_where_clocks_jump() {
    // Los Angeles: 2021-03-14 02:00 is 03:00 (10:00Z); 2021-11-07 02:00 is 01:00 (09:00Z). Lord Howe jumps half an hour.
    let cases = [
        ("U/1:30-4/America/Los_Angeles", "2021-03-14T00:00:00Z", "2021-03-14T09:30:00Z", "2021-03-14T11:00:00Z"),
        ("U/2:30-4/America/Los_Angeles", "2021-03-14T00:00:00Z", "2021-03-14T10:00:00Z", "2021-03-14T11:00:00Z"),
        ("U/2-4/America/Los_Angeles", "2021-03-14T00:00:00Z", "2021-03-14T10:00:00Z", "2021-03-14T11:00:00Z"),
        ("U/1-2:30/America/Los_Angeles", "2021-03-14T00:00:00Z", "2021-03-14T09:00:00Z", "2021-03-14T10:00:00Z"),
        ("U/1-2/America/Los_Angeles", "2021-03-14T00:00:00Z", "2021-03-14T09:00:00Z", "2021-03-14T10:00:00Z"),
        ("U/1-1:59:59/America/Los_Angeles", "2021-03-14T00:00:00Z", "2021-03-14T09:00:00Z", "2021-03-14T09:59:59Z"),
        ("U/1-3/America/Los_Angeles", "2021-03-14T00:00:00Z", "2021-03-14T09:00:00Z", "2021-03-14T10:00:00Z"),
        ("U/2:15-2:45/America/Los_Angeles", "2021-03-14T00:00:00Z", "2021-03-14T10:00:00Z", "2021-03-14T10:00:00Z"),
        ("U/true/America/Los_Angeles", "2021-03-14T00:00:00Z", "2021-03-14T08:00:00Z", "2021-03-15T06:59:59Z"),
        ("U/1:15-1:45/America/Los_Angeles", "2021-11-07T00:00:00Z", "2021-11-07T08:15:00Z", "2021-11-07T09:45:00Z"),
        ("U/1-1:59:59/America/Los_Angeles", "2021-11-07T00:00:00Z", "2021-11-07T08:00:00Z", "2021-11-07T09:59:59Z"),
        ("U/0:30-1:30/America/Los_Angeles", "2021-11-07T00:00:00Z", "2021-11-07T07:30:00Z", "2021-11-07T09:30:00Z"),
        ("U/1:30-2/America/Los_Angeles", "2021-11-07T00:00:00Z", "2021-11-07T08:30:00Z", "2021-11-07T10:00:00Z"),
        ("U/true/America/Los_Angeles", "2021-11-07T00:00:00Z", "2021-11-07T07:00:00Z", "2021-11-08T07:59:59Z"),
        ("U/2:10-3/Australia/Lord_Howe", "2021-10-03T00:00:00+11", "2021-10-02T15:30:00Z", "2021-10-02T16:00:00Z"),
        // São Paulo jumped at midnight, both ways.
        ("U/true/America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T01:59:59Z"),
        ("S/true/America/Sao_Paulo", "2018-02-16T12:00:00Z", "2018-02-17T02:00:00Z", "2018-02-18T02:59:59Z"),
        ("S/23-23:30/America/Sao_Paulo", "2018-02-16T12:00:00Z", "2018-02-18T01:00:00Z", "2018-02-18T02:30:00Z"),
        // Samoa had no 30 December 2011, a Friday.
        ("R/true/Pacific/Apia", "2011-12-28T12:00:00Z", "2011-12-29T10:00:00Z", "2011-12-30T09:59:59Z"),
        ("F/true/Pacific/Apia", "2011-12-28T12:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z"),
        ("S/true/Pacific/Apia", "2011-12-28T12:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T09:59:59Z"),
    ];
    for (value, from, start, end) in cases {
        assert_eq!(first_window(&[value], from), (start.to_owned(), end.to_owned()), "{value} from {from}");
    }
}

#[test]
fn adjacent_whole_days_hold_without_a_gap() {
    let every_day = |zone: &str| -> Vec<String> {
        ["M", "T", "W", "R", "F", "S", "U"].iter().map(|day| format!("{day}/true/{zone}")).collect()
    };
    for zone in ["UTC", "America/Los_Angeles", "America/Sao_Paulo", "Pacific/Apia", "Africa/Cairo", "Asia/Beirut"] {
        let values = every_day(zone);
        let schedule = Schedule::compile(values.iter().map(String::as_str)).unwrap();
        let (mut at, end) = (second("2008-01-01T00:00:00Z"), second("2021-01-01T00:00:00Z"));
        while at < end {
            let window = schedule.window_at(at);
            assert!(window.open.is_some(), "{zone} is closed at {}", text(at));
            at = window.until.unwrap();
        }
    }
}

#[test]
fn a_window_says_when_it_must_be_asked_again() {
    let schedule = schedule(&["F/10-11,14-15/UTC", "F/10:30-12/Etc/UTC"]);
    let at = |time: &str| second(&format!("2021-01-{time}Z"));
    for (now, from, until, open) in [
        ("01T09:00:00", None, "01T10:00:00", None),
        ("01T10:00:00", Some("01T10:00:00"), "01T10:30:00", Some("01T11:00:00")),
        ("01T10:29:59", Some("01T10:00:00"), "01T10:30:00", Some("01T11:00:00")),
        ("01T10:30:00", Some("01T10:30:00"), "01T11:00:01", Some("01T12:00:00")),
        ("01T11:00:01", Some("01T11:00:01"), "01T12:00:01", Some("01T12:00:00")),
        ("01T12:00:01", Some("01T12:00:01"), "01T14:00:00", None),
        ("01T15:00:01", Some("01T15:00:01"), "08T10:00:00", None),
        ("03T00:00:00", Some("01T15:00:01"), "08T10:00:00", None),
        ("04T12:00:00", None, "08T10:00:00", None),
    ] {
        let from = from.map_or(at(now), at);
        let expected = Window { from, until: Some(at(until)), open: open.map(|end| Some(at(end))) };
        assert_eq!(schedule.window_at(at(now)), expected, "{now}");
    }
    assert_eq!(
        Schedule::compile([].into_iter()).unwrap().window_at(at("01T09:00:00")),
        Window { from: i64::MIN, until: None, open: None }
    );
}

/// The end of the window of a date that holds at a second, by nothing but what the zone's clocks show each second:
/// start at the first second that shows the start or later, end with the last that shows the end or earlier; where none
/// shows the end, at the next.
fn oracle(zone: &TimeZone, value: (usize, Range), shown: &[(i64, DateTime)], at: i64) -> Option<i64> {
    let (day, range) = value;
    let clock = |date: Date, second: u32| date.to_datetime(jiff::civil::Time::midnight()) + i64::from(second).seconds();
    let today = zone.to_datetime(Timestamp::from_second(at).unwrap()).date();
    let dates = (-2..=2_i64).map(|days| today + days.days());
    let of_day = dates.filter(|date| usize::try_from(date.weekday().to_monday_zero_offset()) == Ok(day));
    let windows = of_day.filter_map(|date| {
        let (first, last) = (clock(date, range.first), clock(date, range.last));
        let start = shown.iter().find(|(_, shown)| *shown >= first)?.0;
        let (end, exact) =
            shown.iter().rev().find(|(_, shown)| *shown <= last).map(|(at, shown)| (*at, *shown == last))?;
        let end = if exact { end } else { end + 1 };
        (start <= at && at <= end).then_some(end)
    });
    windows.max()
}

/// Days in which clocks are moved, and one in which they aren't.
const DAYS: [(&str, &str); 12] = [
    ("UTC", "2021-01-01T12:00:00Z"),
    ("America/Los_Angeles", "2021-03-14T10:00:00Z"),
    ("America/Los_Angeles", "2021-11-07T09:00:00Z"),
    ("America/Los_Angeles", "2077-11-07T09:00:00Z"),
    ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
    ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),
    ("Australia/Lord_Howe", "2021-04-03T15:00:00Z"),
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Pacific/Kwajalein", "1969-09-30T13:00:00Z"),
    ("Africa/Casablanca", "2021-04-11T02:00:00Z"),
    ("Antarctica/Troll", "2021-10-31T01:00:00Z"),
    ("Europe/Amsterdam", "1937-07-01T00:00:00Z"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn windows_are_what_clocks_show(
        (zone, around) in prop::sample::select(DAYS.to_vec()),
        day in 0..7_usize,
        (one, other) in (0..96_u32, 0..96_u32),
        (one_second, other_second) in (-1..=1_i32, -1..=1_i32),
        asked in prop::collection::vec(-36 * 3600..36 * 3600_i64, 20),
    ) {
        let bound = |quarter: u32, offset: i32| (quarter * 900).saturating_add_signed(offset).min(86_399);
        let (one, other) = (bound(one, one_second), bound(other, other_second));
        let range = Range { first: one.min(other), last: one.max(other) };
        let zone_of_name = TimeZoneDatabase::bundled().get(zone).unwrap();
        let around = second(around);
        let shown: Vec<(i64, DateTime)> = (around - 5 * 86_400..around + 5 * 86_400)
            .map(|at| (at, zone_of_name.to_datetime(Timestamp::from_second(at).unwrap())))
            .collect();
        let clock = |second: u32| format!("{}:{}:{}", second / 3600, second / 60 % 60, second % 60);
        let letter = ["M", "T", "W", "R", "F", "S", "U"][day];
        let value = format!("{letter}/{}-{}/{zone}", clock(range.first), clock(range.last));
        let schedule = schedule(&[&value]);
        for at in asked.into_iter().chain([-1, 0, 1]).map(|offset| around + offset) {
            let window = schedule.window_at(at);
            prop_assert_eq!(window.open.flatten(), oracle(&zone_of_name, (day, range), &shown, at), "{} at {}", value, text(at));
            prop_assert!(window.from <= at && window.until.is_some_and(|until| until > at), "{:?} at {}", window, at);
            // It says the same as long as it says it does, and something else then.
            for same in [window.from, window.until.unwrap() - 1] {
                prop_assert_eq!(schedule.window_at(same).open, window.open, "{} at {} and {}", value, text(at), text(same));
            }
        }
    }
}
