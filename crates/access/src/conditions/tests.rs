//! The rules, one case a line.

use serde_json::json;

use super::*;

/// Friday 2021-01-01 10:00:00 UTC.
const FRIDAY_10: &str = "2021-01-01T10:00:00Z";
const PROVIDER: Uuid = Uuid::from_u128(0xabcd_ef01_2345_6789_abcd_ef01_2345_6789);

const NOBODY: Facts<'static> = Facts { region: None, remote_ip: None, provider: None, verified: false };

fn at(text: &str) -> Micros {
    Micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

fn compiled(elements: Vec<Json>) -> (Conditions, Vec<Problem>) {
    Conditions::compile(&Some(elements.into_iter().map(Some).collect()))
}

fn one(property: &str, operator: &str, values: Json) -> Json {
    json!({"property": property, "operator": operator, "values": values})
}

fn times(values: &[&str]) -> Json {
    one("current_utc_datetime", "is_in_day_of_week_time_ranges", json!(values))
}

/// The expiry as text, "for ever", or "deny".
fn told(verdict: Verdict) -> String {
    match verdict {
        Verdict::Fails => "deny".to_owned(),
        Verdict::Holds { expires_at: None } => "for ever".to_owned(),
        Verdict::Holds { expires_at: Some(second) } => jiff::Timestamp::from_second(second).unwrap().to_string(),
    }
}

#[test]
fn time_ranges() {
    const EVENING: &str = "2021-01-01T19:00:00Z";
    let cases: [(&str, &[&str], &str); 38] = [
        (FRIDAY_10, &["F/10:00:00-11:00:00,20:00-22:00/UTC"], "2021-01-01T11:00:00Z"),
        (FRIDAY_10, &["F/09:00:00-10:00:00,11-22/UTC"], "2021-01-01T10:00:00Z"),
        (FRIDAY_10, &["F/09:00:00-11:00:00,11-15,14-22/UTC"], "2021-01-01T22:00:00Z"),
        (FRIDAY_10, &["F/true/UTC"], "2021-01-01T23:59:59Z"),
        (FRIDAY_10, &["M/09:00:00-11:00:00/UTC"], "deny"),
        (FRIDAY_10, &["F/10-11"], "deny"),
        (FRIDAY_10, &["F/true/UTC", "F/10-11"], "deny"),
        (FRIDAY_10, &["F/10-11", "F/true/UTC"], "deny"),
        ("2021-01-01T01:00:00Z", &["R/true/US/Pacific"], "2021-01-01T07:59:59Z"),
        ("2021-01-01T01:00:00Z", &["F/02:00:00-04:00:00/Poland"], "2021-01-01T03:00:00Z"),
        (FRIDAY_10, &[], "deny"),
        // Ends are inclusive, their last second whole; fractions are cut.
        ("2021-01-01T09:59:59.999999Z", &["F/10-11/UTC"], "deny"),
        ("2021-01-01T11:00:00.999999Z", &["F/10-11/UTC"], "2021-01-01T11:00:00Z"),
        ("2021-01-01T11:00:01Z", &["F/10-11/UTC"], "deny"),
        ("2021-01-01T11:00:00Z", &["F/10-11:00:00.9/UTC"], "2021-01-01T11:00:00Z"),
        ("2021-01-01T23:59:59.9Z", &["F/true/UTC"], "2021-01-01T23:59:59Z"),
        ("2021-01-02T00:00:00Z", &["F/true/UTC"], "deny"),
        ("1969-12-31T23:59:59.5Z", &["W/true/UTC"], "1969-12-31T23:59:59Z"),
        // One range only where a second is shared.
        (FRIDAY_10, &["F/10-11,11-12/UTC"], "2021-01-01T12:00:00Z"),
        (FRIDAY_10, &["F/10-11,11:00:01-12/UTC"], "2021-01-01T11:00:00Z"),
        (FRIDAY_10, &["F/11-12/UTC", "F/10-11/UTC"], "2021-01-01T12:00:00Z"),
        (FRIDAY_10, &["F/11-12/Etc/UTC", "F/10-11/UTC"], "2021-01-01T11:00:00Z"),
        ("2021-01-01T11:00:00Z", &["F/11-12/Etc/UTC", "F/10-11/UTC"], "2021-01-01T12:00:00Z"),
        (FRIDAY_10, &["F/10-11/UTC", "S/true/UTC", "F/0-10/Etc/UTC"], "2021-01-01T11:00:00Z"),
        (FRIDAY_10, &["F/true/UTC", "S/true/UTC"], "2021-01-01T23:59:59Z"),
        // Zones: the weekday is theirs, names are exact.
        (EVENING, &["S/true/Pacific/Kiritimati"], "2021-01-02T09:59:59Z"),
        (EVENING, &["F/true/Pacific/Kiritimati"], "deny"),
        (FRIDAY_10, &["R/true/Pacific/Pago_Pago"], "2021-01-01T10:59:59Z"),
        (FRIDAY_10, &["F/5:30-5:30/America/Argentina/Ushuaia"], "deny"),
        (FRIDAY_10, &["F/7-7:00/America/Argentina/Ushuaia"], "2021-01-01T10:00:00Z"),
        (FRIDAY_10, &["F/true/utc"], "deny"),
        (FRIDAY_10, &["F/true/us/pacific"], "deny"),
        (FRIDAY_10, &["F/true/Etc/Unknown"], "deny"),
        (FRIDAY_10, &["F/true/Mars/Olympus"], "deny"),
        (FRIDAY_10, &["F/true/"], "deny"),
        (FRIDAY_10, &["F/true/UTC "], "deny"),
        (FRIDAY_10, &["F/true/+00:00"], "deny"),
        (FRIDAY_10, &["F/true/UTC/"], "deny"),
    ];
    for (now, values, expected) in cases {
        let (conditions, problems) = compiled(vec![times(values)]);
        let verdict = conditions.evaluate(&NOBODY, at(now), &Options::default());
        assert_eq!(told(verdict), expected, "{values:?} at {now}");
        let invalid = expected == "deny" && conditions.window_at(at(now)).until.is_none() && !values.is_empty();
        assert_eq!(problems.len(), usize::from(invalid), "{values:?}: {problems:?}");
    }
}

#[test]
fn facts_of_a_client() {
    let client = |change: fn(&mut Facts<'static>)| {
        let ip = Some("10.1.2.3".parse().unwrap());
        let mut facts = Facts { region: Some("DE"), remote_ip: ip, provider: Some(PROVIDER), verified: true };
        change(&mut facts);
        facts
    };
    let known = client(|_| {});
    let nowhere = client(|facts| facts.region = None);
    let nameless = client(|facts| facts.provider = None);
    let unverified = client(|facts| facts.verified = false);
    let unseen = client(|facts| facts.remote_ip = None);
    let v6 = client(|facts| facts.remote_ip = Some("2001:db8::1".parse().unwrap()));
    let mapped = client(|facts| facts.remote_ip = Some("::ffff:10.1.2.3".parse().unwrap()));
    let nowhere_named = client(|facts| facts.region = Some(""));
    let provider = PROVIDER.to_string();
    let shouted = provider.to_uppercase();
    let plain = PROVIDER.simple().to_string();
    let cases = [
        (known, "remote_ip_location_region", "is_in", json!(["US", "DE"]), true),
        (known, "remote_ip_location_region", "is_in", json!(["US", "de"]), false),
        (known, "remote_ip_location_region", "is_in", json!([]), false),
        (known, "remote_ip_location_region", "is_not_in", json!(["US", "DE"]), false),
        (known, "remote_ip_location_region", "is_not_in", json!(["US", "D"]), true),
        (known, "remote_ip_location_region", "is_not_in", json!([]), true),
        (known, "remote_ip_location_region", "is_in", json!(["DE", 1]), false),
        (known, "remote_ip_location_region", "is_not_in", json!(["US", null]), false),
        (nowhere, "remote_ip_location_region", "is_in", json!(["DE"]), false),
        (nowhere, "remote_ip_location_region", "is_not_in", json!(["DE"]), false),
        (nowhere, "remote_ip_location_region", "is_not_in", json!([]), false),
        (nowhere_named, "remote_ip_location_region", "is_not_in", json!(["DE"]), true),
        (known, "remote_ip", "is_in_cidr", json!(["10.0.0.0/8"]), true),
        (known, "remote_ip", "is_in_cidr", json!(["192.168.0.0/16", "10.1.2.3"]), true),
        (known, "remote_ip", "is_in_cidr", json!(["192.168.0.0/16"]), false),
        (known, "remote_ip", "is_in_cidr", json!([]), false),
        (known, "remote_ip", "is_not_in_cidr", json!(["192.168.0.0/16"]), true),
        (known, "remote_ip", "is_not_in_cidr", json!(["10.1.2.77/24"]), false),
        (known, "remote_ip", "is_not_in_cidr", json!([]), true),
        (known, "remote_ip", "is_in_cidr", json!(["10.0.0.0/8", "nonsense"]), false),
        (known, "remote_ip", "is_not_in_cidr", json!(["192.168.0.0/16", "10.0.0.0/33"]), false),
        (known, "remote_ip", "is_not_in_cidr", json!(["::ffff:10.0.0.0/104"]), false),
        (known, "remote_ip", "is_in_cidr", json!(["::ffff:10.0.0.0/104"]), true),
        (mapped, "remote_ip", "is_in_cidr", json!(["10.0.0.0/8"]), true),
        (mapped, "remote_ip", "is_in_cidr", json!(["::/0"]), false),
        (mapped, "remote_ip", "is_not_in_cidr", json!(["192.168.0.0/16"]), true),
        (v6, "remote_ip", "is_in_cidr", json!(["2001:db8::/32"]), true),
        (v6, "remote_ip", "is_not_in_cidr", json!(["2001:db9::/32"]), true),
        (v6, "remote_ip", "is_in_cidr", json!(["10.0.0.0/8"]), false),
        (v6, "remote_ip", "is_not_in_cidr", json!(["10.0.0.0/8"]), false),
        (v6, "remote_ip", "is_not_in_cidr", json!(["10.0.0.0/8", "2001:db9::"]), true),
        (v6, "remote_ip", "is_not_in_cidr", json!([]), true),
        (unseen, "remote_ip", "is_in_cidr", json!(["0.0.0.0/0", "::/0"]), false),
        (unseen, "remote_ip", "is_not_in_cidr", json!(["10.0.0.0/8"]), false),
        (unseen, "remote_ip", "is_not_in_cidr", json!([]), false),
        (known, "provider_id", "is_in", json!([provider]), true),
        (known, "provider_id", "is_in", json!([shouted, plain, "", "google"]), false),
        (known, "provider_id", "is_in", json!([]), false),
        (known, "provider_id", "is_not_in", json!([provider]), false),
        (known, "provider_id", "is_not_in", json!(["google"]), true),
        (known, "provider_id", "is_not_in", json!([]), true),
        (known, "provider_id", "is_in", json!([provider, 7]), false),
        (known, "provider_id", "is_not_in", json!([7]), false),
        (nameless, "provider_id", "is_in", json!([provider]), false),
        (nameless, "provider_id", "is_not_in", json!([provider]), false),
        (nameless, "provider_id", "is_not_in", json!([]), false),
        (known, "client_verified", "is", json!(["true"]), true),
        (unverified, "client_verified", "is", json!(["true"]), false),
        (known, "client_verified", "is", json!(["false"]), true),
        (unverified, "client_verified", "is", json!(["false"]), true),
        (known, "client_verified", "is", json!([]), false),
        (known, "client_verified", "is", json!([true]), false),
        (known, "client_verified", "is", json!(["True"]), false),
        (known, "client_verified", "is", json!(["true", "true"]), false),
        (known, "client_verified", "is", json!(["true", "false"]), false),
        // Not understood.
        (known, "client_verified", "is_in", json!(["true"]), false),
        (known, "client_verified", "is", json!("true"), false),
        (known, "client_verified", "is", json!(null), false),
        (known, "remote_ip", "is_in", json!(["10.0.0.0/8"]), false),
        (known, "remote_ip", "is_not_in", json!([]), false),
        (known, "provider_id", "is_not_in_cidr", json!([]), false),
        (known, "remote_ip_location_region", "IS_NOT_IN", json!([]), false),
        (known, "remote_ip_location_city", "is_not_in", json!([]), false),
        (known, "", "", json!([]), false),
    ];
    for (facts, property, operator, values, expected) in cases {
        let (conditions, _) = compiled(vec![one(property, operator, values.clone())]);
        let verdict = conditions.evaluate(&facts, at(FRIDAY_10), &Options::default());
        let expected = if expected { "for ever" } else { "deny" };
        assert_eq!(told(verdict), expected, "{facts:?}: {property} {operator} {values}");
    }
}

#[test]
fn what_the_replaced_system_let_through_can_be_chosen() {
    let v6 = Facts { remote_ip: Some("2001:db8::1".parse().unwrap()), ..NOBODY };
    let family = Options { other_family_allows: true, ..Options::default() };
    let provider = Options { unknown_provider_allows_not_in: true, ..Options::default() };
    for (facts, options, property, operator, values, expected) in [
        (v6, family, "remote_ip", "is_not_in_cidr", json!(["10.0.0.0/8"]), true),
        (v6, family, "remote_ip", "is_in_cidr", json!(["10.0.0.0/8"]), false),
        (v6, family, "remote_ip", "is_not_in_cidr", json!(["10.0.0.0/8", "::/0"]), false),
        (v6, family, "remote_ip", "is_not_in_cidr", json!(["10.0.0.0/8", "?"]), false),
        (v6, provider, "remote_ip", "is_not_in_cidr", json!(["10.0.0.0/8"]), false),
        (NOBODY, family, "remote_ip", "is_not_in_cidr", json!(["10.0.0.0/8"]), false),
        (NOBODY, provider, "provider_id", "is_not_in", json!(["google"]), true),
        (NOBODY, provider, "provider_id", "is_not_in", json!([]), true),
        (NOBODY, provider, "provider_id", "is_in", json!(["google"]), false),
        (NOBODY, provider, "provider_id", "is_not_in", json!([1]), false),
        (NOBODY, family, "provider_id", "is_not_in", json!(["google"]), false),
    ] {
        let (conditions, _) = compiled(vec![one(property, operator, values.clone())]);
        let holds = conditions.client_holds(&facts, &options);
        assert_eq!(holds, expected, "{facts:?} {options:?}: {property} {operator} {values}");
    }
}

#[test]
fn conditions_are_anded_and_the_earliest_expiry_counts_in_whatever_order() {
    let verified = || one("client_verified", "is", json!(["true"]));
    let morning = || times(&["F/9-11/UTC"]);
    let day = || times(&["F/true/UTC"]);
    let open = Facts { verified: true, ..NOBODY };
    for (facts, elements, expected) in [
        (open, vec![], "for ever"),
        (open, vec![verified()], "for ever"),
        (open, vec![verified(), morning(), day()], "2021-01-01T11:00:00Z"),
        (open, vec![day(), verified(), morning()], "2021-01-01T11:00:00Z"),
        (open, vec![day(), verified()], "2021-01-01T23:59:59Z"),
        (NOBODY, vec![day(), verified()], "deny"),
        (open, vec![day(), times(&["M/true/UTC"])], "deny"),
        (open, vec![verified(), json!({})], "deny"),
    ] {
        let (conditions, _) = compiled(elements.clone());
        assert_eq!(told(conditions.evaluate(&facts, at(FRIDAY_10), &Options::default())), expected, "{elements:?}");
    }
}

#[test]
fn a_window_lasts_as_long_as_every_condition_says_the_same() {
    let at = |time: &str| at(time).seconds();
    let (day, morning, monday) = (times(&["F/true/UTC"]), times(&["F/9-11/UTC"]), times(&["M/true/UTC"]));
    let (midnight, nine, past_eleven) = ("2021-01-01T00:00:00Z", "2021-01-01T09:00:00Z", "2021-01-01T11:00:01Z");
    for (elements, from, until, open) in [
        (vec![day.clone()], midnight, "2021-01-02T00:00:00Z", Some(at("2021-01-01T23:59:59Z"))),
        (vec![day.clone(), morning.clone()], nine, past_eleven, Some(at("2021-01-01T11:00:00Z"))),
        (vec![morning.clone(), day.clone()], nine, past_eleven, Some(at("2021-01-01T11:00:00Z"))),
        // Monday was too long ago to say since when it is closed.
        (vec![morning.clone(), monday.clone()], FRIDAY_10, past_eleven, None),
        (vec![monday, morning, day], FRIDAY_10, past_eleven, None),
    ] {
        let (conditions, _) = compiled(elements.clone());
        let expected = Window { from: at(from), until: Some(at(until)), open: open.map(Some) };
        assert_eq!(conditions.window_at(Micros::from_seconds(at(FRIDAY_10))), expected, "{elements:?}");
    }
}

#[test]
fn lists_are_in_no_order() {
    let regions = ["US", "FR", "DE", "UA", "AT"];
    let ids: Vec<Uuid> = [5, 3, 1, 4, 2].map(Uuid::from_u128).into();
    let (conditions, _) = compiled(vec![
        one("remote_ip_location_region", "is_in", json!(regions)),
        one("provider_id", "is_in", json!(ids.iter().map(Uuid::to_string).collect::<Vec<_>>())),
    ]);
    for region in regions {
        for id in &ids {
            let facts = Facts { region: Some(region), provider: Some(*id), ..NOBODY };
            assert!(conditions.client_holds(&facts, &Options::default()), "{region} {id}");
        }
    }
}

#[test]
fn null_denies_and_is_no_problem() {
    let open = Some(one("client_verified", "is", json!(["false"])));
    for elements in [None, Some(vec![None]), Some(vec![open.clone(), None]), Some(vec![None, open])] {
        let (conditions, problems) = Conditions::compile(&elements.clone().map(Arc::from));
        assert_eq!(conditions.evaluate(&NOBODY, at(FRIDAY_10), &Options::default()), Verdict::Fails, "{elements:?}");
        assert!(!conditions.client_holds(&NOBODY, &Options::default()), "{elements:?}");
        assert!(problems.is_empty(), "{elements:?}");
        assert_eq!(conditions.window_at(at(FRIDAY_10)), Window::always(false), "{elements:?}");
    }
}

#[test]
fn violated_properties_come_in_order_and_once() {
    let elements = vec![
        Some(times(&["M/true/UTC"])),
        None,
        Some(one("shoe_size", "is", json!(["44"]))),
        Some(one("client_verified", "is", json!(["false"]))),
        Some(json!({"property": 7})),
        Some(json!("text")),
        Some(one("remote_ip_location_region", "is_in", json!(["DE"]))),
        Some(times(&["F/true/UTC"])),
        Some(one("remote_ip_location_region", "is_not_in", json!(["DE"]))),
        Some(one("shoe_size", "is_not", json!([]))),
        Some(one("remote_ip", "is_between", json!([]))),
    ];
    let (conditions, _) = Conditions::compile(&Some(Arc::from(elements)));
    let mut out = vec![Arc::from("remote_ip")];
    conditions.violated(&NOBODY, at(FRIDAY_10), &Options::default(), &mut out);
    let expected = ["remote_ip", "current_utc_datetime", "shoe_size", "remote_ip_location_region"];
    assert_eq!(out.iter().map(|name| &**name).collect::<Vec<_>>(), expected);

    let mut none = Vec::new();
    Conditions::compile(&None).0.violated(&NOBODY, at(FRIDAY_10), &Options::default(), &mut none);
    assert!(none.is_empty());
}

#[test]
fn each_kind_of_problem_is_told_once_and_without_what_stands_in_the_row() {
    let (_, problems) = compiled(vec![
        one("client_verified", "is", json!(["false"])),
        one("password", "is", json!(["secret"])),
        one("remote_ip", "is_in_cidr", json!(["secret"])),
        one("remote_ip", "is_in_cidr", json!(["secret too"])),
        one("secrets", "are", json!([])),
        one("remote_ip", "secret", json!([])),
        json!(["secret"]),
        json!(null),
    ]);
    let found: Vec<(usize, Reason)> = problems.iter().map(|problem| (problem.condition, problem.reason)).collect();
    let expected = [
        (1, Reason::Property),
        (2, Reason::Values("remote_ip")),
        (5, Reason::Operator("remote_ip")),
        (6, Reason::Shape),
    ];
    assert_eq!(found, expected);
    for problem in problems {
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }
}

#[test]
fn absurd_input_denies_and_is_told_once() {
    let deep = (0..100).fold(json!("x"), |inner, _| json!([inner]));
    let long = "x".repeat(1 << 20);
    let many = |text: &str| Json::from(vec![text; 10_000]);
    for element in [
        deep.clone(),
        one("remote_ip", "is_not_in_cidr", json!([deep])),
        one("remote_ip", "is_not_in_cidr", many("10.0.0.0/33")),
        one("remote_ip", "is_not_in_cidr", json!([long])),
        one("current_utc_datetime", "is_in_day_of_week_time_ranges", json!([format!("F/{long}/UTC")])),
        one("current_utc_datetime", "is_in_day_of_week_time_ranges", json!([format!("F/true/{long}")])),
        one("current_utc_datetime", "is_in_day_of_week_time_ranges", many("F/true/Nowhere")),
        one("current_utc_datetime", "is_in_day_of_week_time_ranges", json!(["🕙/🕙-🕚/🌍"])),
        one("current_utc_datetime", "is_in_day_of_week_time_ranges", json!(["\u{0}/\u{0}/\u{0}"])),
        one("current_utc_datetime", "is_in_day_of_week_time_ranges", json!([5])),
        one("client_verified", "is", many("true")),
        one("provider_id", "is_not_in", json!([1e300])),
        one(&long, &long, json!([])),
        json!({"property": {"property": "remote_ip"}, "operator": [], "values": {}}),
        json!({"property": "remote_ip", "operator": "is_not_in_cidr"}),
    ] {
        let (conditions, problems) = compiled(vec![element; 3]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(conditions.evaluate(&NOBODY, at(FRIDAY_10), &Options::default()), Verdict::Fails);
        conditions.violated(&NOBODY, at(FRIDAY_10), &Options::default(), &mut Vec::new());
    }
}

#[test]
fn long_lists_that_are_valid_count_in_full() {
    let networks: Vec<String> = (0..10_000).map(|n| format!("10.{}.{}.0/25", n / 256, n % 256)).collect();
    let ranges: Vec<String> =
        (0..10_000).map(|n| format!("F/{}:{}-{}:{}/UTC", n / 60 % 9, n % 60, n / 60 % 9, n % 60)).collect();
    let regions: Vec<String> = (0..10_000).map(|n| format!("R{n}")).collect();
    let (conditions, problems) = compiled(vec![
        one("remote_ip", "is_in_cidr", json!(networks)),
        one("remote_ip_location_region", "is_in", json!(regions)),
        one("current_utc_datetime", "is_in_day_of_week_time_ranges", json!(ranges)),
    ]);
    assert_eq!(problems, []);
    let facts = |ip: &str| Facts { remote_ip: Some(ip.parse().unwrap()), region: Some("R9999"), ..NOBODY };
    let now = at("2021-01-01T08:59:00.5Z");
    let options = Options::default();
    assert_eq!(told(conditions.evaluate(&facts("10.39.15.7"), now, &options)), "2021-01-01T08:59:00Z");
    assert_eq!(told(conditions.evaluate(&facts("10.39.15.200"), now, &options)), "deny");
    assert_eq!(told(conditions.evaluate(&facts("10.39.16.7"), now, &options)), "deny");
}

#[test]
fn no_time_is_too_far_away() {
    let (conditions, _) = compiled(vec![times(&["F/true/America/New_York", "S/10-11/UTC"])]);
    for now in [i64::MIN, i64::MIN + 1, -377_705_116_800_000_000, 253_402_300_799_000_000, i64::MAX - 1, i64::MAX] {
        let window = conditions.window_at(Micros(now));
        assert!(window.from <= Micros(now).seconds(), "{now}");
        assert!(window.until.is_none_or(|until| until > Micros(now).seconds()), "{now}");
    }
    assert_eq!(conditions.window_at(Micros(i64::MAX)).open, None);
}
