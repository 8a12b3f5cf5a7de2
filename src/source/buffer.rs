//! The read buffer: bytes go in at the end, whole messages come out at the front as slices of it.
//!
//! Invariants: a message is never copied to be handed out; what is allocated is at most the larger of
//! `READ_BUFFER_BYTES` and one message, and goes back to `READ_BUFFER_BYTES` once that message is taken.
//! A message is one tag byte and a big-endian length that counts itself but not the tag.
//! This file knows nothing of sockets and of what a message means.

use super::SourceError;
use super::limits::READ_BUFFER_BYTES;

/// Bytes of tag and length.
const HEADER_BYTES: usize = 5;

/// One message of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) tag: u8,
    pub(super) body: &'a [u8],
}

/// Tag and size of the message at the front; `size` counts all of it, tag and length included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    tag: u8,
    size: usize,
}

/// Bytes received and not yet taken.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    /// Where the unread bytes begin.
    head: usize,
    /// How many of the bytes still to come belong to a message that is being discarded.
    discard: usize,
}

impl ReadBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::with_capacity(READ_BUFFER_BYTES), head: 0, discard: 0 }
    }

    /// How many bytes wait to be taken.
    pub(super) fn len(&self) -> usize {
        self.unread().len()
    }

    /// The tag of the message at the front, if all of it is here.
    pub(super) fn complete_tag(&self) -> Result<Option<u8>, SourceError> {
        let header = self.header()?;
        Ok(header.filter(|header| header.size <= self.len()).map(|header| header.tag))
    }

    /// Takes the message at the front, if all of it is here.
    pub(super) fn take(&mut self) -> Result<Option<Message<'_>>, SourceError> {
        let Some(Header { tag, size }) = self.header()? else {
            return Ok(None);
        };
        let start = self.head;
        let Some(whole) = self.bytes.get(start..start.saturating_add(size)) else {
            return Ok(None);
        };
        self.head += size;
        let body = whole.get(HEADER_BYTES..).unwrap_or_default();
        Ok(Some(Message { tag, body }))
    }

    /// Drops the message at the front, also the part of it that is still to come, without ever holding all of it.
    /// False if not even its header is here.
    pub(super) fn discard(&mut self) -> Result<bool, SourceError> {
        let Some(Header { size, .. }) = self.header()? else {
            return Ok(false);
        };
        self.discard = size;
        self.apply_discard();
        Ok(true)
    }

    /// The tag at the front, as soon as the header is here.
    pub(super) fn front_tag(&self) -> Result<Option<u8>, SourceError> {
        Ok(self.header()?.map(|header| header.tag))
    }

    /// Makes room for the next read and hands out where to append; `None` if the buffer is full of messages that must
    /// be taken first. A message larger than `bound` is refused here, before memory is spent on it.
    pub(super) fn room(&mut self, bound: usize) -> Result<Option<&mut Vec<u8>>, SourceError> {
        let wanted = self.capacity_wanted(bound)?;
        if self.head == self.bytes.len() {
            self.bytes.clear();
            self.head = 0;
        }
        // A frame that needed more is gone: give its memory back.
        if self.bytes.capacity() > wanted && self.len() <= wanted {
            let mut smaller = Vec::with_capacity(wanted);
            smaller.extend_from_slice(self.unread());
            self.bytes = smaller;
            self.head = 0;
        }
        // Moving the rest to the front is worth it only when it makes much room: otherwise a reader that takes little
        // at a time would copy the same bytes again and again.
        if self.head > 0 && self.bytes.capacity() - self.bytes.len() < wanted / 2 {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
        if self.bytes.capacity() < wanted {
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        if self.bytes.len() == self.bytes.capacity() {
            return Ok(None);
        }
        Ok(Some(&mut self.bytes))
    }

    /// To be called after bytes were appended: drops those of a message under `discard`.
    pub(super) fn appended(&mut self) {
        self.apply_discard();
    }

    fn unread(&self) -> &[u8] {
        self.bytes.get(self.head..).unwrap_or_default()
    }

    fn apply_discard(&mut self) {
        let here = self.discard.min(self.len());
        self.head += here;
        self.discard -= here;
    }

    /// The usual size, or that of the unfinished message at the front if it needs more.
    fn capacity_wanted(&self, bound: usize) -> Result<usize, SourceError> {
        let size = self.header()?.map_or(0, |header| header.size);
        if size > self.len() && size > bound {
            return Err(SourceError::FrameTooLarge { frame_bytes: size, frame_bytes_max: bound });
        }
        Ok(size.max(READ_BUFFER_BYTES))
    }

    fn header(&self) -> Result<Option<Header>, SourceError> {
        let Some([tag, length @ ..]) = self.unread().first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length);
        if length < 4 || length > i32::MAX.unsigned_abs() {
            return Err(SourceError::Malformed { message: "a message header", why: "its length is impossible" });
        }
        // At most 2^31: fits on every target that has a 32-bit or wider usize.
        let size = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(1);
        Ok(Some(Header { tag: *tag, size }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn feed(buffer: &mut ReadBuffer, bytes: &[u8], bound: usize) -> Result<bool, SourceError> {
        let Some(room) = buffer.room(bound)? else {
            return Ok(false);
        };
        room.extend_from_slice(bytes);
        buffer.appended();
        Ok(true)
    }

    fn taken(buffer: &mut ReadBuffer) -> Vec<(u8, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(message) = buffer.take().unwrap() {
            all.push((message.tag, message.body.to_vec()));
        }
        all
    }

    #[test]
    fn messages_come_out_whole_wherever_the_stream_is_cut() {
        let stream = [message(b'd', b"first"), message(b'N', b""), message(b'd', &[7; 300])].concat();
        let expected = vec![(b'd', b"first".to_vec()), (b'N', Vec::new()), (b'd', vec![7; 300])];
        for cut in 0..=stream.len() {
            let mut buffer = ReadBuffer::new();
            let (left, right) = stream.split_at(cut);
            assert!(feed(&mut buffer, left, 1000).unwrap());
            let mut all = taken(&mut buffer);
            assert!(feed(&mut buffer, right, 1000).unwrap());
            all.extend(taken(&mut buffer));
            assert_eq!(all, expected, "cut at {cut}");
            assert_eq!(buffer.len(), 0);
        }
    }

    #[test]
    fn messages_come_out_whole_byte_by_byte() {
        let stream = [message(b'd', b"first"), message(b'k', &[9; 40])].concat();
        let mut buffer = ReadBuffer::new();
        let mut all = Vec::new();
        for byte in stream {
            feed(&mut buffer, &[byte], 1000).unwrap();
            all.extend(taken(&mut buffer));
        }
        assert_eq!(all, vec![(b'd', b"first".to_vec()), (b'k', vec![9; 40])]);
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for length in [0_u32, 1, 3, 0x8000_0000, u32::MAX] {
            let mut buffer = ReadBuffer::new();
            feed(&mut buffer, &[&[b'd'][..], &length.to_be_bytes()].concat(), 1000).unwrap();
            assert!(matches!(buffer.take(), Err(SourceError::Malformed { .. })), "{length}");
            assert!(matches!(buffer.room(1000), Err(SourceError::Malformed { .. })), "{length}");
        }
    }

    #[test]
    fn a_frame_above_the_bound_is_refused_before_memory_is_spent() {
        let mut buffer = ReadBuffer::new();
        let size = READ_BUFFER_BYTES * 4;
        feed(&mut buffer, &message(b'd', &vec![0; size])[..100], size).unwrap();
        let error = buffer.room(size).unwrap_err();
        assert!(matches!(
            error,
            SourceError::FrameTooLarge { frame_bytes, frame_bytes_max }
                if frame_bytes == size + 5 && frame_bytes_max == size
        ));
        assert_eq!(buffer.bytes.capacity(), READ_BUFFER_BYTES);
    }

    #[test]
    fn memory_grows_to_one_huge_frame_and_comes_back() {
        let mut buffer = ReadBuffer::new();
        let huge = message(b'd', &vec![1; READ_BUFFER_BYTES * 8]);
        for part in huge.chunks(100_000) {
            assert!(feed(&mut buffer, part, huge.len()).unwrap());
        }
        assert!(buffer.bytes.capacity() < huge.len() + READ_BUFFER_BYTES);
        assert_eq!(buffer.take().unwrap().unwrap().body.len(), READ_BUFFER_BYTES * 8);
        assert!(feed(&mut buffer, &message(b'd', b"small"), huge.len()).unwrap());
        assert_eq!(buffer.bytes.capacity(), READ_BUFFER_BYTES);
        assert_eq!(taken(&mut buffer), vec![(b'd', b"small".to_vec())]);
    }

    #[test]
    fn a_buffer_full_of_messages_asks_to_be_emptied_first() {
        let mut buffer = ReadBuffer::new();
        let one = message(b'd', &[1; 1019]);
        for _ in 0..READ_BUFFER_BYTES / one.len() {
            assert!(feed(&mut buffer, &one, 4096).unwrap());
        }
        assert!(buffer.room(4096).unwrap().is_none());
        buffer.take().unwrap().unwrap();
        assert!(buffer.room(4096).unwrap().is_some());
    }

    #[test]
    fn a_discarded_message_is_never_held_whole() {
        let mut buffer = ReadBuffer::new();
        let stream = [message(b'd', &vec![1; READ_BUFFER_BYTES * 8]), message(b'Z', b"I")].concat();
        assert!(!buffer.discard().unwrap());
        let (first, rest) = stream.split_at(10);
        feed(&mut buffer, first, 100).unwrap();
        assert_eq!(buffer.front_tag().unwrap(), Some(b'd'));
        assert!(buffer.discard().unwrap());
        for part in rest.chunks(100_000) {
            assert!(feed(&mut buffer, part, 100).unwrap());
        }
        assert_eq!(taken(&mut buffer), vec![(b'Z', b"I".to_vec())]);
        assert_eq!(buffer.bytes.capacity(), READ_BUFFER_BYTES);
    }
}
