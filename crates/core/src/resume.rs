//! Where to begin, and whether to begin at all.
//!
//! Slot, progress and topic are three memories of one position. Only two combinations are a beginning: none of them
//! (first start) and all of them in agreement (resume). Every other one stops with its name and its remedy: a first start
//! is never inferred from missing progress, because that is how rows get lost.
//!
//! A topic may carry several sources. Its records are no reason to stop where progress of other sources says that it was
//! written for this very topic; then the first start has to agree with what they have pinned. A topic with records that
//! nobody's progress speaks of has lost its progress. Whether records of a source whose progress alone was deleted stand
//! among those of others is not known here: nobody but that source counts them.

use std::collections::BTreeMap;

use std::sync::Arc;

use penstock_wire::lsn::{EndLsn, Lsn};
use penstock_wire::position::Position;
use penstock_wire::progress::{PartitionProgress, Progress, Through};

use crate::backfill::{Remembered, reopen};
use crate::continuity::accepting;
use crate::ledger::{GroupEnd, LastCommit, PartitionEnd};

/// The Postgres server, as it answers now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// From IDENTIFY_SYSTEM.
    pub system_identifier: u64,
    /// OID of the database.
    pub database_oid: u32,
    /// Current timeline.
    pub timeline: u32,
    /// How far its WAL is flushed.
    pub flushed: Lsn,
}

/// The replication slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// What it has been told.
    pub confirmed: EndLsn,
    /// Postgres has removed WAL it needs.
    pub lost: bool,
}

/// The change topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Kafka's text form of its id.
    pub id: String,
    /// By partition: offset behind the last record, markers included.
    pub ends: Vec<i64>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// None of the three exists: create them, in order.
    FirstStart,
    /// Go on behind this progress.
    Resume(Box<Progress>),
}

/// What the configuration pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The source's number in headers and keys.
    pub source_number: u16,
    /// The slot's name.
    pub slot: String,
    /// Partitions of the change topic.
    pub partitions: u32,
    /// Avro namespace of the tables' schemas.
    pub namespace: String,
    /// Whether keys hold the source's number.
    pub source_in_key: bool,
}

/// The newest progress of every other source in the progress topic, by the source's name.
pub type Others = BTreeMap<String, Progress>;

/// A combination that is not a beginning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A slot, but no progress.
    #[error(
        "slot without progress: slot {slot:?} exists (confirmed {confirmed}) and the progress topic holds nothing of this source"
    )]
    SlotWithoutProgress { slot: String, confirmed: EndLsn },
    /// Progress, but no slot.
    #[error("progress without slot: changes since {end} at the latest are not retained by any slot {slot:?}")]
    ProgressWithoutSlot { slot: String, end: EndLsn },
    /// Postgres has removed what the slot needs.
    #[error(
        "slot lost: Postgres removed WAL that slot {slot:?} needs; changes since {end} at the latest may be missing"
    )]
    SlotLost { slot: String, end: EndLsn },
    /// Records, but neither slot nor anybody's progress.
    #[error(
        "topic without progress: the change topic holds records and the progress topic nothing that was written for it"
    )]
    TopicWithoutProgress,
    /// Another source of the topic has this one's number: their records could not be told apart.
    #[error("source number taken: source {other:?} writes to this topic as number {number}")]
    NumberTaken { other: String, number: u16 },
    /// Another source of the topic has pinned something that all of its sources share.
    #[error("not as the topic's other sources: {what} is {found}, source {other:?} has pinned {pinned}")]
    UnlikeOthers { what: &'static str, other: String, pinned: String, found: String },
    /// Progress, but no topic.
    #[error("progress without topic: the change topic {id:?} that progress was written for does not exist")]
    TopicMissing { id: String },
    /// A topic of the same name, but another one.
    #[error("topic re-created: progress was written for topic id {pinned:?}, the topic now has {found:?}")]
    TopicRecreated { pinned: String, found: String },
    /// Another number of partitions.
    #[error(
        "topic repartitioned: {pinned} partitions are pinned, {found} exist; accounts would move between partitions"
    )]
    Repartitioned { pinned: u32, found: usize },
    /// Records that progress speaks of are gone from its end.
    #[error("topic shorter than progress: partition {partition} ends at offset {end}, progress says {expected}")]
    TopicShorter { partition: u32, end: i64, expected: i64 },
    /// The slot was told more than what is in the topic.
    #[error(
        "slot ahead of progress: the slot is confirmed to {confirmed}, progress ends at {end}; what lies between may be missing"
    )]
    SlotAhead { confirmed: EndLsn, end: EndLsn },
    /// Another cluster.
    #[error("another system: progress was written for system identifier {pinned}, the server has {found}")]
    OtherSystem { pinned: u64, found: u64, end: EndLsn },
    /// Another database of the cluster.
    #[error("another database: progress was written for database OID {pinned}, the configured one has {found}")]
    OtherDatabase { pinned: u32, found: u32 },
    /// Promoted or restored since.
    #[error("another timeline: progress was written on timeline {pinned}, the server is on {found}")]
    OtherTimeline { pinned: u32, found: u32, end: EndLsn },
    /// The server's WAL ends before what was already delivered.
    #[error(
        "server behind progress: its WAL ends at {flushed}, commits up to {end} are already in the topic; it was restored to an older state"
    )]
    ServerBehind { flushed: Lsn, end: EndLsn },
    /// Progress of another configuration.
    #[error("configuration changed: {what} is pinned as {pinned}, configured is {found}")]
    Configuration { what: &'static str, pinned: String, found: String },
}

