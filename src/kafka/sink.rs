//! The producer: one transactional librdkafka producer on a thread of its own.
//!
//! It does what the bridge's actions say, in their order, and reports. It decides nothing: which records share a Kafka
//! transaction, and when it commits, is the bridge's. Any error is the end of the sink: the producer is destroyed and the
//! session starts over from what is durable. There is no second way to recover.
//!
//! Its calls block, which is why it has a thread; while a commit is on its way the bridge goes on filling the next group.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use penstock_core::batch::{Batch, Record, Topic};
use penstock_core::ledger::{Delivered, Ticket};
use penstock_wire::control::ControlKind;
use penstock_wire::header::{self as wire, CONTROL_HEADER_NAME, HEADER_NAME};
use penstock_wire::partition::Partitioner;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientContext, Message};
use tokio::sync::mpsc::UnboundedSender;

use super::client::Brokers;
use super::ends::Place;
use super::witness::{Claim, Witness};

/// How long to wait between looks for the progress record's delivery report.
const COMMIT_POLL_INTERVAL: Duration = Duration::from_micros(100);
/// How long to wait for a command while delivery reports are due. Bounds what polling adds to the latency of a commit.
const POLL_INTERVAL: Duration = Duration::from_micros(300);
/// How long, and how often, the transaction coordinator is waited for before the producer is given up.
const INITIALISE_PATIENCE: Duration = Duration::from_secs(5);
const INITIALISE_ATTEMPTS: u32 = 4;
/// How long a commit may take; the session gives up at about the same time.
const COMMIT_PATIENCE: Duration = Duration::from_secs(30);
/// How long an orderly end waits for the coordinator.
const ABORT_PATIENCE: Duration = Duration::from_secs(3);
/// How long to wait for a command while nothing is due.
const IDLE_INTERVAL: Duration = Duration::from_millis(50);
/// The partition of dead letters, which belong together, not to accounts.
const DEAD_LETTER_PARTITION: i32 = 0;
/// Marks the progress record's delivery report; tickets count groups and never get there.
const PROGRESS_OPAQUE: usize = usize::MAX;

/// Marks the reports of records that are going to be aborted.
const RESIDUE_OPAQUE: usize = usize::MAX - 1;

/// Where records go.
#[derive(Clone, Debug)]
pub struct Topics {
    /// The change topic.
    pub changes: String,
    /// Its progress topic.
    pub progress: String,
    /// Its dead letters; only what a batch sends there is ever written to it.
    pub dead_letters: String,
    /// The change topic's partitions.
    pub partitioner: Partitioner,
    /// The source's name and number: how its records are known.
    pub source: (String, u16),
}

impl Topics {
    fn name(&self, topic: Topic) -> &str {
        match topic {
            Topic::Changes => &self.changes,
            Topic::DeadLetters => &self.dead_letters,
        }
    }
}

/// How the producer is made, and what it writes where nothing may be read: key and value of a record that is always
/// aborted.
#[derive(Clone, Debug)]
pub struct Making {
    /// How to reach Kafka, for those who look at what was written.
    pub brokers: Brokers,
    /// librdkafka's settings of the producer.
    pub config: ClientConfig,
    /// Framed key and value of an epoch record.
    pub aborted: (Vec<u8>, Vec<u8>),
}

/// A framed progress record, keyed by the source's name.
#[derive(Debug)]
pub struct ProgressRecord {
    /// UTF-8 source name.
    pub key: String,
    /// Framed Avro.
    pub value: Vec<u8>,
    /// Commit time or server's clock, Unix milliseconds.
    pub timestamp_ms: i64,
}

enum Command {
    AbortResidue(Vec<Place>),
    Produce(Batch),
    Commit(ProgressRecord),
}

/// What the sink reports.
#[derive(Debug)]
pub enum SinkEvent {
    /// Transactions are initialised: every predecessor is fenced.
    Ready,
    /// What was found in the topic without an end is aborted.
    ResidueAborted,
    /// Positive delivery reports.
    Delivered(Vec<Delivered>),
    /// The last commit asked for is decided; the next transaction may begin.
    Committed,
    /// The oldest commit that was not yet readable is: a `read_committed` reader gets all of its records.
    Readable,
    /// The end of this sink.
    Failed(SinkError),
}

/// Why the sink ended.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Another bridge of this source has taken over; or the brokers have aborted the transaction by its timeout, which
    /// they tell in the same words.
    #[error("fenced: another bridge with the same source name has taken over, or the transaction took too long")]
    Fenced,
    /// Records were on their way and nothing came back.
    #[error("no broker answered for {0} s")]
    Silent(u64),
    /// No thread to be had.
    #[error("start the witness's thread: {0}")]
    Thread(#[source] std::io::Error),
    /// A commit has returned, and its records do not become readable.
    #[error("what was committed in partition {partition} of {topic} does not become readable")]
    Unreadable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// Kafka refused or did not answer.
    #[error("{step}: {source}")]
    Kafka {
        /// What was being done.
        step: &'static str,
        /// librdkafka's error.
        #[source]
        source: KafkaError,
    },
}

