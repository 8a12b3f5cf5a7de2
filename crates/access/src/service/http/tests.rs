use std::time::Duration;

use penstock_wire::partition::Partitioner;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::metrics::Metrics;
use super::*;
use crate::partition;
use crate::replica::{Options, Replica};
use crate::rows::Micros;

/// A server over a replica that nobody drives but the test.
fn served() -> (Server, Arc<Shared>) {
    let partition = partition::Options {
        isolation: partition::Isolation::ReadCommitted,
        stale_after: Duration::from_secs(10),
        compaction_lag: Duration::ZERO,
        tombstone_retention: Duration::from_secs(3_600),
    };
    let partitions = Partitioner::new(3).expect("partitions");
    let options = Options { account: Default::default(), partition, names: Default::default(), partitions };
    let shared = Arc::new(Shared::new("changes", Replica::new(options), Metrics::new()));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = bind(&HttpConfig { listen }).expect("a port");
    (Server::start(listener, Arc::clone(&shared)).expect("a server"), shared)
}

/// The whole answer, until the server closes the connection.
async fn ask(server: &Server, method: &str, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.address()).await.expect("connect");
    stream.write_all(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

async fn check(server: &Server, path: &str, status: u16, body: &str) {
    let answer = ask(server, "GET", path).await;
    let (head, found) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
    assert_eq!(found, body, "{path}");
}

#[tokio::test]
async fn a_rebuild_is_alive_and_not_ready_and_a_reader_that_ended_is_neither() {
    let (server, shared) = served();
    let nothing = "no partition is assigned to this instance\n";
    check(&server, "/healthz", 200, &format!("alive, not ready\n{nothing}")).await;
    check(&server, "/readyz", 503, nothing).await;
    shared.with(|replica, _| replica.assign(1, Micros(0)));
    let rebuilding = "1 of 1 partitions are being read from their beginning (rebuilding)\n";
    check(&server, "/healthz", 200, &format!("alive, not ready\n{rebuilding}")).await;
    check(&server, "/readyz", 503, rebuilding).await;
    let metrics = ask(&server, "GET", "/metrics").await;
    assert!(metrics.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("\npenstock_access_partitions{state=\"rebuilding\"} 1\n"), "{metrics}");
    shared.has_ended.store(true, std::sync::atomic::Ordering::Relaxed);
    let ended = format!("the reader has ended: restart the process, and report what its log says\n{rebuilding}");
    check(&server, "/healthz", 503, &ended).await;
    check(&server, "/readyz", 503, &ended).await;
}

#[tokio::test]
async fn nothing_else_is_served_and_nothing_after_the_end() {
    let (server, _shared) = served();
    assert!(ask(&server, "GET", "/other").await.starts_with("HTTP/1.1 404 "));
    assert!(ask(&server, "POST", "/metrics").await.starts_with("HTTP/1.1 405 "));
    let address = server.address();
    let taken = bind(&HttpConfig { listen: address }).expect_err("a port that is taken").to_string();
    assert!(taken.starts_with(&format!("http.listen = {address}: ")), "{taken}");
    drop(server);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
