//! The only correct order of beginning, first start and resume alike.
//!
//! 1. START_REPLICATION takes the slot: a standby waits here, and does nothing else. Nothing is acknowledged meanwhile.
//! 2. `init_transactions` fences the predecessor.
//! 3. What a predecessor left without an end is aborted; then the newest progress is read: nothing can be written behind it
//!    any more.
//! 4. Slot, progress and topic are compared.
//! 5. Progress is held against what readers can read of each partition and of the dead letters; then the stream goes on behind it.
//!
//! A first start, where none of the three exists, makes topics, publication and slot before step 1, and the first progress
//! record, with an epoch record in every partition, after step 5.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use penstock_core::bridge::{Bridge, ClockSample};
use penstock_core::continuity::{self, Accepted, Continuation, Known, NewEpoch};
use penstock_core::oversize::Suspect;
use penstock_core::resume::{self, Decision, Others, Server, Slot, Topic};
use penstock_wire::decode::WriterSchema;
use penstock_wire::lsn::{EndLsn, Lsn};
use penstock_wire::position::Position;
use penstock_wire::progress::Progress;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::fencing::{Fenced, fence, introduced};
use super::settling::{letters, readable, settle};
use super::shell::{RunError, Shell, clock_us, pinned};
use super::stream::Streaming;
use super::{SessionEnd, catalog_watch, first, topic_watch};
use crate::catalog;
use crate::check::stopping_topics;
use crate::kafka::ends::{Place, places};
use crate::kafka::letters::Letters;
use crate::kafka::progress::{ProgressError, Stored, read_newest, read_others};
use crate::kafka::readers::Readers;
use crate::kafka::sink::{Sink, SinkError, SinkEvent};
use crate::kafka::topics::{TopicState, Topics, TopicsError, describe_with};
use crate::registry::RegistryError;
use crate::source::{Class, Connection, SourceError, StatusUpdate, SystemIdentity, TimelineSwitch, publication_names};

/// SQLSTATE of a slot that another process holds.
const OBJECT_IN_USE: &str = "55006";
const SLOT_PAUSE: Duration = Duration::from_millis(500);
const KAFKA_PAUSE: Duration = Duration::from_millis(500);
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);
/// How a run begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Go on without the rows from before the slot: they are not loaded, now and at later starts.
    pub from_now: bool,
    /// Where a new epoch may begin although changes may be missing.
    pub accepted: Accepted,
    /// End once the first progress is written.
    pub setup_only: bool,
}

/// An epoch that has to be begun before anything else.
#[derive(Clone, Debug)]
struct Opening {
    detail: String,
    gap: bool,
    clock_us: i64,
}

/// What is known before the stream goes on.
struct Decided {
    progress: Progress,
    /// Dead letters that can be read already.
    letters: BTreeSet<Position>,
    opening: Option<Opening>,
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
    suspect: Option<Suspect>,
    fresh: &mut Option<Fresh>,
    clock: &watch::Receiver<Option<ClockSample>>,
    shutdown: &mut watch::Receiver<bool>,
) -> (SessionEnd, StatusUpdate) {
    match open(connection, shell, start, suspect, fresh, clock, shutdown).await {
        Ok(streaming) => {
            // The first progress may be written from here on: the slot belongs to it.
            shell.catalog.lock().await.keep_slot();
            let (end, status) = streaming.run(connection, shutdown).await;
            if status.flushed != EndLsn::default() {
                *fresh = None;
            }
            (end, status)
        }
        Err(end) => (end, StatusUpdate::default()),
    }
}

