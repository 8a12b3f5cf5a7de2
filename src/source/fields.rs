//! A total reader over the bytes of one message: every step either yields a value or says that the message is
//! malformed. Nothing here indexes, and nothing allocates.

use super::SourceError;

/// What is left of a message's body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    message: &'static str,
}

impl<'a> Fields<'a> {
    /// Reads `body`; `message` names the message in errors.
    pub(super) fn new(message: &'static str, body: &'a [u8]) -> Self {
        Self { rest: body, message }
    }

    /// Everything not yet read.
    pub(super) fn remainder(self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn byte(&mut self) -> Result<u8, SourceError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, SourceError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, SourceError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, SourceError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, SourceError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], SourceError> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(self.short())?;
        self.rest = tail;
        Ok(*head)
    }

    pub(super) fn slice(&mut self, length: usize) -> Result<&'a [u8], SourceError> {
        let (head, tail) = self.rest.split_at_checked(length).ok_or(self.short())?;
        self.rest = tail;
        Ok(head)
    }

    /// A zero-terminated string, without its zero. Text that is not UTF-8 (a server's message before the encoding is
    /// agreed) is mended rather than refused: it is for people to read.
    pub(super) fn text(&mut self) -> Result<String, SourceError> {
        let end = self.rest.iter().position(|byte| *byte == 0);
        let text = self.slice(end.ok_or(self.short())?)?;
        self.byte()?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// The message must end here.
    pub(super) fn end(self) -> Result<(), SourceError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(SourceError::Malformed { message: self.message, why: "bytes are left over at its end" })
    }

    fn short(&self) -> SourceError {
        SourceError::Malformed { message: self.message, why: "it ends too early" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_nothing_more() {
        let mut fields = Fields::new("test", b"\x07\x00\x00\x00\x2aab\0\x01\x02");
        assert_eq!(fields.byte().unwrap(), 7);
        assert_eq!(fields.i32().unwrap(), 42);
        assert_eq!(fields.text().unwrap(), "ab");
        assert!(fields.end().is_err());
        assert_eq!(fields.slice(2).unwrap(), [1, 2]);
        fields.end().unwrap();
        assert!(fields.byte().is_err());
    }

    #[test]
    fn a_string_without_its_zero_is_malformed() {
        assert!(Fields::new("test", b"abc").text().is_err());
        assert!(Fields::new("test", b"").text().is_err());
    }

    #[test]
    fn a_length_beyond_the_end_is_malformed() {
        assert!(Fields::new("test", b"abc").slice(4).is_err());
        assert!(Fields::new("test", b"abc").i32().is_err());
    }
}
