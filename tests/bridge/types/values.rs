//! Columns of every type, and random values of each, as Postgres reads them.
//!
//! The extremes of a type are as likely as all else together: they are where encoders err.

use std::ops::RangeInclusive;

use proptest::prelude::*;
use proptest::sample::select;

/// A column, and what may be in it.
pub struct Column {
    pub name: String,
    pub sql_type: String,
    /// Chosen to travel as a decimal.
    pub decimal: bool,
    pub literals: BoxedStrategy<String>,
}

/// Types and functions that the columns need.
pub const TYPES: &str = r#"
CREATE EXTENSION citext;
CREATE EXTENSION hstore;
CREATE TYPE mood AS ENUM ('sad', 'o''k', 'very "happy"', 'NULL', '{odd,}', 'große Freude 🌊', 'back\slash');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN score AS int CHECK (value >= 0);
CREATE DOMAIN high_score AS score;
CREATE DOMAIN price AS numeric(12, 2);
CREATE DOMAIN feeling AS mood;
CREATE DOMAIN scores AS int[];
"#;

/// All columns, in the table's order.
pub fn columns() -> Vec<Column> {
    let scalars = scalars();
    let mut columns: Vec<Column> = Vec::new();
    for (sql_type, literals) in &scalars {
        add(&mut columns, sql_type, literals.clone());
        add(&mut columns, &format!("{sql_type}[]"), array(literals.clone()));
    }
    for (sql_type, literals) in unlisted() {
        add(&mut columns, sql_type, literals);
    }
    for (sql_type, literals) in decimals() {
        add(&mut columns, sql_type, literals);
        columns.last_mut().expect("the one just added").decimal = true;
    }
    columns
}

fn add(columns: &mut Vec<Column>, sql_type: &str, literals: BoxedStrategy<String>) {
    columns.push(Column {
        name: format!("c{}", columns.len()),
        sql_type: sql_type.to_owned(),
        decimal: false,
        literals,
    });
}

/// Types that have a form of their own on the wire. Arrays of them have, too.
fn scalars() -> Vec<(&'static str, BoxedStrategy<String>)> {
    let integer = |low: i64, high: i64| prop_oneof![select(vec![low, low + 1, -1, 0, 1, high]), low..=high].boxed();
    let shown = |numbers: BoxedStrategy<i64>| numbers.prop_map(|number| number.to_string()).boxed();
    vec![
        ("boolean", select(vec!["true", "false"]).prop_map(str::to_owned).boxed()),
        ("smallint", shown(integer(i64::from(i16::MIN), i64::from(i16::MAX)))),
        ("integer", shown(integer(i64::from(i32::MIN), i64::from(i32::MAX)))),
        ("bigint", shown(integer(i64::MIN, i64::MAX))),
        ("real", any::<u32>().prop_map(|bits| float(f32::from_bits(bits).is_nan(), f32::from_bits(bits))).boxed()),
        (
            "double precision",
            prop_oneof![
                select(vec![
                    f64::MIN,
                    f64::MAX,
                    f64::MIN_POSITIVE,
                    5e-324,
                    0.0,
                    -0.0,
                    0.1,
                    1e15,
                    1e16,
                    1e22,
                    9007199254740993.0
                ]),
                select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
                any::<u64>().prop_map(f64::from_bits),
                (any::<i32>(), -8..8).prop_map(|(digits, power)| f64::from(digits) * 10f64.powi(power)),
            ]
            .prop_map(|number| float(number.is_nan(), number))
            .boxed(),
        ),
        ("numeric", numeric()),
        ("numeric(20, 5)", "-?[0-9]{1,15}(\\.[0-9]{0,7})?".boxed()),
        ("text", any_text()),
        ("character varying(40)", short_text(40)),
        ("character(7)", short_text(7)),
        ("citext", any_text()),
        ("name", "\\PC{0,15}".boxed()),
        ("uuid", any::<u128>().prop_map(|bits| format!("{bits:032x}")).boxed()),
        ("timestamp", timestamp("")),
        (
            "timestamp with time zone",
            prop_oneof![timestamp("+00"), timestamp("+14:30"), timestamp("-11:45:30")].boxed(),
        ),
        ("date", date(-4713..=5_874_897).prop_map(|(date, bc)| date + bc).boxed().infinite()),
        ("time", time(24).boxed()),
        ("json", json().prop_map(|value| format!(" {value:#}\t")).boxed()),
        ("jsonb", json().prop_map(|value| value.to_string()).boxed()),
        ("bytea", proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| hex(&bytes)).boxed()),
        ("inet", prop_oneof![inet4(), inet6()].boxed()),
        ("cidr", cidr()),
        ("macaddr", any::<[u8; 6]>().prop_map(|bytes| hex(&bytes)[2..].to_owned()).boxed()),
        ("mood", mood()),
    ]
}

