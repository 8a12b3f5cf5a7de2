//! The demo as a measurement: a load, a TRUNCATE or two, kill -9 of the bridge in its middle, and then the ledger, read
//! back with SELECT, against what a reader in its own process got.
//!
//! Invariant: it passes only if it also did what it is meant to do: enough events, accounts, seconds, and each kind.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Options;
use super::reading::{Reading, now};
use super::stage::Stage;
use crate::delays::Delays;
use crate::ledger::{self, Entry};
use crate::limits;
use crate::reader::Count;
use crate::say;
use crate::verdict::{self, Mix, Verdict};
use crate::workload::Workload;

/// When, as a share of the load, what happens.
const TRUNCATES_AT: [f64; 2] = [0.3, 0.7];
const KILL_AT: f64 = 0.5;
/// How long a session pauses for each second that the load is ahead of its plan.
const PAUSE_PER_SECOND_AHEAD: Duration = Duration::from_millis(50);

/// Runs the load and judges it.
pub fn run(stage: &mut Stage, options: &Options, mock: bool) -> anyhow::Result<ExitCode> {
    let mut reading = Reading::default();
    stage.load()?;
    reading.first_rows(stage)?;
    let mut load = Load::start(stage, options, mock)?;
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
        delays: reading.delays(load.outage.span()),
        verdict,
        load,
    };
    result.shortcomings = result.find_shortcomings(options);
    result.tell(options.json);
    Ok(if result.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn judge(entries: &[Entry], reading: &Reading, count: Count) -> Verdict {
    let mut verdict = verdict::judge(entries, &reading.records, limits::PARTITIONS);
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
    /// None is wanted: a mock broker shows aborted records.
    None,
    Ahead,
    /// Since then, in seconds of the machine's clock.
    Since(f64),
    Over {
        killed: f64,
        ready: f64,
    },
}

impl Outage {
    /// From the kill until changes flowed again.
    fn span(self) -> Option<(f64, f64)> {
        match self {
            Self::Over { killed, ready } => Some((killed, ready)),
            Self::None | Self::Ahead | Self::Since(_) => None,
        }
    }
}

/// A load that is over.
#[derive(Debug)]
struct Done {
    seconds: f64,
    outage: Outage,
}

impl Load {
    fn start(stage: &mut Stage, options: &Options, mock: bool) -> anyhow::Result<Self> {
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
            outage: if mock { Outage::None } else { Outage::Ahead },
        })
    }

    /// Whether enough was done. Asks for what was really committed only when it may be.
    fn over(&self, stage: &mut Stage) -> anyhow::Result<bool> {
        let outage_over = matches!(self.outage, Outage::Over { .. } | Outage::None);
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
            Outage::None | Outage::Ahead | Outage::Since(_) | Outage::Over { .. } => {}
        }
        Ok(())
    }

    fn stop(self) -> anyhow::Result<Done> {
        self.workload.stop()?;
        Ok(Done { seconds: self.started.elapsed().as_secs_f64(), outage: self.outage })
    }
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
        let kills = u64::from(self.load.outage.span().is_some());
        let wanted = [
            ("row events", self.verdict.committed, options.events),
            ("accounts", mix.accounts, u64::from(limits::ACCOUNTS)),
            ("inserts", mix.inserts, 1),
            ("updates", mix.updates, 1),
            ("deletes", mix.deletes, 1),
            ("moves", mix.moves, 1),
            ("truncates", mix.truncates, 1),
            ("kills", kills, u64::from(self.load.outage != Outage::None)),
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
            let outage = self.load.outage.span().map(|(killed, ready)| rounded((ready - killed) * 1_000.0));
            let json = json!({
                "broker": self.broker, "committed": committed, "delivered": delivered, "missing": missing,
                "duplicated": duplicated, "out_of_order": out_of_order, "p50_ms": p50, "p99_ms": p99,
                "p50_undisturbed_ms": p50_undisturbed, "p99_undisturbed_ms": p99_undisturbed,
                "kills": u64::from(outage.is_some()), "outage_ms": outage, "seconds": rounded(self.load.seconds),
                "inserts": inserts, "updates": updates, "deletes": deletes, "moves": moves, "truncates": truncates,
                "transactions": transactions, "accounts": accounts, "shortcomings": self.shortcomings,
                "mock": self.load.outage == Outage::None, "passed": self.passed(),
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
