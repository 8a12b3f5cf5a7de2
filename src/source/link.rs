//! Messages over a transport: what is queued goes out, what comes in is cut into messages.
//!
//! Invariants: cancel-safe in both directions (a half-sent message is continued by the next flush, never repeated);
//! no write waits longer than `WRITE_TIMEOUT`; messages that the server may send at any time (notices, changed
//! parameters, notifications) are dealt with here and never seen by the callers.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;

use super::SourceError;
use super::buffer::{Message, ReadBuffer};
use super::error::ServerError;
use super::fields::Fields;
use super::limits::{PARAMETERS_MAX, WRITE_TIMEOUT};
use super::transport::Transport;

/// A connection that speaks in messages.
#[derive(Debug)]
pub(super) struct Link {
    transport: Transport,
    incoming: ReadBuffer,
    outgoing: Vec<u8>,
    /// How much of `outgoing` the transport has taken.
    sent: usize,
    /// What the server has reported about itself and the session.
    parameters: BTreeMap<String, String>,
    write_timeout: Duration,
}

impl Link {
    pub(super) fn new(transport: Transport) -> Self {
        Self {
            transport,
            incoming: ReadBuffer::new(),
            outgoing: Vec::new(),
            sent: 0,
            parameters: BTreeMap::new(),
            write_timeout: WRITE_TIMEOUT,
        }
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Bytes received and not yet taken.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.incoming.len()
    }

    /// Queues a message; `tag` is `None` for those before the session, which have none.
    pub(super) fn queue(&mut self, tag: Option<u8>, write_body: impl FnOnce(&mut Vec<u8>)) -> Result<(), SourceError> {
        let mut body = Vec::new();
        write_body(&mut body);
        let too_long = SourceError::MessageTooLong { bytes: body.len() };
        let length = i32::try_from(body.len().saturating_add(4)).map_err(|_| too_long)?;
        self.outgoing.extend(tag);
        self.outgoing.extend(length.to_be_bytes());
        self.outgoing.extend(body);
        Ok(())
    }

    /// Sends everything queued.
    pub(super) async fn flush(&mut self) -> Result<(), SourceError> {
        let write_timeout = self.write_timeout;
        match timeout(write_timeout, self.flush_untimed()).await {
            Ok(done) => done,
            Err(_) => Err(SourceError::WriteTimeout { timeout: write_timeout }),
        }
    }

    async fn flush_untimed(&mut self) -> Result<(), SourceError> {
        while let Some(rest @ [_, ..]) = self.outgoing.get(self.sent..) {
            let taken = self.transport.write(rest).await.map_err(SourceError::Lost)?;
            if taken == 0 {
                return Err(SourceError::Closed);
            }
            self.sent += taken;
        }
        self.outgoing.clear();
        self.sent = 0;
        self.transport.flush().await.map_err(SourceError::Lost)
    }

    /// Says that no more will be sent.
    pub(super) async fn shutdown(&mut self) -> Result<(), SourceError> {
        match timeout(self.write_timeout, self.transport.shutdown()).await {
            Ok(done) => done.map_err(SourceError::Lost),
            Err(_) => Err(SourceError::WriteTimeout { timeout: self.write_timeout }),
        }
    }

    /// Waits for bytes. 0: the buffer is full of messages that must be taken first.
    pub(super) async fn fill(&mut self, frame_bytes_max: usize) -> Result<usize, SourceError> {
        let Some(room) = self.incoming.room(frame_bytes_max)? else {
            return Ok(0);
        };
        let received = self.transport.read(room).await.map_err(SourceError::Lost)?;
        if received == 0 {
            return Err(SourceError::Closed);
        }
        self.incoming.appended();
        Ok(received)
    }