/// Domains, shapes that Avro has no form for, and types that travel as their text.
fn unlisted() -> Vec<(&'static str, BoxedStrategy<String>)> {
    let small = || (0..1000u32).prop_map(|number| number.to_string());
    let point = || (any::<i16>(), any::<i16>()).prop_map(|(x, y)| format!("({x}.5,{y})"));
    vec![
        ("score", small().boxed()),
        ("high_score", small().boxed()),
        ("price", "-?[0-9]{1,10}\\.[0-9]{2}".boxed()),
        ("feeling", mood()),
        ("scores", array(small().boxed())),
        ("score[]", array(small().boxed())),
        ("interval", interval()),
        ("interval[]", array(interval())),
        ("point", point().boxed()),
        (
            "polygon",
            proptest::collection::vec(point(), 3..6).prop_map(|points| format!("({})", points.join(","))).boxed(),
        ),
        ("tsvector", "[a-f]{1,3}:[1-9]A( [g-k]{1,3}:[1-9],1[0-9])?".boxed()),
        ("tsquery", "[a-f]{1,3} (&|\\|) ![g-k]{1,3}".boxed()),
        (
            "int4range",
            prop_oneof![Just("empty".to_owned()), "\\[-?[0-9]{1,4},1[0-9]{5}\\)", "\\(,[0-9]{1,4}\\]"].boxed(),
        ),
        ("int8multirange", "\\{\\[1,[2-9]\\),\\[[2-9][0-9],\\)\\}".boxed()),
        ("pair", (any::<i32>(), any_text()).prop_map(|(a, b)| format!("({a},{})", composite(&b))).boxed()),
        ("money", "-?[0-9]{1,12}\\.[0-9]{2}".boxed()),
        ("bit(5)", "[01]{5}".boxed()),
        ("bit varying(40)", "[01]{0,40}".boxed()),
        ("xml", "<a b=\"[a-z]{0,5}\">[ a-zä]{0,9}</a>".boxed()),
        (
            "hstore",
            ("[a-z]{1,4}", any_text()).prop_map(|(key, value)| format!("{key}=>{}", always_quoted(&value))).boxed(),
        ),
        ("time with time zone", time(24).prop_map(|time| time + "+05:30").boxed()),
        ("macaddr8", any::<[u8; 8]>().prop_map(|bytes| hex(&bytes)[2..].to_owned()).boxed()),
        ("pg_lsn", any::<(u32, u32)>().prop_map(|(high, low)| format!("{high:X}/{low:X}")).boxed()),
        ("oid", any::<u32>().prop_map(|oid| oid.to_string()).boxed()),
        ("\"char\"", "[a-zA-Z\"'\\\\,{}]".boxed()),
        ("pg_catalog.regtype", select(vec!["integer", "text", "jsonb", "mood"]).prop_map(str::to_owned).boxed()),
    ]
}

