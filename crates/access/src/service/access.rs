//! What a service uses.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use penstock_wire::partition::Partitioner;
use tokio::sync::Notify;
use uuid::Uuid;

use super::checkpoint::Keeper;
use super::config::Config;
use super::engine::{Next, Shared};
use super::error::ConnectError;
use super::http::{self, Server};
use super::metrics::Metrics;
use super::reader::Reader;
use super::registry::Registry;
use super::reports::Report;
use super::{kafka, now};
use crate::account::ClientOptions;
use crate::account::flows::EndedFlow;
use crate::account::show::Show;
use crate::authorize::{Answer, NewFlow, Request};
use crate::channel::Refusal;
use crate::channel::push::Message;
use crate::checkpoint::Basis;
use crate::health::Health;
use crate::knowledge::Reason;
use crate::partition;
use crate::replica::{Options, Replica, Subscriber};

/// The access state of a topic, kept up to date by a thread of its own until this and all its clones are dropped.
#[derive(Clone, Debug)]
pub struct Access(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
    http: Option<Server>,
}

/// What a channel hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    Push(Message),
    /// It may not be open, and is over.
    Refused(Refusal),
}

/// A client's or gateway's channel; closed when it is dropped.
#[derive(Debug)]
pub struct Channel {
    shared: Arc<Shared>,
    number: u64,
    news: Arc<Notify>,
}

/// Flows that have ended for good, as they end: their rows should be deleted.
#[derive(Debug)]
pub struct EndedFlows(Arc<Shared>);

