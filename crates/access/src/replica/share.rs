//! One partition and the accounts in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use penstock_wire::account::GLOBAL;
use penstock_wire::position::Position;
use serde::{Deserialize, Serialize};

use super::channels::{Channel, Subscriber};
use super::problem::{Problem, ProblemKind};
use super::{Common, Output};
use crate::account::Account;
use crate::account::snapshot::Snapshot;
use crate::change::{Action, Change, Commit};
use crate::decode::Event;
use crate::health::Health;
use crate::knowledge::{Knowledge, Reason};
use crate::partition::{Effect, Entry, Learned, Output as Read, Partition, Rebuild, ResumePoint, Transaction, Void};
use crate::rows::{Micros, RowId, Table};

/// An account that no row is of.
const NOBODY: &str = "";

/// How a partition is read.
pub type Reading = Partition<Event>;

/// An account as a later instance goes on with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    pub account: Arc<str>,
    /// The source that its rows come from.
    pub source: Option<u16>,
    pub snapshot: Snapshot,
}

#[derive(Debug)]
pub(super) struct Share {
    number: u32,
    /// None: another instance reads it.
    pub(super) reading: Option<Reading>,
    pub(super) accounts: BTreeMap<Arc<str>, Held>,
    deadlines: BTreeSet<(Micros, Arc<str>)>,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) account: Account,
    source: Option<u16>,
    /// Rows of another source were met: positions say nothing any more of what is newer.
    is_mixed: bool,
    deadline: Option<Micros>,
}

impl Share {
    pub(super) fn new(number: u32) -> Self {
        Self { number, reading: None, accounts: BTreeMap::new(), deadlines: BTreeSet::new() }
    }

    /// Begins at the partition's beginning, without rows. Who has channels keeps them.
    pub(super) fn rebuild(&mut self, voids: Vec<Void>, common: &mut Common, now: Micros) {
        self.begin(Partition::rebuild(self.number, common.partition, voids, now), common, now);
        self.drop_rows(Reason::Rebuilding, common, now);
    }

    /// A source that is silent says no more what it said once, and was heard all the same.
    fn begin(&mut self, mut reading: Reading, common: &Common, now: Micros) {
        common.heard.values().for_each(|progress| reading.handle_progress(progress, now));
        self.reading = Some(reading);
    }

    pub(super) fn release(&mut self, common: &mut Common, now: Micros) {
        self.reading = None;
        self.drop_rows(Reason::NotAssigned, common, now);
    }

    pub(super) fn resume(&mut self, point: ResumePoint, saved: Vec<Saved>, common: &mut Common, now: Micros) {
        self.drop_rows(Reason::Rebuilding, common, now);
        self.begin(Partition::resume(point, common.partition, now), common, now);
        for Saved { account: id, source, snapshot } in saved {
            for row in &snapshot.rows {
                common.note_owner(row.table, row.id, &id);
            }
            let held = self.accounts.remove(&id);
            let account = match held {
                Some(mut held) => {
                    held.account.refill(&snapshot, now);
                    held.account
                }
                None => Account::restore(&id, Arc::clone(&common.options), &snapshot, now),
            };
            self.accounts.insert(Arc::clone(&id), Held { account, source, is_mixed: false, deadline: None });
        }
        self.learn_all(common, now);
    }

    fn drop_rows(&mut self, reason: Reason, common: &mut Common, now: Micros) {
        self.accounts.retain(|_, held| held.account.channels() > 0);
        let live: BTreeSet<&Arc<str>> = self.accounts.keys().collect();
        self.deadlines.retain(|(_, account)| live.contains(account));
        for held in self.accounts.values_mut() {
            (held.source, held.is_mixed) = (None, false);
            held.account.drop_rows(reason, now);
        }
        self.drain_all(common, now);
    }

    /// Takes what the partition gives out. Whether it may be known otherwise than before what is not there.
    pub(super) fn drive(&mut self, common: &mut Common, now: Micros) -> bool {
        let mut learned = false;
        while let Some(output) = self.reading.as_mut().and_then(Partition::poll_output) {
            match output {
                Read::Transaction(transaction) => self.apply(transaction, common, now),
                Read::Doubted { source } => self.doubt_flows(source, common, now),
                Read::Learned(Learned::Everyone) => {
                    learned = true;
                    self.learn_all(common, now);
                }
                Read::Learned(Learned::Account(account)) => self.learn(&account, common, now),
                Read::Rebuild(Rebuild { reason, voids }) => {
                    learned = true;
                    common.outputs.push_back(Output::Read { partition: self.number, why: reason });
                    self.rebuild(voids, common, now);
                }
                Read::Problem(problem) => common.outputs.push_back(Output::Problem(problem.into())),
            }
        }
        learned
    }

