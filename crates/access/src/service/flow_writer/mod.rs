//! Writes the rows of authorised flows, off the path on which they are authorised, and deletes those of ended ones.
//!
//! ```text
//! authorize ─▶ announce ─▶ queue (bounded) ─▶ batches ─▶ INSERT ─▶ the row comes by the topic and confirms the flow
//!                 │                              └ a row that Postgres refuses ─▶ withdraw
//!                 └▶ the gateway is told at once                ended flows ─▶ DELETE
//! ```
//!
//! Invariants: nothing here waits on the caller's path. What is announced has a place in the queue already, so an
//! announcement is never left without somebody who writes or withdraws it. A row that Postgres refuses costs only itself.
//! A row that could not be written in time is withdrawn and not written later, when the gateway has long been told that it
//! is over.
//!
//! It is one way to do this, and the only part of this crate that is given a database. Whoever writes rows otherwise uses
//! [`Access::announce`], [`Access::withdraw`] and [`Access::ended_flows`] as this does.

mod rows;
mod task;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;
use tokio_postgres::Socket;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};

use super::Access;
use crate::authorize::NewFlow;
use rows::Database;
use task::Task;

/// How much is written at once, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct FlowWriterOptions {
    /// Flows that wait; one more is refused.
    pub queue_max: usize,
    /// Rows in one INSERT.
    pub batch_max: usize,
    /// A row that was not written for so long is withdrawn. Less than `confirm_within`, or the flow is over before.
    pub write_within: Duration,
    /// Between attempts while Postgres is away.
    pub retry_pause: Duration,
}

impl Default for FlowWriterOptions {
    fn default() -> Self {
        Self {
            queue_max: 10_000,
            batch_max: 500,
            write_within: Duration::from_secs(10),
            retry_pause: Duration::from_millis(250),
        }
    }
}

/// What the table wants to know of a flow beyond what decides on it.
#[derive(Clone, Debug)]
pub struct FlowDetails {
    pub client_user_agent: String,
    pub gateway_remote_ip: IpAddr,
}

/// Nothing was announced, and nothing will be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWritten {
    #[error("as many flows wait to be written as may: Postgres is away or too slow. Ask again later")]
    Full,
    #[error("the flow may not be, or is known already: authorize it anew, with a fresh id")]
    NotAnnounced,
    #[error("the writer has ended")]
    Ended,
}

/// How many flows became what, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// Rows that are there.
    pub written: u64,
    /// Flows that were withdrawn because their rows could not be written.
    pub withdrawn: u64,
    /// Ended flows whose rows were deleted, if there were any.
    pub deleted: u64,
}

/// See the module's documentation. Ends when it is dropped, and then what waits is still written.
#[derive(Debug)]
pub struct FlowWriter {
    access: Access,
    queue: mpsc::Sender<Queued>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

/// A flow whose row is to be written.
#[derive(Debug)]
struct Queued {
    flow: NewFlow,
    details: FlowDetails,
    since: Instant,
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    withdrawn: AtomicU64,
    deleted: AtomicU64,
}

impl FlowWriter {
    /// Begins, on the runtime that this is called in. Takes the stream of ended flows: see [`Access::ended_flows`].
    ///
    /// Connects when there is something to write, and again after every failure. The tables are found by the role's
    /// `search_path`; it needs INSERT and DELETE on `flows`, and SELECT on its column `id`.
    pub fn start<T>(access: &Access, database: tokio_postgres::Config, tls: T, options: FlowWriterOptions) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::TlsConnect: Send,
        T::Stream: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let (queue, queued) = mpsc::channel(options.queue_max);
        let counts = Arc::new(Counts::default());
        let database = Database::new(database, tls);
        let task = Task::new(access.clone(), queued, database, options, Arc::clone(&counts));
        Self { access: access.clone(), queue, counts, task: tokio::spawn(task.run()) }
    }

    /// Authorises a flow on its gateway at once, and has its row written. Takes microseconds, and never waits.
    ///
    /// # Errors
    /// The flow is not announced then.
    pub fn announce(&self, flow: NewFlow, details: FlowDetails) -> Result<(), NotWritten> {
        let place = self.queue.try_reserve().map_err(|error| match error {
            TrySendError::Full(()) => NotWritten::Full,
            TrySendError::Closed(()) => NotWritten::Ended,
        })?;
        if !self.access.announce(&flow) {
            return Err(NotWritten::NotAnnounced);
        }
        place.send(Queued { flow, details, since: Instant::now() });
        Ok(())
    }

    /// What became of flows so far.
    pub fn counts(&self) -> FlowCounts {
        self.counts.read()
    }

    /// Ends when all that waits is written, or withdrawn because it could not be.
    pub async fn close(self) -> FlowCounts {
        let Self { queue, counts, task, access: _access } = self;
        drop(queue);
        if let Err(error) = task.await {
            // The runtime has ended before: what was not written will not be confirmed, and is over for it.
            tracing::error!(%error, "the flow writer has ended early");
        }
        counts.read()
    }
}

impl Counts {
    fn read(&self) -> FlowCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        FlowCounts { written: read(&self.written), withdrawn: read(&self.withdrawn), deleted: read(&self.deleted) }
    }
}
