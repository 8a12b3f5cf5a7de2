//! One run: who is there, what happens next, and what must hold in the end. Everything follows from the seed.

use penstock_core::backfill::interface::REQUEST_PREFIX;

use crate::bridge::Node;
use crate::broker::{COMPACTION_LAG_US, PARTITIONS, PROGRESS, View};
use crate::checker::broken;
use crate::outside::Outside;
use crate::postgres::{Event, Postgres, State};
use crate::producer::arrive;
use crate::random::Random;
use crate::reader::Reader;
use crate::tables::{MEMBERSHIPS, POLICIES, RESOURCES, TABLES};
use crate::walsender::Connection;
use crate::workload::{account, first_rows, inserting, transaction};

/// Longest history, in steps.
const STEPS_MAX: u64 = 1500;
/// After this many steps without a fault everything has come to rest.
const CALM_ROUNDS_MAX: usize = 4000;

/// The reader that falls behind.
const SLOW: usize = 2;

/// What came of a run in which everything held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub transactions: u64,
    pub records: u64,
    pub sessions: u64,
    pub faults: u64,
    pub compared: u64,
    pub rebuilds: u64,
}

impl std::ops::Add for Summary {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            transactions: self.transactions + other.transactions,
            records: self.records + other.records,
            sessions: self.sessions + other.sessions,
            faults: self.faults + other.faults,
            compared: self.compared + other.compared,
            rebuilds: self.rebuilds + other.rebuilds,
        }
    }
}

pub struct World {
    pub outside: Outside,
    nodes: Vec<Node>,
    readers: Vec<Reader>,
    /// Connections of processes that are gone, which the server still holds.
    orphans: Vec<Connection>,
    faults: u64,
    /// How often each kind of event happens, in this run.
    weights: [usize; EVENTS.len()],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happens {
    Commit,
    Begin,
    Reveal,
    OtherWal,
    Send,
    Receive,
    Bridge,
    Marker,
    Arrive,
    Read,
    // From here on what is not as it should be.
    Kill,
    Pause,
    Disconnect,
    ServerTimeout,
    ForgetMarkers,
    TransactionTimeout,
    Compact,
    RestartReader,
    SaveReader,
    Reload,
    Jump,
}

use Happens::{
    Arrive, Begin, Bridge, Commit, Compact, Disconnect, ForgetMarkers, Jump, Kill, Marker, OtherWal, Pause, Read,
    Receive, Reload, RestartReader, Reveal, SaveReader, Send, ServerTimeout, TransactionTimeout,
};

/// How often each happens, on the average.
const EVENTS: [(Happens, usize); 21] = [
    (Commit, 60),
    (Begin, 8),
    (Reveal, 30),
    (OtherWal, 10),
    (Send, 200),
    (Receive, 50),
    (Bridge, 700),
    (Marker, 150),
    (Arrive, 20),
    (Read, 80),
    (Kill, 8),
    (Pause, 4),
    (Disconnect, 4),
    (ServerTimeout, 3),
    (ForgetMarkers, 6),
    (TransactionTimeout, 2),
    (Compact, 14),
    (RestartReader, 5),
    (SaveReader, 6),
    (Reload, 12),
    (Jump, 6),
];

impl World {
    pub fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random::new(seed);
        let had_rows = random.permille(500);
        let rows = first_rows(&mut random);
        let postgres = Postgres::new(if had_rows { rows.clone() } else { State::new() });
        let mut weights = EVENTS.map(|(_, weight)| weight);
        // Histories differ in what is frequent, and in what never happens.
        for (weight, (event, _)) in weights.iter_mut().zip(EVENTS) {
            let is_needed = [Send, Receive, Bridge, Marker, Read, Commit, Reveal].contains(&event);
            *weight *= if is_needed { 1 + random.below(3) } else { random.below(4) };
        }
        let mut outside = Outside::new(postgres, random, traced);
        outside.had_rows = had_rows;
        if !had_rows {
            outside.commit(inserting(&rows), true);
        }
        let nodes = (0..1 + outside.random.below(2)).map(Node::new).collect();
        let readers = [View::Committed, View::Everything, View::Committed];
        let readers = (0..).zip(readers).map(|(number, view)| Reader::new(number, view, outside.now)).collect();
        let mut world = Self { outside, nodes, readers, orphans: Vec::new(), faults: 0, weights };
        world.first_start();
        world
    }

    /// The first progress is written before anything fails: what else happens then is for the operator.
    fn first_start(&mut self) {
        self.nodes[0].start(true);
        self.outside.is_calm = true;
        while self.outside.broker.logs[PROGRESS].fetch(0, View::Committed).next().is_none() {
            self.nodes[0].step(&mut self.outside);
            self.outside.write_marker();
            self.outside.now += 100;
        }
        self.outside.is_calm = false;
        self.nodes[1..].iter_mut().for_each(|node| node.start(false));
    }

