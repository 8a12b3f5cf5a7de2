//! One session's loop: frames to the bridge, the bridge's actions to the sink, the sink's reports to the bridge.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use penstock_core::backfill::interface::{Description, Undescribed};
use penstock_core::bridge::{Action, Bridge, ClockSample, Stop, Wal};
use penstock_core::ledger::GroupEnd;
use penstock_core::pgoutput::Relation;
use penstock_core::relation::{CatalogFacts, Table};
use penstock_core::resume::Refusal;
use penstock_wire::event::Op;
use penstock_wire::progress::Through;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::{Instant as TokioInstant, MissedTickBehavior, interval, sleep_until};

use super::shell::{RunError, Shell, clock_us};
use super::{SessionEnd, catalog_watch, describe};
use crate::backfill::{Answer, Backfiller, News};
use crate::kafka::sink::{Sink, SinkError, SinkEvent};
use crate::metrics::TableRecords;
use crate::source::{Connection, Frame, SourceError, StatusUpdate};

/// A source that has sent nothing for so long is quiet: what was read can be committed.
const SETTLED_AFTER: Duration = Duration::from_millis(1);
/// How often the bridge is told the time.
const TICK: Duration = Duration::from_millis(50);
/// How long a shutdown waits for the transaction it is in the middle of, and for its commit.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(20);

/// How long the end of the process waits for the open transaction to be aborted.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);
/// Postgres is called silent after this, if it is asked often enough: each status update asks for an answer.
const SOURCE_SILENCE_NOTICED: Duration = Duration::from_secs(10);
/// Status updates that may go without an answer.
const UNANSWERED_MAX: u32 = 3;
/// Kafka is called silent after this; `status` and `/readyz` say so.
const SILENCE_NOTICED: Duration = Duration::from_secs(3);
/// After this the producer is given up. librdkafka (2.12) can lose its last broker for good: a broker that was frozen
/// answers with metadata that names no broker, and the client forgets how to reach it.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Everything a session streams with, besides the connection.
pub struct Streaming<'a> {
    shell: &'a Shell,
    bridge: Bridge,
    sink: Sink,
    events: UnboundedReceiver<SinkEvent>,
    clock: watch::Receiver<Option<ClockSample>>,
    began: Instant,
    reading: Reading,
    answer_due: bool,
    /// By relation OID, so that no label is looked up per row.
    counters: BTreeMap<u32, TableRecords>,
    schema: Option<Pin<Box<dyn Future<Output = Step> + 'a>>>,
    backfill: Backfiller,
    news: News,
    /// Tables of a backfill whose schemas are to be registered, one after the other.
    compiled: VecDeque<Table>,
    registration: Option<Pin<Box<dyn Future<Output = Registered> + 'a>>>,
    /// Ends when the topic is another one.
    topic: Pin<Box<dyn Future<Output = Refusal> + 'a>>,
    catalog: Pin<Box<dyn Future<Output = catalog_watch::Reading> + 'a>>,
    /// The last reading of the catalog found something that would stop a start.
    stops: bool,
    heard: TokioInstant,
    /// When Postgres has last sent something, or was last not read.
    told: TokioInstant,
    shutdown_deadline: Option<TokioInstant>,
}

/// What the loop knows about the source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It has nothing to say, or has not been heard yet.
    Quiet,
    /// It was heard just now; if nothing more has come by then, it is quiet.
    Settling(TokioInstant),
}

/// The two questions a new relation leads to.
enum Step {
    Described(Relation, Result<CatalogFacts, RunError>),
    Registered(Box<Table>, Result<(u32, u32), RunError>),
}

/// A table of a backfill, and the registry's answer.
type Registered = (Box<Table>, Result<(u32, u32), RunError>);

/// What woke the loop.
enum Wake {
    Shutdown,
    Sink(Option<SinkEvent>),
    Schema(Step),
    Backfill(Answer),
    Registered(Registered),
    Topic(Refusal),
    Catalog(catalog_watch::Reading),
    Clock,
    StatusDue,
    Tick,
    Filled(Result<usize, SourceError>),
    Quiet,
}

