//! Confluent framing: a zero byte, the schema's registry id, then the Avro datum.

const MAGIC: u8 = 0;

/// The bytes are not framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Fewer bytes than the frame itself has.
    #[error("{0} bytes; a framed record has at least 5")]
    Short(usize),
    /// Not written with a schema registry.
    #[error("the first byte is {0}, not 0: not framed with a schema id")]
    Magic(u8),
}

/// Appends the frame that stands before a datum.
#[inline]
pub fn put_header(schema_id: u32, out: &mut Vec<u8>) {
    out.push(MAGIC);
    out.extend_from_slice(&schema_id.to_be_bytes());
}

/// The schema id and the datum.
pub fn split(bytes: &[u8]) -> Result<(u32, &[u8]), FramingError> {
    let (frame, body) = bytes.split_first_chunk::<5>().ok_or(FramingError::Short(bytes.len()))?;
    let [magic, id @ ..] = *frame;
    if magic != MAGIC {
        return Err(FramingError::Magic(magic));
    }
    Ok((u32::from_be_bytes(id), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back() {
        let mut out = Vec::new();
        put_header(0x0102_0304, &mut out);
        out.push(9);
        assert_eq!(out, [0, 1, 2, 3, 4, 9]);
        assert_eq!(split(&out), Ok((0x0102_0304, [9].as_slice())));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(split(&[]), Err(FramingError::Short(0)));
        assert_eq!(split(&[0, 0, 0, 1]), Err(FramingError::Short(4)));
        assert_eq!(split(&[1, 0, 0, 0, 1]), Err(FramingError::Magic(1)));
        assert_eq!(split(&[0, 0, 0, 0, 1]), Ok((1, [].as_slice())));
    }
}
