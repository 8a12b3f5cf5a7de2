//! The program's commands, one a file.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the program has the clock and the files")]

pub(crate) mod authorize;
pub(crate) mod bar;
pub(crate) mod rebuild;
pub(crate) mod show;
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
    /// Waits until all partitions can be answered for, or for so long: what cannot be then says so itself.
    async fn ready(&self, access: &Access) {
        let begun = tokio::time::Instant::now();
        let ready = async {
            while !access.health().is_ready() && begun.elapsed() < Duration::from_secs(self.wait) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        bar::beside(access, ready).await;
    }
}
