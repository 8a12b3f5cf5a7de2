//! A connection while it streams: START_REPLICATION, frames in, status updates out, and the orderly end.
//!
//! Invariant: nothing is acknowledged that the caller has not put into a [`StatusUpdate`].

use std::time::Duration;

use penstock_wire::lsn::Lsn;
use tokio::time::timeout;

use super::connection::{Connection, Phase, session_error};
use super::error::ServerError;
use super::frame::{Frame, StatusUpdate};
use super::limits::ANSWER_BYTES_MAX;
use super::SourceError;

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
                    return Err(SourceError::Unexpected {
                        tag,
                        during: "in answer to START_REPLICATION",
                    });
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

    /// TEMP
    pub async fn fill_gathered(&mut self, frame_bytes_max: usize) -> Result<usize, SourceError> {
        self.fill(frame_bytes_max).await
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
            tag => Err(SourceError::Unexpected {
                tag,
                during: "while streaming",
            }),
        }
    }

    /// Bytes received and not yet taken as frames.
    pub fn buffered_bytes(&self) -> usize {
        self.link.buffered_bytes()
    }

    /// Sends a status update. `now_us` is our clock in microseconds since 1970; the server only shows it. Waits for the
    /// server to take it, but not for ever.
    pub async fn send_status(
        &mut self,
        status: StatusUpdate,
        now_us: i64,
    ) -> Result<(), SourceError> {
        self.streaming()?;
        self.link
            .queue(Some(b'd'), |body| status.encode(now_us, body))?;
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

    async fn finish_copy(
        &mut self,
        final_status: StatusUpdate,
        now_us: i64,
    ) -> Result<(), SourceError> {
        self.link
            .queue(Some(b'd'), |body| final_status.encode(now_us, body))?;
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
                    return Err(SourceError::Unexpected {
                        tag,
                        during: "at the end of the copy",
                    });
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
    let options: Vec<String> = options
        .iter()
        .map(|(name, value)| format!("{} {}", quote_identifier(name), quote_literal(value)))
        .collect();
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
    use super::*;

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
