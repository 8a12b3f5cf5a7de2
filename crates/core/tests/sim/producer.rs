//! A producer as the sink's thread drives it: batches and commits in their order, reports in any.

use std::collections::VecDeque;

use penstock_core::batch::{Batch, Record, Topic};
use penstock_core::ledger::{Delivered, Ticket};
use penstock_wire::partition::PartitionId;

use crate::broker::{Broker, Fate, PARTITIONS, PROGRESS, Refused, Written};
use crate::random::Random;

/// A record on its way, with what its report needs.
type Sent = (Written, Option<(Ticket, PartitionId)>);

#[derive(Debug)]
enum Command {
    Produce(Vec<Sent>),
    Commit(Written),
}

/// Where the commit of the open transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commit {
    None,
    /// Progress is on its way.
    Progress,
    /// The end was sent, and no answer has come.
    Ending,
}

/// A request that the network holds back. Its sender may be gone when it arrives.
#[derive(Debug)]
pub enum Request {
    Append(u32, usize, Written),
    End(u32),
}

impl Request {
    /// Producer and place, of what keeps its order.
    pub fn flow(&self) -> (u32, Option<usize>) {
        match self {
            Self::Append(epoch, place, _) => (*epoch, Some(*place)),
            Self::End(epoch) => (*epoch, None),
        }
    }
}

/// What the session hears.
#[derive(Debug)]
pub enum Heard {
    Delivered(Vec<Delivered>),
    /// The commit's answer, with where its records end in each place.
    Committed(Claim),
    Failed(&'static str),
}

/// By place: the offset behind the transaction's last record there.
pub type Claim = [i64; PARTITIONS + 1];

#[derive(Debug)]
pub struct Producer {
    pub epoch: u32,
    commands: VecDeque<Command>,
    sending: [VecDeque<Sent>; PARTITIONS + 1],
    reports: Vec<Delivered>,
    ends: Claim,
    commit: Commit,
    failed: Option<&'static str>,
    /// Bytes of keys and values handed over, and not yet reported.
    pub unreported: usize,
}

impl Producer {
    pub fn new(epoch: u32) -> Self {
        Self {
            epoch,
            commands: VecDeque::new(),
            sending: Default::default(),
            reports: Vec::new(),
            ends: Claim::default(),
            commit: Commit::None,
            failed: None,
            unreported: 0,
        }
    }

    pub fn produce(&mut self, mut batch: Batch) {
        let record = |record: Record<'_>| {
            assert_eq!(record.topic, Topic::Changes, "nothing here cannot be delivered");
            let written = Written {
                key: record.key.to_vec(),
                value: record.value.map(<[u8]>::to_vec),
                header: Some(record.header),
                control: record.control,
                timestamp_ms: record.timestamp_ms,
            };
            (written, Some((record.ticket, record.partition)))
        };
        let records: Vec<Sent> = batch.drain().map(record).collect();
        self.unreported += records.iter().map(|(written, _)| written.bytes()).sum::<usize>();
        self.commands.push_back(Command::Produce(records));
        self.work();
    }

    pub fn commit(&mut self, progress: Written) {
        self.commands.push_back(Command::Commit(progress));
        self.work();
    }

    pub fn fail(&mut self, why: &'static str) {
        self.failed.get_or_insert(why);
    }

    /// Does commands up to a commit.
    fn work(&mut self) {
        while self.commit == Commit::None
            && let Some(command) = self.commands.pop_front()
        {
            match command {
                Command::Produce(records) => {
                    for sent in records {
                        let place = sent.1.as_ref().map_or(PROGRESS, |(_, partition)| partition.index());
                        self.sending[place].push_back(sent);
                    }
                }
                Command::Commit(progress) => {
                    self.sending[PROGRESS].push_back((progress, None));
                    self.commit = Commit::Progress;
                }
            }
        }
    }

    /// A record reaches its broker; the place, and what is there now.
    pub fn push(&mut self, broker: &mut Broker, random: &mut Random) -> Option<(usize, i64)> {
        let busy: Vec<usize> = (0..=PROGRESS).filter(|place| !self.sending[*place].is_empty()).collect();
        let place = *random.pick(&busy)?;
        let (written, _) = self.sending[place].front()?;
        let offset = match broker.append(self.epoch, place, written.clone()) {
            Ok(offset) => offset,
            Err(Refused::Busy) => return None,
            Err(Refused::Fenced | Refused::NoTransaction) => {
                self.fail("the producer is fenced");
                return None;
            }
        };
        let (written, ticket) = self.sending[place].pop_front()?;
        self.ends[place] = offset + 1;
        match ticket {
            Some((ticket, partition)) => {
                self.reports.push(Delivered { ticket, partition, offset, bytes: written.bytes() });
            }
            None => self.commit = Commit::Ending,
        }
        Some((place, offset))
    }

    /// The end of the transaction goes onto the network.
    pub fn end_request(&self) -> Option<Request> {
        (self.commit == Commit::Ending).then_some(Request::End(self.epoch))
    }

    /// The end's answer arrives.
    pub fn ended(&mut self, answer: Result<(), Refused>, heard: &mut VecDeque<Heard>) {
        match answer {
            Ok(()) => {
                heard.push_back(Heard::Committed(std::mem::take(&mut self.ends)));
                self.commit = Commit::None;
                self.work();
            }
            Err(_) => self.fail("the commit was refused"),
        }
    }

    /// Some reports are served, in any order.
    pub fn report(&mut self, random: &mut Random, heard: &mut VecDeque<Heard>) {
        if let Some(why) = self.failed.take() {
            heard.push_back(Heard::Failed(why));
            return;
        }
        let count = self.reports.len().min(1 + random.below(6));
        let served: Vec<Delivered> =
            (0..count).map(|_| self.reports.swap_remove(random.below(self.reports.len()))).collect();
        if !served.is_empty() {
            self.unreported -= served.iter().map(|report| report.bytes).sum::<usize>();
            heard.push_back(Heard::Delivered(served));
        }
    }

    /// The process is gone: what the network has taken may still arrive.
    pub fn abandon(mut self, random: &mut Random, network: &mut Vec<Request>) {
        for (place, sent) in self.sending.iter_mut().enumerate() {
            let taken = random.below(sent.len() + 1);
            network.extend(sent.drain(..taken).map(|(written, _)| Request::Append(self.epoch, place, written)));
        }
    }
}

/// A request that was held back arrives. Nobody waits for the answer of a record.
pub fn arrive(request: &Request, broker: &mut Broker) -> Result<Option<usize>, Refused> {
    match request {
        // A broker asks the coordinator whether the transaction goes on before it takes a record of it.
        Request::Append(epoch, place, written) => {
            if !broker.is_ongoing() {
                return Err(Refused::NoTransaction);
            }
            broker.append(*epoch, *place, written.clone()).map(|_| Some(*place))
        }
        Request::End(epoch) => broker.end(*epoch, Fate::Committed).map(|()| None),
    }
}
