//! The replica behind its lock, and what is handed out from it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::metrics::Metrics;
use super::now;
use super::reports::Reports;
use crate::account::flows::EndedFlow;
use crate::catch_up::CatchUp;
use crate::channel::push::{DisconnectReason, Message, Push};
use crate::channel::{Event, Refusal};
use crate::health::Health;
use crate::replica::{Channel, Output, Replica, Subscriber};
use crate::rows::Micros;

/// Messages that wait for a channel's reader. One that lets more pile up gets a new `init` when it comes.
const QUEUE_MAX: usize = 10_000;

/// Everything that threads share.
#[derive(Debug)]
pub(super) struct Shared {
    engine: Mutex<Engine>,
    pub(super) metrics: Metrics,
    /// Something was put into the queue of ended flows.
    pub(super) flows_ended: Notify,
    /// The reader's thread has ended unasked.
    pub(super) has_ended: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Engine {
    pub(super) replica: Replica,
    feeds: BTreeMap<u64, Feed>,
    by_channel: BTreeMap<Channel, u64>,
    last_feed: u64,
    /// Partitions that have to be begun before any record of them counts.
    pub(super) to_read: BTreeMap<u32, Begin>,
    pub(super) catch_up: CatchUp,
    /// Filled while somebody takes them.
    pub(super) ended_flows: Option<VecDeque<(Arc<str>, EndedFlow)>>,
    pub(super) stopped: bool,
    pub(super) reports: Reports,
    pushed: u64,
}

/// Where a partition is to be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Where its checkpoint ends, if there is one that fits.
    Kept,
    /// Its first record.
    First,
    /// An offset, behind what the replica was given from a checkpoint.
    At(i64),
}

/// What waits for one channel's reader.
#[derive(Debug)]
struct Feed {
    account: Option<Arc<str>>,
    subscriber: Subscriber,
    channel: Option<Channel>,
    queue: VecDeque<Message>,
    refused: Option<Refusal>,
    /// It was let in once.
    opened: bool,
    /// Too much piled up: it is opened anew when its reader has taken what is here.
    lapsed: bool,
    over: bool,
    news: Arc<Notify>,
}

/// What a channel's reader gets.
#[derive(Debug)]
pub(super) enum Next {
    Message(Message),
    Refused(Refusal),
    /// Nothing more comes.
    Over,
    /// Wait.
    Nothing,
}

impl Shared {
    /// Of a replica of `topic`.
    pub(super) fn new(topic: &str, replica: Replica, metrics: Metrics) -> Self {
        let engine = Engine {
            replica,
            feeds: BTreeMap::new(),
            by_channel: BTreeMap::new(),
            last_feed: 0,
            to_read: BTreeMap::new(),
            catch_up: CatchUp::default(),
            ended_flows: None,
            stopped: false,
            reports: Reports::of_topic(topic),
            pushed: 0,
        };
        Self { engine: Mutex::new(engine), metrics, flows_ended: Notify::new(), has_ended: AtomicBool::new(false) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(|poisoned| {
            // A panic has left something half done. Nothing that is known can be relied on any more, in whichever thread it was.
            let mut engine = poisoned.into_inner();
            engine.forget_everything();
            self.has_ended.store(true, Ordering::Relaxed);
            self.engine.clear_poison();
            engine
        })
    }

    /// Does something with the replica, and hands out what follows.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Replica, Micros) -> T) -> T {
        let mut engine = self.lock();
        let done = act(&mut engine.replica, now());
        self.hand_out(&mut engine);
        done
    }

    /// Likewise, of what a record led to that was committed at `commit_ms`.
    pub(super) fn hand_out_timed(&self, engine: &mut Engine, commit_ms: i64, now: Micros) {
        let before = engine.pushed;
        self.hand_out(engine);
        if engine.pushed > before {
            let delay_us = now.0.saturating_sub(commit_ms.saturating_mul(1000)).max(0);
            self.metrics.delay(delay_us as f64 / 1e6);
        }
    }

    /// How things are now; the metrics are told as well. Takes the lock for one partition at a time.
    pub(super) fn health(&self) -> Health {
        let mut health = Health { has_stopped: self.has_ended.load(Ordering::Relaxed), ..Health::default() };
        let assigned = self.lock().replica.assigned();
        for partition in assigned {
            health.add(&self.lock().replica.health(partition, now()));
        }
        let channels = {
            let engine = self.lock();
            health.catching_up = engine.catch_up.figures(now());
            engine.replica.channels()
        };
        self.metrics.sample(&health, channels);
        health
    }

