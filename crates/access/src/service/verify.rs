//! The consumer's state against the database, while both go on.
//!
//! The topic is read from its beginning by a replica of its own. Then, in rounds: the database is read in one snapshot,
//! the topic is followed until everything is applied that the snapshot could see, and the two are compared. What a
//! transaction has touched that the snapshot could not see is compared again in the next round, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_wire::account::GLOBAL;
use penstock_wire::control::{Control, ControlKind};
use penstock_wire::decode::{Envelope, WriterSchema};
use penstock_wire::framing;
use penstock_wire::header::Header;
use penstock_wire::lsn::{CommitLsn, EndLsn};
use penstock_wire::partition::Partitioner;
use penstock_wire::progress::Progress;

use super::config::Config;
use super::database::{Database, DatabaseError, Seen};
use super::log::{Log, Polled, ProgressLog, raw, schema};
use super::past::PastError;
use super::registry::Registry;
use super::{kafka, now};
use crate::account::snapshot::RowState;
use crate::decode::{DecodeError, Names, Schemas};
use crate::knowledge::Reason;
use crate::partition::{self, Isolation};
use crate::replica::{Options, Output, RawRecord, Replica, UnknownSchema};
use crate::verify::{Comparison, Difference, Key, Touches, Visibility, compare};

/// How long the topic may take to reach what the database has shown.
const PATIENCE: Duration = Duration::from_secs(120);
/// Rows that transactions touch again and again are compared so often before that is an error.
const ROUNDS_MAX: u32 = 100;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verified {
    /// In order of account, table and key.
    pub differences: Vec<Difference>,
    /// Flows that the state holds as ended and whose rows are still there: no differences.
    pub ended_flows: BTreeSet<Key>,
    /// Rows that are the same.
    pub same: usize,
    /// Rows that were compared more than once.
    pub again: usize,
    /// Accounts that the consumer does not answer for now, and why.
    pub doubts: BTreeMap<String, Reason>,
}

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Topic(#[from] PastError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("the database is no source of the topic. Check --database, and kafka.topic in the configuration")]
    OtherDatabase,
    #[error(
        "waited {seconds} s for the topic to reach {wanted}, and it is known to {known}. Check that the bridge runs"
    )]
    Behind { seconds: u64, wanted: CommitLsn, known: EndLsn },
    #[error("{rows} rows were touched again whenever they were compared, {rounds} times: ask when there is less to do")]
    TooBusy { rows: usize, rounds: u32 },
}

