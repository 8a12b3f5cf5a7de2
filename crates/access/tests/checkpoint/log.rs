//! A topic of one partition as the bridge would have written it, and a reader of it as a service is one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use penstock_access::account;
use penstock_access::checkpoint::{Basis, Checkpoint};
use penstock_access::decode::Names;
use penstock_access::partition::{self, Isolation};
use penstock_access::replica::{Options, Output, Problem, ProblemKind, RawRecord, Replica};
use penstock_access::rows::{Micros, Table};
use penstock_wire::event::Op;
use penstock_wire::header::Header;
use penstock_wire::lsn::{CommitLsn, EndLsn};
use penstock_wire::partition::Partitioner;
use penstock_wire::position::{Position, Seq};
use penstock_wire::progress::{KeyPin, PartitionProgress, Progress};

use crate::fixture::{self, Cells};

/// All happens long before it is read: compaction may have taken anything.
pub const READ_AT: Micros = Micros(1_800_000_000_000_000);

#[derive(Clone, Debug)]
pub struct Written {
    pub offset: i64,
    pub header: Header,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// Everything that was written, and where the next record stands.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub records: Vec<Written>,
    next_offset: i64,
    last: Position,
    commits: u64,
}

/// What a transaction does to a row.
#[derive(Clone, Debug)]
pub struct Deed {
    pub table: Table,
    pub op: Op,
    pub cells: Cells,
}

pub fn options() -> Options {
    Options {
        account: account::Options::default(),
        partition: partition::Options {
            isolation: Isolation::ReadCommitted,
            stale_after: Duration::from_secs(10),
            compaction_lag: Duration::from_secs(1_000),
            tombstone_retention: Duration::from_secs(5_000),
        },
        names: Names::default(),
        partitions: Partitioner::new(1).expect("one partition"),
    }
}

pub fn basis() -> Basis {
    Basis::new("changes", &options())
}

/// The ids of a table's schemas: of its keys, and of its values.
fn schema_ids(table: Table) -> (u32, u32) {
    let number = 1 + Table::ALL.iter().position(|of| *of == table).expect("it is a table") as u32;
    (number * 2, number * 2 + 1)
}

impl Log {
    /// A transaction. A delete is followed by its tombstone.
    pub fn commit(&mut self, deeds: &[Deed]) {
        self.commits += 1;
        let last = deeds.len() - 1;
        for (index, Deed { table, op, cells }) in deeds.iter().enumerate() {
            let shape = fixture::shape(*table);
            let record = fixture::encode(&shape, *op, cells);
            let (key_id, value_id) = schema_ids(*table);
            let (key, value) = (framed(record.key, key_id), framed(record.value, value_id));
            let flag = index == last;
            match op {
                Op::Delete => {
                    self.write((index, 0), false, key.clone(), Some(value));
                    self.write((index, 1), flag, key, None);
                }
                _ => self.write((index, 0), flag, key, Some(value)),
            }
        }
    }

    fn write(&mut self, (index, part): (usize, u64), flag: bool, key: Vec<u8>, value: Option<Vec<u8>>) {
        let commit_lsn = CommitLsn::new(self.commits * 0x100);
        let position = Position { epoch: 1, commit_lsn, seq: Seq(8 * (1 + index as u64) + part) };
        let previous = std::mem::replace(&mut self.last, position);
        let header = Header { end_of_transaction: flag, identity_only: false, source: 7, position, previous };
        self.records.push(Written { offset: self.next_offset, header, key, value });
        self.next_offset += 1;
    }

    /// Takes what a later record of the same key replaces, and half of the tombstones.
    pub fn compact(&mut self) {
        let newest: BTreeMap<Vec<u8>, i64> =
            self.records.iter().map(|record| (record.key.clone(), record.offset)).collect();
        let is_kept = |record: &Written| record.value.is_some() || record.offset % 2 == 0;
        self.records.retain(|record| newest[&record.key] == record.offset && is_kept(record));
    }

    fn progress(&self) -> Progress {
        let pin =
            |table: Table| KeyPin { schema: "public".to_owned(), table: table.name().to_owned(), ..KeyPin::default() };
        Progress {
            source_number: 7,
            epoch: 1,
            partition_count: 1,
            topic_id: "topic".to_owned(),
            end_lsn: EndLsn::new(self.last.commit_lsn.raw() + 1),
            partitions: vec![PartitionProgress { partition: 0, last: self.last, next_offset: self.next_offset }],
            key_pins: Table::ALL.map(pin).to_vec(),
            postgres_clock_us: READ_AT.0,
            load_complete: true,
            ..Progress::default()
        }
    }
}

