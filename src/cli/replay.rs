//! `replay` and `tail`: what is in the topic, as lines of JSON.

use std::io::{self, BufWriter, ErrorKind};
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use penstock_wire::event::Op;
use penstock_wire::lsn::Lsn;

use super::endpoints::{self, EndpointArgs};
use super::{USAGE, failed, runtime, watch_signals};
use crate::config::{Endpoints, Log, LogFormat, LogLevel, TableName};
use crate::kafka::client::IsolationLevel;
use crate::kafka::topics::Names;
use crate::log;
use crate::moment::{MomentError, parse_ms};
use crate::registry::Registry;
use crate::replay::{Begin, Extent, ReaderError, ReplayError, Request, Schemas, Selection, Span, Summary, replay};
use crate::run::describe;

/// What to read, and what of it to show.
#[derive(Clone, Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    endpoints: EndpointArgs,

    /// Only this account ("global": rows without one). Reads only its partition. May be repeated.
    #[arg(long, value_name = "ACCOUNT", help_heading = "Filters")]
    account: Vec<String>,
    /// Only this table. May be repeated.
    #[arg(long, value_name = "SCHEMA.TABLE", help_heading = "Filters")]
    table: Vec<TableName>,
    /// Only these operations: c (created), u (updated), d (deleted), r (read by a load).
    #[arg(long, value_name = "OP,…", value_delimiter = ',', value_parser = parse_op, help_heading = "Filters")]
    op: Vec<Op>,
    /// Only this partition. May be repeated.
    #[arg(long, value_name = "NUMBER", help_heading = "Filters")]
    partition: Vec<u32>,
    /// Tombstones and control records too (epoch, truncate, gap, reload, dead letter).
    #[arg(long, help_heading = "Filters")]
    all_records: bool,
    /// The rows that could not be delivered, from the dead-letter topic, instead of the change topic. A row whose account
    /// is not known is shown whatever account is asked for.
    #[arg(long, conflicts_with = "all_records", help_heading = "Filters")]
    dead_letters: bool,

    /// Begin at this offset of every partition; -N begins N offsets before the end, "end" at it.
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true, help_heading = "Ranges")]
    from_offset: Option<Beginning>,
    /// Read no offset from this one on.
    #[arg(long, value_name = "OFFSET", help_heading = "Ranges")]
    to_offset: Option<u32>,
    /// Only what was committed at or after this time: 2026-07-01T12:00:00Z, or milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Ranges")]
    from_time: Option<i64>,
    /// Only what was committed before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Ranges")]
    to_time: Option<i64>,
    /// Only transactions whose commit record stands at or after this LSN, as in 16/B374D848.
    #[arg(long, value_name = "LSN", help_heading = "Ranges")]
    from_lsn: Option<Lsn>,
    /// Only transactions whose commit record stands before this LSN.
    #[arg(long, value_name = "LSN", help_heading = "Ranges")]
    to_lsn: Option<Lsn>,

    /// Go on behind the end, until Ctrl-C.
    #[arg(short, long)]
    follow: bool,
    /// End after this many records.
    #[arg(short = 'n', long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// Which records there are: those of committed Kafka transactions, or everything written (lowest latency).
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Isolation::ReadCommitted)]
    isolation: Isolation,
    /// Show no records; end with one JSON object that counts them by kind, operation, table and account.
    #[arg(long)]
    count: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Isolation {
    ReadCommitted,
    ReadUncommitted,
}

/// A beginning as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Beginning(Begin);

impl FromStr for Beginning {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let begin = match (text, text.strip_prefix('-')) {
            ("end", _) => Some(Begin::BeforeEnd(0)),
            (_, Some(records)) => parse_offset(records).map(Begin::BeforeEnd),
            (offset, None) => parse_offset(offset).map(Begin::Offset),
        };
        begin.map(Self).ok_or("write a number, -N for the last N, or end")
    }
}

