//! `cargo xtask bench rebuild`: how long the consumer takes to rebuild its state, against the plainest reader of the same
//! topic.
//!
//! The tables of the access schema are filled and loaded into a topic. Each round then reads all of it twice, from the start
//! of a process to its end: `penstock replay --count`, which looks at headers and only counts, and `penstock-access show
//! --rebuild`, which decodes, folds and indexes every row. Both must have seen every record. The ratio of the two, of one
//! run, is what to quote.

use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::run::Rounds;
use super::scene::Scene;
use super::spread;
use crate::consumer::Consumer;
use crate::database::Database;
use crate::{binary, say};

/// Options of the rebuild.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Rows of all access tables together, about.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(2_000..))]
    rows: u32,
    #[command(flatten)]
    rounds: Rounds,
}

struct Round {
    count: Duration,
    rebuild: Duration,
    /// As the program itself tells, without its start and end.
    told_s: f64,
    peak_bytes: f64,
}

/// Runs the benchmark.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let (penstock, servers) = options.rounds.run.begin()?;
    let access = options.rounds.run.build_access()?;
    say::line(format!("filling about {} rows …", say::count(u64::from(options.rows))));
    let mut rows = 0;
    let scene = Scene::set(&penstock, servers, |database| {
        rows = fill(database, options.rows)?;
        Ok(())
    })?;
    let account = scene.database.run("SELECT min(id::text) FROM accounts;")?.trim().to_owned();
    let consumer = Consumer::new(&access, &scene.servers, &scene.topic_name, scene.folder.path(), "access", false)?;
    let mut rounds = Vec::new();
    for number in 1..=options.rounds.rounds {
        let began = Instant::now();
        let counted = scene.topic.count(&penstock)?;
        let count = began.elapsed();
        ensure!(counted.records >= rows, "{} records in the topic, of {rows} rows", counted.records);
        let round = rebuild(&consumer, &account, counted.records, count)?;
        say::line(format!(
            "round {number}: counting {:.2} s, rebuild {:.2} s, ratio {:.2}, peak {:.0} MB",
            round.count.as_secs_f64(),
            round.rebuild.as_secs_f64(),
            round.rebuild.as_secs_f64() / round.count.as_secs_f64(),
            round.peak_bytes / 1e6,
        ));
        rounds.push(round);
    }
    let of = |value: &dyn Fn(&Round) -> f64| spread(rounds.iter().map(value).collect());
    let ratio = of(&|round| round.rebuild.as_secs_f64() / round.count.as_secs_f64());
    options.rounds.run.report(&json!({
        "rows": rows,
        "rounds": rounds.len(),
        "count_wall_s": of(&|round| round.count.as_secs_f64()),
        "rebuild_wall_s": of(&|round| round.rebuild.as_secs_f64()),
        "rebuild_told_s": of(&|round| round.told_s),
        "rebuild_rows_per_s": of(&|round| rows as f64 / round.rebuild.as_secs_f64()),
        "rebuild_peak_memory_bytes": of(&|round| round.peak_bytes),
        "ratio": ratio,
        "ratio_median": ratio["median"],
    }));
    Ok(ExitCode::SUCCESS)
}

/// Accounts of the usual size, as many as it takes; how many rows that are.
fn fill(database: &Database, wanted: u32) -> anyhow::Result<u64> {
    let data = binary::workspace().join("tests/sql/access_data.sql");
    database.run_file("SET access.accounts = '1'", &data)?;
    let of_one = count(database)?;
    let accounts = u64::from(wanted).div_ceil(of_one.max(1));
    database.run_file(&format!("SET access.accounts = '{accounts}'; SET access.first_account = '2'"), &data)?;
    count(database)
}

fn count(database: &Database) -> anyhow::Result<u64> {
    let tables = database.run("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1;")?;
    let counts: Vec<String> = tables.lines().map(|table| format!("(SELECT count(*) FROM {table})")).collect();
    let answer = database.run(&format!("SELECT {};", counts.join(" + ")))?;
    answer.trim().parse().context("counting the rows")
}

fn rebuild(consumer: &Consumer, account: &str, records: u64, count: Duration) -> anyhow::Result<Round> {
    let mut command = consumer.command("show");
    command.args(["--account", account, "--json", "--rebuild"]).stdin(Stdio::null());
    let began = Instant::now();
    let output = command.output().context("starting penstock-access")?;
    let rebuild = began.elapsed();
    let (said, told) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    ensure!(output.status.success(), "penstock-access show failed ({}): {}", output.status, said.trim());
    let line = told.lines().nth(1).with_context(|| format!("penstock-access told {told:?}"))?;
    let json: Value = line.parse().with_context(|| format!("penstock-access told {line:?}"))?;
    let figure = |name: &str| json.pointer(&format!("/rebuild/{name}")).with_context(|| format!("no {name}: {line}"));
    ensure!(figure("complete")? == &Value::Bool(true), "the rebuild is not complete: {line}\n{said}");
    let read = figure("records")?.as_u64().context("records")?;
    // The bridge may have written in between.
    ensure!(read >= records, "the consumer read {read} records, the counting reader {records}");
    let number = |name: &str| figure(name)?.as_f64().with_context(|| format!("{name} is no number: {line}"));
    Ok(Round { count, rebuild, told_s: number("seconds")?, peak_bytes: number("memory_peak_bytes")? })
}