impl SinkError {
    /// Whether the brokers have ended the transaction, for whatever reason.
    pub fn transaction_is_gone(&self) -> bool {
        match self {
            Self::Fenced => true,
            Self::Silent(_) | Self::Unreadable { .. } | Self::Thread(_) => false,
            Self::Kafka { source, .. } => {
                source.rdkafka_error_code() == Some(RDKafkaErrorCode::InvalidTransactionalState)
            }
        }
    }

    /// A short name for metrics.
    pub fn code(&self) -> String {
        match self {
            Self::Fenced => "Fenced".into(),
            Self::Silent(_) => "Silent".into(),
            Self::Unreadable { .. } => "Unreadable".into(),
            Self::Thread(_) => "Thread".into(),
            Self::Kafka { source, .. } => match source.rdkafka_error_code() {
                Some(code) => format!("{code:?}"),
                None => "Other".into(),
            },
        }
    }
}

/// Handle of the producer's thread. Dropping it ends the thread and aborts what is not committed.
#[derive(Debug)]
pub struct Sink {
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Starts the thread, which initialises transactions first and reports [`SinkEvent::Ready`].
    pub fn start(making: Making, topics: Topics, events: UnboundedSender<SinkEvent>) -> std::io::Result<Self> {
        let (commands, receiver) = channel();
        let thread = std::thread::Builder::new().name("sink".into()).spawn(move || {
            if let Err(error) = work(&making, &topics, &receiver, &events) {
                // The loop is gone when nobody listens; there is nobody left to tell.
                let _ = events.send(SinkEvent::Failed(error));
            }
        })?;
        Ok(Self { commands: Some(commands), thread: Some(thread) })
    }

    /// Ends the thread and gives it, so that an orderly exit can wait for the open transaction to be aborted.
    pub fn end(mut self) -> Option<JoinHandle<()>> {
        self.commands = None;
        self.thread.take()
    }

    /// A thread that has ended has said why, as an event.
    fn order(&self, command: Command) {
        if let Some(commands) = &self.commands {
            let _ = commands.send(command);
        }
    }

    /// Aborts what carries this producer's id in these partitions; see [`super::residue`]. Before anything else is
    /// produced.
    pub fn abort_residue(&self, places: Vec<Place>) {
        self.order(Command::AbortResidue(places));
    }

    /// Produces a batch in the open Kafka transaction.
    pub fn produce(&self, batch: Batch) {
        self.order(Command::Produce(batch));
    }

    /// Produces progress in the open Kafka transaction and commits it.
    pub fn commit(&self, progress: ProgressRecord) {
        self.order(Command::Commit(progress));
    }
}

/// Collects delivery reports between polls.
#[derive(Default)]
struct Reports {
    partitioner: Option<Partitioner>,
    collected: Mutex<Collected>,
}

#[derive(Default)]
struct Collected {
    delivered: Vec<Delivered>,
    /// The offset behind the open transaction's last record: by topic and partition, and of progress.
    ends: BTreeMap<(Topic, i32), i64>,
    progress_end: i64,
    failed: Option<KafkaError>,
    progress_delivered: bool,
}

struct Context(Arc<Reports>);

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // Lost connections are librdkafka's to mend; what it cannot mend comes back from a call or a report.
        tracing::info!(%error, reason, "kafka client");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.0.lock().failed.get_or_insert(error);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    /// Must not panic: librdkafka's callback would swallow it and delivery would go silent.
    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let mut collected = self.0.lock();
        let message = match result {
            Ok(message) => message,
            Err((error, _)) => {
                collected.failed.get_or_insert(error.clone());
                return;
            }
        };
        if message.offset() < 0 {
            // A repetition that the broker recognised without telling where the first one stands.
            collected.failed.get_or_insert(KafkaError::MessageProduction(RDKafkaErrorCode::NoOffset));
            return;
        }
        match opaque {
            PROGRESS_OPAQUE => {
                collected.progress_delivered = true;
                collected.progress_end = message.offset() + 1;
                return;
            }
            RESIDUE_OPAQUE => return,
            _ => {}
        }
        let ticket = Ticket::from_raw(opaque as u64);
        let end = collected.ends.entry((ticket.topic(), message.partition())).or_default();
        *end = (*end).max(message.offset() + 1);
        let partition = u32::try_from(message.partition()).ok();
        match partition.and_then(|number| self.0.partitioner.and_then(|partitioner| partitioner.get(number))) {
            Some(partition) => collected.delivered.push(Delivered {
                ticket,
                partition,
                offset: message.offset(),
                bytes: message.key_len() + message.payload_len(),
            }),
            None => {
                let error = KafkaError::MessageProduction(RDKafkaErrorCode::UnknownPartition);
                collected.failed.get_or_insert(error);
            }
        }
    }
}

