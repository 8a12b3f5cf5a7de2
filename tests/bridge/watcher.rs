//! At no instant is the slot confirmed past what a committed Kafka transaction covers.
//!
//! Proxies stand between the bridge and both servers and see, on one clock, which progress was produced, which EndTxn was
//! answered with success, and which flushed LSN a status update claimed. The rule is checked for every status update.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use penstock_testbed::artifacts::Cache;
use penstock_testbed::kafka::Kafka;
use penstock_testbed::postgres::Postgres;
use penstock_testbed::proxy::{Chunk, Direction, Proxy, Verdict};
use penstock_testbed::registry::Registry;
use penstock_wire::progress::Progress;

use crate::load::{self, Load};
use crate::world::{World, wait};
use crate::{planted, reader};
use penstock_testbed::cluster::Addresses;

const PATIENCE: Duration = Duration::from_secs(240);
const PRODUCE: i16 = 0;
const END_TXN: i16 = 26;

/// What was seen, in order.
#[derive(Debug, Default)]
pub struct Watcher {
    streams: BTreeMap<(String, u64, bool), Vec<u8>>,
    asked: BTreeMap<(u64, i32), Asked>,
    source: Vec<u8>,
    progress_topic: Vec<u8>,
    /// Highest end LSN of a progress record that was sent to Kafka and not yet committed.
    produced: u64,
    /// Highest end LSN that an answered EndTxn covers.
    pub covered: u64,
    /// Status updates that claimed something new.
    pub confirmations: u64,
    /// Status updates that claimed more than was covered: (claimed, covered).
    pub violations: Vec<(u64, u64)>,
}

#[derive(Debug)]
struct Asked {
    commits: bool,
    produced: u64,
}

impl Watcher {
    /// `confirmed` is what the slot has been told before the watching began.
    pub fn new(source: &str, topic: &str, confirmed: u64) -> Self {
        Self {
            source: source.as_bytes().to_vec(),
            progress_topic: format!("{topic}.progress").into_bytes(),
            covered: confirmed,
            ..Self::default()
        }
    }

    pub fn see(&mut self, chunk: &Chunk<'_>) {
        let up = chunk.direction == Direction::Up;
        let key = (chunk.proxy.to_owned(), chunk.connection, up);
        let mut bytes = self.streams.remove(&key).unwrap_or_default();
        bytes.extend_from_slice(chunk.bytes);
        let used = match (chunk.proxy, up) {
            ("postgres", true) => self.postgres_messages(&bytes),
            ("kafka", true) => frames(&bytes, |frame| self.kafka_request(chunk.connection, frame)),
            ("kafka", false) => frames(&bytes, |frame| self.kafka_answer(chunk.connection, frame)),
            _ => bytes.len(),
        };
        bytes.drain(..used);
        self.streams.insert(key, bytes);
    }

    /// Status updates: CopyData whose body begins with `r`. The startup message has no tag and is skipped by its length.
    fn postgres_messages(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some(header) = bytes.get(used..used + 5) {
            let tagless = header[0] == 0;
            let length = u32::from_be_bytes(if tagless {
                [header[0], header[1], header[2], header[3]]
            } else {
                [header[1], header[2], header[3], header[4]]
            });
            let whole = length as usize + usize::from(!tagless);
            let Some(message) = bytes.get(used..used + whole) else { break };
            if let [b'd', _, _, _, _, b'r', rest @ ..] = message {
                self.claim(u64::from_be_bytes(rest[8..16].try_into().expect("eight bytes")));
            }
            used += whole;
        }
        used
    }

    fn claim(&mut self, flushed: u64) {
        if flushed > self.covered {
            self.violations.push((flushed, self.covered));
        }
        self.confirmations += 1;
    }

    fn kafka_request(&mut self, connection: u64, frame: &[u8]) {
        let api = i16::from_be_bytes([frame[0], frame[1]]);
        let correlation = i32::from_be_bytes(frame[4..8].try_into().expect("four bytes"));
        match api {
            PRODUCE if contains(frame, &self.progress_topic) => {
                let end = progress_in(frame, &self.source);
                self.produced = self.produced.max(end.expect("uncompressed progress in a request to its topic"));
            }
            END_TXN => {
                let client = usize::try_from(i16::from_be_bytes([frame[8], frame[9]]).max(0)).expect("a length");
                let body = &frame[10 + client..];
                let id = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let commits = body[2 + id + 8 + 2] != 0;
                self.asked.insert((connection, correlation), Asked { commits, produced: self.produced });
            }
            _ => {}
        }
    }

    fn kafka_answer(&mut self, connection: u64, frame: &[u8]) {
        let correlation = i32::from_be_bytes(frame[0..4].try_into().expect("four bytes"));
        let Some(asked) = self.asked.remove(&(connection, correlation)) else { return };
        let code = i16::from_be_bytes([frame[8], frame[9]]);
        if asked.commits && code == 0 {
            self.covered = self.covered.max(asked.produced);
        }
    }
}

