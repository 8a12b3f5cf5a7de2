//! Watches that the change topic stays the one that progress was written for.
//!
//! A topic that is deleted and created anew under its name takes what is produced as if nothing had happened; what it held is
//! gone, and only its id tells. So does one that gets more partitions: accounts would move.

use std::time::Duration;

use penstock_core::resume::{Refusal, same_topic};

use super::shell::Shell;
use crate::kafka::topics::identity;

const EVERY: Duration = Duration::from_secs(5);
/// A broker that has just started may know less than the others: what it says counts when it says so again.
const AGAIN: Duration = Duration::from_secs(1);
const TIMES: u32 = 3;

/// Ends when the topic is another one. Brokers that do not answer are the producer's business.
pub(super) async fn watch(shell: &Shell, id: &str, partitions: u32) -> Refusal {
    let mut times = 0;
    loop {
        tokio::time::sleep(if times == 0 { EVERY } else { AGAIN }).await;
        let Ok(found) = identity(&shell.brokers(), &shell.names().changes).await else { continue };
        match same_topic(id, partitions, found.as_ref().map(|(id, partitions)| (id.as_str(), *partitions))) {
            Ok(()) => times = 0,
            Err(refusal) if times + 1 == TIMES => return refusal,
            Err(_) => times += 1,
        }
    }
}
