//! All that one instance knows: the partitions that it reads, their accounts, and the channels of those.
//!
//! ```text
//! record ─▶ decode ─▶ Partition ─▶ whole transactions ─▶ Account::apply, settle ─▶ pushes, ended flows
//! progress ─────────▶ Partition ─▶ what may be believed ─▶ Account::set_knowledge ─┘
//! clock ────────────▶ both
//! ```
//!
//! A state machine without a clock, a socket or a thread: `handle_…` takes what happened and the time, `poll_output` gives
//! what follows. Whoever drives it feeds each assigned partition's records in offset order from where `assign` or
//! [`Output::Read`] said, and the progress topic's.
//!
//! Invariants: between two calls every account stands at the end of a transaction; nothing is answered or pushed from the
//! middle of one. Rows of one source are never judged by the positions of another: an account has one source, and what
//! another says of it puts it in doubt. What cannot be read denies: it is told, with where it stands, and quarantines
//! whose it may be.

mod changes;
mod channels;
mod problem;
mod raw;
mod share;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use penstock_wire::account::Account as AccountId;
use penstock_wire::partition::Partitioner;
use penstock_wire::progress::Progress;
use uuid::Uuid;

use crate::account::flows::EndedFlow;
use crate::account::show::Show;
use crate::account::{self, Account};
use crate::authorize::{Answer, NewFlow, Request};
use crate::channel::{Event, Refusal};
use crate::decode::Names;
use crate::health::Health;
use crate::knowledge::Reason;
use crate::partition::{self, ResumePoint};
use crate::rows::Micros;

pub(crate) use changes::changes_of;
use channels::Channels;
pub use channels::{Channel, Subscriber};
pub use problem::{Problem, ProblemKind};
pub(crate) use raw::Written;
pub use raw::{RawRecord, UnknownSchema};
use share::Share;
pub use share::{Reading, Saved};

/// What a replica is made for.
#[derive(Clone, Debug)]
pub struct Options {
    pub account: account::Options,
    pub partition: partition::Options,
    /// What the tables are called.
    pub names: Names,
    /// The topic's.
    pub partitions: Partitioner,
}

/// What follows from what was handed in.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// A channel has to be told something.
    Channel { channel: Channel, event: Event },
    /// A flow has ended for good: its row should be deleted.
    EndedFlow { account: Arc<str>, flow: EndedFlow },
    /// Read the partition again, from its beginning. Records that were asked for before count no more.
    Read { partition: u32, why: partition::RebuildReason },
    /// A person should know.
    Problem(Problem),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Replica {
    common: Common,
    schemas: Written,
    /// Of every partition that was ever assigned here, or of whose accounts channels were opened.
    shares: BTreeMap<u32, Share>,
}

/// What shares write to and go by.
#[derive(Debug)]
struct Common {
    options: Arc<account::Options>,
    partition: partition::Options,
    partitions: Partitioner,
    channels: Channels,
    /// Whose row it was when it was last written; a hint.
    owners: BTreeMap<Uuid, Arc<str>>,
    names: Names,
    /// The newest progress of each source of the topic.
    heard: BTreeMap<u16, Progress>,
    outputs: VecDeque<Output>,
}

impl Replica {
    /// Of a topic of which nothing is assigned yet.
    pub fn new(options: Options) -> Self {
        let Options { account, partition, names, partitions } = options;
        let common = Common {
            options: Arc::new(account),
            partition,
            partitions,
            channels: Channels::default(),
            owners: BTreeMap::new(),
            names: names.clone(),
            heard: BTreeMap::new(),
            outputs: VecDeque::new(),
        };
        Self { common, schemas: Written::new(names), shares: BTreeMap::new() }
    }

    /// One that is set up like this one, and to which nothing is assigned.
    pub fn blank(&self) -> Self {
        let Common { options, partition, partitions, names, .. } = &self.common;
        let (account, partition, names, partitions) = (**options, *partition, names.clone(), *partitions);
        Self::new(Options { account, partition, names, partitions })
    }