impl Refusal {
    /// The command or the check that goes on.
    pub fn remedy(&self) -> String {
        match self {
            Self::SlotWithoutProgress { slot, .. } => format!(
                "If this is a first start that was interrupted: SELECT pg_drop_replication_slot('{slot}') and run `penstock setup` again. \
                 If the progress topic was deleted, changes can no longer be placed: set up a new topic and load it again."
            ),
            Self::ProgressWithoutSlot { end, .. } | Self::SlotLost { end, .. } | Self::SlotAhead { end, .. } => {
                format!("Changes may be missing. {}", accepting("gap", *end))
            }
            Self::TopicWithoutProgress => "Choose an empty topic, or the progress topic that belongs to it; then run `penstock setup`.".into(),
            Self::NumberTaken { .. } => {
                "Set source.number to one that no other source of the topic has. If the other source is this one under an older name, \
                 set source.name back to it."
                    .into()
            }
            Self::UnlikeOthers { what: NUMBER_IN_KEY, pinned, .. } => format!(
                "Set {NUMBER_IN_KEY} to {pinned}, or give this source a topic of its own: keys of the two would collide or differ in their schema."
            ),
            Self::UnlikeOthers { what, pinned, .. } => {
                format!("Set {what} to {pinned}, or give this source a topic of its own: all sources of a topic share it.")
            }
            Self::TopicMissing { .. } | Self::TopicRecreated { .. } | Self::TopicShorter { .. } => {
                "Records that readers rely on are gone. Drop the slot and delete the progress topic, then run `penstock setup` and load again."
                    .into()
            }
            Self::Repartitioned { pinned, .. } => format!(
                "The partition count is pinned for ever. Re-create the topic with {pinned} partitions, or set up a new topic and load it again."
            ),
            Self::OtherSystem { end, .. } => format!(
                "Check source.url. A different database needs a different source.name, and its own `penstock setup`. If pg_upgrade was run: {}",
                accepting("upgrade", *end)
            ),
            Self::OtherDatabase { .. } => {
                "Check source.url. A different database needs a different source.name, and its own `penstock setup`.".into()
            }
            Self::OtherTimeline { end, .. } | Self::ServerBehind { end, .. } => format!(
                "The topic may hold commits this server does not have. Point source.url at the right server. If this is the right one: {}",
                accepting("gap", *end)
            ),
            Self::Configuration { what, pinned, .. } => format!("Set {what} back to {pinned}: it is pinned in the topic for ever."),
        }
    }
}