    pub(super) fn handle_time(&mut self, common: &mut Common, now: Micros) {
        if let Some(reading) = &mut self.reading {
            reading.handle_time(now);
        }
        while let Some((at, account)) = self.deadlines.first().cloned() {
            if at > now {
                return;
            }
            self.deadlines.remove(&(at, Arc::clone(&account)));
            if let Some(held) = self.accounts.get_mut(&account) {
                held.deadline = None;
                held.account.handle_time(now);
            }
            self.drain(&account, common, now);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Micros> {
        let reading = self.reading.as_ref().and_then(Partition::next_deadline);
        reading.into_iter().chain(self.deadlines.first().map(|(at, _)| *at)).min()
    }

    /// Why an account cannot be answered for.
    pub(super) fn doubt(&self, account: &str, serve_stale: bool, now: Micros) -> Option<Reason> {
        match self.knowledge(account, now) {
            Knowledge::Known { .. } => None,
            Knowledge::Unknown { reason: Reason::Stale, .. } if serve_stale => None,
            Knowledge::Unknown { reason, .. } => Some(reason),
        }
    }

    pub(super) fn as_of(&self, account: &str, now: Micros) -> Option<Micros> {
        match self.knowledge(account, now) {
            Knowledge::Known { as_of } => Some(as_of),
            Knowledge::Unknown { as_of, .. } => as_of,
        }
    }

    pub(super) fn health(&self, serve_stale: bool, now: Micros) -> Health {
        let Some(reading) = &self.reading else { return Health::default() };
        let mut unavailable = BTreeMap::new();
        for reason in self.accounts.keys().filter_map(|account| self.doubt(account, serve_stale, now)) {
            *unavailable.entry(reason).or_default() += 1;
        }
        Health {
            partitions: 1,
            rebuilding: usize::from(!reading.is_live()),
            catching_up: None,
            stale: usize::from(reading.is_live() && !reading.is_fresh(now)),
            quarantined: usize::from(reading.is_quarantined()),
            accounts: self.accounts.len(),
            unavailable,
            as_of: reading.as_of(),
            applied_ms: reading.applied_ms(),
            held_bytes: reading.held_bytes(),
            has_stopped: false,
        }
    }

    /// Why rows of accounts that were never met may be in the partition; None: none are.
    pub(super) fn blindness(&self, serve_stale: bool, now: Micros) -> Option<Reason> {
        self.doubt(NOBODY, serve_stale, now)
    }

    pub(super) fn open(
        &mut self,
        channel: Channel,
        id: &Arc<str>,
        subscriber: Subscriber,
        common: &mut Common,
        now: Micros,
    ) {
        let account = &mut self.entry(id, common, now).account;
        let opened = match subscriber {
            Subscriber::Client { id, token, options } => account.subscribe_client(id, token, options, now),
            Subscriber::Gateway { id, token } => account.subscribe_gateway(id, token, now),
        };
        match opened {
            Ok(of_account) => common.channels.bind(channel, id, of_account),
            Err(refusal) => common.refuse(channel, refusal),
        }
        self.drain(id, common, now);
    }

    pub(super) fn save(&self) -> Option<(ResumePoint, Vec<Saved>)> {
        let point = self.reading.as_ref()?.resume_point()?;
        if self.accounts.values().any(|held| held.is_mixed) {
            return None;
        }
        let saved = self.accounts.iter().map(|(id, held)| Saved {
            account: Arc::clone(id),
            source: held.source,
            snapshot: held.account.snapshot(),
        });
        Some((point, saved.collect()))
    }

    /// Takes what an account has to say, and when it wants to be asked again.
    pub(super) fn drain(&mut self, id: &str, common: &mut Common, _now: Micros) {
        let Some((id, held)) = self.accounts.get_key_value(id).map(|(id, _)| Arc::clone(id)).and_then(|id| {
            let held = self.accounts.get_mut(&id)?;
            Some((id, held))
        }) else {
            return;
        };
        while let Some((channel, event)) = held.account.poll_push() {
            common.tell(&id, channel, event);
        }
        while let Some(flow) = held.account.poll_ended_flow() {
            common.outputs.push_back(Output::EndedFlow { account: Arc::clone(&id), flow });
        }
        tell_problems(held, self.number, &id, &[], common);
        let deadline = held.account.next_deadline();
        if deadline != held.deadline {
            if let Some(before) = std::mem::replace(&mut held.deadline, deadline) {
                self.deadlines.remove(&(before, Arc::clone(&id)));
            }
            if let Some(at) = deadline {
                self.deadlines.insert((at, id));
            }
        }
    }

    fn drain_all(&mut self, common: &mut Common, now: Micros) {
        let ids: Vec<Arc<str>> = self.accounts.keys().cloned().collect();
        for id in ids {
            self.drain(&id, common, now);
        }
    }

    fn knowledge(&self, account: &str, now: Micros) -> Knowledge {
        let known = match &self.reading {
            None => Knowledge::Unknown { reason: Reason::NotAssigned, as_of: None },
            Some(reading) => reading.knowledge(account, now),
        };
        let is_mixed = self.accounts.get(account).is_some_and(|held| held.is_mixed);
        match known {
            Knowledge::Known { as_of } if is_mixed => {
                Knowledge::Unknown { reason: Reason::Unproven, as_of: Some(as_of) }
            }
            known => known,
        }
    }

    fn learn(&mut self, id: &str, common: &mut Common, now: Micros) {
        let knowledge = self.knowledge(id, now);
        if let Some(held) = self.accounts.get_mut(id) {
            held.account.set_knowledge(knowledge, false, now);
        }
        self.drain(id, common, now);
    }

    fn learn_all(&mut self, common: &mut Common, now: Micros) {
        let ids: Vec<Arc<str>> = self.accounts.keys().cloned().collect();
        for id in ids {
            self.learn(&id, common, now);
        }
    }

    fn entry(&mut self, id: &Arc<str>, common: &Common, now: Micros) -> &mut Held {
        if !self.accounts.contains_key(id) {
            let mut account = Account::new(id, Arc::clone(&common.options));
            account.set_knowledge(self.knowledge(id, now), false, now);
            let held = Held { account, source: None, is_mixed: false, deadline: None };
            self.accounts.insert(Arc::clone(id), held);
        }
        self.accounts.get_mut(id).expect("it was inserted")
    }

    /// Changes of a source may be missing: what its flows were authorised for may have changed unseen.
    fn doubt_flows(&mut self, source: u16, common: &mut Common, now: Micros) {
        for held in self.accounts.values_mut().filter(|held| held.source.is_none_or(|of| of == source)) {
            held.account.end_all_flows(now);
            held.account.settle(now);
        }
        self.drain_all(common, now);
    }

    fn apply(&mut self, transaction: Transaction<Event>, common: &mut Common, now: Micros) {
        let Transaction { source, position, time_ms, accounts, everyone, .. } = transaction;
        let time_us = time_ms.saturating_mul(1000);
        if everyone.is_empty() {
            for (id, entries) in accounts {
                let offsets = offsets(&entries);
                let changes = self.changes(&id, source, entries, common);
                self.commit(&id, source, Commit { position, time_us, changes }, &offsets, common, now);
            }
            return;
        }
        let mut accounts = accounts;
        let is_of_source = |held: &Held| held.source == Some(source);
        for (id, _) in self.accounts.iter().filter(|(_, held)| is_of_source(held)) {
            accounts.entry(Arc::clone(id)).or_default();
        }
        for (id, mut entries) in accounts {
            entries.extend(everyone.iter().cloned());
            entries.sort_by_key(|entry| entry.position);
            let offsets = offsets(&entries);
            let changes = self.changes(&id, source, entries, common);
            self.commit(&id, source, Commit { position, time_us, changes }, &offsets, common, now);
        }
    }

    fn changes(&self, id: &Arc<str>, source: u16, entries: Vec<Entry<Event>>, common: &mut Common) -> Vec<Change> {
        let mut changes = Vec::with_capacity(entries.len());
        for Entry { position, offset, effect } in entries {
            let change = |table, action| Change { position, table, action };
            match effect {
                Effect::Row(event) | Effect::Tombstone(event) => {
                    for problem in event.problems {
                        let kind = ProblemKind::Row { table: event.table.name(), problem };
                        common.report(self.number, Some(offset), Some((source, position)), kind);
                    }
                    match &event.action {
                        Action::Insert(row, _) | Action::Update(row, _) | Action::Load(row, _) => {
                            common.note_owner(event.table, *row, id);
                        }
                        Action::Delete(row) => common.forget_owner(event.table, *row, id),
                        Action::Truncate | Action::Sweep { .. } => {}
                    }
                    changes.push(change(event.table, event.action));
                }
                Effect::Truncate { schema, table } => {
                    changes.extend(common.names.table(&schema, &table).map(|table| change(table, Action::Truncate)));
                }
                Effect::Sweep { scope, begin } => {
                    let swept = match &scope.table {
                        None => Table::ALL.to_vec(),
                        Some((schema, table)) => common.names.table(schema, table).into_iter().collect(),
                    };
                    changes.extend(swept.into_iter().map(|table| change(table, Action::Sweep { begin })));
                }
            }
        }
        changes
    }

    fn commit(
        &mut self,
        id: &Arc<str>,
        source: u16,
        commit: Commit,
        offsets: &Offsets,
        common: &mut Common,
        now: Micros,
    ) {
        if **id == *GLOBAL {
            return;
        }
        let (position, number) = (commit.position, self.number);
        let unseen_to = self.reading.as_ref().map_or(Position::ZERO, |reading| {
            reading.unseen_to(source, id, |schema, table| {
                matches!(common.names.table(schema, table), Some(Table::Resources | Table::Flows))
            })
        });
        let held = self.entry(id, common, now);
        // What takes rows away says nothing of whose they are: one without rows has no source yet.
        let brings_rows = commit.changes.iter().any(Change::brings_row);
        if held.source.is_none_or(|of| of != source) && !brings_rows {
            return;
        }
        let first = *held.source.get_or_insert(source);
        if first != source {
            if !std::mem::replace(&mut held.is_mixed, true) {
                let kind = ProblemKind::TwoSources { account: Arc::clone(id), first, second: source };
                let offset = offsets.first().map(|(_, offset)| *offset);
                common.report(self.number, offset, Some((source, position)), kind);
                self.learn(id, common, now);
            }
            return;
        }
        held.account.note_unseen(unseen_to);
        held.account.apply(&commit, now);
        held.account.settle(now);
        tell_problems(held, number, id, offsets, common);
        self.drain(id, common, now);
    }
}

/// Where the rows of a commit stand, by position.
type Offsets = [(Position, i64)];

fn offsets(entries: &[Entry<Event>]) -> Vec<(Position, i64)> {
    entries.iter().map(|entry| (entry.position, entry.offset)).collect()
}

/// Takes what is wrong with an account's rows. `offsets`: of those that came just now, in order; of others there is none.
fn tell_problems(held: &mut Held, partition: u32, id: &Arc<str>, offsets: &Offsets, common: &mut Common) {
    let mut tell = |position: Position, kind| {
        let at = offsets.binary_search_by_key(&position, |(position, _)| *position);
        let offset = at.ok().and_then(|at| offsets.get(at)).map(|(_, offset)| *offset);
        common.report(partition, offset, held.source.map(|source| (source, position)), kind);
    };
    while let Some(problem) = held.account.poll_problem() {
        tell(problem.position, ProblemKind::Policy { account: Arc::clone(id), problem });
    }
    while let Some(orphan) = held.account.poll_orphan() {
        tell(orphan.position, ProblemKind::Orphan { account: Arc::clone(id), orphan });
    }
}

impl Common {
    /// Clients and gateways are asked for without their account.
    fn note_owner(&mut self, table: Table, row: RowId, account: &Arc<str>) {
        if let (Table::Clients | Table::Gateways, RowId::Id(id)) = (table, row) {
            self.owners.insert(id, Arc::clone(account));
        }
    }

    /// The row is gone, unless it is another account's by now.
    fn forget_owner(&mut self, table: Table, row: RowId, account: &Arc<str>) {
        if let (Table::Clients | Table::Gateways, RowId::Id(id)) = (table, row)
            && self.owners.get(&id) == Some(account)
        {
            self.owners.remove(&id);
        }
    }

    fn report(&mut self, partition: u32, offset: Option<i64>, position: Option<(u16, Position)>, kind: ProblemKind) {
        self.outputs.push_back(Output::Problem(Problem { partition: Some(partition), offset, position, kind }));
    }
}
