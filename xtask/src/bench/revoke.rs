//! `cargo xtask bench revoke`: how long a revocation takes, from its commit in Postgres to the gateway's channel.
//!
//! pgbench commits at a steady rate, half of it `DELETE FROM policies`, each of which takes an authorised pair from a gateway;
//! the other half are changes of another account. Two `penstock-access watch` of the gateway stand at the end of the full
//! stack, one of which reads committed records only. A push's time is that at which its line has been read; a commit's is
//! Postgres' own, as it stands in the topic.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::postgres_program;
use super::run::Run;
use super::scene::Scene;
use crate::bridge;
use crate::consumer::{Consumer, Who};
use crate::database::Database;
use crate::delays::Delays;
use crate::say;

/// Options of the revocations.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Revocations to time.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(50..=100_000))]
    revocations: u32,
    /// Transactions per second; every second one is a revocation.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    rate: u32,
    #[command(flatten)]
    run: Run,
}

/// Nothing more comes by then.
const PATIENCE: Duration = Duration::from_secs(60);
/// The first ones meet cold caches on the whole way, and are not counted.
const WARM_UP: u32 = 50;

/// The two ways to read the topic.
const READERS: [(&str, bool); 2] = [("read_committed", false), ("read_uncommitted", true)];

const SCHEMA: &str = include_str!("../../sql/revoke.sql");

/// A channel's line: which reader's, when, and what.
type Line = (usize, f64, Option<String>);

/// Runs the benchmark.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let (penstock, servers) = options.run.begin()?;
    let access = options.run.build_access()?;
    let wanted = options.revocations + WARM_UP;
    let mut scene = Scene::set(&penstock, servers, |database| database.run(SCHEMA).map(drop))?;
    say::line(format!("filling {} policies with a flow each …", say::count(u64::from(wanted))));
    // Through the stream: of a flow that only a load shows it is not known whether it is over.
    scene.database.run(&format!("CALL bench.fill({wanted});"))?;
    scene.wait_delivered()?;
    let gateway = id(&scene.database, "gateway", 0)?;
    let (send, lines) = channel();
    let mut channels = Vec::new();
    for (number, (name, read_uncommitted)) in READERS.into_iter().enumerate() {
        let folder = scene.folder.path();
        let consumer = Consumer::new(&access, &scene.servers, &scene.topic_name, folder, name, read_uncommitted)?;
        let wrap = move |line| (number, clock(), line);
        channels.push(consumer.watch(Who::Gateway, &gateway, send.clone(), wrap)?);
    }
    let said = || channels.iter().map(|channel| channel.said()).collect::<Vec<_>>().join("\n");
    wait_for_init(&lines, wanted).with_context(said)?;
    let mut load = load(&scene.database, scene.folder.path(), options.rate)?;
    let pushed = rejected(&lines, wanted).with_context(said)?;
    load.kill().context("stopping pgbench")?;
    load.wait().context("waiting for pgbench")?;
    scene.stop()?;
    let commits = commits(&penstock, &scene)?;
    report(options, &commits, pushed)
}

fn id(database: &Database, kind: &str, number: u32) -> anyhow::Result<String> {
    Ok(database.run(&format!("SELECT bench.id('{kind}', {number});"))?.trim().to_owned())
}

/// Until both channels were told all pairs.
fn wait_for_init(lines: &Receiver<Line>, pairs: u32) -> anyhow::Result<()> {
    let mut told = [0_usize; READERS.len()];
    while told.iter().any(|told| u32::try_from(*told).is_ok_and(|told| told < pairs)) {
        let (number, _, json) = next(lines)?;
        match text(&json, "/push")? {
            "init" => {
                told[number] = json.pointer("/payload/authorizations").and_then(Value::as_array).map_or(0, Vec::len)
            }
            "authorize_flow" => told[number] += 1,
            _ => {}
        }
    }
    Ok(())
}