/// Decides from all that is known. Progress must be the newest there is, read after every predecessor was fenced; `others` are
/// looked at only where there is none.
pub fn decide(
    pinned: &Pinned,
    server: &Server,
    slot: Option<&Slot>,
    progress: Option<Progress>,
    others: &Others,
    topic: Option<&Topic>,
) -> Result<Decision, Refusal> {
    let Some(progress) = progress else {
        return match (slot, topic) {
            (Some(slot), _) => Err(Refusal::SlotWithoutProgress { slot: slot.name.clone(), confirmed: slot.confirmed }),
            (None, Some(topic)) => first_start(pinned, others, topic).map(|()| Decision::FirstStart),
            (None, None) => Ok(Decision::FirstStart),
        };
    };
    // Another database that took this source's name is not told to change its configuration.
    check_server(server, &progress)?;
    check_configuration(pinned, &progress)?;
    check_topic(topic, &progress)?;
    check_slot(slot, &progress)?;
    let namespace = pinned.namespace.clone();
    Ok(Decision::Resume(Box::new(Progress { namespace, source_in_key: pinned.source_in_key, ..progress })))
}

/// Whether a source that has neither slot nor progress may begin in this topic.
pub fn first_start(pinned: &Pinned, others: &Others, topic: &Topic) -> Result<(), Refusal> {
    let mut alone = true;
    for (name, other) in others.iter().filter(|(_, other)| other.topic_id == topic.id) {
        alone = false;
        check_other(pinned, name, other)?;
        same_topic(&other.topic_id, other.partition_count, Some((&topic.id, topic.ends.len())))?;
    }
    if alone && topic.ends.iter().any(|end| *end > 0) {
        return Err(Refusal::TopicWithoutProgress);
    }
    same_topic(&topic.id, pinned.partitions, Some((&topic.id, topic.ends.len())))
}

fn check_other(pinned: &Pinned, name: &str, other: &Progress) -> Result<(), Refusal> {
    if other.source_number == pinned.source_number {
        return Err(Refusal::NumberTaken { other: name.to_owned(), number: other.source_number });
    }
    let differs = |(what, pinned, found)| Refusal::UnlikeOthers { what, other: name.to_owned(), pinned, found };
    difference(pinned, other).map_or(Ok(()), |found| Err(differs(found)))
}

const NUMBER_IN_KEY: &str = "source.number_in_key";

/// What all sources of a topic have in common and is not as it is pinned: its name, as pinned, as configured.
fn difference(pinned: &Pinned, progress: &Progress) -> Option<(&'static str, String, String)> {
    // Older writers pinned the partitions only.
    let knows_schemas = !progress.namespace.is_empty();
    let (was, is) = (progress.partition_count, pinned.partitions);
    if was != is {
        return Some(("kafka.partitions", was.to_string(), is.to_string()));
    }
    if knows_schemas && progress.namespace != pinned.namespace {
        return Some(("kafka.namespace", progress.namespace.clone(), pinned.namespace.clone()));
    }
    let (was, is) = (progress.source_in_key, pinned.source_in_key);
    (knows_schemas && was != is).then(|| (NUMBER_IN_KEY, was.to_string(), is.to_string()))
}

fn check_configuration(pinned: &Pinned, progress: &Progress) -> Result<(), Refusal> {
    let differs = |what, pinned: String, found: String| match pinned == found {
        true => Ok(()),
        false => Err(Refusal::Configuration { what, pinned, found }),
    };
    differs("source.number", progress.source_number.to_string(), pinned.source_number.to_string())?;
    differs("source.slot", progress.slot.clone(), pinned.slot.clone())?;
    let refused = |(what, pinned, found)| Err(Refusal::Configuration { what, pinned, found });
    difference(pinned, progress).map_or(Ok(()), refused)
}

fn check_server(server: &Server, progress: &Progress) -> Result<(), Refusal> {
    if server.system_identifier != progress.system_identifier {
        let (pinned, found) = (progress.system_identifier, server.system_identifier);
        return Err(Refusal::OtherSystem { pinned, found, end: progress.end_lsn });
    }
    if server.database_oid != progress.database_oid {
        return Err(Refusal::OtherDatabase { pinned: progress.database_oid, found: server.database_oid });
    }
    if server.timeline != progress.timeline {
        let (pinned, found) = (progress.timeline, server.timeline);
        return Err(Refusal::OtherTimeline { pinned, found, end: progress.end_lsn });
    }
    // Of a transaction that is delivered in part, the commit record lies behind the end.
    let end = progress.end_lsn.max(EndLsn(progress.through.commit_lsn.0));
    if server.flushed < end.0 {
        return Err(Refusal::ServerBehind { flushed: server.flushed, end });
    }
    Ok(())
}

