//! The replication slot: what it is, whether it still holds what it promised, and how far behind it is.

use std::fmt;

use penstock_wire::lsn::{EndLsn, Lsn};
use tokio_postgres::Row;

use super::error::CatalogError;
use super::session::{Catalog, column, lsn};

const SLOT: &str = "the state of the replication slot";

/// Columns that not every version has are taken through JSON: absent is NULL.
const SLOT_SQL: &str = "
SELECT slot_name::text AS name, plugin::text AS plugin, slot_type = 'logical' AS logical, database::text AS database,
       temporary, active_pid, restart_lsn::text AS restart_lsn, confirmed_flush_lsn::text AS confirmed_lsn,
       wal_status, safe_wal_size,
       coalesce((to_jsonb(s) ->> 'two_phase')::bool, false) AS two_phase,
       (to_jsonb(s) ->> 'failover')::bool AS failover,
       to_jsonb(s) ->> 'invalidation_reason' AS invalidation_reason,
       to_jsonb(s) ->> 'inactive_since' AS inactive_since
  FROM pg_replication_slots s WHERE slot_name = $1";

const SAMPLE: &str = "how far behind the slot is";

/// The slot is looked at first, then the server's own position: a lag is never negative.
const SAMPLE_SQL: &str = "
SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text AS current_lsn,
       restart_lsn::text AS restart_lsn, confirmed_flush_lsn::text AS confirmed_lsn, wal_status, safe_wal_size, active_pid
  FROM (SELECT * FROM pg_replication_slots WHERE slot_name = $1 OFFSET 0) AS slot";

/// A replication slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub name: String,
    /// Logical slots have one.
    pub plugin: Option<String>,
    pub logical: bool,
    /// Logical slots belong to one.
    pub database: Option<String>,
    /// Vanishes with its session.
    pub temporary: bool,
    /// The process that streams from it.
    pub active_pid: Option<i32>,
    /// From here on WAL is kept.
    pub restart_lsn: Option<Lsn>,
    /// Up to here changes were acknowledged.
    pub confirmed_lsn: Option<EndLsn>,
    pub wal_status: Option<WalStatus>,
    /// Bytes that may be written before WAL is lost; `None` where there is no limit.
    pub safe_wal_bytes: Option<i64>,
    pub two_phase: bool,
    /// Postgres 17 and newer: is copied to standbys.
    pub failover: Option<bool>,
    /// Postgres 17 and newer.
    pub invalidation_reason: Option<String>,
    /// Postgres 17 and newer, as text.
    pub inactive_since: Option<String>,
}

impl Slot {
    /// The server process that is still making it: it waits for transactions that run.
    pub fn maker(&self) -> Option<i32> {
        self.active_pid.filter(|_| self.logical && self.confirmed_lsn.is_none())
    }
}

/// Whether the WAL that the slot needs is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WalStatus {
    /// Within `max_wal_size`.
    Reserved,
    /// Beyond `max_wal_size`, kept for the slot.
    Extended,
    /// Beyond what may be kept: removed at the next checkpoint.
    Unreserved,
    /// Removed. Changes are lost.
    Lost,
}

/// The positions of a slot and its server at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotSample {
    /// Up to here the server has written.
    pub current_lsn: Lsn,
    pub restart_lsn: Option<Lsn>,
    pub confirmed_lsn: Option<EndLsn>,
    pub wal_status: Option<WalStatus>,
    pub safe_wal_bytes: Option<i64>,
    /// Whether a process streams from it.
    pub active: bool,
}

impl SlotSample {
    /// WAL that the server keeps for the slot.
    pub fn retained_bytes(&self) -> Option<u64> {
        self.restart_lsn.map(|restart| self.current_lsn.0.saturating_sub(restart.0))
    }

    /// WAL that is written and not acknowledged.
    pub fn confirmed_lag_bytes(&self) -> Option<u64> {
        self.confirmed_lsn.map(|confirmed| self.current_lsn.0.saturating_sub(confirmed.raw()))
    }
}

impl WalStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Reserved, Self::Extended, Self::Unreserved, Self::Lost];

    /// As Postgres calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Extended => "extended",
            Self::Unreserved => "unreserved",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for WalStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Catalog {
    /// The slot of this name, if there is one.
    pub async fn slot(&mut self, name: &str) -> Result<Option<Slot>, CatalogError> {
        let rows = self.ask(SLOT, SLOT_SQL, &[&name]).await?;
        rows.first().map(read).transpose()
    }

    /// The slot's and the server's positions at one moment; `None` if there is no such slot.
    pub async fn slot_sample(&mut self, name: &str) -> Result<Option<SlotSample>, CatalogError> {
        let rows = self.ask(SAMPLE, SAMPLE_SQL, &[&name]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(SlotSample {
            current_lsn: lsn(row, SAMPLE, "current_lsn")?.unwrap_or_default(),
            restart_lsn: lsn(row, SAMPLE, "restart_lsn")?,
            confirmed_lsn: lsn(row, SAMPLE, "confirmed_lsn")?.map(EndLsn),
            wal_status: wal_status(row, SAMPLE)?,
            safe_wal_bytes: column(row, SAMPLE, "safe_wal_size")?,
            active: column::<Option<i32>>(row, SAMPLE, "active_pid")?.is_some(),
        }))
    }
}

fn read(row: &Row) -> Result<Slot, CatalogError> {
    Ok(Slot {
        name: column(row, SLOT, "name")?,
        plugin: column(row, SLOT, "plugin")?,
        logical: column(row, SLOT, "logical")?,
        database: column(row, SLOT, "database")?,
        temporary: column(row, SLOT, "temporary")?,
        active_pid: column(row, SLOT, "active_pid")?,
        restart_lsn: lsn(row, SLOT, "restart_lsn")?,
        confirmed_lsn: lsn(row, SLOT, "confirmed_lsn")?.map(EndLsn),
        wal_status: wal_status(row, SLOT)?,
        safe_wal_bytes: column(row, SLOT, "safe_wal_size")?,
        two_phase: column(row, SLOT, "two_phase")?,
        failover: column(row, SLOT, "failover")?,
        invalidation_reason: column(row, SLOT, "invalidation_reason")?,
        inactive_since: column(row, SLOT, "inactive_since")?,
    })
}

fn wal_status(row: &Row, question: &'static str) -> Result<Option<WalStatus>, CatalogError> {
    let text: Option<String> = column(row, question, "wal_status")?;
    let Some(text) = text else { return Ok(None) };
    let known = WalStatus::ALL.into_iter().find(|status| status.as_str() == text);
    known.map(Some).ok_or_else(|| CatalogError::Answer { question, what: format!("wal_status {text:?} is unknown") })
}
