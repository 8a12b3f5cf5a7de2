//! Step 2 of the [`super::opening`]: the producer that fences its predecessor, and the clients that the questions behind it
//! are asked with.
//!
//! Nothing is asked here whose answer a predecessor could still change, but for the largest records the topics take.

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::SessionEnd;
use super::shell::{RecordBytes, RunError, Shell};
use crate::kafka::readers::Readers;
use crate::kafka::sink::{Making, Sink, SinkEvent};
use crate::kafka::topics::{Topics, TopicsError};

/// Left of the topic's `max.message.bytes` for a record batch's own framing and headers.
const BATCH_FRAMING_BYTES: usize = 1024;

/// What step 2 gives.
pub(super) struct Fenced {
    pub(super) sink: Sink,
    pub(super) events: UnboundedReceiver<SinkEvent>,
    pub(super) record_bytes: RecordBytes,
    /// The client that asked for them, for more questions of its kind.
    pub(super) topics: Topics,
}

/// Step 2: a producer that has fenced its predecessor, its reports, and the largest records it takes.
pub(super) async fn fence(shell: &Shell) -> Result<Fenced, SessionEnd> {
    let topics = Topics::new(&shell.brokers()).map_err(|error| SessionEnd::Run(Box::new(error.into())))?;
    let record_bytes = record_bytes(shell, &topics).await;
    let (sender, mut events) = unbounded_channel();
    let making = Making {
        brokers: shell.brokers(),
        config: shell.brokers().producer(&shell.transactional_id(), record_bytes.change),
        aborted: shell.epoch_record(),
    };
    let io = |source| RunError::Io { what: "start the producer's thread".into(), source };
    let sink =
        Sink::start(making, shell.sink_topics(), sender).map_err(|error| SessionEnd::Run(Box::new(io(error))))?;
    shell.health.waits_for("kafka", "initialising transactions".into());
    match events.recv().await {
        Some(SinkEvent::Ready) => {
            shell.health.no_longer_waits("kafka");
            Ok(Fenced { sink, events, record_bytes, topics })
        }
        Some(SinkEvent::Failed(error)) if error.refuses_the_timeout() => {
            Err(SessionEnd::Run(Box::new(RunError::TransactionTimeout(shell.config.kafka.transaction_timeout))))
        }
        Some(SinkEvent::Failed(error)) => Err(SessionEnd::Kafka(error)),
        Some(SinkEvent::ResidueAborted | SinkEvent::Delivered(_) | SinkEvent::Committed | SinkEvent::Readable)
        | None => Err(SessionEnd::SinkGone),
    }
}

/// The largest records: what is configured, or what their topics take if that is less. A broker that is away, or does not
/// tell, is taken at the configuration's word; a batch that it then refuses starts a new session, which asks again.
async fn record_bytes(shell: &Shell, topics: &Topics) -> RecordBytes {
    let names = shell.names();
    let change = topic_bytes_max(topics, &names.changes).await.min(shell.config.limits.record_bytes_max);
    let dead_letter = match shell.writes_dead_letters() {
        true => topic_bytes_max(topics, &names.dead_letter()).await.min(change),
        false => 0,
    };
    let without_framing = |bytes: usize| bytes.saturating_sub(BATCH_FRAMING_BYTES);
    RecordBytes { change: without_framing(change), dead_letter: without_framing(dead_letter) }
}

async fn topic_bytes_max(topics: &Topics, name: &str) -> usize {
    let settings = topics.settings(name).await;
    settings.ok().and_then(|settings| settings.get("max.message.bytes")?.parse().ok()).unwrap_or(usize::MAX)
}

/// The clients of the start's questions.
pub(super) fn readers(shell: &Shell) -> Result<Readers, RunError> {
    let failed = |source| RunError::Topics(TopicsError::Kafka { step: "configure a reader", source });
    Readers::of(&shell.brokers()).map_err(failed)
}

/// The same, when they have met the brokers.
pub(super) async fn introduced(shell: &Shell) -> Result<Readers, RunError> {
    let (readers, topic) = (readers(shell)?, shell.names().changes);
    let met = readers.clone();
    let io = |error| RunError::Io {
        what: "start a thread for Kafka's clients".into(),
        source: std::io::Error::other(error),
    };
    tokio::task::spawn_blocking(move || met.introduce(&topic)).await.map_err(io)?;
    Ok(readers)
}
