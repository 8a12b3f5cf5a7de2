//! What was committed against what arrived: nothing missing, nothing twice, nothing out of order.
//!
//! Pure: the ledger and the records go in, in the order in which the reader got them. The two know nothing of each other
//! but row, operation and transaction id; the ledger's numbers, which no record holds, say what order they must have.
//!
//! Invariant: every record of a row, every tombstone and every truncate is accounted for; a record that the ledger does
//! not explain (rolled back, or twice) is a duplicate.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ledger::{Entry, Event};
use crate::record::{Content, Op, Position, Record, Row, Subject};

/// How many examples of what is wrong are kept.
const EXAMPLES_MAX: usize = 8;

/// The comparison.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Row events in the ledger.
    pub committed: u64,
    /// Row events of which all records arrived.
    pub delivered: u64,
    /// Row events, tombstones, and truncates of a partition that did not arrive, or not wholly.
    pub missing: u64,
    /// Records that arrived once too often.
    pub duplicated: u64,
    /// Records that arrived before one that precedes them, or in another partition than their account's.
    pub out_of_order: u64,
    /// What is wrong, the first few.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Whether all is well.
    pub fn passed(&self) -> bool {
        self.missing == 0 && self.duplicated == 0 && self.out_of_order == 0 && self.committed == self.delivered
    }

    fn missing(&mut self, what: impl FnOnce() -> String) {
        self.missing += 1;
        self.example("missing", what);
    }

    fn duplicated(&mut self, what: impl FnOnce() -> String) {
        self.duplicated += 1;
        self.example("duplicated", what);
    }

    fn out_of_order(&mut self, what: impl FnOnce() -> String) {
        self.out_of_order += 1;
        self.example("out of order", what);
    }

    fn example(&mut self, kind: &str, what: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{kind}: {}", what()));
        }
    }
}

/// The kind of a run, told from its ledger.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Mix {
    /// Events that made a row.
    pub inserts: u64,
    /// Events that changed one, moves included.
    pub updates: u64,
    /// Events that removed one, cascades included.
    pub deletes: u64,
    /// Rows that went to another account.
    pub moves: u64,
    /// TRUNCATEs.
    pub truncates: u64,
    /// Different transactions.
    pub transactions: u64,
    /// Different accounts.
    pub accounts: u64,
}

impl Mix {
    /// Counts a ledger.
    pub fn of(ledger: &[Entry]) -> Self {
        let mut mix = Self::default();
        let (mut transactions, mut accounts) = (BTreeSet::new(), BTreeSet::new());
        for entry in ledger {
            transactions.insert(entry.xid);
            accounts.extend(entry.event.records().into_iter().map(|(_, subject)| &subject.account));
            mix.moves += u64::from(entry.event.is_move());
            match &entry.event {
                Event::Row { op: Op::Create, .. } => mix.inserts += 1,
                Event::Row { op: Op::Update, .. } => mix.updates += 1,
                Event::Row { op: Op::Delete, .. } => mix.deletes += 1,
                Event::Truncate { .. } => mix.truncates += 1,
            }
        }
        mix.transactions = transactions.len().try_into().unwrap_or(u64::MAX);
        mix.accounts = accounts.len().try_into().unwrap_or(u64::MAX);
        mix
    }
}

/// Compares what the ledger says with what arrived in a topic of so many partitions.
pub fn judge(ledger: &[Entry], records: &[Record], partitions: u32) -> Verdict {
    let mut expected = Expected::new(ledger);
    let mut verdict =
        Verdict { committed: expected.events_left.len().try_into().unwrap_or(u64::MAX), ..Verdict::default() };
    let mut seen: BTreeMap<u32, Partition> = (0..partitions).map(|number| (number, Partition::default())).collect();
    let mut homes = BTreeMap::new();
    for record in records {
        let partition = seen.entry(record.partition).or_default();
        partition.advance(record, &mut verdict);
        partition.expect_tombstone(record, &mut verdict);
        match &record.content {
            Content::Row(row) => {
                let place = expected.take(row);
                match place {
                    Some(place) => {
                        partition.check_order(row, place, &expected.truncates, &mut verdict);
                        let home = *homes.entry(&row.subject.account).or_insert(record.partition);
                        if home != record.partition {
                            verdict.out_of_order(|| format!("{row:?} in partition {}, not {home}", record.partition));
                        }
                    }
                    None => verdict.duplicated(|| format!("{row:?} at {:?}", record.position)),
                }
                if row.op == Op::Delete {
                    partition.tombstone_due = Some(row.subject.clone());
                }
            }
            Content::Truncate { table } => {
                let count = partition.truncates.entry(table.clone()).or_default();
                *count += 1;
                if *count > expected.truncates.get(table).map_or(0, Vec::len) {
                    verdict.duplicated(|| format!("truncate of {table} in partition {}", record.partition));
                }
            }
            Content::Tombstone { .. } | Content::Control { .. } => {}
        }
    }
    for (number, partition) in seen {
        if let Some(subject) = partition.tombstone_due {
            verdict.missing(|| format!("tombstone of {subject:?}"));
        }
        for (table, places) in &expected.truncates {
            for _ in partition.truncates.get(table).copied().unwrap_or(0)..places.len() {
                verdict.missing(|| format!("truncate of {table} in partition {number}"));
            }
        }
    }
    expected.settle(&mut verdict);
    verdict
}

