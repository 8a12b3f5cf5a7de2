//! A chunk that was asked for, until the stream has brought its high mark.

use std::collections::BTreeSet;

use super::interface::{Chunk, Mark};

/// Keys that are remembered between two marks; a chunk under more changes than that is read again.
const TOUCHED_MAX: usize = 200_000;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Read {
    /// The reload, and the index of its range.
    pub(super) reload: String,
    pub(super) range: usize,
    /// Schema and table.
    pub(super) table: (String, String),
    /// The table's OID.
    pub(super) oid: u32,
    pub(super) marks: [Mark; 2],
    /// Delivered before the low mark, and perhaps not visible.
    pub(super) must_see: BTreeSet<u32>,
    /// The stream is between its marks.
    open: bool,
    /// Encoded keys that records between the marks are about.
    touched: BTreeSet<Vec<u8>>,
    void: Option<&'static str>,
    pub(super) chunk: Option<Chunk>,
}

impl Read {
    pub(super) fn new(
        (reload, range): (String, usize),
        table: (String, String),
        oid: u32,
        marks: [Mark; 2],
        must_see: BTreeSet<u32>,
    ) -> Self {
        let touched = BTreeSet::new();
        Self { reload, range, table, oid, marks, must_see, open: false, touched, void: None, chunk: None }
    }

    /// The low mark has come.
    pub(super) fn opens(&mut self) {
        self.open = true;
    }

    /// A transaction was delivered: before the low mark, it has to be seen.
    pub(super) fn delivered(&mut self, xid: u32) {
        if !self.open {
            self.must_see.insert(xid);
        }
    }

    /// A record about this key was put.
    pub(super) fn touch(&mut self, oid: u32, key: &[u8]) {
        if !self.open || oid != self.oid || self.void.is_some() {
            return;
        }
        if self.touched.len() >= TOUCHED_MAX {
            self.void("more rows were changed meanwhile than are remembered");
        } else if !self.touched.contains(key) {
            self.touched.insert(key.to_vec());
        }
    }

    /// Something happened to the whole table.
    pub(super) fn void_if(&mut self, oid: u32, why: &'static str) {
        if self.open && oid == self.oid {
            self.void(why);
        }
    }

    pub(super) fn void(&mut self, why: &'static str) {
        self.void.get_or_insert(why);
        self.touched.clear();
    }

    /// Why it cannot be used, if it cannot.
    pub(super) fn is_void(&self) -> Option<&'static str> {
        self.void.or_else(|| (!self.open).then_some("its high mark came without its low mark"))
    }

    /// Whether a record between the marks was about this key.
    pub(super) fn is_touched(&self, key: &[u8]) -> bool {
        self.touched.contains(key)
    }

    /// Whether anything was.
    pub(super) fn any_touched(&self) -> bool {
        !self.touched.is_empty()
    }
}
