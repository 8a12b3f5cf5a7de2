//! States and pushes of the past, read from the topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use penstock_wire::account::Account as AccountId;
use penstock_wire::partition::Partitioner;
use penstock_wire::progress::Progress;
use uuid::Uuid;

use super::config::Config;
use super::error::ConnectError;
use super::log::{Log, Polled, ProgressLog, raw, schema};
use super::registry::Registry;
use super::{kafka, now};
use crate::history::{Finder, History, HistoryError, Options, Outcome, Past, Point, Wanted};
use crate::partition::{self, Isolation};
use crate::replica::Subscriber;

/// Why the past cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("registry.url: {0}. Check that the registry is up")]
    RegistryAway(String),
    #[error("the brokers answer nothing. Check kafka.brokers and kafka.properties")]
    Silent,
    #[error("no row of {0} is in the topic. If compaction has removed it, name its account")]
    NoSuchRow(Uuid),
}

/// The exact state of an account at a point, moved to the end of the last transaction that lies wholly at or before it.
///
/// Reads the account's partition from its beginning, and, where compaction has been at work, to its end.
///
/// # Errors
/// If the topic or the registry cannot be read, or the state cannot be proven: see [`HistoryError`].
pub async fn state_at(config: &Config, account: &str, point: Point) -> Result<Past, PastError> {
    let (config, account) = (config.clone(), Arc::from(account));
    in_background(move || Ok(read(&config, account, point, None)?.past)).await
}

/// What a channel that was opened at `from` would have been told until `to`; see [`state_at`]. `account`: None to look for
/// it. What had been announced is not in the topic, and so in no answer.
///
/// # Errors
/// As [`state_at`]; and if the channel could not have been opened.
pub async fn replay(
    config: &Config,
    account: Option<&str>,
    subscriber: Subscriber,
    from: Point,
    to: Point,
) -> Result<Outcome, PastError> {
    let (config, account) = (config.clone(), account.map(Arc::from));
    in_background(move || {
        let account = match account {
            Some(account) => account,
            None => find(&config, subscriber)?,
        };
        read(&config, account, from, Some((subscriber, to)))
    })
    .await
}

async fn in_background<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, PastError> + Send + 'static,
) -> Result<T, PastError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn read(
    config: &Config,
    account: Arc<str>,
    from: Point,
    replay: Option<(Subscriber, Point)>,
) -> Result<Outcome, PastError> {
    let registry = Registry::new(&config.registry)?;
    let mut progress_log = ProgressLog::open(config)?;
    let mut newest: BTreeMap<u16, Progress> = BTreeMap::new();
    // Before the partition's end is asked for: what progress speaks of is read then.
    progress_log.read(&registry, |progress| {
        newest.insert(progress.source_number, progress);
    })?;
    let partition = partition_of(config, &account)?;
    let mut log = Log::open(config, &[partition])?;
    let wanted = Wanted { account, partition, from, replay };
    let mut history = History::new(wanted, options(config)?, newest.into_values().collect(), now());
    let end = log.end(partition);
    let mut is_read = end == 0;
    while !is_read && !history.is_decided() {
        match log.poll()? {
            Polled::Message(message) => {
                let record = raw(&message);
                while let Err(unknown) = history.handle_record(&record) {
                    history.handle_schema(unknown.0, schema(&registry, unknown.0)?.as_deref());
                }
            }
            Polled::End { .. } => is_read = true,
            Polled::Nothing => {}
        }
        if history.begins_again() {
            log.rewind()?;
        }
    }
    Ok(history.finish(end)?)
}

/// The account that has the subscriber's row.
fn find(config: &Config, subscriber: Subscriber) -> Result<Arc<str>, PastError> {
    let registry = Registry::new(&config.registry)?;
    let consumer = kafka::progress(config)?;
    let partitions: Vec<u32> = (0..kafka::partitions(&consumer, &config.kafka.topic)?).collect();
    let mut log = Log::open(config, &partitions)?;
    let mut finder = Finder::new(subscriber, config.access.names());
    let mut open = partitions.len();
    while open > 0 {
        match log.poll()? {
            Polled::Message(message) => {
                let record = raw(&message);
                let found = loop {
                    match finder.handle_record(&record) {
                        Ok(found) => break found,
                        Err(unknown) => finder.handle_schema(unknown.0, schema(&registry, unknown.0)?.as_deref()),
                    }
                };
                if let Some(account) = found {
                    return Ok(account);
                }
            }
            Polled::End { .. } => open -= 1,
            Polled::Nothing => {}
        }
    }
    Err(PastError::NoSuchRow(subscriber.row()))
}

fn partition_of(config: &Config, account: &str) -> Result<u32, PastError> {
    let consumer = kafka::progress(config)?;
    let partitions = kafka::partitions(&consumer, &config.kafka.topic)?;
    let partitioner = Partitioner::new(partitions).expect("a topic has at least one partition");
    let account = AccountId::from_column(Some(account.as_bytes())).unwrap_or(AccountId::NONE);
    Ok(partitioner.partition(account).number())
}

fn options(config: &Config) -> Result<Options, PastError> {
    let settings = kafka::settings(config)?;
    Ok(Options {
        account: Arc::new(config.access.account()),
        partition: partition::Options {
            isolation: Isolation::ReadCommitted,
            stale_after: config.access.stale_after(),
            compaction_lag: settings.compaction_lag,
            tombstone_retention: settings.tombstone_retention,
        },
        names: config.access.names(),
    })
}
