//! What is in flight, and what may be confirmed.
//!
//! Transactions of Postgres are gathered into *groups*; a group becomes one Kafka transaction. The ledger admits
//! records, is told of their delivery reports in any order, and gives away
//! - a group's progress only when every record of the group has its report, and
//! - a confirmed LSN only when that progress is committed, and readers can read what it covers.
//!
//! A transaction that is too large for one group is delivered in several, its *parts*: a part ends before what is held
//! back, and its end LSN stays that of the transactions before.
//!
//! Invariants, asserted: groups are committed in the order they were opened; at most the oldest group is closing or
//! committing; ends never go backwards; a record is settled once. A keepalive is an empty transaction, nothing else.

use std::collections::VecDeque;
use std::sync::Arc;

use penstock_wire::lsn::EndLsn;
use penstock_wire::partition::PartitionId;
use penstock_wire::position::Position;

use crate::backfill::Remembered;
use crate::batch::Topic;
use crate::limits::RECORD_OVERHEAD_BYTES;

/// Proof that a record was admitted. Not `Clone`: one record is settled by one delivery report.
///
/// Twice the group's number, and one more for a dead letter.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(u64);

impl Ticket {
    /// For the producer's opaque pointer.
    pub fn into_raw(self) -> u64 {
        self.0
    }

    /// Back from the producer's opaque pointer.
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    fn new(group: u64, topic: Topic) -> Self {
        Self(2 * group + u64::from(topic == Topic::DeadLetters))
    }

    fn group(&self) -> u64 {
        self.0 / 2
    }

    /// Which topic its record goes to.
    pub fn topic(&self) -> Topic {
        if self.0.is_multiple_of(2) { Topic::Changes } else { Topic::DeadLetters }
    }
}

/// A positive delivery report. A negative one never reaches the ledger: it ends the session.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The record's ticket.
    pub ticket: Ticket,
    /// The partition of the change topic it was written to; of a dead letter, any.
    pub partition: PartitionId,
    /// Its offset there.
    pub offset: i64,
    /// Its key's and value's length together.
    pub bytes: usize,
}

/// Identifies a commit that carried events: the last thing a restored server must still agree with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastCommit {
    /// Position of its last event (the epoch is the session's).
    pub last_event: Position,
    /// Its transaction id.
    pub xid: u32,
    /// Its commit time, Unix microseconds.
    pub commit_time_us: i64,
}

/// How far a partition has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionEnd {
    /// Position of the last record.
    pub last: Position,
    /// Offset behind the last record; 0 only if there is none.
    pub next_offset: i64,
}

/// All that a committed group makes durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEnd {
    /// Everything committed before it is delivered.
    pub end_lsn: EndLsn,
    /// The last commit that carried events.
    pub last_commit: LastCommit,
    /// Server's clock at `end_lsn`, Unix microseconds.
    pub postgres_clock_us: i64,
    /// Every partition, by number.
    pub partitions: Vec<PartitionEnd>,
    /// How far reloads have come.
    pub reloads: Arc<Remembered>,
    /// Records of the group.
    pub records: u64,
    /// Postgres transactions of the group that carried records.
    pub transactions: u64,
    /// Commit time of the group's oldest transaction, Unix microseconds; `None` if it has none.
    pub oldest_commit_time_us: Option<i64>,
}

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Takes transactions.
    Open,
    /// Takes no more; waits for its delivery reports.
    Closing,
    /// Its progress is on its way to being committed.
    Committing,
}

#[derive(Debug)]
struct Group {
    number: u64,
    phase: Phase,
    outstanding: u64,
    bytes: usize,
    end: GroupEnd,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Ledger {
    groups: VecDeque<Group>,
    /// Committed, and not yet seen by a reader.
    unseen: VecDeque<GroupEnd>,
    durable: EndLsn,
    in_flight_bytes: usize,
    in_flight_records: u64,
}

impl Ledger {
    /// Starts behind what is already durable.
    pub fn new(start: GroupEnd) -> Self {
        let durable = start.end_lsn;
        let end = GroupEnd { records: 0, transactions: 0, oldest_commit_time_us: None, ..start };
        let first = Group { number: 0, phase: Phase::Open, outstanding: 0, bytes: 0, end };
        Self {
            groups: VecDeque::from([first]),
            unseen: VecDeque::new(),
            durable,
            in_flight_bytes: 0,
            in_flight_records: 0,
        }
    }

    /// Begins an epoch of which no progress was written: nothing may be confirmed until the first group is committed, and
    /// until its first transaction is delivered there is no last one.
    pub fn begin_epoch(&mut self, epoch: u32) {
        self.durable = EndLsn::default();
        let last_event = Position { epoch, ..Position::ZERO };
        self.open().end.last_commit = LastCommit { last_event, xid: 0, commit_time_us: 0 };
    }

