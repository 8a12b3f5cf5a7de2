//! Where in a topic's history: an offset, a commit, an instant, or its end.

use std::fmt;
use std::str::FromStr;

use penstock_wire::lsn::{CommitLsn, Lsn};
use penstock_wire::position::Position;

use crate::rows::Micros;

/// A point of a partition's history. What is meant is the end of the last transaction that lies wholly at or before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The record with this offset in the account's partition, from 0.
    Offset(i64),
    /// An instant, held against commit times, which the topic tells in whole milliseconds.
    ///
    /// Commits can stand in another order than their times: the first that is later than the instant, and all behind it,
    /// lie behind the point.
    Time(Micros),
    /// A commit record's place in the WAL, in one of the bridge's epochs.
    Commit { epoch: u32, lsn: CommitLsn },
    /// All that the topic holds.
    End,
}

/// The text is no point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no point in history: give an offset as offset:123, a time as 2021-01-01T10:00:00Z, epoch and commit LSN as \
     1/0/16B3748, or end"
)]
pub struct PointParseError(pub String);

/// Where and when a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Of its last record.
    pub position: Position,
    /// When Postgres committed it, milliseconds since 1970.
    pub time_ms: i64,
    /// The offset behind its last record.
    pub next_offset: i64,
}

impl Point {
    /// Whether a transaction that ended so lies wholly at or before the point.
    pub fn takes(self, ending: &Ending) -> bool {
        let Ending { position, time_ms, next_offset } = ending;
        match self {
            Self::Offset(offset) => *next_offset <= offset.saturating_add(1),
            Self::Time(time) => *time_ms <= time.0.div_euclid(1000),
            Self::Commit { epoch, lsn } => (position.epoch, position.commit_lsn) <= (epoch, lsn),
            Self::End => true,
        }
    }
}

impl FromStr for Point {
    type Err = PointParseError;

    fn from_str(text: &str) -> Result<Self, PointParseError> {
        let parsed = match text.strip_prefix("offset:") {
            Some(offset) => offset.parse().ok().filter(|offset| *offset >= 0).map(Self::Offset),
            None if text == "end" => Some(Self::End),
            None => commit(text).or_else(|| time(text)),
        };
        parsed.ok_or_else(|| PointParseError(text.to_owned()))
    }
}

fn commit(text: &str) -> Option<Point> {
    let (epoch, lsn) = text.split_once('/')?;
    let lsn: Lsn = lsn.parse().ok()?;
    Some(Point::Commit { epoch: epoch.parse().ok()?, lsn: CommitLsn(lsn) })
}

fn time(text: &str) -> Option<Point> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Point::Time(Micros(time.as_microsecond())))
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(offset) => write!(f, "offset:{offset}"),
            Self::Time(time) => match jiff::Timestamp::from_microsecond(time.0) {
                Ok(time) => time.fmt(f),
                Err(_) => write!(f, "{} microseconds since 1970", time.0),
            },
            Self::Commit { epoch, lsn } => write!(f, "{epoch}/{lsn}"),
            Self::End => f.write_str("end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use penstock_wire::position::Seq;

    use super::*;

    #[test]
    fn points_are_read_as_they_are_written() {
        let lsn = CommitLsn::new(0x16B_3748);
        for (text, point) in [
            ("offset:0", Some(Point::Offset(0))),
            ("offset:123", Some(Point::Offset(123))),
            ("1/0/16B3748", Some(Point::Commit { epoch: 1, lsn })),
            ("1970-01-01T00:00:01.5Z", Some(Point::Time(Micros(1_500_000)))),
            ("1970-01-01T01:00:01+01:00", Some(Point::Time(Micros(1_000_000)))),
            ("end", Some(Point::End)),
            ("", None),
            ("123", None),
            ("offset:-1", None),
            ("offset:", None),
            ("0/16B3748", None),
            ("1/16B3748", None),
            ("2021-01-01", None),
            ("2021-01-01T10:00:00", None),
        ] {
            assert_eq!(text.parse().ok(), point, "{text}");
            let again = point.map(|point| point.to_string().parse().ok());
            assert_eq!(again, point.map(Some), "{text}");
        }
    }

    #[test]
    fn a_point_takes_what_lies_wholly_at_or_before_it() {
        let position = Position { epoch: 2, commit_lsn: CommitLsn::new(50), seq: Seq(8) };
        let ending = Ending { position, time_ms: 1_000, next_offset: 10 };
        let commit = |epoch, lsn| Point::Commit { epoch, lsn: CommitLsn::new(lsn) };
        for (point, taken) in [
            (Point::Offset(8), false),
            (Point::Offset(9), true),
            (Point::Offset(i64::MAX), true),
            (Point::Time(Micros(999_999)), false),
            (Point::Time(Micros(1_000_000)), true),
            (commit(1, 60), false),
            (commit(2, 49), false),
            (commit(2, 50), true),
            (commit(3, 1), true),
            (Point::End, true),
        ] {
            assert_eq!(point.takes(&ending), taken, "{point}");
        }
    }
}
