//! What every session shares: the configuration, the catalog, the registry, and where the bridge stands.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_core::bridge::Settings;
use penstock_core::fault::Fault;
use penstock_core::limits::Limits;
use penstock_core::oversize::{Oversize, Policy};
use penstock_core::pgoutput::Relation;
use penstock_core::poison;
use penstock_core::relation::{AccountColumns, Capture, CatalogFacts, Rules, Table, TableRules};
use penstock_core::resume::{Pinned, Refusal};
use penstock_wire::control::{Control, ControlKey};
use penstock_wire::dead_letter::DeadLetter;
use penstock_wire::lsn::EndLsn;
use penstock_wire::partition::{PartitionCountError, Partitioner};
use penstock_wire::progress::Progress;
use penstock_wire::table::SourceInfo;
use tokio::sync::Mutex;

use super::describe;
use crate::catalog::{Catalog, CatalogError};
use crate::config::{Config, OversizedTransaction, Poison, TableName, TablePattern};
use crate::health::Health;
use crate::kafka::client::Brokers;
use crate::kafka::progress::ProgressError;
use crate::kafka::sink::{ProgressRecord, Topics as SinkTopics};
use crate::kafka::topics::{Names, TopicsError};
use crate::metrics::Metrics;
use crate::registry::{Registry, RegistryError, RegistryOptions};
use crate::source::{Class, ConnectOptions, SourceError};

/// How long the server may take to say who streams from the slot.
const SLOT_PATIENCE: Duration = Duration::from_secs(5);
const CATALOG_PAUSE: Duration = Duration::from_millis(500);
const FOREIGN_PROGRESS: &str = "If somebody else did, who is no bridge: take the right to write to the progress topic from them. Then \
     write behind it, under the same key, the newest record that a bridge wrote, byte for byte, or an empty one (a tombstone) where \
     the key is no source's.";

/// Why the bridge ends although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The stream holds something that cannot be delivered.
    #[error("{0}")]
    Fault(Box<Fault>),
    /// Slot, progress and topic do not agree.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// Postgres refuses.
    #[error("Postgres")]
    Source(#[from] SourceError),
    /// The catalog cannot be asked.
    #[error("the catalog")]
    Catalog(#[from] CatalogError),
    /// The registry refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Topics cannot be created or described.
    #[error("Kafka")]
    Topics(#[from] TopicsError),
    /// Progress cannot be read.
    #[error("progress")]
    Progress(#[from] ProgressError),
    /// The stored progress is written in a way this version cannot read: whose, and why.
    #[error("the progress record cannot be read: that of {0}")]
    ProgressFormat(String),
    /// `check` found what must be mended first.
    #[error("{} finding(s) stop the bridge:\n{}", .0.len(), .0.join("\n"))]
    Findings(Vec<String>),
    /// A start before this one, or another one, is at it.
    #[error(
        "process {pid} of the server is still making slot {slot:?}, and waits for transactions that run; if no other \
         `penstock setup` or `run` is at it: SELECT pg_terminate_backend({pid})"
    )]
    SlotUnfinished {
        /// Its name.
        slot: String,
        /// The server's process.
        pid: i32,
    },
    /// The publication holds a table that is not to be captured.
    #[error("table {0} is published, but the configuration does not ask for it: nothing of it was written")]
    NotCaptured(TableName),
    /// Nobody would be able to read it.
    #[error(transparent)]
    Partitions(#[from] PartitionCountError),
    /// The brokers take no producer whose transactions may last so long.
    #[error(
        "the brokers refuse kafka.transaction_timeout_ms = {}: set it to at most their transaction.max.timeout.ms, or raise \
         that",
        .0.as_millis()
    )]
    TransactionTimeout(Duration),
    /// A thread or a socket of our own.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl RunError {
    /// Whether waiting may mend it.
    pub fn class(&self) -> Class {
        match self {
            Self::Source(error) => error.class(),
            Self::Catalog(error) => error.class(),
            Self::Topics(TopicsError::Kafka { .. } | TopicsError::NotReady { .. } | TopicsError::Id(_)) => Class::Retry,
            Self::Progress(ProgressError::Kafka { .. } | ProgressError::OpenTransaction { .. })
            | Self::SlotUnfinished { .. } => Class::Retry,
            Self::Topics(TopicsError::Refused { .. })
            | Self::Progress(ProgressError::Malformed { .. })
            | Self::Fault(_)
            | Self::Refused(_)
            | Self::Registry(_)
            | Self::ProgressFormat(_)
            | Self::Findings(_)
            | Self::NotCaptured(_)
            | Self::Partitions(_)
            | Self::TransactionTimeout(_)
            | Self::Io { .. } => Class::Halt,
        }
    }

    /// What the operator can do, where the error does not say it itself.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Fault(fault) => Some(fault.remedy()),
            Self::Refused(refusal) => Some(refusal.remedy()),
            Self::Source(error) => Some(error.advice().to_owned()),
            Self::Catalog(error) => Some(error.advice().to_owned()),
            Self::Registry(_)
            | Self::Findings(_)
            | Self::SlotUnfinished { .. }
            | Self::Partitions(_)
            | Self::TransactionTimeout(_)
            | Self::Io { .. } => None,
            Self::Progress(ProgressError::Malformed { .. }) => Some(FOREIGN_PROGRESS.into()),
            Self::Topics(_) | Self::Progress(_) => {
                Some("Check kafka.brokers, the credentials in kafka.properties, and that the brokers are up.".into())
            }
            Self::NotCaptured(table) => Some(format!(
                "ALTER PUBLICATION … DROP TABLE {}; keeps later rows of it out. Rows that it holds already stand in the WAL: add \"{table}\" to tables.capture (and take it out of tables.leave_out) to have them delivered, for there is no way past them that says nothing. What must not leave the database of it goes into tables.exclude.",
                table.to_sql()
            )),
            Self::ProgressFormat(_) => {
                Some(format!("If Penstock wrote it, run that version or a newer one. {FOREIGN_PROGRESS}"))
            }
        }
    }
}

