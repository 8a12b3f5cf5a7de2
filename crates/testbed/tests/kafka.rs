//! A Kafka of one's own: one broker killed and paused, three of which one is missing, and proxies in front of them.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use penstock_testbed::kafka::{Kafka, Node};
use penstock_testbed::proxy::Proxy;
use penstock_testbed::server::process;

#[test]
fn one_broker_is_paused_killed_and_restarted() {
    let kafka = Kafka::builder().start().expect("start");
    let broker = kafka.broker();
    let bootstrap = kafka.bootstrap();
    let pid = broker.pid().expect("runs");
    let owner = std::fs::metadata(format!("/proc/{pid}")).expect("runs").uid();
    assert_ne!(owner, 0, "a server runs as root");
    let itself = [Node { id: 1, port: i32::from(broker.port()) }];
    assert_eq!(broker.alive().expect("answers"), itself);

    broker.pause().expect("pause");
    let (sender, answer) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(broker.alive()));
        let early = answer.recv_timeout(Duration::from_millis(500));
        assert!(early.is_err(), "a paused broker answered {early:?}");
        broker.resume().expect("resume");
        answer.recv().expect("an answer").expect("resumed");
    });

    broker.kill().expect("kill");
    assert!(!process::runs(pid));
    assert!(broker.alive().is_err());
    broker.start().expect("start again");
    assert_eq!(kafka.bootstrap(), bootstrap);
    assert_ne!(broker.pid(), Some(pid));
    broker.restart().expect("restart");
    assert_eq!(broker.alive().expect("answers"), itself);
}

#[test]
fn three_brokers_advertise_their_proxies_and_miss_a_dead_one() {
    let mut proxies = Vec::new();
    let kafka = Kafka::builder()
        .brokers(3)
        .start_advertising(|port| {
            let proxy = Proxy::to_port(port).expect("proxy");
            let advertised = proxy.port();
            proxies.push(proxy);
            advertised
        })
        .expect("start");
    let addresses: Vec<String> = proxies.iter().map(Proxy::address).collect();
    assert_eq!(kafka.bootstrap(), addresses.join(","));
    let mut nodes = kafka.broker().alive().expect("answers");
    nodes.sort();
    let expected: Vec<Node> =
        (1..).zip(&proxies).map(|(id, proxy)| Node { id, port: i32::from(proxy.port()) }).collect();
    assert_eq!(nodes, expected);

    kafka.brokers()[1].kill().expect("kill");
    kafka.wait_alive(2).expect("the dead one is missed");
    kafka.brokers()[1].start().expect("start again");
    kafka.wait_alive(3).expect("all are back");
}
