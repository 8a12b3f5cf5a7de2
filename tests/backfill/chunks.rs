//! The rows of a chunk: which, in which order, printed how.

use penstock_core::backfill::interface::ChunkRequest;

use crate::work::{Work, column, kind, on, texts, work, work_with};

/// Everything that a session could print otherwise.
const PRINTED: &str = "
CREATE TABLE t (id int PRIMARY KEY, account_id int, at timestamptz, day date, every interval, share float8, raw bytea,
                price money, flag bool, gone text, note text, fixed char(4));
INSERT INTO t VALUES (1, 7, '2020-02-03 04:05:06.789+00', '2020-02-03', '1 year 2 days 03:04:05', 0.1::float8 + 0.2, '\\x00ff',
                      1234.5, true, NULL, E'tab\\there\\nline \\\\N', 'ab');
";

const SETTINGS: [&str; 6] = [
    "datestyle = 'SQL, DMY'",
    "timezone = 'Asia/Tokyo'",
    "intervalstyle = 'iso_8601'",
    "extra_float_digits = -5",
    "bytea_output = 'escape'",
    "search_path = 'nowhere'",
];

#[tokio::test]
async fn values_are_printed_as_the_stream_prints_them_whatever_the_database_is_set_to() {
    let mut work = work(PRINTED);
    let database = &work.database.address.database;
    for setting in SETTINGS {
        work.sql(&format!("ALTER DATABASE \"{database}\" SET {setting}"));
    }
    assert!(work.sql("SHOW datestyle").contains("DMY"), "the settings count for others");
    let request = work.request("t").await;
    let chunk = work.read(request).await;
    let row: Vec<Option<String>> = texts(&chunk).remove(0);
    let row: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
    let expected = [
        Some("1"),
        Some("7"),
        Some("2020-02-03 04:05:06.789+00"),
        Some("2020-02-03"),
        Some("1 year 2 days 03:04:05"),
        Some("0.30000000000000004"),
        Some("\\x00ff"),
        Some("$1,234.50"),
        Some("t"),
        None,
        Some("tab\there\nline \\N"),
        Some("ab  "),
    ];
    assert_eq!(row, expected);
}

const NUMBERS: &str = "
CREATE TABLE t (id int PRIMARY KEY, account_id text, note text);
INSERT INTO t SELECT n, CASE n % 4 WHEN 0 THEN NULL ELSE 'a' || n % 4 END, repeat('x', 1000) FROM generate_series(1, 100) n;
";

async fn ids(work: &mut Work, change: impl FnOnce(ChunkRequest) -> ChunkRequest) -> (Vec<String>, bool) {
    let request = work.request("t").await;
    let chunk = work.read(change(request)).await;
    (column(&texts(&chunk), 0), chunk.exhausted)
}

#[tokio::test]
async fn a_chunk_is_bounded_by_keys_rows_and_account() {
    let mut work = work(NUMBERS);
    let key = |text: &str| vec![text.to_owned()];
    let numbers = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>();
    let all = ids(&mut work, |request| request).await;
    assert_eq!(all, (numbers(&(1..=100).collect::<Vec<_>>()), true));
    let few = ids(&mut work, |request| ChunkRequest { rows_max: 3, after: key("5"), ..request }).await;
    assert_eq!(few, (numbers(&[6, 7, 8]), false));
    let until = ids(&mut work, |request| ChunkRequest { after: key("5"), until: key("8"), ..request }).await;
    assert_eq!(until, (numbers(&[6, 7, 8]), true));
    let exactly = ids(&mut work, |request| ChunkRequest { rows_max: 3, until: key("3"), ..request }).await;
    assert_eq!(exactly, (numbers(&[1, 2, 3]), false), "whether there are more is for the next to find out");
    let of = |account: &str| Some(account.to_owned());
    let one =
        ids(&mut work, |request| ChunkRequest { rows_max: 2, after: key("6"), account: of("a3"), ..request }).await;
    assert_eq!(one, (numbers(&[7, 11]), false));
    let none = ids(&mut work, |request| ChunkRequest { rows_max: 2, account: of("global"), ..request }).await;
    assert_eq!(none, (numbers(&[4, 8]), false));
    let unknown = ids(&mut work, |request| ChunkRequest { account: of("A3"), ..request }).await;
    assert_eq!(unknown, (numbers(&[]), true));
}

