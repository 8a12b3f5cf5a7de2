//! A bridge, messages as Postgres writes them, and a Kafka that answers when told to.

use std::time::Duration;

use penstock_core::batch::Record;
use penstock_core::bridge::{Action, Bridge, Settings, Stop, Wal};
use penstock_core::fault::Fault;
use penstock_core::ledger::Delivered;
use penstock_core::limits::Limits;
use penstock_core::oversize::Suspect;
use penstock_core::relation::{CatalogFacts, Rules};
use penstock_wire::header::Header;
use penstock_wire::lsn::{EndLsn, Lsn};
use penstock_wire::partition::Partitioner;
use penstock_wire::progress::Progress;
use penstock_wire::table::SourceInfo;
use penstock_wire::types::{TypeInfo, ValueKind};

pub const NOW: Duration = Duration::from_millis(100);
pub const EPOCH_2000_US: i64 = 946_684_800_000_000;

pub fn settings(part_age_max: Option<Duration>) -> Settings {
    Settings {
        source: SourceInfo { name: "main".into(), number: 1, database: "db".into() },
        partitioner: Partitioner::new(3).unwrap(),
        namespace: "test".into(),
        source_in_key: false,
        control_schema_ids: (1, 2),
        session: "session".into(),
        rules: Rules { account_column: "account".into(), ..Rules::default() },
        limits: Limits { part_age_max, ..Limits::default() },
    }
}

/// Partition, key, value, header.
pub type Produced = (u32, Vec<u8>, Option<Vec<u8>>, Header);

/// How a bridge treats what is too large.
#[derive(Clone, Copy, Default)]
pub struct Large {
    pub part_age_max: Option<Duration>,
    pub suspect: Option<Suspect>,
}

/// A bridge and what it has done, with a Kafka that answers when told to.
pub struct World {
    pub bridge: Bridge,
    /// What is in the topic, committed or not.
    pub records: Vec<Produced>,
    pub commits: Vec<Progress>,
    pub confirmed: Vec<u64>,
    pub stopped: Option<Stop>,
    /// Relations that were asked about, by name.
    pub asked: Vec<String>,
    /// Why one of them cannot be captured.
    pub refused: Option<Fault>,
    pub now: Duration,
    start: Progress,
    large: Large,
    undelivered: Vec<Delivered>,
    /// By commit: how many records there were.
    marks: Vec<usize>,
    offsets: [i64; 3],
}

impl World {
    pub fn new(end: u64) -> Self {
        Self::with(end, Large::default())
    }

    pub fn with(end: u64, large: Large) -> Self {
        let start = Progress { epoch: 1, end_lsn: EndLsn::new(end), partition_count: 3, ..Progress::default() };
        Self::start(start, large)
    }

    pub fn resume(progress: Progress) -> Self {
        Self::start(progress, Large::default())
    }

    fn start(start: Progress, large: Large) -> Self {
        let mut bridge = Bridge::new(settings(large.part_age_max), start.clone(), Duration::ZERO);
        if let Some(suspect) = large.suspect {
            bridge.heed(suspect);
        }
        let mut offsets = [0; 3];
        start.partitions.iter().for_each(|entry| offsets[entry.partition as usize] = entry.next_offset);
        Self {
            bridge,
            records: Vec::new(),
            commits: Vec::new(),
            confirmed: Vec::new(),
            stopped: None,
            asked: Vec::new(),
            refused: None,
            now: NOW,
            start,
            large,
            undelivered: Vec::new(),
            marks: Vec::new(),
            offsets,
        }
    }

    /// Killed, and started again behind the newest progress. A commit without its answer may have come through.
    pub fn crash(mut self, commit_came_through: bool) -> Self {
        let committed = if commit_came_through { self.commits.len() } else { self.confirmed.len() };
        let progress = committed.checked_sub(1).map_or(&self.start, |newest| &self.commits[newest]).clone();
        self.marks.truncate(committed);
        self.commits.truncate(committed);
        self.records.truncate(self.marks.last().copied().unwrap_or(0));
        let mut offsets = [0; 3];
        self.records.iter().for_each(|record| offsets[record.0 as usize] += 1);
        let confirmed = self.commits.iter().map(|progress| progress.end_lsn.raw()).collect();
        let Self { records, commits, marks, large, .. } = self;
        Self { records, commits, confirmed, marks, offsets, ..Self::start(progress, large) }
    }

    pub fn feed(&mut self, payload: &[u8]) {
        assert!(self.bridge.wants_wal());
        self.bridge.handle_wal(Wal::Data { start: Lsn(1), sent_at_us: EPOCH_2000_US, payload }, self.now);
        self.act();
    }

    pub fn keepalive(&mut self, wal_end: u64) {
        self.bridge.handle_wal(Wal::Keepalive { wal_end: EndLsn::new(wal_end) }, self.now);
        self.act();
    }

    pub fn drained(&mut self) {
        self.bridge.handle_drained(self.now);
        self.act();
    }

    pub fn tick(&mut self, now: Duration) {
        self.now = now;
        self.bridge.handle_tick(now);
        self.act();
    }

