//! The columns of one row that decisions need, taken in the order in which their table names them.
//!
//! What is missing, unreadable or was not sent makes the row one that decisions cannot rely on, unless the accessor says
//! something gentler. NULL is a value: of a text it is the empty one, of anything that must be there it is unreadable.

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use super::problem::{Complaint, Problem};
use super::schema::Raw;
use crate::rows::Micros;

/// The most columns that a table's row is made of, besides [`ENDS`].
pub(super) const COLUMNS_MAX: usize = 12;

/// A column by its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Without it in the record's schema, no row is relied on.
    pub(super) needed: bool,
}

/// What a record holds of a row: first of [`ENDS`], then of the table's columns in its order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a>([Raw<'a>; ENDS.len() + COLUMNS_MAX]);

pub(super) const fn needed(name: &'static str) -> Column {
    Column { name, needed: true }
}

pub(super) const fn optional(name: &'static str) -> Column {
    Column { name, needed: false }
}

/// Columns that any table may have: where one of them is set, the row is not live.
pub(super) const ENDS: [&str; 2] = ["deleted_at", "disabled_at"];

/// A row that is being made of its columns.
#[derive(Debug)]
pub(super) struct Columns<'a, 'p> {
    names: &'static [Column],
    values: &'p Values<'a>,
    next: usize,
    live: bool,
    problems: &'p mut Vec<Problem>,
}

impl<'a> Values<'a> {
    pub(super) const ABSENT: Self = Self([Raw::Absent; ENDS.len() + COLUMNS_MAX]);

    /// Where the column's value is put; None: nothing is made of it.
    pub(super) fn slot(name: &str, own: &[Column]) -> Option<usize> {
        let mut names = ENDS.into_iter().chain(own.iter().map(|column| column.name));
        names.position(|column| column == name)
    }

    /// # Panics
    /// If it is no slot of [`Self::slot`].
    #[inline]
    pub(super) fn put(&mut self, slot: usize, value: Raw<'a>) {
        self.0[slot] = value;
    }
}

impl<'a, 'p> Columns<'a, 'p> {
    /// `complete`: the record's schema has all columns that are needed.
    pub(super) fn new(
        names: &'static [Column],
        complete: bool,
        values: &'p Values<'a>,
        problems: &'p mut Vec<Problem>,
    ) -> Self {
        let mut live = complete;
        for (column, value) in ENDS.into_iter().zip(values.0) {
            match value {
                // A table without the column deletes for good.
                Raw::Absent | Raw::Null => {}
                Raw::Unchanged => {
                    live = false;
                    problems.push(Problem { column, complaint: Complaint::Unchanged });
                }
                Raw::Micros(_) | Raw::Number(_) | Raw::Text(_) | Raw::Texts(_) | Raw::Other => live = false,
            }
        }
        Self { names, values, next: 0, live, problems }
    }

    /// Whether the row is live, as far as its columns tell; asked when all were taken.
    pub(super) fn live(self) -> bool {
        assert_eq!(self.next, self.names.len(), "columns taken, of those that the table names");
        self.live
    }