    /// Everything committed before this is durable in Kafka: what the slot may be told.
    pub fn durable(&self) -> EndLsn {
        self.durable
    }

    /// Bytes between admission and delivery report.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Records between admission and delivery report.
    pub fn in_flight_records(&self) -> u64 {
        self.in_flight_records
    }

    /// The group that takes transactions now.
    fn open(&mut self) -> &mut Group {
        self.groups.back_mut().expect("there is always an open group")
    }

    /// Records, bytes and transactions of the open group.
    pub fn open_size(&self) -> (u64, usize, u64) {
        self.groups.back().map_or((0, 0, 0), |group| (group.end.records, group.bytes, group.end.transactions))
    }

    /// What the open group would make durable so far.
    pub fn open_end(&self) -> &GroupEnd {
        &self.groups.back().expect("there is always an open group").end
    }

    /// A group is closing or committing, so the open one has to wait.
    pub fn is_busy(&self) -> bool {
        self.groups.len() > 1
    }

    /// Records have been handed to the producer whose reports are missing; `held` of those in flight have not been.
    pub fn awaits_reports(&self, held: usize) -> bool {
        self.in_flight_records > held as u64
    }

    /// Transactions with events that are not yet durable, and the oldest one's commit time.
    pub fn unacknowledged(&self) -> (u64, Option<i64>) {
        let ends = || self.unseen.iter().chain(self.groups.iter().map(|group| &group.end));
        (ends().map(|end| end.transactions).sum(), ends().find_map(|end| end.oldest_commit_time_us))
    }

    /// A group waits for its reports: what is produced now would fall into its Kafka transaction.
    pub fn is_closing(&self) -> bool {
        self.groups.front().is_some_and(|group| group.phase == Phase::Closing)
    }

    /// Takes a record into the open group.
    pub fn admit(&mut self, partition: PartitionId, position: Position, bytes: usize) -> Ticket {
        let end = &mut self.open().end.partitions[partition.index()];
        assert!(end.last < position, "position {position} is not above {} in partition {partition}", end.last);
        end.last = position;
        self.take(Topic::Changes, bytes)
    }

    /// Takes a dead letter into the open group. Its topic has no place in progress; its report is waited for all the same.
    pub fn admit_dead_letter(&mut self, bytes: usize) -> Ticket {
        self.take(Topic::DeadLetters, bytes)
    }

    fn take(&mut self, topic: Topic, bytes: usize) -> Ticket {
        self.in_flight_bytes += bytes + RECORD_OVERHEAD_BYTES;
        self.in_flight_records += 1;
        let group = self.open();
        group.outstanding += 1;
        group.bytes += bytes;
        group.end.records += 1;
        Ticket::new(group.number, topic)
    }

    /// A transaction of the open group is complete; everything admitted so far ends before `end_lsn`.
    pub fn seal(
        &mut self,
        end_lsn: EndLsn,
        commit: Option<LastCommit>,
        postgres_clock_us: i64,
        reloads: Arc<Remembered>,
    ) {
        let end = &mut self.open().end;
        end.reloads = reloads;
        assert!(end.end_lsn <= end_lsn, "end {end_lsn} is before {}", end.end_lsn);
        end.end_lsn = end_lsn;
        end.postgres_clock_us = end.postgres_clock_us.max(postgres_clock_us);
        if let Some(commit) = commit {
            end.last_commit = commit;
            end.transactions += 1;
            end.oldest_commit_time_us.get_or_insert(commit.commit_time_us);
        }
    }

    /// A record's delivery report has come.
    pub fn settle(&mut self, delivered: Delivered) {
        let Delivered { ticket, partition, offset, bytes } = delivered;
        let number = ticket.group();
        let group = self.groups.iter_mut().find(|group| group.number == number);
        let group = group.unwrap_or_else(|| panic!("a record of group {number} was settled, which is not in flight"));
        assert!(group.outstanding > 0, "more records of group {number} were settled than admitted");
        group.outstanding -= 1;
        match ticket.topic() {
            Topic::Changes => {
                let end = &mut group.end.partitions[partition.index()];
                end.next_offset = end.next_offset.max(offset + 1);
            }
            Topic::DeadLetters => {}
        }
        self.in_flight_records -= 1;
        self.in_flight_bytes -= bytes + RECORD_OVERHEAD_BYTES;
    }

    /// Closes the open group; later records go to a new one, which must wait until this one is committed.
    pub fn close(&mut self) {
        assert!(!self.is_busy(), "a group was closed while another is not yet committed");
        let group = self.open();
        group.phase = Phase::Closing;
        let end = GroupEnd { records: 0, transactions: 0, oldest_commit_time_us: None, ..group.end.clone() };
        let next = Group { number: group.number + 1, phase: Phase::Open, outstanding: 0, bytes: 0, end };
        self.groups.push_back(next);
    }

