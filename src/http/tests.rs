use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// A server of which the test moves the health.
struct Served {
    address: SocketAddr,
    health: Health,
    stop: watch::Sender<bool>,
    _task: tokio::task::JoinHandle<()>,
}

impl Served {
    async fn start() -> Self {
        let health = Health::default();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(loopback, Metrics::new(), health.clone()).await.unwrap();
        let (stop, stopping) = watch::channel(false);
        let address = server.address().unwrap();
        Self { address, health, stop, _task: tokio::spawn(server.serve(stopping)) }
    }

    /// The whole answer, until the server closes the connection.
    async fn ask(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: bridge\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn check(&self, path: &str, status: u16, body: &str) {
        let answer = self.ask("GET", path).await;
        let (head, found) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        assert_eq!(found, body, "{path}");
    }
}

#[tokio::test]
async fn waiting_is_alive_and_not_ready_and_a_halt_is_neither() {
    let served = Served::start().await;
    served.check("/healthz", 200, "alive, not ready\nstarting\n").await;
    served.check("/readyz", 503, "starting\n").await;
    served.health.streams(true);
    served.check("/healthz", 200, "alive\n").await;
    served.check("/readyz", 200, "ready\n").await;
    served.health.waits_beside("backfill", "a transaction that runs".into());
    served.check("/readyz", 200, "ready\nbackfill: a transaction that runs\n").await;
    served.check("/healthz", 200, "alive\n").await;
    served.health.no_longer_waits("backfill");
    served.health.waits_for("kafka", "broker away".into());
    served.health.waits_for("registry", "connection refused".into());
    served.check("/healthz", 200, "alive, not ready\nkafka: broker away\nregistry: connection refused\n").await;
    served.check("/readyz", 503, "kafka: broker away\nregistry: connection refused\n").await;
    served.health.stopped("the slot is lost".into());
    served.check("/healthz", 503, "stopped: the slot is lost\n").await;
    served.check("/readyz", 503, "stopped: the slot is lost\n").await;
}

#[tokio::test]
async fn a_bridge_that_finishes_its_work_still_answers() {
    let served = Served::start().await;
    served.health.streams(true);
    served.stop.send_replace(true);
    served.check("/healthz", 200, "alive\n").await;
    served.check("/readyz", 503, "stopping, as asked\n").await;
}

#[tokio::test]
async fn metrics_are_served_in_prometheus_format() {
    let served = Served::start().await;
    served.health.streams(true);
    let answer = served.ask("GET", "/metrics").await.to_lowercase();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    assert!(body.contains("\npenstock_ready 1\n"), "{body}");
}

#[tokio::test]
async fn the_index_links_to_what_there_is_and_nothing_else_is_there() {
    let served = Served::start().await;
    let index = served.ask("GET", "/").await;
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert!(index.contains(&format!("<a href=\"{path}\">")), "{path}");
    }
    assert!(served.ask("GET", "/other").await.starts_with("HTTP/1.1 404 "));
    assert!(served.ask("POST", "/metrics").await.starts_with("HTTP/1.1 405 "));
    assert!(served.ask("HEAD", "/healthz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_setting() {
    let served = Served::start().await;
    let error = Server::bind(served.address, Metrics::new(), Health::default()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    let beginning = format!("http.listen = {}: ", served.address);
    assert!(error.to_string().starts_with(&beginning), "{error}");
}
