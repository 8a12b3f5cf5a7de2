//! The shell of a backfill: what [`Ask`] asks for, done on ordinary connections.
//!
//! ```text
//! Action::Backfill(ask) ─▶ Backfiller::ask ─▶ a task each ─▶ Answer ─▶ Backfiller::next ─▶ Bridge::handle_…
//! ```
//! - What fails for the moment is tried again, for as long as it takes, and told as a wait; only a chunk's failure is an answer:
//!   its marks have to be new ones.
//! - Dropped, it ends all tasks and closes all connections: no lock stays, no transaction, no copy.
//! - Chunks are read by at most so many connections at once; those that nobody needs are closed.
//!
//! It decides nothing: which chunk is next, and whether it is valid, is the bridge's. It never uses what it reads.

use std::sync::Arc;
use std::time::Duration;

use penstock_core::backfill::interface::{
    Ask, Chunk, ChunkRequest, Description, Mark, Surveyed, Undescribed, Unsurveyed,
};
use penstock_wire::reload::Scope;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::catalog::{Catalog, CatalogError};
use crate::config::{Config, TableName};
use crate::health::Health;
use crate::run::describe;
use crate::source::{Class, ConnectOptions};

mod error;
mod lines;
mod news;
mod pool;
mod read;
mod session;
mod sql;
mod survey;

use error::ReadError;
pub use news::News;
use pool::Pool;
use read::Left;
use session::Session;
pub(crate) use survey::survey;

/// What is waited for, as health tells it.
const WAIT: &str = "postgres backfill";
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that nobody has used for so long is closed.
const UNUSED_MAX: Duration = Duration::from_secs(30);

/// What came of an [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// To [`Ask::Barrier`].
    Barrier(u64),
    /// To [`Ask::Idle`].
    Idle(Vec<u64>),
    /// To [`Ask::Survey`].
    Surveyed {
        /// The reload's id.
        reload: String,
        /// Its ranges.
        surveyed: Surveyed,
    },
    /// To [`Ask::Describe`].
    Described {
        /// Schema and table.
        table: (String, String),
        /// What it is like.
        described: Result<Description, Undescribed>,
    },
    /// To [`Ask::Read`]: its high mark is written behind this.
    Chunk(Chunk),
    /// To [`Ask::Read`].
    ChunkFailed {
        /// The request's.
        number: u64,
        /// For people; no value of a row.
        why: String,
    },
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Backfiller {
    tasks: JoinSet<()>,
    answers: UnboundedReceiver<Answer>,
    common: Arc<Common>,
}

/// What the tasks share.
#[derive(Debug)]
struct Common {
    config: Config,
    options: ConnectOptions,
    health: Health,
    answers: UnboundedSender<Answer>,
    readers: Semaphore,
    sessions: Pool<Session>,
    catalogs: Pool<Catalog>,
}

impl Backfiller {
    /// Connects when there is something to do.
    pub fn new(config: &Config, health: &Health) -> Self {
        let (sender, answers) = unbounded_channel();
        let common = Common {
            config: config.clone(),
            options: config.source.server.connect_options("penstock backfill"),
            health: health.clone(),
            answers: sender,
            readers: Semaphore::new(config.backfill.workers),
            sessions: Pool::new(),
            catalogs: Pool::new(),
        };
        Self { tasks: JoinSet::new(), answers, common: Arc::new(common) }
    }

    /// Begins to do it.
    pub fn ask(&mut self, ask: Ask) {
        let common = Arc::clone(&self.common);
        self.tasks.spawn(async move {
            if let Some(answer) = common.answer(ask).await {
                common.tell(answer);
            }
        });
    }

    /// The next answer. Dropped, it loses none.
    ///
    /// # Panics
    /// If a task has.
    pub async fn next(&mut self) -> Answer {
        loop {
            tokio::select! {
                biased;
                Some(answer) = self.answers.recv() => return answer,
                Some(ended) = self.tasks.join_next() => go_on(ended),
            }
        }
    }