    /// The partition is this instance's: its records come from its first one on.
    pub fn assign(&mut self, partition: u32, now: Micros) {
        let share = self.shares.entry(partition).or_insert_with(|| Share::new(partition));
        share.rebuild(Vec::new(), &mut self.common, now);
        self.after(partition, now);
    }

    /// The partition is this instance's, and this is how far it was read before: its records come from
    /// [`ResumePoint::offset`] on.
    pub fn resume(&mut self, point: ResumePoint, accounts: Vec<Saved>, now: Micros) {
        let partition = point.partition();
        let share = self.shares.entry(partition).or_insert_with(|| Share::new(partition));
        share.resume(point, accounts, &mut self.common, now);
        self.after(partition, now);
    }

    /// The partition is another instance's. Its channels hear it, and its rows are dropped.
    pub fn revoke(&mut self, partition: u32, now: Micros) {
        if let Some(share) = self.shares.get_mut(&partition) {
            share.release(&mut self.common, now);
        }
        self.after(partition, now);
    }

    /// Compiles a schema that [`UnknownSchema`] asked for; one that the registry does not have is `None`.
    pub fn handle_schema(&mut self, id: u32, json: Option<&str>) {
        for problem in self.schemas.insert(id, json) {
            self.common.outputs.push_back(Output::Problem(problem));
        }
    }

    /// Takes the next record of an assigned partition.
    ///
    /// # Errors
    /// Nothing was taken: hand in the schema, and the record again.
    pub fn handle_record(&mut self, record: &RawRecord<'_>, now: Micros) -> Result<(), UnknownSchema> {
        let Some(share) = self.shares.get_mut(&record.partition) else { return Ok(()) };
        let Some(reading) = &mut share.reading else { return Ok(()) };
        match self.schemas.read(record)? {
            Ok(record) => reading.handle_record(record, now),
            Err(reason) => reading.handle_misplaced(record.offset, reason, now),
        }
        self.after(record.partition, now);
        Ok(())
    }

    /// Takes a progress record, in the order of the progress topic.
    pub fn handle_progress(&mut self, progress: &Progress, now: Micros) {
        // Of a topic that was replaced nothing is worth keeping.
        self.common.heard.retain(|_, heard| heard.topic_id == progress.topic_id);
        self.common.heard.insert(progress.source_number, progress.clone());
        for partition in self.assigned() {
            if let Some(reading) = self.shares.get_mut(&partition).and_then(|share| share.reading.as_mut()) {
                reading.handle_progress(progress, now);
            }
            self.after(partition, now);
        }
    }

    /// An assigned partition was seen to end at an offset, and everything below it was handed in.
    pub fn handle_end(&mut self, partition: u32, offset: i64, now: Micros) {
        if let Some(reading) = self.shares.get_mut(&partition).and_then(|share| share.reading.as_mut()) {
            reading.handle_end(offset, now);
        }
        self.after(partition, now);
    }

    /// Time has passed.
    pub fn handle_time(&mut self, now: Micros) {
        let partitions: Vec<u32> = self.shares.keys().copied().collect();
        for partition in partitions {
            if let Some(share) = self.shares.get_mut(&partition) {
                share.handle_time(&mut self.common, now);
            }
            self.after(partition, now);
        }
    }

    /// The first instant at which `handle_time` may have something to do.
    pub fn next_deadline(&self) -> Option<Micros> {
        self.shares.values().filter_map(Share::next_deadline).min()
    }

