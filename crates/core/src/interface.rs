//! The border between the state machine and its shell: what a bridge is told, frame by frame, and what it asks for.

use penstock_wire::lsn::{EndLsn, Lsn};
use penstock_wire::partition::Partitioner;
use penstock_wire::progress::Progress;
use penstock_wire::table::SourceInfo;

use crate::backfill::interface::Ask;
use crate::batch::Batch;
use crate::fault::Fault;
use crate::ledger::GroupEnd;
use crate::limits::Limits;
use crate::pgoutput::Relation;
use crate::relation::Rules;

/// What a bridge is configured with for its whole life.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The source, as records name it.
    pub source: SourceInfo,
    /// The pinned partition count.
    pub partitioner: Partitioner,
    /// Avro namespace of the tables' schemas, pinned.
    pub namespace: String,
    /// Whether keys carry `__source`, pinned.
    pub source_in_key: bool,
    /// Registry ids of the control records' key and value schemas.
    pub control_schema_ids: (u32, u32),
    /// What the configuration says about tables.
    pub rules: Rules,
    /// A name that no other session has: marks carry it.
    pub session: String,
    /// Bounds.
    pub limits: Limits,
}

/// What the shell must do, in this order.
#[derive(Debug)]
pub enum Action {
    /// Produce these records in the open Kafka transaction, beginning one if there is none.
    Produce(Batch),
    /// Describe the relation from [`crate::bridge::Bridge::told`], or else from the catalog, register its schemas, answer with [`crate::bridge::Bridge::handle_schema_ready`].
    NeedSchema(Relation),
    /// Produce this progress record in the same Kafka transaction and commit it.
    Commit(Box<Progress>),
    /// Everything before it is durable and can be read: the slot may be told, now and in every later status update.
    Confirm(GroupEnd),
    /// What a backfill asks for.
    Backfill(Ask),
    /// Nothing more will come.
    Stopped(Stop),
}

/// Why nothing more will come.
#[derive(Debug)]
pub enum Stop {
    /// As asked; everything read is committed and confirmed.
    Shutdown,
    /// It must not go on.
    Fault(Box<Fault>),
}

/// One frame of the replication stream.
#[derive(Clone, Copy, Debug)]
pub enum Wal<'a> {
    /// A pgoutput message.
    Data {
        /// WAL position of the change; neither unique nor monotonic.
        start: Lsn,
        /// Server's clock when it was sent, Unix microseconds.
        sent_at_us: i64,
        /// The message.
        payload: &'a [u8],
    },
    /// Everything committed before `wal_end` has been sent.
    Keepalive {
        /// An exclusive end; one byte more loses a commit.
        wal_end: EndLsn,
    },
}

/// A reading of the server's clock and of its WAL position, taken after the clock: once everything before `lsn` is
/// delivered, the topic is as fresh as `clock_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    /// The server's WAL position.
    pub lsn: EndLsn,
    /// The server's clock, Unix microseconds.
    pub clock_us: i64,
}
