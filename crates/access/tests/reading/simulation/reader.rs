//! A reader as somebody would drive it, which checks what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use penstock_access::knowledge::{Knowledge, Reason};
use penstock_access::partition::{
    Effect, Isolation, Learned, Options, Output, Partition, Record, ResumePoint, Transaction, Void,
};
use penstock_access::rows::Micros;
use penstock_wire::position::Position;
use penstock_wire::reload::Scope;

use super::bridge::Source;
use super::broker::Broker;
use super::database::{Op, State, TABLES};

/// Rows by account, table and key, with the position of their version.
type Rows = BTreeMap<(Arc<str>, u8, u8), (u64, Position)>;

#[derive(Debug)]
pub struct Reader {
    partition: usize,
    options: Options,
    machine: Partition<Op>,
    rows: Rows,
    offset: i64,
    progress: usize,
    checkpoint: Option<(ResumePoint, Rows, bool)>,
    /// Nothing was compacted in what it has read.
    pristine: bool,
    /// Transactions given out since it began.
    given: BTreeSet<(u16, u32, u64)>,
    pub rebuilds: usize,
    /// Why nothing was known of each account, when it was last asked.
    reasons: BTreeMap<Arc<str>, Option<Reason>>,
}

impl Reader {
    pub fn new(partition: usize, options: Options, broker: &Broker, now: Micros) -> Self {
        let number = u32::try_from(partition).expect("few partitions");
        let mut reader = Self {
            partition,
            options,
            machine: Partition::rebuild(number, options, Vec::new(), now),
            rows: Rows::new(),
            offset: 0,
            progress: 0,
            checkpoint: None,
            pristine: true,
            given: BTreeSet::new(),
            rebuilds: 0,
            reasons: BTreeMap::new(),
        };
        reader.begin(Vec::new(), broker, now);
        reader
    }

    /// From the partition's first record.
    pub fn begin(&mut self, voids: Vec<Void>, broker: &Broker, now: Micros) {
        let number = u32::try_from(self.partition).expect("few partitions");
        self.machine = Partition::rebuild(number, self.options, voids, now);
        (self.rows, self.given, self.offset) = (Rows::new(), BTreeSet::new(), 0);
        self.reasons.clear();
        self.pristine = true;
        self.read_newest_progress(broker, now);
    }

    fn read_newest_progress(&mut self, broker: &Broker, now: Micros) {
        broker.newest_progress().iter().for_each(|progress| self.machine.handle_progress(progress, now));
        self.progress = broker.progress.len();
    }

    pub fn keep_checkpoint(&mut self) {
        if let Some(point) = self.machine.resume_point() {
            let text = serde_json::to_string(&point).expect("it can be written");
            let point = serde_json::from_str(&text).expect("it can be read");
            self.checkpoint = Some((point, self.rows.clone(), self.pristine));
        }
    }

    /// From the last checkpoint, if there is one.
    pub fn resume(&mut self, broker: &Broker, now: Micros) {
        match self.checkpoint.clone() {
            None => self.begin(Vec::new(), broker, now),
            Some((point, rows, pristine)) => {
                self.pristine = pristine;
                (self.rows, self.given, self.offset) = (rows, BTreeSet::new(), point.offset());
                self.reasons.clear();
                self.machine = Partition::resume(point, self.options, now);
                self.read_newest_progress(broker, now);
            }
        }
    }

    /// Reads some records, then some progress.
    pub fn read(&mut self, broker: &Broker, sources: &[Source], (records, progress): (usize, usize), now: Micros) {
        let log = &broker.logs[self.partition];
        self.pristine &= self.machine.is_live() || !log.is_compacted;
        // The end may have moved by the time at which the answer to a fetch is looked at.
        let end = log.end(self.options.isolation);
        let fetched = log.fetch(self.offset, self.options.isolation, records);
        let at_end = fetched.len() < records;
        for record in fetched {
            self.offset = record.offset + 1;
            self.machine.handle_record(record, now);
        }
        if at_end {
            self.offset = self.offset.max(end);
            self.machine.handle_end(end, now);
        }
        let until = broker.progress.len().min(self.progress.saturating_add(progress));
        for index in self.progress..until {
            self.machine.handle_progress(&broker.progress[index], now);
        }
        self.progress = until;
        self.drain(broker, sources, now);
    }

