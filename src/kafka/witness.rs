//! Sees with a reader's eyes that what was committed can be read.
//!
//! A commit that has returned is decided, and its records become readable when the coordinator has written its marker into
//! every partition. A coordinator that restarts between the two can forget partitions whose leader it does not know yet
//! (Kafka 4.4 calls them "likely deleted"): the commit has returned, and readers never see its records; should the next
//! transaction of the same producer be aborted, its marker aborts them too. So the slot is told of a commit only after
//! its records are below the last stable offset of their partitions. See decision 0010.
//!
//! A log can also end before what was committed: a topic that was made anew, an election that lost records. That, too, never
//! becomes readable. Every way in which the witness cannot see what it waits for has a bound, and then the session ends; only
//! another source's open transaction has none of ours: the brokers end it by its own timeout.
//!
//! What is aborted is below the last stable offset as well. The brokers abort by the transaction's timeout at the earliest what
//! the coordinator has forgotten, together with the producer's next transaction; so what is seen later than half of that after
//! the commit has returned (the process stood still, or nobody answered) proves nothing, and the session ends.
//!
//! It has a thread and a reader of its own: the producer does not wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use penstock_wire::header::{HEADER_NAME, Header};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Headers as _;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::sync::mpsc::UnboundedSender;

use super::client::{Brokers, IsolationLevel};
use super::ends::{Place, ends};
use super::sink::{SinkError, SinkEvent};

/// Markers are written within milliseconds; asking is cheap.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// After this it is asked whose transaction has no end. Another source's may take its time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Without an answer for so long, nobody will give one: the producer is given up after the same time.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(5);

/// A commit that has returned: the offset behind its last record, by partition.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) ends: BTreeMap<Place, i64>,
    /// When it had returned: the producer's next transaction began no sooner.
    pub(super) since: Instant,
}

/// See the module's documentation.
pub(super) struct Witness {
    brokers: Brokers,
    source: (String, u16),
    claims: Receiver<Claim>,
    events: UnboundedSender<SinkEvent>,
    /// Made before there is anything to see: the first commit should not wait for a client to connect.
    reader: Option<BaseConsumer>,
    patience: Duration,
    silence_max: Duration,
}

/// What stands at the last stable offset.
enum Standing {
    /// A record of this source's.
    Ours,
    /// Another's.
    Foreign,
    /// The log ends there.
    Nothing,
}

impl Witness {
    pub(super) fn new(
        brokers: Brokers,
        source: (String, u16),
        claims: Receiver<Claim>,
        events: UnboundedSender<SinkEvent>,
    ) -> Self {
        let reader = brokers.questions(IsolationLevel::ReadCommitted).create().ok();
        Self { brokers, source, claims, events, reader, patience: PATIENCE, silence_max: SILENCE_MAX }
    }

    /// Reports [`SinkEvent::Readable`] for every claim, in their order, until there is nobody to claim or to listen.
    pub(super) fn watch(mut self) {
        let mut unproven: VecDeque<Claim> = VecDeque::new();
        let mut pause = FIRST_PAUSE;
        let mut asked_since = Instant::now();
        let mut answered = Instant::now();
        while !self.events.is_closed() {
            match self.claims.recv_timeout(if unproven.is_empty() { LONGEST_PAUSE } else { pause }) {
                Ok(claim) => {
                    if unproven.is_empty() {
                        (asked_since, answered) = (Instant::now(), Instant::now());
                    }
                    unproven.push_back(claim);
                    unproven.extend(self.claims.try_iter());
                    pause = FIRST_PAUSE;
                }
                Err(RecvTimeoutError::Timeout) => pause = (pause * 2).min(LONGEST_PAUSE),
                Err(RecvTimeoutError::Disconnected) if unproven.is_empty() => return,
                // What was committed last is still to be seen.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(pause),
            }
            let Some(first) = unproven.front() else { continue };
            let patient = asked_since.elapsed() <= self.patience;
            let seen = self.unreadable(first).and_then(|late| match late {
                Some((place, stable)) if !patient => {
                    let end = first.ends.get(&place).copied().unwrap_or_default();
                    self.standing(&place, stable, end).map(|standing| Some((place, standing)))
                }
                Some((place, _)) => Ok(Some((place, None))),
                None => Ok(None),
            });
            if seen.is_ok() {
                answered = Instant::now();
            }
            match seen {
                Ok(None) if first.since.elapsed() > self.brokers.transaction_timeout / 2 => {
                    let place = first.ends.keys().next().cloned();
                    let (topic, partition) = place.unwrap_or_default();
                    let _ = self.events.send(SinkEvent::Failed(SinkError::Unreadable { topic, partition }));
                    return;
                }
                Ok(None) => {
                    unproven.pop_front();
                    (pause, asked_since) = (FIRST_PAUSE, Instant::now());
                    // The loop is gone when nobody listens; there is nobody left to tell.
                    let _ = self.events.send(SinkEvent::Readable);
                }
                Ok(Some((_, None))) => {}
                Ok(Some(((topic, partition), Some(Standing::Ours | Standing::Nothing)))) => {
                    let _ = self.events.send(SinkEvent::Failed(SinkError::Unreadable { topic, partition }));
                    return;
                }
                Ok(Some(((topic, partition), Some(Standing::Foreign)))) => {
                    tracing::warn!(topic, partition, "another source's open transaction hides what is committed");
                    asked_since = Instant::now();
                }
                Err(_) if answered.elapsed() > self.silence_max => {
                    let silence = answered.elapsed().as_secs();
                    let _ = self.events.send(SinkEvent::Failed(SinkError::Silent(silence)));
                    return;
                }
                Err(error) => self.ask_anew(&error),
            }
        }
    }

