//! A bridge: how the commits of its database come into the topic.
//!
//! It keeps what a test may ask: every state that the database had, and everything that was ever committed to the topic.

use std::collections::{BTreeMap, BTreeSet};

use penstock_access::partition::{Kind, Record};
use penstock_access::rows::Micros;
use penstock_wire::control::{Control, ControlKind};
use penstock_wire::header::Header;
use penstock_wire::lsn::{CommitLsn, EndLsn};
use penstock_wire::position::{Position, Seq};
use penstock_wire::progress::{KeyPin, PartitionProgress, Progress, Through};
use penstock_wire::reload::Scope;

use super::broker::{Broker, Fate, PARTITIONS};
use super::database::{Commit, Op, Past, Planned, Sort, State, TABLES};

#[derive(Clone, Debug)]
struct Open {
    transaction: u64,
    chain: [Position; PARTITIONS],
    next_offset: [i64; PARTITIONS],
    delivered: usize,
    touched: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
pub struct Source {
    pub number: u16,
    pub epoch: u32,
    pub rows: State,
    pub history: Vec<Past>,
    /// States that a failover has undone.
    pub phantoms: Vec<Past>,
    pub wal: Vec<Commit>,
    /// Commits before this index are delivered, as far as the bridge knows.
    delivered: usize,
    /// The epoch's first commit.
    epoch_start: usize,
    chain: [Position; PARTITIONS],
    next_offset: [i64; PARTITIONS],
    open: Option<Open>,
    /// A transaction that is committed, and the partitions that have no marker of it.
    late: Option<(u64, BTreeSet<usize>)>,
    /// What readers can read, for good.
    readable: [(Position, i64); PARTITIONS],
    pub archive: [Vec<Record<Op>>; PARTITIONS],
    unreadable: Vec<(usize, Record<Op>)>,
    pub reloads: BTreeMap<u64, (Scope, Position)>,
    load_complete: bool,
    split: Option<u64>,
    pub counter: u64,
}

impl Source {
    /// With rows from before the slot, which are then missing in the topic, or without.
    pub fn new(number: u16, rows_before: bool, broker: &mut Broker, now: Micros) -> Self {
        let mut source = Self {
            number,
            epoch: 0,
            rows: State::new(),
            history: Vec::new(),
            phantoms: Vec::new(),
            wal: Vec::new(),
            delivered: 0,
            epoch_start: 0,
            chain: Default::default(),
            next_offset: Default::default(),
            open: None,
            late: None,
            readable: Default::default(),
            archive: Default::default(),
            unreadable: Vec::new(),
            reloads: BTreeMap::new(),
            load_complete: !rows_before,
            split: None,
            counter: 0,
        };
        if rows_before {
            source.rows.insert((source.account(0), 0, 0), 1_000_000);
        }
        source.remember(now, 1);
        source.begin_epoch(
            broker,
            now,
            if rows_before { "incomplete: rows from before" } else { "complete: empty" },
            false,
        );
        source
    }

    fn position(&self, lsn: u64, seq: u64) -> Position {
        Position { epoch: self.epoch, commit_lsn: CommitLsn::new(lsn), seq: Seq(seq) }
    }

    /// Begins a Kafka transaction and writes commits to it; with `split`, a part of one more.
    pub fn produce(&mut self, broker: &mut Broker, commits: usize, split: Option<usize>) {
        if self.open.is_some() {
            return;
        }
        self.write_markers(broker);
        let (chain, next_offset) = (self.chain, self.next_offset);
        let transaction = broker.begin();
        let delivered = self.delivered;
        self.open = Some(Open { transaction, chain, next_offset, delivered, touched: BTreeSet::new() });
        for _ in 0..commits {
            if let Some(commit) = self.wal.get(self.delivered).cloned() {
                self.write(broker, &commit, commit.records.len());
                self.split = None;
                self.delivered += 1;
            }
        }
        let next =
            self.wal.get(self.delivered).filter(|commit| commit.sort == Sort::Plain && !commit.records.is_empty());
        if let (Some(cut), Some(commit)) = (split, next.cloned()) {
            self.write(broker, &commit, cut % commit.records.len());
            self.split = Some(commit.lsn);
        }
    }

