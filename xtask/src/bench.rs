//! `cargo xtask bench drain`: how long the bridge takes for a backlog, against the plainest reader there is.
//!
//! Two slots at one LSN per round, five alternating rounds: `pg_recvlogical` to nothing, and the bridge to Kafka until its
//! slot's confirmed LSN reaches the end. Afterwards the topic's records are counted against the backlog; a bridge that
//! was fast because it lost something fails. Times are medians of one run on one machine: the ratio is what to quote.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use crate::database::Database;
use crate::reader::Topic;
use crate::servers::Servers;
use crate::{binary, say};
use run::Rounds;

mod access;
mod backfill;
mod rebuild;
mod reload;
mod revoke;
mod run;
mod scene;

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub enum Options {
    /// Drain a backlog of many small transactions.
    Drain(Drain),
    /// Load tables that held rows before.
    Backfill(backfill::Options),
    /// Load one account again and again, while others change.
    Reload(reload::Options),
    /// Rebuild the consumer's state from a topic.
    Rebuild(rebuild::Options),
    /// Time revocations from their commits to a gateway's channel.
    Revoke(revoke::Options),
    /// What an account costs in memory, an answer and a change in time: no servers.
    Access(access::Options),
}

/// Options of the drain.
#[derive(Debug, clap::Args)]
pub struct Drain {
    /// Transactions of the backlog; each has five row events, a tenth of them updates, a twentieth deletes.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..))]
    transactions: u32,
    #[command(flatten)]
    rounds: Rounds,
}

/// One round of the bridge.
struct Round {
    recvlogical: Duration,
    bridge: Duration,
    cpu: Duration,
    peak_bytes: u64,
}

/// Runs the benchmark.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    match options {
        Options::Drain(options) => drain(options),
        Options::Backfill(options) => backfill::run(options),
        Options::Reload(options) => reload::run(options),
        Options::Rebuild(options) => rebuild::run(options),
        Options::Revoke(options) => revoke::run(options),
        Options::Access(options) => access::run(options),
    }
}

fn drain(options: &Drain) -> anyhow::Result<ExitCode> {
    let (penstock, servers) = options.rounds.run.begin()?;
    let database = backlog_database(&servers)?;
    let folder = run::folder()?;
    let sources: Vec<Source> = (1..=options.rounds.rounds)
        .map(|round| Source::set_up(&penstock, &servers, &database, folder.path(), round))
        .collect::<anyhow::Result<_>>()?;
    say::line(format!("filling {} transactions …", say::count(u64::from(options.transactions))));
    database.run(&format!("CALL drain_fill({});", options.transactions))?;
    let events = expected(&database)?;
    let end = database.run("SELECT pg_current_wal_insert_lsn();")?.trim().to_owned();
    database.run("CHECKPOINT;")?;
    let mut rounds = Vec::new();
    for source in &sources {
        let recvlogical = receive(&database, &source.twin_slot, &end)?;
        let round = source.drain(&database, &end, recvlogical)?;
        say::line(format!(
            "round {}: pg_recvlogical {:.2} s, penstock {:.2} s, ratio {:.2}, {:.2} CPU-s per million rows, peak {} MB",
            rounds.len() + 1,
            round.recvlogical.as_secs_f64(),
            round.bridge.as_secs_f64(),
            round.bridge.as_secs_f64() / round.recvlogical.as_secs_f64(),
            round.cpu.as_secs_f64() * 1e6 / events.rows() as f64,
            round.peak_bytes / 1_000_000,
        ));
        rounds.push(round);
    }
    for source in &sources {
        source.check(&penstock, &events)?;
    }
    report(options, &rounds, &events);
    Ok(ExitCode::SUCCESS)
}

fn backlog_database(servers: &Servers) -> anyhow::Result<Database> {
    let name = format!("penstock_bench_{}", std::process::id());
    servers.administration.run(&format!("CREATE DATABASE {name};"))?;
    // Only the filling is made quicker by it: what is decoded later is the same.
    servers.administration.run(&format!("ALTER DATABASE {name} SET synchronous_commit = off;"))?;
    let database = servers.administration.with_name(&name);
    database.run_file("", &binary::workspace().join("xtask/sql/drain.sql"))?;
    Ok(database)
}

