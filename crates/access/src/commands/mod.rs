//! The program's commands, one a file.

pub(crate) mod authorize;
pub(crate) mod replay;
pub(crate) mod show;
pub(crate) mod verify;
pub(crate) mod watch;

use std::time::Duration;

use clap::Args;
use penstock_access::service::Access;

/// How long a command waits for the state.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Wait at most so many seconds for the state to be complete.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait: u64,
}

impl Wait {
    /// Waits until everything can be answered for, or for so long: what cannot be then says so itself.
    async fn ready(&self, access: &Access) {
        let begun = tokio::time::Instant::now();
        let is_ready = |health: &penstock_access::service::Health| health.partitions > 0 && health.is_ready();
        while !is_ready(&access.health()) && begun.elapsed() < Duration::from_secs(self.wait) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
