//! A session with the server: opened, asked, closed. What happens while it streams stands in `stream`.

use std::fmt;

use tokio::time::{Instant, timeout_at};

use super::SourceError;
use super::answer::{Row, SystemIdentity, TimelineSwitch, parse_row};
use super::error::ServerError;
use super::gather::Gather;
use super::limits::ANSWER_BYTES_MAX;
use super::link::Link;
use super::options::ConnectOptions;
use super::startup;
use super::transport::Transport;
use crate::tls;

/// A connection to a walsender. See the module for what may be done when.
pub struct Connection {
    pub(super) link: Link,
    pub(super) phase: Phase,
    pub(super) gather: Gather,
    process_id: i32,
}

/// What the server expects of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A command.
    Ready,
    /// A command, but no second stream: see [`Connection::end_copy`].
    Ended,
    /// It is answering; or it was, and we stopped listening.
    Busy,
    /// Status updates, or the end of the copy.
    Streaming,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("process_id", &self.process_id)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Opens a session in replication mode, within the options' `connect_timeout`.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, SourceError> {
        let deadline = Instant::now() + options.connect_timeout;
        match timeout_at(deadline, Self::open(options, deadline)).await {
            Ok(opened) => opened,
            Err(_) => {
                Err(SourceError::ConnectTimeout { host: options.host.to_string(), timeout: options.connect_timeout })
            }
        }
    }

    async fn open(options: &ConnectOptions, deadline: Instant) -> Result<Self, SourceError> {
        let transport = Transport::connect(options, deadline).await?;
        let mut link = Link::new(transport);
        let process_id = startup::start(&mut link, options).await.map_err(refused_by_alert)?;
        Ok(Self { link, phase: Phase::Ready, gather: Gather::default(), process_id })
    }

    /// A parameter as the server has last reported it, for instance `server_encoding`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.link.parameter(name)
    }

    /// As the server prints it: `15.13 (Debian 15.13-0+deb12u1)`.
    pub fn server_version(&self) -> &str {
        self.parameter("server_version").unwrap_or_default()
    }

    /// The walsender's process id, as in `pg_stat_replication`.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// Whether the session is protected by TLS.
    pub fn is_encrypted(&self) -> bool {
        self.link.transport().is_encrypted()
    }

    /// Whether a query may be sent: not while streaming, and not after an exchange that was given up.
    pub fn is_ready(&self) -> bool {
        match self.phase {
            Phase::Ready | Phase::Ended => true,
            Phase::Busy | Phase::Streaming => false,
        }
    }

    /// Who the server is (IDENTIFY_SYSTEM).
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, SourceError> {
        SystemIdentity::parse(&self.query("IDENTIFY_SYSTEM").await?)
    }

    /// Where the timelines before `timeline` ended, oldest first (TIMELINE_HISTORY). The first has no history.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<Vec<TimelineSwitch>, SourceError> {
        if timeline <= 1 {
            return Ok(Vec::new());
        }
        let command = format!("TIMELINE_HISTORY {timeline}");
        TimelineSwitch::parse(&self.query(&command).await?)
    }

    /// Runs SQL, or a replication command, by the simple protocol; returns the rows of all its statements. For small
    /// answers: all of it is held in memory, within a bound.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Row>, SourceError> {
        let ready = self.send_command(sql).await?;
        let mut rows = Vec::new();
        let mut bytes = 0_usize;
        let mut failure = None;
        loop {
            let message = self.link.receive(ANSWER_BYTES_MAX).await?;
            match message.tag {
                b'D' => {
                    bytes = bytes.saturating_add(message.body.len());
                    if bytes > ANSWER_BYTES_MAX {
                        return Err(SourceError::AnswerTooLarge { bytes_max: ANSWER_BYTES_MAX });
                    }
                    rows.push(parse_row(message.body)?);
                }
                // Row description, completion, empty query: nothing that is asked for here.
                b'T' | b'C' | b'I' => {}
                b'E' => failure = Some(session_error(message.body)?),
                b'Z' => break,
                tag => {
                    return Err(SourceError::Unexpected { tag, during: "in answer to a query" });
                }
            }
        }
        self.phase = ready;
        failure.map_or(Ok(rows), |error| Err(error.into()))
    }

    /// Says goodbye and closes the socket. While streaming, `end_copy` comes first: without it the server notices at its
    /// next message only.
    pub async fn close(mut self) -> Result<(), SourceError> {
        self.link.queue(Some(b'X'), |_| ())?;
        self.link.flush().await?;
        self.link.shutdown().await
    }

    /// A connection in the middle of a stream, to a server that a test plays itself.
    #[cfg(test)]
    pub(super) fn streaming_over(transport: Transport) -> Self {
        Self { link: Link::new(transport), phase: Phase::Streaming, gather: Gather::default(), process_id: 0 }
    }

    /// Sends a command. From here to its ReadyForQuery the session is busy; after that it is what this returns.
    pub(super) async fn send_command(&mut self, command: &str) -> Result<Phase, SourceError> {
        if !self.is_ready() {
            return Err(SourceError::Interrupted);
        }
        if command.contains('\0') {
            return Err(SourceError::ZeroByte { in_what: "command" });
        }
        let ready = std::mem::replace(&mut self.phase, Phase::Busy);
        self.link.queue(Some(b'Q'), |body| startup::put_text(body, command))?;
        self.link.flush().await?;
        Ok(ready)
    }
}

/// A server that does not accept our certificate says so only when we read its first answer: no broken line, to be
/// tried again, but a refusal.
fn refused_by_alert(error: SourceError) -> SourceError {
    match error {
        SourceError::Lost(lost) => tls::refusal(&lost).map_or(SourceError::Lost(lost), SourceError::Tls),
        other => other,
    }
}

/// An error after which the server still says that it is ready; one that ends the session is returned at once.
pub(super) fn session_error(body: &[u8]) -> Result<Box<ServerError>, SourceError> {
    let error = Box::new(ServerError::parse(body)?);
    if error.ends_session() {
        return Err(error.into());
    }
    Ok(error)
}
