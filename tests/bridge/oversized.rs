//! A transaction that cannot be delivered within a Kafka transaction's timeout: it halts by name, or is delivered in parts.
//!
//! The link to Kafka is so slow that the transaction takes several timeouts. What halts, and how parts follow each other,
//! depends on times; that every event arrives once and in order does not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use penstock::kafka::client::Brokers;
use penstock::kafka::progress::read_newest;
use penstock::kafka::readers::Readers;
use penstock_testbed::cluster::Addresses;
use penstock_testbed::kafka::Kafka;
use penstock_testbed::proxy::{Direction, Faults, Proxy};
use penstock_wire::progress::Progress;

use crate::reader::Record;
use crate::scene::{A, B, PATIENCE, Scene, stack, world_on};
use crate::world::wait;

const TIMEOUT: Duration = Duration::from_secs(4);
const BYTES_PER_SECOND: u64 = 200_000;
/// Of a kilobyte each: three to four timeouts.
const ROWS: u64 = 2500;

const TABLE: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, account_id uuid, v text);
ALTER TABLE t REPLICA IDENTITY FULL;
";

/// A bridge with a slow link to a broker of its own.
struct Narrow {
    // Dropped in this order: the bridge before what it writes to.
    scene: Scene,
    link: Proxy,
    _kafka: Kafka,
}

impl Narrow {
    /// `faults` is configuration. Row 0 is delivered; then the link becomes slow.
    fn start(faults: &str) -> Self {
        let mut links = Vec::new();
        let kafka = Kafka::builder().property("transaction.abort.timed.out.transaction.cleanup.interval.ms", 200);
        let kafka = kafka.start_advertising(|port| {
            let link = Proxy::to_port(port).expect("a proxy");
            let advertised = link.port();
            links.push(link);
            advertised
        });
        let kafka = kafka.expect("start Kafka");
        let link = links.pop().expect("one broker");
        let stack = Addresses { bootstrap: kafka.bootstrap(), ..stack().clone() };
        // Little is in flight, in small requests: reports keep coming, and a part is over soon after its age.
        let properties = "[kafka.properties]\n\"compression.type\" = \"none\"\n\"batch.size\" = \"16384\"\n";
        let mut world = world_on(&stack, TABLE, &format!("{properties}{faults}"));
        world.set("KAFKA__TRANSACTION_TIMEOUT_MS", &TIMEOUT.as_millis().to_string());
        for limit in ["IN_FLIGHT", "GROUP", "RECORD"] {
            world.set(&format!("LIMITS__{limit}_BYTES_MAX"), "65536");
        }
        let mut narrow = Self { scene: Scene::of(world), link, _kafka: kafka };
        narrow.scene.sql(&format!("INSERT INTO t VALUES (0, '{A}', 'before')"));
        assert_eq!(narrow.scene.records().len(), 1);
        narrow.slow();
        narrow
    }

    fn slow(&self) {
        self.link.set(Direction::Down, Faults::default());
        self.link.set(Direction::Up, Faults::throttle(BYTES_PER_SECOND));
    }

    /// One transaction of [`ROWS`] rows of two accounts, and a small one behind it. Gives the large one's xid.
    fn write(&self) -> String {
        let answer = self.scene.sql(&format!(
            "BEGIN;
             INSERT INTO t SELECT n, CASE n % 3 WHEN 0 THEN '{A}'::uuid ELSE '{B}'::uuid END, repeat('x', 1000)
               FROM generate_series(1, {ROWS}) n;
             SELECT pg_current_xact_id();
             COMMIT;
             INSERT INTO t VALUES ({ROWS} + 1, '{A}', 'behind');"
        ));
        let xid = answer.lines().find_map(|line| line.trim().parse::<u64>().ok());
        xid.expect("the transaction's id").to_string()
    }

    /// As a reader sees it.
    fn progress(&self) -> Progress {
        let world = &self.scene.world;
        let brokers = Brokers {
            bootstrap: world.bootstrap.clone(),
            properties: BTreeMap::new(),
            transaction_timeout: Duration::from_secs(60),
        };
        let readers = Readers::of(&brokers).expect("clients");
        let stored = read_newest(&readers, &format!("{}.progress", world.topic), &world.source);
        let stored = stored.expect("read progress").expect("progress");
        Progress::decode(&stored.body).expect("a progress record")
    }

    /// Progress, and whether the slot had been told more than its end before it was read: progress may move meanwhile.
    fn progress_behind_slot(&self) -> (Progress, bool) {
        let confirmed: penstock_wire::lsn::Lsn = self.scene.world.confirmed().parse().expect("an LSN");
        let progress = self.progress();
        let is_behind = progress.end_lsn.0 < confirmed;
        (progress, is_behind)
    }
}

/// Every row of [`Narrow::write`] once, in order within its account, numbered without a hole; one flag in each partition.
fn expect_all(records: &[Record]) {
    assert_eq!(records.len() as u64, ROWS + 2);
    let large: Vec<&Record> = records.iter().filter(|record| !id_of(record).is_multiple_of(ROWS + 1)).collect();
    let orders: BTreeSet<u64> = large.iter().map(|record| record.header.position.seq.0).collect();
    assert_eq!(orders, (1..=ROWS).map(|id| 8 * id).collect(), "a seq is missing or doubled");
    for record in &large {
        assert_eq!(8 * id_of(record), record.header.position.seq.0, "a row stands at another's position");
        let transaction = record.change().and_then(|envelope| envelope.transaction.as_ref()).expect("its transaction");
        assert_eq!(transaction.total_order.to_string(), id_of(record).to_string(), "total_order");
    }
    let flagged = large.iter().filter(|record| record.header.end_of_transaction).count();
    let partitions: BTreeSet<i32> = large.iter().map(|record| record.partition).collect();
    assert_eq!(flagged, partitions.len(), "one end flag in each partition");
}

