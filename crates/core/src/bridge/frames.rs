//! From frames to events: transactions that begin and end, changes within them, what is skipped because it is delivered.

use std::time::Duration;

use penstock_wire::lsn::{EndLsn, Lsn};
use penstock_wire::position::{Part, Seq};

use super::Bridge;
use crate::ddl;
use crate::ddl::message::Ddl;
use crate::emit::{Emit, Open};
use crate::fault::Fault;
use crate::history::Known;
use crate::interface::Action;
use crate::ledger::LastCommit;
use crate::limits::BEHIND_US;
use crate::pgoutput::{self, Begin, Commit, LogicalMessage, Message};

#[derive(Debug)]
pub(super) enum Stream {
    /// Between transactions.
    Between,
    /// In one that is already delivered.
    Skipping { begin: Begin, events: u64 },
    /// In one that is being delivered.
    Within(Open),
}

/// A frame that waits.
#[derive(Debug)]
pub(super) struct Held {
    start: Lsn,
    sent_at_us: i64,
    payload: Vec<u8>,
}

impl Bridge {
    pub(super) fn message(&mut self, start: Lsn, sent_at_us: i64, payload: &[u8], now: Duration) -> Result<(), Fault> {
        let message = pgoutput::decode(payload).map_err(|source| Fault::Decode { after: self.read_to, source })?;
        match (message, &mut self.stream) {
            (Message::Begin(begin), Stream::Between) => {
                self.timing.behind(sent_at_us.saturating_sub(begin.commit_time_us) > BEHIND_US);
                self.begin(begin, now)
            }
            (Message::Begin(_), _) => Err(self.out_of_sequence("Begin inside a transaction")),
            (Message::Commit(commit), _) => self.commit(commit),
            (Message::Relation(relation), _) => {
                self.backfill.reshaped(&relation);
                self.tables.relation(relation);
                Ok(())
            }
            (Message::Origin | Message::Type, _) => Ok(()),
            (Message::Logical(message), _) if !message.transactional => Ok(()),
            (_, Stream::Between) => Err(self.out_of_sequence("a change outside a transaction")),
            (message, Stream::Skipping { events, .. }) => {
                *events += events_of(&message);
                if let Message::Logical(LogicalMessage { prefix: ddl::PREFIX, content, .. }) = message
                    && let Ok(ddl) = Ddl::parse(content)
                {
                    self.tables.recall(ddl);
                }
                Ok(())
            }
            (Message::Logical(message), Stream::Within(open)) => {
                let begin = open.begin;
                self.logical(message, begin, now)
            }
            (message, Stream::Within(_)) => match self.tables.needs(&message) {
                None => self.change(start, message),
                Some(relation) => {
                    self.held = Some(Held { start, sent_at_us, payload: payload.to_vec() });
                    self.actions.push_back(Action::NeedSchema(relation));
                    Ok(())
                }
            },
        }
    }

    pub(super) fn resume_held(&mut self, now: Duration) -> Result<(), Fault> {
        match self.held.take() {
            Some(Held { start, sent_at_us, payload }) => self.message(start, sent_at_us, &payload, now),
            None => Ok(()),
        }
    }

    fn begin(&mut self, begin: Begin, now: Duration) -> Result<(), Fault> {
        match self.history.begin(&begin)? {
            Known::Whole => {
                self.stream = Stream::Skipping { begin, events: 0 };
                return Ok(());
            }
            // What a partition holds of it is dropped where it is put.
            Known::InPart | Known::New => {}
        }
        if begin.commit_lsn.0 < self.read_to.0 {
            return Err(self.out_of_sequence("a commit before one already read"));
        }
        let (records, bytes_before, _) = self.ledger.open_size();
        // A suspect shares its Kafka transaction neither with what comes before it nor with what comes after.
        let alone = |commit_lsn| begin.commit_lsn == commit_lsn || self.watch.holds(commit_lsn);
        self.apart = records > 0 && self.suspect.is_some_and(|suspect| alone(suspect.commit_lsn));
        self.timing.transaction(now);
        self.stream = Stream::Within(Open { begin, events: 0, envelopes: 0, bytes_before });
        Ok(())
    }

