//! The bridge's side of DDL: what event triggers tell in the stream, and what the catalog shows where there are none.

use std::time::Duration;

use penstock_wire::lsn::Lsn;

use super::{Bridge, Stream};
use crate::ddl::Effect;
use crate::ddl::message::{Ddl, DdlError};
use crate::fault::Fault;
use crate::interface::Stop;
use crate::pgoutput::Relation;
use crate::relation::CatalogFacts;
use crate::watch::Seen;

impl Bridge {
    /// What the stream itself has told of a relation beyond its message, at this place.
    pub fn told(&self, relation: &Relation) -> Option<CatalogFacts> {
        self.tables.told(relation)
    }

    /// What the catalog says about the relation that was asked about, where nobody can say any more what its key is: whether its
    /// changes are left out, because that is accepted. If not, it has to be described.
    pub fn handle_keyless(&mut self, relation: &Relation, facts: &CatalogFacts, now: Duration) -> bool {
        let left_out = self.tables.leaves_out(relation, facts, &self.settings.rules);
        if left_out {
            let handled = self.resume_held(now);
            self.handled(handled, now);
        }
        left_out
    }

    /// The published tables as the catalog shows them, where no trigger tells the stream what happens to them.
    pub fn handle_catalog(&mut self, seen: &Seen, now: Duration) {
        match self.tables.lost(seen, &self.settings.rules, &mut self.progress) {
            Ok(effects) => self.load_again(effects),
            Err(fault) => self.stop(Stop::Fault(Box::new(fault))),
        }
        self.ask_backfill(now);
        self.advance(now);
    }

    /// A message of the event triggers: an event like others.
    pub(super) fn ddl(&mut self, content: &[u8]) -> Result<(), Fault> {
        let ddl = match Ddl::parse(content) {
            Ok(ddl) => ddl,
            Err(DdlError::Malformed) => Ddl::unreadable(),
            Err(source @ DdlError::Version(_)) => return Err(Fault::Ddl { after: self.read_to, source }),
        };
        let effects = self.tables.judge(ddl, &self.settings.rules, &mut self.progress)?;
        let mut emit = self.emit(Lsn(0));
        let event = emit.event();
        for effect in &effects {
            if let Effect::Truncate { schema, table } = effect {
                emit.rows_gone(event, schema, table)?;
            }
        }
        self.load_again(effects);
        Ok(())
    }

    pub(super) fn load_again(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reload { schema, table, why } => self.reload_needed(&schema, &table, &why),
                Effect::Truncate { .. } | Effect::Forget(_) | Effect::Rename { .. } => {}
            }
        }
    }

    /// At this place of the stream, the topic's rows of a table cease to be the database's: it is loaded again. Remembered with
    /// the transaction that told of it.
    pub(super) fn reload_needed(&mut self, schema: &str, table: &str, why: &str) {
        let (commit, event) = match &self.stream {
            Stream::Within(open) => (open.begin.commit_lsn.0, open.events),
            Stream::Between | Stream::Skipping { .. } => (self.read_to.0, 0),
        };
        let place = format!("{:x}-{event}", commit.0);
        self.backfill.reload_table((schema.to_owned(), table.to_owned()), &place, why);
    }
}
