//! How far the bridge is and whether it stands still, seen from outside: by its own word, by the slot, by its progress.
//!
//! Asks and changes nothing. Progress is read before the slot, so that what is behind is never less than nothing.

mod cause;
mod readiness;
pub mod reloads;

use std::time::Duration;

use penstock_wire::progress::{Progress, Through};
use serde::ser::{Serialize, SerializeMap, Serializer};
use tokio::time::timeout;

use crate::catalog::{Catalog, CatalogError, ClockReading, SlotSample};
use crate::config::Config;
use crate::kafka::client::Brokers;
use crate::moment::format_us;
use crate::registry::Registry;
use crate::replay::At;
use crate::run::{clock_us, describe};
use crate::stored::newest_progress;

pub use readiness::Readiness;
use reloads::ReloadFacts;

const PROGRESS_PATIENCE: Duration = Duration::from_secs(10);

/// All that can be known from outside.
#[derive(Debug)]
pub struct Status {
    /// The bridge's own word.
    pub readiness: Readiness,
    /// What Postgres says, or why it says nothing.
    pub postgres: Result<Seen, String>,
    /// What stands in the progress topic, or why that is not known.
    pub progress: Result<Option<Progress>, String>,
    slot_name: String,
    clock_us: i64,
}

/// Slot and clock of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `None` if there is no such slot.
    pub slot: Option<SlotSample>,
    pub clock: ClockReading,
}

/// Asks everybody.
pub async fn status(config: &Config, brokers: &Brokers, registry: &Registry) -> Status {
    let seen = async {
        let progress = match timeout(PROGRESS_PATIENCE, newest_progress(config, brokers, registry)).await {
            Ok(progress) => progress.map_err(|error| describe(&error)),
            Err(_) => Err(format!("no answer within {} s", PROGRESS_PATIENCE.as_secs())),
        };
        let postgres = postgres(config).await.map_err(|error| describe(&error));
        (progress, postgres)
    };
    let (readiness, (progress, postgres)) = tokio::join!(readiness::ask(config.http.listen), seen);
    // Postgres' clock is the one that progress holds; another machine's may differ.
    let clock_us = postgres.as_ref().map_or_else(|_| clock_us(), |seen| seen.clock.clock_us);
    Status { readiness, postgres, progress, slot_name: config.source.slot.clone(), clock_us }
}

async fn postgres(config: &Config) -> Result<Seen, CatalogError> {
    let mut catalog = Catalog::new(config.source.server.connect_options("penstock status"));
    Ok(Seen { slot: catalog.slot_sample(&config.source.slot).await?, clock: catalog.clock_reading().await? })
}

impl Status {
    /// Why nothing is delivered, in one sentence; `None` while the bridge delivers.
    pub fn cause(&self) -> Option<String> {
        cause::cause(self)
    }

    /// Seconds since Postgres' clock stood where the newest progress says.
    pub fn progress_age_s(&self) -> Option<f64> {
        self.newest().map(|progress| self.seconds_since(progress.postgres_clock_us))
    }

    /// Seconds since the newest transaction that is delivered was committed; `None` if none is.
    pub fn last_commit_age_s(&self) -> Option<f64> {
        self.last_commit_us().map(|micros| self.seconds_since(micros))
    }

    /// WAL that is written and not delivered.
    pub fn delivered_lag_bytes(&self) -> Option<u64> {
        let current = self.slot()?.current_lsn;
        self.newest().map(|progress| current.0.saturating_sub(progress.end_lsn.raw()))
    }

    /// When the newest delivered transaction was committed, in Unix microseconds. Not known while one is delivered in part.
    pub fn last_commit_us(&self) -> Option<i64> {
        let progress = self.newest().filter(|_| self.in_part().is_none());
        progress.map(|progress| progress.through.commit_time_us).filter(|micros| *micros != 0)
    }

    /// The transaction that is delivered up to an event of it, and not to its end.
    pub fn in_part(&self) -> Option<&Through> {
        let progress = self.newest()?;
        let delivered = progress.through == Through::default() || progress.end_lsn.covers(progress.through.commit_lsn);
        (!delivered).then_some(&progress.through)
    }

    /// The slot, if Postgres tells of one.
    pub fn slot(&self) -> Option<&SlotSample> {
        self.postgres.as_ref().ok()?.slot.as_ref()
    }

    /// The progress, if there is any.
    pub fn newest(&self) -> Option<&Progress> {
        self.progress.as_ref().ok()?.as_ref()
    }

    /// The configured slot.
    pub fn slot_name(&self) -> &str {
        &self.slot_name
    }