impl Access {
    /// Begins to read. Returns when the brokers have answered, long before the state is complete: see [`Access::health`].
    ///
    /// # Errors
    /// If the brokers or the topics cannot be reached. Nothing was begun then.
    pub async fn connect(config: &Config) -> Result<Self, ConnectError> {
        let config = config.clone();
        match tokio::task::spawn_blocking(move || connect(&config)).await {
            Ok(connected) => connected,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Opens a client's channel. `token`: None for the one that its row was last used with.
    pub fn subscribe_client(&self, client: Uuid, token: Option<Uuid>, options: ClientOptions) -> Channel {
        self.subscribe(Subscriber::Client { id: client, token, options })
    }

    /// Opens a gateway's channel.
    pub fn subscribe_gateway(&self, gateway: Uuid, token: Option<Uuid>) -> Channel {
        self.subscribe(Subscriber::Gateway { id: gateway, token })
    }

    /// Whether a client may reach a resource now, and by which flow. Takes microseconds; changes nothing.
    pub fn authorize(&self, request: &Request<'_>) -> Answer {
        let shared = &self.0.shared;
        let answer = shared.lock().replica.authorize(request, now());
        shared.metrics.answered(&answer);
        answer
    }

    /// Authorises a flow on its gateway before its row comes. False: it may not be, or is known already.
    pub fn announce(&self, flow: &NewFlow) -> bool {
        self.0.shared.with(|replica, now| replica.announce(flow, now))
    }

    /// The row of an announced flow will not come.
    pub fn withdraw(&self, account: &str, flow: Uuid) {
        self.0.shared.with(|replica, now| replica.withdraw(account, flow, now));
    }

    /// Flows that end from now on. There is one such stream: a second one takes from the first.
    pub fn ended_flows(&self) -> EndedFlows {
        self.0.shared.lock().ended_flows.get_or_insert_with(VecDeque::new);
        EndedFlows(Arc::clone(&self.0.shared))
    }

    /// Who may reach what in an account; None: it has no rows here.
    pub fn show(&self, account: &str) -> Option<Show> {
        self.0.shared.lock().replica.show(account, now())
    }

    /// Why an account is not answered for; None: it is.
    pub fn doubt(&self, account: &str) -> Option<Reason> {
        self.0.shared.lock().replica.doubt(account, now())
    }

    /// Looks at the state itself, at the end of a transaction.
    pub fn look<T>(&self, look: impl FnOnce(&Replica) -> T) -> T {
        look(&self.0.shared.lock().replica)
    }

    /// How it is.
    pub fn health(&self) -> Health {
        self.0.shared.health()
    }

    /// The newest things that were wrong with what was read, oldest first; all of them are in the log.
    pub fn reports(&self) -> Vec<Report> {
        self.0.shared.lock().reports.kept()
    }

    /// For `/metrics`: as of now.
    pub fn metrics(&self) -> &Metrics {
        self.0.shared.health();
        &self.0.shared.metrics
    }

    /// Where `/metrics`, `/healthz` and `/readyz` are served: with port 0 configured, the one that was given.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.0.http.as_ref().map(Server::address)
    }

    /// Ends reading, leaves the group, and closes all channels. Clones are of no further use.
    pub async fn close(self) {
        let owner = Arc::clone(&self.0);
        let _ = tokio::task::spawn_blocking(move || owner.stop()).await;
    }

    fn subscribe(&self, subscriber: Subscriber) -> Channel {
        let shared = &self.0.shared;
        let mut engine = shared.lock();
        let (number, news) = engine.open(None, subscriber);
        shared.hand_out(&mut engine);
        drop(engine);
        Channel { shared: Arc::clone(shared), number, news }
    }
}

impl Owner {
    fn stop(&self) {
        self.shared.lock().stop();
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(Err(panic)) = thread.map(JoinHandle::join) {
            tracing::error!(?panic, "the reader's thread has panicked");
        }
    }
}

/// Tells that the reader's thread has ended unasked: it panicked.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let asked = self.0.lock().stopped;
        self.0.has_ended.store(!asked, Ordering::Relaxed);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Channel {
    /// The next thing to tell; None: the channel is over. Dropped while it waits, it loses nothing.
    pub async fn next(&mut self) -> Option<Notice> {
        loop {
            let news = Arc::clone(&self.news);
            let notified = news.notified();
            let next = {
                let mut engine = self.shared.lock();
                let next = engine.next(self.number);
                self.shared.hand_out(&mut engine);
                next
            };
            match next {
                Next::Message(message) => return Some(Notice::Push(message)),
                Next::Refused(refusal) => return Some(Notice::Refused(refusal)),
                Next::Over => return None,
                Next::Nothing => notified.await,
            }
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.shared.lock().close(self.number);
    }
}

impl EndedFlows {
    /// The next one, with its account. Dropped while it waits, it loses nothing.
    pub async fn next(&mut self) -> (Arc<str>, EndedFlow) {
        loop {
            let notified = self.0.flows_ended.notified();
            if let Some(flow) = self.0.lock().ended_flows.as_mut().and_then(VecDeque::pop_front) {
                return flow;
            }
            notified.await;
        }
    }
}

impl Drop for EndedFlows {
    fn drop(&mut self) {
        self.0.lock().ended_flows = None;
    }
}

fn connect(config: &Config) -> Result<Access, ConnectError> {
    // First, because it is told best before anything was begun.
    let listener = config.http.as_ref().map(http::bind).transpose()?;
    let metrics = Metrics::new();
    let progress = kafka::progress(config)?;
    let registry = Registry::new(&config.registry)?;
    let partitions = kafka::partitions(&progress, &config.kafka.topic)?;
    let settings = kafka::settings(config)?;
    let options = Options {
        account: config.access.account(),
        partition: partition::Options {
            isolation: config.isolation(),
            stale_after: config.access.stale_after(),
            compaction_lag: settings.compaction_lag,
            tombstone_retention: settings.tombstone_retention,
        },
        names: config.access.names(),
        partitions: Partitioner::new(partitions).expect("a topic has at least one partition"),
    };
    let keeper = Keeper::open(&config.checkpoint, Basis::new(&config.kafka.topic, &options))?;
    let replica = Replica::new(options);
    let shared = Arc::new(Shared::new(&config.kafka.topic, replica, metrics));
    let changes = kafka::changes(config, &shared)?;
    kafka::begin(config, &changes, partitions, &shared)?;
    let began = Instant::now();
    let reader = Reader {
        shared: Arc::clone(&shared),
        changes,
        progress,
        registry,
        topic: config.kafka.topic.clone(),
        keeper,
        ends: BTreeMap::new(),
        progress_schemas: BTreeMap::new(),
        committed: began,
        counted: began,
        told: began,
        records: 0,
    };
    let ending = Ending(Arc::clone(&shared));
    let thread = std::thread::Builder::new().name("penstock-access".to_owned()).spawn(move || {
        let _ending = ending;
        reader.run();
    });
    let thread = std::sync::Mutex::new(Some(thread.map_err(ConnectError::Thread)?));
    let mut owner = Owner { shared, thread, http: None };
    owner.http = listener.map(|listener| Server::start(listener, Arc::clone(&owner.shared))).transpose()?;
    Ok(Access(Arc::new(owner)))
}