async fn open<'a>(
    connection: &mut Connection,
    shell: &'a Shell,
    start: Start,
    suspect: Option<Suspect>,
    fresh: &mut Option<Fresh>,
    clock: &watch::Receiver<Option<ClockSample>>,
    shutdown: &mut watch::Receiver<bool>,
) -> Result<Streaming<'a>, SessionEnd> {
    let refused = |error: RunError| SessionEnd::Run(Box::new(error));
    let identity = connection.identify_system().await.map_err(SessionEnd::Source)?;
    if fresh.is_none() {
        let made = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => Err(SessionEnd::Shutdown),
            made = first::make(shell, start, &identity) => made.map_err(refused),
        };
        if made.is_err() {
            first::unmake(shell).await;
        }
        *fresh = made?;
    }
    let switches = connection.timeline_history(identity.timeline).await.map_err(SessionEnd::Source)?;
    take_slot(connection, shell, shutdown).await?;
    // From here on the connection streams, once and never again; Kafka is waited for without giving it up.
    let (Fenced { sink, mut events, record_bytes, topics }, mut readers) = loop {
        // The readers only get to know the brokers meanwhile: what they are asked comes after the fence.
        let opened = async { tokio::join!(fence(shell), introduced(shell)) };
        match while_alive(connection, shell, shutdown, opened).await? {
            (Ok(fenced), readers) => break (fenced, readers.map_err(refused)?),
            (Err(SessionEnd::Kafka(error)), _) if !matches!(error, SinkError::Fenced) => {
                shell.health.waits_for("kafka", error.to_string());
            }
            (Err(end), _) => return Err(end),
        }
        while_alive(connection, shell, shutdown, tokio::time::sleep(KAFKA_PAUSE)).await?;
    };
    let Decided { progress, letters, opening } = loop {
        let began = (&identity, switches.as_slice(), start.accepted);
        let decided = decide(shell, began, fresh.as_ref(), &readers, &sink, &mut events);
        match while_alive(connection, shell, shutdown, decided).await? {
            Ok(decided) => break decided,
            Err(SessionEnd::Run(error)) if error.class() == Class::Retry => {
                shell.health.waits_for("start", super::describe(&*error));
            }
            Err(end) => return Err(end),
        }
        while_alive(connection, shell, shutdown, tokio::time::sleep(KAFKA_PAUSE)).await?;
        // New clients have better chances than such as may have lost their last broker for good.
        readers = super::fencing::readers(shell).map_err(refused)?;
    };
    shell.health.no_longer_waits("start");
    judge_topics(shell, topics).await.map_err(refused)?;
    let began = Instant::now();
    let (topic_id, partition_count) = (progress.topic_id.clone(), progress.partition_count);
    let mut bridge = Bridge::new(shell.settings(record_bytes), progress, Duration::ZERO);
    if let Some(Opening { detail, gap, clock_us }) = &opening {
        bridge.open_epoch(detail, *gap, *clock_us, Duration::ZERO);
    }
    bridge.know_dead_letters(letters);
    if let Some(suspect) = suspect {
        bridge.heed(suspect);
    }
    // What the stream does not tell, and happened while no bridge ran.
    if let Some(seen) = catalog_watch::seen(shell).await.map_err(|error| refused(error.into()))? {
        bridge.handle_catalog(&seen, Duration::ZERO);
    }
    match start {
        Start { setup_only: true, .. } => bridge.handle_shutdown(Duration::ZERO),
        Start { from_now: true, .. } => bridge.decline_load(Duration::ZERO),
        Start { .. } => bridge.load_everything(Duration::ZERO),
    }
    let topic = Box::pin(async move { topic_watch::watch(shell, &topic_id, partition_count).await });
    Ok(Streaming::new(shell, bridge, sink, events, clock.clone(), began, topic))
}