/// How far the bridge has read and what is durable, for whoever shows it.
#[derive(Debug, Default)]
pub struct Positions {
    read_to: AtomicU64,
    durable: AtomicU64,
}

impl Positions {
    /// Both at once; a reader may see one of them older, which a lag survives.
    pub fn set(&self, read_to: EndLsn, durable: EndLsn) {
        self.read_to.store(read_to.raw(), Ordering::Relaxed);
        self.durable.store(durable.raw(), Ordering::Relaxed);
    }

    /// Read to, durable to.
    pub fn get(&self) -> (EndLsn, EndLsn) {
        (EndLsn::new(self.read_to.load(Ordering::Relaxed)), EndLsn::new(self.durable.load(Ordering::Relaxed)))
    }
}

/// Registry ids of the schemas every bridge writes with.
#[derive(Clone, Copy, Debug)]
pub struct OwnSchemas {
    /// Of control records: key, value.
    pub control: (u32, u32),
    /// Of progress records.
    pub progress: u32,
    /// Of dead letters.
    pub dead_letter: u32,
}

/// The largest records, key and value together.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordBytes {
    pub(super) change: usize,
    pub(super) dead_letter: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Shell {
    pub config: Config,
    pub health: Health,
    pub metrics: Metrics,
    pub positions: Positions,
    pub(super) registry: Registry,
    pub(super) catalog: Mutex<Catalog>,
    pub(super) partitioner: Partitioner,
    pub(super) own_schemas: OwnSchemas,
}

impl Shell {
    /// Sets up the clients and registers the bridge's own schemas, waiting for the registry if it must.
    pub async fn new(config: Config, health: Health, metrics: Metrics) -> Result<Self, RunError> {
        let registry = Registry::new(&RegistryOptions::from(&config.registry))?.counted(metrics.clone());
        let own_schemas = register_own(&registry, &config.kafka.topic, &health).await?;
        Ok(Self {
            partitioner: Partitioner::new(config.kafka.partitions)?,
            catalog: Mutex::new(Catalog::new(config.source.server.connect_options("penstock catalog"))),
            positions: Positions::default(),
            config,
            health,
            metrics,
            registry,
            own_schemas,
        })
    }

    pub(super) fn status_interval(&self) -> Duration {
        self.config.source.status_interval
    }

    pub(super) fn frame_bytes_max(&self) -> usize {
        self.config.limits.frame_bytes_max
    }

    pub(super) fn slot(&self) -> &str {
        &self.config.source.slot
    }

    pub(super) fn connect_options(&self) -> ConnectOptions {
        self.config.source.server.connect_options("penstock")
    }

    /// How to reach Kafka.
    pub fn brokers(&self) -> Brokers {
        brokers(&self.config)
    }

    /// The topics' names.
    pub fn names(&self) -> Names {
        Names { changes: self.config.kafka.topic.clone() }
    }

    pub(super) fn sink_topics(&self) -> SinkTopics {
        let names = self.names();
        let source = (self.config.source.name.clone(), self.config.source.number);
        SinkTopics {
            progress: names.progress(),
            dead_letters: names.dead_letter(),
            changes: names.changes,
            partitioner: self.partitioner,
            source,
        }
    }