    /// Hands the last so many records in again.
    pub fn read_again(&mut self, broker: &Broker, sources: &[Source], back: i64, now: Micros) {
        let again = broker.logs[self.partition].fetch(self.offset - back, self.options.isolation, usize::MAX);
        let before = self.rows.clone();
        again.into_iter().filter(|record| record.offset < self.offset).for_each(|record| {
            self.machine.handle_record(record, now);
        });
        let rebuilds = self.rebuilds;
        self.drain(broker, sources, now);
        assert!(self.rebuilds > rebuilds || self.rows == before, "records that come again change rows");
    }

    fn drain(&mut self, broker: &Broker, sources: &[Source], now: Micros) {
        self.machine.handle_time(now);
        let mut concerned = BTreeSet::new();
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Transaction(transaction) => self.apply(&transaction, sources),
                Output::Rebuild(rebuild) => {
                    self.rebuilds += 1;
                    self.begin(rebuild.voids, broker, now);
                }
                Output::Learned(Learned::Everyone) => self.reasons.clear(),
                Output::Learned(Learned::Account(account)) => drop(concerned.insert(account)),
                Output::Doubted { .. } | Output::Problem(_) => {}
            }
        }
        self.check_told(sources, &concerned, now);
        self.check_knowledge(sources, now);
    }

    /// Nobody's knowledge changes without a word.
    fn check_told(&mut self, sources: &[Source], concerned: &BTreeSet<Arc<str>>, now: Micros) {
        for account in sources.iter().flat_map(|source| source.accounts_of(self.partition)) {
            let reason = match self.machine.knowledge(&account, now) {
                Knowledge::Known { .. } => None,
                Knowledge::Unknown { reason, .. } => Some(reason),
            };
            let before = self.reasons.insert(Arc::clone(&account), reason);
            if let Some(before) = before.filter(|_| !concerned.contains(&account)) {
                assert_eq!(before, reason, "what is known of {account} changed without a word");
            }
        }
    }

    fn apply(&mut self, transaction: &Transaction<Op>, sources: &[Source]) {
        let Position { epoch, commit_lsn, .. } = transaction.position;
        // The records of an epoch's beginning are transactions each.
        let first = self.given.insert((transaction.source, epoch, commit_lsn.raw())) || commit_lsn.raw() == 0;
        assert!(first, "transaction {} was given out in two parts", transaction.position);
        let source = sources.iter().find(|source| source.number == transaction.source).expect("a source");
        for account in source.accounts_of(self.partition) {
            for entry in transaction.entries(&account) {
                fold(&mut self.rows, &account, entry.position, &entry.effect);
            }
        }
        if self.pristine && self.options.isolation == Isolation::ReadCommitted {
            self.check_exactly(transaction.position, source);
        }
    }

    /// Nothing was compacted: the state is that of the topic, at the end of a transaction.
    fn check_exactly(&self, position: Position, source: &Source) {
        let archive = &source.archive[self.partition];
        let commit = |of: Position| (of.epoch, of.commit_lsn);
        let later = archive.iter().map(|record| record.header.position).filter(|later| *later > position);
        let rest = later.filter(|later| commit(*later) == commit(position) && position.commit_lsn.raw() > 0).count();
        assert_eq!(rest, 0, "half of transaction {position} was given out");
        let mut rows = Rows::new();
        for record in archive.iter().filter(|record| record.header.position <= position) {
            fold_record(&mut rows, source, self.partition, record);
        }
        let of_source = |rows: &Rows| -> Rows {
            let of_source = |account: &str| source.accounts_of(self.partition).any(|one| *one == *account);
            rows.iter().filter(|((account, ..), _)| of_source(account)).map(|(k, v)| (k.clone(), *v)).collect()
        };
        assert_eq!(of_source(&self.rows), rows, "state at {position} is not what the topic told");
    }

    /// What is known is a state that the database had at `as_of` or later.
    fn check_knowledge(&self, sources: &[Source], now: Micros) {
        for source in sources {
            for account in source.accounts_of(self.partition) {
                let Knowledge::Known { as_of } = self.machine.knowledge(&account, now) else { continue };
                assert!(
                    now.0 - as_of.0 < 10_000_000,
                    "{account} is known as of {as_of:?}, which is too long before {now:?}"
                );
                let mine = self.rows_of(&account);
                let first = source.history.iter().rposition(|past| past.time <= as_of).unwrap_or(0);
                let applied = self.machine.applied(source.number).epoch;
                let uncommitted = self.options.isolation == Isolation::ReadUncommitted;
                let undone = source.phantoms.iter().filter(|past| uncommitted && past.epoch >= applied);
                let mut possible = source.history[first..].iter().chain(undone);
                assert!(
                    possible.any(|past| of_account(&past.state, &account) == mine),
                    "{account} of partition {} is known as of {as_of:?} at {now:?} to be {mine:?}, which it never was \
                     since; it is {:?}",
                    self.partition,
                    source.history.last().map(|past| of_account(&past.state, &account)),
                );
            }
        }
    }

    fn rows_of(&self, of: &str) -> BTreeMap<(u8, u8), u64> {
        let of_account = self.rows.iter().filter(|((account, ..), _)| **account == *of);
        of_account.map(|((_, table, key), (value, _))| ((*table, *key), *value)).collect()
    }

    /// Everything is known, and as it is in the database.
    pub fn check_end(&self, sources: &[Source], now: Micros) {
        for source in sources {
            for account in source.accounts_of(self.partition) {
                let knowledge = self.machine.knowledge(&account, now);
                assert!(matches!(knowledge, Knowledge::Known { .. }), "{account} is {knowledge:?} for ever: {self:#?}");
                let now = source.history.last().expect("a state");
                assert_eq!(self.rows_of(&account), of_account(&now.state, &account), "{account}");
            }
        }
    }
}