    /// What follows; `None` once nothing does.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.common.outputs.pop_front()
    }

    /// Opens a channel. `account`: None to look for it. Whether it may be open is told by its events: `init`, or a refusal.
    pub fn subscribe(&mut self, account: Option<&str>, subscriber: Subscriber, now: Micros) -> Channel {
        let channel = self.common.channels.wait(account.map(Arc::from), subscriber);
        self.settle_waiting(now, Some(channel));
        channel
    }

    /// Closes a channel; what was not polled yet is dropped.
    pub fn unsubscribe(&mut self, channel: Channel) {
        if let Some((account, id)) = self.common.channels.close(channel)
            && let Some(account) = self.account_mut(&account)
        {
            account.unsubscribe(id);
        }
        let is_its = |output: &Output| matches!(output, Output::Channel { channel: of, .. } if *of == channel);
        self.common.outputs.retain(|output| !is_its(output));
    }

    /// The token that a channel rests on; None: it was not let in yet.
    pub fn channel_token(&self, channel: Channel) -> Option<Uuid> {
        let (account, id) = self.common.channels.place(channel)?;
        self.account(&account)?.channel_token(id)
    }

    /// The channel's reader is too slow: until `resume_channel` it hears of nothing but its end and of knowledge.
    pub fn pause_channel(&mut self, channel: Channel) {
        if let Some((account, id)) = self.common.channels.place(channel)
            && let Some(account) = self.account_mut(&account)
        {
            account.pause(id);
        }
    }

    /// The reader has caught up: what differs by now is told as one difference.
    pub fn resume_channel(&mut self, channel: Channel, now: Micros) {
        let Some((account, id)) = self.common.channels.place(channel) else { return };
        if let Some(account) = self.account_mut(&account) {
            account.resume(id, now);
        }
        self.drain(&account, now);
    }

    /// Whether a client may reach a resource, and by which flow.
    pub fn authorize(&self, request: &Request<'_>, now: Micros) -> Answer {
        match self.account_of(request.client, Account::has_client, now) {
            Ok(account) => match self.doubt(account.id(), now) {
                Some(reason) => Answer::Unavailable { reason },
                None => account.authorize(request, now),
            },
            Err(Some(reason)) => Answer::Unavailable { reason },
            Err(None) => Answer::NotFound,
        }
    }

    /// The account that a client's row is in, as far as it is known here.
    pub fn account_of_client(&self, client: Uuid) -> Option<&Account> {
        self.holder_of(client, Account::has_client)
    }

    /// The token that a client's row was last used with.
    pub fn last_used_token(&self, client: Uuid) -> Option<Uuid> {
        self.holder_of(client, Account::has_client)?.last_used_token(client)
    }

    /// Authorises a flow on its gateway before its row comes; false, and nothing happens, if it may not be or is known.
    pub fn announce(&mut self, flow: &NewFlow, now: Micros) -> bool {
        if self.doubt(&flow.account_id, now).is_some() {
            return false;
        }
        let announced = self.account_mut(&flow.account_id).is_some_and(|account| account.announce(flow, now));
        self.drain(&flow.account_id, now);
        announced
    }

    /// The row of an announced flow will not come.
    pub fn withdraw(&mut self, account: &str, flow: Uuid, now: Micros) {
        if let Some(account) = self.account_mut(account) {
            account.withdraw(flow, now);
        }
        self.drain(account, now);
    }

    /// Who may reach what in an account; None: it is not known here.
    pub fn show(&self, account: &str, now: Micros) -> Option<Show> {
        let share = self.shares.get(&self.partition_of(account))?;
        let mut show = share.accounts.get(account)?.account.show(now);
        show.as_of = share.as_of(account, now).map(Micros::seconds);
        Some(show)
    }

    /// Why an account cannot be answered for; None: it can.
    pub fn doubt(&self, account: &str, now: Micros) -> Option<Reason> {
        let partition = self.partition_of(account);
        match self.shares.get(&partition) {
            None => Some(Reason::NotAssigned),
            Some(share) => share.doubt(account, self.common.options.serve_stale, now),
        }
    }

    /// An account that has rows or channels here.
    pub fn account(&self, account: &str) -> Option<&Account> {
        self.shares.get(&self.partition_of(account))?.accounts.get(account).map(|held| &held.account)
    }

    /// Ids of accounts with rows here, in order of partition and id.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.shares.values().flat_map(|share| share.accounts.values().map(|held| &held.account))
    }

    /// How an assigned partition is read.
    pub fn reading(&self, partition: u32) -> Option<&Reading> {
        self.shares.get(&partition)?.reading.as_ref()
    }

    /// Partitions that are read here, in order.
    pub fn assigned(&self) -> Vec<u32> {
        let assigned = self.shares.iter().filter(|(_, share)| share.reading.is_some());
        assigned.map(|(number, _)| *number).collect()
    }

    /// The figures of one assigned partition; of one that is not, none.
    pub fn health(&self, partition: u32, now: Micros) -> Health {
        let serve_stale = self.common.options.serve_stale;
        self.shares.get(&partition).map_or_else(Health::default, |share| share.health(serve_stale, now))
    }

    /// What a later instance needs to go on with a partition; None where that cannot be told now.
    pub fn save(&self, partition: u32) -> Option<(ResumePoint, Vec<Saved>)> {
        self.shares.get(&partition)?.save()
    }

    /// How many channels are open, waiting ones included.
    pub fn channels(&self) -> usize {
        self.common.channels.len()
    }

    /// The partition that an account's records are in.
    pub fn partition_of(&self, account: &str) -> u32 {
        self.common.partition_of(account)
    }

    fn account_mut(&mut self, account: &str) -> Option<&mut Account> {
        self.shares.get_mut(&self.common.partition_of(account))?.accounts.get_mut(account).map(|held| &mut held.account)
    }

    /// Takes what an account has to say.
    fn drain(&mut self, account: &str, now: Micros) {
        let partition = self.common.partition_of(account);
        if let Some(share) = self.shares.get_mut(&partition) {
            share.drain(account, &mut self.common, now);
        }
    }

    /// Takes what follows in a partition.
    fn after(&mut self, partition: u32, now: Micros) {
        let Some(share) = self.shares.get_mut(&partition) else { return };
        if share.drive(&mut self.common, now) && self.common.channels.any_waits() {
            self.settle_waiting(now, None);
        }
    }

    /// The account that has the row; else why that is not known, or None: nobody has it.
    fn account_of(&self, id: Uuid, has: fn(&Account, Uuid) -> bool, now: Micros) -> Result<&Account, Option<Reason>> {
        let serve_stale = self.common.options.serve_stale;
        let blindness = |partition: penstock_wire::partition::PartitionId| match self.shares.get(&partition.number()) {
            None => Some(Reason::NotAssigned),
            Some(share) => share.blindness(serve_stale, now),
        };
        self.holder_of(id, has).ok_or_else(|| self.common.partitions.all().find_map(blindness))
    }

    fn holder_of(&self, id: Uuid, has: fn(&Account, Uuid) -> bool) -> Option<&Account> {
        let has = |account: &&Account| has(account, id);
        let hinted = self.common.owners.get(&id).and_then(|owner| self.account(owner)).filter(has);
        hinted.or_else(|| self.accounts().find(has))
    }

    /// Finds the accounts of channels that wait for it.
    fn settle_waiting(&mut self, now: Micros, new: Option<Channel>) {
        for (channel, account, subscriber) in self.common.channels.waiting() {
            let found = match account {
                Some(account) => Ok(account),
                None => subscriber.find(|id, has| self.account_of(id, has, now)).map(|account| Arc::from(account.id())),
            };
            match found {
                Ok(account) => {
                    let partition = self.partition_of(&account);
                    let share = self.shares.entry(partition).or_insert_with(|| Share::new(partition));
                    share.open(channel, &account, subscriber, &mut self.common, now);
                }
                Err(None) => self.common.refuse(channel, Refusal::NotLive),
                Err(Some(reason)) if new == Some(channel) => self.common.tell_waiting(channel, reason),
                Err(Some(_)) => {}
            }
        }
    }
}

impl Common {
    fn partition_of(&self, account: &str) -> u32 {
        let account = AccountId::from_column(Some(account.as_bytes())).unwrap_or(AccountId::NONE);
        self.partitions.partition(account).number()
    }
}