fn framed(mut bytes: Vec<u8>, id: u32) -> Vec<u8> {
    bytes[1..5].copy_from_slice(&id.to_be_bytes());
    bytes
}

/// A service, but for the sockets.
#[derive(Debug)]
pub struct Reader {
    pub replica: Replica,
    offset: i64,
    pub read: usize,
    pub rebuilds: usize,
    pub ended: BTreeSet<uuid::Uuid>,
}

impl Reader {
    /// From the beginning.
    pub fn new() -> Self {
        let mut reader = Self::unassigned();
        reader.replica.assign(0, READ_AT);
        reader
    }

    /// As a new process.
    pub fn start_again(&mut self) {
        let ended = std::mem::take(&mut self.ended);
        *self = Self { ended, ..Self::unassigned() };
    }

    /// The partition is another instance's for a while.
    pub fn release(&mut self) {
        self.replica.revoke(0, READ_AT);
        self.drain();
        (self.offset, self.read, self.rebuilds) = (0, 0, 0);
    }

    /// The partition is this one's, from where a checkpoint says, or from its beginning.
    pub fn resume(&mut self, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else { return self.replica.assign(0, READ_AT) };
        let checkpoint = Checkpoint::from_bytes(bytes, 0, &basis()).expect("it was written so");
        self.offset = checkpoint.point.offset();
        self.replica.resume(checkpoint.point, checkpoint.accounts, READ_AT);
    }

    fn unassigned() -> Self {
        let mut replica = Replica::new(options());
        for table in Table::ALL {
            let plan = fixture::plan(&fixture::shape(table));
            let (key, value) = schema_ids(table);
            replica.handle_schema(key, Some(plan.key_schema()));
            replica.handle_schema(value, Some(plan.envelope_schema()));
        }
        Self { replica, offset: 0, read: 0, rebuilds: 0, ended: BTreeSet::new() }
    }

    /// The next records, so many of them. Whether it has to begin anew.
    pub fn read(&mut self, log: &Log, records: usize) -> bool {
        let from = log.records.partition_point(|record| record.offset < self.offset);
        for record in log.records[from..].iter().take(records) {
            let raw = RawRecord {
                partition: 0,
                offset: record.offset,
                timestamp_ms: fixture::COMMIT_TIME_US / 1000,
                header: Some(&record.header.encode()),
                is_control: false,
                key: &record.key,
                value: record.value.as_deref(),
            };
            self.replica.handle_record(&raw, READ_AT).expect("every schema is known");
            (self.offset, self.read) = (record.offset + 1, self.read + 1);
            if self.drain() {
                return true;
            }
        }
        false
    }

    /// All that there is, and what progress says of it.
    pub fn catch_up(&mut self, log: &Log) {
        for _ in 0..3 {
            if self.read(log, usize::MAX) {
                continue;
            }
            self.replica.handle_end(0, log.next_offset, READ_AT);
            // A position that was adopted is believed when it is said again.
            for _ in 0..2 {
                self.replica.handle_progress(&log.progress(), READ_AT);
            }
            if !self.drain() {
                return;
            }
        }
        panic!("it begins anew again and again");
    }

    /// Whether it has to be read from the beginning.
    fn drain(&mut self) -> bool {
        let mut begins_anew = false;
        while let Some(output) = self.replica.poll_output() {
            match output {
                Output::Read { .. } => {
                    (self.offset, begins_anew) = (0, true);
                    self.rebuilds += 1;
                }
                Output::EndedFlow { flow, .. } => drop(self.ended.insert(flow.id)),
                // The sample's condition is none that anybody knows, and parents come and go as they like.
                Output::Problem(Problem { kind: ProblemKind::Policy { .. } | ProblemKind::Orphan { .. }, .. })
                | Output::Channel { .. } => {}
                Output::Problem(problem) => panic!("{problem:?}"),
            }
        }
        begins_anew
    }

    /// None while it is not live.
    pub fn save(&self) -> Option<Vec<u8>> {
        let (point, accounts) = self.replica.save(0)?;
        Some(Checkpoint { point, accounts }.to_bytes(&basis()))
    }
}