/// Frames of four bytes of length and a body.
fn frames(bytes: &[u8], mut each: impl FnMut(&[u8])) -> usize {
    let mut used = 0;
    while let Some(length) = bytes.get(used..used + 4) {
        let whole = 4 + u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let Some(frame) = bytes.get(used..used + whole) else { break };
        each(&frame[4..]);
        used += whole;
    }
    used
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The progress record of the source in an uncompressed produce request: behind its key stands the value's length.
fn progress_in(frame: &[u8], source: &[u8]) -> Option<u64> {
    let mut key = zigzag(source.len());
    key.extend_from_slice(source);
    let mut newest = None;
    for at in 0..frame.len().saturating_sub(key.len()) {
        if !frame[at..].starts_with(&key) {
            continue;
        }
        let (length, width) = unzigzag(&frame[at + key.len()..])?;
        let value = frame.get(at + key.len() + width..)?.get(..length)?;
        let body = value.get(5..)?;
        newest = Progress::decode(body).ok().map(|progress| progress.end_lsn.raw()).or(newest);
    }
    newest
}

fn zigzag(number: usize) -> Vec<u8> {
    let mut rest = (number as u64) << 1;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn unzigzag(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value >> 1).ok()?, index + 1));
        }
    }
    None
}

/// Servers with watched links to them.
pub struct Watched {
    pub postgres: Postgres,
    pub kafka: Kafka,
    _registry: Registry,
    pub postgres_proxy: Proxy,
    _kafka_proxies: Vec<Proxy>,
    pub watcher: Arc<Mutex<Watcher>>,
    pub world: World,
}

/// A stack of its own whose links are watched from the first byte.
pub fn watched() -> Watched {
    let cache = Cache::from_environment();
    let watcher = Arc::new(Mutex::new(Watcher::default()));
    let observer = {
        let watcher = Arc::clone(&watcher);
        Arc::new(Mutex::new(move |chunk: &Chunk<'_>| {
            watcher.lock().expect("no observer panicked").see(chunk);
            Verdict::Pass
        }))
    };
    let postgres =
        Postgres::builder().cache(cache.clone()).set("wal_sender_timeout", "3s").start().expect("start Postgres");
    let mut kafka_proxies = Vec::new();
    let kafka = Kafka::builder().cache(cache.clone()).start_advertising(|port| {
        let proxy = Proxy::observed("kafka", port, observer.clone()).expect("a proxy");
        let advertised = proxy.port();
        kafka_proxies.push(proxy);
        advertised
    });
    let kafka = kafka.expect("start Kafka");
    let registry = Registry::start_new(&cache).expect("start the registry");
    let addresses =
        Addresses { postgres: postgres.address().clone(), bootstrap: kafka.bootstrap(), registry_url: registry.url() };
    let mut world = World::new(&addresses, load::SCHEMA);
    world.configure(&format!("{}[kafka.properties]\n\"compression.type\" = \"none\"\n", load::CAPTURE));
    let postgres_proxy = Proxy::observed("postgres", postgres.address().port, observer).expect("a proxy");
    *watcher.lock().expect("not poisoned") = Watcher::new(&world.source, &world.topic, 0);
    Watched { postgres, kafka, _registry: registry, postgres_proxy, _kafka_proxies: kafka_proxies, watcher, world }
}

#[test]
fn the_slot_is_never_confirmed_past_a_committed_transaction() {
    let watched = watched();
    let world = &watched.world;
    let mut bridge = world.run_through(&world.database.through(watched.postgres_proxy.port()));
    world.wait_ready(&mut bridge, PATIENCE);
    let load = Load::start(&world.database, 8, Duration::from_millis(2));
    load.wait_for_more(500, PATIENCE);

    // With the broker frozen, commits go on and the slot stands still, on the same walsender.
    let walsenders = watched.postgres.walsender_pids(Some(&world.slot())).expect("ask for walsenders");
    watched.kafka.broker().pause().expect("freeze the broker");
    let frozen = world.confirmed();
    load.wait_for_more(2000, PATIENCE);
    let began = Instant::now();
    wait("longer than wal_sender_timeout", PATIENCE, || began.elapsed() > Duration::from_secs(7)).expect("time passes");
    let later = world.confirmed();
    let covered = watched.watcher.lock().expect("not poisoned").covered;
    let same = watched.postgres.walsender_pids(Some(&world.slot())).expect("ask for walsenders");
    watched.kafka.broker().resume().expect("thaw the broker");
    // What was committed just before the freeze may still have been confirmed after the first look.
    assert!(lsn(&later) <= covered.max(lsn(&frozen)), "the slot moved to {later} while Kafka was frozen");
    assert_eq!(walsenders, same, "the walsender was lost while Kafka was away");
    load.wait_for_more(500, PATIENCE);
    load.stop();
    world.wait_confirmed(&mut bridge, PATIENCE);

    let events = load::check(&world.database, &reader::read(&world.bootstrap, &world.registry_url, &world.topic));
    assert!(bridge.stop().success());
    let watcher = watched.watcher.lock().expect("not poisoned");
    assert_eq!(watcher.violations, [], "(claimed, covered)");
    assert!(watcher.confirmations > 50, "only {} status updates were seen", watcher.confirmations);
    eprintln!("{} status updates, {events} row events, no early acknowledgement", watcher.confirmations);
}

/// The watcher is worth something only if it catches a bridge that confirms what it has merely sent.
#[test]
fn a_bridge_that_acknowledges_on_send_is_caught() {
    let mut watched = watched();
    watched.world.program = planted::build("acknowledge_on_send");
    let world = &watched.world;
    let mut bridge = world.run_through(&world.database.through(watched.postgres_proxy.port()));
    world.wait_ready(&mut bridge, PATIENCE);
    let load = Load::start(&world.database, 8, Duration::from_millis(2));
    wait("the watcher to see it", PATIENCE, || !watched.watcher.lock().expect("not poisoned").violations.is_empty())
        .unwrap_or_else(|late| panic!("{late}: the planted bug was not caught"));
    load.stop();
}

fn lsn(text: &str) -> u64 {
    text.parse::<penstock_wire::lsn::Lsn>().expect("an LSN").0
}