    /// Writes the first so many records of a commit. If that is not all, each partition's newest waits for the next part.
    fn write(&mut self, broker: &mut Broker, commit: &Commit, count: usize) {
        let whole = count == commit.records.len();
        for (index, planned) in commit.records[..count].iter().enumerate() {
            let position = self.position(commit.lsn, planned.seq);
            let is_newest = |until: &[Planned]| !until.iter().any(|one| one.partition == planned.partition);
            if position <= self.chain[planned.partition] || (!whole && is_newest(&commit.records[index + 1..count])) {
                continue;
            }
            let flag = is_newest(&commit.records[index + 1..]);
            let mut planned = planned.clone();
            if let Kind::Control(control) = &mut planned.kind {
                match commit.sort {
                    Sort::Begin(id) => {
                        self.reloads.get_mut(&id).expect("a reload").1 = position;
                        control.begin = Some(position);
                    }
                    Sort::End(id) => control.begin = Some(self.reloads[&id].1),
                    Sort::Plain | Sort::Chunk(_) => {}
                }
            }
            self.put(broker, planned, position, flag, commit.time);
        }
    }

    fn put(&mut self, broker: &mut Broker, planned: Planned, position: Position, flag: bool, time: Micros) {
        let Planned { partition, key, account, kind, .. } = planned;
        let previous = std::mem::replace(&mut self.chain[partition], position);
        let header = Header { end_of_transaction: flag, identity_only: false, source: self.number, position, previous };
        let timestamp_ms = time.0.div_euclid(1000);
        let record = Record { offset: 0, timestamp_ms, bytes: 1, header, account, kind };
        let open = self.open.as_mut().expect("an open transaction");
        open.touched.insert(partition);
        let offset = broker.logs[partition].append(open.transaction, key, record.clone());
        self.next_offset[partition] = offset + 1;
        self.unreadable.push((partition, Record { offset, ..record }));
    }

    /// Commits the open transaction; partitions in `late` get their marker later. Progress is readable at once.
    pub fn finish(&mut self, broker: &mut Broker, late: u8, now: Micros) {
        let Some(open) = self.open.take() else { return };
        let late: BTreeSet<usize> = open.touched.iter().copied().filter(|p| late & (1 << p) != 0).collect();
        self.late = Some((open.transaction, open.touched));
        let delivered: Vec<Sort> = self.wal[open.delivered..self.delivered].iter().map(|commit| commit.sort).collect();
        for sort in delivered {
            if let Sort::End(id) = sort {
                self.load_complete |= self.reloads[&id].0 == Scope::default();
            }
        }
        self.settle_markers(broker, &late);
        self.heartbeat(broker, now);
    }

    pub fn write_markers(&mut self, broker: &mut Broker) {
        self.settle_markers(broker, &BTreeSet::new());
    }

    fn settle_markers(&mut self, broker: &mut Broker, still_late: &BTreeSet<usize>) {
        let Some((transaction, partitions)) = self.late.take() else { return };
        for partition in partitions.difference(still_late) {
            broker.logs[*partition].decide(transaction, Fate::Committed);
            self.readable[*partition] = (self.chain[*partition], self.next_offset[*partition]);
        }
        let (waiting, readable) =
            std::mem::take(&mut self.unreadable).into_iter().partition(|(partition, _)| still_late.contains(partition));
        self.unreadable = waiting;
        let readable: Vec<(usize, Record<Op>)> = readable;
        readable.into_iter().for_each(|(partition, record)| self.archive[partition].push(record));
        if !still_late.is_empty() {
            self.late = Some((transaction, still_late.clone()));
        }
    }

    pub fn abort(&mut self, broker: &mut Broker) {
        let Some(open) = self.open.take() else { return };
        open.touched.iter().for_each(|p| broker.logs[*p].decide(open.transaction, Fate::Aborted));
        self.unreadable.clear();
        self.split = None;
        (self.chain, self.next_offset) = (open.chain, open.next_offset);
        let written = std::mem::replace(&mut self.delivered, open.delivered);
        self.forget_chunks(written);
    }

    /// The broker forgets the end of what has no marker, and a new bridge believes what can be read.
    pub fn crash(&mut self, broker: &mut Broker, now: Micros) {
        self.abort(broker);
        if let Some((transaction, partitions)) = self.late.take() {
            partitions.iter().for_each(|p| broker.logs[*p].decide(transaction, Fate::Aborted));
            self.unreadable.clear();
        }
        self.chain = self.readable.map(|(position, _)| position);
        self.next_offset = self.readable.map(|(_, offset)| offset);
        let is_readable = |commit: &Commit| {
            commit.records.iter().all(|one| self.position(commit.lsn, one.seq) <= self.chain[one.partition])
        };
        let first = self.epoch_start + self.wal[self.epoch_start..].iter().take_while(|one| is_readable(one)).count();
        let written = self.delivered;
        self.delivered = self.delivered.min(first);
        self.split = None;
        self.forget_chunks(written);
        self.heartbeat(broker, now);
    }

