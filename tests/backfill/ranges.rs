//! Tables parted into ranges of keys: read one after the other, they are the table.

use penstock::backfill::Answer;
use penstock_core::backfill::interface::{Ask, Unsurveyed};
use penstock_wire::reload::{ReloadRange, Scope};

use crate::work::{Work, column, kind, of_table, work, work_with};

/// Enough rows for three ranges.
const ROWS: usize = 150_000;

/// Reads all ranges of a table and compares with what SELECT gives in key order.
async fn compare(work: &mut Work, table: &str, key: &str, ranges_expected: usize) {
    work.sql(&format!("ANALYZE {table}"));
    let ranges = work.ranges(table).await;
    assert_eq!(ranges.len(), ranges_expected, "{ranges:?}");
    let mut found = Vec::new();
    let total: u64 = ranges.iter().map(|range| range.rows_estimated).sum();
    for range in &ranges {
        let rows = work.read_range(range, 20_000).await;
        let share = rows.len() * ranges.len() * 100 / ROWS;
        assert!(ranges.len() == 1 || (20..300).contains(&share), "{share} % of an even share: {range:?}");
        let estimated = usize::try_from(range.rows_estimated).unwrap();
        assert!(estimated < rows.len() * 4 + 5_000, "{estimated} rows were thought to be {}", rows.len());
        found.extend(rows);
    }
    assert!(usize::try_from(total).unwrap() > found.len() / 2, "{total}");
    let expected = work.sql(&format!("SELECT id FROM {table} ORDER BY {key}"));
    assert!(column(&found, 0).iter().map(String::as_str).eq(expected.lines()), "the ranges are not the table");
}

#[tokio::test]
async fn integer_keys() {
    let mut work = work(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, account_id int); INSERT INTO t SELECT n * 3 - 200000, n FROM generate_series(1, {ROWS}) n"
    ));
    compare(&mut work, "t", "id", 3).await;
}

/// Under a collation other than C, the order of letters is not that of bytes.
#[tokio::test]
async fn text_keys_with_whatever_is_in_them() {
    let odd = "(ARRAY['a', 'A', 'z', 'Z', 'ß', 'é', '''', '\"', E'\\\\', E'\\\\N', E'\\t', E'\\n', E'\\b', '%', ' ', '$1', '--', 'Ω'])";
    let mut work = work(&format!(
        "CREATE TABLE t (id text COLLATE \"en-x-icu\" PRIMARY KEY, account_id int);
         INSERT INTO t SELECT {odd}[1 + n % 18] || {odd}[1 + n / 18 % 18] || '_' || n, n FROM generate_series(1, {ROWS}) n; ANALYZE t"
    ));
    let ranges = work.ranges("t").await;
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    let mut rows = Vec::new();
    for range in &ranges {
        rows.extend(work.read_range(range, 20_000).await);
    }
    // The line breaks in the keys keep psql's lines from being rows: the numbers in the other column stand for them.
    let expected = work.sql("SELECT account_id FROM t ORDER BY id");
    assert_eq!(rows.len(), ROWS);
    assert!(column(&rows, 1).iter().map(String::as_str).eq(expected.lines()));
    let hashes = work.sql("SELECT md5(id) FROM t ORDER BY id LIMIT 1000");
    let hash = |text: &String| work.sql(&format!("SELECT md5({})", penstock::config::quote_literal(text)));
    for (text, expected) in column(&rows, 0).iter().zip(hashes.lines()).step_by(37) {
        assert_eq!(hash(text), expected, "{text:?}");
    }
}

#[tokio::test]
async fn uuid_keys() {
    let mut work = work(&format!(
        "CREATE TABLE t (id uuid PRIMARY KEY, account_id int); INSERT INTO t SELECT md5(n::text)::uuid, n FROM generate_series(1, {ROWS}) n"
    ));
    compare(&mut work, "t", "id", 3).await;
}

#[tokio::test]
async fn composite_keys_whose_first_columns_repeat() {
    let mut work = work(&format!(
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
         CREATE TABLE t (id int, account_id uuid, mood mood, at timestamptz(3), PRIMARY KEY (account_id, mood, at));
         INSERT INTO t SELECT n, md5((n % 7)::text)::uuid, (enum_range(NULL::mood))[1 + n % 3], 'epoch'::timestamptz + n * interval '1 s'
           FROM generate_series(1, {ROWS}) n"
    ));
    compare(&mut work, "t", "account_id, mood, at", 3).await;
}

#[tokio::test]
async fn a_partitioned_table_is_one_and_its_partitions_are_none() {
    let mut work = work(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, account_id int) PARTITION BY RANGE (id);
         CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (70000);
         CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (70000) TO (1000000);
         INSERT INTO t SELECT n, n FROM generate_series(1, {ROWS}) n; ANALYZE t"
    ));
    let all = work.survey(Scope::default()).await.unwrap();
    assert!(all.iter().all(|range| range.table == "t"), "{all:?}");
    compare(&mut work, "t", "id", 3).await;
    let refused = work.survey(of_table("t_1")).await;
    assert_eq!(
        refused,
        Err(Unsurveyed::Refused("public.t_1 is a partition of public.t: reload that table".to_owned()))
    );
}