    fn seconds_since(&self, micros: i64) -> f64 {
        self.clock_us.saturating_sub(micros) as f64 / 1e6
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cause = self.cause();
        let mut map = serializer.serialize_map(Some(6))?;
        map.serialize_entry("delivering", &cause.is_none())?;
        map.serialize_entry("cause", &cause)?;
        map.serialize_entry("bridge", &self.readiness)?;
        map.serialize_entry("slot", &self.slot().map(|slot| SlotFacts(&self.slot_name, slot)))?;
        map.serialize_entry("progress", &self.newest().map(|progress| ProgressFacts(self, progress)))?;
        let errors: Vec<&String> =
            [self.postgres.as_ref().err(), self.progress.as_ref().err()].into_iter().flatten().collect();
        map.serialize_entry("errors", &errors)?;
        map.end()
    }
}

struct SlotFacts<'a>(&'a str, &'a SlotSample);
struct ProgressFacts<'a>(&'a Status, &'a Progress);

impl Serialize for SlotFacts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(name, slot) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", name)?;
        map.serialize_entry("active", &slot.active)?;
        map.serialize_entry("wal_status", &slot.wal_status.map(|status| status.as_str()))?;
        map.serialize_entry("current_lsn", &slot.current_lsn.to_string())?;
        map.serialize_entry("confirmed_lsn", &slot.confirmed_lsn.map(|lsn| lsn.to_string()))?;
        map.serialize_entry("retained_bytes", &slot.retained_bytes())?;
        map.serialize_entry("confirmed_lag_bytes", &slot.confirmed_lag_bytes())?;
        map.serialize_entry("safe_wal_bytes", &slot.safe_wal_bytes)?;
        map.end()
    }
}

impl Serialize for ProgressFacts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(status, progress) = self;
        let partitions = progress.partitions.iter().map(|entry| PartitionFacts {
            partition: entry.partition,
            last: At(entry.last),
            next_offset: entry.next_offset,
        });
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("epoch", &progress.epoch)?;
        map.serialize_entry("end_lsn", &progress.end_lsn.to_string())?;
        map.serialize_entry("delivered_lag_bytes", &status.delivered_lag_bytes())?;
        map.serialize_entry("age_seconds", &status.progress_age_s())?;
        map.serialize_entry("last_commit", &status.last_commit_us().map(format_us))?;
        map.serialize_entry("last_commit_age_seconds", &status.last_commit_age_s())?;
        let in_part = status.in_part().map(|through| PartFacts {
            xid: through.xid,
            commit_lsn: through.commit_lsn.to_string(),
            commit_time: format_us(through.commit_time_us),
        });
        map.serialize_entry("in_part", &in_part)?;
        map.serialize_entry("load_complete", &progress.load_complete)?;
        map.serialize_entry("partitions", &partitions.collect::<Vec<_>>())?;
        let reloads: Vec<ReloadFacts<'_>> = progress.reloads.iter().map(ReloadFacts).collect();
        map.serialize_entry("reloads", &reloads)?;
        map.end()
    }
}

#[derive(serde::Serialize)]
struct PartFacts {
    xid: u32,
    commit_lsn: String,
    commit_time: String,
}

#[derive(serde::Serialize)]
struct PartitionFacts {
    partition: u32,
    last: At,
    next_offset: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_wire::lsn::{CommitLsn, EndLsn};
    use penstock_wire::position::Seq;

    fn status(end: u64, through: Through) -> Status {
        Status {
            readiness: Readiness::Ready,
            postgres: Err("not asked".into()),
            progress: Ok(Some(Progress { end_lsn: EndLsn::new(end), through, ..Progress::default() })),
            slot_name: "s".into(),
            clock_us: 3_000_000,
        }
    }

    #[test]
    fn a_transaction_that_is_delivered_in_part_is_not_the_last_delivered_one() {
        let through = Through { commit_lsn: CommitLsn::new(80), seq: Seq(16), xid: 7, commit_time_us: 1_000_000 };
        let facts = |end, through| {
            let status = status(end, through);
            let told = serde_json::to_value(&status).unwrap()["progress"].clone();
            (status.last_commit_age_s(), told["last_commit"].clone(), told["in_part"].clone())
        };
        let time = "1970-01-01T00:00:01.000Z";
        assert_eq!(facts(81, through), (Some(2.0), time.into(), serde_json::Value::Null));
        let in_part = serde_json::json!({"xid": 7, "commit_lsn": "0/50", "commit_time": time});
        for end in [70, 80] {
            assert_eq!(facts(end, through), (None, serde_json::Value::Null, in_part.clone()));
        }
        assert_eq!(facts(70, Through::default()), (None, serde_json::Value::Null, serde_json::Value::Null));
    }
}
