//! What the reader of a measured run got, and whether it is everything.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::stage::{News, Stage};
use crate::delays::Delays;
use crate::ledger::{self, Entry};
use crate::limits;
use crate::record::{Content, Op, Record};

/// What the reader got.
#[derive(Debug, Default)]
pub struct Reading {
    /// In the order in which they came.
    pub records: Vec<Record>,
    /// When each was read, in seconds of the machine's clock.
    times: Vec<f64>,
    /// How many of them are the initial rows', whose delays are those of a few huge transactions and of a registry that
    /// has just started.
    first: usize,
}

impl Reading {
    /// Takes what is there; waits for the first for at most `patience`. False if nothing came.
    pub fn take(&mut self, stage: &Stage, patience: Duration) -> anyhow::Result<bool> {
        let mut next = stage.news.recv_timeout(patience);
        let mut any = false;
        let until = Instant::now() + limits::PACE_EVERY;
        loop {
            match next {
                Ok(News::Line(line)) => self.add(&line)?,
                // Nobody watches a channel in a measured run.
                Ok(News::Push { .. } | News::ChannelEnded(_)) => {}
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
    pub fn first_rows(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
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
    pub fn drain(&mut self, stage: &Stage, entries: &[Entry]) -> anyhow::Result<()> {
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

    /// All delays of the load, and those of its records that were not under way during the outage, which lasted from
    /// one moment to another in seconds of the machine's clock.
    pub fn delays(&self, outage: Option<(f64, f64)>) -> [Delays; 2] {
        let mut delays = [Delays::default(), Delays::default()];
        for (record, &read) in self.records.iter().zip(&self.times).skip(self.first) {
            let (Content::Row(_), Some(delay_ms)) = (&record.content, record.delay_ms) else {
                continue;
            };
            let committed = read - delay_ms / 1_000.0;
            let disturbed = outage.is_some_and(|(killed, ready)| read > killed && committed < ready);
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
    of_rows + truncates * usize::try_from(limits::PARTITIONS).unwrap_or(0)
}

/// The machine's clock, in seconds.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
