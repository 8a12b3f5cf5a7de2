//! One column of a row as the replication stream brought it: bytes that nothing has interpreted yet.

/// A column of a tuple as pgoutput sent it. Borrowed from the message: nothing is copied before it is encoded.
///
/// `Debug` prints lengths, never the bytes: row data must not reach a log by way of `{:?}`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Column<'a> {
    /// SQL NULL.
    Null,
    /// Stored out of line and not touched by the update: Postgres did not send the value (`u` in the tuple).
    Unchanged,
    /// The type's text output (`t`), under the pinned session settings: ISO dates, UTC, `extra_float_digits` 3.
    Text(&'a [u8]),
    /// The type's binary output (`b`), sent when the stream was started with `binary 'true'`.
    Binary(&'a [u8]),
}

impl Column<'_> {
    /// How many bytes the value has; 0 for NULL and for an unchanged value.
    pub const fn len(self) -> usize {
        match self {
            Self::Null | Self::Unchanged => 0,
            Self::Text(bytes) | Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there are no bytes: NULL, unchanged, or an empty value.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Debug for Column<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Unchanged => f.write_str("Unchanged"),
            Self::Text(bytes) => write!(f, "Text({} bytes)", bytes.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_row_data() {
        assert_eq!(format!("{:?}", Column::Text(b"secret")), "Text(6 bytes)");
        assert_eq!(format!("{:?}", Column::Binary(b"secret")), "Binary(6 bytes)");
    }
}