    fn commit(&mut self, commit: Commit) -> Result<(), Fault> {
        if matches!(self.stream, Stream::Within(_)) {
            let effects = self.tables.commit(&self.settings.rules)?;
            self.load_again(effects);
        }
        let stream = std::mem::replace(&mut self.stream, Stream::Between);
        let begun = match &stream {
            Stream::Between => return Err(self.out_of_sequence("Commit outside a transaction")),
            Stream::Skipping { begin, .. } => begin.commit_lsn,
            Stream::Within(open) => open.begin.commit_lsn,
        };
        if begun != commit.commit_lsn || commit.end_lsn.0 <= commit.commit_lsn.0 {
            return Err(self.out_of_sequence("a Commit that is not its Begin's"));
        }
        match stream {
            Stream::Skipping { begin, events } => {
                self.skipped += 1;
                self.history.skipped(&begin, events)?;
            }
            Stream::Between => {}
            Stream::Within(open) => {
                self.history.ended(&open.begin, open.events)?;
                self.backfill.delivered(open.begin.xid);
                self.outlet.seal();
                self.watch.sealed(open.begin, self.ledger.open_size().1.saturating_sub(open.bytes_before));
                self.read_to = commit.end_lsn;
                let last = (open.events > 0).then(|| self.last_commit(&open));
                self.seal(commit.end_lsn, last);
            }
        }
        Ok(())
    }

    pub(super) fn last_commit(&self, open: &Open) -> LastCommit {
        let seq = Seq::of_event(open.events - 1, Part::Record);
        let last_event = self.outlet.position(open.begin.commit_lsn, seq);
        LastCommit { last_event, xid: open.begin.xid, commit_time_us: open.begin.commit_time_us }
    }

    /// Inside a transaction it says nothing about what is still to come of it, and is ignored.
    pub(super) fn keepalive(&mut self, wal_end: EndLsn) -> Result<(), Fault> {
        if matches!(self.stream, Stream::Between) && wal_end >= self.read_to {
            self.history.keepalive(wal_end)?;
            self.read_to = wal_end;
            self.seal(wal_end, None);
        }
        Ok(())
    }

    fn seal(&mut self, end: EndLsn, commit: Option<LastCommit>) {
        let clock_us = self.samples.passed(end);
        self.ledger.seal(end, commit, clock_us, self.backfill.remembered());
    }

    fn change(&mut self, start: Lsn, message: Message<'_>) -> Result<(), Fault> {
        let mut emit = self.emit(start);
        emit.change(message)?;
        if let Some((schema, table)) = emit.incomplete {
            self.reload_needed(&schema, &table, "a change of it came without the old row, and that is accepted");
        }
        Ok(())
    }

    pub(super) fn emit(&mut self, row_lsn: Lsn) -> Emit<'_> {
        let Stream::Within(open) = &mut self.stream else { unreachable!("changes are handled within a transaction") };
        let (tables, left_out) = self.tables.by_oid();
        Emit {
            open,
            row_lsn,
            tables,
            left_out,
            settings: &self.settings,
            outlet: &mut self.outlet,
            ledger: &mut self.ledger,
            backfill: &mut self.backfill,
            incomplete: None,
        }
    }

    fn out_of_sequence(&self, what: &'static str) -> Fault {
        Fault::Sequence { after: self.read_to, what }
    }
}

/// Events are counted as received, before any filter, so that a changed configuration renumbers nothing.
fn events_of(message: &Message<'_>) -> u64 {
    match message {
        Message::Insert { .. } | Message::Update { .. } | Message::Delete { .. } | Message::Logical(_) => 1,
        Message::Truncate { relations } => relations.len() as u64,
        Message::Begin(_) | Message::Commit(_) | Message::Relation(_) | Message::Origin | Message::Type => 0,
    }
}