    pub fn deliver(&mut self) {
        let reports = std::mem::take(&mut self.undelivered);
        self.bridge.handle_delivered(reports, self.now);
        self.act();
    }

    /// The commit returned, and a reader has seen it.
    pub fn committed(&mut self) {
        self.bridge.handle_committed(self.now);
        self.act();
        self.readable();
    }

    pub fn readable(&mut self) {
        self.bridge.handle_readable(self.now);
        self.act();
    }

    pub fn is_committing(&self) -> bool {
        self.commits.len() > self.confirmed.len()
    }

    pub fn act(&mut self) {
        while let Some(action) = self.bridge.poll_action() {
            match action {
                Action::Produce(mut batch) => batch.drain().for_each(|record| self.produced(record)),
                Action::NeedSchema(relation) => {
                    self.asked.push(relation.table.clone());
                    let facts = facts(relation.columns.len());
                    match self.bridge.describe(&relation, facts) {
                        Ok(table) => self.bridge.handle_schema_ready(table, 10, 11, self.now),
                        Err(fault) => self.refused = Some(fault),
                    }
                }
                Action::Commit(progress) => self.commit(*progress),
                // Reloads have a world of their own.
                Action::Backfill(_) => {}
                Action::Confirm(end) => self.confirmed.push(end.end_lsn.raw()),
                Action::Stopped(stop) => self.stopped = Some(stop),
            }
        }
    }

    /// Progress says exactly what is in the topic at that moment.
    fn commit(&mut self, progress: Progress) {
        for entry in &progress.partitions {
            if let Some(newest) = self.records.iter().rev().find(|record| record.0 == entry.partition) {
                assert_eq!(entry.last, newest.3.position, "partition {}", entry.partition);
                assert_eq!(entry.next_offset, self.offsets[entry.partition as usize]);
            }
        }
        self.marks.push(self.records.len());
        self.commits.push(progress);
    }

    fn produced(&mut self, record: Record<'_>) {
        let offset = &mut self.offsets[record.partition.index()];
        let bytes = record.key.len() + record.value.map_or(0, <[u8]>::len);
        let header = Header::decode(&record.header).unwrap();
        self.records.push((record.partition.number(), record.key.to_vec(), record.value.map(<[u8]>::to_vec), header));
        self.undelivered.push(Delivered { ticket: record.ticket, partition: record.partition, offset: *offset, bytes });
        *offset += 1;
    }
}

/// Of a table of text columns with the key `id`.
pub fn facts(columns: usize) -> CatalogFacts {
    let text = TypeInfo { kind: ValueKind::Text, pg_type: "text".into(), pg_base: None };
    CatalogFacts { types: vec![text; columns], variable_length: vec![true; columns], primary_key: vec!["id".into()] }
}

pub fn begin(commit: u64, xid: u32) -> Vec<u8> {
    [&b"B"[..], &commit.to_be_bytes(), &0_i64.to_be_bytes(), &xid.to_be_bytes()].concat()
}

pub fn commit(commit: u64, end: u64) -> Vec<u8> {
    [&b"C\0"[..], &commit.to_be_bytes(), &end.to_be_bytes(), &0_i64.to_be_bytes()].concat()
}

/// A message of the event triggers.
pub fn ddl(content: &str) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [b"M\x01\0\0\0\0\0\0\0\x01penstock.ddl\0", &length[..], content.as_bytes()].concat()
}

/// `public.t (id text, account text, note text)`, identity FULL, OID 16384.
pub fn relation() -> Vec<u8> {
    relation_of(["id", "account", "note"])
}

/// The same table with other names of its columns.
pub fn relation_of(columns: [&str; 3]) -> Vec<u8> {
    let mut bytes = b"R\0\0\x40\0public\0t\0f\0\x03".to_vec();
    for name in columns {
        bytes.push(1);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b"\0\0\0\0\x19\xff\xff\xff\xff");
    }
    bytes
}

pub fn tuple(columns: &[Option<&str>]) -> Vec<u8> {
    let mut bytes = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
    for column in columns {
        match column {
            None => bytes.push(b'n'),
            Some(text) => {
                bytes.push(b't');
                bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    bytes
}

pub fn insert(id: &str, account: Option<&str>) -> Vec<u8> {
    insert_note(id, account, "n")
}

pub fn insert_note(id: &str, account: Option<&str>, note: &str) -> Vec<u8> {
    [b"I\0\0\x40\0N".to_vec(), tuple(&[Some(id), account, Some(note)])].concat()
}

/// Of the one table.
pub fn truncate() -> Vec<u8> {
    b"T\0\0\0\x01\0\0\0\x40\0".to_vec()
}

pub fn update(id: &str, from: &str, to: &str) -> Vec<u8> {
    let (old, new) = (tuple(&[Some(id), Some(from), Some("n")]), tuple(&[Some(id), Some(to), Some("m")]));
    [b"U\0\0\x40\0O".to_vec(), old, b"N".to_vec(), new].concat()
}

pub fn one_insert(world: &mut World, at: u64) {
    world.feed(&begin(at, 7));
    world.feed(&relation());
    world.feed(&insert("1", Some("a")));
    world.feed(&commit(at, at + 50));
}
