//! `/metrics`, `/healthz`, `/readyz`.
//!
//! `/healthz` fails only when the process cannot recover by itself; waiting for Postgres, the slot, Kafka or the registry
//! is alive and not ready, with the reason in the body.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::health::{Health, Verdict};
use crate::metrics::Metrics;

/// A server that has its port.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    about: About,
}

#[derive(Clone, Debug)]
struct About {
    metrics: Metrics,
    health: Health,
}

impl Server {
    /// Takes the port; a port that is taken is told before anything else starts.
    pub async fn bind(address: SocketAddr, metrics: Metrics, health: Health) -> std::io::Result<Self> {
        let taken = |error: std::io::Error| std::io::Error::new(error.kind(), format!("http.listen = {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(taken)?;
        tracing::info!(address = %listener.local_addr()?, "serving /metrics, /healthz and /readyz");
        Ok(Self { listener, about: About { metrics, health } })
    }

    /// Serves until told to stop.
    pub async fn serve(self, mut stopped: watch::Receiver<bool>) {
        let routes = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/", get(|| async { "penstock: /metrics /healthz /readyz\n" }))
            .with_state(self.about);
        let stop = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if let Err(error) = axum::serve(self.listener, routes).with_graceful_shutdown(stop).await {
            tracing::error!(%error, "the HTTP server ended");
        }
    }
}

async fn metrics(State(about): State<About>) -> String {
    about.metrics.text()
}

async fn healthz(State(about): State<About>) -> (StatusCode, String) {
    match about.health.verdict() {
        Verdict::Ready | Verdict::Waiting(_) => (StatusCode::OK, "alive\n".into()),
        Verdict::Stopped(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("stopped: {reason}\n")),
    }
}

async fn readyz(State(about): State<About>) -> (StatusCode, String) {
    match about.health.verdict() {
        Verdict::Ready => (StatusCode::OK, "ready\n".into()),
        Verdict::Waiting(reasons) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reasons.join("\n"))),
        Verdict::Stopped(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("stopped: {reason}\n")),
    }
}