/// Of each reader: when the push of which commit came.
fn rejected(lines: &Receiver<Line>, wanted: u32) -> anyhow::Result<[BTreeMap<String, f64>; 2]> {
    let mut pushed = [BTreeMap::new(), BTreeMap::new()];
    let began = Instant::now();
    let mut told = Instant::now();
    let is_whole = |pushed: &BTreeMap<String, f64>| u32::try_from(pushed.len()).is_ok_and(|count| count == wanted);
    while !pushed.iter().all(is_whole) {
        let (number, at, json) = next(lines)?;
        let push = text(&json, "/push")?;
        match push {
            "reject_access" => {
                let commit = text(&json, "/at/commit_lsn")?.to_owned();
                ensure!(pushed[number].insert(commit, at).is_none(), "two rejections of one commit: {json}");
            }
            "stale" | "fresh" => say::line(format!("{}: {push}", READERS[number].0)),
            _ => bail!("a push that was not expected: {json}"),
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            say::line(format!("{:.0} s: {} of {wanted}", began.elapsed().as_secs_f64(), pushed[0].len()));
        }
    }
    Ok(pushed)
}

fn next(lines: &Receiver<Line>) -> anyhow::Result<(usize, f64, Value)> {
    let (number, at, line) = lines.recv_timeout(PATIENCE).context("no push within a minute")?;
    let line = line.with_context(|| format!("the channel {} ended", READERS[number].0))?;
    Ok((number, at, line.parse().with_context(|| format!("penstock-access printed {line:?}"))?))
}

fn text<'j>(json: &'j Value, pointer: &str) -> anyhow::Result<&'j str> {
    json.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no {pointer} in {json}"))
}

fn clock() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

fn load(database: &Database, folder: &Path, rate: u32) -> anyhow::Result<Child> {
    let script = |name: &str, sql: &str| {
        let path = folder.join(name);
        std::fs::write(&path, sql).context("writing pgbench's script").map(|()| path)
    };
    let revoke =
        script("revoke.sql", "DELETE FROM policies WHERE id = bench.id('policy', nextval('bench.revocation'));\n")?;
    let other = script(
        "other.sql",
        "\\set n random(1, 1000)\nUPDATE actors SET name = 'now ' || now() WHERE id = bench.id('other', :n);\n",
    )?;
    let mut file = [revoke.into_os_string(), other.into_os_string()].map(|mut path| {
        path.push("@1");
        path
    });
    let [revoke, other] = &mut file;
    Command::new(postgres_program("pgbench")?)
        .args(["--no-vacuum", "--client=4", "--time=86400", "--protocol=prepared", "--rate"])
        .arg(rate.to_string())
        .arg("--file")
        .arg(revoke)
        .arg("--file")
        .arg(other)
        .arg(database.url())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting pgbench")
}

/// When each deletion of a policy was committed, by commit LSN, as the topic has it.
fn commits(penstock: &Path, scene: &Scene) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut command = bridge::penstock(penstock);
    command.args(["replay", "--table", "public.policies", "--op", "d", "--config"]).arg(&scene.topic.configuration);
    let output = command.stdin(Stdio::null()).output().context("reading the topic")?;
    ensure!(output.status.success(), "penstock replay failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let lines = String::from_utf8(output.stdout).context("the reader's text")?;
    let commit = |line: &str| {
        let json: Value = line.parse().with_context(|| format!("the reader printed {line:?}"))?;
        let us = json.pointer("/source/ts_us").and_then(Value::as_f64).context("a row without its commit's time")?;
        Ok((text(&json, "/position/commit_lsn")?.to_owned(), us / 1e6))
    };
    lines.lines().map(commit).collect()
}

fn report(
    options: &Options,
    commits: &BTreeMap<String, f64>,
    pushed: [BTreeMap<String, f64>; 2],
) -> anyhow::Result<ExitCode> {
    let mut result = json!({ "rate_per_s": options.rate, "revocations": options.revocations });
    for ((name, _), pushed) in READERS.into_iter().zip(pushed) {
        let mut delays = Vec::new();
        for (commit, at) in pushed {
            let committed = commits.get(&commit).with_context(|| format!("no deletion was committed at {commit}"))?;
            delays.push((*committed, (at - committed) * 1e3));
        }
        delays.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut counted = Delays::default();
        delays.iter().skip(usize::try_from(WARM_UP)?).for_each(|(_, delay_ms)| counted.add(*delay_ms));
        let mut percentile = |percent| counted.percentile(percent).context("nothing was timed");
        result[name] = json!({ "p50_ms": percentile(50)?, "p99_ms": percentile(99)?, "max_ms": percentile(100)? });
    }
    options.run.report(&result);
    Ok(ExitCode::SUCCESS)
}
