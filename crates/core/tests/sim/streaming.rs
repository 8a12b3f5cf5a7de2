//! A session that streams: frames in, what the bridge asks for done, answers handed in whenever they come.

use std::collections::VecDeque;
use std::time::Duration;

use penstock_core::bridge::{Action, Bridge, ClockSample, Stop};
use penstock_core::pgoutput::Relation;
use penstock_wire::lsn::EndLsn;

use crate::bridge::{IN_FLIGHT_BYTES_MAX, SOURCE};
use crate::broker::{Fate, Log, View, Written};
use crate::checker::broken;
use crate::loading::Loader;
use crate::outside::Outside;
use crate::producer::{Claim, Heard, Producer, Request};
use crate::tables::{TABLES, by_name};
use crate::walsender::Connection;

/// As the registry numbers it.
const PROGRESS_SCHEMA: u32 = 3;

/// How a session ended.
#[derive(Debug)]
pub enum End {
    /// The next one goes through the opening again.
    Session(&'static str),
    /// As asked.
    Process,
}

#[derive(Debug)]
pub struct Streaming {
    pub bridge: Bridge,
    pub producer: Producer,
    pub loader: Loader,
    heard: VecDeque<Heard>,
    /// Commits that have returned, and may not be readable yet.
    claims: VecDeque<Claim>,
    /// What the catalog and the registry are asked about.
    relation: Option<Relation>,
    began: i64,
    /// The client has read all that the server sent, and the server is gone.
    lost: bool,
}

impl Streaming {
    pub fn new(bridge: Bridge, producer: Producer, now: i64) -> Self {
        Self {
            bridge,
            producer,
            loader: Loader::default(),
            heard: VecDeque::new(),
            claims: VecDeque::new(),
            relation: None,
            began: now,
            lost: false,
        }
    }

    fn now(&self, outside: &Outside) -> Duration {
        Duration::from_micros(u64::try_from(outside.now - self.began).expect("time goes on"))
    }

    pub fn step(&mut self, connection: &mut Connection, number: usize, outside: &mut Outside) -> Result<(), End> {
        let now = self.now(outside);
        match outside.random.weighted(&[30, 20, 15, 10, 10, 6, 4, 4, 10]) {
            0 => self.consume(connection, now, outside)?,
            1 => self.push(outside),
            2 => self.producer.report(&mut outside.random, &mut self.heard),
            3 => self.end_transaction(outside),
            4 => self.witness(now, outside)?,
            5 => self.bridge.handle_tick(now),
            6 => {
                let (lsn, clock_us) = (EndLsn::new(outside.postgres.flushed), outside.now);
                self.bridge.handle_clock(ClockSample { lsn, clock_us });
            }
            7 => self.send_status(connection, outside),
            _ => {
                if let Some(relation) = self.relation.take() {
                    self.described(&relation, now, outside);
                } else {
                    self.loader.step(&mut self.bridge, now, outside);
                }
            }
        }
        self.listen(now)?;
        self.act(connection, number, outside)
    }

