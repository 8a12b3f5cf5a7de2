//! The bridge's side of a backfill: marks and requests in the stream, and the shell's answers.

use std::time::Duration;

use penstock_wire::control::ControlKind;
use penstock_wire::lsn::Lsn;
use penstock_wire::reload::Reload;

use super::{Action, Bridge, Stream};
use crate::backfill::Due;
use crate::backfill::interface::{Chunk, MARK_PREFIX, REQUEST_PREFIX, Surveyed, Undescribed, Unsurveyed};
use crate::backfill::place::Placing;
use crate::ddl;
use crate::fault::Fault;
use crate::pgoutput::{Begin, LogicalMessage, Relation};
use crate::relation::{CatalogFacts, Table};

impl Bridge {
    /// Reads every captured row, if the topic does not hold them all, unless that is under way or was decided against.
    pub fn load_everything(&mut self, now: Duration) {
        self.backfill.load_everything();
        self.ask_backfill(now);
        self.advance(now);
    }

    /// Rows from before the first start are not loaded, now and at later starts.
    pub fn decline_load(&mut self, now: Duration) {
        self.backfill.decline_load();
        self.ask_backfill(now);
        self.advance(now);
    }

    /// Reloads that are live, and some that have ended.
    pub fn reloads(&self) -> &[Reload] {
        self.backfill.reloads()
    }

    /// Why no chunk is accepted, although reloads are live.
    pub fn backfill_waits(&self) -> Option<&str> {
        self.backfill.waits()
    }

    /// The id that was asked for by [`crate::backfill::interface::Ask::Barrier`].
    pub fn handle_barrier(&mut self, xid: u64, now: Duration) {
        self.backfill.handle_barrier(xid);
        self.ask_backfill(now);
        self.advance(now);
    }

    /// Of the transactions that were asked about, those whose sessions are idle.
    pub fn handle_idle(&mut self, xids: Vec<u64>, now: Duration) {
        self.backfill.handle_idle(xids);
        self.ask_backfill(now);
        self.advance(now);
    }

    /// The ranges of a reload.
    pub fn handle_surveyed(&mut self, reload: &str, surveyed: Surveyed, now: Duration) {
        let surveyed = self.of_former_table(reload, surveyed);
        self.backfill.handle_surveyed(reload, surveyed);
        self.ask_backfill(now);
        self.advance(now);
    }

    /// A table that was captured, and is not any more, has no rows to read: what readers hold of it has to go.
    fn of_former_table(&self, reload: &str, surveyed: Surveyed) -> Surveyed {
        let of_reload = self.reloads().iter().find(|known| known.id == reload);
        let table = of_reload.and_then(|reload| reload.scope.table.as_ref());
        match (surveyed, table) {
            (Err(Unsurveyed::NotCaptured(_)), Some(name)) if self.tables.has_pinned(name) => Ok(Vec::new()),
            (surveyed, _) => surveyed,
        }
    }

    /// Compiles a table for a backfill; the answer goes to [`Self::handle_described`].
    pub fn describe_for_backfill(&mut self, relation: &Relation, facts: CatalogFacts) -> Result<Table, Fault> {
        self.tables.compile(relation, facts, &self.settings, &mut self.progress)
    }

    /// A table can be read, and its schemas have these registry ids (key, value); or it cannot.
    pub fn handle_described(
        &mut self,
        name: (String, String),
        described: Result<(Table, (u32, u32)), Undescribed>,
        now: Duration,
    ) {
        let pinned = described.and_then(|(mut table, ids)| {
            let pinned = self.tables.registered_for_backfill(&mut table, ids, &mut self.progress);
            pinned.map(|()| table).map_err(|fault| Undescribed::Refused(format!("{fault}. {}", fault.remedy())))
        });
        self.backfill.handle_described(&name, pinned);
        self.ask_backfill(now);
        self.advance(now);
    }

    /// The rows of a chunk, before its high mark is written.
    pub fn handle_chunk(&mut self, chunk: Chunk, now: Duration) {
        self.backfill.handle_chunk(chunk);
        self.ask_backfill(now);
        self.advance(now);
    }

    /// A chunk could not be read.
    pub fn handle_chunk_failed(&mut self, number: u64, why: String, now: Duration) {
        self.backfill.handle_chunk_failed(number, why, now);
        self.ask_backfill(now);
        self.advance(now);
    }

    pub(super) fn ask_backfill(&mut self, now: Duration) {
        if !self.shutting_down && !self.stopped {
            let asks = self.backfill.asks(&self.settings.limits, &self.settings.rules, now);
            self.actions.extend(asks.into_iter().map(Action::Backfill));
        }
    }

    /// A transactional message within a transaction, which counts as an event.
    pub(super) fn logical(&mut self, message: LogicalMessage<'_>, begin: Begin, now: Duration) -> Result<(), Fault> {
        if message.prefix == ddl::PREFIX {
            self.ddl(message.content)?;
            self.ask_backfill(now);
            return Ok(());
        }
        let event = self.emit(Lsn(0)).event();
        match message.prefix {
            MARK_PREFIX => self.mark(message.content, event, begin, now),
            REQUEST_PREFIX => {
                self.backfill.request(message.content, format!("{:x}-{event}", begin.commit_lsn.raw()));
                self.ask_backfill(now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn mark(&mut self, content: &[u8], event: u64, begin: Begin, now: Duration) -> Result<(), Fault> {
        debug_assert!(matches!(self.stream, Stream::Within(_)), "marks come within transactions");
        let Some(due) = self.backfill.mark(content, now) else {
            self.ask_backfill(now);
            return Ok(());
        };
        let (settings, outlet, ledger) = (&self.settings, &mut self.outlet, &mut self.ledger);
        let mut placing = Placing { begin, event, settings, outlet, ledger };
        match due {
            Due::Begin(id, scope) => {
                let at = placing.position();
                placing.control(ControlKind::ReloadBegin, &scope, at)?;
                self.backfill.begun(&id, at);
            }
            Due::Rows(mut placed) => {
                placing.rows(&mut placed)?;
                self.backfill.accepted(*placed, self.settings.limits.backfill_rows_per_second, now);
            }
            Due::End(id, scope, reload_begin) => {
                let at = placing.position();
                placing.control(ControlKind::ReloadEnd, &scope, reload_begin)?;
                self.backfill.ended(&id, at, self.ledger.durable());
            }
        }
        self.ask_backfill(now);
        Ok(())
    }
}
