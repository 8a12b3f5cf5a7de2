//! Reloads as progress remembers them: what was asked for, how far it has come, how it ended.
//!
//! They stand in the progress record, so that a chunk's rows and the memory of having read it are one Kafka transaction:
//! after a crash a reload goes on behind the last chunk that readers can read.

use crate::avro::{put_bytes, put_length, put_long};
use crate::decode::{DecodeError, Fields};
use crate::position::Position;
use crate::record::{put_optional_text, put_position};

/// Where a reload stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReloadState {
    /// Asked for; its `reload_begin` is not yet delivered.
    #[default]
    Requested,
    /// Between its `reload_begin` and its `reload_end`.
    Running,
    /// As requested or running, but no chunk is read until it is resumed.
    Paused,
    /// Its `reload_end` is delivered.
    Done,
    /// Ended by an operator; it gets no `reload_end`.
    Cancelled,
    /// It cannot be done; `detail` says why.
    Refused,
}

impl ReloadState {
    const ALL: [Self; 6] = [Self::Requested, Self::Running, Self::Paused, Self::Done, Self::Cancelled, Self::Refused];

    /// The state's name in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
        }
    }

    /// Nothing more will come of it.
    pub const fn is_finished(self) -> bool {
        match self {
            Self::Requested | Self::Running | Self::Paused => false,
            Self::Done | Self::Cancelled | Self::Refused => true,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// What a reload covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// Schema and table; `None`: every captured table.
    pub table: Option<(String, String)>,
    /// The account's text; `None`: every account.
    pub account: Option<String>,
}

/// A reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// Names it to operators; unique among those that progress remembers.
    pub id: String,
    /// What it covers.
    pub scope: Scope,
    /// Who or what asked for it, for people.
    pub why: String,
    /// Where it stands.
    pub state: ReloadState,
    /// At most so many rows are read a second; 0 is no bound.
    pub rows_per_second: u64,
    /// Position of its `reload_begin`; zero until that is delivered.
    pub begin: Position,
    /// Position of its `reload_end`, or where it ended otherwise; zero until then.
    pub end: Position,
    /// Why it was refused or cancelled; else empty.
    pub detail: String,
    /// The key ranges it reads; empty until its tables are known.
    pub ranges: Vec<ReloadRange>,
}

impl Reload {
    /// Rows read so far, and rows there are to read as far as is known; the second is never less than the first.
    pub fn rows(&self) -> (u64, u64) {
        let done = self.ranges.iter().map(|range| range.rows).fold(0, u64::saturating_add);
        // A range that is at its end has no more rows than were read, whatever was thought.
        let known = |range: &ReloadRange| if range.done { range.rows } else { range.rows.max(range.rows_estimated) };
        (done, self.ranges.iter().map(known).fold(0, u64::saturating_add))
    }
}

/// A range of a table's keys, read in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadRange {
    /// The table's schema.
    pub schema: String,
    /// The table.
    pub table: String,
    /// The last key that was read, column by column in key order, as Postgres prints it; empty: none yet.
    pub after: Vec<String>,
    /// The range's last key; empty: the table's.
    pub until: Vec<String>,
    /// Rows read so far.
    pub rows: u64,
    /// Rows it was thought to have when it was planned.
    pub rows_estimated: u64,
    /// It is read to its end.
    pub done: bool,
}

/// The schema of an array of reloads, as a literal.
macro_rules! reloads_schema {
    () => {
        concat!(
            r#"{"type":"array","items":{"type":"record","name":"Reload","namespace":"penstock.wire","fields":["#,
            r#"{"name":"id","type":"string"},{"name":"schema","type":"string"},{"name":"table","type":"string"},"#,
            r#"{"name":"account","type":["null","string"],"default":null},{"name":"why","type":"string"},"#,
            r#"{"name":"state","type":"string"},{"name":"rows_per_second","type":"long"},"#,
            r#"{"name":"begin","type":"penstock.wire.Position"},{"name":"end","type":"penstock.wire.Position"},"#,
            r#"{"name":"detail","type":"string"},{"name":"ranges","type":{"type":"array","items":"#,
            r#"{"type":"record","name":"ReloadRange","namespace":"penstock.wire","fields":["#,
            r#"{"name":"schema","type":"string"},{"name":"table","type":"string"},"#,
            r#"{"name":"after","type":{"type":"array","items":"string"}},"#,
            r#"{"name":"until","type":{"type":"array","items":"string"}},"#,
            r#"{"name":"rows","type":"long"},{"name":"rows_estimated","type":"long"},"#,
            r#"{"name":"done","type":"boolean"}]}}}]}}"#,
        )
    };
}
pub(crate) use reloads_schema;