#[tokio::test]
async fn a_table_that_inherits_is_a_table_of_its_own() {
    let mut work = work(
        "CREATE TABLE t (id int PRIMARY KEY, account_id int); CREATE TABLE c (PRIMARY KEY (id)) INHERITS (t);
         INSERT INTO t VALUES (1, 1), (2, 2); INSERT INTO c VALUES (2, 2), (3, 3)",
    );
    let all = work.survey(Scope::default()).await.unwrap();
    let tables: Vec<&str> = all.iter().map(|range| range.table.as_str()).collect();
    assert_eq!(tables, ["c", "t"]);
    for (range, expected) in all.iter().zip([["2", "3"], ["1", "2"]]) {
        assert_eq!(column(&work.read_range(range, 10).await, 0), expected);
    }
}

#[tokio::test]
async fn small_tables_and_accounts_are_one_range() {
    let mut work = work_with(
        "CREATE TABLE a (id int PRIMARY KEY, account_id uuid); INSERT INTO a SELECT n, md5((n % 10)::text)::uuid FROM generate_series(1, 1000) n;
         CREATE TABLE b (id int PRIMARY KEY, account_id int); INSERT INTO b SELECT n, n FROM generate_series(1, 150000) n;
         CREATE TABLE left_out (id int PRIMARY KEY, account_id int); CREATE TABLE empty (id int PRIMARY KEY, account_id text);
         ANALYZE",
        &[("TABLES__LEAVE_OUT", "public.left_out")],
    );
    let told = |ranges: Vec<ReloadRange>| -> Vec<(String, u64)> {
        ranges.into_iter().map(|range| (range.table, range.rows_estimated)).collect()
    };
    let of = |account: &str| Scope { table: None, account: Some(account.to_owned()) };
    let tables: Vec<String> = told(work.survey(Scope::default()).await.unwrap()).into_iter().map(|one| one.0).collect();
    assert_eq!(tables, ["a", "b", "b", "b", "empty"]);
    // An account that is no number has no rows in b; the estimates are the planner's for one value.
    let account = work.sql("SELECT md5('3')::uuid");
    let ranges = told(work.survey(of(&account)).await.unwrap());
    assert_eq!(ranges.iter().map(|one| one.0.as_str()).collect::<Vec<_>>(), ["a", "empty"]);
    assert_eq!(ranges[0].1, 100);
    assert_eq!(told(work.survey(of("global")).await.unwrap()).len(), 3);
    assert_eq!(told(work.survey(of("77")).await.unwrap())[0], ("b".to_owned(), 1));

    for (scope, words) in [
        (of("077"), "account \"077\" is written \"77\" in public.b: ask for that"),
        (of(&account.to_uppercase()), "is written"),
        (
            Scope { account: Some("x".into()), ..of_table("b") },
            "account \"x\" is no integer, as public.b's accounts are",
        ),
        (of_table("left_out"), "public.left_out is not a captured table"),
        (of_table("nothing"), "public.nothing is not a captured table"),
    ] {
        let refused = work.survey(scope.clone()).await;
        assert!(refused.as_ref().is_err_and(|refused| refused.why().contains(words)), "{scope:?}: {refused:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_its_remedy() {
    let work = work(
        "CREATE TABLE keyless (id int, account_id int); CREATE TABLE alien (id int PRIMARY KEY);
         CREATE TABLE hidden (id int PRIMARY KEY, account_id int); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
         CREATE TABLE closed (id int PRIMARY KEY, account_id int)",
    );
    let role = format!("reader_{}", work.database.address.database);
    work.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'; GRANT SELECT ON keyless, alien, hidden TO {role}"));
    let config =
        work.database.config(&[("TABLES__CAPTURE", "public.*"), ("SOURCE__USER", &role), ("SOURCE__PASSWORD", "pw")]);
    let mut work = crate::work::on(work.database, config);
    for (table, words) in [
        ("keyless", "public.keyless has no primary key".to_owned()),
        ("alien", "public.alien has no account column account_id".to_owned()),
        ("closed", format!("GRANT SELECT ON \"public\".\"closed\" TO \"{role}\"")),
        ("hidden", format!("ALTER ROLE \"{role}\" BYPASSRLS")),
    ] {
        let refused = work.survey(of_table(table)).await;
        assert!(refused.as_ref().is_err_and(|refused| refused.why().contains(&words)), "{table}: {refused:?}");
    }
}

/// More than one is answered at a time, each to its own.
#[tokio::test]
async fn surveys_run_side_by_side() {
    let mut work = work("CREATE TABLE t (id int PRIMARY KEY, account_id int)");
    for reload in ["one", "two", "three"] {
        work.backfiller.ask(Ask::Survey { reload: reload.into(), scope: Scope::default() });
    }
    let mut answered = Vec::new();
    for _ in 0..3 {
        match work.next().await {
            Answer::Surveyed { reload, surveyed } => {
                assert_eq!(surveyed.unwrap().len(), 1);
                answered.push(reload);
            }
            other => panic!("{}", kind(&other)),
        }
    }
    answered.sort();
    assert_eq!(answered, ["one", "three", "two"]);
}