    /// An answer that is there already.
    pub fn try_next(&mut self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    /// Closes connections that nobody has needed for a while.
    pub fn close_unused(&self) {
        self.common.sessions.close_unused(UNUSED_MAX);
        self.common.catalogs.close_unused(UNUSED_MAX);
    }
}

fn go_on(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

fn failed(request: &ChunkRequest, error: &ReadError) -> Answer {
    Answer::ChunkFailed { number: request.number, why: error.why() }
}

impl Common {
    fn tell(&self, answer: Answer) {
        // Without a receiver nobody asks any more.
        let _ = self.answers.send(answer);
    }

    async fn answer(&self, ask: Ask) -> Option<Answer> {
        match ask {
            Ask::Barrier => Some(Answer::Barrier(self.until_done(|| self.try_barrier()).await)),
            Ask::Idle(ids) => {
                let idle = self.until_settled(|| self.try_idle(&ids)).await;
                Some(Answer::Idle(idle.unwrap_or_else(|error| {
                    tracing::warn!(error = describe(&error), "which sessions are idle cannot be found out");
                    Vec::new()
                })))
            }
            Ask::Survey { reload, scope } => {
                let surveyed = self.until_settled(|| self.try_survey(&scope)).await;
                let surveyed = surveyed.unwrap_or_else(|error| Err(Unsurveyed::Refused(survey::refused(&error))));
                Some(Answer::Surveyed { reload, surveyed })
            }
            Ask::Describe { table } => {
                let described = self.describe(&TableName::new(&table.0, &table.1)).await;
                Some(Answer::Described { table, described })
            }
            Ask::Mark(mark) => {
                self.until_done(|| self.try_mark(&mark)).await;
                None
            }
            Ask::Read(request) => self.read(request).await,
        }
    }

    /// As the stream would describe it.
    async fn describe(&self, table: &TableName) -> Result<Description, Undescribed> {
        match self.until_settled(|| self.try_describe(table)).await {
            Ok(described) => described.ok_or(Undescribed::Gone),
            Err(error) => Err(Undescribed::Refused(survey::refused(&error))),
        }
    }

    async fn read(&self, request: ChunkRequest) -> Option<Answer> {
        let _permit = self.readers.acquire().await.expect("the semaphore is never closed");
        let session = match self.session().await {
            Ok(session) => session,
            Err(error) => return Some(failed(&request, &error.into())),
        };
        let hand_in = |chunk| self.tell(Answer::Chunk(chunk));
        match read::read(&session, &request, hand_in, self.try_mark(&request.high)).await {
            Ok(Left::Clean) => self.sessions.put(session),
            Ok(Left::Copying) => {}
            Err(error) => {
                let table = TableName::new(&request.table.0, &request.table.1);
                // Where the table is gone nothing is left to read; a failure would be tried again for ever.
                if error.is_gone() && self.describe(&table).await.is_err_and(|why| why == Undescribed::Gone) {
                    let table = request.table.clone();
                    self.tell(Answer::Described { table, described: Err(Undescribed::Gone) });
                }
                // Told before the session, and the lock with it, is dropped.
                self.tell(failed(&request, &error));
            }
        }
        None
    }

    async fn try_barrier(&self) -> Result<u64, CatalogError> {
        let session = self.session().await?;
        let id = session.transaction_id().await?;
        self.sessions.put(session);
        Ok(id)
    }

    async fn try_mark(&self, mark: &Mark) -> Result<(), CatalogError> {
        let session = self.session().await?;
        session.write(mark).await?;
        self.sessions.put(session);
        Ok(())
    }

    async fn try_idle(&self, ids: &[u64]) -> Result<Vec<u64>, CatalogError> {
        let mut catalog = self.catalog();
        let idle = catalog.idle_transactions(ids).await;
        self.catalogs.put(catalog);
        idle
    }

    async fn try_survey(&self, scope: &Scope) -> Result<Surveyed, CatalogError> {
        let mut catalog = self.catalog();
        let surveyed = survey::survey(&mut catalog, &self.config, scope).await;
        self.catalogs.put(catalog);
        surveyed
    }

    async fn try_describe(&self, table: &TableName) -> Result<Option<Description>, CatalogError> {
        let mut catalog = self.catalog();
        let described = catalog.describe(table).await;
        self.catalogs.put(catalog);
        Ok(described?.map(|(relation, facts)| Description { relation, facts }))
    }

    async fn session(&self) -> Result<Session, CatalogError> {
        match self.sessions.take().filter(|session| !session.is_closed()) {
            Some(session) => Ok(session),
            None => Session::open(&self.options).await,
        }
    }

    /// Connects anew by itself where its connection broke.
    fn catalog(&self) -> Catalog {
        self.catalogs.take().unwrap_or_else(|| Catalog::new(self.options.clone()))
    }

    /// Until it has succeeded.
    async fn until_done<T, F>(&self, question: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, CatalogError>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            match question().await {
                Ok(answer) => {
                    self.health.no_longer_waits(WAIT);
                    return answer;
                }
                Err(error) => self.wait(&error, &mut pause).await,
            }
        }
    }

    /// Until it has succeeded, or failed in a way that waiting does not mend.
    async fn until_settled<T, F>(&self, question: impl Fn() -> F) -> Result<T, CatalogError>
    where
        F: Future<Output = Result<T, CatalogError>>,
    {
        let settled = async || match question().await {
            Err(error) if error.class() == Class::Retry => Err(error),
            settled => Ok(settled),
        };
        self.until_done(settled).await
    }

    async fn wait(&self, error: &CatalogError, pause: &mut Duration) {
        self.health.waits_beside(WAIT, describe(error));
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
    }
}