/// Where a record belongs: its event's number in the ledger, and its part of the event.
type Place = (u64, usize);

/// What must arrive.
#[derive(Debug)]
struct Expected {
    /// Places by what a record tells of itself. Several if a transaction did the same to a row again.
    places: BTreeMap<(Subject, Op, u32), VecDeque<Place>>,
    /// Of each event, how many of its records are still to come.
    events_left: BTreeMap<u64, usize>,
    /// Numbers of the TRUNCATEs of each table, rising.
    truncates: BTreeMap<String, Vec<u64>>,
}

impl Expected {
    fn new(ledger: &[Entry]) -> Self {
        let mut expected = Self { places: BTreeMap::new(), events_left: BTreeMap::new(), truncates: BTreeMap::new() };
        for entry in ledger {
            if let Event::Truncate { table } = &entry.event {
                expected.truncates.entry(table.clone()).or_default().push(entry.number);
                continue;
            }
            let records = entry.event.records();
            expected.events_left.insert(entry.number, records.len());
            for (part, (op, subject)) in records.into_iter().enumerate() {
                let places = expected.places.entry((subject.clone(), op, entry.xid)).or_default();
                places.push_back((entry.number, part));
            }
        }
        expected
    }

    /// The place of a record that arrived; `None` if there is none left for it.
    fn take(&mut self, row: &Row) -> Option<Place> {
        let places = self.places.get_mut(&(row.subject.clone(), row.op, row.xid))?;
        let place = places.pop_front()?;
        if let Some(left) = self.events_left.get_mut(&place.0) {
            *left -= 1;
        }
        Some(place)
    }

    /// Counts the events that arrived wholly, and those that did not.
    fn settle(&self, verdict: &mut Verdict) {
        let mut open: BTreeMap<u64, String> = BTreeMap::new();
        for ((subject, op, xid), places) in &self.places {
            for (number, _) in places {
                open.entry(*number).or_insert_with(|| format!("{} {subject:?} of transaction {xid}", op.letter()));
            }
        }
        for (number, left) in &self.events_left {
            match left {
                0 => verdict.delivered += 1,
                _ => verdict.missing(|| open.get(number).cloned().unwrap_or_default()),
            }
        }
    }
}

/// What was seen of a partition.
#[derive(Debug, Default)]
struct Partition {
    last: Option<(u64, Position)>,
    /// A delete that waits for its tombstone.
    tombstone_due: Option<Subject>,
    truncates: BTreeMap<String, usize>,
    /// The newest place of each account.
    accounts: BTreeMap<String, Place>,
}

impl Partition {
    /// Offsets and positions rise.
    fn advance(&mut self, record: &Record, verdict: &mut Verdict) {
        let here = (record.offset, record.position);
        if let Some((offset, position)) = self.last {
            if record.position == position {
                verdict.duplicated(|| format!("{position:?} in partition {}", record.partition));
            } else if record.offset <= offset || record.position < position {
                verdict.out_of_order(|| format!("{here:?} after {position:?} in partition {}", record.partition));
            }
        }
        self.last = Some(here);
    }

