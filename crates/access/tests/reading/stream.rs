//! A partition written by hand: records with their places, and a reader that notes what it is told.

use std::sync::Arc;
use std::time::Duration;

use penstock_access::knowledge::{Knowledge, Reason};
use penstock_access::partition::{
    Effect, Isolation, Kind, Options, Output, Partition, ProblemKind, Rebuild, RebuildReason, Record, Transaction,
};
use penstock_access::rows::Micros;
use penstock_wire::control::{Control, ControlKind};
use penstock_wire::header::Header;
use penstock_wire::lsn::{CommitLsn, EndLsn};
use penstock_wire::position::{Position, Seq};
use penstock_wire::progress::{KeyPin, PartitionProgress, Progress};
use penstock_wire::reload::Scope;

/// Rows are told apart by a word.
pub type Word = &'static str;
pub type Reader = Partition<Word>;

/// The day on which everything happens, seconds since 1970.
pub const TODAY: i64 = 1_700_000_000;
pub const LAG: Duration = Duration::from_secs(1000);
pub const RETENTION: Duration = Duration::from_secs(5000);

pub const COMMITTED: Options = Options {
    isolation: Isolation::ReadCommitted,
    stale_after: Duration::from_secs(10),
    compaction_lag: LAG,
    tombstone_retention: RETENTION,
};
pub const UNCOMMITTED: Options = Options { isolation: Isolation::ReadUncommitted, ..COMMITTED };

/// So many seconds into the day.
pub fn s(seconds: i64) -> Micros {
    Micros((TODAY + seconds) * 1_000_000)
}

pub fn at(epoch: u32, commit: u64, seq: u64) -> Position {
    Position { epoch, commit_lsn: CommitLsn::new(commit), seq: Seq(seq) }
}

/// Where the stream stands: the next record follows.
#[derive(Clone, Debug)]
pub struct Stream {
    pub source: u16,
    pub epoch: u32,
    pub offset: i64,
    pub last: Position,
    /// Seconds into the day, of the next records.
    pub time: i64,
}

impl Stream {
    /// Old enough for everything in it to be compacted.
    pub fn old() -> Self {
        Self { source: 1, epoch: 1, offset: 0, last: Position::ZERO, time: -2000 }
    }

    pub fn record(
        &mut self,
        commit: u64,
        seq: u64,
        flag: bool,
        account: Option<&str>,
        kind: Kind<Word>,
    ) -> Record<Word> {
        let position = at(self.epoch, commit, seq);
        let previous = std::mem::replace(&mut self.last, position);
        let (source, offset) = (self.source, self.offset);
        self.offset += 1;
        let header = Header { end_of_transaction: flag, identity_only: false, source, position, previous };
        let timestamp_ms = (TODAY + self.time) * 1000;
        Record { offset, timestamp_ms, bytes: 10, header, account: account.map(Arc::from), kind }
    }

    /// A transaction of rows, each of account "a" unless it is written "account:word".
    pub fn commit(&mut self, commit: u64, words: &[Word]) -> Vec<Record<Word>> {
        let rows = words.iter().enumerate().map(|(index, word)| {
            let (account, word) = word.split_once(':').unwrap_or(("a", word));
            let flag = index + 1 == words.len();
            self.record(commit, 8 * (index as u64 + 1), flag, Some(account), Kind::Row(word))
        });
        rows.collect()
    }

    /// A control record in a transaction of its own.
    pub fn control(&mut self, commit: u64, control: Control) -> Record<Word> {
        self.record(commit, 8, true, None, Kind::Control(control))
    }

    /// A new epoch.
    pub fn epoch(&mut self, epoch: u32, begin: Option<Position>, detail: &str) -> Record<Word> {
        self.epoch = epoch;
        self.record(0, 0, true, None, Kind::Control(Control::epoch(begin, detail.to_owned())))
    }

    pub fn gap(&mut self) -> Record<Word> {
        let control = Control { kind: ControlKind::Gap, ..Control::truncate("", "") };
        self.record(0, 8, true, None, Kind::Control(control))
    }

    /// A reload of the scope: where it began, and the record of its end. Scopes: "", "table", ":account", "table:account".
    pub fn reload(&mut self, commit: u64, of: &str) -> [Record<Word>; 2] {
        let begin = at(self.epoch, commit, 8);
        let begun = self.control(commit, Control::reload(ControlKind::ReloadBegin, &scope(of), begin));
        [begun, self.reload_end(commit + 1, of, begin)]
    }

    pub fn reload_end(&mut self, commit: u64, of: &str, begin: Position) -> Record<Word> {
        self.control(commit, Control::reload(ControlKind::ReloadEnd, &scope(of), begin))
    }