/// Equal under their collation, two accounts are two: what they are known by is their text.
#[tokio::test]
async fn an_account_is_one_text_whatever_the_collation_takes_for_equal() {
    let mut work = work(
        "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE t (id int PRIMARY KEY, account_id text COLLATE blind, note text);
         INSERT INTO t VALUES (1, 'a'), (2, 'A'), (3, 'a')",
    );
    let of = |request: ChunkRequest| ChunkRequest { account: Some("a".to_owned()), ..request };
    assert_eq!(ids(&mut work, of).await.0, ["1", "3"]);
}

/// Connections that a chunk was read on, or that are kept for the next.
const SESSIONS: &str = "SELECT coalesce(string_agg(pid::text, ' '), 'none') FROM pg_stat_activity \
                        WHERE application_name = 'penstock backfill' AND datname = current_database() \
                        AND query NOT LIKE '%pg_attribute%'";
const UNLOCKED: &str = "SELECT count(*) = 0 FROM pg_locks WHERE relation = 't'::regclass AND pid <> pg_backend_pid()";

#[tokio::test]
async fn a_few_rows_more_than_fill_a_chunk_cost_no_connection() {
    let mut work = work(NUMBERS);
    work.make_slot();
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let full = |request| ChunkRequest { bytes_max: 10_000, rows_max: 15, ..request };
        let (found, exhausted) = ids(&mut work, full).await;
        assert_eq!((found.len(), exhausted), (10, false), "each row has some more than 1,000 bytes");
        work.until(UNLOCKED).await;
        sessions.push(work.sql(SESSIONS));
    }
    assert!(sessions.iter().all(|one| *one == sessions[0] && one.parse::<u32>().is_ok()), "{sessions:?}");
    let (found, exhausted) = ids(&mut work, |request| ChunkRequest { bytes_max: 1, rows_max: 2, ..request }).await;
    assert_eq!((found.len(), exhausted), (1, false), "one row at least");
    let last = |request| ChunkRequest { bytes_max: 1, rows_max: 2, after: vec!["99".to_owned()], ..request };
    assert_eq!(ids(&mut work, last).await, (vec!["100".to_owned()], false), "what filled it need not be the last");
}

/// Far more than fits into any buffer on the way: the server is still at it when the chunk is full.
#[tokio::test]
async fn a_copy_that_is_cut_is_closed_behind_its_high_mark() {
    let mut work = work(NUMBERS);
    work.sql("INSERT INTO t SELECT n, 'b', repeat('y', 1000) FROM generate_series(101, 60000) n");
    work.make_slot();
    for _ in 0..3 {
        let (found, exhausted) = ids(&mut work, |request| ChunkRequest { bytes_max: 10_000, ..request }).await;
        assert_eq!((found.len(), exhausted), (10, false));
        work.until(UNLOCKED).await;
        assert!(work.sessions().iter().all(|state| state == "idle"), "{:?}", work.sessions());
        assert!(work.sql(SESSIONS).parse::<u32>().is_ok(), "the one that wrote the mark is kept");
    }
    assert_eq!(work.marks().len(), 6);
}