impl Reports {
    fn lock(&self) -> std::sync::MutexGuard<'_, Collected> {
        self.collected.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn kafka(step: &'static str) -> impl FnOnce(KafkaError) -> SinkError {
    move |source| match source.rdkafka_error_code() {
        Some(RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch) => {
            SinkError::Fenced
        }
        _ => SinkError::Kafka { step, source },
    }
}

/// A producer between begin and commit, or not.
struct Worker<'a> {
    producer: BaseProducer<Context>,
    reports: Arc<Reports>,
    topics: &'a Topics,
    events: &'a UnboundedSender<SinkEvent>,
    claims: Sender<Claim>,
    in_transaction: bool,
}

fn work(
    making: &Making,
    topics: &Topics,
    commands: &Receiver<Command>,
    events: &UnboundedSender<SinkEvent>,
) -> Result<(), SinkError> {
    let reports = Arc::new(Reports { partitioner: Some(topics.partitioner), ..Reports::default() });
    let producer = BaseProducer::from_config_and_context(&making.config, Context(Arc::clone(&reports)));
    let producer = producer.map_err(kafka("create the producer"))?;
    let (claims, claimed) = channel();
    let witness = Witness::new(making.brokers.clone(), topics.source.clone(), claimed, events.clone());
    std::thread::Builder::new().name("witness".into()).spawn(|| witness.watch()).map_err(SinkError::Thread)?;
    let mut worker = Worker { producer, reports, topics, events, claims, in_transaction: false };
    worker.initialise()?;
    worker.report(SinkEvent::Ready);
    loop {
        let due = worker.producer.in_flight_count() > 0;
        match commands.recv_timeout(if due { POLL_INTERVAL } else { IDLE_INTERVAL }) {
            Ok(Command::AbortResidue(partitions)) => worker.abort_residue(&partitions, &making.aborted)?,
            Ok(Command::Produce(batch)) => worker.produce(batch)?,
            Ok(Command::Commit(progress)) => worker.commit(&progress)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                worker.abort();
                return Ok(());
            }
        }
        worker.poll(Duration::ZERO)?;
    }
}