/// numeric of every shape that can be declared, as decimals: within 128 bits and beyond, all digits behind the point,
/// more than all of them, and none of the last ones.
fn decimals() -> Vec<(&'static str, BoxedStrategy<String>)> {
    let nines = |count: usize| Just(format!("-{}", "9".repeat(count)));
    vec![
        ("numeric(12,2)", prop_oneof![Just("0".to_owned()), "-?[0-9]{1,10}(\\.[0-9]{0,2})?", nines(10)].boxed()),
        ("numeric(38,0)", prop_oneof!["-?[0-9]{1,38}", nines(38)].boxed()),
        (
            "numeric(39,0)",
            prop_oneof!["-?[0-9]{1,39}", "-?1701411834604692317316873037158841057(2[78]|29)", nines(39)].boxed(),
        ),
        ("numeric(150,60)", prop_oneof!["-?[0-9]{1,90}\\.[0-9]{0,60}", nines(90)].boxed()),
        ("numeric(1000,500)", "-?[0-9]{1,500}(\\.[0-9]{0,500})?".boxed()),
        ("numeric(5,5)", "-?0?\\.[0-9]{1,5}".boxed()),
        ("numeric(3,5)", "-?0\\.00[0-9]{3}".boxed()),
        ("numeric(4,-2)", "-?[0-9]{1,5}".boxed()),
        ("price", "-?[0-9]{1,10}\\.[0-9]{2}".boxed()),
    ]
}

trait Infinite {
    fn infinite(self) -> BoxedStrategy<String>;
}

impl Infinite for BoxedStrategy<String> {
    fn infinite(self) -> Self {
        prop_oneof![1 => select(vec!["infinity".to_owned(), "-infinity".to_owned()]), 9 => self].boxed()
    }
}

fn float(is_nan: bool, number: impl std::fmt::Debug) -> String {
    if is_nan { "NaN".to_owned() } else { format!("{number:?}") }
}

fn numeric() -> BoxedStrategy<String> {
    let odd =
        ["NaN", "Infinity", "-Infinity", "0", "0.000", "-0.0", "1e1000", "1e-1000", "-99999.99999", "10000", "0.0001"];
    prop_oneof![
        select(odd.to_vec()).prop_map(str::to_owned),
        "-?[0-9]{1,60}(\\.[0-9]{1,40})?",
        "-?[1-9]0{0,30}(\\.0{1,9})?",
    ]
    .boxed()
}

/// Any characters but the one that Postgres has not.
fn any_text() -> BoxedStrategy<String> {
    let odd = [
        "",
        " ",
        "NULL",
        "null",
        "{}",
        "{\"a\",NULL}",
        "\\",
        "\"",
        "'",
        "\\N",
        "\t\r\n\x0b\x0c",
        "\u{feff}",
        "ﬀ\u{301}🌊",
    ];
    prop_oneof![
        select(odd.to_vec()).prop_map(str::to_owned),
        "[a-z ,{}\"'\\\\]{0,12}",
        any::<String>().prop_map(|text| text.replace('\0', "")),
    ]
    .boxed()
}

/// At most so many characters.
fn short_text(length: usize) -> BoxedStrategy<String> {
    any_text().prop_map(move |text| text.chars().take(length).collect()).boxed()
}

fn mood() -> BoxedStrategy<String> {
    let labels = ["sad", "o'k", "very \"happy\"", "NULL", "{odd,}", "große Freude 🌊", "back\\slash"];
    select(labels.to_vec()).prop_map(str::to_owned).boxed()
}

/// A date and its era; years as astronomers count them, without the year 0 that Postgres' notation lacks.
fn date(years: RangeInclusive<i64>) -> BoxedStrategy<(String, &'static str)> {
    let edges = [*years.start(), *years.end(), -1, 1, 4, 1582, 1900, 1969, 1970, 2000, 2024, 9999, 10_000];
    let edges: Vec<i64> = edges.into_iter().filter(|year| years.contains(year)).collect();
    let years = prop_oneof![select(edges), years, 1900i64..2100].prop_filter("no year 0", |year| *year != 0);
    let days = prop_oneof![(1..=12u8, 1..=28u8), Just((12, 31)), Just((3, 1)), Just((1, 30))];
    (years, days)
        .prop_map(|(year, (month, day))| {
            // What is before November 4714 BC is before Postgres' time, and what is after November is surely within it.
            let month = if year == -4713 { 12 } else { month };
            (format!("{:04}-{month:02}-{day:02}", year.abs()), if year < 0 { " BC" } else { "" })
        })
        .boxed()
}

/// Up to `hours` o'clock, which is a time of its own.
fn time(hours: u8) -> impl Strategy<Value = String> + Clone {
    let usual =
        (0..24u8, 0..60u8, 0..60u8, prop_oneof![Just(0), Just(1), Just(999_999), Just(500_000), 0..1_000_000u32]);
    let usual =
        usual.prop_map(|(hour, minute, second, micros)| format!("{hour:02}:{minute:02}:{second:02}.{micros:06}"));
    prop_oneof![9 => usual, 1 => Just(if hours == 24 { "24:00:00".to_owned() } else { "00:00:00".to_owned() })]
}