/// Step 1. Waits while another bridge holds the slot.
async fn take_slot(
    connection: &mut Connection,
    shell: &Shell,
    shutdown: &mut watch::Receiver<bool>,
) -> Result<(), SessionEnd> {
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

/// Steps 3 to 5: progress, and the dead letters behind what the slot was told.
async fn decide(
    shell: &Shell,
    (identity, switches, accepted): (&SystemIdentity, &[TimelineSwitch], Accepted),
    fresh: Option<&Fresh>,
    readers: &Readers,
    sink: &Sink,
    events: &mut UnboundedReceiver<SinkEvent>,
) -> Result<Decided, SessionEnd> {
    let refused = |error: RunError| SessionEnd::Run(Box::new(error));
    let names = shell.names();
    // A topic that was made just now may not be known to every broker: then the question fails, and is asked again.
    let exists =
        describe_with(readers.clone(), &names.progress()).await.map_err(|error| refused(error.into()))?.is_some();
    let stored = if exists || fresh.is_some() {
        settle(shell, readers, sink, events, vec![(names.progress(), 0)]).await?;
        newest_progress(shell, readers).await.map_err(refused)?
    } else {
        None
    };
    let dead_letters = dead_letter_place(shell, readers, fresh.is_some()).await.map_err(refused)?;
    let server = server(shell, identity).await.map_err(refused)?;
    let topic = topic(shell, readers).await.map_err(refused)?;
    if let (Some(fresh), None, Some(topic)) = (fresh, &stored, &topic) {
        // Another source may have begun since this one looked.
        let others = other_progress(shell, readers).await.map_err(refused)?;
        let allowed = resume::first_start(&pinned(&shell.config), &others, topic);
        allowed.map_err(|refusal| SessionEnd::Refused(Box::new(refusal)))?;
        let Fresh { detail, clock_us, .. } = fresh.clone();
        return Ok(Decided {
            progress: first_progress(shell, fresh, &server, topic),
            letters: BTreeSet::new(),
            opening: Some(Opening { detail, gap: false, clock_us }),
        });
    }
    let slot = slot(shell).await.map_err(refused)?;
    let others = Others::new();
    let known = Known {
        pinned: &pinned(&shell.config),
        server: &server,
        slot: slot.as_ref(),
        progress: stored.as_ref(),
        others: &others,
        topic: topic.as_ref(),
        switch_point: stored.as_ref().and_then(|progress| switch_point(switches, progress.timeline)),
    };
    let (progress, opening) = match continuity::go_on(known, accepted) {
        Ok(Continuation::Decided(Decision::Resume(progress))) => (*progress, None),
        // Only the slot can have vanished since step 1 took it.
        Ok(Continuation::Decided(Decision::FirstStart)) => return Err(SessionEnd::Source(SourceError::StreamEnded)),
        Ok(Continuation::NewEpoch(next)) => {
            let NewEpoch { progress, detail, gap } = *next;
            let clock = shell.catalog.lock().await.clock_reading().await;
            let clock_us = clock.map_err(|error| refused(error.into()))?.clock_us;
            tracing::warn!(epoch = progress.epoch, end_lsn = %progress.end_lsn, detail, "a new epoch begins");
            (progress, Some(Opening { detail, gap, clock_us }))
        }
        Err(refusal) => return Err(SessionEnd::Refused(Box::new(refusal))),
    };
    let partitions = i32::try_from(progress.partition_count).unwrap_or_default();
    let mut settled = places(&names.changes, partitions);
    settled.extend(dead_letters.clone());
    settle(shell, readers, sink, events, settled).await?;
    let readable = readable(shell, readers, &progress).await?;
    let confirmed = slot.map(|slot| slot.confirmed).unwrap_or_default();
    let letters = match dead_letters {
        Some(place) => letters(shell, readers, place, &progress, confirmed).await?,
        None => Letters::default(),
    };
    let progress = resume::behind_readable(progress, readable, letters.lost, confirmed);
    tracing::info!(end_lsn = %progress.end_lsn, epoch = progress.epoch, "resuming");
    Ok(Decided { progress, letters: letters.readable, opening })
}

/// Where a timeline ended, if the server's comes from it.
pub fn switch_point(switches: &[TimelineSwitch], timeline: u32) -> Option<Lsn> {
    switches.iter().find(|switch| switch.timeline == timeline).map(|switch| switch.switch_point)
}

/// Where dead letters go, if any do. A topic that is missing stops the start in step 4, unless it was made just now.
async fn dead_letter_place(shell: &Shell, readers: &Readers, made_now: bool) -> Result<Option<Place>, RunError> {
    let topic = shell.names().dead_letter();
    if !shell.writes_dead_letters() {
        return Ok(None);
    }
    match describe_with(readers.clone(), &topic).await? {
        Some(_) => Ok(Some((topic, 0))),
        None if made_now => {
            Err(TopicsError::NotReady { topic, reason: "it was made just now, and not every broker knows it".into() }
                .into())
        }
        None => Ok(None),
    }
}

/// Of step 4: a topic that throws records away is not gone on with. Where nobody may read its settings, or nobody answers, the
/// topic is taken for what it was when it was made.
async fn judge_topics(shell: &Shell, topics: Topics) -> Result<(), RunError> {
    let judged = match stopping_topics(&shell.config, &shell.brokers(), &topics).await {
        // The client is as old as the fence; in between, it may have lost its last broker for good.
        Err(_) => stopping_topics(&shell.config, &shell.brokers(), &Topics::new(&shell.brokers())?).await,
        judged => judged,
    };
    match judged {
        Ok(findings) if findings.is_empty() => Ok(()),
        Ok(findings) => Err(RunError::Findings(findings.iter().map(ToString::to_string).collect())),
        Err(error) => {
            tracing::warn!(
                error = super::describe(&error),
                "the topics' settings cannot be read; they are not compared"
            );
            Ok(())
        }
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
        namespace: shell.config.kafka.namespace.clone(),
        source_in_key: shell.config.source.number_in_key,
        ..Progress::default()
    }
}

/// The newest progress of this source; none where its topic is gone, too.
pub(super) async fn stored_progress(shell: &Shell, readers: &Readers) -> Result<Option<Progress>, RunError> {
    match describe_with(readers.clone(), &shell.names().progress()).await? {
        Some(_) => newest_progress(shell, readers).await,
        None => Ok(None),
    }
}

/// The newest progress of every other source; of none where its topic is gone.
pub(super) async fn other_progress(shell: &Shell, readers: &Readers) -> Result<Others, RunError> {
    let mut others = Others::new();
    if describe_with(readers.clone(), &shell.names().progress()).await?.is_some() {
        for (name, stored) in read(shell, readers, read_others).await? {
            let progress = decode(shell, &name, stored).await?;
            others.insert(name, progress);
        }
    }
    Ok(others)
}

/// The newest progress of this source.
async fn newest_progress(shell: &Shell, readers: &Readers) -> Result<Option<Progress>, RunError> {
    match read(shell, readers, read_newest).await? {
        Some(stored) => decode(shell, &shell.config.source.name, stored).await.map(Some),
        None => Ok(None),
    }
}

/// Asks the progress topic. Waits for other sources' open transactions to end.
async fn read<T: Send + 'static>(
    shell: &Shell,
    readers: &Readers,
    question: fn(&Readers, &str, &str) -> Result<T, ProgressError>,
) -> Result<T, RunError> {
    let (topic, name) = (shell.names().progress(), shell.config.source.name.clone());
    let answer = loop {
        let (readers, topic, name) = (readers.clone(), topic.clone(), name.clone());
        let reading = tokio::task::spawn_blocking(move || question(&readers, &topic, &name)).await;
        match reading.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())) {
            Err(error @ ProgressError::OpenTransaction { .. }) => shell.health.waits_for("progress", error.to_string()),
            other => break other?,
        }
        tokio::time::sleep(PROGRESS_PAUSE).await;
    };
    shell.health.no_longer_waits("progress");
    Ok(answer)
}

