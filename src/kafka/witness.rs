//! Sees with a reader's eyes that what was committed can be read.
//!
//! A commit that has returned is decided, and its records become readable when the coordinator has written its marker into
//! every partition. A coordinator that restarts between the two can forget partitions whose leader it does not know yet
//! (Kafka 4.4 calls them "likely deleted"): the commit has returned, and readers never see its records; should the next
//! transaction of the same producer be aborted, its marker aborts them too. So the slot is told of a commit only after
//! its records are below the last stable offset of their partitions. See decision 0010.
//!
//! It has a thread and a reader of its own: the producer does not wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use tokio::sync::mpsc::UnboundedSender;

use super::client::{Brokers, IsolationLevel};
use super::ends::{Ends, Place};
use super::sink::{SinkError, SinkEvent};

/// Markers are written within milliseconds; asking is cheap.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How long a marker may take. Another source's open transaction in the same partition can take longer, and then the session
/// starts over in vain: it costs what was not yet readable being read again.
const PATIENCE: Duration = Duration::from_secs(60);

/// A commit that has returned: the offset behind its last record, by partition.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) ends: BTreeMap<Place, i64>,
}

/// Reports [`SinkEvent::Readable`] for every claim, in their order, until there is nobody to claim or to listen.
pub(super) fn watch(brokers: &Brokers, claims: &Receiver<Claim>, events: &UnboundedSender<SinkEvent>) {
    if let Err(error) = prove(brokers, claims, events) {
        // The loop is gone when nobody listens; there is nobody left to tell.
        let _ = events.send(SinkEvent::Failed(error));
    }
}

fn prove(brokers: &Brokers, claims: &Receiver<Claim>, events: &UnboundedSender<SinkEvent>) -> Result<(), SinkError> {
    let mut reader = None;
    let mut unproven: VecDeque<Claim> = VecDeque::new();
    let mut pause = FIRST_PAUSE;
    let mut proven = Instant::now();
    while !events.is_closed() {
        if unproven.is_empty() {
            proven = Instant::now();
        }
        match claims.recv_timeout(if unproven.is_empty() { LONGEST_PAUSE } else { pause }) {
            Ok(claim) => {
                unproven.push_back(claim);
                unproven.extend(claims.try_iter());
                pause = FIRST_PAUSE;
            }
            Err(RecvTimeoutError::Timeout) => pause = (pause * 2).min(LONGEST_PAUSE),
            Err(RecvTimeoutError::Disconnected) if unproven.is_empty() => return Ok(()),
            // What was committed last is still to be seen.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(pause),
        }
        let Some(first) = unproven.front() else { continue };
        match ask(&mut reader, brokers, first) {
            Ok(ends) => {
                let waiting =
                    first.ends.iter().find(|(place, end)| ends.get(*place).is_none_or(|stable| stable < *end));
                if let Some(((topic, partition), _)) = waiting {
                    if proven.elapsed() > PATIENCE {
                        return Err(SinkError::Unreadable { topic: topic.clone(), partition: *partition });
                    }
                    continue;
                }
                unproven.pop_front();
                proven = Instant::now();
                pause = FIRST_PAUSE;
                let _ = events.send(SinkEvent::Readable);
            }
            Err(error) => {
                // A new client has better chances than one that may have lost its last broker for good.
                reader = None;
                tracing::info!(%error, "cannot ask for the last stable offsets; asking again");
                std::thread::sleep(LONGEST_PAUSE);
            }
        }
    }
    Ok(())
}

fn ask(reader: &mut Option<Ends>, brokers: &Brokers, claim: &Claim) -> Result<BTreeMap<Place, i64>, KafkaError> {
    let reader = match reader {
        Some(reader) => reader,
        None => reader.insert(Ends::of(brokers, IsolationLevel::ReadCommitted)?),
    };
    reader.ask(claim.ends.keys())
}
