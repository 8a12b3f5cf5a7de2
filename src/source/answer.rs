//! What the server answers to simple queries and to the replication commands that answer with rows.

use penstock_wire::lsn::Lsn;

use super::SourceError;
use super::fields::Fields;

/// One row of a simple query: every value as text, NULL as `None`.
pub type Row = Vec<Option<String>>;

/// Who the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// Drawn at initdb, shared by a primary and its standbys; changed by pg_upgrade.
    pub system_identifier: u64,
    /// Raised by each promotion.
    pub timeline: u32,
    /// How far WAL is flushed.
    pub flushed: Lsn,
    /// The database of this session.
    pub database: Option<String>,
}

/// Where a timeline ended, as a line of a history file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineSwitch {
    /// The timeline that ended.
    pub timeline: u32,
    /// Its first LSN that belongs to the next timeline.
    pub switch_point: Lsn,
}

/// Reads a DataRow message.
pub(super) fn parse_row(body: &[u8]) -> Result<Row, SourceError> {
    let mut fields = Fields::new("a row", body);
    let columns = fields.u16()?;
    let mut row = Vec::new();
    for _ in 0..columns {
        let value = match fields.i32()? {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| malformed("a negative length"))?;
                let text = std::str::from_utf8(fields.slice(length)?);
                Some(text.map_err(|_| malformed("it is not UTF-8"))?.to_owned())
            }
        };
        row.push(value);
    }
    fields.end()?;
    Ok(row)
}

impl SystemIdentity {
    /// Reads the answer to IDENTIFY_SYSTEM.
    pub(super) fn parse(rows: &[Row]) -> Result<Self, SourceError> {
        let unreadable = || SourceError::Malformed {
            message: "the answer to IDENTIFY_SYSTEM",
            why: "it is not one row of identifier, timeline, LSN and database",
        };
        let [row] = rows else {
            return Err(unreadable());
        };
        let [Some(identifier), Some(timeline), Some(flushed), database, ..] = row.as_slice() else {
            return Err(unreadable());
        };
        Ok(Self {
            system_identifier: identifier.parse().map_err(|_| unreadable())?,
            timeline: timeline.parse().map_err(|_| unreadable())?,
            flushed: flushed.parse().map_err(|_| unreadable())?,
            database: database.clone(),
        })
    }
}

impl TimelineSwitch {
    /// Reads the answer to TIMELINE_HISTORY: file name and content, in which a line is timeline, LSN and reason.
    pub(super) fn parse(rows: &[Row]) -> Result<Vec<Self>, SourceError> {
        let [row] = rows else {
            return Err(unreadable_history());
        };
        let [_, Some(content), ..] = row.as_slice() else {
            return Err(unreadable_history());
        };
        content
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(Self::parse_line)
            .collect()
    }

    fn parse_line(line: &str) -> Result<Self, SourceError> {
        let mut words = line.split_whitespace();
        let (Some(timeline), Some(lsn)) = (words.next(), words.next()) else {
            return Err(unreadable_history());
        };
        Ok(Self {
            timeline: timeline.parse().map_err(|_| unreadable_history())?,
            switch_point: lsn.parse().map_err(|_| unreadable_history())?,
        })
    }
}

fn unreadable_history() -> SourceError {
    SourceError::Malformed {
        message: "the answer to TIMELINE_HISTORY",
        why: "it is not a file name and lines of timeline and LSN",
    }
}

fn malformed(why: &'static str) -> SourceError {
    SourceError::Malformed { message: "a row", why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> Vec<Row> {
        vec![values.iter().map(|value| Some((*value).to_owned())).collect()]
    }

    #[test]
    fn rows_are_read_and_cut_ones_refused() {
        let body = b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0";
        let expected: Row = vec![Some("ab".into()), None, Some(String::new())];
        assert_eq!(parse_row(body).unwrap(), expected);
        for cut in 0..body.len() {
            assert!(parse_row(&body[..cut]).is_err(), "cut at {cut}");
        }
        for garbage in [&b"\0\x01\xff\xff\xff\xfe"[..], b"\0\x01\x7f\xff\xff\xff", b"\0\x01\0\0\0\x01\xff", b"\0\0\0"] {
            assert!(parse_row(garbage).is_err(), "{garbage:?}");
        }
    }

    #[test]
    fn an_identity_is_read() {
        let identity = SystemIdentity::parse(&row(&["7411905123456789012", "2", "0/16B3748", "app"]));
        let expected = SystemIdentity {
            system_identifier: 7_411_905_123_456_789_012,
            timeline: 2,
            flushed: Lsn(0x016B_3748),
            database: Some("app".into()),
        };
        assert_eq!(identity.unwrap(), expected);
        for odd in [vec![], row(&["1", "2"]), row(&["x", "1", "0/0", "app"]), row(&["1", "-1", "0/0", "app"])] {
            assert!(SystemIdentity::parse(&odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_history_is_read_with_its_comments() {
        let file = "1\t0/3000148\tno recovery target specified\n\n# by hand\n  2\t16/B374D848\tbefore 2024\n";
        let expected = [(1, 0x0300_0148), (2, 0x16_B374_D848)]
            .map(|(timeline, lsn)| TimelineSwitch { timeline, switch_point: Lsn(lsn) });
        assert_eq!(TimelineSwitch::parse(&row(&["00000003.history", file])).unwrap(), expected);
        assert_eq!(TimelineSwitch::parse(&row(&["00000001.history", ""])).unwrap(), []);
        for odd in ["1", "one\t0/1", "1\t0-1"] {
            assert!(TimelineSwitch::parse(&row(&["name", odd])).is_err(), "{odd}");
        }
    }
}
