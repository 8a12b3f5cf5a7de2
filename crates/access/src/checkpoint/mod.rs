//! What an instance keeps of a partition so that a later one reads only what is new: one string of bytes.
//!
//! ```text
//! "PNSTCKPT" | version u32 | length of the body u64 | SHA-256 of all the rest | body      (numbers big-endian)
//! body: basis, resume point, accounts
//! ```
//!
//! A checkpoint only saves time. One in which anything is odd is refused as a whole, and the partition is read from its
//! beginning: nothing is repaired, nothing is converted. What the bytes are true of (the *basis*) is in them, because the
//! same rows mean something else under another configuration. That the topic is still the same one, and that nothing was
//! compacted since, progress and the next records tell: see [`crate::partition`].
//!
//! Whoever changes what is decoded of a record, or how any of this is written, raises [`VERSION`].

pub(crate) mod fields;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::decode::Names;
use crate::partition::{Isolation, ResumePoint};
use crate::replica::{Options, Saved};
use crate::rows::{RowId, Table};

/// Of the form, and of what is decoded of a record.
pub const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"PNSTCKPT";
const HASH_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + 4 + 8 + HASH_BYTES;

/// A partition's state, and where it is gone on with.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub point: ResumePoint,
    pub accounts: Vec<Saved>,
}

/// What a checkpoint is true of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    topic: String,
    partitions: u32,
    schema: String,
    /// What the tables are called, in the order of [`Table::ALL`].
    tables: Vec<String>,
    isolation: Isolation,
    loaded_flows_live: bool,
}

/// Why a checkpoint cannot be gone on with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("it is no checkpoint")]
    Foreign,
    #[error("it is of version {0}, and this program writes {VERSION}")]
    Version(u32),
    #[error("it is cut off, or more was written behind it: {found} bytes where there should be {expected}")]
    Length { expected: u64, found: u64 },
    #[error("its checksum is wrong")]
    Checksum,
    #[error("its contents cannot be read")]
    Contents,
    #[error("it is of topic {0:?}")]
    Topic(String),
    #[error("the topic had {0} partitions")]
    Partitions(u32),
    #[error("it is of partition {0}")]
    Partition(u32),
    #[error("it was made of other tables")]
    Tables,
    #[error("it was made with another kafka.read_uncommitted")]
    Isolation,
    #[error("it was made with another access.loaded_flows_live")]
    LoadedFlows,
}

impl Basis {
    /// Of a replica of this topic.
    pub fn new(topic: &str, options: &Options) -> Self {
        let Options { account, partition, names, partitions } = options;
        let Names { schema, .. } = names;
        Self {
            topic: topic.to_owned(),
            partitions: partitions.count(),
            schema: schema.clone(),
            tables: Table::ALL.into_iter().map(|table| names.name(table).to_owned()).collect(),
            isolation: partition.isolation,
            loaded_flows_live: account.loaded_flows_live,
        }
    }

    fn check(&self, found: Self) -> Result<(), Unfit> {
        if found.topic != self.topic {
            return Err(Unfit::Topic(found.topic));
        }
        if found.partitions != self.partitions {
            return Err(Unfit::Partitions(found.partitions));
        }
        if (found.schema, found.tables) != (self.schema.clone(), self.tables.clone()) {
            return Err(Unfit::Tables);
        }
        if found.isolation != self.isolation {
            return Err(Unfit::Isolation);
        }
        if found.loaded_flows_live != self.loaded_flows_live {
            return Err(Unfit::LoadedFlows);
        }
        Ok(())
    }
}

impl Checkpoint {
    /// What [`Self::from_bytes`] takes.
    pub fn to_bytes(&self, basis: &Basis) -> Vec<u8> {
        let body = (basis, &self.point, &self.accounts);
        let mut bytes = postcard::to_extend(&body, vec![0; HEAD_BYTES]).expect("memory takes everything");
        let length = (bytes.len() - HEAD_BYTES) as u64;
        let (head, body) = bytes.split_at_mut(HEAD_BYTES);
        let (told, hash) = head.split_at_mut(HEAD_BYTES - HASH_BYTES);
        told[..8].copy_from_slice(&MAGIC);
        told[8..12].copy_from_slice(&VERSION.to_be_bytes());
        told[12..].copy_from_slice(&length.to_be_bytes());
        hash.copy_from_slice(&checksum(told, body));
        bytes
    }

    /// Reads what [`Self::to_bytes`] has written.
    ///
    /// # Errors
    /// If these are not its bytes, to the last bit, or they are of another partition or basis.
    pub fn from_bytes(bytes: &[u8], partition: u32, basis: &Basis) -> Result<Self, Unfit> {
        let body = body(bytes)?;
        let (found, body) = postcard::take_from_bytes::<Basis>(body).map_err(|_| Unfit::Contents)?;
        basis.check(found)?;
        let ((point, accounts), rest) =
            postcard::take_from_bytes::<(ResumePoint, Vec<Saved>)>(body).map_err(|_| Unfit::Contents)?;
        if point.partition() != partition {
            return Err(Unfit::Partition(point.partition()));
        }
        let are_sound = rest.is_empty() && accounts.iter().all(is_sound);
        are_sound.then_some(Self { point, accounts }).ok_or(Unfit::Contents)
    }
}

/// The body, of which every bit is as it was written.
fn body(bytes: &[u8]) -> Result<&[u8], Unfit> {
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(Unfit::Foreign)?;
    if *magic != MAGIC {
        return Err(Unfit::Foreign);
    }
    let cut_off = Unfit::Length { expected: HEAD_BYTES as u64, found: bytes.len() as u64 };
    let Some((told, rest)) = rest.split_first_chunk::<12>() else { return Err(cut_off) };
    let (version, length) = told.split_at(4);
    let version = version.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
    if version != VERSION {
        return Err(Unfit::Version(version));
    }
    let Some((hash, body)) = rest.split_first_chunk::<HASH_BYTES>() else { return Err(cut_off) };
    let length = length.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    if body.len() as u64 != length {
        let expected = length.saturating_add(HEAD_BYTES as u64);
        return Err(Unfit::Length { expected, found: bytes.len() as u64 });
    }
    (checksum(&bytes[..HEAD_BYTES - HASH_BYTES], body) == *hash).then_some(body).ok_or(Unfit::Checksum)
}

fn checksum(told: &[u8], body: &[u8]) -> [u8; HASH_BYTES] {
    Sha256::new().chain_update(told).chain_update(body).finalize().into()
}

/// Each row is of the table and has the kind of key that it is said to have.
fn is_sound(saved: &Saved) -> bool {
    saved.snapshot.rows.iter().all(|row| {
        let is_connection = matches!(row.id, RowId::Connection { .. });
        row.table == row.row.table() && is_connection == (row.table == Table::ResourceConnections)
    })
}
