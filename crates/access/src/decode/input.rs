//! Avro's binary primitives, taken off the front of a record.

/// What is left of a record's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

/// The bytes are not what the schema describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl<'a> Input<'a> {
    #[inline(always)]
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*byte)
    }

    /// An int or a long.
    #[inline(always)]
    pub(super) fn long(&mut self) -> Result<i64, Malformed> {
        let first = self.byte()?;
        let zigzag = if first < 0x80 { u64::from(first) } else { self.long_tail(first)? };
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    /// Text or bytes; text that was not looked at.
    #[inline(always)]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.long()?).map_err(|_| Malformed)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*bytes)
    }

    #[inline]
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// How many items the next block of an array has; 0: there are no more.
    pub(super) fn block(&mut self) -> Result<u64, Malformed> {
        let count = self.long()?;
        if count < 0 {
            // The block's length in bytes follows, for readers that step over it.
            self.long()?;
        }
        // Items that take no bytes are in no schema that is taken here: more items than bytes is no array.
        let most = u64::try_from(self.0.len()).map_err(|_| Malformed)?;
        Some(count.unsigned_abs()).filter(|count| *count <= most).ok_or(Malformed)
    }

    #[inline(never)]
    fn long_tail(&mut self, first: u8) -> Result<u64, Malformed> {
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && byte > 1 {
                return Err(Malformed);
            }
            value |= low << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longs_of_any_length_are_read() {
        for (bytes, expected) in [
            (vec![0], Ok(0)),
            (vec![1], Ok(-1)),
            (vec![127], Ok(-64)),
            (vec![128, 1], Ok(64)),
            (vec![254, 255, 255, 255, 255, 255, 255, 255, 255, 1], Ok(i64::MAX)),
            (vec![255, 255, 255, 255, 255, 255, 255, 255, 255, 1], Ok(i64::MIN)),
            (vec![255, 255, 255, 255, 255, 255, 255, 255, 255, 2], Err(Malformed)),
            (vec![255, 255, 255, 255, 255, 255, 255, 255, 255, 129, 0], Err(Malformed)),
            (vec![128], Err(Malformed)),
            (vec![], Err(Malformed)),
        ] {
            assert_eq!(Input(&bytes).long(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn nothing_is_read_beyond_the_end() {
        assert_eq!(Input(&[4, b'a', b'b']).bytes(), Ok(b"ab".as_slice()));
        assert_eq!(Input(&[4, b'a']).bytes(), Err(Malformed));
        assert_eq!(Input(&[1, b'a']).bytes(), Err(Malformed));
        assert_eq!(Input(&[2, 0xff]).text(), Err(Malformed));
        assert_eq!(Input(&[1, 2, 3]).array::<4>(), Err(Malformed));
        assert_eq!(Input(&[4, 0, 0]).block(), Ok(2));
        let mut sized = Input(&[3, 4, 0, 0]);
        assert_eq!((sized.block(), sized.0), (Ok(2), [0, 0].as_slice()));
        assert_eq!(Input(&[4, 0]).block(), Err(Malformed));
        assert_eq!(Input(&[0]).block(), Ok(0));
        assert_eq!(Input(&[255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0]).block(), Err(Malformed));
    }
}
