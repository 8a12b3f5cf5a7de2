//! The rows of a chunk, as `COPY … TO STDOUT` prints them, in one buffer.
//!
//! The values are those a tuple of the replication stream holds in text, so that one plan encodes both. Total: what is no
//! line of the text format is an error.

use penstock_wire::column::Column;

/// Rows of one table, all with the same number of columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// The values, each with one byte behind it that is no part of it.
    bytes: Vec<u8>,
    /// By row and column: where the value ends in `bytes`, and whether it is NULL.
    cells: Vec<Cell>,
    columns: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    end: usize,
    null: bool,
}

const NULL: &[u8] = b"\\N";

/// The bytes are no line of COPY's text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// Another number of columns.
    #[error("a line with {found} columns where the table has {expected}")]
    Columns { expected: usize, found: usize },
    /// It does not end in a newline, or holds one.
    #[error("a line that does not end where it should")]
    Line,
    /// A backslash before something that is not escaped.
    #[error("an unknown escape")]
    Escape,
}

impl Rows {
    /// None yet, of a table with so many columns.
    pub fn new(columns: usize) -> Self {
        Self { bytes: Vec::new(), cells: Vec::new(), columns }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.cells.len().checked_div(self.columns).unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Bytes that the values take.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Takes one line, newline included. On an error nothing was taken.
    pub fn push_line(&mut self, line: &[u8]) -> Result<(), CopyError> {
        let (bytes, cells) = (self.bytes.len(), self.cells.len());
        let taken = self.take(line);
        if taken.is_err() {
            self.bytes.truncate(bytes);
            self.cells.truncate(cells);
        }
        taken
    }

    fn take(&mut self, line: &[u8]) -> Result<(), CopyError> {
        let Some((b'\n', line)) = line.split_last() else { return Err(CopyError::Line) };
        let start = self.bytes.len();
        if memchr::memchr2(b'\n', b'\r', line).is_some() {
            return Err(CopyError::Line);
        }
        let before = self.cells.len();
        if !self.take_plain(line) {
            self.bytes.truncate(start);
            self.cells.truncate(before);
            self.take_escaped(line)?;
        }
        match self.cells.len() - before {
            found if found == self.columns => Ok(()),
            found => Err(CopyError::Columns { expected: self.columns, found }),
        }
    }

    /// Most lines: without an escape, but for NULLs. Taken as they are, tabs included.
    fn take_plain(&mut self, line: &[u8]) -> bool {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(line);
        self.bytes.push(b'\n');
        let (mut field, mut null) = (0, false);
        for at in memchr::memchr2_iter(b'\t', b'\\', line) {
            if line[at] == b'\\' {
                null = at == field
                    && line[at..].starts_with(NULL)
                    && matches!(line.get(at + NULL.len()), None | Some(b'\t'));
                if !null {
                    return false;
                }
                continue;
            }
            self.cells.push(Cell { end: start + at, null });
            (field, null) = (at + 1, false);
        }
        self.cells.push(Cell { end: start + line.len(), null });
        true
    }

    fn take_escaped(&mut self, line: &[u8]) -> Result<(), CopyError> {
        for field in line.split(|byte| *byte == b'\t') {
            let null = field == NULL;
            if !null {
                self.unescape(field)?;
            }
            self.cells.push(Cell { end: self.bytes.len(), null });
            self.bytes.push(b'\t');
        }
        Ok(())
    }

    fn unescape(&mut self, mut field: &[u8]) -> Result<(), CopyError> {
        while let Some(at) = memchr::memchr(b'\\', field) {
            let (plain, rest) = field.split_at(at);
            let [_, escaped, rest @ ..] = rest else { return Err(CopyError::Line) };
            self.bytes.extend_from_slice(plain);
            self.bytes.push(match escaped {
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 0x0b,
                b'\\' => b'\\',
                _ => return Err(CopyError::Escape),
            });
            field = rest;
        }
        self.bytes.extend_from_slice(field);
        Ok(())
    }

    /// The columns of a row, from 0, into `columns`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn read<'a>(&'a self, row: usize, columns: &mut Vec<Column<'a>>) {
        let first = row * self.columns;
        let mut start = first.checked_sub(1).map_or(0, |before| self.cells[before].end + 1);
        columns.clear();
        columns.extend(self.cells[first..first + self.columns].iter().map(|cell| {
            let value = &self.bytes[start..cell.end];
            start = cell.end + 1;
            if cell.null { Column::Null } else { Column::Text(value) }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rows: &Rows, row: usize) -> Vec<Option<&[u8]>> {
        let mut columns = Vec::new();
        rows.read(row, &mut columns);
        let value = |column| match column {
            Column::Text(text) => Some(text),
            Column::Null => None,
            Column::Unchanged | Column::Binary(_) => unreachable!(),
        };
        columns.into_iter().map(value).collect()
    }

    #[test]
    fn lines_come_back_as_values() {
        let mut rows = Rows::new(3);
        rows.push_line(b"1\t\\N\t\n").unwrap();
        rows.push_line(b"a\\tb\\\\N\t\\\\N\t\\b\\f\\n\\r\\v\xc3\xbc\n").unwrap();
        rows.push_line(b"\\N\t\\N\t\\N\n").unwrap();
        rows.push_line(b"\\N\tx\\\\\t\\N\n").unwrap();
        assert_eq!(rows.len(), 4);
        assert_eq!(read(&rows, 0), [Some(&b"1"[..]), None, Some(b"")]);
        assert_eq!(read(&rows, 1), [Some(&b"a\tb\\N"[..]), Some(b"\\N"), Some(b"\x08\x0c\n\r\x0b\xc3\xbc")]);
        assert_eq!(read(&rows, 2), [None; 3]);
        assert_eq!(read(&rows, 3), [None, Some(&b"x\\"[..]), None]);
    }

    #[test]
    fn a_bad_line_leaves_nothing_behind() {
        let mut rows = Rows::new(2);
        rows.push_line(b"1\t2\n").unwrap();
        let before = rows.clone();
        for (line, error) in [
            (&b"1\t2"[..], CopyError::Line),
            (b"", CopyError::Line),
            (b"1\n2\n", CopyError::Line),
            (b"1\t2\\\n", CopyError::Line),
            (b"1\r\t2\n", CopyError::Line),
            (b"1\tx\\N\n", CopyError::Escape),
            (b"1\t\\Nx\n", CopyError::Escape),
            (b"1\t\\x\n", CopyError::Escape),
            (b"1\n", CopyError::Columns { expected: 2, found: 1 }),
            (b"1\t2\t3\n", CopyError::Columns { expected: 2, found: 3 }),
        ] {
            assert_eq!(rows.push_line(line), Err(error), "{line:?}");
            assert_eq!(rows, before);
        }
    }
}