    pub(super) fn transactional_id(&self) -> String {
        format!("penstock-{}", self.config.source.name)
    }

    /// What the bridge is configured with; `bytes_max` is what a record, key and value, may have.
    pub(super) fn settings(&self, bytes_max: RecordBytes) -> Settings {
        let source = &self.config.source;
        let (limits, backfill) = (&self.config.limits, &self.config.backfill);
        Settings {
            source: SourceInfo {
                name: source.name.clone(),
                number: source.number,
                database: source.server.database.clone(),
            },
            partitioner: self.partitioner,
            namespace: self.config.kafka.namespace.clone(),
            source_in_key: source.number_in_key,
            control_schema_ids: self.own_schemas.control,
            rules: rules(&self.config),
            session: nonce(),
            limits: Limits {
                in_flight_bytes_max: limits.in_flight_bytes_max,
                record_bytes_max: bytes_max.change,
                group_bytes_max: limits.group_bytes_max,
                group_records_max: limits.group_records_max,
                group_age_max: limits.group_age_max,
                part_age_max: self.part_age_max(),
                backfill_workers: backfill.workers,
                backfill_rows_per_second: backfill.rows_per_second,
                chunk_rows_max: backfill.chunk_rows_max,
                chunk_bytes_max: backfill.chunk_bytes_max,
                ..Limits::default()
            },
            poison: match self.config.faults.poison {
                Poison::Halt => poison::Policy::Halt,
                Poison::DeadLetter => poison::Policy::DeadLetter {
                    schema_id: self.own_schemas.dead_letter,
                    bytes_max: bytes_max.dead_letter,
                },
            },
        }
    }

    /// Whether anything may be written to the dead-letter topic.
    pub(super) fn writes_dead_letters(&self) -> bool {
        self.config.faults.poison == Poison::DeadLetter
    }

    /// What is told to be split is, after half of the timeout: the other half is for what is in flight by then.
    fn part_age_max(&self) -> Option<Duration> {
        match self.config.faults.oversized_transaction {
            OversizedTransaction::Halt => None,
            OversizedTransaction::Split => Some(self.config.kafka.transaction_timeout / 2),
        }
    }

    /// What is known of transactions that are too large, at the start: nothing.
    pub(super) fn oversize(&self) -> Oversize {
        let policy = match self.config.faults.oversized_transaction {
            OversizedTransaction::Halt => Policy::Halt,
            OversizedTransaction::Split => Policy::Split,
        };
        Oversize::new(policy, self.config.kafka.transaction_timeout)
    }

    /// Whether the process of the server that answers this bridge still streams from the slot: then nobody has taken over.
    /// A server that does not say so counts as a no.
    pub(super) async fn holds_slot(&self, process_id: i32) -> bool {
        let asked = async { self.catalog.lock().await.slot(self.slot()).await };
        let slot = tokio::time::timeout(SLOT_PATIENCE, asked).await;
        matches!(slot, Ok(Ok(Some(slot))) if slot.active_pid == Some(process_id))
    }

    /// A progress record as the sink produces it.
    pub(super) fn progress_record(&self, progress: &Progress) -> ProgressRecord {
        let mut value = Vec::with_capacity(512);
        progress.encode(self.own_schemas.progress, &mut value);
        ProgressRecord {
            key: self.config.source.name.clone(),
            value,
            timestamp_ms: progress.postgres_clock_us.div_euclid(1000).max(0),
        }
    }

    /// Framed key and value of an epoch record, for what is written only to be aborted.
    pub(super) fn epoch_record(&self) -> (Vec<u8>, Vec<u8>) {
        let control = Control::epoch(None, "aborted".to_owned());
        let (mut key, mut value) = (Vec::new(), Vec::new());
        ControlKey::of_source(self.config.source.number, control.kind).encode(self.own_schemas.control.0, &mut key);
        control.encode(self.own_schemas.control.1, &mut value);
        (key, value)
    }