    /// Closes the open group in the middle of a transaction that is delivered up to `through`. Records that are held back
    /// are to be carried over.
    pub fn close_part(&mut self, through: LastCommit) {
        self.close();
        let part = self.groups.front_mut().expect("it was closed just now");
        part.end.last_commit = through;
    }

    /// Moves a record that was held back from the part that was just closed to the group behind it. `previous` is the
    /// position before it in its partition.
    pub fn carry_over(&mut self, ticket: &mut Ticket, partition: PartitionId, previous: Position, bytes: usize) {
        let [part, next] = self.groups.make_contiguous() else { panic!("a record is carried over without a part") };
        let group = ticket.group();
        assert_eq!((part.phase, part.number), (Phase::Closing, group), "a record of another group is carried over");
        match ticket.topic() {
            Topic::Changes => {
                let end = &mut part.end.partitions[partition.index()];
                assert!(previous < end.last, "position {previous} is not before {} in partition {partition}", end.last);
                end.last = previous;
            }
            Topic::DeadLetters => {}
        }
        part.outstanding -= 1;
        part.bytes -= bytes;
        part.end.records -= 1;
        next.outstanding += 1;
        next.bytes += bytes;
        next.end.records += 1;
        *ticket = Ticket::new(next.number, ticket.topic());
    }

    /// The closing group's end, once and only when all of its records are delivered.
    pub fn take_commit(&mut self) -> Option<&GroupEnd> {
        let group = self.groups.front_mut()?;
        if group.phase != Phase::Closing || group.outstanding > 0 {
            return None;
        }
        group.phase = Phase::Committing;
        let end = group.end.clone();
        // Offsets of this group are known only now; the next group, opened earlier, starts from them.
        if let Some(next) = self.groups.get_mut(1) {
            for (later, earlier) in next.end.partitions.iter_mut().zip(&end.partitions) {
                later.next_offset = later.next_offset.max(earlier.next_offset);
            }
        }
        self.groups.front().map(|group| &group.end)
    }

    /// The commit that was taken has returned: the next group may be committed.
    pub fn committed(&mut self) {
        let group = self.groups.pop_front().expect("there is always a group");
        assert_eq!(group.phase, Phase::Committing, "a commit was reported for a group that was not committing");
        self.unseen.push_back(group.end);
    }

    /// Readers can read the oldest committed group: everything before its end is durable.
    pub fn readable(&mut self) -> GroupEnd {
        let end = self.unseen.pop_front().expect("a group was readable that was not committed");
        assert!(self.durable <= end.end_lsn, "durable {} would go back to {}", self.durable, end.end_lsn);
        self.durable = end.end_lsn;
        end
    }

    /// Every group that was closed is committed, and readers can read it.
    pub fn is_settled(&self) -> bool {
        !self.is_busy() && self.unseen.is_empty()
    }