impl Worker<'_> {
    /// Fences every predecessor. A broker that is away is waited for a while; after that a new producer has better chances,
    /// since this one may have lost its last broker for good.
    fn initialise(&mut self) -> Result<(), SinkError> {
        for attempt in 1.. {
            match self.producer.init_transactions(INITIALISE_PATIENCE) {
                Ok(()) => break,
                Err(KafkaError::Transaction(error))
                    if error.is_retriable() && attempt < INITIALISE_ATTEMPTS && !self.events.is_closed() =>
                {
                    tracing::info!(%error, "waiting for the transaction coordinator");
                }
                Err(error) => return Err(self.error("init_transactions")(error)),
            }
        }
        Ok(())
    }

    /// The record that opens the transaction in a partition stands at position zero, which every reader drops, should it
    /// read what is aborted.
    fn abort_residue(&mut self, unstable: &[Place], (key, value): &(Vec<u8>, Vec<u8>)) -> Result<(), SinkError> {
        self.begin()?;
        let header = wire::Header { end_of_transaction: true, ..wire::Header::default() }.encode();
        let kind = ControlKind::Epoch.as_str();
        for (topic, partition) in unstable {
            let headers = OwnedHeaders::new_with_capacity(2)
                .insert(Header { key: HEADER_NAME, value: Some(&header) })
                .insert(Header { key: CONTROL_HEADER_NAME, value: Some(kind) });
            let record = BaseRecord::with_opaque_to(topic, RESIDUE_OPAQUE);
            self.send(record.partition(*partition).key(key.as_slice()).payload(value.as_slice()).headers(headers))?;
        }
        while self.producer.in_flight_count() > 0 {
            std::thread::sleep(COMMIT_POLL_INTERVAL);
            self.poll(Duration::ZERO)?;
            if self.events.is_closed() {
                return Ok(());
            }
        }
        self.producer.abort_transaction(COMMIT_PATIENCE).map_err(self.error("abort_transaction"))?;
        self.end_transaction();
        self.report(SinkEvent::ResidueAborted);
        Ok(())
    }

    fn begin(&mut self) -> Result<(), SinkError> {
        if !self.in_transaction {
            self.producer.begin_transaction().map_err(self.error("begin_transaction"))?;
            self.in_transaction = true;
        }
        Ok(())
    }

    /// Gives where the transaction ended.
    fn end_transaction(&mut self) -> Claim {
        self.in_transaction = false;
        let (ends, progress_end) = {
            let mut collected = self.reports.lock();
            (std::mem::take(&mut collected.ends), collected.progress_end)
        };
        let ends =
            ends.into_iter().map(|((topic, partition), end)| ((self.topics.name(topic).to_owned(), partition), end));
        Claim { ends: ends.chain([((self.topics.progress.clone(), 0), progress_end)]).collect() }
    }

    fn produce(&mut self, mut batch: Batch) -> Result<(), SinkError> {
        self.begin()?;
        for (sent, record) in batch.drain().enumerate() {
            self.send(to_kafka(self.topics, record))?;
            if sent % 1024 == 1023 {
                self.poll(Duration::ZERO)?;
            }
        }
        Ok(())
    }

    fn send(&self, mut record: BaseRecord<'_, [u8], [u8], usize>) -> Result<(), SinkError> {
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.poll(Duration::from_millis(1))?;
                }
                Err((error, _)) => return Err(self.error("produce")(error)),
            }
        }
    }

    /// By now every record of the transaction is delivered; the bridge would not ask otherwise.
    fn commit(&mut self, progress: &ProgressRecord) -> Result<(), SinkError> {
        self.begin()?;
        self.reports.lock().progress_delivered = false;
        let record = BaseRecord::with_opaque_to(&self.topics.progress, PROGRESS_OPAQUE)
            .partition(0)
            .key(progress.key.as_bytes())
            .payload(progress.value.as_slice())
            .timestamp(progress.timestamp_ms);
        self.send(record)?;
        // rust-rdkafka's commit flushes in slices of 100 ms that always run to their end: leave it nothing to flush.
        while self.producer.in_flight_count() > 0 || !self.reports.lock().progress_delivered {
            // Its own waiting counts in whole milliseconds, and spins below that.
            std::thread::sleep(COMMIT_POLL_INTERVAL);
            self.poll(Duration::ZERO)?;
            if self.events.is_closed() {
                return Ok(());
            }
        }
        self.producer.commit_transaction(COMMIT_PATIENCE).map_err(self.error("commit_transaction"))?;
        let claim = self.end_transaction();
        self.report(SinkEvent::Committed);
        // A witness that has ended has said why.
        let _ = self.claims.send(claim);
        Ok(())
    }

    /// An open transaction would hold back every `read_committed` reader until it times out.
    fn abort(&self) {
        if self.in_transaction {
            self.producer.purge(PurgeConfig::default().queue().inflight());
            if let Err(error) = self.producer.abort_transaction(ABORT_PATIENCE) {
                tracing::info!(%error, "the open transaction was not aborted; the next start does it");
            }
        }
    }

    /// Serves delivery reports, and passes on what came.
    fn poll(&self, timeout: Duration) -> Result<(), SinkError> {
        self.producer.poll(timeout);
        let (delivered, failed) = {
            let mut collected = self.reports.lock();
            (std::mem::take(&mut collected.delivered), collected.failed.take())
        };
        if let Some(error) = failed {
            return Err(self.error("deliver")(error));
        }
        if !delivered.is_empty() {
            self.report(SinkEvent::Delivered(delivered));
        }
        Ok(())
    }

    /// Calls that come after a fatal error only say that there was one.
    fn error(&self, step: &'static str) -> impl FnOnce(KafkaError) -> SinkError {
        move |error| {
            let fatal = self.producer.client().fatal_error();
            kafka(step)(fatal.map_or(error, |(code, _)| KafkaError::MessageProduction(code)))
        }
    }

    fn report(&self, event: SinkEvent) {
        // Nobody listens when the session is over; the thread then ends at its next command.
        let _ = self.events.send(event);
    }
}

fn to_kafka<'a>(topics: &'a Topics, record: Record<'a>) -> BaseRecord<'a, [u8], [u8], usize> {
    let control = record.control;
    let mut headers = OwnedHeaders::new_with_capacity(1 + usize::from(control.is_some()))
        .insert(Header { key: HEADER_NAME, value: Some(&record.header) });
    if let Some(kind) = control {
        headers = headers.insert(Header { key: CONTROL_HEADER_NAME, value: Some(kind) });
    }
    let opaque = usize::try_from(record.ticket.into_raw()).expect("a group number fits a pointer");
    let partition = match record.topic {
        Topic::Changes => i32::try_from(record.partition.number()).expect("partition counts are 31 bits"),
        Topic::DeadLetters => DEAD_LETTER_PARTITION,
    };
    let mut kafka = BaseRecord::with_opaque_to(topics.name(record.topic), opaque)
        .partition(partition)
        .headers(headers)
        .timestamp(record.timestamp_ms);
    // Only dead letters may have none: a key is never empty.
    if !record.key.is_empty() {
        kafka = kafka.key(record.key);
    }
    if let Some(value) = record.value {
        kafka = kafka.payload(value);
    }
    kafka
}
