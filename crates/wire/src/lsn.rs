//! Log sequence numbers: byte positions in Postgres' write-ahead log.
//!
//! `CommitLsn` (where a commit record starts) and `EndLsn` (up to where everything committed is meant) are different
//! types on purpose: confirming a commit's start instead of its end replays it, confirming one byte more loses the next.

use std::fmt;
use std::str::FromStr;

/// A position in the write-ahead log, in bytes. Written as Postgres writes it: `16/B3748`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// Where a commit record starts: what Begin calls `final_lsn`. Unique, and increasing in stream order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitLsn(pub Lsn);

/// An exclusive end: every commit whose `CommitLsn` is below it is meant. A keepalive's `wal_end` is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndLsn(pub Lsn);

/// The text is not `<hex>/<hex>` with at most eight digits on each side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an LSN: {0:?}; expected two hexadecimal numbers as in 16/B3748")]
pub struct LsnParseError(pub String);

impl CommitLsn {
    /// Builds from the raw 64-bit number of the protocol.
    pub const fn new(raw: u64) -> Self {
        Self(Lsn(raw))
    }

    /// The raw 64-bit number.
    pub const fn raw(self) -> u64 {
        self.0.0
    }
}

impl EndLsn {
    /// Builds from the raw 64-bit number of the protocol.
    pub const fn new(raw: u64) -> Self {
        Self(Lsn(raw))
    }

    /// The raw 64-bit number.
    pub const fn raw(self) -> u64 {
        self.0.0
    }

    /// Whether a commit lies before this end, that is, is covered by it.
    pub fn covers(self, commit: CommitLsn) -> bool {
        commit.0 < self.0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl fmt::Display for CommitLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EndLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Lsn {
    type Err = LsnParseError;

    fn from_str(text: &str) -> Result<Self, LsnParseError> {
        let refuse = || LsnParseError(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(refuse)?;
        let half = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if !plain || digits.len() > 8 {
                return Err(refuse());
            }
            u64::from_str_radix(digits, 16).map_err(|_| refuse())
        };
        Ok(Lsn(half(high)? << 32 | half(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_postgres_prints() {
        for (text, raw) in
            [("0/0", 0), ("0/16B3748", 0x016B_3748), ("16/B374D848", 0x16_B374_D848), ("FFFFFFFF/FFFFFFFF", u64::MAX)]
        {
            assert_eq!(text.parse::<Lsn>().unwrap(), Lsn(raw));
            assert_eq!(Lsn(raw).to_string(), text);
        }
    }

    #[test]
    fn odd_text_is_refused() {
        for text in ["", "/", "0", "0/", "/0", "0/123456789", "x/0", "+1/0", "0/0/0"] {
            assert_eq!(text.parse::<Lsn>(), Err(LsnParseError(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn an_end_does_not_cover_a_commit_that_starts_there() {
        let end = EndLsn::new(100);
        assert!(end.covers(CommitLsn::new(99)));
        assert!(!end.covers(CommitLsn::new(100)));
    }
}