/// Whether this is the topic that progress was written for: its id and its partitions.
pub fn same_topic(id: &str, partitions: u32, found: Option<(&str, usize)>) -> Result<(), Refusal> {
    match found {
        None => Err(Refusal::TopicMissing { id: id.to_owned() }),
        Some((other, _)) if other != id => {
            Err(Refusal::TopicRecreated { pinned: id.to_owned(), found: other.to_owned() })
        }
        Some((_, found)) if found != partitions as usize => Err(Refusal::Repartitioned { pinned: partitions, found }),
        Some(_) => Ok(()),
    }
}

fn check_topic(topic: Option<&Topic>, progress: &Progress) -> Result<(), Refusal> {
    let found = topic.map(|topic| (topic.id.as_str(), topic.ends.len()));
    same_topic(&progress.topic_id, progress.partition_count, found)?;
    let Some(topic) = topic else { return Ok(()) };
    for entry in &progress.partitions {
        let end = topic.ends.get(entry.partition as usize).copied().unwrap_or(0);
        if end < entry.next_offset {
            return Err(Refusal::TopicShorter { partition: entry.partition, end, expected: entry.next_offset });
        }
    }
    Ok(())
}

fn check_slot(slot: Option<&Slot>, progress: &Progress) -> Result<(), Refusal> {
    let end = progress.end_lsn;
    let Some(slot) = slot else { return Err(Refusal::ProgressWithoutSlot { slot: progress.slot.clone(), end }) };
    if slot.lost {
        return Err(Refusal::SlotLost { slot: slot.name.clone(), end });
    }
    if slot.confirmed > end {
        return Err(Refusal::SlotAhead { confirmed: slot.confirmed, end });
    }
    Ok(())
}

/// Progress, corrected by what readers can read in each partition: where to go on.
///
/// A broker can forget the end of a transaction in some of its partitions. A partition that has more than progress says
/// drops what comes again. Where one lacks what progress says it has, everything since `confirmed` is read again, and
/// dropped by those that have it; how fresh the topic is, nobody knows until then. Rows of a backfill do not come again with
/// the stream: reloads that were live then begin anew. The same where dead letters are lost.
pub fn behind_readable(
    progress: Progress,
    readable: Vec<PartitionProgress>,
    letters_lost: bool,
    confirmed: EndLsn,
) -> Progress {
    let lacks = progress.partitions.iter().zip(&readable).any(|(claimed, found)| found.last < claimed.last);
    let lacks = lacks || letters_lost;
    let progress = Progress { partitions: readable, ..progress };
    if !lacks {
        return progress;
    }
    let (load_complete, reloads) = reopen(progress.load_complete, progress.reloads, confirmed);
    let (through, postgres_clock_us) = (Through::default(), 0);
    Progress { end_lsn: confirmed, through, postgres_clock_us, load_complete, reloads, ..progress }
}

/// What a bridge that resumes behind `progress` counts as durable.
pub(crate) fn start_of(progress: &Progress, partitions: u32) -> GroupEnd {
    let mut ends = vec![PartitionEnd::default(); partitions as usize];
    for entry in &progress.partitions {
        if let Some(end) = ends.get_mut(entry.partition as usize) {
            *end = PartitionEnd { last: entry.last, next_offset: entry.next_offset };
        }
    }
    let Through { commit_lsn, seq, xid, commit_time_us } = progress.through;
    GroupEnd {
        end_lsn: progress.end_lsn,
        last_commit: LastCommit {
            last_event: Position { epoch: progress.epoch, commit_lsn, seq },
            xid,
            commit_time_us,
        },
        postgres_clock_us: progress.postgres_clock_us,
        partitions: ends,
        reloads: Arc::new(Remembered { load_complete: progress.load_complete, reloads: progress.reloads.clone() }),
        records: 0,
        transactions: 0,
        oldest_commit_time_us: None,
    }
}

