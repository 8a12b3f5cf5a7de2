//! `cargo xtask bench reload`: what the other accounts feel of one account's reload.
//!
//! pgbench commits at a steady rate in some accounts while another account, in which nothing happens, is loaded again and
//! again. A reader in its own process tells the time from each commit until it had the record. Compared are the changes
//! that were committed while a reload was under way and those that were not, of one run.

use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::Source;
use super::backfill::{DONE, wait_for};
use super::run::{Run, folder};
use crate::database::Database;
use crate::delays::Delays;
use crate::reader::Follower;
use crate::say;

/// Options of the reload.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Rows of the account that is loaded again.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=20_000))]
    rows: u32,
    /// Transactions per second in the other accounts; each updates a row.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..))]
    rate: u32,
    /// Reloads, one after the other with a pause between.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=100))]
    reloads: u32,
    #[command(flatten)]
    run: Run,
}

/// The account that is loaded again.
const ACCOUNT: &str = "0ace0000-0000-4000-8000-000000000001";
/// Rows of the others, which are what changes.
const OTHERS: u32 = 100_000;
/// Before the first reload, and between two.
const PAUSE: Duration = Duration::from_secs(4);
/// What is committed so soon after a reload belongs to neither side.
const AFTERMATH_S: f64 = 1.0;

/// Seconds of the machine's clock.
#[derive(Debug, Clone, Copy)]
struct Span {
    began: f64,
    ended: f64,
}

/// Runs the benchmark.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let (penstock, servers) = options.run.begin()?;
    let database = super::backlog_database(&servers)?;
    let folder = folder()?;
    say::line("filling …");
    fill(&database, options.rows)?;
    let source = Source::configure(&penstock, &servers, &database, folder.path(), 1)?;
    let mut bridge = source.start()?;
    wait_for(&source.log, DONE, &mut bridge)?;
    let (send, lines) = channel();
    let reader = source.topic.follow(&penstock, &folder.path().join("reader.log"), send, |line| line)?;
    let mut measured = Measured::default();
    measured.read(&lines, &reader, |_| None)?;
    let began = clock();
    let mut load = load(&database, folder.path(), options)?;
    std::thread::sleep(PAUSE);
    let mut reloads = Vec::new();
    for number in 1..=options.reloads {
        let began = clock();
        let asked = Command::new(&penstock)
            .args(["backfill", "--account", ACCOUNT, "--config"])
            .arg(&source.configuration)
            .output()
            .context("penstock backfill")?;
        let span = Span { began, ended: clock() };
        ensure!(asked.status.success(), "penstock backfill failed: {}", String::from_utf8_lossy(&asked.stderr));
        say::line(format!("reload {number} of {}: {:.2} s", options.reloads, span.ended - span.began));
        reloads.push(span);
        std::thread::sleep(PAUSE);
    }
    let ended = clock();
    stop(&mut load)?;
    measured.read(&lines, &reader, |committed| side(committed, began, ended, &reloads))?;
    rustix::process::kill_process(rustix::process::Pid::from_child(&bridge), rustix::process::Signal::TERM)
        .context("stopping penstock")?;
    let status = bridge.wait().context("waiting for penstock")?;
    ensure!(status.success(), "penstock ended with {status}");
    let expected = u64::from(options.rows) * u64::from(options.reloads + 1);
    ensure!(measured.loaded == expected, "{} rows of the account were loaded, {expected} expected", measured.loaded);
    report(options, measured, &reloads)?;
    Ok(ExitCode::SUCCESS)
}

fn fill(database: &Database, rows: u32) -> anyhow::Result<()> {
    database.run(&format!("CALL drain_fill({});", OTHERS / 17 * 4))?;
    database.run(&format!(
        "UPDATE drain_0 SET account_id = '{ACCOUNT}' WHERE id IN (SELECT id FROM drain_0 ORDER BY id LIMIT {rows});"
    ))?;
    for table in 0..4 {
        database.run(&format!("CREATE INDEX ON drain_{table} (account_id);"))?;
    }
    database.run("VACUUM ANALYZE;")?;
    database.run("CHECKPOINT;").map(drop)
}

