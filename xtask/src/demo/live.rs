//! The demo that is watched: a few transactions a second, each record on a line as it arrives, and beside them a story
//! whose statements are shown with what a client's and a gateway's channel are told of them, until Ctrl-C.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::Options;
use super::show::Show;
use super::stage::{News, Stage};
use super::story::{self, Story};
use crate::delays::Delays;
use crate::ledger;
use crate::limits;
use crate::record::{Content, Position, Record};
use crate::say;
use crate::workload::Workload;

/// Row events of the workload's average transaction.
const EVENTS_PER_TRANSACTION: f64 = 9.0;

/// Shows records until somebody has seen enough.
pub fn run(stage: &mut Stage, access: Option<&Path>, options: &Options) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    stage.load()?;
    let committed = ledger::count(&mut stage.questions)?;
    let mut viewer = Viewer::default();
    // The first rows are too many to be read: they are counted.
    while viewer.rows < committed {
        if let Next::End = viewer.next(stage, None)? {
            return Ok(ExitCode::SUCCESS);
        }
        say_late(started, viewer.rows, committed)?;
    }
    say::line(format!(
        "the first {} rows of {} accounts were committed and arrived within {}",
        say::count(committed),
        limits::ACCOUNTS,
        say::duration(started.elapsed())
    ));
    if let Some(access) = access {
        stage.questions.run(story::SQL).context("the story's first rows")?;
        stage.watch(access, story::CLIENT, story::GATEWAY)?;
        viewer.story = Some(Story::new(stage.database.session()?));
    }
    addresses(stage);

    let sessions = f64::from(u32::try_from(limits::SESSIONS).unwrap_or(1));
    let pause = Duration::from_secs_f64(sessions * EVENTS_PER_TRANSACTION / limits::LIVE_EVENTS_PER_SECOND);
    let mut workload = Workload::start(&stage.database, options.seed, pause)?;
    let mut show = Some(viewer.show(stage)?);
    viewer.delays = Delays::default();
    viewer.rows = 0;
    let mut truncated = Instant::now();
    loop {
        match viewer.next(stage, show.as_ref()).and_then(|next| viewer.go_on(next))? {
            Next::End => break,
            // Whoever watched has gone, as `head` does.
            Next::NobodyWatches => show = None,
            Next::GoOn => {}
        }
        if show.is_none() {
            break;
        }
        workload.check()?;
        stage.bridge.check()?;
        // The story has a TRUNCATE of its own, and would be disturbed by another.
        if viewer.story.is_none() && truncated.elapsed() > limits::LIVE_TRUNCATE_EVERY {
            stage.questions.run("TRUNCATE flows;")?;
            truncated = Instant::now();
        }
    }
    workload.stop()?;
    let (p50, p99) = (viewer.delays.percentile(50), viewer.delays.percentile(99));
    if let (Some(p50), Some(p99)) = (p50, p99) {
        let rows = say::count(viewer.rows);
        say::line(format!("{rows} records, from commit to readable p50 {p50:.0} ms, p99 {p99:.0} ms; stopping"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The first rows must not be waited for for ever.
fn say_late(started: Instant, arrived: u64, committed: u64) -> anyhow::Result<()> {
    if started.elapsed() > limits::READY_TIMEOUT {
        bail!("of the first {committed} rows only {arrived} arrived within {:?}", limits::READY_TIMEOUT);
    }
    Ok(())
}

fn addresses(stage: &Stage) {
    let url = match stage.servers.shared {
        true => stage.database.shown().to_owned(),
        false => stage.database.url(),
    };
    let (topic, registry) = (stage.topic_name(), &stage.servers.registry);
    let tail = format!("{} tail --config {}", stage.binary.display(), stage.configuration().display());
    say::line(format!(
        "\nLook at it while it runs:\n\
         \x20 Postgres   psql {url}\n\
         \x20 Kafka      {kafka}, topics {topic} and {topic}.progress\n\
         \x20 Registry   {registry}/subjects\n\
         \x20 Metrics    http://127.0.0.1:{http}/metrics (and /healthz, /readyz)\n\
         \x20 Records    {tail}\n\
         \x20 Log        {log}\n\
         Change something yourself: psql {url} -c \"UPDATE accounts SET name = 'Hello' WHERE slug = 'account-1'\"\n\
         Ctrl-C ends the demo and everything it started.\n\n\
         {delay:>8}  where      account     what   table                    columns",
        kafka = stage.servers.bootstrap,
        http = stage.bridge.http_port(),
        log = stage.bridge.log().display(),
        delay = "delay",
    ));
}

/// What comes next.
enum Next {
    GoOn,
    End,
    NobodyWatches,
}

fn say_all(lines: Vec<String>) -> anyhow::Result<Next> {
    watched(lines.iter().try_for_each(|line| writeln!(std::io::stdout(), "{line}")))
}

/// Whether what was printed was seen.
fn watched(printed: std::io::Result<()>) -> anyhow::Result<Next> {
    match printed {
        Ok(()) => Ok(Next::GoOn),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Next::NobodyWatches),
        Err(error) => Err(error).context("printing"),
    }
}

/// Reads, counts and prints.
#[derive(Debug, Default)]
struct Viewer {
    delays: Delays,
    rows: u64,
    /// The transaction whose lines are being printed, in its partition, and how many there were.
    current: Option<(u32, Position, usize)>,
    story: Option<Story>,
}

impl Viewer {
    fn show(&self, stage: &mut Stage) -> anyhow::Result<Show> {
        let rows = stage.questions.run("SELECT id, name FROM accounts;")?;
        let accounts: BTreeMap<String, String> =
            rows.lines().filter_map(|row| row.split_once('|')).map(|(id, name)| (id.into(), name.into())).collect();
        Ok(Show { accounts, coloured: say::coloured() })
    }

    fn next(&mut self, stage: &Stage, show: Option<&Show>) -> anyhow::Result<Next> {
        let line = match stage.news.recv_timeout(limits::PACE_EVERY) {
            Ok(News::Line(line)) => line,
            Ok(News::Push { who, line, at }) => {
                let json: Value = line.parse().with_context(|| format!("penstock-access printed {line:?}"))?;
                let Some(story) = &mut self.story else { return Ok(Next::GoOn) };
                return say_all(story.push(who, &json, at)?);
            }
            Ok(News::ChannelEnded(who)) => {
                bail!("the {}'s channel ended:\n{}", who.as_str(), stage.channels_said())
            }
            Ok(News::Interrupted) => return Ok(Next::End),
            Ok(News::ReaderEnded) | Err(RecvTimeoutError::Disconnected) => {
                bail!("the reader ended: {}", stage.reader.said())
            }
            Err(RecvTimeoutError::Timeout) => return Ok(Next::GoOn),
        };
        let json: Value = line.parse().with_context(|| format!("the reader printed {line:?}"))?;
        let record = Record::from_json(&json).with_context(|| format!("the reader printed {line}"))?;
        if let Content::Row(_) = record.content {
            self.rows += 1;
            if let Some(delay) = record.delay_ms {
                self.delays.add(delay);
            }
        }
        let Some(show) = show else { return Ok(Next::GoOn) };
        if let Next::NobodyWatches = watched(self.print(&record, &json, show))? {
            return Ok(Next::NobodyWatches);
        }
        let lines = self.story.as_mut().map(|story| story.record(&json)).unwrap_or_default();
        say_all(lines)
    }

    /// Lets the story go on, unless there is no more to show.
    fn go_on(&mut self, next: Next) -> anyhow::Result<Next> {
        match (next, &mut self.story) {
            (Next::GoOn, Some(story)) => say_all(story.go_on()?),
            (next, _) => Ok(next),
        }
    }

    /// Prints a record, unless its transaction has had its share of lines.
    fn print(&mut self, record: &Record, json: &Value, show: &Show) -> std::io::Result<()> {
        let commit = Position { seq: 0, ..record.position };
        let lines = match self.current {
            Some((partition, current, lines)) if (partition, current) == (record.partition, commit) => lines,
            Some((_, _, lines)) => {
                self.current = None;
                if let Some(left_out) = lines.checked_sub(limits::LINES_PER_TRANSACTION).filter(|left| *left > 0) {
                    writeln!(std::io::stdout(), "{:>8}  … and {left_out} more records of this transaction", "")?;
                }
                0
            }
            None => 0,
        };
        let Some(text) = show.line(record, json) else { return Ok(()) };
        self.current = Some((record.partition, commit, lines + 1));
        if lines < limits::LINES_PER_TRANSACTION {
            writeln!(std::io::stdout(), "{text}")?;
        }
        Ok(())
    }
}
