//! Any bytes in the place of the header `penstock`: a header or an error. A header that was read is written again as it
//! stood, but for what readers ignore: flags they don't know, and what follows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_wire::header::{FLAGS_OFFSET, HEADER_LENGTH, Header};

/// Of version 1.
const KNOWN_FLAGS: u8 = 0b11;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::decode(bytes) else { return };
    let mut read = [0; HEADER_LENGTH];
    read.copy_from_slice(&bytes[..HEADER_LENGTH]);
    read[FLAGS_OFFSET] &= KNOWN_FLAGS;
    assert_eq!(header.encode(), read);
});