/// Row events of the backlog, counted by the database as they were made.
struct Events {
    inserts: u64,
    updates: u64,
    deletes: u64,
}

impl Events {
    fn rows(&self) -> u64 {
        self.inserts + self.updates + self.deletes
    }

    /// Every delete is followed by a tombstone, every partition begins with an epoch record.
    fn records(&self, partitions: u64) -> u64 {
        self.rows() + self.deletes + partitions
    }
}

fn expected(database: &Database) -> anyhow::Result<Events> {
    let answer = database.run("SELECT inserts || ' ' || updates || ' ' || deletes FROM drain_sum;")?;
    let numbers: Vec<u64> =
        answer.split_whitespace().map(str::parse).collect::<Result<_, _>>().context("reading the sums")?;
    let [inserts, updates, deletes] = numbers[..] else { bail!("three sums were asked for, {answer:?} came") };
    Ok(Events { inserts, updates, deletes })
}

/// A source of its own for one round, set up before the backlog exists.
struct Source {
    configuration: PathBuf,
    penstock: PathBuf,
    slot: String,
    twin_slot: String,
    topic: Topic,
    log: PathBuf,
}

const PARTITIONS: u64 = 12;

impl Source {
    fn set_up(
        penstock: &Path,
        servers: &Servers,
        database: &Database,
        folder: &Path,
        round: u32,
    ) -> anyhow::Result<Self> {
        let source = Self::configure(penstock, servers, database, folder, round)?;
        let setup = Command::new(penstock)
            .args(["setup", "--config"])
            .arg(&source.configuration)
            .output()
            .context("penstock setup")?;
        ensure!(setup.status.success(), "penstock setup failed:\n{}", String::from_utf8_lossy(&setup.stderr));
        let (slot, twin) = (&source.slot, &source.twin_slot);
        database.run(&format!("SELECT pg_copy_logical_replication_slot('{slot}', '{twin}');"))?;
        Ok(source)
    }

    fn configure(
        penstock: &Path,
        servers: &Servers,
        database: &Database,
        folder: &Path,
        round: u32,
    ) -> anyhow::Result<Self> {
        let name = format!("bench_{}_{round}", std::process::id());
        let topic = format!("{name}.changes");
        let configuration = folder.join(format!("{name}.toml"));
        let brokers: Vec<String> = servers.bootstrap.split(',').map(|broker| format!("{broker:?}")).collect();
        let text = format!(
            "[source]\nname = {name:?}\nurl = {:?}\n[kafka]\nbrokers = [{}]\ntopic = {topic:?}\nnamespace = \"bench\"\n\
             partitions = {PARTITIONS}\nreplication = 1\n[registry]\nurl = {:?}\n[tables]\ncapture = [{}]\n\
             [http]\nlisten = \"127.0.0.1:0\"\n",
            database.url(),
            brokers.join(", "),
            servers.registry,
            (0..4).map(|table| format!("\"public.drain_{table}\"")).collect::<Vec<_>>().join(", "),
        );
        write_private(&configuration, &text)?;
        let slot = format!("penstock_{name}");
        let twin_slot = format!("{slot}_twin");
        let topic = Topic { configuration: configuration.clone() };
        let log = folder.join(format!("{name}.log"));
        Ok(Self { configuration, penstock: penstock.to_owned(), slot, twin_slot, topic, log })
    }