/// The progress record that makes `end` durable.
pub(crate) fn progress_record(identity: &Progress, end: &GroupEnd) -> Progress {
    let LastCommit { last_event, xid, commit_time_us } = end.last_commit;
    let partitions = end.partitions.iter().zip(0..).map(|(end, partition)| PartitionProgress {
        partition,
        last: end.last,
        next_offset: end.next_offset,
    });
    Progress {
        end_lsn: end.end_lsn,
        through: Through { commit_lsn: last_event.commit_lsn, seq: last_event.seq, xid, commit_time_us },
        partitions: partitions.collect(),
        postgres_clock_us: end.postgres_clock_us,
        load_complete: end.reloads.load_complete,
        reloads: end.reloads.reloads.clone(),
        ..identity.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_wire::lsn::CommitLsn;
    use penstock_wire::position::Seq;

    fn progress() -> Progress {
        Progress {
            system_identifier: 7,
            database_oid: 5,
            slot: "s".into(),
            source_number: 1,
            timeline: 1,
            epoch: 1,
            partition_count: 2,
            topic_id: "t".into(),
            namespace: "n".into(),
            end_lsn: EndLsn::new(100),
            partitions: vec![PartitionProgress { partition: 1, next_offset: 9, ..PartitionProgress::default() }],
            ..Progress::default()
        }
    }

    struct Case {
        slot: Option<Slot>,
        progress: Option<Progress>,
        others: Others,
        topic: Option<Topic>,
        server: Server,
        pinned: Pinned,
    }

    fn whole() -> Case {
        Case {
            slot: Some(Slot { name: "s".into(), confirmed: EndLsn::new(100), lost: false }),
            progress: Some(progress()),
            others: Others::new(),
            topic: Some(Topic { id: "t".into(), ends: vec![0, 9] }),
            server: Server { system_identifier: 7, database_oid: 5, timeline: 1, flushed: Lsn(100) },
            pinned: Pinned {
                source_number: 1,
                slot: "s".into(),
                partitions: 2,
                namespace: "n".into(),
                source_in_key: false,
            },
        }
    }

    /// The decision's name, after `change` was made to a whole and consistent state.
    fn check(expected: &str, change: impl FnOnce(&mut Case)) {
        let mut case = whole();
        change(&mut case);
        let Case { slot, progress, others, topic, server, pinned } = case;
        let decided = decide(&pinned, &server, slot.as_ref(), progress, &others, topic.as_ref());
        let name = match &decided {
            Ok(Decision::FirstStart) => "first start".to_owned(),
            Ok(Decision::Resume(_)) => "resume".to_owned(),
            Err(refusal) => {
                assert!(!refusal.remedy().is_empty());
                refusal.to_string().split(':').next().unwrap_or_default().to_owned()
            }
        };
        assert_eq!(name, expected, "{decided:?}");
    }

    #[test]
    fn only_all_or_nothing_is_a_beginning() {
        check("resume", |_| {});
        check("first start", |case| (case.slot, case.progress, case.topic) = (None, None, None));
        check("first start", |case| {
            (case.slot, case.progress, case.topic) = (None, None, Some(Topic { id: "t".into(), ends: vec![0, 0] }));
        });
        check("slot without progress", |case| case.progress = None);
        check("slot without progress", |case| (case.progress, case.topic) = (None, None));
        check("progress without slot", |case| case.slot = None);
        check("topic without progress", |case| (case.slot, case.progress) = (None, None));
        check("progress without topic", |case| case.topic = None);
        check("progress without topic", |case| (case.slot, case.topic) = (None, None));
    }

    #[test]
    fn what_does_not_agree_with_progress_stops() {
        check("slot ahead of progress", |case| case.slot.as_mut().unwrap().confirmed = EndLsn::new(101));
        check("resume", |case| case.slot.as_mut().unwrap().confirmed = EndLsn::new(50));
        check("slot lost", |case| case.slot.as_mut().unwrap().lost = true);
        check("topic re-created", |case| case.topic.as_mut().unwrap().id = "u".into());
        check("topic repartitioned", |case| case.topic.as_mut().unwrap().ends.push(0));
        check("topic shorter than progress", |case| case.topic.as_mut().unwrap().ends = vec![0, 8]);
        check("another system", |case| case.server.system_identifier = 8);
        check("another database", |case| case.server.database_oid = 6);
        check("another timeline", |case| case.server.timeline = 2);
        check("server behind progress", |case| case.server.flushed = Lsn(99));
        let in_part = |case: &mut Case| case.progress.as_mut().unwrap().through.commit_lsn = CommitLsn::new(120);
        check("server behind progress", |case| {
            in_part(case);
            case.server.flushed = Lsn(119);
        });
        check("resume", |case| {
            in_part(case);
            case.server.flushed = Lsn(200);
        });
        check("configuration changed", |case| case.pinned.partitions = 3);
        check("configuration changed", |case| case.pinned.source_number = 2);
        check("configuration changed", |case| case.pinned.slot = "z".into());
        check("configuration changed", |case| case.pinned.namespace = "m".into());
        check("configuration changed", |case| case.pinned.source_in_key = true);
        check("another database", |case| (case.server.database_oid, case.pinned.source_number) = (6, 2));
    }

    /// Source `b`, number 2, begins in the topic of source `a`; `change` was made to a state in which it may.
    fn check_beside(expected: &str, change: impl FnOnce(&mut Case)) {
        check(expected, |case| {
            (case.slot, case.progress) = (None, None);
            case.others = [("a".to_owned(), progress())].into();
            case.pinned.source_number = 2;
            change(case);
        });
    }

    fn other(case: &mut Case) -> &mut Progress {
        case.others.get_mut("a").unwrap()
    }

    #[test]
    fn a_source_begins_in_the_topic_of_another() {
        check_beside("first start", |_| {});
        check_beside("first start", |case| case.topic = None);
        check_beside("source number taken", |case| case.pinned.source_number = 1);
        check_beside("slot without progress", |case| case.slot = whole().slot);
        check_beside("topic without progress", |case| case.others.clear());
        check_beside("topic without progress", |case| other(case).topic_id = "u".into());
        check_beside("first start", |case| {
            case.others.insert("old".into(), Progress { topic_id: "u".into(), source_number: 2, ..progress() });
        });
        check_beside("source number taken", |case| {
            case.others.insert("c".into(), Progress { source_number: 2, ..progress() });
        });
        check_beside("topic repartitioned", |case| case.topic.as_mut().unwrap().ends.push(0));
    }

    #[test]
    fn what_all_sources_of_a_topic_share_must_be_as_the_others_pinned_it() {
        let unlike = "not as the topic's other sources";
        check_beside(unlike, |case| case.pinned.partitions = 3);
        check_beside(unlike, |case| case.pinned.namespace = "m".into());
        check_beside(unlike, |case| case.pinned.source_in_key = true);
        check_beside("first start", |case| {
            // Of an older writer.
            other(case).namespace.clear();
            (case.pinned.source_in_key, case.pinned.namespace) = (true, "m".into());
        });
    }

    #[test]
    fn progress_of_an_older_writer_goes_on_with_what_is_configured() {
        let Case { slot, progress, others, topic, server, pinned } = whole();
        let older = progress.map(|progress| Progress { namespace: String::new(), ..progress });
        let pinned = Pinned { source_in_key: true, ..pinned };
        let decided = decide(&pinned, &server, slot.as_ref(), older, &others, topic.as_ref());
        let Ok(Decision::Resume(progress)) = decided else { panic!("{decided:?}") };
        assert_eq!((progress.namespace.as_str(), progress.source_in_key), ("n", true));
    }

    #[test]
    fn what_readers_can_read_is_where_to_go_on() {
        let at = |commit: u64, next_offset| PartitionProgress {
            partition: 1,
            last: Position { epoch: 1, commit_lsn: CommitLsn::new(commit), seq: Seq(8) },
            next_offset,
        };
        let through = Through { commit_lsn: CommitLsn::new(80), ..Through::default() };
        let progress = Progress { partitions: vec![at(80, 9)], through, postgres_clock_us: 5, ..progress() };
        let confirmed = EndLsn::new(60);
        let as_claimed = behind_readable(progress.clone(), vec![at(80, 9)], false, confirmed);
        assert_eq!(as_claimed, progress);
        let more = behind_readable(progress.clone(), vec![at(90, 12)], false, confirmed);
        assert_eq!((more.end_lsn, &more.partitions, more.through), (EndLsn::new(100), &vec![at(90, 12)], through));
        let letters = behind_readable(progress.clone(), vec![at(80, 9)], true, confirmed);
        assert_eq!((letters.end_lsn, &letters.partitions), (confirmed, &vec![at(80, 9)]));
        let less = behind_readable(progress, vec![at(50, 7)], false, confirmed);
        assert_eq!((less.end_lsn, &less.partitions), (confirmed, &vec![at(50, 7)]));
        assert_eq!((less.through, less.postgres_clock_us), (Through::default(), 0), "nothing is claimed");
    }
}
