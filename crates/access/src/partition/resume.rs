//! What a checkpoint has to hold so that reading goes on where it stopped.
//!
//! It belongs to a state that has applied every transaction that was given out, and none else: both are written together
//! or not at all. It holds no progress: what is fresh is learned anew. A rebuild is never continued, because nothing would
//! say how long it took.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use penstock_wire::lsn::CommitLsn;
use penstock_wire::position::{Position, Seq};
use penstock_wire::reload::Scope;
use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::claims::Claims;
use super::doubts::{Doubts, PoisonedTable};
use super::output::Void;
use super::source::Source;
use super::{Options, Partition, Phase};
use crate::rows::Micros;

/// Where a partition is gone on with; to be kept beside the accounts' state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumePoint {
    partition: u32,
    /// None: no progress was read.
    topic_id: Option<String>,
    /// Of the first record that is not applied.
    offset: i64,
    sources: Vec<SavedSource>,
    /// Accounts and the numbers of the sources that hold rows of them.
    accounts: Vec<(String, Vec<u16>)>,
    voids: Vec<(u16, At, u32)>,
    misplaced: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedSource {
    number: u16,
    position: At,
    timestamp_ms: Option<i64>,
    adopted: Option<At>,
    excused: bool,
    missing_to: At,
    loaded: bool,
    unproven: Option<At>,
    everyone: Option<At>,
    quarantined: Vec<(String, PoisonedTable, At)>,
    reloads: Vec<SavedReload>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedReload {
    table: Option<(String, String)>,
    account: Option<String>,
    begin: At,
}

/// A position: epoch, commit LSN, seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct At(u32, u64, u64);

impl ResumePoint {
    /// The partition's number.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The offset to read from.
    pub fn offset(&self) -> i64 {
        self.offset
    }
}

impl<T> Partition<T> {
    /// What to go on with later. None while it rebuilds or is broken, and before every output was taken.
    pub fn resume_point(&self) -> Option<ResumePoint> {
        let drained = self.whole.is_empty() && self.outputs.is_empty() && self.ended.is_empty();
        if self.phase != Phase::Live || !drained {
            return None;
        }
        let held = self.sources.values().filter_map(|source| source.held.first());
        let accounts =
            self.accounts.iter().map(|(name, sources)| (name.to_string(), sources.iter().copied().collect()));
        Some(ResumePoint {
            partition: self.number,
            topic_id: self.topic_id.clone(),
            offset: held.map(|first| first.offset).fold(self.read_to, i64::min),
            sources: self.sources.iter().map(|(number, source)| SavedSource::of(*number, source)).collect(),
            accounts: accounts.collect(),
            voids: self.voids.iter().map(|void| (void.source, At::from(void.after), void.epoch)).collect(),
            misplaced: self.misplaced,
        })
    }

    /// Goes on behind a resume point, with the state that was kept with it. Records come from its offset on.
    pub fn resume(point: ResumePoint, options: Options, now: Micros) -> Self {
        let void = |(source, after, epoch): (u16, At, u32)| Void { source, after: after.into(), epoch };
        let voids = point.voids.into_iter().map(void).collect();
        let account = |(name, sources): (String, Vec<u16>)| (Arc::from(name), BTreeSet::from_iter(sources));
        Self {
            phase: Phase::Live,
            read_to: point.offset,
            topic_id: point.topic_id,
            sources: point.sources.into_iter().map(|saved| (saved.number, saved.into_source(now))).collect(),
            accounts: point.accounts.into_iter().map(account).collect(),
            misplaced: point.misplaced,
            ..Self::rebuild(point.partition, options, voids, now)
        }
    }
}

impl SavedSource {
    fn of<T>(number: u16, source: &Source<T>) -> Self {
        let (position, timestamp_ms) = source.resting_place();
        let Doubts { unproven, everyone, accounts, reloads } = &source.doubts;
        let quarantined = accounts.iter().flat_map(|(account, tables)| {
            tables.iter().map(|(table, position)| (account.to_string(), table.clone(), At::from(*position)))
        });
        let reloads = reloads.iter().map(|(scope, begin)| {
            let Scope { table, account } = scope.clone();
            SavedReload { table, account, begin: At::from(*begin) }
        });
        Self {
            number,
            position: position.into(),
            timestamp_ms,
            adopted: source.chain.adopted().map(At::from),
            excused: source.excused,
            missing_to: source.missing_to.into(),
            loaded: source.claims.is_loaded(),
            unproven: unproven.map(At::from),
            everyone: everyone.map(At::from),
            quarantined: quarantined.collect(),
            reloads: reloads.collect(),
        }
    }

    fn into_source<T>(self, now: Micros) -> Source<T> {
        let mut accounts: BTreeMap<Arc<str>, BTreeMap<PoisonedTable, Position>> = BTreeMap::new();
        for (account, table, at) in self.quarantined {
            accounts.entry(account.into()).or_default().insert(table, at.into());
        }
        let reload = |SavedReload { table, account, begin }| (Scope { table, account }, Position::from(begin));
        let doubts = Doubts {
            unproven: self.unproven.map(Position::from),
            everyone: self.everyone.map(Position::from),
            accounts,
            reloads: self.reloads.into_iter().map(reload).collect(),
        };
        let chain = Chain::restored(self.position.into(), self.timestamp_ms, self.adopted.map(Position::from), now);
        let claims = Claims::restored(self.loaded);
        let missing_to = self.missing_to.into();
        Source { claims, doubts, excused: self.excused, missing_to, ..Source::new(chain) }
    }
}

impl From<Position> for At {
    fn from(position: Position) -> Self {
        Self(position.epoch, position.commit_lsn.raw(), position.seq.0)
    }
}

impl From<At> for Position {
    fn from(At(epoch, commit_lsn, seq): At) -> Self {
        Self { epoch, commit_lsn: CommitLsn::new(commit_lsn), seq: Seq(seq) }
    }
}
