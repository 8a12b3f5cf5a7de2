//! The loop that writes and deletes: what waits is done; what cannot be done is tried again, as long as it is of use.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Error, Socket};
use uuid::Uuid;

use super::rows::{Database, is_of_the_row};
use super::{Counts, FlowWriterOptions, Queued};
use crate::service::{Access, EndedFlows};

#[derive(Debug)]
pub(super) struct Task<T> {
    access: Access,
    queue: mpsc::Receiver<Queued>,
    ended: EndedFlows,
    database: Database<T>,
    options: FlowWriterOptions,
    counts: Arc<Counts>,
    /// Taken from the queue and not written, oldest first.
    rows: VecDeque<Queued>,
    /// To be deleted.
    deletes: Vec<Uuid>,
    is_closed: bool,
}

impl<T> Task<T>
where
    T: MakeTlsConnect<Socket> + Clone,
    T::Stream: Send + 'static,
{
    pub(super) fn new(
        access: Access,
        queue: mpsc::Receiver<Queued>,
        database: Database<T>,
        options: FlowWriterOptions,
        counts: Arc<Counts>,
    ) -> Self {
        let ended = access.ended_flows();
        let (rows, deletes) = (VecDeque::new(), Vec::new());
        Self { access, queue, ended, database, options, counts, rows, deletes, is_closed: false }
    }

    /// Until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        loop {
            if self.rows.is_empty() && self.deletes.is_empty() && !self.wait().await {
                return;
            }
            self.withdraw_overdue();
            if let Err(error) = self.work().await {
                self.database.disconnect();
                tracing::warn!(%error, waiting = self.rows.len(), "rows of flows cannot be written now");
                if self.is_closed && self.rows.is_empty() {
                    // Ended flows stay ended without their rows' being deleted; another run deletes them.
                    return;
                }
                tokio::time::sleep(self.options.retry_pause).await;
            }
        }
    }

    /// Waits for something to do; false: there will be nothing more.
    async fn wait(&mut self) -> bool {
        if self.is_closed {
            return false;
        }
        let mut rows = Vec::new();
        tokio::select! {
            taken = self.queue.recv_many(&mut rows, self.options.batch_max) => {
                self.is_closed = taken == 0;
                self.rows.extend(rows);
            }
            (_, flow) = self.ended.next() => {
                self.deletes.push(flow.id);
                self.take_ended().await;
            }
        }
        // Closed, it may still be told of flows that have ended: those are what is left to do.
        if self.is_closed {
            self.take_ended().await;
        }
        !self.is_closed || !self.deletes.is_empty()
    }

    /// Those that have ended by now.
    async fn take_ended(&mut self) {
        while self.deletes.len() < self.options.batch_max
            && let Ok((_, flow)) = timeout(Duration::ZERO, self.ended.next()).await
        {
            self.deletes.push(flow.id);
        }
    }

    /// Writes and deletes what was taken. What could not be, and was nobody's own fault, is still there after an error.
    async fn work(&mut self) -> Result<(), Error> {
        while !self.rows.is_empty() {
            let batch: Vec<&Queued> = self.rows.iter().take(self.options.batch_max).collect();
            match self.database.insert(&batch).await {
                Ok(()) => {
                    let written = batch.len();
                    self.rows.drain(..written);
                    self.count_written(written);
                }
                Err(error) if is_of_the_row(&error) => {
                    let one_by_one = batch.len();
                    self.write_one_by_one(one_by_one).await?;
                }
                Err(error) => return Err(error),
            }
        }
        if !self.deletes.is_empty() {
            self.database.delete(&self.deletes).await?;
            let deleted = u64::try_from(self.deletes.len()).unwrap_or(u64::MAX);
            self.counts.deleted.fetch_add(deleted, Ordering::Relaxed);
            self.deletes.clear();
        }
        Ok(())
    }

    /// One of the next rows is refused: each shows whether it is that one.
    async fn write_one_by_one(&mut self, rows: usize) -> Result<(), Error> {
        for _ in 0..rows {
            let Some(row) = self.rows.front() else { return Ok(()) };
            match self.database.insert(&[row]).await {
                Ok(()) => self.count_written(1),
                Err(error) if is_of_the_row(&error) => {
                    let code = error.code().map_or("", |code| code.code());
                    tracing::warn!(flow = %row.flow.id, code, "a flow's row is refused, and the flow withdrawn");
                    self.withdraw(row);
                }
                Err(error) => return Err(error),
            }
            self.rows.pop_front();
        }
        Ok(())
    }

    /// Nobody waits any more for what waited for so long.
    fn withdraw_overdue(&mut self) {
        while let Some(row) = self.rows.front().filter(|row| row.since.elapsed() > self.options.write_within) {
            tracing::warn!(flow = %row.flow.id, "a flow's row could not be written in time, and the flow is withdrawn");
            self.withdraw(row);
            self.rows.pop_front();
        }
    }

    fn withdraw(&self, row: &Queued) {
        self.access.withdraw(&row.flow.account_id, row.flow.id);
        self.counts.withdrawn.fetch_add(1, Ordering::Relaxed);
    }

    fn count_written(&self, rows: usize) {
        self.counts.written.fetch_add(u64::try_from(rows).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