async fn decode(shell: &Shell, source_name: &str, stored: Stored) -> Result<Progress, RunError> {
    let unreadable = |error: &dyn std::error::Error| {
        RunError::ProgressFormat(format!("{source_name:?}: {}", super::describe(error)))
    };
    if stored.schema_id == shell.own_schemas.progress {
        return Progress::decode(&stored.body).map_err(|error| unreadable(&error));
    }
    let text = match shell.registry.schema(stored.schema_id, &shell.health).await {
        Err(RegistryError::Refused { status: 404, .. }) => {
            let reason = format!("{source_name:?}: the registry knows no schema {}", stored.schema_id);
            return Err(RunError::ProgressFormat(reason));
        }
        text => text?,
    };
    let writer = WriterSchema::parse(&text).map_err(|error| unreadable(&error))?;
    Progress::decode_with(&writer, &stored.body).map_err(|error| unreadable(&error))
}

/// The server as the decision needs it.
pub(super) async fn server(shell: &Shell, identity: &SystemIdentity) -> Result<Server, RunError> {
    let mut catalog = shell.catalog.lock().await;
    let facts = catalog.server_facts().await?;
    // Asked now: a standby identified the system long before it got the slot.
    let flushed = catalog.clock_reading().await?.lsn.0;
    Ok(Server {
        system_identifier: identity.system_identifier,
        database_oid: facts.database_oid,
        timeline: identity.timeline,
        flushed,
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
pub(super) async fn topic(shell: &Shell, readers: &Readers) -> Result<Option<Topic>, RunError> {
    let state = describe_with(readers.clone(), &shell.names().changes).await?;
    Ok(state
        .map(|TopicState { id, offsets, .. }| Topic { id, ends: offsets.into_iter().map(|(_, end)| end).collect() }))
}
