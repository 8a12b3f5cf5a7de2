//! A consumer, as the service drives it: it reads the change topic and progress, is slow, dies and comes back; and what it
//! calls known is compared with what the database held.

use std::time::Duration;

use penstock_access::account;
use penstock_access::authorize::{Answer, Request};
use penstock_access::decode::Names;
use penstock_access::knowledge::Knowledge;
use penstock_access::partition::{self, Isolation, ResumePoint};
use penstock_access::replica::{Options, Output, RawRecord, Replica, Saved, UnknownSchema};
use penstock_access::rows::Micros;

use crate::bridge::read_progress;
use crate::broker::{COMPACTION_LAG_US, PARTITIONS, PROGRESS, RETENTION_US, Stored, View};
use crate::checker::broken;
use crate::outside::{Outside, partitioner};
use crate::tables::{CLIENTS, RESOURCES, TABLES, TOKENS, uuid};
use crate::truth::held;

const STALE_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Reader {
    pub number: usize,
    view: View,
    replica: Replica,
    /// The next record to read, by partition.
    offsets: [i64; PARTITIONS],
    /// The same of progress.
    progress: i64,
    saved: Vec<(ResumePoint, Vec<Saved>)>,
    pub rebuilds: usize,
    pub compared: u64,
}

fn replica(view: View) -> Replica {
    let isolation = match view {
        View::Committed => Isolation::ReadCommitted,
        View::Everything => Isolation::ReadUncommitted,
    };
    let micros = |us: i64| Duration::from_micros(u64::try_from(us).expect("a duration"));
    let partition = partition::Options {
        isolation,
        stale_after: STALE_AFTER,
        compaction_lag: micros(COMPACTION_LAG_US),
        tombstone_retention: micros(RETENTION_US),
    };
    let (account, names) = (account::Options::default(), Names::default());
    Replica::new(Options { account, partition, names, partitions: partitioner() })
}

impl Reader {
    pub fn new(number: usize, view: View, now: i64) -> Self {
        let (offsets, saved) = Default::default();
        let mut reader =
            Self { number, view, replica: replica(view), offsets, progress: 0, saved, rebuilds: 0, compared: 0 };
        reader.restart(now, false);
        reader
    }

    /// A new process, with what was saved or without.
    pub fn restart(&mut self, now: i64, with_saved: bool) {
        self.replica = replica(self.view);
        (self.offsets, self.progress) = ([0; PARTITIONS], 0);
        let mut fresh: Vec<u32> = (0..3).collect();
        for (point, accounts) in self.saved.iter().filter(|_| with_saved) {
            fresh.retain(|partition| *partition != point.partition());
            self.offsets[point.partition() as usize] = point.offset();
            self.replica.resume(point.clone(), accounts.clone(), Micros(now));
        }
        fresh.into_iter().for_each(|partition| self.replica.assign(partition, Micros(now)));
    }

    /// What a later process can go on with, through the text that it would be kept as.
    pub fn save(&mut self) {
        let saved = (0..3).filter_map(|partition| self.replica.save(partition));
        self.saved = saved
            .map(|(point, accounts)| {
                let text = serde_json::to_string(&point).expect("it can be written");
                (serde_json::from_str(&text).expect("it can be read"), accounts)
            })
            .collect();
    }

    /// Reads a little of everything.
    pub fn step(&mut self, outside: &mut Outside) {
        let now = Micros(outside.now);
        let order = outside.random.below(6);
        for turn in 0..PARTITIONS {
            let place = (order + turn * (1 + order / PARTITIONS)) % PARTITIONS;
            let records = outside.random.below(30);
            self.read(place, records, outside);
        }
        let records = outside.random.below(12);
        let log = &outside.broker.logs[PROGRESS];
        for stored in log.fetch(self.progress, View::Committed).take(records) {
            self.progress = stored.offset + 1;
            self.replica.handle_progress(&read_progress(&stored.record), now);
        }
        self.replica.handle_time(now);
        self.listen(outside);
        self.compare(outside);
    }

    /// To the end of everything.
    pub fn catch_up(&mut self, outside: &mut Outside) {
        (0..PARTITIONS).for_each(|place| self.read(place, usize::MAX, outside));
        let log = &outside.broker.logs[PROGRESS];
        for stored in log.fetch(self.progress, View::Committed) {
            self.progress = stored.offset + 1;
            self.replica.handle_progress(&read_progress(&stored.record), Micros(outside.now));
        }
        self.replica.handle_time(Micros(outside.now));
        self.listen(outside);
        self.compare(outside);
    }

