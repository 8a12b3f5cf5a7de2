//! Which transactions wait for their client: a commit of theirs has not begun.

use super::error::CatalogError;
use super::session::{Catalog, column};

const IDLE: &str = "which sessions are idle in a transaction";

/// Another role's session has no state for a role without `pg_read_all_stats`: then it is not among the answers. A session
/// that has ended its transaction while this ran may be told with the id of its next one, which nobody can have asked about.
const IDLE_SQL: &str = "
SELECT backend_xid::text AS xid FROM pg_stat_activity
 WHERE backend_xid IS NOT NULL AND state IN ('idle in transaction', 'idle in transaction (aborted)')";

impl Catalog {
    /// Of these transactions, those whose sessions are idle. Ids of 64 bits; the server tells the lower 32.
    pub async fn idle_transactions(&mut self, ids: &[u64]) -> Result<Vec<u64>, CatalogError> {
        let mut idle = Vec::new();
        for row in self.ask(IDLE, IDLE_SQL, &[]).await? {
            let text: String = column(&row, IDLE, "xid")?;
            let xid: u32 = text.parse().map_err(|_| CatalogError::Answer {
                question: IDLE,
                what: format!("{text:?} where a transaction id is expected"),
            })?;
            let low_half = u64::from(u32::MAX);
            idle.extend(ids.iter().copied().filter(|id| id & low_half == u64::from(xid)));
        }
        Ok(idle)
    }
}
