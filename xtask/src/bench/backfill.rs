//! `cargo xtask bench backfill`: how long the first load takes, against a plain COPY of the same tables.
//!
//! Each round copies the tables to nobody through one client socket, one after the other, and then starts a bridge with a topic
//! of its own, from the start of the process until its log says that the load is done. The topic's rows are counted
//! afterwards. The ratio of the two, of one run, is what to quote.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use super::run::{Rounds, folder};
use super::{Source, spread, usage};
use crate::database::Database;
use crate::say;

/// Options of the load.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Rows of 20 columns, in four tables.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u32).range(1000..))]
    rows: u32,
    #[command(flatten)]
    rounds: Rounds,
}

struct Round {
    copy: Duration,
    load: Duration,
    cpu: Duration,
    peak_bytes: u64,
}

/// What the log says when everything is in the topic, or on its way there.
pub const DONE: &str = "state=\"done\"";
const PATIENCE: Duration = Duration::from_secs(900);

/// Runs the benchmark.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let (penstock, servers) = options.rounds.run.begin()?;
    let database = super::backlog_database(&servers)?;
    let folder = folder()?;
    say::line(format!("filling {} rows …", say::count(u64::from(options.rows))));
    database.run(&format!("CALL drain_bulk({});", options.rows / 4))?;
    database.run("VACUUM ANALYZE;")?;
    database.run("CHECKPOINT;")?;
    let rows = count(&database)?;
    let mut rounds = Vec::new();
    for round in 1..=options.rounds.rounds {
        let copy = copy(&database)?;
        let source = Source::configure(&penstock, &servers, &database, folder.path(), round)?;
        let round = load(&source, copy)?;
        let counted = source.topic.count(&penstock)?;
        // An epoch record, a begin and an end in every partition.
        let expected = rows + 3 * super::PARTITIONS;
        ensure!(
            counted.records == expected && counted.repeated == 0 && counted.holes == 0,
            "the topic holds {} records ({} repeated, {} holes); the tables make {expected}",
            counted.records,
            counted.repeated,
            counted.holes
        );
        source.remove(&database)?;
        say::line(format!(
            "round {}: COPY {:.2} s, first load {:.2} s, ratio {:.2}, {:.2} CPU-s per million rows, peak {} MB",
            rounds.len() + 1,
            round.copy.as_secs_f64(),
            round.load.as_secs_f64(),
            round.copy.as_secs_f64() / round.load.as_secs_f64(),
            round.cpu.as_secs_f64() * 1e6 / rows as f64,
            round.peak_bytes / 1_000_000,
        ));
        rounds.push(round);
    }
    report(options, &rounds, rows as f64);
    Ok(ExitCode::SUCCESS)
}

fn count(database: &Database) -> anyhow::Result<u64> {
    let tables: Vec<String> = (0..4).map(|table| format!("(SELECT count(*) FROM drain_{table})")).collect();
    let answer = database.run(&format!("SELECT {};", tables.join(" + ")))?;
    answer.trim().parse().context("counting the rows")
}

/// The four tables to nobody, one after the other, through one socket.
fn copy(database: &Database) -> anyhow::Result<Duration> {
    let copies: Vec<String> = (0..4).map(|table| format!("COPY (SELECT * FROM drain_{table}) TO STDOUT;")).collect();
    let began = Instant::now();
    let output = Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "-d", &database.url(), "--command", &copies.join(" ")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .context("starting psql")?;
    let elapsed = began.elapsed();
    ensure!(output.status.success(), "COPY failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(elapsed)
}

/// From the start of the process until the load is done.
fn load(source: &Source, copy: Duration) -> anyhow::Result<Round> {
    let began = Instant::now();
    let mut child = source.start()?;
    let done = wait_for(&source.log, DONE, &mut child);
    let load = began.elapsed();
    let usage = usage(child.id());
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .context("stopping penstock")?;
    let status = child.wait().context("waiting for penstock")?;
    done?;
    ensure!(status.success(), "penstock ended with {status}");
    let (cpu, peak_bytes) = usage?;
    Ok(Round { copy, load, cpu, peak_bytes })
}

/// Waits until the log of a running bridge has these words.
pub fn wait_for(log: &Path, words: &str, child: &mut std::process::Child) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        if text.contains(words) {
            return Ok(());
        }
        if began.elapsed() > PATIENCE || child.try_wait()?.is_some() {
            bail!("the load did not end:\n{text}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn report(options: &Options, rounds: &[Round], rows: f64) {
    let of = |value: &dyn Fn(&Round) -> f64| spread(rounds.iter().map(value).collect());
    let ratio = of(&|round| round.copy.as_secs_f64() / round.load.as_secs_f64());
    let result = json!({
        "rows": rows,
        "rounds": rounds.len(),
        "copy_wall_s": of(&|round| round.copy.as_secs_f64()),
        "load_wall_s": of(&|round| round.load.as_secs_f64()),
        "load_rows_per_s": of(&|round| rows / round.load.as_secs_f64()),
        "bridge_cpu_s_per_million_rows": of(&|round| round.cpu.as_secs_f64() * 1e6 / rows),
        "bridge_peak_memory_bytes": of(&|round| round.peak_bytes as f64),
        "share_of_copy": ratio,
        "share_of_copy_median": ratio["median"],
    });
    options.rounds.run.report(&result);
}