/// What the wire can hold: the last years of Postgres' range are beyond 64 bits of microseconds since 1970.
fn timestamp(zone: &'static str) -> BoxedStrategy<String> {
    let instants =
        (date(-4712..=294_246), time(23)).prop_map(move |((date, bc), time)| format!("{date} {time}{zone}{bc}"));
    instants.boxed().infinite()
}

fn json() -> BoxedStrategy<serde_json::Value> {
    use serde_json::Value as Json;
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_filter("JSON has only finite numbers", |number| number.is_finite()).prop_map(Json::from),
        any_text().prop_map(Json::from),
    ];
    let node = leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map(any_text(), inner, 0..4).prop_map(Json::from_iter),
        ]
    });
    node.boxed()
}

fn inet4() -> BoxedStrategy<String> {
    (any::<[u8; 4]>(), 0..=33u8)
        .prop_map(|(address, mask)| with_mask(std::net::Ipv4Addr::from(address), mask, 32))
        .boxed()
}

fn inet6() -> BoxedStrategy<String> {
    let addresses = prop_oneof![
        any::<u128>(),
        select(vec![0, 1, 0xffff_0102_0304, u128::MAX, 0xfe80 << 112, 0x2001_0db8 << 96, 0x0102_0304]),
        any::<[bool; 8]>().prop_map(|groups| groups.iter().fold(0, |bits, set| bits << 16 | u128::from(*set))),
    ];
    (addresses, 0..=129u8).prop_map(|(bits, mask)| with_mask(std::net::Ipv6Addr::from(bits), mask, 128)).boxed()
}

fn with_mask(address: impl std::fmt::Display, mask: u8, longest: u8) -> String {
    if mask > longest { address.to_string() } else { format!("{address}/{mask}") }
}

/// Networks: no bit behind the mask.
fn cidr() -> BoxedStrategy<String> {
    let four = (any::<u32>(), 0..=32u8).prop_map(|(bits, mask)| {
        let kept = u32::MAX.checked_shl(32 - u32::from(mask)).unwrap_or(0);
        format!("{}/{mask}", std::net::Ipv4Addr::from(bits & kept))
    });
    let six = (any::<u128>(), 0..=128u8).prop_map(|(bits, mask)| {
        let kept = u128::MAX.checked_shl(128 - u32::from(mask)).unwrap_or(0);
        format!("{}/{mask}", std::net::Ipv6Addr::from(bits & kept))
    });
    prop_oneof![four, six].boxed()
}

fn interval() -> BoxedStrategy<String> {
    (any::<i16>(), any::<i16>(), any::<i32>())
        .prop_map(|(months, days, micros)| format!("{months} months {days} days {micros} microseconds"))
        .boxed()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn always_quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A composite's field: quotes are doubled there.
fn composite(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""))
}

/// Arrays: mostly of one dimension, some with other bounds or more dimensions, with and without NULLs.
fn array(elements: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let element = prop_oneof![1 => Just("NULL".to_owned()), 4 => elements.prop_map(|text| always_quoted(&text))];
    let row = move |length: RangeInclusive<usize>| proptest::collection::vec(element.clone(), length).prop_map(braces);
    let bounds = (-3..4i32, 1..4i32).prop_flat_map({
        let row = row.clone();
        move |(low, count)| {
            let length = usize::try_from(count).expect("a small count");
            row(length..=length).prop_map(move |items| format!("[{low}:{}]={items}", low + count - 1))
        }
    });
    let two = (1..3usize, 1..3usize).prop_flat_map({
        let row = row.clone();
        move |(outer, inner)| proptest::collection::vec(row(inner..=inner), outer..=outer).prop_map(braces)
    });
    prop_oneof![1 => Just("{}".to_owned()), 6 => row(1..=4), 1 => bounds, 1 => two].boxed()
}

fn braces(items: Vec<String>) -> String {
    format!("{{{}}}", items.join(","))
}