/// Compares the rows of some accounts, of all without any.
///
/// # Errors
/// If it could not be found out. Differences are none.
pub async fn verify(config: &Config, url: &str, accounts: &[String]) -> Result<Verified, VerifyError> {
    let (config, url, accounts) = (config.clone(), url.to_owned(), accounts.to_vec());
    let runtime = tokio::runtime::Handle::current();
    match tokio::task::spawn_blocking(move || run(&runtime, &config, &url, &accounts)).await {
        Ok(verified) => verified,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn run(
    runtime: &tokio::runtime::Handle,
    config: &Config,
    url: &str,
    accounts: &[String],
) -> Result<Verified, VerifyError> {
    let mut database = runtime.block_on(Database::connect(url, &config.access.schema))?;
    let identity = runtime.block_on(database.identity())?;
    let mut follower = Follower::open(config)?;
    let source = follower.source(identity)?;
    follower.read_to_end()?;
    let mut verified = Verified::default();
    let mut only: Option<BTreeSet<Key>> = None;
    for round in 0..ROUNDS_MAX {
        let seen = runtime.block_on(database.read(accounts, only.as_ref()))?;
        follower.follow_to(source, seen.end)?;
        let found = follower.compare(&seen, accounts, only.as_ref());
        tracing::info!(round, same = found.same, again = found.again.len(), "compared");
        verified.differences.extend(found.differences);
        verified.ended_flows.extend(found.ended_flows);
        verified.same += found.same;
        verified.again += found.again.len();
        if found.again.is_empty() {
            verified.differences.sort_by(|one, other| {
                let key = |of: &Difference| (of.account.clone(), of.table, of.key.clone());
                key(one).cmp(&key(other))
            });
            verified.doubts = follower.doubts(accounts);
            return Ok(verified);
        }
        only = Some(found.again);
    }
    Err(VerifyError::TooBusy { rows: only.map_or(0, |only| only.len()), rounds: ROUNDS_MAX })
}

/// A replica of all partitions, and who touched which row last.
struct Follower {
    log: Log,
    progress: ProgressLog,
    registry: Registry,
    replica: Replica,
    sources: BTreeMap<u16, (u64, u32)>,
    touched: Touched,
}

/// What a replica does not keep.
struct Touched {
    keys: Schemas,
    writers: BTreeMap<u32, Option<WriterSchema>>,
    names: Names,
    touches: Touches,
}

impl Follower {
    fn open(config: &Config) -> Result<Self, PastError> {
        let registry = Registry::new(&config.registry)?;
        let progress = ProgressLog::open(config)?;
        let count = kafka::partitions(&kafka::progress(config)?, &config.kafka.topic)?;
        let settings = kafka::settings(config)?;
        let mut replica = Replica::new(Options {
            account: config.access.account(),
            partition: partition::Options {
                isolation: Isolation::ReadCommitted,
                stale_after: config.access.stale_after(),
                compaction_lag: settings.compaction_lag,
                tombstone_retention: settings.tombstone_retention,
            },
            names: config.access.names(),
            partitions: Partitioner::new(count).expect("a topic has at least one partition"),
        });
        let partitions: Vec<u32> = (0..count).collect();
        for partition in &partitions {
            replica.assign(*partition, now());
        }
        let names = config.access.names();
        let touched =
            Touched { keys: Schemas::new(names.clone()), writers: BTreeMap::new(), names, touches: Touches::default() };
        let log = Log::open(config, &partitions)?;
        let mut follower = Self { log, progress, registry, replica, sources: BTreeMap::new(), touched };
        let Self { progress, registry, replica, sources, .. } = &mut follower;
        progress.read(registry, |of_source| take_progress(&of_source, replica, sources))?;
        Ok(follower)
    }

    /// The number of the source that the database is.
    fn source(&self, identity: (u64, u32)) -> Result<u16, VerifyError> {
        let found = self.sources.iter().find(|(_, of)| **of == identity);
        found.map(|(number, _)| *number).ok_or(VerifyError::OtherDatabase)
    }

    fn read_to_end(&mut self) -> Result<(), PastError> {
        let mut open: BTreeSet<u32> = self.replica.assigned().into_iter().collect();
        while !open.is_empty() {
            if let Some(ended) = self.step()? {
                open.remove(&ended);
            }
        }
        Ok(())
    }

    /// Follows the topic until everything of the source is applied that was committed before `end`.
    fn follow_to(&mut self, source: u16, end: CommitLsn) -> Result<(), VerifyError> {
        let begun = Instant::now();
        loop {
            let known = self.known_to(source);
            // Everything before `end` is meant, as a commit there would be of a later snapshot.
            if known.raw() >= end.raw() {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(VerifyError::Behind { seconds: PATIENCE.as_secs(), wanted: end, known });
            }
            self.step()?;
        }
    }

    /// Everything of the source that was committed before this is applied.
    fn known_to(&self, source: u16) -> EndLsn {
        let readings = self.replica.assigned().into_iter().filter_map(|partition| self.replica.reading(partition));
        let known = readings.map(|reading| reading.delivered(source).unwrap_or_default());
        known.min().unwrap_or_default()
    }

    /// Looks once. A partition that was read to its end.
    fn step(&mut self) -> Result<Option<u32>, PastError> {
        let Self { log, progress, registry, replica, sources, touched } = self;
        progress.read_new(registry, |of_source| take_progress(&of_source, replica, sources))?;
        let mut ended = None;
        match log.poll()? {
            Polled::Message(message) => {
                let record = raw(&message);
                while let Err(UnknownSchema(id)) = replica.handle_record(&record, now()) {
                    replica.handle_schema(id, schema(registry, id)?.as_deref());
                }
                touched.take(&record, registry)?;
            }
            Polled::End { partition, offset } => {
                replica.handle_end(partition, offset, now());
                ended = Some(partition);
            }
            Polled::Nothing => replica.handle_time(now()),
        }
        let mut again = Vec::new();
        while let Some(output) = replica.poll_output() {
            match output {
                Output::Problem(problem) => tracing::warn!(partition = problem.partition, "{}", problem.kind),
                Output::Read { partition, why } => {
                    tracing::warn!(partition, ?why, "the topic is read again from its beginning");
                    again.push(partition);
                }
                Output::Channel { .. } | Output::EndedFlow { .. } => {}
            }
        }
        for partition in again {
            log.rewind_one(partition)?;
            ended = ended.filter(|ended| *ended != partition);
        }
        Ok(ended)
    }

    fn compare(&self, seen: &Seen, accounts: &[String], only: Option<&BTreeSet<Key>>) -> Comparison {
        let Seen { rows, visibility, end } = seen;
        let is_newer = |key: &Key| self.is_newer(key, visibility, *end);
        compare(&self.rows(accounts), rows, only, is_newer)
    }

    fn is_newer(&self, key: &Key, visibility: &Visibility, end: CommitLsn) -> bool {
        self.touched.touches.is_newer(key, visibility, end)
    }

    fn rows(&self, accounts: &[String]) -> BTreeMap<Key, RowState> {
        let mut rows = BTreeMap::new();
        for account in self.replica.accounts().filter(|account| is_wanted(account.id(), accounts)) {
            let id: Arc<str> = account.id().into();
            let snapshot = account.snapshot();
            rows.extend(snapshot.rows.into_iter().map(|row| ((Arc::clone(&id), row.table, row.id), row)));
        }
        rows
    }

    fn doubts(&self, accounts: &[String]) -> BTreeMap<String, Reason> {
        let wanted = self.replica.accounts().filter(|account| is_wanted(account.id(), accounts));
        let doubted = wanted.filter_map(|account| {
            let reason = self.replica.doubt(account.id(), now())?;
            Some((account.id().to_owned(), reason))
        });
        doubted.collect()
    }
}

fn is_wanted(account: &str, accounts: &[String]) -> bool {
    accounts.is_empty() || accounts.iter().any(|wanted| wanted == account)
}

fn take_progress(of_source: &Progress, replica: &mut Replica, sources: &mut BTreeMap<u16, (u64, u32)>) {
    sources.insert(of_source.source_number, (of_source.system_identifier, of_source.database_oid));
    replica.handle_progress(of_source, now());
}

impl Touched {
    /// Remembers who touched the row. What cannot be read is told by the replica.
    fn take(&mut self, record: &RawRecord<'_>, registry: &Registry) -> Result<(), PastError> {
        let Some(Ok(header)) = record.header.map(Header::decode) else { return Ok(()) };
        let Some((id, body)) = record.value.and_then(|value| framing::split(value).ok()) else { return Ok(()) };
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.writers.entry(id) {
            vacant.insert(schema(registry, id)?.and_then(|json| WriterSchema::parse(&json).ok()));
        }
        if record.is_control {
            let writer = self.writers.get(&id).and_then(Option::as_ref);
            let control = writer.and_then(|writer| Control::decode_with(writer, body).ok());
            if let Some(control) = control.filter(|control| control.kind == ControlKind::Truncate)
                && let Some(table) = self.names.table(&control.schema, &control.table)
            {
                self.touches.truncate(table, header.position.commit_lsn);
            }
            return Ok(());
        }
        while let Err(DecodeError::UnknownSchema(id)) = self.keys.decode_key(record.key) {
            let json = schema(registry, id)?.unwrap_or_default();
            if self.keys.insert(id, &json).is_err() {
                return Ok(());
            }
        }
        let Ok(key) = self.keys.decode_key(record.key) else { return Ok(()) };
        let (Some((table, row)), false) = (key.row, key.account == GLOBAL) else { return Ok(()) };
        let writer = self.writers.get(&id).and_then(Option::as_ref);
        let envelope = writer.and_then(|writer| Envelope::decode(writer, body).ok());
        // A row that a load has read was written by somebody whose own record tells of it.
        let xid = envelope.and_then(|envelope| envelope.source.xid).and_then(|xid| u32::try_from(xid).ok());
        if let Some(xid) = xid {
            self.touches.row((Arc::from(key.account), table, row), xid);
        }
        Ok(())
    }
}