    pub(super) fn hand_out(&self, engine: &mut Engine) {
        while let Some(output) = engine.replica.poll_output() {
            match output {
                Output::Channel { channel, event } => {
                    if let Event::Push(message) = &event {
                        self.metrics.pushed(&message.push);
                    }
                    engine.pushed += 1;
                    if engine.tell(channel, event) {
                        self.metrics.queue_overflowed();
                    }
                }
                Output::EndedFlow { account, flow } => {
                    tracing::debug!(account = &*account, flow = %flow.id, why = ?flow.why, "a flow has ended");
                    self.metrics.flow_ended(flow.why);
                    if let Some(queue) = &mut engine.ended_flows {
                        queue.push_back((account, flow));
                        self.flows_ended.notify_one();
                    }
                }
                Output::Read { partition, why } => {
                    tracing::warn!(partition, ?why, "the partition is read again from its beginning");
                    engine.to_read.insert(partition, Begin::First);
                    self.metrics.rebuild(&why);
                }
                Output::Problem(problem) => {
                    self.metrics.problem(&problem.kind);
                    engine.reports.take(&problem);
                }
            }
        }
    }
}

impl Engine {
    pub(super) fn open(&mut self, account: Option<Arc<str>>, subscriber: Subscriber) -> (u64, Arc<Notify>) {
        self.last_feed += 1;
        let news = Arc::new(Notify::new());
        let feed = Feed {
            account,
            subscriber,
            channel: None,
            queue: VecDeque::new(),
            refused: None,
            opened: false,
            lapsed: false,
            over: false,
            news: Arc::clone(&news),
        };
        self.feeds.insert(self.last_feed, feed);
        self.subscribe(self.last_feed);
        (self.last_feed, news)
    }

    fn subscribe(&mut self, number: u64) {
        let Some(feed) = self.feeds.get_mut(&number) else { return };
        let channel = self.replica.subscribe(feed.account.as_deref(), feed.subscriber, now());
        feed.channel = Some(channel);
        self.by_channel.insert(channel, number);
    }

    /// Whether that was too much for the channel's queue.
    fn tell(&mut self, channel: Channel, event: Event) -> bool {
        let Some(number) = self.by_channel.get(&channel).copied() else { return false };
        let Some(feed) = self.feeds.get_mut(&number) else { return false };
        match event {
            Event::Push(message) => {
                feed.opened |= matches!(message.push, Push::ClientInit { .. } | Push::GatewayInit { .. });
                feed.over |= matches!(message.push, Push::Disconnect { .. });
                feed.queue.push_back(message);
            }
            // It was open, and may not be any more.
            Event::Refused(refusal) if feed.opened => {
                let reason = DisconnectReason::from(refusal);
                let at = feed.queue.back().map_or(penstock_wire::position::Position::ZERO, |message| message.at);
                feed.queue.push_back(Message { at, deadline: None, push: Push::Disconnect { reason } });
                feed.over = true;
            }
            Event::Refused(refusal) => {
                feed.refused = Some(refusal);
                feed.over = true;
            }
        }
        let overflows = !feed.over && feed.queue.len() > QUEUE_MAX;
        if feed.over {
            self.by_channel.remove(&channel);
            feed.channel = None;
        } else if overflows {
            feed.lapsed = true;
            // It rests on the token that it was let in with, whatever its row names by then.
            feed.subscriber = feed.subscriber.again_with(self.replica.channel_token(channel));
            feed.queue.clear();
            feed.channel = None;
            self.by_channel.remove(&channel);
            self.replica.unsubscribe(channel);
        }
        feed.news.notify_one();
        overflows
    }

    pub(super) fn next(&mut self, number: u64) -> Next {
        let Some(feed) = self.feeds.get_mut(&number) else { return Next::Over };
        if let Some(message) = feed.queue.pop_front() {
            return Next::Message(message);
        }
        if let Some(refusal) = feed.refused.take() {
            return Next::Refused(refusal);
        }
        if feed.over || self.stopped {
            return Next::Over;
        }
        if std::mem::take(&mut feed.lapsed) {
            self.subscribe(number);
        }
        Next::Nothing
    }

    pub(super) fn close(&mut self, number: u64) {
        let Some(channel) = self.feeds.remove(&number).and_then(|feed| feed.channel) else { return };
        self.by_channel.remove(&channel);
        self.replica.unsubscribe(channel);
    }

    /// Nothing is known any more, and nothing more comes.
    fn forget_everything(&mut self) {
        self.replica = self.replica.blank();
        self.to_read.clear();
        self.by_channel.clear();
        self.stop();
    }

    /// Nothing more comes.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.feeds.values().for_each(|feed| feed.news.notify_one());
    }
}

#[cfg(test)]
mod tests;