    /// Starts the bridge; its words go to the log.
    fn start(&self) -> anyhow::Result<Child> {
        let log = std::fs::File::create(&self.log).context("making the log")?;
        Command::new(&self.penstock)
            .args(["run", "--config"])
            .arg(&self.configuration)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("the log")?)
            .stderr(log)
            .spawn()
            .context("starting penstock")
    }

    /// A server has room for a limited number of slots.
    fn remove(&self, database: &Database) -> anyhow::Result<()> {
        database.run(&format!("SELECT pg_drop_replication_slot('{}'); DROP PUBLICATION penstock;", self.slot)).map(drop)
    }

    /// From the start of the process until the slot's confirmed LSN is at the end.
    fn drain(&self, database: &Database, end: &str, recvlogical: Duration) -> anyhow::Result<Round> {
        let began = Instant::now();
        let mut child = self.start()?;
        let wait = format!(
            "DO $$ BEGIN FOR i IN 1..60000 LOOP EXIT WHEN (SELECT confirmed_flush_lsn >= '{end}'::pg_lsn FROM pg_replication_slots \
             WHERE slot_name = '{}'); PERFORM pg_sleep(0.01); END LOOP; END $$;",
            self.slot
        );
        let waited = database.run(&wait);
        let bridge = began.elapsed();
        let (cpu, peak_bytes) = usage(child.id())?;
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
            .context("stopping penstock")?;
        let status = child.wait().context("waiting for penstock")?;
        waited?;
        ensure!(
            status.success(),
            "penstock ended with {status}:\n{}",
            std::fs::read_to_string(&self.log).unwrap_or_default()
        );
        Ok(Round { recvlogical, bridge, cpu, peak_bytes })
    }

    fn check(&self, penstock: &Path, events: &Events) -> anyhow::Result<()> {
        let count = self.topic.count(penstock)?;
        ensure!(
            count.records == events.records(PARTITIONS) && count.repeated == 0 && count.holes == 0,
            "the topic of slot {} holds {} records ({} repeated, {} holes); the backlog makes {}",
            self.slot,
            count.records,
            count.repeated,
            count.holes,
            events.records(PARTITIONS)
        );
        Ok(())
    }
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("writing {}", path.display()))
}

fn receive(database: &Database, slot: &str, end: &str) -> anyhow::Result<Duration> {
    let program = postgres_program("pg_recvlogical")?;
    let slot_option = format!("--slot={slot}");
    let end_option = format!("--endpos={end}");
    let began = Instant::now();
    let output = Command::new(program)
        .args(["-d", &database.url(), &slot_option, "--start", "-f", "/dev/null", "--fsync-interval=0", &end_option])
        .args(["-o", "proto_version=1", "-o", "publication_names=penstock", "-o", "messages=true"])
        .stdin(Stdio::null())
        .output()
        .context("starting pg_recvlogical")?;
    let elapsed = began.elapsed();
    ensure!(output.status.success(), "pg_recvlogical failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(elapsed)
}

fn postgres_program(name: &str) -> anyhow::Result<PathBuf> {
    let folders = ["/usr/lib/postgresql/15/bin", "/usr/bin"];
    let program = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    program.with_context(|| format!("no {name} on this machine"))
}

/// CPU time (user and system) and peak memory of a living process, as Linux accounts them.
fn usage(pid: u32) -> anyhow::Result<(Duration, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("reading the process's times")?;
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).context("an odd /proc/pid/stat")?;
    let field = |index: usize| after_name.split_whitespace().nth(index).and_then(|text| text.parse::<u64>().ok());
    let ticks = field(11).zip(field(12)).map(|(user, system)| user + system).context("an odd /proc/pid/stat")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("reading the process's memory")?;
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).and_then(|rest| rest.split_whitespace().next());
    let peak: u64 = peak.and_then(|text| text.parse().ok()).context("an odd /proc/pid/status")?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok((Duration::from_millis(ticks * 1000 / per_second), peak * 1024))
}

fn spread(mut values: Vec<f64>) -> serde_json::Value {
    values.sort_by(f64::total_cmp);
    json!({ "min": values[0], "median": values[values.len() / 2], "max": values[values.len() - 1] })
}

fn report(options: &Drain, rounds: &[Round], events: &Events) {
    let rows = events.rows() as f64;
    let of = |value: &dyn Fn(&Round) -> f64| spread(rounds.iter().map(value).collect());
    let ratio = of(&|round| round.bridge.as_secs_f64() / round.recvlogical.as_secs_f64());
    let result = json!({
        "transactions": options.transactions,
        "rows": events.rows(),
        "rounds": rounds.len(),
        "recvlogical_wall_s": of(&|round| round.recvlogical.as_secs_f64()),
        "bridge_wall_s": of(&|round| round.bridge.as_secs_f64()),
        "bridge_rows_per_s": of(&|round| rows / round.bridge.as_secs_f64()),
        "bridge_cpu_s_per_million_rows": of(&|round| round.cpu.as_secs_f64() * 1e6 / rows),
        "bridge_peak_memory_bytes": of(&|round| round.peak_bytes as f64),
        "ratio": ratio,
        "ratio_median": ratio["median"],
    });
    options.rounds.run.report(&result);
}
