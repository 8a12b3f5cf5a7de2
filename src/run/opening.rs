//! The only correct order of beginning, first start and resume alike.
//!
//! 1. START_REPLICATION takes the slot: a standby waits here, and does nothing else. Nothing is acknowledged meanwhile.
//! 2. `init_transactions` fences the predecessor.
//! 3. The newest progress is read: nothing can be written behind it any more.
//! 4. Slot, progress and topic are compared; then the stream goes on behind progress.
//!
//! A first start, where none of the three exists, makes topics, publication and slot before step 1, and the first progress
//! record, with an epoch record in every partition, after step 4.

use std::time::{Duration, Instant};

use penstock_core::bridge::Bridge;
use penstock_core::resume::{self, Decision, Pinned, Server, Slot, Topic};
use penstock_wire::decode::WriterSchema;
use penstock_wire::lsn::{EndLsn, Lsn};
use penstock_wire::progress::Progress;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use super::shell::{RunError, Shell, clock_us};
use super::stream::Streaming;
use super::{SessionEnd, clock, first};
use crate::catalog;
use crate::kafka::progress::{ProgressError, read_newest};
use crate::kafka::sink::{Sink, SinkEvent};
use crate::kafka::topics::{TopicState, describe};
use crate::source::{Connection, SourceError, StatusUpdate, SystemIdentity, publication_names};

/// SQLSTATE of a slot that another process holds.
const OBJECT_IN_USE: &str = "55006";
const SLOT_PAUSE: Duration = Duration::from_millis(500);
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Go on although rows from before the slot are missing.
    pub from_now: bool,
    /// End once the first progress is written.
    pub setup_only: bool,
}

/// What a first start has made.
#[derive(Clone, Debug)]
pub(super) struct Fresh {
    /// The slot's consistent point.
    pub(super) from: EndLsn,
    /// No captured table held rows.
    pub(super) load_complete: bool,
    /// The epoch record's detail.
    pub(super) detail: String,
    /// The server's clock when it was made, Unix microseconds.
    pub(super) clock_us: i64,
}

/// One session: opens and streams. `fresh` survives a session that failed before its first progress was written.
pub(super) async fn session(
    connection: &mut Connection,
    shell: &Shell,
    start: Start,
    fresh: &mut Option<Fresh>,
    shutdown: &mut watch::Receiver<bool>,
) -> (SessionEnd, StatusUpdate) {
    match open(connection, shell, start, fresh, shutdown).await {
        Ok((streaming, readings)) => {
            let reader = clock::read(shell, readings);
            let stream = streaming.run(connection, shutdown);
            tokio::pin!(reader, stream);
            let (end, status) = tokio::select! {
                ended = &mut stream => ended,
                () = &mut reader => unreachable!("the clock is read as long as the stream listens"),
            };
            if status.flushed != EndLsn::default() {
                *fresh = None;
            }
            (end, status)
        }
        Err(end) => (end, StatusUpdate::default()),
    }
}

type Opened<'a> = (Streaming<'a>, watch::Sender<Option<penstock_core::bridge::ClockSample>>);

async fn open<'a>(
    connection: &mut Connection,
    shell: &'a Shell,
    start: Start,
    fresh: &mut Option<Fresh>,
    shutdown: &mut watch::Receiver<bool>,
) -> Result<Opened<'a>, SessionEnd> {
    let refused = |error: RunError| SessionEnd::Run(Box::new(error));
    let identity = connection.identify_system().await.map_err(SessionEnd::Source)?;
    if fresh.is_none() {
        *fresh = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return Err(SessionEnd::Shutdown),
            made = first::make(shell, start) => made.map_err(refused)?,
        };
    }
    take_slot(connection, shell, shutdown).await?;
    let (sender, mut events) = unbounded_channel();
    let config = shell.brokers().producer(&shell.transactional_id());
    let io = |source| refused(RunError::Io { what: "start the producer's thread".into(), source });
    let sink = Sink::start(config, shell.sink_topics(), sender).map_err(io)?;
    shell.health.waits_for("kafka", "initialising transactions".into());
    while_alive(connection, shell, shutdown, ready(&mut events)).await??;
    shell.health.no_longer_waits("kafka");
    let progress = while_alive(connection, shell, shutdown, decide(shell, &identity, fresh.as_ref())).await??;
    let began = Instant::now();
    let mut bridge = Bridge::new(shell.settings(), progress, Duration::ZERO);
    if let Some(fresh) = fresh.as_ref() {
        bridge.open_epoch(&fresh.detail, fresh.clock_us, Duration::ZERO);
    }
    if start.setup_only {
        bridge.handle_shutdown(Duration::ZERO);
    }
    let (readings, clock) = watch::channel(None);
    Ok((Streaming::new(shell, bridge, sink, events, clock, began), readings))
}

/// Step 1. Waits while another bridge holds the slot.
async fn take_slot(connection: &mut Connection, shell: &Shell, shutdown: &mut watch::Receiver<bool>) -> Result<(), SessionEnd> {
    let publication = publication_names([shell.config.source.publication.as_str()]);
    let options = [("proto_version", "1"), ("publication_names", publication.as_str()), ("messages", "true")];
    loop {
        match connection.start_replication(shell.slot(), Lsn(0), &options).await {
            Ok(()) => {
                shell.health.no_longer_waits("slot");
                return Ok(());
            }
            Err(error) if error.sqlstate() == Some(OBJECT_IN_USE) => {
                shell.health.waits_for("slot", "another process holds it; this instance is the standby".into());
            }
            Err(error) => return Err(SessionEnd::Source(error)),
        }
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return Err(SessionEnd::Shutdown),
            () = tokio::time::sleep(SLOT_PAUSE) => {}
        }
    }
}