    /// Whatever is asked for anew counts from its beginning: what was fetched before is dropped.
    fn read(&mut self, place: usize, records: usize, outside: &mut Outside) {
        let now = Micros(outside.now);
        let end = outside.broker.logs[place].end(self.view);
        let fetched = outside.broker.logs[place].fetch(self.offsets[place], self.view).take(records);
        let fetched: Vec<Stored> = fetched.cloned().collect();
        let rebuilds = self.rebuilds;
        for stored in &fetched {
            self.offsets[place] = stored.offset + 1;
            self.take(place, stored, outside);
            self.listen(outside);
            if self.rebuilds > rebuilds {
                return;
            }
        }
        if fetched.len() < records {
            self.offsets[place] = self.offsets[place].max(end);
            self.replica.handle_end(u32::try_from(place).expect("few partitions"), end, now);
            self.listen(outside);
        }
    }

    fn take(&mut self, place: usize, stored: &Stored, outside: &Outside) {
        let record = RawRecord {
            partition: u32::try_from(place).expect("few partitions"),
            offset: stored.offset,
            timestamp_ms: stored.record.timestamp_ms,
            header: stored.record.header.as_ref().map(<[u8; 44]>::as_slice),
            is_control: stored.record.control.is_some(),
            key: &stored.record.key,
            value: stored.record.value.as_deref(),
        };
        while let Err(UnknownSchema(id)) = self.replica.handle_record(&record, Micros(outside.now)) {
            self.replica.handle_schema(id, outside.registry.schema(id));
        }
    }

    fn listen(&mut self, outside: &mut Outside) {
        let number = self.number;
        while let Some(output) = self.replica.poll_output() {
            match output {
                Output::Read { partition, why } => {
                    self.rebuilds += 1;
                    self.offsets[partition as usize] = 0;
                    outside.say(|| format!("reader {number}: rebuilds {partition}: {why:?}"));
                }
                Output::Problem(problem) => outside.say(|| format!("reader {number}: {:?}", problem.kind)),
                Output::Channel { .. } | Output::EndedFlow { .. } => {}
            }
        }
    }

    /// What is known is what the database held at the instant that is named, or later.
    fn compare(&mut self, outside: &mut Outside) {
        let (now, number) = (outside.now, self.number);
        for account in outside.truth.accounts() {
            let partition = self.replica.partition_of(account);
            let reading = self.replica.reading(partition).expect("every partition is assigned");
            let doubt = self.replica.doubt(account, Micros(now));
            let Knowledge::Known { as_of } = reading.knowledge(account, Micros(now)) else {
                if doubt.is_none() {
                    broken!(G9, "reader {number} has no doubt of {account}, and does not know it");
                }
                continue;
            };
            if doubt.is_some() {
                continue;
            }
            if u128::try_from(now - as_of.0).is_ok_and(|age| age >= STALE_AFTER.as_micros()) {
                broken!(G9, "reader {number} answers for {account} as of {} s ago", (now - as_of.0) / 1_000_000);
            }
            let picture = held(&self.replica, account, Micros(now));
            self.compared += 1;
            if !outside.truth.was(account, &picture, as_of.0) {
                let (newest, known) = (outside.truth.newest(account), now - as_of.0);
                let more: Vec<_> = picture.iter().filter(|(key, text)| newest.get(key) != Some(text)).collect();
                let less: Vec<_> = newest.iter().filter(|(key, text)| picture.get(key) != Some(text)).collect();
                broken!(
                    G9,
                    "reader {number} takes for known, as of {known} us ago, of {account} of partition {partition} what it \
                     was at no time since; against now: it has {more:?}, it lacks {less:?}"
                );
            }
        }
        self.ask(outside);
    }

    /// Who is in doubt gets no answer.
    fn ask(&self, outside: &mut Outside) {
        let chosen = outside.random.below(8);
        let id = |table: usize| uuid(table, chosen).parse().expect("a uuid");
        let (client, token, resource) = (id(CLIENTS), id(TOKENS), id(RESOURCES));
        let request = Request { client, token, resource, flow: id(TABLES.len()), online: &[] };
        let now = Micros(outside.now);
        let answer = self.replica.authorize(&request, now);
        let doubts = |account: &&String| self.replica.doubt(account, now).is_some();
        let all_doubted = outside.truth.accounts().all(|account| doubts(&account));
        if all_doubted && !matches!(answer, Answer::Unavailable { .. } | Answer::NotFound) {
            broken!(G9, "reader {} answers {answer:?}, and doubts everything", self.number);
        }
    }

    /// Nothing is in the way any more: everything is known, and as it is.
    pub fn settled(&self, outside: &Outside) {
        let now = Micros(outside.now);
        for account in outside.truth.accounts() {
            if let Some(reason) = self.replica.doubt(account, now) {
                let reading = self.replica.reading(self.replica.partition_of(account));
                broken!(G9, "reader {} doubts {account} for ever: {reason:?}; {reading:?}", self.number);
            }
            let picture = held(&self.replica, account, now);
            let newest = outside.truth.newest(account);
            if picture != *newest {
                broken!(G9, "reader {} holds {picture:?} of {account} in the end, not {newest:?}", self.number);
            }
        }
    }
}