    pub fn dead_letter(&mut self, commit: u64, account: Option<&str>, table: &str) -> Record<Word> {
        self.control(commit, Control::dead_letter("public", table, account, "too large".to_owned()))
    }

    /// Progress that covers everything so far; its clock shows so many seconds into the day.
    pub fn progress(&self, clock: i64) -> Progress {
        Progress {
            source_number: self.source,
            epoch: self.epoch,
            partition_count: 4,
            topic_id: "topic".to_owned(),
            end_lsn: EndLsn::new(self.last.commit_lsn.raw() + 1),
            partitions: vec![PartitionProgress { partition: 3, last: self.last, next_offset: self.offset }],
            key_pins: ["t", "u"].map(pin).to_vec(),
            postgres_clock_us: s(clock).0,
            load_complete: true,
            ..Progress::default()
        }
    }
}

pub fn truncate() -> Kind<Word> {
    Kind::Control(Control::truncate("public", "t"))
}

fn pin(table: &str) -> KeyPin {
    KeyPin { schema: "public".to_owned(), table: table.to_owned(), ..KeyPin::default() }
}

pub fn scope(of: &str) -> Scope {
    let (table, account) = of.split_once(':').unwrap_or((of, ""));
    let table = (!table.is_empty()).then(|| ("public".to_owned(), table.to_owned()));
    Scope { table, account: (!account.is_empty()).then(|| account.to_owned()) }
}

pub fn rebuild(options: Options) -> Reader {
    Partition::rebuild(3, options, Vec::new(), s(0))
}

/// What was given out since the last time.
#[derive(Debug, Default)]
pub struct Given {
    pub transactions: Vec<Transaction<Word>>,
    pub learned: usize,
    /// Sources of which changes may be missing.
    pub doubted: Vec<u16>,
    pub rebuild: Option<Rebuild>,
    pub problems: Vec<ProblemKind>,
}

impl Given {
    /// The words of each transaction, by account and in order.
    pub fn words(&self) -> Vec<Vec<Word>> {
        let word = |effect: &Effect<Word>| match effect {
            Effect::Row(word) | Effect::Tombstone(word) => *word,
            Effect::Truncate { .. } => "truncate",
            Effect::Sweep { .. } => "sweep",
        };
        let words = |transaction: &Transaction<Word>| {
            let entries = transaction.accounts.values().flatten().chain(&transaction.everyone);
            entries.map(|entry| word(&entry.effect)).collect()
        };
        self.transactions.iter().map(words).collect()
    }

    pub fn reason(&self) -> Option<&RebuildReason> {
        self.rebuild.as_ref().map(|rebuild| &rebuild.reason)
    }
}

pub fn drain(reader: &mut Reader) -> Given {
    let mut given = Given::default();
    while let Some(output) = reader.poll_output() {
        match output {
            Output::Transaction(transaction) => given.transactions.push(transaction),
            Output::Learned(_) => given.learned += 1,
            Output::Doubted { source } => given.doubted.push(source),
            Output::Rebuild(rebuild) => given.rebuild = Some(rebuild),
            Output::Problem(problem) => given.problems.push(problem.kind),
        }
    }
    given
}

/// Hands in records, at the day's first second.
pub fn read(reader: &mut Reader, records: impl IntoIterator<Item = Record<Word>>) -> Given {
    for record in records {
        reader.handle_record(record, s(0));
    }
    drain(reader)
}

/// Hands in the end of the partition, and progress that covers it, twice: an adopted position is believed from the second.
pub fn catch_up(reader: &mut Reader, stream: &Stream) -> Given {
    reader.handle_end(stream.offset, s(0));
    reader.handle_progress(&stream.progress(0), s(0));
    let mut given = drain(reader);
    reader.handle_progress(&stream.progress(0), s(0));
    let more = drain(reader);
    given.transactions.extend(more.transactions);
    given.problems.extend(more.problems);
    given.rebuild = given.rebuild.or(more.rebuild);
    given.learned += more.learned;
    given
}

/// A reader that has followed the stream from its beginning to where it stands.
pub fn following(options: Options) -> (Reader, Stream) {
    let (mut reader, mut stream) = (rebuild(options), Stream::old());
    let epoch = stream.epoch(1, None, "complete: no rows");
    read(&mut reader, [epoch]);
    let first = stream.commit(10, &["first"]);
    read(&mut reader, first);
    catch_up(&mut reader, &stream);
    assert_eq!(why(&reader, "a"), None);
    (reader, stream)
}

/// Why nothing is known of the account, at the day's first second.
pub fn why(reader: &Reader, account: &str) -> Option<Reason> {
    match reader.knowledge(account, s(0)) {
        Knowledge::Known { .. } => None,
        Knowledge::Unknown { reason, .. } => Some(reason),
    }
}
