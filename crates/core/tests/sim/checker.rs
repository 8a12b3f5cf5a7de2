//! What must hold of the topic and of the slot, told from nothing but what committed, what the logs hold, and what was
//! confirmed. It knows the wire contract, and nothing of the bridge.

use std::collections::BTreeMap;

use penstock_core::backfill::interface::MARK_PREFIX;
use penstock_wire::account::Account;
use penstock_wire::control::ControlKind;
use penstock_wire::decode::account_of_key;
use penstock_wire::framing;
use penstock_wire::header::{FLAGS_OFFSET, HEADER_LENGTH, Header};
use penstock_wire::lsn::CommitLsn;
use penstock_wire::partition::Partitioner;
use penstock_wire::position::{Position, Seq};

use crate::broker::{Fate, Log, PARTITIONS, Stored, Written};
use crate::postgres::{Commit, Event};
use crate::tables::{Row, TABLES};

/// Where the header's previous position begins.
const PREVIOUS_OFFSET: usize = HEADER_LENGTH - 20;

/// A record that the contract asks for.
#[derive(Clone, Debug, PartialEq)]
struct Due {
    position: Position,
    what: What,
    /// The transaction's last in its partition.
    is_last: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Row { account: String, table: usize },
    Tombstone { account: String },
    Truncate { table: usize },
}

/// What readers of one partition can read.
#[derive(Debug, Default)]
struct Partition {
    due: Vec<Due>,
    /// Those before this index can be read.
    next: usize,
    last: Position,
    /// Everything below was looked at.
    offset: i64,
}

#[derive(Debug)]
pub struct Checker {
    partitioner: Partitioner,
    partitions: [Partition; PARTITIONS],
    /// By commit LSN: a mark, where rows of a backfill and its controls may stand.
    marks: BTreeMap<u64, bool>,
    /// As they were first written, by position and, of controls, place.
    bytes: BTreeMap<(Position, Option<usize>), (usize, Written)>,
    pub readable: u64,
}

/// Ends the run: a guarantee does not hold.
macro_rules! broken {
    ($guarantee:ident, $($what:tt)*) => {
        panic!("{}: {}", stringify!($guarantee), format!($($what)*))
    };
}
pub(crate) use broken;

impl Checker {
    pub fn new(partitioner: Partitioner) -> Self {
        let (partitions, marks, bytes) = Default::default();
        Self { partitioner, partitions, marks, bytes, readable: 0 }
    }

    fn partition(&self, account: &str) -> usize {
        self.partitioner.partition(Account::from_column(Some(account.as_bytes())).expect("an account")).index()
    }

    /// A transaction has committed: its records are due, each in its partition and at its position.
    pub fn committed(&mut self, commit: &Commit) {
        let is_mark = |event: &Event| matches!(event, Event::Message(prefix, _) if prefix == MARK_PREFIX);
        if commit.events.iter().any(is_mark) {
            self.marks.insert(commit.lsn, true);
        }
        let starts = [0, 1, 2].map(|place| self.partitions[place].due.len());
        let mut event_index = 0;
        for event in &commit.events {
            let seq = 8 * (1 + event_index);
            let at = |part| Position { epoch: 1, commit_lsn: CommitLsn::new(commit.lsn), seq: Seq(seq + part) };
            let mut put = |position, account: &str, what| {
                let place = self.partition(account);
                self.partitions[place].due.push(Due { position, what, is_last: false });
            };
            let account = |table: usize, row: &Row| TABLES[table].account_of(row).to_owned();
            match event {
                Event::Insert(table, row) => {
                    let account = account(*table, row);
                    put(at(0), &account.clone(), What::Row { account, table: *table });
                }
                Event::Delete(table, row) => {
                    let account = account(*table, row);
                    put(at(0), &account.clone(), What::Row { account: account.clone(), table: *table });
                    put(at(1), &account.clone(), What::Tombstone { account });
                }
                Event::Update(table, old, new) => {
                    let (from, to) = (account(*table, old), account(*table, new));
                    let moves = from != to || TABLES[*table].key_of(old) != TABLES[*table].key_of(new);
                    if moves {
                        put(at(0), &from.clone(), What::Row { account: from.clone(), table: *table });
                        put(at(1), &from.clone(), What::Tombstone { account: from });
                        put(at(2), &to.clone(), What::Row { account: to, table: *table });
                    } else if TABLES[*table].differs(old, new) {
                        put(at(0), &to.clone(), What::Row { account: to, table: *table });
                    }
                }
                Event::Truncate(tables) => {
                    for table in tables {
                        let seq = Seq(8 * (1 + event_index));
                        let position = Position { epoch: 1, commit_lsn: CommitLsn::new(commit.lsn), seq };
                        for partition in &mut self.partitions {
                            partition.due.push(Due {
                                position,
                                what: What::Truncate { table: *table },
                                is_last: false,
                            });
                        }
                        event_index += 1;
                    }
                    continue;
                }
                Event::Message(..) => {}
            }
            event_index += 1;
        }
        for (partition, start) in self.partitions.iter_mut().zip(starts) {
            if partition.due.len() > start {
                partition.due.last_mut().expect("there is one").is_last = true;
            }
        }
    }