    /// A new client has better chances than one that may have lost its last broker for good.
    fn ask_anew(&mut self, error: &KafkaError) {
        self.reader = None;
        tracing::info!(%error, "cannot ask for the last stable offsets; asking again");
        std::thread::sleep(LONGEST_PAUSE);
    }

    /// A partition in which not all of the claim can be read, and its last stable offset.
    fn unreadable(&mut self, claim: &Claim) -> Result<Option<(Place, i64)>, KafkaError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            reader => reader.insert(self.brokers.questions(IsolationLevel::ReadCommitted).create()?),
        };
        let stable = ends(reader, claim.ends.keys())?;
        let late = |(place, end): (&Place, &i64)| {
            let stable = stable.get(place).copied().unwrap_or_default();
            (stable < *end).then(|| (place.clone(), stable))
        };
        Ok(claim.ends.iter().find_map(late))
    }

    /// What stands at the last stable offset of a partition that should be readable up to `end`. `None`: it has just moved on.
    fn standing(&self, (topic, partition): &Place, stable: i64, end: i64) -> Result<Option<Standing>, KafkaError> {
        let (name, number) = &self.source;
        let consumer: BaseConsumer = self.brokers.reader(IsolationLevel::ReadUncommitted).create()?;
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, *partition, Offset::Offset(stable))?;
        consumer.assign(&assignment)?;
        let message = match consumer.poll(TIMEOUT) {
            Some(Ok(message)) => message,
            Some(Err(KafkaError::PartitionEOF(_))) => {
                let (_, log_end) = consumer.fetch_watermarks(topic, *partition, TIMEOUT)?;
                return Ok((log_end < end).then_some(Standing::Nothing));
            }
            Some(Err(error)) => return Err(error),
            None => return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)),
        };
        let header = message.headers().and_then(|headers| headers.iter().find(|header| header.key == HEADER_NAME));
        let ours = match header.and_then(|header| Header::decode(header.value?).ok()) {
            Some(header) => header.source == *number,
            // Progress has no header; its key is the source's name.
            None => message.key() == Some(name.as_bytes()),
        };
        Ok(Some(if ours { Standing::Ours } else { Standing::Foreign }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    const TOPIC: &str = "t";

    /// A witness without patience, at work.
    fn watching(bootstrap: String) -> (Sender<Claim>, UnboundedReceiver<SinkEvent>) {
        let brokers = Brokers { bootstrap, properties: BTreeMap::new(), transaction_timeout: TIMEOUT };
        let (claims, claimed) = channel();
        let (events, heard) = unbounded_channel();
        let witness = Witness {
            patience: Duration::from_millis(100),
            silence_max: Duration::from_secs(1),
            ..Witness::new(brokers, ("s".into(), 1), claimed, events)
        };
        std::thread::spawn(|| witness.watch());
        (claims, heard)
    }

    fn claim(end: i64) -> Claim {
        Claim { ends: BTreeMap::from([((TOPIC.to_owned(), 0), end)]), since: Instant::now() }
    }

    /// A broker in this process: where its log ends, it ends for every reader.
    fn broker() -> MockCluster<'static, DefaultProducerContext> {
        let broker = MockCluster::new(1).unwrap();
        broker.create_topic(TOPIC, 1, 1).unwrap();
        broker
    }

    #[test]
    fn what_the_log_ends_before_is_unreadable_and_not_asked_for_for_ever() {
        let broker = broker();
        let (claims, mut heard) = watching(broker.bootstrap_servers());
        claims.send(claim(0)).unwrap();
        assert!(matches!(heard.blocking_recv(), Some(SinkEvent::Readable)));
        claims.send(claim(7)).unwrap();
        let said = heard.blocking_recv();
        let unreadable = matches!(
            &said,
            Some(SinkEvent::Failed(SinkError::Unreadable { topic, partition: 0 })) if topic == TOPIC
        );
        assert!(unreadable, "{said:?}");
        assert!(heard.blocking_recv().is_none(), "the witness has ended");
    }

    /// By then the brokers may have aborted it, and that looks the same.
    #[test]
    fn what_is_seen_long_after_its_commit_is_not_taken_for_readable() {
        let broker = broker();
        let (claims, mut heard) = watching(broker.bootstrap_servers());
        claims.send(claim(0)).unwrap();
        assert!(matches!(heard.blocking_recv(), Some(SinkEvent::Readable)));
        let since = Instant::now().checked_sub(TIMEOUT).expect("the machine runs for longer");
        claims.send(Claim { since, ..claim(0) }).unwrap();
        let said = heard.blocking_recv();
        assert!(matches!(&said, Some(SinkEvent::Failed(SinkError::Unreadable { .. }))), "{said:?}");
    }

    #[test]
    fn a_broker_that_gives_no_answer_is_given_up() {
        let (claims, mut heard) = watching("127.0.0.1:1".to_owned());
        claims.send(claim(1)).unwrap();
        let said = heard.blocking_recv();
        assert!(matches!(said, Some(SinkEvent::Failed(SinkError::Silent(_)))), "{said:?}");
    }
}