    /// Frames that have arrived, as many as the bridge wants.
    fn consume(&mut self, connection: &mut Connection, now: Duration, outside: &mut Outside) -> Result<(), End> {
        for _ in 0..outside.random.between(1, 8) {
            if !self.bridge.wants_wal() {
                return Ok(());
            }
            if self.producer.unreported >= IN_FLIGHT_BYTES_MAX {
                let unreported = self.producer.unreported;
                broken!(G8, "the bridge takes a frame with {unreported} bytes unreported, of {IN_FLIGHT_BYTES_MAX}");
            }
            let Some(frame) = connection.to_client.pop_front() else {
                self.lost = !connection.is_alive;
                if self.lost {
                    return Err(End::Session("the connection is lost"));
                }
                match outside.random.permille(700) {
                    true => self.bridge.handle_drained(now),
                    false => self.bridge.handle_quiet(now),
                }
                return Ok(());
            };
            self.bridge.handle_wal(frame.wal(), now);
            if self.relation.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn push(&mut self, outside: &mut Outside) {
        for _ in 0..outside.random.between(1, 5) {
            if outside.fails(2) {
                self.producer.fail("a record could not be delivered");
            }
            if let Some((place, _)) = self.producer.push(&mut outside.broker, &mut outside.random) {
                outside.written(place);
            }
        }
    }

    /// The end of the transaction travels: it arrives, or is held back; its answer arrives, or does not.
    fn end_transaction(&mut self, outside: &mut Outside) {
        let Some(Request::End(epoch)) = self.producer.end_request() else { return };
        if outside.fails(40) {
            outside.network.push(Request::End(epoch));
            outside.say(|| format!("network: the end of {epoch}'s transaction is held back"));
            self.producer.fail("no answer to a commit");
            return;
        }
        let answer = outside.broker.end(epoch, Fate::Committed);
        outside.say(|| format!("broker: the end of {epoch}'s transaction: {answer:?}"));
        if outside.fails(40) {
            self.producer.fail("the answer to a commit is lost");
        } else {
            self.producer.ended(answer, &mut self.heard);
        }
    }

    /// Looks at the oldest commit with a reader's eyes.
    fn witness(&mut self, now: Duration, outside: &Outside) -> Result<(), End> {
        let Some(claim) = self.claims.front() else { return Ok(()) };
        let logs = || outside.broker.logs.iter().zip(claim).filter(|(_, end)| **end > 0);
        if logs().all(|(log, end)| log.end(View::Committed) >= *end) {
            // A marker that was meant for the next transaction may have aborted what was committed.
            let is_aborted = |log: &Log, end: i64| {
                let last = log.fetch(end - 1, View::Everything).next();
                last.is_some_and(|last| last.offset == end - 1 && last.fate == Fate::Aborted)
            };
            if logs().any(|(log, end)| is_aborted(log, *end)) {
                return Err(End::Session("what was committed was aborted"));
            }
            self.claims.pop_front();
            self.bridge.handle_readable(now);
        } else if !outside.broker.is_ending() && !outside.broker.is_ongoing() {
            return Err(End::Session("what was committed cannot be read"));
        }
        Ok(())
    }

    fn described(&mut self, relation: &Relation, now: Duration, outside: &mut Outside) {
        let facts = TABLES[by_name(&relation.table).expect("a table")].facts();
        match self.bridge.describe(relation, facts) {
            Ok(table) => {
                let (key, value) = outside.registry.of_table(&table);
                self.bridge.handle_schema_ready(table, key, value, now);
            }
            Err(fault) => broken!(G6, "a table was refused: {fault}"),
        }
    }

    /// What came from the producer.
    fn listen(&mut self, now: Duration) -> Result<(), End> {
        while let Some(heard) = self.heard.pop_front() {
            match heard {
                Heard::Delivered(reports) => self.bridge.handle_delivered(reports, now),
                Heard::Committed(claim) => {
                    self.claims.push_back(claim);
                    self.bridge.handle_committed(now);
                }
                Heard::Failed(why) => return Err(End::Session(why)),
            }
        }
        Ok(())
    }

    fn act(&mut self, connection: &mut Connection, number: usize, outside: &mut Outside) -> Result<(), End> {
        while let Some(action) = self.bridge.poll_action() {
            match action {
                Action::Produce(batch) => self.producer.produce(batch),
                Action::Commit(progress) => {
                    let mut value = Vec::new();
                    progress.encode(PROGRESS_SCHEMA, &mut value);
                    let (key, value) = (SOURCE.as_bytes().to_vec(), Some(value));
                    let timestamp_ms = outside.now / 1000;
                    let end = progress.end_lsn.raw();
                    outside.say(|| format!("bridge {number}: commits up to {end}"));
                    self.producer.commit(Written { key, value, header: None, control: None, timestamp_ms });
                }
                Action::Confirm(end) => {
                    let end = end.end_lsn.raw();
                    outside.say(|| format!("bridge {number}: confirms {end}"));
                    self.send_status(connection, outside);
                }
                Action::NeedSchema(relation) => self.relation = Some(relation),
                Action::Backfill(ask) => self.loader.ask(ask),
                Action::Stopped(Stop::Shutdown) => return Err(End::Process),
                Action::Stopped(Stop::Apart(lsn)) => broken!(G6, "{lsn} is kept apart"),
                Action::Stopped(Stop::Fault(fault)) => {
                    broken!(G6, "the bridge stops, though nothing was lost: {fault}")
                }
            }
        }
        Ok(())
    }

    fn send_status(&mut self, connection: &mut Connection, outside: &mut Outside) {
        connection.tell(self.bridge.durable().raw(), outside);
    }
}