fn id_of(record: &Record) -> u64 {
    let after = record.change().and_then(|envelope| envelope.after.as_ref()).expect("an inserted row");
    crate::scene::plain(after.get("id").expect("its id")).parse().expect("a number")
}

#[test]
fn a_transaction_that_is_aborted_by_time_twice_halts_by_name_and_goes_on_once_it_fits() {
    let mut narrow = Narrow::start("");
    let xid = narrow.write();
    let began = Instant::now();
    let said = narrow.scene.expect_halt(&[
        &format!("transaction {xid} at 0/"),
        "4000 ms",
        "twice",
        "records",
        "bytes",
        "transaction.max.timeout.ms",
        "kafka.transaction_timeout_ms",
        "faults.oversized_transaction = \"split\"",
    ]);
    eprintln!("halted after {:?}: {said}", began.elapsed());
    let log = narrow.scene.bridge.log();
    assert_eq!(log.matches("the brokers aborted a transaction by its timeout").count(), 2, "{log}");
    assert_eq!(narrow.scene.delivered().len(), 1, "nothing of it is readable");
    let (progress, is_behind) = narrow.progress_behind_slot();
    assert!(!is_behind, "nothing of it is acknowledged");
    assert!(progress.end_lsn.covers(progress.through.commit_lsn), "nothing of it is in progress");

    narrow.link.clear();
    narrow.scene.again();
    expect_all(&narrow.scene.records());
    narrow.scene.stop();
}

#[test]
fn an_outage_in_the_middle_of_a_large_transaction_is_not_held_against_it() {
    let mut narrow = Narrow::start("");
    narrow.write();
    for outages in 1..=2 {
        wait("records on their way", PATIENCE, || {
            narrow.scene.bridge.get("/metrics").is_some_and(|told| in_flight(&told) > 30_000)
        })
        .unwrap_or_else(|late| panic!("{late}\n{}", narrow.scene.bridge.log()));
        narrow.link.set_both(Faults::blackhole());
        let began = Instant::now();
        wait("the timeout", PATIENCE, || began.elapsed() > TIMEOUT + Duration::from_secs(2)).expect("time passes");
        narrow.slow();
        wait("the brokers to refuse", PATIENCE, || {
            narrow.scene.bridge.log().matches("reason=\"fenced").count() == outages
        })
        .unwrap_or_else(|late| panic!("{late} {outages}\n{}", narrow.scene.bridge.log()));
    }
    narrow.link.clear();
    expect_all(&narrow.scene.records());
    let log = narrow.scene.bridge.log();
    assert!(!log.contains("aborted a transaction by its timeout"), "a transaction is blamed for the outage:\n{log}");
    narrow.scene.stop();
}

/// Bytes without a delivery report, as `/metrics` tells.
fn in_flight(metrics: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix("penstock_inflight_bytes "));
    value.and_then(|text| text.trim().parse::<f64>().ok()).map_or(0, |bytes| bytes as u64)
}

#[test]
fn a_split_transaction_arrives_once_and_in_order_although_the_bridge_is_killed_between_its_parts() {
    let mut narrow = Narrow::start("[faults]\noversized_transaction = \"split\"\n");
    let xid = narrow.write();
    let mut seen = BTreeSet::new();
    for kill in 0..2 {
        let mut newest = narrow.progress();
        wait("another part", PATIENCE, || {
            let is_behind;
            (newest, is_behind) = narrow.progress_behind_slot();
            assert!(!is_behind, "the slot was told of a part");
            !newest.end_lsn.covers(newest.through.commit_lsn) && !seen.contains(&newest.through.seq.0)
        })
        .unwrap_or_else(|late| panic!("{late} {kill}\n{}", narrow.scene.bridge.log()));
        assert_eq!(newest.through.xid.to_string(), xid);
        assert!(newest.through.seq.0 < 8 * ROWS, "a part is not the whole: {}", newest.through.seq.0);
        let last = newest.partitions.iter().map(|entry| entry.last.seq.0).max();
        assert!(last < Some(newest.through.seq.0), "the last record of each partition waits for the next part");
        seen.insert(newest.through.seq.0);
        narrow.scene.bridge.signal("KILL");
        narrow.scene.bridge.wait(PATIENCE);
        narrow.scene.bridge = narrow.scene.world.run();
    }
    let records = narrow.scene.records();
    expect_all(&records);
    let log = narrow.scene.bridge.log();
    eprintln!("killed behind {seen:?}; then {} parts more", log.matches("is delivered up to here").count());
    assert!(log.contains("is delivered up to here"), "the last bridge had several parts to deliver:\n{log}");
    let progress = narrow.progress();
    assert!(progress.end_lsn.covers(progress.through.commit_lsn), "progress covers it in the end");
    narrow.scene.stop();
}
