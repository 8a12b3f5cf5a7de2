//! `/metrics`, `/healthz`, `/readyz`: what machines ask the bridge.
//!
//! `/healthz` fails only when the process cannot recover by itself; waiting for Postgres, the slot, Kafka or the registry
//! is alive and not ready, with the reasons in the body, one a line. Both answer until the process ends, so that a bridge
//! that is finishing its last transaction is not taken for a dead one.
//!
//! It reads and never changes anything; there is no login, so it listens on this machine only unless told otherwise.
//! Who connects gets little of our time and memory: see the `bounded` module.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::health::{Health, Verdict};
use crate::metrics::Metrics;
use bounded::Bounded;

mod bounded;

/// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
const METRICS_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

const INDEX: &str = "<!doctype html>
<title>Penstock</title>
<h1>Penstock</h1>
<ul>
<li><a href=\"/metrics\">/metrics</a>: for Prometheus
<li><a href=\"/healthz\">/healthz</a>: 503 once a human must act
<li><a href=\"/readyz\">/readyz</a>: 503 while changes do not flow, with the reasons
</ul>
";

/// A server that has its port.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    metrics: Metrics,
    health: Health,
}

#[derive(Clone, Debug)]
struct About {
    metrics: Metrics,
    health: Health,
    stopping: watch::Receiver<bool>,
}

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    /// Names the setting and the address, when the port is taken or not ours to take.
    pub async fn bind(listen: SocketAddr, metrics: Metrics, health: Health) -> std::io::Result<Self> {
        let named =
            |error: std::io::Error| std::io::Error::new(error.kind(), format!("http.listen = {listen}: {error}"));
        let listener = TcpListener::bind(listen).await.map_err(named)?;
        tracing::info!(address = %listener.local_addr().map_err(named)?, "serving /metrics, /healthz and /readyz");
        Ok(Self { listener, metrics, health })
    }

    /// Where it listens: with port 0 asked for, the one that was given.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is dropped. From the order to stop on, `/readyz` says so.
    pub async fn serve(self, stopping: watch::Receiver<bool>) {
        let about = About { metrics: self.metrics, health: self.health, stopping };
        let routes = Router::new()
            .route("/", get(|| async { Html(INDEX) }))
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .layer(map_response(momentary))
            .with_state(about);
        if let Err(error) = axum::serve(Bounded::new(self.listener), routes).await {
            tracing::error!(%error, "the HTTP server ended");
        }
    }
}

async fn metrics(State(about): State<About>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_FORMAT)], about.metrics.text(&about.health.verdict()))
}

async fn healthz(State(about): State<About>) -> (StatusCode, String) {
    match about.health.verdict() {
        Verdict::Ready | Verdict::Delayed(_) => (StatusCode::OK, "alive\n".into()),
        Verdict::Waiting(reasons) => (StatusCode::OK, format!("alive, not ready\n{}\n", reasons.join("\n"))),
        Verdict::Stopped(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("stopped: {reason}\n")),
    }
}

async fn readyz(State(about): State<About>) -> (StatusCode, String) {
    let stopping = *about.stopping.borrow();
    match about.health.verdict() {
        Verdict::Stopped(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("stopped: {reason}\n")),
        Verdict::Ready | Verdict::Delayed(_) | Verdict::Waiting(_) if stopping => {
            (StatusCode::SERVICE_UNAVAILABLE, "stopping, as asked\n".into())
        }
        Verdict::Ready => (StatusCode::OK, "ready\n".into()),
        Verdict::Delayed(reasons) => (StatusCode::OK, format!("ready\n{}\n", reasons.join("\n"))),
        Verdict::Waiting(reasons) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reasons.join("\n"))),
    }
}

/// Every answer is of this moment, and ends its connection: connections are short-lived by their bounds, and one that is
/// closed by an answer is never closed under the next question.
async fn momentary(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
