//! The producer: one transactional librdkafka producer on a thread of its own.
//!
//! It does what the bridge's actions say, in their order, and reports. It decides nothing: which records share a Kafka
//! transaction, and when it commits, is the bridge's. Any error is the end of the sink: the producer is destroyed and the
//! session starts over from what is durable. There is no second way to recover.
//!
//! Its calls block, which is why it has a thread; while a commit is on its way the bridge goes on filling the next group.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use penstock_core::batch::Batch;
use penstock_core::ledger::Delivered;
use penstock_wire::partition::Partitioner;
use rdkafka::config::ClientConfig;
use tokio::sync::mpsc::UnboundedSender;

use super::client::Brokers;
use super::ends::Place;

mod error;
mod reports;
mod worker;

pub use error::SinkError;

/// Where records go.
#[derive(Clone, Debug)]
pub struct Topics {
    /// The change topic.
    pub changes: String,
    /// Its progress topic.
    pub progress: String,
    /// The change topic's partitions.
    pub partitioner: Partitioner,
    /// The source's name and number: how its records are known.
    pub source: (String, u16),
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
            if let Err(error) = worker::work(&making, &topics, &receiver, &events) {
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
