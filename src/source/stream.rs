//! A connection while it streams: START_REPLICATION, frames in, status updates out, and the orderly end.
//!
//! Invariant: nothing is acknowledged that the caller has not put into a [`StatusUpdate`].

use std::time::Duration;

use penstock_wire::lsn::Lsn;
use tokio::time::timeout;

use super::SourceError;
use super::connection::{Connection, Phase, session_error};
use super::error::ServerError;
use super::frame::{Frame, StatusUpdate};
use super::limits::ANSWER_BYTES_MAX;

impl Connection {
    /// Takes the slot and starts to stream. With `at` = 0/0 the server begins at what the slot has confirmed, and that
    /// is the only honest value: a higher one confirms everything below it. `options` go to the output plugin.
    ///
    /// SQLSTATE 55006 says that another process holds the slot; the connection stays ready, so that a standby can ask
    /// again. The walsender needs the slot to itself until [`Connection::end_copy`].
    pub async fn start_replication(
        &mut self,
        slot: &str,
        at: Lsn,
        options: &[(&str, &str)],
    ) -> Result<(), SourceError> {
        if self.phase == Phase::Ended {
            return Err(SourceError::StreamedBefore);
        }
        self.send_command(&start_command(slot, at, options)).await?;
        let mut failure = None;
        loop {
            let message = self.link.receive(ANSWER_BYTES_MAX).await?;
            match (message.tag, failure.take()) {
                (b'W', None) => {
                    self.phase = Phase::Streaming;
                    return Ok(());
                }
                (b'E', _) => failure = Some(session_error(message.body)?),
                (b'Z', Some(error)) => {
                    self.phase = Phase::Ready;
                    return Err(SourceError::Server(error));
                }
                (tag, _) => {
                    return Err(SourceError::Unexpected { tag, during: "in answer to START_REPLICATION" });
                }
            }
        }
    }

    /// Waits for bytes and says how many came. 0: the buffer is full of frames that must be taken first. A frame above
    /// `frame_bytes_max` (its 5 bytes of framing included) is refused before memory is spent on it.
    pub async fn fill(&mut self, frame_bytes_max: usize) -> Result<usize, SourceError> {
        self.streaming()?;
        self.link.fill(frame_bytes_max).await
    }

    /// `fill` for a stream under load: where small reads follow each other closely, it first blocks the thread for 200 µs
    /// to let more gather, which halves the CPU time of draining a backlog, or better. A read after silence is not
    /// delayed. For a thread, or a runtime, that can be held up so long; tokio's timer would be no substitute: it waits
    /// ten times longer, and the socket wakes the thread for every message meanwhile.
    pub async fn fill_gathered(&mut self, frame_bytes_max: usize) -> Result<usize, SourceError> {
        if let Some(pause) = self.gather.take_pause() {
            std::thread::sleep(pause);
        }
        let received = self.fill(frame_bytes_max).await?;
        self.gather.read(received, std::time::Instant::now());
        Ok(received)
    }