fn of_account(state: &State, of: &str) -> BTreeMap<(u8, u8), u64> {
    let rows = state.iter().filter(|((account, ..), _)| **account == *of);
    rows.map(|((_, table, key), value)| ((*table, *key), *value)).collect()
}

/// What a consumer does with an entry of one of its accounts.
fn fold(rows: &mut Rows, account: &Arc<str>, position: Position, effect: &Effect<Op>) {
    match effect {
        Effect::Row(Op { table, key, value: Some(value) }) => {
            let row = rows.entry((Arc::clone(account), *table, *key)).or_insert((*value, position));
            if row.1 < position {
                *row = (*value, position);
            }
        }
        Effect::Row(Op { table, key, value: None }) | Effect::Tombstone(Op { table, key, .. }) => {
            rows.remove(&(Arc::clone(account), *table, *key));
        }
        Effect::Truncate { table, .. } => sweep(rows, account, Some(table), position),
        Effect::Sweep { scope: Scope { table, .. }, begin } => {
            sweep(rows, account, table.as_ref().map(|(_, table)| table), *begin);
        }
    }
}

fn sweep(rows: &mut Rows, account: &Arc<str>, table: Option<&String>, begin: Position) {
    rows.retain(|(of, number, _), (_, position)| {
        let within = of == account && table.is_none_or(|table| table == TABLES[usize::from(*number)]);
        !within || *position >= begin
    });
}

/// The same, told by the contract from a record.
fn fold_record(rows: &mut Rows, source: &Source, partition: usize, record: &Record<Op>) {
    use penstock_access::partition::Kind;
    use penstock_wire::control::ControlKind;
    let position = record.header.position;
    match (&record.kind, &record.account) {
        (Kind::Row(op), Some(account)) => fold(rows, account, position, &Effect::Row(op.clone())),
        (Kind::Tombstone(op), Some(account)) => fold(rows, account, position, &Effect::Tombstone(op.clone())),
        (Kind::Control(control), _) => {
            let table = (!control.table.is_empty()).then_some(&control.table);
            let begin = match control.kind {
                ControlKind::Truncate => position,
                ControlKind::ReloadEnd => control.begin.expect("an end names its begin"),
                _ => return,
            };
            for account in source.accounts_of(partition) {
                if control.account.as_deref().is_none_or(|of| *of == *account) {
                    sweep(rows, &account, table, begin);
                }
            }
        }
        _ => {}
    }
}