    /// The next message, if it is here.
    pub(super) fn next(&mut self) -> Result<Option<Message<'_>>, SourceError> {
        self.absorb_asides()?;
        self.incoming.take()
    }

    /// Waits for the next message.
    pub(super) async fn receive(&mut self, bytes_max: usize) -> Result<Message<'_>, SourceError> {
        loop {
            self.absorb_asides()?;
            if self.incoming.complete_tag()?.is_some() {
                break;
            }
            self.fill(bytes_max).await?;
        }
        self.incoming.take()?.ok_or(SourceError::Interrupted)
    }

    /// Waits for the next message that is no CopyData, and drops what is; no such message is held whole.
    pub(super) async fn receive_past_copy_data(&mut self, bytes_max: usize) -> Result<Message<'_>, SourceError> {
        loop {
            self.absorb_asides()?;
            match self.incoming.front_tag()? {
                Some(b'd') => drop(self.incoming.discard()?),
                Some(_) if self.incoming.complete_tag()?.is_some() => break,
                Some(_) | None => drop(self.fill(bytes_max).await?),
            }
        }
        self.incoming.take()?.ok_or(SourceError::Interrupted)
    }

    /// Takes the messages at the front that belong to no exchange.
    fn absorb_asides(&mut self) -> Result<(), SourceError> {
        while let Some(b'N' | b'S' | b'A') = self.incoming.complete_tag()? {
            let Some(message) = self.incoming.take()? else {
                return Ok(());
            };
            match message.tag {
                b'N' => log_notice(&ServerError::parse(message.body)?),
                b'S' => remember(&mut self.parameters, message.body)?,
                // A notification: nobody here listens to any.
                _ => {}
            }
        }
        Ok(())
    }
}

fn log_notice(notice: &ServerError) {
    tracing::info!(
        severity = notice.severity,
        sqlstate = notice.sqlstate,
        message = notice.message,
        "notice from Postgres"
    );
}

fn remember(parameters: &mut BTreeMap<String, String>, body: &[u8]) -> Result<(), SourceError> {
    let mut fields = Fields::new("a parameter status", body);
    let (name, value) = (fields.text()?, fields.text()?);
    fields.end()?;
    if parameters.len() < PARAMETERS_MAX || parameters.contains_key(&name) {
        parameters.insert(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    fn linked() -> (Link, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Link::new(Transport::Unix(ours)), theirs)
    }

    #[tokio::test]
    async fn a_flush_that_was_given_up_is_continued_and_nothing_is_sent_twice() {
        let (mut link, peer) = linked();
        let body: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_be_bytes).collect();
        link.queue(Some(b'd'), |bytes| bytes.extend(&body)).unwrap();
        let expected = link.outgoing.clone();
        let mut received: Vec<u8> = Vec::new();
        let mut given_up = 0;
        while received.len() < expected.len() {
            tokio::select! {
                biased;
                flushed = link.flush() => flushed.unwrap(),
                () = std::future::ready(()) => given_up += 1,
            }
            let mut piece = vec![0; 100_000];
            if let Ok(length) = peer.try_read(&mut piece) {
                received.extend(&piece[..length]);
            }
            tokio::task::yield_now().await;
        }
        assert!(given_up > 0);
        assert!(received == expected);
        assert!(link.outgoing.is_empty());
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (mut link, _peer) = linked();
        link.write_timeout = Duration::from_millis(30);
        link.queue(Some(b'd'), |bytes| bytes.resize(4_000_000, 0)).unwrap();
        let error = link.flush().await.unwrap_err();
        assert!(matches!(error, SourceError::WriteTimeout { .. }), "{error}");
    }

    #[tokio::test]
    async fn messages_that_belong_to_no_exchange_are_never_seen() {
        let (mut link, mut peer) = linked();
        let stream = b"S\0\0\0\x08a\0b\0N\0\0\0\x09Mhi\0\0Z\0\0\0\x05IS\0\0\0\x08a\0c\0A\0\0\0\x06xxZ\0\0\0\x05T";
        peer.write_all(stream).await.unwrap();
        let message = link.receive(100).await.unwrap();
        assert_eq!((message.tag, message.body), (b'Z', &b"I"[..]));
        assert_eq!(link.parameter("a"), Some("b"));
        let message = link.receive(100).await.unwrap();
        assert_eq!((message.tag, message.body), (b'Z', &b"T"[..]));
        assert_eq!(link.parameter("a"), Some("c"));
    }

    #[tokio::test]
    async fn parameters_are_bounded_in_number() {
        let (mut link, mut peer) = linked();
        for number in 0..PARAMETERS_MAX + 10 {
            let body = format!("p{number:06}\0v\0");
            peer.write_all(&[b'S', 0, 0, 0, 14]).await.unwrap();
            peer.write_all(body.as_bytes()).await.unwrap();
        }
        peer.write_all(b"Z\0\0\0\x05I").await.unwrap();
        link.receive(100).await.unwrap();
        assert_eq!(link.parameters.len(), PARAMETERS_MAX);
    }

    #[tokio::test]
    async fn a_closed_connection_is_said_so() {
        let (mut link, peer) = linked();
        drop(peer);
        assert!(matches!(link.receive(100).await, Err(SourceError::Closed)));
    }
}