/// Offsets are never negative, and clap has no say in the sign.
fn parse_offset(text: &str) -> Option<i64> {
    text.parse::<i64>().ok().filter(|offset| *offset >= 0 && text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn parse_op(text: &str) -> Result<Op, &'static str> {
    Op::from_letter(text).ok_or("operations are c, u, d and r")
}

fn parse_time(text: &str) -> Result<i64, MomentError> {
    parse_ms(text)
}

impl ReplayArgs {
    fn request(&self, topic: &str, follow: bool) -> Request {
        let isolation = match self.isolation {
            Isolation::ReadCommitted => IsolationLevel::ReadCommitted,
            Isolation::ReadUncommitted => IsolationLevel::ReadUncommitted,
        };
        Request {
            extent: Extent {
                topic: match self.dead_letters {
                    true => Names { changes: topic.to_owned() }.dead_letter(),
                    false => topic.to_owned(),
                },
                isolation,
                partitions: self.partition.iter().copied().collect(),
                begin: self.from_offset.map(|from| from.0).unwrap_or_default(),
                to_offset: self.to_offset.map(i64::from),
                follow: follow || self.follow,
            },
            selection: Selection {
                accounts: self.account.iter().cloned().collect(),
                tables: self.table.iter().cloned().collect(),
                ops: self.op.iter().copied().collect(),
                time_ms: Span { from: self.from_time, to: self.to_time },
                commit_lsn: Span { from: self.from_lsn, to: self.to_lsn },
                all_records: self.all_records,
            },
            limit: self.limit,
            count: self.count,
            dead_letters: self.dead_letters,
        }
    }
}

/// Reads to the end, or until somebody interrupts.
pub(super) fn run(args: &ReplayArgs, follow: bool) -> ExitCode {
    let endpoints = match args.endpoints.load() {
        Ok(endpoints) => endpoints,
        Err(error) => {
            eprintln!("penstock: {error}");
            return ExitCode::from(USAGE);
        }
    };
    log::init(&Log { format: LogFormat::Text, level: LogLevel::Warn });
    let request = args.request(&endpoints.kafka.topic, follow);
    let ended = match runtime() {
        Ok(runtime) => {
            let ended = runtime.block_on(read(&endpoints, &request));
            // A blocking question to a broker that is away must not hold up the exit.
            runtime.shutdown_background();
            ended
        }
        Err(error) => return failed(&format!("cannot start: {error}"), None),
    };
    match ended {
        Ok(summary) => report(&summary, &request),
        // Whoever reads the lines has had enough: `penstock replay | head`.
        Err(ReplayError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        // librdkafka's errors repeat themselves in their causes.
        Err(ReplayError::Reader(error)) => failed(&error.to_string(), advice(&error)),
        Err(error @ (ReplayError::Schema(_) | ReplayError::Output(_))) => failed(&describe(&error), None),
    }
}

fn advice(error: &ReaderError) -> Option<&'static str> {
    match error {
        ReaderError::Kafka { .. } | ReaderError::Silent(_) => {
            Some("Check kafka.brokers, the credentials in kafka.properties, and that the brokers are up.")
        }
        ReaderError::NoTopic(_) => Some("Check kafka.topic; `penstock setup` makes it."),
        ReaderError::NoPartition { .. } | ReaderError::Partitions(_) => None,
    }
}

async fn read(endpoints: &Endpoints, request: &Request) -> Result<Summary, ReplayError> {
    let registry = Registry::new(&endpoints::registry(&endpoints.registry));
    let registry = registry.map_err(|error| ReplayError::Schema(error.into()))?;
    let interrupted = watch_signals().map_err(ReplayError::Output)?;
    let mut output = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let brokers = endpoints::brokers(&endpoints.kafka);
    replay(&brokers, Schemas::new(registry), request, &mut output, interrupted).await
}

fn report(summary: &Summary, request: &Request) -> ExitCode {
    if request.count {
        match serde_json::to_string(summary) {
            Ok(json) => println!("{json}"),
            Err(error) => return failed(&format!("cannot write the count: {error}"), None),
        }
    } else {
        eprintln!("penstock: {}", summary.text());
    }
    match summary.undecodable() {
        0 => ExitCode::SUCCESS,
        count => failed(&format!("{count} records could not be decoded; their lines tell why"), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_offsets_or_counted_from_the_end() {
        for (text, begin) in [
            ("0", Begin::Offset(0)),
            ("17", Begin::Offset(17)),
            ("-5", Begin::BeforeEnd(5)),
            ("end", Begin::BeforeEnd(0)),
        ] {
            assert_eq!(text.parse(), Ok(Beginning(begin)), "{text}");
        }
        for text in ["", "-", "--1", "+1", "1.5", "End", "99999999999999999999"] {
            assert!(text.parse::<Beginning>().is_err(), "{text}");
        }
    }
}