    pub fn run(&mut self) -> Summary {
        for _ in 0..self.outside.random.between(200, STEPS_MAX) {
            let (event, _) = EVENTS[self.outside.random.weighted(&self.weights)];
            self.happens(event);
            self.outside.now += i64::try_from(self.outside.random.below(4000)).expect("microseconds");
        }
        self.come_to_rest();
        Summary {
            transactions: self.outside.postgres.commits.len() as u64,
            records: self.outside.checker.readable,
            sessions: self.outside.connections,
            faults: self.faults,
            compared: self.readers.iter().map(|reader| reader.compared).sum(),
            rebuilds: self.readers.iter().map(|reader| reader.rebuilds as u64).sum(),
        }
    }

    fn happens(&mut self, event: Happens) {
        let outside = &mut self.outside;
        let node = outside.random.below(self.nodes.len());
        let reader = outside.random.below(self.readers.len());
        match event {
            Commit => {
                let changes = 1 + outside.random.below(6);
                let events = transaction(&outside.postgres, changes, &mut outside.random);
                let visible = outside.random.permille(600);
                outside.commit(events, visible);
            }
            Begin => outside.postgres.begin(),
            Reveal => outside.postgres.reveal(&mut outside.random),
            OtherWal => {
                let bytes = outside.random.between(1, 200);
                outside.postgres.write_elsewhere(bytes);
            }
            Send => self.send(node),
            Receive => self.receive(node),
            Bridge => (0..9).for_each(|_| self.nodes[node].step(&mut self.outside)),
            Marker => outside.write_marker(),
            Arrive => self.arrive(),
            // The last one is slow.
            Read if reader == SLOW && outside.random.permille(850) => {}
            Read => self.readers[reader].step(outside),
            Kill => self.kill(node),
            Pause => self.pause(node),
            Disconnect => self.disconnect(node),
            ServerTimeout => self.server_timeout(node),
            ForgetMarkers if outside.broker.is_ending() => {
                outside.broker.forget_markers(&mut outside.random);
                outside.say(|| "broker: the coordinator restarts, and forgets".to_owned());
                self.faults += 1;
            }
            TransactionTimeout if outside.broker.is_ongoing() => {
                outside.broker.abort_ongoing();
                outside.say(|| "broker: a transaction is aborted by its timeout".to_owned());
                self.faults += 1;
            }
            ForgetMarkers | TransactionTimeout => {}
            Compact => self.compact(),
            RestartReader => {
                let with_saved = outside.random.permille(600);
                outside.say(|| format!("reader {reader}: restarts, with what was saved: {with_saved}"));
                self.readers[reader].restart(outside.now, with_saved);
            }
            SaveReader => self.readers[reader].save(),
            Reload => self.reload(),
            Jump => {
                let seconds = outside.random.weighted(&[0, 8, 4, 2, 1, 1]);
                let jump = [0, 700_000, 2_000_000, 11_000_000, 30_000_000, COMPACTION_LAG_US + 1][seconds];
                outside.now += jump;
                outside.say(|| format!("time: {jump} us pass"));
            }
        }
    }

    fn send(&mut self, node: usize) {
        let outside = &mut self.outside;
        let frames = 1 + outside.random.below(10);
        if let Some(connection) = self.nodes[node].connection() {
            (0..frames).for_each(|_| connection.send(&outside.postgres, outside.now, &mut outside.random));
        }
    }

    fn receive(&mut self, node: usize) {
        if let Some(connection) = self.nodes[node].connection() {
            connection.receive(&mut self.outside.postgres);
        }
        // What a dead process had sent may still be read, until its socket is seen to be closed.
        if let Some(mut orphan) = self.orphans.pop() {
            orphan.receive(&mut self.outside.postgres);
            if orphan.to_server.is_empty() || self.outside.random.permille(300) {
                orphan.drop_it(&mut self.outside.postgres);
            } else {
                self.orphans.push(orphan);
            }
        }
    }

    fn arrive(&mut self) {
        let outside = &mut self.outside;
        if outside.network.is_empty() {
            return;
        }
        let chosen = outside.random.below(outside.network.len());
        // Of what goes from one producer to one partition a broker takes nothing out of order.
        let flow = outside.network[chosen].flow();
        let first = outside.network.iter().position(|request| request.flow() == flow).unwrap_or(chosen);
        let request = outside.network.remove(first);
        let answer = arrive(&request, &mut outside.broker);
        outside.say(|| format!("network: {answer:?} to a request that was held back"));
        match answer {
            Ok(Some(place)) => outside.written(place),
            Ok(None) => {}
            Err(_) => outside.network.retain(|request| request.flow() != flow),
        }
    }

    fn kill(&mut self, node: usize) {
        self.faults += 1;
        match self.nodes[node].process.is_some() {
            true => self.orphans.extend(self.nodes[node].kill(&mut self.outside)),
            false => self.nodes[node].start(false),
        }
    }