pub(crate) fn put_reload(out: &mut Vec<u8>, reload: &Reload) {
    let (schema, table) = reload.scope.table.as_ref().map_or(("", ""), |(schema, table)| (schema, table));
    put_bytes(out, reload.id.as_bytes());
    put_bytes(out, schema.as_bytes());
    put_bytes(out, table.as_bytes());
    put_optional_text(out, reload.scope.account.as_deref());
    put_bytes(out, reload.why.as_bytes());
    put_bytes(out, reload.state.as_str().as_bytes());
    put_count(out, reload.rows_per_second);
    put_position(out, reload.begin);
    put_position(out, reload.end);
    put_bytes(out, reload.detail.as_bytes());
    if !reload.ranges.is_empty() {
        put_length(out, reload.ranges.len());
        reload.ranges.iter().for_each(|range| put_range(out, range));
    }
    out.push(0);
}

fn put_range(out: &mut Vec<u8>, range: &ReloadRange) {
    put_bytes(out, range.schema.as_bytes());
    put_bytes(out, range.table.as_bytes());
    put_texts(out, &range.after);
    put_texts(out, &range.until);
    put_count(out, range.rows);
    put_count(out, range.rows_estimated);
    out.push(u8::from(range.done));
}

fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    if !texts.is_empty() {
        put_length(out, texts.len());
        texts.iter().for_each(|text| put_bytes(out, text.as_bytes()));
    }
    out.push(0);
}

fn put_count(out: &mut Vec<u8>, count: u64) {
    put_long(out, i64::try_from(count).unwrap_or(i64::MAX));
}

pub(crate) fn take_reload(mut fields: Fields) -> Result<Reload, DecodeError> {
    let state = fields.text("state")?;
    let unknown = || DecodeError::Field { field: "state".to_owned(), expected: "a state this version knows" };
    let (schema, table) = (fields.text("schema")?, fields.text("table")?);
    let of_table = !table.is_empty();
    Ok(Reload {
        id: fields.text("id")?,
        scope: Scope { table: of_table.then_some((schema, table)), account: fields.optional_text("account")? },
        why: fields.text("why")?,
        state: ReloadState::from_name(&state).ok_or_else(unknown)?,
        rows_per_second: fields.narrow("rows_per_second")?,
        begin: fields.record("begin")?.position()?,
        end: fields.record("end")?.position()?,
        detail: fields.text("detail")?,
        ranges: fields.records("ranges")?.into_iter().map(take_range).collect::<Result<_, _>>()?,
    })
}

fn take_range(mut fields: Fields) -> Result<ReloadRange, DecodeError> {
    Ok(ReloadRange {
        schema: fields.text("schema")?,
        table: fields.text("table")?,
        after: fields.texts("after")?,
        until: fields.texts("until")?,
        rows: fields.narrow("rows")?,
        rows_estimated: fields.narrow("rows_estimated")?,
        done: fields.boolean("done")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_never_less_than_nothing() {
        let range = |rows, rows_estimated, done| ReloadRange { rows, rows_estimated, done, ..ReloadRange::default() };
        let rows = |ranges: Vec<ReloadRange>| Reload { ranges, ..Reload::default() }.rows();
        assert_eq!(rows(Vec::new()), (0, 0));
        assert_eq!(rows(vec![range(3, 10, false), range(0, 5, false)]), (3, 15));
        assert_eq!(
            rows(vec![range(12, 10, false), range(4, 10, true), range(u64::MAX, 0, true)]),
            (u64::MAX, u64::MAX)
        );
        assert_eq!(rows(vec![range(12, 10, false), range(4, 10, true)]), (16, 16));
    }
}