impl<'a> Streaming<'a> {
    /// `began` is the zero of the bridge's time.
    pub fn new(
        shell: &'a Shell,
        bridge: Bridge,
        sink: Sink,
        events: UnboundedReceiver<SinkEvent>,
        clock: watch::Receiver<Option<ClockSample>>,
        began: Instant,
        topic: Pin<Box<dyn Future<Output = Refusal> + 'a>>,
    ) -> Self {
        Self {
            shell,
            news: News::new(bridge.reloads()),
            bridge,
            sink,
            events,
            clock,
            began,
            reading: Reading::Quiet,
            answer_due: false,
            counters: BTreeMap::new(),
            schema: None,
            backfill: Backfiller::new(&shell.config, &shell.health),
            compiled: VecDeque::new(),
            registration: None,
            topic,
            catalog: Box::pin(catalog_watch::next(shell)),
            stops: false,
            heard: TokioInstant::now(),
            told: TokioInstant::now(),
            shutdown_deadline: None,
        }
    }

    /// Until something ends it. The connection stays in the copy; what is durable comes with the end.
    pub async fn run(
        mut self,
        connection: &mut Connection,
        shutdown: &mut watch::Receiver<bool>,
    ) -> (SessionEnd, StatusUpdate) {
        let end = match self.turn(connection, shutdown).await {
            Ok(end) | Err(end) => end,
        };
        let status = StatusUpdate::durable(self.bridge.durable());
        if end.is_final() {
            self.abort().await;
        }
        (end, status)
    }

    /// Before the process goes, the open transaction is aborted: it would hold back every `read_committed` reader until
    /// it times out.
    async fn abort(self) {
        let Self { sink, events, .. } = self;
        drop(events);
        if let Some(thread) = sink.end() {
            let joined = tokio::task::spawn_blocking(move || thread.join());
            if tokio::time::timeout(ABORT_PATIENCE, joined).await.is_err() {
                tracing::info!("the producer did not end in time; the next start aborts what it left open");
            }
        }
    }