    /// Cuts the next frame out of the bytes received; `None`: none is complete, `fill` again.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, SourceError> {
        self.streaming()?;
        let phase = &mut self.phase;
        let Some(message) = self.link.next()? else {
            return Ok(None);
        };
        if message.tag == b'd' {
            return Frame::parse(message.body).map(Some);
        }
        *phase = Phase::Busy;
        match message.tag {
            b'E' => Err(Box::new(ServerError::parse(message.body)?).into()),
            // A walsender that shuts down ends the copy, or only the command.
            b'c' | b'C' => Err(SourceError::StreamEnded),
            tag => Err(SourceError::Unexpected { tag, during: "while streaming" }),
        }
    }

    /// Bytes received and not yet taken as frames.
    pub fn buffered_bytes(&self) -> usize {
        self.link.buffered_bytes()
    }

    /// Sends a status update. `now_us` is our clock in microseconds since 1970; the server only shows it. Waits for the
    /// server to take it, but not for ever.
    pub async fn send_status(&mut self, status: StatusUpdate, now_us: i64) -> Result<(), SourceError> {
        self.streaming()?;
        self.link.queue(Some(b'd'), |body| status.encode(now_us, body))?;
        self.link.flush().await
    }

    /// Ends the stream: sends the final status, which the server takes into the slot before it answers; then CopyDone;
    /// then drops whatever still comes until the server is ready for the next query. By then the slot is free. A server
    /// in the middle of a large transaction sends all of it first: that is what `within` bounds.
    ///
    /// The connection takes queries afterwards, but no second stream: a walsender remembers that its logical copy has
    /// ended and would end the next one at once, after having said that it begins (Postgres bug #18754, all versions
    /// up to 18). Who wants to go on opens another connection, before or after this.
    pub async fn end_copy(
        &mut self,
        final_status: StatusUpdate,
        now_us: i64,
        within: Duration,
    ) -> Result<(), SourceError> {
        self.streaming()?;
        self.phase = Phase::Busy;
        match timeout(within, self.finish_copy(final_status, now_us)).await {
            Ok(done) => done,
            Err(_) => Err(SourceError::EndCopyTimeout { timeout: within }),
        }
    }

    async fn finish_copy(&mut self, final_status: StatusUpdate, now_us: i64) -> Result<(), SourceError> {
        self.link.queue(Some(b'd'), |body| final_status.encode(now_us, body))?;
        self.link.queue(Some(b'c'), |_| ())?;
        self.link.flush().await?;
        let mut failure = None;
        loop {
            let message = self.link.receive_past_copy_data(ANSWER_BYTES_MAX).await?;
            match message.tag {
                b'c' | b'C' => {}
                b'E' => failure = Some(session_error(message.body)?),
                b'Z' => break,
                tag => {
                    return Err(SourceError::Unexpected { tag, during: "at the end of the copy" });
                }
            }
        }
        self.phase = Phase::Ended;
        failure.map_or(Ok(()), |error| Err(SourceError::Server(error)))
    }

    fn streaming(&self) -> Result<(), SourceError> {
        match self.phase {
            Phase::Streaming => Ok(()),
            Phase::Ready | Phase::Ended | Phase::Busy => Err(SourceError::NotStreaming),
        }
    }
}

/// Publications as pgoutput's option `publication_names` wants them: quoted, with commas.
pub fn publication_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(quote_identifier).collect();
    quoted.join(",")
}

