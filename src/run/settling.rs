//! Between being fenced in and going on: nothing of ours is without an end, and progress is what readers can read.

use std::time::{Duration, Instant};

use penstock_wire::progress::{PartitionProgress, Progress};
use rdkafka::error::KafkaError;
use tokio::sync::mpsc::UnboundedReceiver;

use super::SessionEnd;
use super::shell::{RunError, Shell};
use crate::kafka::ends::Place;
use crate::kafka::readable::last_readable;
use crate::kafka::readers::Readers;
use crate::kafka::residue::Residue;
use crate::kafka::sink::{Sink, SinkEvent};
use crate::kafka::topics::TopicsError;

/// How long an end may take before ours is aborted once more.
const AGAIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

/// librdkafka's questions block, so a thread asks them. What got no answer is asked again, with the slot in hand.
async fn blocking<T: Send + 'static>(
    step: &'static str,
    question: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, SessionEnd> {
    let answered = tokio::task::spawn_blocking(question).await;
    let failed = |source| SessionEnd::Run(Box::new(RunError::Topics(TopicsError::Kafka { step, source })));
    answered.map_err(|_| SessionEnd::SinkGone)?.map_err(failed)
}

/// Aborts what is ours and has no end in these partitions, which exist, and waits for the ends of what is others'.
pub(super) async fn settle(
    shell: &Shell,
    readers: &Readers,
    sink: &Sink,
    events: &mut UnboundedReceiver<SinkEvent>,
    places: Vec<Place>,
) -> Result<(), SessionEnd> {
    let readers = readers.clone();
    let mut residue = blocking("look for residue", move || Residue::of(readers, &places)).await?;
    let mut aborted: Option<Instant> = None;
    loop {
        let (looked, found) = blocking("look for residue", move || {
            let found = residue.places()?;
            Ok((residue, found))
        })
        .await?;
        residue = looked;
        if found.is_empty() {
            shell.health.no_longer_waits("residue");
            return Ok(());
        }
        if aborted.is_some_and(|aborted| aborted.elapsed() < AGAIN) {
            shell
                .health
                .waits_for("residue", format!("transactions without an end in {}; waiting for it", list(&found)));
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        tracing::warn!("records without an end stand in {}; aborting what is ours", list(&found));
        sink.abort_residue(found);
        match events.recv().await {
            Some(SinkEvent::ResidueAborted) => aborted = Some(Instant::now()),
            Some(SinkEvent::Failed(error)) => return Err(SessionEnd::Kafka(error)),
            Some(SinkEvent::Ready | SinkEvent::Delivered(_) | SinkEvent::Committed | SinkEvent::Readable) | None => {
                return Err(SessionEnd::SinkGone);
            }
        }
    }
}

fn list(places: &[Place]) -> String {
    let texts: Vec<String> = places.iter().map(|(topic, partition)| format!("{topic}[{partition}]")).collect();
    texts.join(", ")
}

/// What readers can read of this source in each partition, where progress makes a claim.
pub(super) async fn readable(
    shell: &Shell,
    readers: &Readers,
    progress: &Progress,
) -> Result<Vec<PartitionProgress>, SessionEnd> {
    let (brokers, readers, topic) = (shell.brokers(), readers.clone(), shell.names().changes);
    let (source, claimed) = (progress.source_number, progress.partitions.clone());
    let found =
        blocking("read the last records", move || last_readable(&brokers, &readers, &topic, source, &claimed)).await?;
    for (claimed, found) in progress.partitions.iter().zip(&found) {
        if claimed != found {
            let (partition, claimed, found) = (claimed.partition, claimed.last.to_string(), found.last.to_string());
            tracing::warn!(partition, claimed, found, "a partition does not end where progress says; going on from it");
        }
    }
    Ok(found)
}
