//! Lines of COPY's text format out of the messages that bring them.
//!
//! Postgres sends a row a message. Nothing promises that, so a message may hold several lines here, or a part of one.

use penstock_core::backfill::rows::{CopyError, Rows};

/// Rows, with the beginning of a line whose end has not come.
#[derive(Debug)]
pub(super) struct Lines {
    rows: Rows,
    begun: Vec<u8>,
    bytes_max: usize,
}

impl Lines {
    /// Takes rows of so many columns until they have `bytes_max` bytes.
    pub(super) fn new(columns: usize, bytes_max: usize) -> Self {
        Self { rows: Rows::new(columns), begun: Vec::new(), bytes_max }
    }

    /// Takes a message; what comes behind the row that fills it is not taken.
    pub(super) fn push(&mut self, data: &[u8]) -> Result<(), CopyError> {
        let mut rest = data;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            if self.is_full() {
                return Ok(());
            }
            let (line, after) = rest.split_at(end + 1);
            if self.begun.is_empty() {
                self.rows.push_line(line)?;
            } else {
                self.begun.extend_from_slice(line);
                self.rows.push_line(&std::mem::take(&mut self.begun))?;
            }
            rest = after;
        }
        self.begun.extend_from_slice(rest);
        Ok(())
    }

    /// How many rows were taken.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// No further row is taken.
    pub(super) fn is_full(&self) -> bool {
        self.rows.bytes() >= self.bytes_max
    }

    /// The rows, if no line was left without its end.
    pub(super) fn finish(self) -> Result<Rows, CopyError> {
        if self.begun.is_empty() || self.is_full() { Ok(self.rows) } else { Err(CopyError::Line) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(messages: &[&[u8]], bytes_max: usize) -> Result<(usize, bool), CopyError> {
        let mut lines = Lines::new(2, bytes_max);
        for message in messages {
            lines.push(message)?;
        }
        let full = lines.is_full();
        lines.finish().map(|rows| (rows.len(), full))
    }

    #[test]
    fn lines_are_cut_wherever_messages_end() {
        assert_eq!(count(&[], 100), Ok((0, false)));
        assert_eq!(count(&[b"1\t2\n", b"3\t4\n"], 100), Ok((2, false)));
        assert_eq!(count(&[b"1\t2\n3\t4\n5", b"\t", b"6\n"], 100), Ok((3, false)));
        assert_eq!(count(&[b"1\t2\n3"], 100), Err(CopyError::Line));
        assert_eq!(count(&[b"1\n"], 100), Err(CopyError::Columns { expected: 2, found: 1 }));
    }

    #[test]
    fn a_row_that_fills_them_is_the_last() {
        assert_eq!(count(&[b"1\t2\n3\t4\n5\t6\n"], 8), Ok((2, true)));
        assert_eq!(count(&[b"1\t2\n", b"3\t4\n", b"5\t6\n", b"7"], 5), Ok((2, true)));
        assert_eq!(count(&[b"123456\t2\n3\t4\n"], 1), Ok((1, true)), "one row at least");
    }
}