    #[inline]
    pub(super) fn take(&mut self) -> Raw<'a> {
        let value = self.values.0.get(ENDS.len() + self.next).copied().unwrap_or(Raw::Absent);
        self.next += 1;
        value
    }

    /// The row is not relied on, because of the column that was taken last.
    #[cold]
    pub(super) fn distrust(&mut self, complaint: Complaint) {
        self.live = false;
        self.complain(complaint);
    }

    /// Says what is wrong with the column that was taken last.
    #[cold]
    pub(super) fn complain(&mut self, complaint: Complaint) {
        let column = self.next.checked_sub(1).and_then(|taken| self.names.get(taken)).map_or("", |column| column.name);
        self.problems.push(Problem { column, complaint });
    }

    pub(super) fn uuid(&mut self) -> Uuid {
        self.optional_uuid().unwrap_or_else(|| self.unreliable(Uuid::nil()))
    }

    pub(super) fn optional_uuid(&mut self) -> Option<Uuid> {
        match self.take() {
            Raw::Absent | Raw::Null => None,
            value => {
                let found = text(value).and_then(|text| uuid(text.as_bytes()));
                self.kept(value, found)
            }
        }
    }

    /// NULL is the empty text.
    pub(super) fn text(&mut self) -> Arc<str> {
        self.optional_text().unwrap_or_default()
    }

    pub(super) fn optional_text(&mut self) -> Option<Arc<str>> {
        match self.take() {
            Raw::Absent | Raw::Null => None,
            value => self.kept(value, text(value).map(Arc::from)),
        }
    }

    /// A text that no decision is worse off without: None where it cannot be read.
    pub(super) fn unneeded_text(&mut self) -> Option<Arc<str>> {
        match self.take() {
            Raw::Absent | Raw::Null => None,
            value => self.left_out(value, text(value).map(Arc::from)),
        }
    }

    /// The interface's address: of one with a prefix length, the address.
    pub(super) fn address(&mut self) -> Option<IpAddr> {
        match self.take() {
            Raw::Absent | Raw::Null => None,
            value => {
                let found = text(value).and_then(|text| text.split('/').next()?.parse().ok());
                self.kept(value, found)
            }
        }
    }

    /// None where it cannot be read; a network is no address.
    pub(super) fn unneeded_address(&mut self) -> Option<IpAddr> {
        match self.take() {
            Raw::Absent | Raw::Null => None,
            value => self.left_out(value, text(value).and_then(|text| text.parse().ok())),
        }
    }

    /// Both coordinates, where both are known.
    pub(super) fn coordinates(&mut self) -> Option<(f64, f64)> {
        let mut number = || match self.take() {
            Raw::Absent | Raw::Null => None,
            Raw::Number(number) => Some(number),
            value => self.left_out(value, None),
        };
        let (latitude, longitude) = (number(), number());
        latitude.zip(longitude)
    }

    pub(super) fn time(&mut self) -> Option<Micros> {
        match self.take() {
            Raw::Absent | Raw::Null => None,
            Raw::Micros(micros) => Some(Micros(micros)),
            value => self.kept(value, None),
        }
    }

    /// Whether there is a value, whatever it is.
    pub(super) fn is_set(&mut self) -> bool {
        match self.take() {
            Raw::Absent | Raw::Null => false,
            Raw::Unchanged => {
                self.complain(Complaint::Unchanged);
                false
            }
            Raw::Micros(_) | Raw::Number(_) | Raw::Text(_) | Raw::Texts(_) | Raw::Other => true,
        }
    }

    /// One of an enumeration's values.
    pub(super) fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        let (value, found) =
            self.among(|text| choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice));
        self.chosen(value, found)
    }

    /// Looks at an enumeration that no decision reads: an unknown value makes the row unreliable all the same.
    pub(super) fn known(&mut self, choices: &[&str]) {
        let (value, found) = self.among(|text| choices.contains(&text).then_some(()));
        self.chosen(value, found);
    }

    /// Takes the row as unreliable because of the column that was taken last, unless it is already.
    pub(super) fn unreliable<T>(&mut self, instead: T) -> T {
        if self.live {
            self.distrust(Complaint::Unreadable);
        }
        instead
    }

    fn among<T>(&mut self, choice: impl Fn(&str) -> Option<T>) -> (Raw<'a>, Option<T>) {
        let value = self.take();
        (value, text(value).and_then(choice))
    }

    fn chosen<T>(&mut self, value: Raw<'a>, found: Option<T>) -> Option<T> {
        match value {
            Raw::Absent | Raw::Null => {}
            Raw::Text(_) if found.is_none() => self.distrust(Complaint::UnknownValue),
            Raw::Text(_) => {}
            Raw::Unchanged | Raw::Micros(_) | Raw::Number(_) | Raw::Texts(_) | Raw::Other => {
                self.distrust(complaint(value))
            }
        }
        found
    }

    fn kept<T>(&mut self, value: Raw<'_>, found: Option<T>) -> Option<T> {
        if found.is_none() {
            self.distrust(complaint(value));
        }
        found
    }

    fn left_out<T>(&mut self, value: Raw<'_>, found: Option<T>) -> Option<T> {
        if found.is_none() {
            self.complain(complaint(value));
        }
        found
    }
}

/// What is wrong with a value that could not be read.
pub(super) fn complaint(value: Raw<'_>) -> Complaint {
    match value {
        Raw::Unchanged => Complaint::Unchanged,
        _ => Complaint::Unreadable,
    }
}

#[inline]
pub(super) fn text(value: Raw<'_>) -> Option<&str> {
    match value {
        Raw::Text(text) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

/// As Postgres prints it: with hyphens and nothing around it.
#[inline]
pub(super) fn uuid(text: &[u8]) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse_ascii(text).ok() } else { None }
}
