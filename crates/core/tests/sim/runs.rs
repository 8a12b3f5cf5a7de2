//! Many histories at once, or one with its trace.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::{Summary, World};

const TOLD_EVERY: Duration = Duration::from_secs(2);
/// Failures that are told in full.
const TOLD_MAX: usize = 10;

/// Which seeds to run.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub from: u64,
    pub seeds: u64,
    /// The first failure is enough.
    pub until_failure: bool,
}

/// What came of them.
#[derive(Debug)]
pub struct Runs {
    seeds: u64,
    total: Summary,
    /// Seed, and what did not hold.
    failed: Vec<(u64, String)>,
    took: Duration,
}

fn run(seed: u64, traced: bool) -> (Result<Summary, String>, Vec<String>) {
    let mut trace = Vec::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| World::new(seed, traced))).and_then(|mut world| {
        let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
        trace = world.outside.take_trace();
        outcome
    });
    let outcome = outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
    });
    (outcome, trace)
}

/// Prints what happens, and how it ended.
pub fn replay(seed: u64) -> ExitCode {
    let (outcome, trace) = run(seed, true);
    trace.iter().for_each(|line| println!("{line}"));
    match outcome {
        Ok(summary) => {
            println!("seed {seed}: everything held: {summary:?}");
            ExitCode::SUCCESS
        }
        Err(what) => {
            println!("seed {seed}: {what}");
            ExitCode::FAILURE
        }
    }
}

/// A seed gives the same history, to the byte.
pub fn check_same_traces() {
    for seed in [3, 7, 20] {
        let (first, second) = (run(seed, true), run(seed, true));
        assert!(first.1.len() > 50, "a trace of {} lines", first.1.len());
        assert_eq!(first, second, "seed {seed} gave two histories");
    }
    assert_ne!(run(3, true).1, run(4, true).1, "two seeds gave one history");
}

/// Runs the seeds, on all cores.
pub fn many(order: Order) -> Runs {
    let began = Instant::now();
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let enough = AtomicBool::new(false);
    let results: Mutex<(Summary, Vec<(u64, String)>)> = Mutex::default();
    // What fails is told once, below.
    std::panic::set_hook(Box::new(|_| {}));
    let work = || {
        while !enough.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= order.seeds {
                return;
            }
            let seed = order.from + index;
            let (outcome, _) = run(seed, false);
            done.fetch_add(1, Ordering::Relaxed);
            let mut results = results.lock().expect("no panic is left uncaught");
            match outcome {
                Ok(summary) => results.0 = results.0 + summary,
                Err(what) => {
                    results.1.push((seed, what));
                    enough.store(order.until_failure, Ordering::Relaxed);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut told = Instant::now();
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                let failed = results.lock().expect("no panic is left uncaught").1.len();
                eprintln!("{} of {} seeds, {failed} failed", done.load(Ordering::Relaxed), order.seeds);
            }
        }
    });
    drop(std::panic::take_hook());
    let (total, mut failed) = results.into_inner().expect("no panic is left uncaught");
    failed.sort();
    Runs { seeds: done.into_inner(), total, failed, took: began.elapsed() }
}

impl Runs {
    /// One line, or one object; what failed before it.
    pub fn tell(&self, as_json: bool) -> ExitCode {
        let Self { seeds, total, failed, took } = self;
        let Summary { transactions, records, sessions, faults, compared, rebuilds } = *total;
        if as_json {
            let failures: Vec<_> = failed.iter().map(|(seed, what)| json!({ "seed": seed, "what": what })).collect();
            let seconds = took.as_secs_f64();
            println!(
                "{}",
                json!({
                    "seeds": seeds, "failed": failures, "seconds": seconds, "transactions": transactions,
                    "records": records, "sessions": sessions, "faults": faults, "compared": compared,
                    "rebuilds": rebuilds,
                })
            );
        } else {
            for (seed, what) in failed.iter().take(TOLD_MAX) {
                println!("seed {seed}: {what}");
            }
            println!(
                "{seeds} seeds in {:.1} s: {} failed; {transactions} transactions, {records} records readable, {sessions} \
                 sessions, {faults} faults, {compared} states compared, {rebuilds} rebuilds",
                took.as_secs_f64(),
                failed.len()
            );
            if let Some((seed, _)) = failed.first() {
                println!("SEED={seed} cargo xtask sim tells its history");
            }
        }
        if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
