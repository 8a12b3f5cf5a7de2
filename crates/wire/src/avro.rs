//! Avro's binary primitives, appended straight to a buffer, and the few that are read without a schema.
//!
//! No schema, no union, no value tree here: whoever calls knows what stands where.

/// Appends a long or an int: both are the same variable-length zigzag number.
#[inline]
pub(crate) fn put_long(out: &mut Vec<u8>, value: i64) {
    let zigzag = (value << 1 ^ value >> 63).cast_unsigned();
    if zigzag < 0x80 {
        out.push(zigzag.to_le_bytes()[0]);
    } else {
        put_long_tail(out, zigzag);
    }
}

/// Numbers of two bytes and more.
fn put_long_tail(out: &mut Vec<u8>, zigzag: u64) {
    let mut bytes = [0_u8; 10];
    let mut rest = zigzag;
    let mut length = 0;
    while rest >= 0x80 {
        bytes[length] = rest.to_le_bytes()[0] | 0x80;
        rest >>= 7;
        length += 1;
    }
    bytes[length] = rest.to_le_bytes()[0];
    out.extend_from_slice(&bytes[..=length]);
}

/// Appends a 64-bit number that Avro has no unsigned type for: same bits, read back as [`i64::cast_unsigned`].
#[inline]
pub(crate) fn put_bits(out: &mut Vec<u8>, value: u64) {
    put_long(out, value.cast_signed());
}

/// Appends bytes, or the UTF-8 of a string, behind their length.
#[inline]
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a length. No slice is longer than `isize::MAX`, so it always fits a long.
#[inline]
pub(crate) fn put_length(out: &mut Vec<u8>, length: usize) {
    put_long(out, length as i64);
}

/// Takes a long off the front; `None` if it is cut off or longer than 64 bits.
pub(crate) fn take_long(input: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for (index, byte) in input.iter().enumerate() {
        let low = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit only.
        if index == 9 && *byte > 1 {
            return None;
        }
        value |= low << (7 * index);
        if byte & 0x80 == 0 {
            *input = input.get(index + 1..)?;
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

/// Takes length-prefixed bytes off the front; `None` if they are cut off or the length is negative.
pub(crate) fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_long(input)?).ok()?;
    let (bytes, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longs_are_zigzag_and_come_back() {
        for (value, bytes) in [
            (0, vec![0]),
            (-1, vec![1]),
            (1, vec![2]),
            (63, vec![126]),
            (-64, vec![127]),
            (64, vec![128, 1]),
            (i64::MAX, vec![254, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
            (i64::MIN, vec![255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ] {
            let mut out = Vec::new();
            put_long(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(take_long(&mut out.as_slice()), Some(value));
        }
    }

    #[test]
    fn cut_off_and_overlong_input_is_refused() {
        assert_eq!(take_long(&mut [].as_slice()), None);
        assert_eq!(take_long(&mut [0x80].as_slice()), None);
        assert_eq!(take_long(&mut [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2].as_slice()), None);
        assert_eq!(take_bytes(&mut [4, b'a'].as_slice()), None);
        assert_eq!(take_bytes(&mut [1].as_slice()), None);
        let mut input = [4, b'a', b'b', 9].as_slice();
        assert_eq!(take_bytes(&mut input), Some(b"ab".as_slice()));
        assert_eq!(input, [9]);
    }
}
