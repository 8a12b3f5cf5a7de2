//! The bridge's life: connect, open, stream, and start over when something fails.
//!
//! One recovery path. Whatever goes wrong with Kafka ends the session: the producer is destroyed, all records are
//! dropped, the copy is ended, and the next session takes the only correct order again (see [`opening`]). A connection
//! that has streamed cannot stream again, so the next session has a new one. After a crash, a deploy, a broker loss: the
//! same.

use std::time::{Duration, Instant};

use penstock_core::bridge::ClockSample;
use penstock_core::fault::Fault;
use penstock_core::oversize::{Attempt, Oversize};
use penstock_core::resume::Refusal;
use penstock_wire::lsn::CommitLsn;
use tokio::sync::watch;

use crate::kafka::sink::SinkError;
use crate::source::{Class, Connection, SourceError, StatusUpdate};

mod catalog_watch;
mod clock;
mod fencing;
mod first;
mod opening;
mod settling;
mod shell;
mod stream;
mod topic_watch;

pub use first::rows_text;
pub use opening::{Start, switch_point};
pub use shell::{RunError, Shell, clock_us, nonce, pinned, rules};

/// How long the server may take to end the copy before a new connection is cheaper.
const END_COPY_PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A session that lived this long was a success; the next pause is short again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// How a session ended.
#[derive(Debug)]
pub enum SessionEnd {
    /// As asked; everything read is durable.
    Shutdown,
    /// Asked to stop, but the transaction in flight did not end in time; it comes again at the next start.
    ShutdownTimedOut,
    /// Kafka failed.
    Kafka(SinkError),
    /// The brokers have ended the transaction that was open: by its timeout, or because another bridge has taken over.
    TransactionGone(SinkError, Box<Attempt>),
    /// It must not go on at this transaction, but those before it have to be delivered first, apart from it.
    Apart(CommitLsn),
    /// The producer's thread is gone without a word.
    SinkGone,
    /// The replication connection failed.
    Source(SourceError),
    /// The bridge must not go on.
    Fault(Box<Fault>),
    /// Slot, progress and topic do not agree.
    Refused(Box<Refusal>),
    /// Anything else that waiting does not mend.
    Run(Box<RunError>),
}

impl SessionEnd {
    /// Nothing follows but the end of the process.
    fn is_final(&self) -> bool {
        match self {
            Self::Shutdown | Self::ShutdownTimedOut | Self::Fault(_) | Self::Refused(_) => true,
            Self::Run(error) => error.class() == Class::Halt,
            Self::Source(error) => error.class() == Class::Halt,
            Self::Kafka(_) | Self::TransactionGone(..) | Self::Apart(_) | Self::SinkGone => false,
        }
    }
}

/// Runs until told to stop, or until a human must act.
pub async fn run(shell: &Shell, start: Start, shutdown: watch::Receiver<bool>) -> Result<(), RunError> {
    // Read for the process's life, not for a session's: a slot grows fastest while there is none.
    let (readings, clock) = watch::channel(None);
    let ended = tokio::select! {
        ended = sessions(shell, start, clock, shutdown) => ended,
        () = clock::read(shell, readings) => unreachable!("the clock is read as long as the sessions listen"),
    };
    first::unmake(shell).await;
    ended
}

async fn sessions(
    shell: &Shell,
    start: Start,
    clock: watch::Receiver<Option<ClockSample>>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let mut pause = FIRST_PAUSE;
    let mut fresh = None;
    let mut oversize = shell.oversize();
    while !*shutdown.borrow() {
        let Some(mut connection) = connect(shell, &mut shutdown).await? else { break };
        shell.health.no_longer_waits("postgres");
        loop {
            let began = Instant::now();
            let suspect = oversize.suspect();
            let (end, status) =
                opening::session(&mut connection, shell, start, suspect, &mut fresh, &clock, &mut shutdown).await;
            shell.health.streams(false);
            shell.metrics.session_ended();
            if began.elapsed() > HEALTHY_AFTER {
                pause = FIRST_PAUSE;
            }
            let reusable = settle(shell, &mut connection, &mut oversize, end, status).await?;
            let Some(reusable) = reusable else {
                // Whoever closes first, the server has taken the final status by now.
                let _ = connection.close().await;
                return Ok(());
            };
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            if !reusable || *shutdown.borrow() {
                break;
            }
        }
    }
    Ok(())
}