    fn pause(&mut self, node: usize) {
        self.faults += 1;
        if let Some(process) = &mut self.nodes[node].process {
            process.is_paused = !process.is_paused;
            let is_paused = process.is_paused;
            self.outside.say(|| format!("bridge {node}: paused {is_paused}"));
        }
    }

    /// A socket breaks: neither side gets what was on its way.
    fn disconnect(&mut self, node: usize) {
        self.faults += 1;
        if let Some(connection) = self.nodes[node].connection() {
            let kept = self.outside.random.below(connection.to_client.len() + 1);
            connection.to_client.truncate(kept);
            connection.drop_it(&mut self.outside.postgres);
            self.outside.say(|| format!("bridge {node}: the connection breaks"));
        }
    }

    /// The server gives up a client that has not answered for long: one that is paused, or gone.
    fn server_timeout(&mut self, node: usize) {
        self.orphans.drain(..).for_each(|mut orphan| orphan.drop_it(&mut self.outside.postgres));
        let is_paused = self.nodes[node].process.as_ref().is_some_and(|process| process.is_paused);
        if let Some(connection) = self.nodes[node].connection().filter(|_| is_paused) {
            connection.drop_it(&mut self.outside.postgres);
            self.outside.say(|| format!("postgres: gives bridge {node} up"));
            self.faults += 1;
        }
    }

    fn compact(&mut self) {
        let outside = &mut self.outside;
        let (place, share) = (outside.random.below(PARTITIONS + 1), outside.random.below(256));
        let lag = if place == PROGRESS { 0 } else { COMPACTION_LAG_US };
        outside.broker.logs[place].compact(outside.now, lag, share);
        outside.say(|| format!("broker: compacts {place}"));
    }

    /// An operator asks for a reload: of everything, a table, an account, or one's rows of a table.
    fn reload(&mut self) {
        let outside = &mut self.outside;
        let table = [MEMBERSHIPS, POLICIES, RESOURCES][outside.random.below(3)];
        let table = format!("\"table\":\"public.{}\"", TABLES[table].name);
        let account = format!("\"account\":\"{}\"", account(outside.random.below(4)));
        let scope = match outside.random.below(4) {
            0 => String::new(),
            1 => table,
            2 => account,
            _ => format!("{table},{account}"),
        };
        let content = format!("{{\"reload\":{{{scope}}}}}");
        outside.commit(vec![Event::Message(REQUEST_PREFIX.to_owned(), content)], true);
    }

    /// Nothing fails any more, and nobody writes: soon everything is delivered, confirmed and known.
    fn come_to_rest(&mut self) {
        self.outside.is_calm = true;
        self.outside.say(|| "nothing fails any more".to_owned());
        self.outside.postgres.roll_back();
        let outside = &mut self.outside;
        outside.postgres.reveal_all(&mut outside.random);
        while !self.outside.network.is_empty() {
            self.arrive();
        }
        for node in &mut self.nodes {
            match &mut node.process {
                Some(process) => process.is_paused = false,
                None => node.start(false),
            }
        }
        let last = self.outside.postgres.flushed;
        for round in 0.. {
            if round > CALM_ROUNDS_MAX {
                let (confirmed, streams) =
                    (self.outside.postgres.slot.confirmed, self.nodes.iter().any(Node::is_streaming));
                self.outside.checker.settled();
                broken!(G7, "no rest: the slot is at {confirmed} of {last}, streaming {streams}");
            }
            if self.outside.postgres.slot.confirmed >= last && self.is_idle() {
                break;
            }
            for node in 0..self.nodes.len() {
                self.server_timeout(node);
                self.send(node);
                self.receive(node);
                (0..10).for_each(|_| self.nodes[node].step(&mut self.outside));
            }
            (0..3).for_each(|_| self.outside.write_marker());
            self.outside.now += 5_000;
        }
        self.outside.checker.settled();
        // A heartbeat or two, and readers have it.
        for _ in 0..400 {
            for node in 0..self.nodes.len() {
                self.send(node);
                self.receive(node);
                (0..10).for_each(|_| self.nodes[node].step(&mut self.outside));
            }
            self.outside.write_marker();
            self.outside.now += 5_000;
        }
        for reader in &mut self.readers {
            // A rebuild that one round asks for is made in the next.
            (0..4).for_each(|_| reader.catch_up(&mut self.outside));
            reader.settled(&self.outside);
        }
    }

    /// No reload is live.
    fn is_idle(&mut self) -> bool {
        let finished = |node: &mut Node| {
            let streaming = node.streaming();
            streaming.is_none_or(|of| of.bridge.reloads().iter().all(|reload| reload.state.is_finished()))
        };
        self.nodes.iter_mut().any(|node| node.is_streaming()) && self.nodes.iter_mut().all(finished)
    }
}
