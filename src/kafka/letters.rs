//! Which dead letters of a source a `read_committed` reader can read, and whether any is lacking.
//!
//! Their topic has no place in progress. But what progress covers was committed, its dead letters included: one that stands in
//! the log at a covered position and cannot be read belongs to a transaction whose end the brokers have forgotten (see
//! [`super::witness`]). All of that lies behind what the slot was told, so no more of the topic is looked at.
//!
//! Of a backfilled row, whose position never comes again, an aborted dead letter cannot be told from a forgotten one: it counts
//! as lacking, once progress covers its place and as long as the slot was not told so. The reload then begins anew.
//!
//! To be asked when every predecessor is fenced and nothing of ours is without an end. Blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use penstock_wire::header::{HEADER_NAME, Header};
use penstock_wire::lsn::EndLsn;
use penstock_wire::position::Position;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Headers as _;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::client::{Brokers, IsolationLevel};
use super::ends::{Place, beginnings, ends, has_reached};
use super::readers::Readers;

const TIMEOUT: Duration = Duration::from_secs(15);
/// Records to go back at first; more each time until one is found that is old enough.
const LOOK_BACK: i64 = 64;
const NO_OFFSET: KafkaError = KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset);

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letters {
    /// Dead letters that can be read, of what the slot was not told and behind it.
    pub readable: BTreeSet<Position>,
    /// One that progress covers cannot be read.
    pub lost: bool,
}

/// Of which source and epoch, and between which ends: what the slot was told, and what progress covers.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub source: u16,
    pub epoch: u32,
    pub confirmed: EndLsn,
    pub end: EndLsn,
}

/// Looks at the end of the dead-letter topic.
pub fn look(brokers: &Brokers, readers: &Readers, place: &Place, asked: Asked) -> Result<Letters, KafkaError> {
    let offset = |found: BTreeMap<Place, i64>| found.get(place).copied().ok_or(NO_OFFSET);
    let low = offset(beginnings(readers.everything(), [place])?)?;
    let high = offset(ends(readers.everything(), [place])?)?;
    if low == high {
        return Ok(Letters::default());
    }
    let everything: BaseConsumer = brokers.reader(IsolationLevel::ReadUncommitted).create()?;
    let all = Reader { consumer: &everything, place, asked };
    let mut look_back = LOOK_BACK;
    let (from, written) = loop {
        let from = high.saturating_sub(look_back).max(low);
        let found = all.positions(from)?;
        if from == low || found.oldest_is_confirmed {
            break (from, found.positions);
        }
        look_back = look_back.saturating_mul(8);
    };
    let committed = Reader { consumer: readers.committed(), place, asked };
    let readable = committed.positions(from)?.positions;
    let lost = written.difference(&readable).any(|position| asked.end.covers(position.commit_lsn));
    Ok(Letters { readable, lost })
}

struct Reader<'a> {
    consumer: &'a BaseConsumer,
    place: &'a Place,
    asked: Asked,
}

struct Found {
    /// Of what the slot was not told.
    positions: BTreeSet<Position>,
    /// The source's first one was older than that.
    oldest_is_confirmed: bool,
}

impl Reader<'_> {
    /// The source's dead letters from an offset on.
    fn positions(&self, from: i64) -> Result<Found, KafkaError> {
        let (topic, partition) = self.place;
        let end = ends(self.consumer, [self.place])?.get(self.place).copied().ok_or(NO_OFFSET)?;
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, *partition, Offset::Offset(from))?;
        self.consumer.assign(&assignment)?;
        let (mut positions, mut oldest_is_confirmed) = (BTreeSet::new(), None);
        loop {
            match self.consumer.poll(TIMEOUT) {
                Some(Ok(message)) => {
                    let headers = message.headers();
                    let header = headers.and_then(|headers| headers.iter().find(|header| header.key == HEADER_NAME));
                    let header = header.and_then(|header| Header::decode(header.value?).ok());
                    let ours =
                        |header: &Header| header.source == self.asked.source && header.position != Position::ZERO;
                    let Some(Header { position, .. }) = header.filter(ours) else { continue };
                    let is_confirmed =
                        position.epoch < self.asked.epoch || self.asked.confirmed.covers(position.commit_lsn);
                    oldest_is_confirmed.get_or_insert(is_confirmed);
                    if !is_confirmed {
                        positions.insert(position);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    if has_reached(self.consumer, self.place, from, end)? {
                        break;
                    }
                }
                Some(Err(error)) => return Err(error),
                None => return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)),
            }
        }
        self.consumer.unassign()?;
        Ok(Found { positions, oldest_is_confirmed: oldest_is_confirmed == Some(true) })
    }
}
