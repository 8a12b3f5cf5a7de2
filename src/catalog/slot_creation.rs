//! Making the replication slot, and taking it back.
//!
//! Postgres makes a logical slot in the time that the transactions which are running take. Whoever does not wait so long
//! leaves a server process at work, and in the end a slot that nobody reads from and that holds back WAL for ever. So a
//! creation that is given up is cancelled: a slot that is not finished goes with the statement that makes it. What this
//! session has made and not said to keep can be dropped again.
//!
//! A process that is killed cannot cancel anything; the server is told to look whether its client is still there.

use std::time::{Duration, Instant};

use penstock_wire::lsn::EndLsn;

use super::error::CatalogError;
use super::session::{Catalog, column, lsn};
use super::setup::Step;

const CREATE_SLOT: &str = "whether the slot could be created";
const DROP_SQL: &str = "SELECT pg_drop_replication_slot($1)";
const UNDO_SLOT: &str = "whether the slot is gone";

const CREATE_SLOT_SQL: &str = "SELECT lsn::text AS lsn FROM pg_create_logical_replication_slot($1, 'pgoutput')";

/// Some systems cannot look, and refuse to (Postgres 14 and newer can on Linux, macOS and BSD).
const LOOK_FOR_CLIENT_SQL: &str = "SELECT set_config('client_connection_check_interval', '1000', false)";

/// What is waited for is a lock, and for longer than any other question may wait for one.
const WAIT_SQL: &str = "SELECT pg_backend_pid() AS pid, set_config('lock_timeout', '0', false)";

const UNDO_PAUSE: Duration = Duration::from_millis(20);

/// A slot that this session has asked for and that is not yet to stay.
#[derive(Clone, Copy, Debug)]
pub(super) enum NewSlot {
    /// The server process that makes it, unless it is finished.
    Asked(i32),
    /// It is there.
    Made,
}

impl Catalog {
    /// Creates the slot unless one of the name exists; gives the point from which on it sends everything.
    ///
    /// Waits for the transactions that are running, hence the limit. If it runs out, the creation is cancelled. Until
    /// [`Catalog::keep_slot`] it can be undone, also where this was not waited for.
    pub async fn create_slot(&mut self, name: &str, limit: Duration) -> Result<Step<EndLsn>, CatalogError> {
        if self.slot(name).await?.is_some() {
            return Ok(Step::Found);
        }
        // A refusal costs nothing but this.
        let _ = self.ask(CREATE_SLOT, LOOK_FOR_CLIENT_SQL, &[]).await;
        let row = self.ask_one(CREATE_SLOT, WAIT_SQL, &[]).await?;
        self.new_slot = Some(NewSlot::Asked(column(&row, CREATE_SLOT, "pid")?));
        let rows = match self.ask_within(CREATE_SLOT, CREATE_SLOT_SQL, &[&name], limit).await {
            Ok(rows) => rows,
            Err(error) => {
                if let Err(undone) = self.undo_slot(name, limit).await {
                    tracing::info!(slot = name, error = %undone, "the creation of the slot was not cancelled");
                }
                return Err(error);
            }
        };
        self.new_slot = Some(NewSlot::Made);
        // The next question has a session with the usual settings.
        self.disconnect();
        let point = rows.first().map(|row| lsn(row, CREATE_SLOT, "lsn")).transpose()?.flatten();
        let missing =
            || CatalogError::Answer { question: CREATE_SLOT, what: "no position came with the slot".to_owned() };
        point.map(|point| Step::Made(EndLsn(point))).ok_or_else(missing)
    }

    /// The slot that was made is to stay, since something may depend on it from now on.
    pub fn keep_slot(&mut self) {
        self.new_slot = None;
    }

    /// Takes back what [`Catalog::create_slot`] did, if it did anything that is not to stay; whether no slot is left of it.
    pub async fn undo_slot(&mut self, name: &str, limit: Duration) -> Result<bool, CatalogError> {
        match self.new_slot.take() {
            None => Ok(true),
            Some(NewSlot::Made) => {
                self.drop_slot(name).await?;
                Ok(true)
            }
            Some(NewSlot::Asked(pid)) => {
                // The old session is busy with the creation.
                self.disconnect();
                self.cancel_creation(name, pid, limit).await
            }
        }
    }

    /// Drops a slot that Postgres has invalidated.
    pub async fn drop_slot(&mut self, name: &str) -> Result<(), CatalogError> {
        self.ask(UNDO_SLOT, DROP_SQL, &[&name]).await.map(drop)
    }

    /// A slot that is finished by now stays: somebody else may have made it.
    async fn cancel_creation(&mut self, name: &str, pid: i32, limit: Duration) -> Result<bool, CatalogError> {
        const CANCEL_SQL: &str = "
            SELECT pg_cancel_backend(active_pid) FROM pg_replication_slots
             WHERE slot_name = $1 AND active_pid = $2 AND confirmed_flush_lsn IS NULL";
        let began = Instant::now();
        loop {
            let unfinished = self.ask(UNDO_SLOT, CANCEL_SQL, &[&name, &pid]).await?;
            // The statement may not have come so far as to show a slot.
            let busy = "SELECT FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
            if unfinished.is_empty() && self.ask(UNDO_SLOT, busy, &[&pid]).await?.is_empty() {
                return Ok(self.slot(name).await?.is_none());
            }
            if began.elapsed() > limit {
                return Ok(false);
            }
            tokio::time::sleep(UNDO_PAUSE).await;
        }
    }
}
