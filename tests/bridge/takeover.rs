//! Two bridges of one source: the second waits, takes over when it may, and the first, woken, can do no harm.

use std::time::Duration;

use penstock_testbed::artifacts::Cache;
use penstock_testbed::cluster::Addresses;
use penstock_testbed::kafka::Kafka;
use penstock_testbed::postgres::Postgres;
use penstock_testbed::registry::Registry;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::load::{self, Load};
use crate::reader;
use crate::world::{World, wait};

const PATIENCE: Duration = Duration::from_secs(240);

struct Servers {
    postgres: Postgres,
    _kafka: Kafka,
    _registry: Registry,
    world: World,
}

fn servers() -> Servers {
    let cache = Cache::from_environment();
    let postgres =
        Postgres::builder().cache(cache.clone()).set("wal_sender_timeout", "3s").start().expect("start Postgres");
    let kafka = Kafka::builder().cache(cache.clone()).start().expect("start Kafka");
    let registry = Registry::start_new(&cache).expect("start the registry");
    let addresses =
        Addresses { postgres: postgres.address().clone(), bootstrap: kafka.bootstrap(), registry_url: registry.url() };
    let mut world = World::new(&addresses, load::SCHEMA);
    world.configure(load::CAPTURE);
    Servers { postgres, _kafka: kafka, _registry: registry, world }
}

#[test]
fn a_woken_predecessor_is_fenced_and_nothing_is_doubled() {
    let servers = servers();
    let world = &servers.world;
    let mut first = world.run();
    world.wait_ready(&mut first, PATIENCE);
    let mut second = world.run();
    wait("the second to stand by", PATIENCE, || second.log().contains("this instance is the standby"))
        .expect("a standby");
    assert!(second.get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 503")), "a standby is not ready");
    assert!(second.get("/healthz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")), "a standby is alive");

    let load = Load::start(&world.database, 6, Duration::from_millis(4));
    load.wait_for_more(300, PATIENCE);
    let before = servers.postgres.walsender_pids(Some(&world.slot())).expect("ask for walsenders");
    first.signal("STOP");
    // Frozen with records in flight, the first keeps the slot until Postgres gives its connection up.
    wait("the second to take over", PATIENCE, || {
        second.get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    })
    .unwrap_or_else(|late| panic!("{late}\n{}", second.log()));
    assert_ne!(before, servers.postgres.walsender_pids(Some(&world.slot())).expect("ask for walsenders"));
    load.wait_for_more(300, PATIENCE);
    first.signal("CONT");
    // Woken, it goes on with what it had in hand, is refused, and becomes the standby.
    wait("the first to stand by", PATIENCE, || first.log().contains("this instance is the standby"))
        .unwrap_or_else(|late| panic!("{late}\n{}", first.log()));
    load.wait_for_more(300, PATIENCE);
    load.stop();
    world.wait_confirmed(&mut second, PATIENCE);
    let records = reader::read(&world.bootstrap, &world.registry_url, &world.topic);
    let events = load::check(&world.database, &records);
    eprintln!("{events} row events across a take-over, each once and in order");

    // The roles can be exchanged again.
    assert!(second.stop().success());
    world.wait_ready(&mut first, PATIENCE);
    assert!(first.stop().success());
}

#[test]
fn progress_is_the_newest_record_even_behind_foreign_open_transactions() {
    let servers = servers();
    let world = &servers.world;
    let mut bridge = world.run();
    world.wait_ready(&mut bridge, PATIENCE);
    let load = Load::start(&world.database, 4, Duration::from_millis(4));
    load.wait_for_more(200, PATIENCE);
    world.wait_confirmed(&mut bridge, PATIENCE);
    // Two sources of the same topic leave transactions open. What is written behind them is hidden from readers.
    let open = |name: &str, topic: &str| {
        let foreign: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &world.bootstrap)
            .set("transactional.id", name)
            .set("transaction.timeout.ms", "60000")
            .create()
            .expect("a producer");
        foreign.init_transactions(Duration::from_secs(30)).expect("initialise");
        foreign.begin_transaction().expect("begin");
        foreign.send(BaseRecord::to(topic).partition(0).key("another").payload("open")).expect("produce");
        foreign.flush(Duration::from_secs(30)).expect("flush");
        foreign
    };
    let in_progress = open("another-source", &format!("{}.progress", world.topic));
    let in_changes = open("a-third-source", &world.topic);
    let confirmed = world.confirmed();
    load.wait_for_more(500, PATIENCE);
    assert!(bridge.get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")), "it goes on all the same");
    bridge.kill();
    assert_eq!(world.confirmed(), confirmed, "the slot was told of what no reader can read");
    let mut successor = world.run();
    // It aborts what may be its predecessor's there, which does others no harm, and waits for the end of what is not.
    for (what, foreign, topic) in [
        ("the newest progress", in_progress, format!("{}.progress[0]", world.topic)),
        ("what is readable", in_changes, format!("{}[0]", world.topic)),
    ] {
        let waits = format!("transactions without an end in {topic}; waiting for it");
        wait(what, PATIENCE, || successor.log().contains(&waits))
            .unwrap_or_else(|late| panic!("{late}\n{}", successor.log()));
        foreign.abort_transaction(Duration::from_secs(30)).expect("it is not fenced");
    }
    world.wait_ready(&mut successor, PATIENCE);
    load.wait_for_more(200, PATIENCE);
    load.stop();
    world.wait_confirmed(&mut successor, PATIENCE);
    load::check(&world.database, &reader::read(&world.bootstrap, &world.registry_url, &world.topic));
    assert!(successor.stop().success());
}