    /// Everything before this is committed, readable or not yet.
    pub fn committed_end(&self) -> EndLsn {
        self.unseen.back().map_or(self.durable, |end| end.end_lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_wire::lsn::CommitLsn;
    use penstock_wire::partition::Partitioner;
    use penstock_wire::position::Seq;

    fn ledger() -> Ledger {
        Ledger::new(GroupEnd {
            end_lsn: EndLsn::new(100),
            last_commit: LastCommit::default(),
            postgres_clock_us: 1,
            partitions: vec![PartitionEnd::default(); 2],
            reloads: Arc::default(),
            records: 0,
            transactions: 0,
            oldest_commit_time_us: None,
        })
    }

    fn partition(number: u32) -> PartitionId {
        Partitioner::new(2).unwrap().get(number).unwrap()
    }

    fn at(commit: u64, seq: u64) -> Position {
        Position { epoch: 1, commit_lsn: CommitLsn::new(commit), seq: Seq(seq) }
    }

    fn delivered(ticket: Ticket, number: u32, offset: i64) -> Delivered {
        Delivered { ticket, partition: partition(number), offset, bytes: 10 }
    }

    fn commit(lsn: u64) -> Option<LastCommit> {
        Some(LastCommit { last_event: at(lsn, 8), xid: 7, commit_time_us: 5 })
    }

    #[test]
    fn nothing_is_confirmed_before_every_report_and_the_commit() {
        let mut ledger = ledger();
        let first = ledger.admit(partition(0), at(100, 8), 10);
        let second = ledger.admit(partition(1), at(100, 16), 10);
        ledger.seal(EndLsn::new(150), commit(100), 9, Arc::default());
        assert_eq!(ledger.take_commit(), None, "an open group is never committed");
        ledger.close();
        ledger.settle(delivered(second, 1, 4));
        assert_eq!(ledger.take_commit(), None, "one report is missing");
        ledger.settle(delivered(first, 0, 7));
        let end = ledger.take_commit().unwrap().clone();
        assert_eq!(end.end_lsn, EndLsn::new(150));
        assert_eq!(end.partitions[0], PartitionEnd { last: at(100, 8), next_offset: 8 });
        assert_eq!(end.partitions[1], PartitionEnd { last: at(100, 16), next_offset: 5 });
        assert_eq!(ledger.take_commit(), None, "given once");
        assert_eq!(ledger.durable(), EndLsn::new(100));
        ledger.committed();
        assert_eq!((ledger.durable(), ledger.committed_end()), (EndLsn::new(100), EndLsn::new(150)));
        assert_eq!(ledger.unacknowledged().0, 1, "committed is not yet readable");
        assert_eq!(ledger.readable().end_lsn, EndLsn::new(150));
        assert_eq!(ledger.durable(), EndLsn::new(150));
        assert_eq!(ledger.unacknowledged().0, 0);
        assert_eq!((ledger.in_flight_bytes(), ledger.in_flight_records()), (0, 0));
    }

    #[test]
    fn reports_out_of_order_leave_the_highest_offset() {
        let mut ledger = ledger();
        let first = ledger.admit(partition(0), at(100, 8), 10);
        let second = ledger.admit(partition(0), at(100, 16), 10);
        ledger.seal(EndLsn::new(150), commit(100), 9, Arc::default());
        ledger.close();
        ledger.settle(delivered(second, 0, 6));
        ledger.settle(delivered(first, 0, 5));
        assert_eq!(ledger.take_commit().unwrap().partitions[0].next_offset, 7);
    }

    #[test]
    fn a_dead_letter_is_waited_for_and_moves_no_partition() {
        let mut ledger = ledger();
        let control = ledger.admit(partition(1), at(100, 8), 10);
        let letter = ledger.admit_dead_letter(10);
        assert_eq!((control.topic(), letter.topic()), (Topic::Changes, Topic::DeadLetters));
        ledger.seal(EndLsn::new(150), commit(100), 9, Arc::default());
        ledger.close();
        ledger.settle(delivered(control, 1, 4));
        assert_eq!(ledger.take_commit(), None, "the dead letter's report is missing");
        ledger.settle(delivered(Ticket::from_raw(letter.into_raw()), 0, 99));
        let end = ledger.take_commit().unwrap();
        assert_eq!(end.partitions[0], PartitionEnd::default());
        assert_eq!(end.partitions[1], PartitionEnd { last: at(100, 8), next_offset: 5 });
        assert_eq!(end.records, 2);
        assert_eq!((ledger.in_flight_bytes(), ledger.in_flight_records()), (0, 0));
    }

    #[test]
    fn a_group_opened_while_another_commits_carries_its_offsets_on() {
        let mut ledger = ledger();
        let first = ledger.admit(partition(0), at(100, 8), 10);
        ledger.seal(EndLsn::new(150), commit(100), 9, Arc::default());
        ledger.close();
        let later = ledger.admit(partition(1), at(150, 8), 10);
        ledger.seal(EndLsn::new(200), commit(150), 9, Arc::default());
        ledger.settle(delivered(first, 0, 3));
        assert!(ledger.take_commit().is_some());
        ledger.committed();
        ledger.close();
        ledger.settle(delivered(later, 1, 0));
        let end = ledger.take_commit().unwrap();
        assert_eq!(end.partitions[0], PartitionEnd { last: at(100, 8), next_offset: 4 });
        assert_eq!(end.partitions[1], PartitionEnd { last: at(150, 8), next_offset: 1 });
    }

    #[test]
    fn a_keepalive_is_an_empty_transaction() {
        let mut ledger = ledger();
        ledger.seal(EndLsn::new(180), None, 44, Arc::default());
        ledger.close();
        let end = ledger.take_commit().unwrap();
        assert_eq!((end.end_lsn, end.postgres_clock_us, end.transactions), (EndLsn::new(180), 44, 0));
        ledger.committed();
        ledger.readable();
        assert_eq!(ledger.durable(), EndLsn::new(180));
    }

    #[test]
    #[should_panic(expected = "more records of group 0 were settled than admitted")]
    fn a_record_settled_twice_is_caught() {
        let mut ledger = ledger();
        let raw = ledger.admit(partition(0), at(100, 8), 10).into_raw();
        ledger.settle(delivered(Ticket::from_raw(raw), 0, 1));
        ledger.settle(delivered(Ticket::from_raw(raw), 0, 1));
    }

    #[test]
    #[should_panic(expected = "is not above")]
    fn a_position_that_does_not_rise_is_caught() {
        let mut ledger = ledger();
        let _first = ledger.admit(partition(0), at(100, 8), 10);
        let _second = ledger.admit(partition(0), at(100, 8), 10);
    }
}