    /// A record was written, to whatever fate. What was written before at its position was the same, to the byte.
    pub fn written(&mut self, place: usize, record: &Written) {
        let header = record.header();
        // Nobody's: it ends what has no end.
        if header.position == Position::ZERO || self.is_backfilled(&header) {
            return;
        }
        let key = (header.position, record.control.map(|_| place));
        let mut plain = record.clone();
        plain.header.iter_mut().for_each(|header| header[PREVIOUS_OFFSET..].fill(0));
        let first = self.bytes.entry(key).or_insert_with(|| (place, plain.clone()));
        if first.0 != place {
            broken!(G4, "{} was in partition {} and comes again in {place}", header.position, first.0);
        }
        if first.1 != plain {
            broken!(G4, "the record at {} of partition {place} comes again with other bytes", header.position);
        }
    }

    fn is_backfilled(&self, header: &Header) -> bool {
        self.marks.contains_key(&header.position.commit_lsn.raw())
    }

    /// More of a partition can be read.
    pub fn readable(&mut self, place: usize, log: &Log) {
        let end = log.end(crate::broker::View::Committed);
        let from = self.partitions[place].offset;
        let first = log.stored.partition_point(|stored| stored.offset < from);
        for stored in log.stored[first..].iter().take_while(|stored| stored.offset < end) {
            if stored.fate == Fate::Committed {
                self.readable += 1;
                self.record(place, stored);
            }
        }
        let partition = &mut self.partitions[place];
        partition.offset = end;
        if let Some(before) = partition.next.checked_sub(1).map(|index| &partition.due[index])
            && !before.is_last
        {
            broken!(G5, "half of transaction {} can be read in partition {place}", before.position.commit_lsn);
        }
    }

    fn record(&mut self, place: usize, stored: &Stored) {
        let header = stored.record.header();
        let position = header.position;
        let is_extra = self.is_backfilled(&header) || position.commit_lsn.raw() == 0;
        let partition = &mut self.partitions[place];
        if position <= partition.last {
            broken!(G5, "{position} can be read twice in partition {place}, which has {} already", partition.last);
        }
        if header.previous != partition.last {
            let (named, before) = (header.previous, partition.last);
            broken!(G2, "{position} of partition {place} follows {named}; what can be read before it is {before}");
        }
        partition.last = position;
        if !is_extra && partition.due.get(partition.next).is_none_or(|due| due.position != position) {
            self.place(position, place);
        }
        let partition = &mut self.partitions[place];
        let due = partition.due.get(partition.next);
        if let Some(due) = due.filter(|due| due.position < position) {
            broken!(G2, "{position} of partition {place} can be read, and {} before it cannot", due.position);
        }
        if is_extra {
            return;
        }
        let Some(due) = due.filter(|due| due.position == position) else {
            broken!(G4, "{position} in partition {place} is no record of the WAL; the next one is {due:?}");
        };
        let flagged = stored.record.header.is_some_and(|header| header[FLAGS_OFFSET] & 1 != 0);
        if flagged != due.is_last {
            broken!(G5, "{position} of partition {place}: end of transaction {flagged}, should be {}", due.is_last);
        }
        if !is_what(&stored.record, &due.what) {
            broken!(G3, "{position} of partition {place} should be {:?}, and is {:?}", due.what, stored.record);
        }
        partition.next += 1;
    }

    /// A record that is not the next one of its partition may be another's.
    fn place(&self, position: Position, place: usize) {
        let is_due = |partition: &Partition| partition.due.binary_search_by(|due| due.position.cmp(&position)).is_ok();
        let due: Vec<usize> = (0..PARTITIONS).filter(|place| is_due(&self.partitions[*place])).collect();
        if !due.is_empty() && !due.contains(&place) {
            broken!(G3, "{position} is in partition {place}, and its account in {due:?}");
        }
    }

    /// The slot is told that everything before `lsn` is delivered.
    pub fn confirmed(&self, lsn: u64) {
        for (place, partition) in self.partitions.iter().enumerate() {
            if let Some(due) = partition.due.get(partition.next)
                && due.position.commit_lsn.raw() < lsn
            {
                let position = due.position;
                broken!(G1, "confirmed to {lsn}, and {position} cannot be read in partition {place}");
            }
        }
    }

    /// Nothing is in the way any more.
    pub fn settled(&self) {
        for (place, partition) in self.partitions.iter().enumerate() {
            if let Some(due) = partition.due.get(partition.next) {
                broken!(G5, "{} never became readable in partition {place}", due.position);
            }
        }
    }
}

fn is_what(record: &Written, what: &What) -> bool {
    let body = |bytes: &[u8]| framing::split(bytes).map(|(_, body)| body.to_vec()).expect("framed");
    let account = || account_of_key(&body(&record.key)).map(str::to_owned).expect("a key with an account");
    match what {
        What::Row { account: due, .. } => record.control.is_none() && record.value.is_some() && account() == *due,
        What::Tombstone { account: due } => record.control.is_none() && record.value.is_none() && account() == *due,
        What::Truncate { table } => {
            let control = penstock_wire::control::Control::decode(&body(record.value.as_deref().unwrap_or_default()));
            control.is_ok_and(|control| control.kind == ControlKind::Truncate && control.table == TABLES[*table].name)
        }
    }
}