    /// A delete's tombstone is the next record of its partition, and no other record is one.
    fn expect_tombstone(&mut self, record: &Record, verdict: &mut Verdict) {
        let due = self.tombstone_due.take();
        match (&due, &record.content) {
            (Some(due), Content::Tombstone { subject }) if due == subject => {}
            (None, Content::Tombstone { subject }) => verdict.duplicated(|| format!("tombstone of {subject:?}")),
            (Some(due), _) => verdict.missing(|| format!("tombstone of {due:?}")),
            (None, _) => {}
        }
    }

    /// Of an account, later records have higher places; a TRUNCATE separates those of its table.
    fn check_order(&mut self, row: &Row, place: Place, truncates: &BTreeMap<String, Vec<u64>>, verdict: &mut Verdict) {
        let newest = self.accounts.entry(row.subject.account.clone()).or_default();
        if place < *newest {
            verdict.out_of_order(|| format!("{row:?}, event {place:?} after {newest:?}"));
        }
        *newest = place.max(*newest);
        let table = &row.subject.table;
        let before = truncates.get(table).map_or(0, |numbers| numbers.partition_point(|number| *number < place.0));
        let seen = self.truncates.get(table).copied().unwrap_or(0);
        if before != seen {
            verdict.out_of_order(|| format!("{row:?} after {seen} truncates of its table instead of {before}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Mix, Verdict, judge};
    use crate::ledger::{Entry, Event};
    use crate::record::{Content, Op, Position, Record, Row, Subject};

    fn subject(text: &str) -> Subject {
        let mut words = text.split('.').map(str::to_owned);
        let mut word = || words.next().expect("account.table.key");
        Subject { account: word(), table: word(), key: word() }
    }

    /// `7 c a.t.1`, `7 u a.t.1 b.t.1`, `7 t flows`: transaction, event, rows.
    fn ledger(lines: &[&str]) -> Vec<Entry> {
        let entry = |(number, line): (u64, &&str)| {
            let words: Vec<&str> = line.split(' ').collect();
            let event = match (words[1], words.get(3)) {
                ("t", _) => Event::Truncate { table: words[2].to_owned() },
                (op, after) => {
                    let op = Op::parse(op).expect("an op");
                    let after = after.copied().or_else(|| (op == Op::Update).then_some(words[2])).map(subject);
                    Event::Row { op, subject: subject(words[2]), after }
                }
            };
            Entry { number, xid: words[0].parse().expect("xid"), event }
        };
        (1..).zip(lines).map(entry).collect()
    }

    /// `0 7 c a.t.1`, `0 tombstone a.t.1`, `0 truncate flows`: partition and record, positions as they come.
    fn records(lines: &[&str]) -> Vec<Record> {
        let record = |(offset, line): (u64, &&str)| {
            let words: Vec<&str> = line.split(' ').collect();
            let content = match words[1] {
                "tombstone" => Content::Tombstone { subject: subject(words[2]) },
                "truncate" => Content::Truncate { table: words[2].to_owned() },
                xid => Content::Row(Row {
                    subject: subject(words[3]),
                    op: Op::parse(words[2]).expect("an op"),
                    xid: xid.parse().expect("xid"),
                }),
            };
            let position = Position { epoch: 1, commit_lsn: 1, seq: offset };
            Record { partition: words[0].parse().expect("partition"), offset, position, delay_ms: None, content }
        };
        (0..).zip(lines).map(record).collect()
    }

    /// Delivered, missing, duplicated, out of order.
    fn check(committed: &[&str], arrived: &[&str], expected: [u64; 4]) {
        let verdict = judge(&ledger(committed), &records(arrived), 2);
        let Verdict { delivered, missing, duplicated, out_of_order, .. } = verdict;
        assert_eq!([delivered, missing, duplicated, out_of_order], expected, "{committed:?} {arrived:?}: {verdict:?}");
        assert_eq!(verdict.passed(), expected[1..] == [0, 0, 0], "{verdict:?}");
    }

    const COMMITTED: [&str; 4] = ["7 c a.t.1", "7 u a.t.1", "8 u a.t.1", "9 d a.t.1"];

    #[test]
    fn what_was_committed_arrived_once_in_order() {
        check(
            &COMMITTED,
            &["0 7 c a.t.1", "0 7 u a.t.1", "0 8 u a.t.1", "0 9 d a.t.1", "0 tombstone a.t.1"],
            [4, 0, 0, 0],
        );
        check(&[], &[], [0, 0, 0, 0]);
    }

    #[test]
    fn what_did_not_arrive_is_missing() {
        check(&COMMITTED, &["0 7 c a.t.1", "0 7 u a.t.1", "0 9 d a.t.1", "0 tombstone a.t.1"], [3, 1, 0, 0]);
        check(&COMMITTED, &["0 7 c a.t.1", "0 7 u a.t.1", "0 8 u a.t.1", "0 9 d a.t.1"], [4, 1, 0, 0]);
        check(&["7 c a.t.1"], &[], [0, 1, 0, 0]);
    }

    #[test]
    fn what_arrived_twice_or_was_rolled_back_is_duplicated() {
        check(&["7 c a.t.1"], &["0 7 c a.t.1", "0 7 c a.t.1"], [1, 0, 1, 0]);
        check(&["7 c a.t.1"], &["0 7 c a.t.1", "0 8 c a.t.2"], [1, 0, 1, 0]);
        check(&["7 c a.t.1"], &["0 7 c a.t.1", "0 tombstone a.t.1"], [1, 0, 1, 0]);
        // The same twice in one transaction is two events.
        check(&["7 u a.t.1", "7 u a.t.1"], &["0 7 u a.t.1", "0 7 u a.t.1"], [2, 0, 0, 0]);
    }

    #[test]
    fn order_is_kept_within_an_account_and_only_there() {
        let committed = ["7 c a.t.1", "8 c b.t.2", "9 c a.t.3"];
        check(&committed, &["0 7 c a.t.1", "0 9 c a.t.3", "0 8 c b.t.2"], [3, 0, 0, 0]);
        check(&committed, &["0 9 c a.t.3", "0 8 c b.t.2", "0 7 c a.t.1"], [3, 0, 0, 1]);
        check(&committed, &["0 7 c a.t.1", "1 8 c b.t.2", "1 9 c a.t.3"], [3, 0, 0, 1]);
    }

    #[test]
    fn positions_rise_in_a_partition() {
        let mut arrived = records(&["0 7 c a.t.1", "0 8 c b.t.2"]);
        let committed = ledger(&["7 c a.t.1", "8 c b.t.2"]);
        arrived[1].position = arrived[0].position;
        assert_eq!(judge(&committed, &arrived, 2).duplicated, 1);
        arrived[0].position.seq = 1;
        assert_eq!(judge(&committed, &arrived, 2).out_of_order, 1);
    }

    #[test]
    fn a_move_is_one_event_and_needs_both_records() {
        let committed = ["7 c a.t.1", "8 u a.t.1 b.t.1"];
        let created = "0 7 c a.t.1";
        check(&committed, &[created, "0 8 d a.t.1", "0 tombstone a.t.1", "1 8 c b.t.1"], [2, 0, 0, 0]);
        check(&committed, &[created, "0 8 d a.t.1", "0 tombstone a.t.1"], [1, 1, 0, 0]);
        check(&committed, &[created, "1 8 c b.t.1"], [1, 1, 0, 0]);
    }

    #[test]
    fn truncate_is_in_every_partition_between_the_rows_it_separates() {
        let committed = ["7 c a.flows.1", "8 t flows", "9 c a.flows.2"];
        let (first, second) = ("0 7 c a.flows.1", "0 9 c a.flows.2");
        let (here, there) = ("0 truncate flows", "1 truncate flows");
        check(&committed, &[first, here, there, second], [2, 0, 0, 0]);
        check(&committed, &[first, here, second], [2, 1, 0, 0]);
        check(&committed, &[first, second, here, there], [2, 0, 0, 1]);
        check(&committed, &[here, first, there, second], [2, 0, 0, 1]);
        check(&committed, &[first, here, here, there, second], [2, 0, 1, 1]);
        // Another table's rows may stand on either side.
        check(&["7 c a.t.1", "8 t flows"], &[here, there, "0 7 c a.t.1"], [1, 0, 0, 0]);
    }

    #[test]
    fn mix_counts_events_by_what_they_did() {
        let mix = Mix::of(&ledger(&["7 c a.t.1", "7 u a.t.1", "8 u a.t.1 b.t.1", "9 d b.t.1", "10 t flows"]));
        let expected = Mix { inserts: 1, updates: 2, deletes: 1, moves: 1, truncates: 1, transactions: 4, accounts: 2 };
        assert_eq!(mix, expected);
    }
}