/// The snapshot is behind the low mark, the rows are no older than the snapshot, and the high mark is behind both.
#[tokio::test]
async fn marks_enclose_the_snapshot_and_are_alone_in_their_transactions() {
    let mut work = work(NUMBERS);
    work.make_slot();
    let before: u32 =
        work.sql("BEGIN; INSERT INTO t VALUES (-1); SELECT pg_current_xact_id(); COMMIT").parse().unwrap();
    let request = work.request("t").await;
    let number = request.number;
    let chunk = work.read(request).await;
    assert!(chunk.snapshot.sees(before));
    assert_eq!(column(&texts(&chunk), 0)[0], "-1");
    let behind: u32 = work.sql("SELECT pg_current_xact_id()").parse().unwrap();
    assert!(!chunk.snapshot.sees(behind));
    assert_eq!(work.marks(), [format!("test {number} low"), format!("test {number} high")]);
    let kinds: Vec<u8> = work.stream().iter().map(|message| message[0]).collect();
    assert_eq!(kinds, b"BRICBMCBMC");
}

#[tokio::test]
async fn an_excluded_column_is_not_read_and_needs_no_right() {
    let work = work_with(
        "CREATE TABLE t (id int PRIMARY KEY, account_id int, secret text, note text);
         INSERT INTO t VALUES (1, 1, 'hush', 'n')",
        &[],
    );
    let role = format!("reader_{}", work.database.address.database);
    work.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'pw'; GRANT SELECT (id, account_id, note) ON t TO {role}"));
    let settings = [
        ("TABLES__CAPTURE", "public.*"),
        ("SOURCE__USER", &role),
        ("SOURCE__PASSWORD", "pw"),
        ("TABLES__EXCLUDE", "public.t.secret"),
    ];
    let config = work.database.config(&settings[..3]);
    let mut open = on(work.database, config);
    let request = open.request("t").await;
    let why = open.fail(request).await;
    assert!(why.starts_with("42501: permission denied for table t"), "{why}");
    let refused = open.survey(crate::work::of_table("t")).await.unwrap_err();
    assert!(refused.why().contains(&format!("GRANT SELECT ON \"public\".\"t\" TO \"{role}\"")), "{refused:?}");

    let config = open.database.config(&settings);
    let mut excluding = on(open.database, config);
    assert_eq!(excluding.ranges("t").await.len(), 1);
    let request = excluding.request("t").await;
    let chunk = excluding.read(request).await;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(texts(&chunk), [[text("1"), text("1"), None, text("n")]]);
}

#[tokio::test]
async fn a_table_that_is_another_one_by_now_is_handed_in_as_it_is() {
    let mut work = work(NUMBERS);
    work.make_slot();
    let request = work.request("t").await;
    work.sql("ALTER TABLE t DROP COLUMN note; ALTER TABLE t ADD COLUMN other int DEFAULT 3");
    let chunk = work.read(request.clone()).await;
    assert_eq!((chunk.rows.len(), chunk.exhausted), (0, false));
    assert_eq!(chunk.relation, work.describe("t").await.unwrap().relation);
    // Of another type under the same name: read as it is, and told by its relation.
    let request = work.request("t").await;
    work.sql("ALTER TABLE t ALTER COLUMN other TYPE text USING 'x' || other");
    let chunk = work.read(request).await;
    assert_eq!((texts(&chunk)[0][2].as_deref(), chunk.relation.columns[2].type_oid), (Some("x3"), 25));
}

#[tokio::test]
async fn a_table_that_is_gone_has_nothing_left_to_read() {
    use penstock::backfill::Answer;
    use penstock_core::backfill::interface::{Ask, Undescribed};
    let mut work = work(NUMBERS);
    let request = work.request("t").await;
    work.sql("DROP TABLE t");
    let number = request.number;
    match work.answer(Ask::Read(request)).await {
        Answer::Described { table, described: Err(Undescribed::Gone) } => assert_eq!(table.1, "t"),
        other => panic!("{}", kind(&other)),
    }
    match work.next().await {
        Answer::ChunkFailed { number: failed, .. } => assert_eq!(failed, number),
        other => panic!("{}", kind(&other)),
    }
}
