//! The producer's thread: begins, produces, commits, and passes on what librdkafka reports.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use penstock_core::batch::{Batch, Record, Topic};
use penstock_wire::control::ControlKind;
use penstock_wire::header::{self as wire, CONTROL_HEADER_NAME, HEADER_NAME};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};
use tokio::sync::mpsc::UnboundedSender;

use super::error::{SinkError, kafka};
use super::reports::{Context, PROGRESS_OPAQUE, RESIDUE_OPAQUE, Reports};
use super::{Command, Making, ProgressRecord, SinkEvent, Topics};
use crate::kafka::ends::Place;
use crate::kafka::witness::{Claim, Witness};

/// How long to wait between looks for the progress record's delivery report.
const COMMIT_POLL_INTERVAL: Duration = Duration::from_micros(100);
/// How long to wait for a command while delivery reports are due. Bounds what polling adds to the latency of a commit.
const POLL_INTERVAL: Duration = Duration::from_micros(300);
/// How long, and how often, the transaction coordinator is waited for before the producer is given up.
const INITIALISE_PATIENCE: Duration = Duration::from_secs(5);
const INITIALISE_ATTEMPTS: u32 = 4;
/// How long the brokers may take to answer a producer that has just been made.
const INTRODUCTION_PATIENCE: Duration = Duration::from_secs(1);
/// How long a commit may take; the session gives up at about the same time.
const COMMIT_PATIENCE: Duration = Duration::from_secs(30);
/// How long an orderly end waits for the coordinator.
const ABORT_PATIENCE: Duration = Duration::from_secs(3);
/// How long to wait for a command while nothing is due.
const IDLE_INTERVAL: Duration = Duration::from_millis(50);
/// The partition of dead letters, which belong together, not to accounts.
const DEAD_LETTER_PARTITION: i32 = 0;

/// A producer between begin and commit, or not.
struct Worker<'a> {
    producer: BaseProducer<Context>,
    reports: Arc<Reports>,
    topics: &'a Topics,
    events: &'a UnboundedSender<SinkEvent>,
    claims: Sender<Claim>,
    in_transaction: bool,
}

/// The thread: transactions are initialised, then commands are done in their order until there is nobody to give any.
pub(super) fn work(
    making: &Making,
    topics: &Topics,
    commands: &Receiver<Command>,
    events: &UnboundedSender<SinkEvent>,
) -> Result<(), SinkError> {
    let reports = Arc::new(Reports::of(topics.partitioner));
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
        // A client that was made just now asks a bootstrap server for the coordinator, gives that server up for the broker it
        // learns of, and asks again after half a second. One that has met the brokers asks once. It is told of all topics,
        // because a producer's question for one can make it. Brokers that are away are what follows to tell.
        let _ = self.producer.client().fetch_metadata(None, INTRODUCTION_PATIENCE);
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
        let ends = ends.chain([((self.topics.progress.clone(), 0), progress_end)]).collect();
        Claim { ends, since: Instant::now() }
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
