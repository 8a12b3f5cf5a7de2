//! The messages inside CopyData while streaming: WAL data and keepalives in, status updates out.
//!
//! Times are microseconds since 1970 on our side of this file, since 2000 on the wire.
//! What stands in the payload of `XLogData` (pgoutput) is not looked at here.
//! Formats: <https://www.postgresql.org/docs/current/protocol-replication.html>.

use penstock_wire::lsn::{EndLsn, Lsn};

use super::SourceError;
use super::fields::Fields;

/// Microseconds from 1970-01-01 to 2000-01-01, where Postgres' clock begins.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// One message of the replication stream; borrows from the read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A message of the output plugin.
    XLogData {
        /// The LSN the server reports for the message; 0/0 for some. Neither unique nor monotonic across transactions.
        start: Lsn,
        /// For logical slots the same as `start`.
        end: Lsn,
        /// The server's clock when it sent this, in microseconds since 1970.
        sent_at_us: i64,
        /// The plugin's bytes.
        payload: &'a [u8],
    },
    /// Sent when there is nothing else to send.
    Keepalive {
        /// Everything that commits below this has been sent. Exact: one byte more loses a commit that starts here.
        wal_end: EndLsn,
        /// The server's clock when it sent this, in microseconds since 1970.
        sent_at_us: i64,
        /// The server wants a status update at once, or it will drop the connection in half of `wal_sender_timeout`.
        reply_requested: bool,
    },
}

/// What we tell the server we have. `flushed` is the acknowledgement: the slot's confirmed LSN moves to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Received. The server only shows it.
    pub written: EndLsn,
    /// Durable: the server may forget everything below and will never send it again.
    pub flushed: EndLsn,
    /// Applied. The server shows it, and waits for it under `synchronous_commit = remote_apply`.
    pub applied: EndLsn,
    /// Ask the server to answer with a keepalive at once.
    pub reply_requested: bool,
}

impl StatusUpdate {
    /// Everything below `end` is durable; nothing else is claimed.
    pub fn durable(end: EndLsn) -> Self {
        Self { written: end, flushed: end, applied: end, reply_requested: false }
    }

    /// Appends the body of the CopyData message that says so.
    pub(super) fn encode(&self, now_us: i64, body: &mut Vec<u8>) {
        body.push(b'r');
        for lsn in [self.written, self.flushed, self.applied] {
            body.extend(lsn.raw().to_be_bytes());
        }
        body.extend(now_us.saturating_sub(POSTGRES_EPOCH_US).to_be_bytes());
        body.push(u8::from(self.reply_requested));
    }
}

impl<'a> Frame<'a> {
    /// Reads the body of one CopyData message.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, SourceError> {
        let mut fields = Fields::new("a replication message", body);
        match fields.byte()? {
            b'w' => Ok(Self::XLogData {
                start: Lsn(fields.u64()?),
                end: Lsn(fields.u64()?),
                sent_at_us: unix_us(fields.i64()?),
                payload: fields.remainder(),
            }),
            b'k' => {
                let frame = Self::Keepalive {
                    wal_end: EndLsn::new(fields.u64()?),
                    sent_at_us: unix_us(fields.i64()?),
                    reply_requested: fields.byte()? != 0,
                };
                fields.end()?;
                Ok(frame)
            }
            _ => Err(SourceError::Malformed {
                message: "a replication message",
                why: "it is neither WAL data nor a keepalive",
            }),
        }
    }
}

fn unix_us(postgres_us: i64) -> i64 {
    postgres_us.saturating_add(POSTGRES_EPOCH_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xlog_data(payload: &[u8]) -> Vec<u8> {
        let mut body = vec![b'w'];
        body.extend(0x10_u64.to_be_bytes());
        body.extend(0x20_u64.to_be_bytes());
        body.extend(5_i64.to_be_bytes());
        body.extend(payload);
        body
    }

    #[test]
    fn wal_data_is_read_with_unix_time_and_borrowed_payload() {
        let body = xlog_data(b"Bxyz");
        let frame = Frame::parse(&body).unwrap();
        let expected =
            Frame::XLogData { start: Lsn(0x10), end: Lsn(0x20), sent_at_us: POSTGRES_EPOCH_US + 5, payload: b"Bxyz" };
        assert_eq!(frame, expected);
        let Frame::XLogData { payload, .. } = frame else { unreachable!() };
        assert!(body.as_ptr_range().contains(&payload.as_ptr()));
    }

    #[test]
    fn keepalives_are_read() {
        for (flag, reply_requested) in [(0, false), (1, true)] {
            let mut body = vec![b'k'];
            body.extend(0x1_0000_0020_u64.to_be_bytes());
            body.extend((-POSTGRES_EPOCH_US).to_be_bytes());
            body.push(flag);
            let expected = Frame::Keepalive { wal_end: EndLsn::new(0x1_0000_0020), sent_at_us: 0, reply_requested };
            assert_eq!(Frame::parse(&body).unwrap(), expected);
        }
    }

    #[test]
    fn anything_cut_short_or_unknown_is_malformed() {
        let data = xlog_data(b"");
        for cut in 0..data.len() {
            assert!(Frame::parse(&data[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Frame::parse(&data).is_ok());
        let keepalive = [&[b'k'][..], &[0; 17]].concat();
        for cut in 0..keepalive.len() {
            assert!(Frame::parse(&keepalive[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Frame::parse(&[&keepalive[..], &[0]].concat()).is_err());
        for tag in (0..=u8::MAX).filter(|tag| !b"wk".contains(tag)) {
            assert!(Frame::parse(&[&[tag][..], &[0; 40]].concat()).is_err(), "{tag}");
        }
    }

    #[test]
    fn extreme_clocks_do_not_overflow() {
        let mut body = vec![b'k'];
        body.extend(0_u64.to_be_bytes());
        body.extend(i64::MAX.to_be_bytes());
        body.push(0);
        assert!(matches!(Frame::parse(&body).unwrap(), Frame::Keepalive { sent_at_us: i64::MAX, .. }));
        StatusUpdate::default().encode(i64::MIN, &mut Vec::new());
    }

    #[test]
    fn a_status_update_is_34_bytes_in_the_order_the_server_reads() {
        let status = StatusUpdate {
            written: EndLsn::new(3),
            flushed: EndLsn::new(2),
            applied: EndLsn::new(1),
            reply_requested: true,
        };
        let mut body = Vec::new();
        status.encode(POSTGRES_EPOCH_US + 7, &mut body);
        let expected = b"r\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x07\x01";
        assert_eq!(body, expected);
    }
}