fn start_command(slot: &str, at: Lsn, options: &[(&str, &str)]) -> String {
    let slot = quote_identifier(slot);
    let options: Vec<String> =
        options.iter().map(|(name, value)| format!("{} {}", quote_identifier(name), quote_literal(value))).collect();
    format!("START_REPLICATION SLOT {slot} LOGICAL {at} ({})", options.join(", "))
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The replication grammar knows no backslash escapes: a quote is doubled and that is all.
fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::super::Class;
    use super::super::transport::Transport;
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    fn connected() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Connection::streaming_over(Transport::Unix(ours)), theirs)
    }

    const KEEPALIVE: &[u8] = b"d\0\0\0\x16k\0\0\0\0\0\0\0\x2a\0\0\0\0\0\0\0\0\0";

    #[tokio::test]
    async fn a_stream_that_the_server_ends_is_an_error_each_time_it_is_asked() {
        for (ending, class) in [
            (&b"c\0\0\0\x04"[..], Class::Retry),
            (b"C\0\0\0\x0bCOPY 0\0", Class::Retry),
            (b"E\0\0\0\x13SFATAL\0C57P01\0\0", Class::Retry),
            (b"E\0\0\0\x13SERROR\0C42704\0\0", Class::Halt),
            (b"E\0\0\0\x09SERRO", Class::Halt),
            (b"Z\0\0\0\x05I", Class::Halt),
        ] {
            let (mut connection, mut peer) = connected();
            peer.write_all(&[KEEPALIVE, ending].concat()).await.unwrap();
            connection.fill(1000).await.unwrap();
            assert!(connection.next_frame().unwrap().is_some(), "{ending:?}");
            assert_eq!(connection.next_frame().unwrap_err().class(), class, "{ending:?}");
            let again = connection.next_frame().unwrap_err();
            assert!(matches!(again, SourceError::NotStreaming), "{ending:?}");
            assert!(!connection.is_ready());
        }
    }

    #[tokio::test]
    async fn no_damage_to_the_stream_is_a_panic() {
        let stream = [KEEPALIVE, b"N\0\0\0\x09Mhi\0\0S\0\0\0\x08a\0b\0d\0\0\0\x1fw", &[1; 26]].concat();
        for position in 0..stream.len() {
            for value in [0, 1, 4, 0x7f, 0x80, 0xff, b'E', b'w', b'k'] {
                let mut damaged = stream.clone();
                damaged[position] = value;
                let (mut connection, mut peer) = connected();
                peer.write_all(&damaged).await.unwrap();
                drop(peer);
                while connection.fill(1000).await.is_ok() {
                    while let Ok(Some(_)) = connection.next_frame() {}
                }
            }
        }
    }

    #[tokio::test]
    async fn the_copy_ends_after_the_final_status_and_not_before_the_server_is_ready() {
        let (mut connection, mut peer) = connected();
        let (mut from_client, mut to_client) = peer.split();
        let ending = [KEEPALIVE, b"c\0\0\0\x04", KEEPALIVE, b"C\0\0\0\x0bCOPY 0\0Z\0\0\0\x05I"].concat();
        let play = async {
            let mut received = [0; 44];
            from_client.read_exact(&mut received).await.unwrap();
            // Everything sent before the end, a half frame too, and what comes after it is dropped.
            to_client.write_all(&ending).await.unwrap();
            received
        };
        let status = StatusUpdate::durable(penstock_wire::lsn::EndLsn::new(7));
        let both = async { tokio::join!(play, connection.end_copy(status, 0, Duration::from_secs(9))) };
        let (received, ended) = timeout(Duration::from_secs(5), both).await.expect("both sides come to their end");
        ended.unwrap();
        let mut expected = b"d\0\0\0\x26".to_vec();
        status.encode(0, &mut expected);
        expected.extend(b"c\0\0\0\x04");
        assert_eq!(received[..], expected[..]);
        assert!(connection.is_ready());
    }

    #[tokio::test]
    async fn a_server_that_does_not_end_the_copy_is_left() {
        let (mut connection, _peer) = connected();
        let status = StatusUpdate::default();
        let error = connection.end_copy(status, 0, Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(error, SourceError::EndCopyTimeout { .. }), "{error}");
        assert!(!connection.is_ready());
    }

    #[tokio::test]
    async fn gathered_fills_bring_the_same_frames() {
        let (mut connection, mut peer) = connected();
        let feed = async {
            for _ in 0..500 {
                peer.write_all(KEEPALIVE).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let read = async {
            let mut frames = 0;
            while frames < 500 {
                connection.fill_gathered(1000).await.unwrap();
                while connection.next_frame().unwrap().is_some() {
                    frames += 1;
                }
            }
            connection.buffered_bytes()
        };
        assert_eq!(tokio::join!(feed, read).1, 0);
    }

    #[test]
    fn names_and_values_cannot_leave_their_quotes() {
        let publications = publication_names(["changes", "odd\"name,x"]);
        assert_eq!(publications, "\"changes\",\"odd\"\"name,x\"");
        let options = [("proto_version", "1"), ("publication_names", publications.as_str()), ("x", "it's")];
        assert_eq!(
            start_command("slot\"1", Lsn(0), &options),
            "START_REPLICATION SLOT \"slot\"\"1\" LOGICAL 0/0 (\"proto_version\" '1', \
             \"publication_names\" '\"changes\",\"odd\"\"name,x\"', \"x\" 'it''s')"
        );
    }
}
