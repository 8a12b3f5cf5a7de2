//! The fixed binary header `penstock` that every record carries.
//!
//! Big-endian, 44 bytes in version 1: version, flags, source number, position, previous position of the source in the
//! partition. It may grow within a version: readers ignore what follows and flags they don't know.

use crate::lsn::CommitLsn;
use crate::position::{Position, Seq};

/// The Kafka header's name.
pub const HEADER_NAME: &str = "penstock";
/// The Kafka header that marks a control record; its value is the kind.
pub const CONTROL_HEADER_NAME: &str = "penstock.control";
/// Length of the header in bytes as version 1 writes it.
pub const HEADER_LENGTH: usize = 44;

const VERSION: u8 = 1;
const FLAG_END: u8 = 0b01;
const FLAG_IDENTITY_ONLY: u8 = 0b10;
/// Where the flags stand, for a writer that learns only later that a record was its transaction's last.
pub const FLAGS_OFFSET: usize = 1;

/// What a reader needs before it decodes anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The last record of its Postgres transaction in this partition.
    pub end_of_transaction: bool,
    /// `before` holds the columns of the replica identity only.
    pub identity_only: bool,
    /// The source's pinned number.
    pub source: u16,
    /// Where this record stands.
    pub position: Position,
    /// Where the source's previous record in this partition stands; zero at first.
    pub previous: Position,
}

/// The header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than version 1 has.
    #[error("header of {0} bytes; version 1 has {HEADER_LENGTH}")]
    Short(usize),
    /// Written by a newer Penstock, whose meaning is unknown here.
    #[error("header version {0}; this reader knows version {VERSION}: upgrade it")]
    Version(u8),
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[0] = VERSION;
        bytes[FLAGS_OFFSET] = flag(self.end_of_transaction, FLAG_END) | flag(self.identity_only, FLAG_IDENTITY_ONLY);
        bytes[2..4].copy_from_slice(&self.source.to_be_bytes());
        put_position(&mut bytes[4..24], self.position);
        put_position(&mut bytes[24..44], self.previous);
        bytes
    }

    /// Reads a header, whatever it has grown to.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let &[version, flags, ..] = bytes else { return Err(HeaderError::Short(bytes.len())) };
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let fixed: &[u8; HEADER_LENGTH] = bytes.first_chunk().ok_or(HeaderError::Short(bytes.len()))?;
        Ok(Self {
            end_of_transaction: flags & FLAG_END != 0,
            identity_only: flags & FLAG_IDENTITY_ONLY != 0,
            source: u16::from_be_bytes([fixed[2], fixed[3]]),
            position: take_position(fixed, 4),
            previous: take_position(fixed, 24),
        })
    }
}

/// Sets the end-of-transaction flag in header bytes that are already written.
pub fn set_end_of_transaction(header: &mut [u8; HEADER_LENGTH]) {
    header[FLAGS_OFFSET] |= FLAG_END;
}

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

fn put_position(bytes: &mut [u8], position: Position) {
    bytes[0..4].copy_from_slice(&position.epoch.to_be_bytes());
    bytes[4..12].copy_from_slice(&position.commit_lsn.raw().to_be_bytes());
    bytes[12..20].copy_from_slice(&position.seq.0.to_be_bytes());
}

fn take_position(bytes: &[u8; HEADER_LENGTH], at: usize) -> Position {
    let mut epoch = [0; 4];
    let mut commit_lsn = [0; 8];
    let mut seq = [0; 8];
    epoch.copy_from_slice(&bytes[at..at + 4]);
    commit_lsn.copy_from_slice(&bytes[at + 4..at + 12]);
    seq.copy_from_slice(&bytes[at + 12..at + 20]);
    Position {
        epoch: u32::from_be_bytes(epoch),
        commit_lsn: CommitLsn::new(u64::from_be_bytes(commit_lsn)),
        seq: Seq(u64::from_be_bytes(seq)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: Header = Header {
        end_of_transaction: true,
        identity_only: false,
        source: 0x0102,
        position: Position { epoch: 3, commit_lsn: CommitLsn::new(0x16_B374_D848), seq: Seq(17) },
        previous: Position { epoch: 2, commit_lsn: CommitLsn::new(0x16_B374_0000), seq: Seq(8) },
    };
    const GOLDEN_BYTES: [u8; HEADER_LENGTH] = [
        1, 1, 1, 2, 0, 0, 0, 3, 0, 0, 0, 0x16, 0xB3, 0x74, 0xD8, 0x48, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 2, 0, 0, 0,
        0x16, 0xB3, 0x74, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8,
    ];

    #[test]
    fn bytes_are_the_contract() {
        assert_eq!(GOLDEN.encode(), GOLDEN_BYTES);
        assert_eq!(Header::decode(&GOLDEN_BYTES), Ok(GOLDEN));
    }

    #[test]
    fn a_longer_header_with_unknown_flags_is_read() {
        let mut bytes = GOLDEN_BYTES.to_vec();
        bytes[FLAGS_OFFSET] |= 0b1111_0000;
        bytes.extend([9, 9, 9]);
        assert_eq!(Header::decode(&bytes), Ok(GOLDEN));
    }

    #[test]
    fn short_and_newer_headers_are_refused() {
        assert_eq!(Header::decode(&[]), Err(HeaderError::Short(0)));
        assert_eq!(Header::decode(&GOLDEN_BYTES[..43]), Err(HeaderError::Short(43)));
        assert_eq!(Header::decode(&[2, 0, 0]), Err(HeaderError::Version(2)));
    }

    #[test]
    fn the_end_flag_can_be_set_afterwards() {
        let mut bytes = Header { end_of_transaction: false, ..GOLDEN }.encode();
        set_end_of_transaction(&mut bytes);
        assert_eq!(bytes, GOLDEN_BYTES);
    }
}