/// Keeps the walsender alive, acknowledging nothing, while something else is waited for.
async fn while_alive<T>(
    connection: &mut Connection,
    shell: &Shell,
    shutdown: &mut watch::Receiver<bool>,
    awaited: impl Future<Output = T>,
) -> Result<T, SessionEnd> {
    let mut status = tokio::time::interval(shell.status_interval());
    tokio::pin!(awaited);
    loop {
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => return Err(SessionEnd::Shutdown),
            done = &mut awaited => return Ok(done),
            _ = status.tick() => connection.send_status(StatusUpdate::default(), clock_us()).await.map_err(SessionEnd::Source)?,
        }
    }
}

/// Step 2.
async fn ready(events: &mut UnboundedReceiver<SinkEvent>) -> Result<(), SessionEnd> {
    match events.recv().await {
        Some(SinkEvent::Ready) => Ok(()),
        Some(SinkEvent::Failed(error)) => Err(SessionEnd::Kafka(error)),
        Some(SinkEvent::Delivered(_) | SinkEvent::Committed) | None => Err(SessionEnd::SinkGone),
    }
}

/// Steps 3 and 4.
async fn decide(shell: &Shell, identity: &SystemIdentity, fresh: Option<&Fresh>) -> Result<Progress, SessionEnd> {
    let refused = |error: RunError| SessionEnd::Run(Box::new(error));
    let stored = stored_progress(shell).await.map_err(refused)?;
    let server = server(shell, identity).await.map_err(refused)?;
    let topic = topic(shell).await.map_err(refused)?;
    if let (Some(fresh), None, Some(topic)) = (fresh, &stored, &topic) {
        return Ok(first_progress(shell, fresh, &server, topic));
    }
    let slot = slot(shell).await.map_err(refused)?;
    match resume::decide(&pinned(shell), &server, slot.as_ref(), stored, topic.as_ref()) {
        Ok(Decision::Resume(progress)) => {
            tracing::info!(end_lsn = %progress.end_lsn, epoch = progress.epoch, "resuming");
            Ok(*progress)
        }
        // Only the slot can have vanished since step 1 took it.
        Ok(Decision::FirstStart) => Err(SessionEnd::Source(SourceError::StreamEnded)),
        Err(refusal) => Err(SessionEnd::Refused(Box::new(refusal))),
    }
}

fn first_progress(shell: &Shell, fresh: &Fresh, server: &Server, topic: &Topic) -> Progress {
    Progress {
        system_identifier: server.system_identifier,
        database_oid: server.database_oid,
        slot: shell.slot().to_owned(),
        source_number: shell.config.source.number,
        timeline: server.timeline,
        epoch: 1,
        partition_count: shell.config.kafka.partitions,
        topic_id: topic.id.clone(),
        end_lsn: fresh.from,
        load_complete: fresh.load_complete,
        ..Progress::default()
    }
}

pub(super) fn pinned(shell: &Shell) -> Pinned {
    Pinned {
        source_number: shell.config.source.number,
        slot: shell.slot().to_owned(),
        partitions: shell.config.kafka.partitions,
    }
}

/// The newest progress of this source. Waits for other sources' open transactions to end.
pub(super) async fn stored_progress(shell: &Shell) -> Result<Option<Progress>, RunError> {
    let (brokers, topic, name) = (shell.brokers(), shell.names().progress(), shell.config.source.name.clone());
    let stored = loop {
        let (brokers, topic, name) = (brokers.clone(), topic.clone(), name.clone());
        let reading = tokio::task::spawn_blocking(move || read_newest(&brokers, &topic, &name)).await;
        match reading.map_err(|error| RunError::ProgressFormat(error.to_string()))? {
            Err(error @ ProgressError::OpenTransaction { .. }) => shell.health.waits_for("progress", error.to_string()),
            other => break other?,
        }
        tokio::time::sleep(PROGRESS_PAUSE).await;
    };
    shell.health.no_longer_waits("progress");
    let Some(stored) = stored else { return Ok(None) };
    let unreadable = |error: &dyn std::error::Error| RunError::ProgressFormat(super::describe(error));
    if stored.schema_id == shell.own_schemas.progress {
        return Progress::decode(&stored.body).map(Some).map_err(|error| unreadable(&error));
    }
    let text = shell.registry.schema(stored.schema_id, &shell.health).await?;
    let writer = WriterSchema::parse(&text).map_err(|error| unreadable(&error))?;
    Progress::decode_with(&writer, &stored.body).map(Some).map_err(|error| unreadable(&error))
}

async fn server(shell: &Shell, identity: &SystemIdentity) -> Result<Server, RunError> {
    let facts = shell.catalog.lock().await.server_facts().await?;
    Ok(Server {
        system_identifier: identity.system_identifier,
        database_oid: facts.database_oid,
        timeline: identity.timeline,
        flushed: identity.flushed,
    })
}

/// The slot as the decision needs it.
pub(super) async fn slot(shell: &Shell) -> Result<Option<Slot>, RunError> {
    let slot = shell.catalog.lock().await.slot(shell.slot()).await?;
    Ok(slot.map(|slot| Slot {
        lost: slot.wal_status == Some(catalog::WalStatus::Lost),
        confirmed: slot.confirmed_lsn.unwrap_or_default(),
        name: slot.name,
    }))
}

/// The change topic as the decision needs it.
pub(super) async fn topic(shell: &Shell) -> Result<Option<Topic>, RunError> {
    let state = describe(&shell.brokers(), &shell.names().changes).await?;
    Ok(state.map(|TopicState { id, offsets, .. }| Topic { id, ends: offsets.into_iter().map(|(_, end)| end).collect() }))
}

