//! The bytes of a checkpoint: what is not exactly as it was written, or not meant for here, is refused.

use std::sync::OnceLock;

use penstock_access::checkpoint::{Basis, Checkpoint, Unfit, VERSION};
use penstock_access::partition::Isolation;
use penstock_access::replica::Options;
use penstock_access::rows::Table;
use penstock_wire::event::Op;
use penstock_wire::partition::Partitioner;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::fixture;
use crate::log::{Deed, Log, Reader, basis, options};

const HEAD_BYTES: usize = 52;

/// Of a partition with a row of each table.
fn bytes() -> Vec<u8> {
    let mut log = Log::default();
    let deed = |table| Deed { table, op: Op::Create, cells: fixture::sample(table) };
    log.commit(&Table::ALL.map(deed));
    let mut reader = Reader::new();
    reader.catch_up(&log);
    reader.save().expect("all was read")
}

fn read(bytes: &[u8]) -> Result<Checkpoint, Unfit> {
    Checkpoint::from_bytes(bytes, 0, &basis())
}

#[test]
fn what_is_written_is_read_again() {
    let bytes = bytes();
    let checkpoint = read(&bytes).expect("it was written so");
    assert_eq!(checkpoint.accounts[0].snapshot.rows.len(), Table::ALL.len());
    assert_eq!(checkpoint.to_bytes(&basis()), bytes);
}

/// Who changes these bytes, or what is decoded of a record, has to raise the version: a program that is older or newer must
/// not believe them.
#[test]
fn the_form_is_that_of_its_version() {
    let hash: String = Sha256::digest(bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((VERSION, &*hash), (1, "54e5da25f4fc67370c58a280307e6863030215a492592e33fcbd74583bca61b0"));
}

#[test]
fn a_byte_that_is_otherwise_is_noticed() {
    let written = bytes();
    for index in 0..written.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = written.clone();
            bytes[index] ^= change;
            assert!(read(&bytes).is_err(), "byte {index} changed by {change:#x}");
        }
    }
}

#[test]
fn a_checkpoint_that_is_cut_off_or_goes_on_is_noticed() {
    let mut written = bytes();
    for length in 0..written.len() {
        assert!(read(&written[..length]).is_err(), "{length} of {} bytes", written.len());
    }
    written.push(0);
    assert!(matches!(read(&written), Err(Unfit::Length { .. })));
}

#[test]
fn a_checkpoint_of_something_else_is_refused_with_the_reason() {
    let bytes = bytes();
    let of = |change: fn(&mut Options)| {
        let mut options = options();
        change(&mut options);
        Checkpoint::from_bytes(&bytes, 0, &Basis::new("changes", &options)).expect_err("it is another")
    };
    assert_eq!(of(|options| options.partitions = Partitioner::new(3).expect("three")), Unfit::Partitions(1));
    assert_eq!(of(|options| options.names.schema = "portal".to_owned()), Unfit::Tables);
    assert_eq!(of(|options| drop(options.names.renamed.insert(Table::Flows, "f".to_owned()))), Unfit::Tables);
    assert_eq!(of(|options| options.partition.isolation = Isolation::ReadUncommitted), Unfit::Isolation);
    assert_eq!(of(|options| options.account.loaded_flows_live = true), Unfit::LoadedFlows);
    let elsewhere = Checkpoint::from_bytes(&bytes, 0, &Basis::new("others", &options()));
    assert_eq!(elsewhere, Err(Unfit::Topic("changes".to_owned())));
    assert_eq!(Checkpoint::from_bytes(&bytes, 1, &basis()), Err(Unfit::Partition(0)));
    assert_eq!(read(b"PENSTOCK"), Err(Unfit::Foreign));
    let mut newer = bytes.clone();
    newer[11] = 2;
    assert_eq!(read(&newer), Err(Unfit::Version(2)));
    // What may be chosen anew at every start.
    let mut other = options();
    (other.account.serve_stale, other.account.stale_grace_us) = (true, Some(1));
    assert!(Checkpoint::from_bytes(&bytes, 0, &Basis::new("changes", &other)).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// No checksum is proof against whoever can make one: what is read then is refused, or it is a checkpoint, and nothing
    /// worse.
    #[test]
    fn a_body_that_makes_no_sense_is_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
        let mut bytes = BYTES.get_or_init(bytes).clone();
        let length = bytes.len() - HEAD_BYTES;
        changes.iter().for_each(|(index, byte)| bytes[HEAD_BYTES + index.index(length)] = *byte);
        if let Some(cut) = cut {
            bytes.truncate(HEAD_BYTES + cut.index(length));
        }
        let length = (bytes.len() - HEAD_BYTES) as u64;
        bytes[12..20].copy_from_slice(&length.to_be_bytes());
        let hash = Sha256::new().chain_update(&bytes[..20]).chain_update(&bytes[HEAD_BYTES..]).finalize();
        bytes[20..HEAD_BYTES].copy_from_slice(&hash);
        match read(&bytes) {
            Ok(checkpoint) => prop_assert!(checkpoint.accounts.len() <= bytes.len()),
            Err(unfit) => prop_assert!(unfit != Unfit::Checksum && unfit != Unfit::Foreign, "{unfit:?}"),
        }
    }
}