    /// What the catalog adds to a relation message. Waits for Postgres; a relation it does not know is an error, and so is
    /// one that nobody asked for: the publication can be changed while the bridge runs.
    pub(super) async fn facts(&self, relation: &Relation) -> Result<CatalogFacts, RunError> {
        let name = TableName::new(relation.schema.clone(), relation.table.clone());
        if !self.config.tables.captures(&name) {
            return Err(RunError::NotCaptured(name));
        }
        let mut catalog = self.catalog.lock().await;
        loop {
            match catalog.facts(relation).await {
                Ok(facts) => {
                    self.health.no_longer_waits("postgres catalog");
                    return Ok(facts);
                }
                Err(error) if error.class() == Class::Retry => {
                    catalog.disconnect();
                    self.health.waits_for("postgres catalog", describe(&error));
                    tokio::time::sleep(CATALOG_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Registers a table's schemas: key id, value id.
    pub(super) async fn register(&self, table: &Table) -> Result<(u32, u32), RunError> {
        let (topic, plan) = (&self.config.kafka.topic, &table.plan);
        let (key, value) = (plan.key_subject(topic), plan.envelope_subject(topic));
        let pinned = table.pinned_key_schema;
        let key = self.registry.register_key(&key, plan.key_schema(), pinned, &self.health).await?;
        let value = self.registry.register(&value, plan.envelope_schema(), &self.health).await?;
        Ok((key, value))
    }
}

/// How to reach Kafka.
pub fn brokers(config: &Config) -> Brokers {
    Brokers {
        bootstrap: config.kafka.brokers.join(","),
        properties: config.kafka.properties.iter().map(|(k, v)| (k.clone(), v.expose().to_owned())).collect(),
        transaction_timeout: config.kafka.transaction_timeout,
    }
}

async fn register_own(registry: &Registry, topic: &str, health: &Health) -> Result<OwnSchemas, RunError> {
    let subject = |name: &str| format!("{topic}-penstock.wire.{name}");
    let key = registry.register(&subject("ControlKey"), ControlKey::schema(), health).await?;
    let value = registry.register(&subject("Control"), Control::schema(), health).await?;
    let progress =
        registry.register(&format!("{topic}.progress-penstock.wire.Progress"), Progress::schema(), health).await?;
    let dead_letter = registry
        .register(&format!("{topic}.dead_letter-penstock.wire.DeadLetter"), DeadLetter::schema(), health)
        .await?;
    Ok(OwnSchemas { control: (key, value), progress, dead_letter })
}

/// What the configuration pins, or must have pinned.
pub fn pinned(config: &Config) -> Pinned {
    Pinned {
        source_number: config.source.number,
        slot: config.source.slot.clone(),
        partitions: config.kafka.partitions,
        namespace: config.kafka.namespace.clone(),
        source_in_key: config.source.number_in_key,
    }
}

/// The configuration's view of tables, as the core wants it.
pub fn rules(config: &Config) -> Rules {
    let account = |names: &[String]| AccountColumns::new(names.iter().cloned());
    let mut rules = Rules {
        publication: config.source.publication.clone(),
        capture: capture(config),
        account_column: account(config.tables.default_account_columns()),
        ..Rules::default()
    };
    let mut of = |table: &TableName, change: &mut dyn FnMut(&mut TableRules)| {
        change(rules.tables.entry((table.schema.clone(), table.table.clone())).or_default());
    };
    for (table, columns) in config.tables.with_own_account_columns() {
        of(table, &mut |rules| rules.account_column = Some(account(columns)));
    }
    for table in &config.tables.accept_missing {
        of(table, &mut |rules| rules.accept_missing = true);
    }
    for column in &config.tables.exclude {
        of(&column.table, &mut |rules| {
            rules.exclude.insert(column.column.clone());
        });
    }
    for column in &config.tables.accept_absent {
        of(&column.table, &mut |rules| {
            rules.accept_absent.insert(column.column.clone());
        });
    }
    for column in &config.tables.ignore_updates {
        of(&column.table, &mut |rules| {
            rules.ignore.insert(column.column.clone());
        });
    }
    for column in &config.tables.decimal {
        of(&column.table, &mut |rules| {
            rules.decimal.insert(column.column.clone());
        });
    }
    for column in &config.tables.accept_unchanged {
        of(&column.table, &mut |rules| {
            rules.accept_unchanged.insert(column.column.clone());
        });
    }
    rules
}

/// 16 hexadecimal digits that nobody has had before: the standard library's hasher begins with keys from the system's source
/// of randomness, other ones each time.
pub fn nonce() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// An empty list asks for every table that is published.
fn capture(config: &Config) -> Option<Capture> {
    let pair = |table: &TableName| (table.schema.clone(), table.table.clone());
    let left_out: BTreeSet<_> = config.tables.leave_out.iter().map(pair).collect();
    if config.tables.capture.is_empty() && left_out.is_empty() {
        return None;
    }
    let mut capture = Capture { left_out, any: config.tables.capture.is_empty(), ..Capture::default() };
    for pattern in &config.tables.capture {
        match pattern {
            TablePattern::Schema(schema) => {
                capture.schemas.insert(schema.clone());
            }
            TablePattern::Table(table) => {
                capture.tables.insert(pair(table));
            }
        }
    }
    Some(capture)
}

/// This machine's clock, Unix microseconds: for what is only shown or measured.
pub fn clock_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
