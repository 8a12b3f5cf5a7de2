//! Every bound and pace of the demo in one place.

use std::time::Duration;

/// Accounts that the demo's data has.
pub const ACCOUNTS: u32 = 20;

/// Partitions of the demo's topic: the default.
pub const PARTITIONS: u32 = 12;

/// Sessions that write at the same time; more of them than accounts would only wait for each other.
pub const SESSIONS: u64 = 4;

/// Row events per second that a person can still read.
pub const LIVE_EVENTS_PER_SECOND: f64 = 8.0;

/// Between two TRUNCATEs of the live workload.
pub const LIVE_TRUNCATE_EVERY: Duration = Duration::from_secs(90);

/// How often the pace of the workload is held against its plan.
pub const PACE_EVERY: Duration = Duration::from_millis(250);

/// How often a measured run says how far it is.
pub const REPORT_EVERY: Duration = Duration::from_secs(5);

/// How long `penstock setup`, and the bridge until it is ready, may take.
pub const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// How long the bridge may take to end after it was asked to.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// After the load: how long nothing may arrive before the rest counts as missing.
pub const SILENCE_MAX: Duration = Duration::from_secs(20);

/// After the bridge has ended: how long a superfluous record is still waited for.
pub const SUPERFLUOUS_WAIT: Duration = Duration::from_secs(2);

/// Lines of one transaction that the live demo prints before it only counts.
pub const LINES_PER_TRANSACTION: usize = 6;

/// Between two signs of life of a long step.
pub const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(20);

/// Within this time a second signal is the same one.
pub const SAME_SIGNAL: Duration = Duration::from_secs(1);