    /// Rows that were read beside the stream are not in it: their reload does not go on.
    fn forget_chunks(&mut self, written: usize) {
        let undone = self.wal[self.delivered..written.max(self.delivered)].iter();
        let gone: BTreeSet<u64> =
            undone.filter_map(|one| if let Sort::Chunk(id) = one.sort { Some(id) } else { None }).collect();
        let of_gone = |sort| match sort {
            Sort::Chunk(id) | Sort::End(id) => gone.contains(&id),
            Sort::Plain | Sort::Begin(_) => false,
        };
        let kept = self.delivered;
        let mut index = 0;
        self.wal.retain(|one| {
            index += 1;
            index <= kept || !of_gone(one.sort)
        });
        if gone.iter().any(|id| self.reloads[id].0 == Scope::default()) {
            self.load_complete = false;
        }
    }

    /// A standby takes over. It lacks the last so many commits; or, with `gap`, they are there, and nobody will send them.
    pub fn fail_over(&mut self, broker: &mut Broker, lost: usize, gap: bool, now: Micros) {
        self.abort(broker);
        self.write_markers(broker);
        let begun = self.wal.get(self.delivered).is_some_and(|one| {
            one.records.iter().any(|record| self.position(one.lsn, record.seq) <= self.chain[record.partition])
        });
        if begun {
            return;
        }
        let keep = if gap { self.delivered } else { self.wal.len().saturating_sub(lost).max(self.delivered) };
        let first = self.wal.get(keep).map_or(u64::MAX, |commit| commit.lsn);
        self.wal.truncate(keep);
        if !gap {
            let at = self.history.iter().position(|past| past.lsn >= first).unwrap_or(self.history.len());
            // What was numbered once is not numbered again.
            self.phantoms.extend(self.history.split_off(at));
            self.rows = self.history.last().expect("the first state").state.clone();
            let next =
                self.phantoms.last().map_or(1, |past| past.lsn).max(self.history.last().map_or(1, |one| one.lsn));
            self.remember(now, next);
        }
        self.begin_epoch(broker, now, "complete: what may be missing is told apart", gap);
    }

    fn begin_epoch(&mut self, broker: &mut Broker, now: Micros, detail: &str, gap: bool) {
        self.epoch += 1;
        self.epoch_start = self.delivered;
        let transaction = broker.begin();
        let (chain, next_offset, delivered) = (self.chain, self.next_offset, self.delivered);
        self.open = Some(Open { transaction, chain, next_offset, delivered, touched: BTreeSet::new() });
        for partition in 0..PARTITIONS {
            let begin = (self.epoch > 1).then_some(self.chain[partition]);
            let epoch = self.control(0, partition, &Control::epoch(begin, detail.to_owned()));
            self.put(broker, epoch, self.position(0, 0), true, now);
            if gap {
                let gap = Control { kind: ControlKind::Gap, ..Control::truncate("", "") };
                let gap = self.control(8, partition, &gap);
                self.put(broker, gap, self.position(0, 8), true, now);
            }
        }
        self.finish(broker, 0, now);
    }

    /// Publishes progress, unless a Kafka transaction is open.
    pub fn heartbeat(&mut self, broker: &mut Broker, now: Micros) {
        if self.open.is_some() {
            return;
        }
        let pin =
            |table: &&str| KeyPin { schema: "public".to_owned(), table: (*table).to_owned(), ..KeyPin::default() };
        let last = self.delivered.checked_sub(1).map_or(1, |index| self.wal[index].lsn);
        let partitions = (0..PARTITIONS).map(|partition| PartitionProgress {
            partition: u32::try_from(partition).expect("few partitions"),
            last: self.chain[partition],
            next_offset: self.next_offset[partition],
        });
        broker.progress.push(Progress {
            source_number: self.number,
            epoch: self.epoch,
            topic_id: "topic".to_owned(),
            end_lsn: EndLsn::new(last + 1),
            through: Through { commit_lsn: CommitLsn::new(self.split.unwrap_or(last)), ..Through::default() },
            partitions: partitions.collect(),
            key_pins: TABLES.iter().map(pin).collect(),
            postgres_clock_us: self.wal.get(self.delivered).map_or(now.0, |next| next.time.0 - 1),
            load_complete: self.load_complete,
            ..Progress::default()
        });
    }

    /// Brings everything into the topic.
    pub fn deliver_everything(&mut self, broker: &mut Broker, now: Micros) {
        self.finish(broker, 0, now);
        self.write_markers(broker);
        self.produce(broker, self.wal.len() - self.delivered, None);
        self.finish(broker, 0, now);
    }
}