/// pgbench with one small transaction at a steady rate; it ends when it is told to.
fn load(database: &Database, folder: &std::path::Path, options: &Options) -> anyhow::Result<Child> {
    let script = folder.join("load.sql");
    // Of every 17 rows that the filling makes the first four are this table's, and none is deleted.
    let text = format!(
        "\\set n random(0, {})\n\\set row random(1, 4)\n\
         UPDATE drain_1 SET number = number + 1 WHERE id = drain_id(1, :n * 17 + :row);\n",
        OTHERS / 17 - 1
    );
    std::fs::write(&script, text).context("writing pgbench's script")?;
    let program = super::postgres_program("pgbench")?;
    Command::new(program)
        .args(["--no-vacuum", "--client=4", "--time=86400", "--protocol=prepared", "--rate"])
        .arg(options.rate.to_string())
        .arg("--file")
        .arg(&script)
        .arg(database.url())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting pgbench")
}

fn stop(load: &mut Child) -> anyhow::Result<()> {
    ensure!(load.try_wait()?.is_none(), "pgbench ended by itself");
    load.kill().context("stopping pgbench")?;
    load.wait().context("waiting for pgbench").map(drop)
}

/// Whether a change was committed beside a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Quiet,
    Beside,
}

fn side(committed: f64, began: f64, ended: f64, reloads: &[Span]) -> Option<Side> {
    if !(began..=ended).contains(&committed) {
        return None;
    }
    if reloads.iter().any(|span| (span.began..=span.ended).contains(&committed)) {
        return Some(Side::Beside);
    }
    let is_after = reloads.iter().any(|span| (span.ended..=span.ended + AFTERMATH_S).contains(&committed));
    (!is_after).then_some(Side::Quiet)
}

/// What the reader saw.
#[derive(Debug, Default)]
struct Measured {
    quiet: Delays,
    beside: Delays,
    changes: [u64; 2],
    loaded: u64,
}

impl Measured {
    /// Everything until nothing comes any more.
    fn read(
        &mut self,
        lines: &Receiver<Option<String>>,
        reader: &Follower,
        side: impl Fn(f64) -> Option<Side>,
    ) -> anyhow::Result<()> {
        while let Ok(line) = lines.recv_timeout(PAUSE) {
            let line = line.with_context(|| format!("the reader ended: {}", reader.said()))?;
            let json: Value = line.parse().with_context(|| format!("the reader printed {line:?}"))?;
            self.take(&json, &side).with_context(|| format!("the reader printed {line}"))?;
        }
        Ok(())
    }

    fn take(&mut self, json: &Value, side: impl Fn(f64) -> Option<Side>) -> anyhow::Result<()> {
        match json.get("op").and_then(Value::as_str) {
            Some("r") if json.get("account").and_then(Value::as_str) == Some(ACCOUNT) => self.loaded += 1,
            Some("u") => {
                let delay_ms = json.get("delay_ms").and_then(Value::as_f64).context("no delay")?;
                let committed = json.pointer("/source/ts_us").and_then(Value::as_f64).context("no commit time")? / 1e6;
                match side(committed) {
                    Some(Side::Quiet) => {
                        self.quiet.add(delay_ms);
                        self.changes[0] += 1;
                    }
                    Some(Side::Beside) => {
                        self.beside.add(delay_ms);
                        self.changes[1] += 1;
                    }
                    None => {}
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn report(options: &Options, mut measured: Measured, reloads: &[Span]) -> anyhow::Result<()> {
    let mut of = |percent| -> anyhow::Result<[f64; 2]> {
        let both = measured.quiet.percentile(percent).zip(measured.beside.percentile(percent));
        both.map(<[f64; 2]>::from).context("no change was committed beside a reload")
    };
    let ([quiet_p50, beside_p50], [quiet_p99, beside_p99]) = (of(50)?, of(99)?);
    let result = json!({
        "rows": options.rows,
        "rate_per_s": options.rate,
        "reload_s": super::spread(reloads.iter().map(|span| span.ended - span.began).collect()),
        "changes_quiet": measured.changes[0],
        "changes_beside": measured.changes[1],
        "quiet_p50_ms": quiet_p50,
        "quiet_p99_ms": quiet_p99,
        "beside_p50_ms": beside_p50,
        "beside_p99_ms": beside_p99,
        "p99_ratio": beside_p99 / quiet_p99,
    });
    options.run.report(&result);
    Ok(())
}