/// The one `match` from how a session ended to what happens next: `None` is the end, else whether the connection lives.
async fn settle(
    shell: &Shell,
    connection: &mut Connection,
    oversize: &mut Oversize,
    end: SessionEnd,
    status: StatusUpdate,
) -> Result<Option<bool>, RunError> {
    match end {
        SessionEnd::Shutdown => {
            end_copy(connection, status).await;
            tracing::info!(confirmed = %status.flushed, "stopped; everything read is durable");
            Ok(None)
        }
        SessionEnd::ShutdownTimedOut => {
            end_copy(connection, status).await;
            tracing::warn!(confirmed = %status.flushed, "stopped in the middle of a transaction; it comes again at the next start");
            Ok(None)
        }
        SessionEnd::Kafka(error) => {
            shell.metrics.delivery_error(&error.code());
            shell.health.waits_for("kafka", error.to_string());
            Ok(Some(end_copy(connection, status).await))
        }
        SessionEnd::TransactionGone(error, attempt) => {
            shell.metrics.delivery_error(&error.code());
            shell.health.waits_for("kafka", error.to_string());
            let judged = judge(shell, connection, oversize, &attempt).await;
            let reusable = end_copy(connection, status).await;
            judged.map_err(|fault| RunError::Fault(Box::new(fault))).map(|()| Some(reusable))
        }
        SessionEnd::Apart(commit_lsn) => {
            tracing::info!(%commit_lsn, "a transaction cannot be delivered; those before it are, in a new session");
            oversize.keep_apart(commit_lsn);
            Ok(Some(end_copy(connection, status).await))
        }
        SessionEnd::SinkGone => {
            shell.health.waits_for("kafka", "the producer ended".into());
            Ok(Some(end_copy(connection, status).await))
        }
        SessionEnd::Source(error) if error.class() == Class::Retry => {
            shell.health.waits_for("postgres", describe(&error));
            Ok(Some(false))
        }
        SessionEnd::Source(error) => Err(error.into()),
        SessionEnd::Fault(fault) => {
            if matches!(*fault, Fault::Sequence { .. } | Fault::History { .. }) {
                shell.metrics.order_violation();
            }
            end_copy(connection, status).await;
            Err(RunError::Fault(fault))
        }
        SessionEnd::Refused(refusal) => {
            end_copy(connection, status).await;
            Err(RunError::Refused(refusal))
        }
        SessionEnd::Run(error) if error.class() == Class::Retry => {
            shell.health.waits_for("start", describe(&*error));
            Ok(Some(end_copy(connection, status).await))
        }
        SessionEnd::Run(error) => {
            end_copy(connection, status).await;
            Err(*error)
        }
    }
}

/// Whether the transaction that was open is too large, if the brokers ended it by its timeout.
async fn judge(
    shell: &Shell,
    connection: &Connection,
    oversize: &mut Oversize,
    attempt: &Attempt,
) -> Result<(), Fault> {
    if !oversize.is_by_time(attempt) || !shell.holds_slot(connection.process_id()).await {
        return Ok(());
    }
    let Attempt { commit_lsn, xid, age, records, bytes, .. } = *attempt;
    let age_ms = age.as_millis();
    tracing::warn!(%commit_lsn, xid, records, bytes, age_ms, "the brokers aborted a transaction by its timeout");
    oversize.handle_aborted(attempt)
}

/// Ends the copy, if there is one. Whether the connection can be used for another session: not once it has streamed.
async fn end_copy(connection: &mut Connection, status: StatusUpdate) -> bool {
    if connection.is_ready() {
        return true;
    }
    if let Err(error) = connection.end_copy(status, clock_us(), END_COPY_PATIENCE).await {
        tracing::info!(error = describe(&error), "the copy could not be ended in order");
    }
    false
}

async fn connect(shell: &Shell, shutdown: &mut watch::Receiver<bool>) -> Result<Option<Connection>, RunError> {
    let options = shell.connect_options();
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return Ok(None),
            attempt = Connection::connect(&options) => attempt,
        };
        match attempt {
            Ok(connection) => return Ok(Some(connection)),
            Err(error) if error.class() == Class::Retry => shell.health.waits_for("postgres", describe(&error)),
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return Ok(None),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// An error with all of its causes.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
