//! The demo as a measurement: a load, a TRUNCATE or two, kill -9 of the bridge in its middle, and then the ledger, read
//! back with SELECT, against what a reader in its own process got.
//!
//! Invariant: it passes only if it also did what it is meant to do: enough events, accounts, seconds, and each kind.

use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::Options;
use super::stage::{News, Stage};
use crate::delays::Delays;
use crate::ledger::{self, Entry};
use crate::limits;
use crate::reader::Count;
use crate::record::{Content, Op, Record};
use crate::say;
use crate::verdict::{self, Mix, Verdict};
use crate::workload::Workload;

/// Partitions of the demo's topic: the default.
const PARTITIONS: u32 = 12;
/// When, as a share of the load, what happens.
const TRUNCATES_AT: [f64; 2] = [0.3, 0.7];
const KILL_AT: f64 = 0.5;
/// How long a session pauses for each second that the load is ahead of its plan.
const PAUSE_PER_SECOND_AHEAD: Duration = Duration::from_millis(50);

/// Runs the load and judges it.
pub fn run(stage: &mut Stage, options: &Options) -> anyhow::Result<ExitCode> {
    let mut reading = Reading::default();
    stage.load()?;
    reading.first_rows(stage)?;
    let mut load = Load::start(stage, options)?;
    while !load.over(stage)? {
        reading.take(stage, limits::PACE_EVERY)?;
        load.tick(stage, &mut reading)?;
    }
    let load = load.stop()?;
    let entries = ledger::read(&mut stage.questions)?;
    reading.drain(stage, &entries)?;
    // Once it has ended in order nothing can come any more.
    stage.bridge.stop()?;
    while reading.take(stage, limits::SUPERFLUOUS_WAIT)? {}
    if options.forget_one {
        reading.records.pop();
    }
    let count = stage.topic.count(&stage.binary)?;
    let verdict = judge(&entries, &reading, count);
    let mut result = Result {
        broker: stage.servers.broker.clone(),
        mix: Mix::of(&entries),
        shortcomings: Vec::new(),
        delays: reading.delays(&load),
        verdict,
        load,
    };
    result.shortcomings = result.find_shortcomings(options);
    result.tell(options.json);
    Ok(if result.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn judge(entries: &[Entry], reading: &Reading, count: Count) -> Verdict {
    let mut verdict = verdict::judge(entries, &reading.records, PARTITIONS);
    // The reader drops what it has seen before; what it dropped was there nevertheless.
    verdict.duplicated += count.repeated;
    verdict.missing += count.holes;
    if count.repeated + count.holes > 0 {
        verdict.examples.push(format!("the topic, read again: {count:?}"));
    }
    verdict
}

/// The load while it lasts.
#[derive(Debug)]
struct Load {
    workload: Workload,
    started: Instant,
    events_wanted: u64,
    seconds_wanted: f64,
    /// What the initial rows were.
    events_before: u64,
    events: u64,
    truncates: usize,
    paced: Instant,
    reported: Instant,
    outage: Outage,
}

/// The bridge's death and its return.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outage {
    Ahead,
    /// Since then, in seconds of the machine's clock.
    Since(f64),
    Over {
        killed: f64,
        ready: f64,
    },
}

/// A load that is over.
#[derive(Debug)]
struct Done {
    seconds: f64,
    outage: Outage,
}

impl Load {
    fn start(stage: &mut Stage, options: &Options) -> anyhow::Result<Self> {
        let events_before = ledger::count(&mut stage.questions)?;
        say::line(format!(
            "load: {} initial rows, then {} and more row events in {} s and more, over {} accounts, by {} sessions",
            say::count(events_before),
            say::count(options.events.saturating_sub(events_before)),
            options.seconds,
            limits::ACCOUNTS,
            limits::SESSIONS
        ));
        let now = Instant::now();
        Ok(Self {
            workload: Workload::start(&stage.database, options.seed, Duration::from_millis(5))?,
            started: now,
            events_wanted: options.events,
            seconds_wanted: Duration::from_secs(options.seconds).as_secs_f64(),
            events_before,
            events: events_before,
            truncates: 0,
            paced: now,
            reported: now,
            outage: Outage::Ahead,
        })
    }

    /// Whether enough was done. Asks for what was really committed only when it may be.
    fn over(&self, stage: &mut Stage) -> anyhow::Result<bool> {
        let outage_over = matches!(self.outage, Outage::Over { .. });
        let long_enough = self.started.elapsed().as_secs_f64() >= self.seconds_wanted;
        if !outage_over || !long_enough || self.events < self.events_wanted {
            return Ok(false);
        }
        Ok(ledger::count(&mut stage.questions)? >= self.events_wanted)
    }

    fn tick(&mut self, stage: &mut Stage, reading: &mut Reading) -> anyhow::Result<()> {
        if self.paced.elapsed() < limits::PACE_EVERY {
            return Ok(());
        }
        self.paced = Instant::now();
        self.workload.check()?;
        stage.bridge.check()?;
        self.events = ledger::happened(&mut stage.questions)?;
        let share = self.pace();
        if TRUNCATES_AT.get(self.truncates).is_some_and(|at| share > *at) {
            stage.questions.run("TRUNCATE flows;")?;
            self.truncates += 1;
        }
        self.kill_and_restart(stage, share)?;
        if self.reported.elapsed() > limits::REPORT_EVERY {
            self.reported = Instant::now();
            say::line(format!(
                "  {:>3.0} s: {} row events so far, {} records read",
                self.started.elapsed().as_secs_f64(),
                say::count(self.events),
                say::count(reading.records.len().try_into().unwrap_or(u64::MAX))
            ));
        }
        Ok(())
    }

    /// Slows the sessions down as far as they are ahead of the plan; how much of the load is done.
    fn pace(&self) -> f64 {
        let total = self.events_wanted.saturating_sub(self.events_before).max(1);
        let done = self.events.saturating_sub(self.events_before);
        let share_of_events = ratio(done, total);
        let share_of_time = self.started.elapsed().as_secs_f64() / self.seconds_wanted.max(1.0);
        let seconds_ahead = (share_of_events - share_of_time).max(0.0) * self.seconds_wanted;
        self.workload.pause(PAUSE_PER_SECOND_AHEAD.mul_f64(seconds_ahead));
        share_of_events.min(share_of_time)
    }

    fn kill_and_restart(&mut self, stage: &mut Stage, share: f64) -> anyhow::Result<()> {
        match self.outage {
            Outage::Ahead if share > KILL_AT => {
                say::line("  kill -9 of the bridge, and a new one at once");
                self.outage = Outage::Since(now());
                stage.bridge.kill()?;
                stage.bridge.start()?;
            }
            Outage::Since(killed) if stage.bridge.is_ready().is_ok() => {
                let ready = now();
                say::line(format!("  changes flow again {:.1} s after the kill", ready - killed));
                self.outage = Outage::Over { killed, ready };
            }
            Outage::Since(killed) if now() - killed > limits::READY_TIMEOUT.as_secs_f64() => {
                stage.bridge.wait_ready()?;
            }
            Outage::Ahead | Outage::Since(_) | Outage::Over { .. } => {}
        }
        Ok(())
    }

    fn stop(self) -> anyhow::Result<Done> {
        self.workload.stop()?;
        Ok(Done { seconds: self.started.elapsed().as_secs_f64(), outage: self.outage })
    }
}

/// What the reader got.
#[derive(Debug, Default)]
struct Reading {
    records: Vec<Record>,
    /// When each was read, in seconds of the machine's clock.
    times: Vec<f64>,
    /// How many of them are the initial rows', whose delays are those of a few huge transactions and of a registry that
    /// has just started.
    first: usize,
}

impl Reading {
    /// Takes what is there; waits for the first for at most `patience`. False if nothing came.
    fn take(&mut self, stage: &Stage, patience: Duration) -> anyhow::Result<bool> {
        let mut next = stage.news.recv_timeout(patience);
        let mut any = false;
        let until = Instant::now() + limits::PACE_EVERY;
        loop {
            match next {
                Ok(News::Line(line)) => self.add(&line)?,
                Ok(News::Interrupted) => bail!("interrupted; nothing was judged"),
                Ok(News::ReaderEnded) | Err(RecvTimeoutError::Disconnected) => {
                    bail!("the reader ended: {}", stage.reader.said())
                }
                Err(RecvTimeoutError::Timeout) => return Ok(any),
            }
            any = true;
            if Instant::now() > until {
                return Ok(true);
            }
            next = stage.news.recv_timeout(Duration::ZERO);
        }
    }

    /// Reads the initial rows.
    fn first_rows(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let expected = expected_records(&ledger::read(&mut stage.questions)?);
        let started = Instant::now();
        while self.arrived() < expected {
            self.take(stage, limits::PACE_EVERY)?;
            stage.bridge.check()?;
            if started.elapsed() > limits::READY_TIMEOUT {
                bail!("of the {expected} initial records only {} arrived", self.arrived());
            }
        }
        self.first = self.records.len();
        Ok(())
    }

    /// Records that the ledger explains.
    fn arrived(&self) -> usize {
        self.records.iter().filter(|record| !matches!(record.content, Content::Control { .. })).count()
    }

    fn add(&mut self, line: &str) -> anyhow::Result<()> {
        let json: Value = line.parse().with_context(|| format!("the reader printed {line:?}"))?;
        self.records.push(Record::from_json(&json).with_context(|| format!("the reader printed {line}"))?);
        self.times.push(now());
        Ok(())
    }

    /// Reads until as many records have come as must come, or until nothing comes any more.
    fn drain(&mut self, stage: &Stage, entries: &[Entry]) -> anyhow::Result<()> {
        let expected = expected_records(entries);
        let mut heard = Instant::now();
        while heard.elapsed() < limits::SILENCE_MAX {
            if self.arrived() >= expected {
                return Ok(());
            }
            stage.bridge.check()?;
            if self.take(stage, limits::PACE_EVERY)? {
                heard = Instant::now();
            }
        }
        Ok(())
    }

    /// All delays of the load, and those of its records that were not under way during the outage.
    fn delays(&self, load: &Done) -> [Delays; 2] {
        let mut delays = [Delays::default(), Delays::default()];
        for (record, &read) in self.records.iter().zip(&self.times).skip(self.first) {
            let (Content::Row(_), Some(delay_ms)) = (&record.content, record.delay_ms) else {
                continue;
            };
            let committed = read - delay_ms / 1_000.0;
            let disturbed = match load.outage {
                Outage::Over { killed, ready } => read > killed && committed < ready,
                Outage::Ahead | Outage::Since(_) => false,
            };
            let [all, undisturbed] = &mut delays;
            all.add(delay_ms);
            if !disturbed {
                undisturbed.add(delay_ms);
            }
        }
        delays
    }
}

/// Rows, tombstones, and a truncate in each partition.
fn expected_records(entries: &[Entry]) -> usize {
    let truncates = entries.iter().filter(|entry| matches!(entry.event, ledger::Event::Truncate { .. })).count();
    let rows = entries.iter().flat_map(|entry| entry.event.records());
    let of_rows: usize = rows.map(|(op, _)| if op == Op::Delete { 2 } else { 1 }).sum();
    of_rows + truncates * usize::try_from(PARTITIONS).unwrap_or(0)
}

/// What is told at the end.
#[derive(Debug)]
struct Result {
    broker: String,
    verdict: Verdict,
    mix: Mix,
    /// What the run should have held and did not.
    shortcomings: Vec<String>,
    delays: [Delays; 2],
    load: Done,
}

impl Result {
    fn passed(&self) -> bool {
        self.verdict.passed() && self.shortcomings.is_empty()
    }

    fn find_shortcomings(&self, options: &Options) -> Vec<String> {
        let mix = &self.mix;
        let kills = u64::from(matches!(self.load.outage, Outage::Over { .. }));
        let wanted = [
            ("row events", self.verdict.committed, options.events),
            ("accounts", mix.accounts, u64::from(limits::ACCOUNTS)),
            ("inserts", mix.inserts, 1),
            ("updates", mix.updates, 1),
            ("deletes", mix.deletes, 1),
            ("moves", mix.moves, 1),
            ("truncates", mix.truncates, 1),
            ("kills", kills, 1),
        ];
        let short = wanted.into_iter().filter(|(_, had, wanted)| had < wanted);
        short.map(|(what, had, wanted)| format!("{had} {what} instead of {wanted}")).collect()
    }

    fn tell(&mut self, as_json: bool) {
        for example in &self.verdict.examples {
            say::line(format!("  {example}"));
        }
        for shortcoming in &self.shortcomings {
            say::line(format!("  this run proves nothing: {shortcoming}"));
        }
        let [all, undisturbed] = &mut self.delays;
        let figures = [all.percentile(50), all.percentile(99), undisturbed.percentile(50), undisturbed.percentile(99)];
        let Verdict { committed, delivered, missing, duplicated, out_of_order, .. } = self.verdict;
        let Mix { inserts, updates, deletes, moves, truncates, transactions, accounts } = self.mix;
        let [p50, p99, p50_undisturbed, p99_undisturbed] = figures.map(|figure| figure.map(rounded));
        if as_json {
            let outage = match self.load.outage {
                Outage::Over { killed, ready } => Some(rounded((ready - killed) * 1_000.0)),
                Outage::Ahead | Outage::Since(_) => None,
            };
            let json = json!({
                "broker": self.broker, "committed": committed, "delivered": delivered, "missing": missing,
                "duplicated": duplicated, "out_of_order": out_of_order, "p50_ms": p50, "p99_ms": p99,
                "p50_undisturbed_ms": p50_undisturbed, "p99_undisturbed_ms": p99_undisturbed,
                "kills": u64::from(outage.is_some()), "outage_ms": outage, "seconds": rounded(self.load.seconds),
                "inserts": inserts, "updates": updates, "deletes": deletes, "moves": moves, "truncates": truncates,
                "transactions": transactions, "accounts": accounts, "shortcomings": self.shortcomings,
                "passed": self.passed(),
            });
            println!("{json}");
            return;
        }
        say::line(format!(
            "  {} inserts, {} updates, {} deletes, {moves} moves, {truncates} truncates in {} transactions of {accounts} \
             accounts; without the outage p50 {}, p99 {}",
            say::count(inserts),
            say::count(updates),
            say::count(deletes),
            say::count(transactions),
            milliseconds(p50_undisturbed),
            milliseconds(p99_undisturbed),
        ));
        println!(
            "{}: {} committed, {} delivered, {missing} missing, {duplicated} duplicated, {out_of_order} out of order, \
             p50 {}, p99 {}",
            self.broker,
            say::count(committed),
            say::count(delivered),
            milliseconds(p50),
            milliseconds(p99),
        );
    }
}

fn milliseconds(figure: Option<f64>) -> String {
    figure.map_or_else(|| "unknown".to_owned(), |figure| format!("{figure} ms"))
}

/// To a tenth.
fn rounded(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

fn ratio(part: u64, whole: u64) -> f64 {
    let float = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    float(part) / float(whole)
}

/// The machine's clock, in seconds.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