    async fn turn(
        &mut self,
        connection: &mut Connection,
        shutdown: &mut watch::Receiver<bool>,
    ) -> Result<SessionEnd, SessionEnd> {
        let mut status = interval(self.shell.status_interval());
        let mut tick = interval(TICK);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.consume(connection)?;
            if let Some(end) = self.act(connection).await? {
                return Ok(end);
            }
            // In this order: an order to stop and what frees memory come before what fills it.
            let wake = tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop), if self.shutdown_deadline.is_none() => Wake::Shutdown,
                event = self.events.recv() => Wake::Sink(event),
                step = poll_optional(&mut self.schema), if self.schema.is_some() => Wake::Schema(step),
                answer = self.backfill.next() => Wake::Backfill(answer),
                registered = poll_optional(&mut self.registration), if self.registration.is_some() => Wake::Registered(registered),
                refusal = &mut self.topic => Wake::Topic(refusal),
                reading = &mut self.catalog => Wake::Catalog(reading),
                Ok(()) = self.clock.changed() => Wake::Clock,
                _ = status.tick() => Wake::StatusDue,
                _ = tick.tick() => Wake::Tick,
                filled = connection.fill_gathered(self.shell.frame_bytes_max()), if self.bridge.wants_wal() => Wake::Filled(filled),
                () = settled(self.reading), if self.bridge.wants_wal() => Wake::Quiet,
            };
            self.handle(wake, connection).await?;
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    async fn handle(&mut self, wake: Wake, connection: &mut Connection) -> Result<(), SessionEnd> {
        let now = self.now();
        if matches!(wake, Wake::Sink(_)) {
            self.heard = TokioInstant::now();
        }
        match wake {
            Wake::Shutdown => {
                self.shutdown_deadline = Some(TokioInstant::now() + SHUTDOWN_PATIENCE);
                self.bridge.handle_shutdown(now);
            }
            Wake::Sink(Some(SinkEvent::Delivered(reports))) => self.bridge.handle_delivered(reports, now),
            Wake::Sink(Some(SinkEvent::Committed)) => self.bridge.handle_committed(now),
            Wake::Sink(Some(SinkEvent::Readable)) => self.bridge.handle_readable(now),
            Wake::Sink(Some(SinkEvent::Failed(error))) => {
                let attempt = self.bridge.attempt(now).filter(|_| error.transaction_is_gone());
                return Err(match attempt {
                    Some(attempt) => SessionEnd::TransactionGone(error, Box::new(attempt)),
                    None => SessionEnd::Kafka(error),
                });
            }
            Wake::Sink(Some(SinkEvent::Ready | SinkEvent::ResidueAborted)) => {}
            Wake::Sink(None) => return Err(SessionEnd::SinkGone),
            Wake::Schema(step) => self.schema_step(step)?,
            Wake::Backfill(answer) => self.answered(answer),
            Wake::Registered((table, ids)) => self.registered(*table, ids),
            Wake::Topic(refusal) => return Err(SessionEnd::Refused(Box::new(refusal))),
            Wake::Catalog(reading) => {
                self.catalog = Box::pin(catalog_watch::next(self.shell));
                self.catalog_read(reading, now)?;
            }
            Wake::Clock => {
                if let Some(sample) = *self.clock.borrow_and_update() {
                    self.bridge.handle_clock(sample);
                }
            }
            Wake::StatusDue => self.send_status(connection, true).await?,
            Wake::Tick => {
                if self.shutdown_deadline.is_some_and(|deadline| deadline <= TokioInstant::now()) {
                    return Err(SessionEnd::ShutdownTimedOut);
                }
                self.bridge.handle_tick(now);
                self.backfill.close_unused();
                self.observe();
                self.listen_to_source();
                self.listen()?;
            }
            Wake::Filled(filled) => {
                filled.map_err(SessionEnd::Source)?;
                self.told = TokioInstant::now();
                self.reading = Reading::Settling(TokioInstant::now() + SETTLED_AFTER);
            }
            Wake::Quiet => {
                self.reading = Reading::Quiet;
                self.bridge.handle_quiet(now);
            }
        }
        Ok(())
    }

    /// What is found twice is no step of a migration that goes on.
    fn catalog_read(&mut self, reading: catalog_watch::Reading, now: Duration) -> Result<(), SessionEnd> {
        let catalog_watch::Reading { stops, seen } = reading;
        if let Some(seen) = seen {
            self.bridge.handle_catalog(&seen, now);
        }
        let again = std::mem::replace(&mut self.stops, !stops.is_empty());
        match again && self.stops {
            true => Err(SessionEnd::Run(Box::new(RunError::Findings(stops)))),
            false => Ok(()),
        }
    }

    /// Postgres owes an answer and gives none: says so. The connection stays, since a server that decodes a large transaction
    /// can be silent for long; one that is lost is the socket's to tell.
    fn listen_to_source(&mut self) {
        if !self.bridge.wants_wal() {
            self.told = TokioInstant::now();
        }
        let patience = SOURCE_SILENCE_NOTICED.max(self.shell.status_interval() * UNANSWERED_MAX);
        if self.told.elapsed() > patience {
            self.shell.health.waits_for("postgres", "it is connected and sends nothing, not even answers".into());
        } else {
            self.shell.health.no_longer_waits("postgres");
        }
    }

    /// Kafka owes an answer and gives none: says so, and in the end gives the producer up.
    fn listen(&mut self) -> Result<(), SessionEnd> {
        if !self.bridge.awaits_kafka() {
            self.heard = TokioInstant::now();
        }
        let silence = self.heard.elapsed();
        if silence > SILENCE_MAX {
            return Err(SessionEnd::Kafka(SinkError::Silent(silence.as_secs())));
        }
        if silence > SILENCE_NOTICED {
            self.shell.health.waits_for("kafka", "records are on their way and no broker answers".into());
        } else {
            self.shell.health.no_longer_waits("kafka");
        }
        Ok(())
    }

    /// Hands in every complete frame the bridge has room for.
    fn consume(&mut self, connection: &mut Connection) -> Result<(), SessionEnd> {
        // A chunk is told before its high mark is written: it must be known before that mark is.
        while let Some(answer) = self.backfill.try_next() {
            self.answered(answer);
        }
        let now = self.now();
        let mut any = false;
        while self.bridge.wants_wal() {
            let wal = match connection.next_frame().map_err(SessionEnd::Source)? {
                Some(Frame::XLogData { start, sent_at_us, payload, .. }) => Wal::Data { start, sent_at_us, payload },
                Some(Frame::Keepalive { wal_end, reply_requested, .. }) => {
                    self.answer_due |= reply_requested;
                    Wal::Keepalive { wal_end }
                }
                None => {
                    if any {
                        self.bridge.handle_drained(now);
                    }
                    break;
                }
            };
            self.bridge.handle_wal(wal, now);
            any = true;
        }
        Ok(())
    }

    /// Does what the bridge asks for.
    async fn act(&mut self, connection: &mut Connection) -> Result<Option<SessionEnd>, SessionEnd> {
        while let Some(action) = self.bridge.poll_action() {
            match action {
                Action::Produce(batch) => self.sink.produce(batch),
                Action::Commit(progress) => {
                    let Through { commit_lsn, seq, xid, .. } = progress.through;
                    if progress.through != Through::default() && !progress.end_lsn.covers(commit_lsn) {
                        tracing::info!(%commit_lsn, xid, seq = seq.0, "a large transaction is delivered up to here");
                    }
                    self.sink.commit(self.shell.progress_record(&progress));
                }
                Action::Confirm(end) => {
                    self.confirmed(&end);
                    self.send_status(connection, false).await?;
                }
                Action::NeedSchema(relation) => {
                    self.counters.remove(&relation.id);
                    let (shell, told) = (self.shell, self.bridge.told(&relation));
                    self.schema = Some(Box::pin(async move {
                        let facts = match told {
                            Some(facts) => Ok(facts),
                            None => shell.facts(&relation).await,
                        };
                        Step::Described(relation, facts)
                    }));
                }
                Action::Backfill(ask) => self.backfill.ask(ask),
                Action::Stopped(Stop::Shutdown) => return Ok(Some(SessionEnd::Shutdown)),
                Action::Stopped(Stop::Apart(commit_lsn)) => return Ok(Some(SessionEnd::Apart(commit_lsn))),
                Action::Stopped(Stop::Fault(fault)) => return Ok(Some(SessionEnd::Fault(fault))),
            }
        }
        if std::mem::take(&mut self.answer_due) {
            self.send_status(connection, false).await?;
        }
        Ok(None)
    }

    fn schema_step(&mut self, step: Step) -> Result<(), SessionEnd> {
        self.schema = None;
        let refused = |error| SessionEnd::Run(Box::new(error));
        match step {
            Step::Described(relation, facts) => {
                let (facts, now) = (facts.map_err(refused)?, self.now());
                if self.bridge.handle_keyless(&relation, &facts, now) {
                    let Relation { schema, table, .. } = relation;
                    tracing::warn!(schema, table, "nobody knows the key of a table any more; its changes are left out");
                    return Ok(());
                }
                let described = self.bridge.describe(&relation, facts);
                let table = described.map_err(|fault| SessionEnd::Fault(Box::new(fault)))?;
                let shell = self.shell;
                self.schema = Some(Box::pin(async move {
                    let ids = shell.register(&table).await;
                    Step::Registered(Box::new(table), ids)
                }));
            }
            Step::Registered(table, ids) => {
                let (key_id, value_id) = ids.map_err(refused)?;
                let now = self.now();
                self.bridge.handle_schema_ready(*table, key_id, value_id, now);
            }
        }
        Ok(())
    }

    fn answered(&mut self, answer: Answer) {
        let now = self.now();
        match answer {
            Answer::Barrier(xid) => self.bridge.handle_barrier(xid, now),
            Answer::Idle(xids) => self.bridge.handle_idle(xids, now),
            Answer::Surveyed { reload, surveyed } => self.bridge.handle_surveyed(&reload, surveyed, now),
            Answer::Described { table, described } => {
                let compiled = described.and_then(|Description { relation, facts }| {
                    let compiled = self.bridge.describe_for_backfill(&relation, facts);
                    compiled.map_err(|fault| Undescribed::Refused(format!("{fault}. {}", fault.remedy())))
                });
                match compiled {
                    Ok(compiled) => {
                        self.compiled.push_back(compiled);
                        self.register_next();
                    }
                    Err(why) => self.bridge.handle_described(table, Err(why), now),
                }
            }
            Answer::Chunk(chunk) => self.bridge.handle_chunk(chunk, now),
            Answer::ChunkFailed { number, why } => self.bridge.handle_chunk_failed(number, why, now),
        }
    }

    fn register_next(&mut self) {
        if self.registration.is_none()
            && let Some(table) = self.compiled.pop_front()
        {
            let shell = self.shell;
            self.registration = Some(Box::pin(async move {
                let ids = shell.register(&table).await;
                (Box::new(table), ids)
            }));
        }
    }

    fn registered(&mut self, table: Table, ids: Result<(u32, u32), RunError>) {
        self.registration = None;
        let name = (table.relation.schema.clone(), table.relation.table.clone());
        let described = ids.map(|ids| (table, ids)).map_err(|error| Undescribed::Refused(describe(&error)));
        self.bridge.handle_described(name, described, self.now());
        self.register_next();
    }

    async fn send_status(&mut self, connection: &mut Connection, reply_requested: bool) -> Result<(), SessionEnd> {
        let status = StatusUpdate { reply_requested, ..StatusUpdate::durable(self.bridge.durable()) };
        connection.send_status(status, clock_us()).await.map_err(SessionEnd::Source)
    }

    /// The first commit of a session, a heartbeat at the latest, shows that everything works.
    fn confirmed(&mut self, end: &GroupEnd) {
        self.shell.health.streams(true);
        self.shell.metrics.committed(end, clock_us());
        self.observe();
    }

    fn observe(&mut self) {
        let metrics = &self.shell.metrics;
        let (records, bytes) = self.bridge.in_flight();
        metrics.in_flight(records, bytes);
        let (transactions, oldest) = self.bridge.unacknowledged();
        metrics.unacknowledged(transactions, oldest);
        metrics.duplicates_suppressed(self.bridge.take_skipped());
        metrics.backfill(self.bridge.reloads());
        self.news.tell(self.bridge.reloads());
        match self.bridge.backfill_waits() {
            Some(why) => self.shell.health.waits_beside("backfill", why.to_owned()),
            None => self.shell.health.no_longer_waits("backfill"),
        }
        for (relation, counts) in self.bridge.take_counts() {
            let counters =
                self.counters.entry(relation.id).or_insert_with(|| metrics.table(&relation.schema, &relation.table));
            counters.add(Op::Create, counts.created);
            counters.add(Op::Update, counts.updated);
            counters.add(Op::Delete, counts.deleted);
            counters.add(Op::Read, counts.read);
            counters.add_dead_letters(counts.dead_letters);
            if counts.dead_letters > 0 {
                let (schema, table, rows) = (&relation.schema, &relation.table, counts.dead_letters);
                tracing::warn!(schema, table, rows, "rows could not be delivered and go to the dead-letter topic");
            }
        }
        self.shell.positions.set(self.bridge.read_to(), self.bridge.durable());
    }
}

async fn settled(reading: Reading) {
    match reading {
        Reading::Settling(until) => sleep_until(until).await,
        Reading::Quiet => std::future::pending().await,
    }
}

async fn poll_optional<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + '_>>>) -> T {
    match future {
        Some(future) => future.as_mut().await,
        None => std::future::pending().await,
    }
}
