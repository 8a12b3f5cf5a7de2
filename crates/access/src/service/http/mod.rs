//! `/metrics`, `/healthz`, `/readyz`: what machines ask an instance.
//!
//! `/healthz` fails only when the process cannot recover by itself; `/readyz` fails, with the reasons in its body, one a
//! line, while whole partitions cannot be answered for. They are served by a thread of their own, so that neither the
//! reader nor the service's own runtime keeps them waiting, until the owner is dropped.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::oneshot;

use super::config::HttpConfig;
use super::engine::Shared;
use super::error::ConnectError;
use bounded::Bounded;

mod bounded;

/// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
const METRICS_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Takes the port.
pub(super) fn bind(config: &HttpConfig) -> Result<TcpListener, ConnectError> {
    let listen = config.listen;
    let bind = || {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|source| ConnectError::Http { listen, source })
}

impl Server {
    pub(super) fn start(listener: TcpListener, shared: Arc<Shared>) -> Result<Self, ConnectError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(ConnectError::Thread)?;
        let address = listener.local_addr().map_err(ConnectError::Thread)?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("penstock-access-http".to_owned()).spawn(serve);
        let thread = Some(thread.map_err(ConnectError::Thread)?);
        tracing::info!(%address, "serving /metrics, /healthz and /readyz");
        Ok(Self { address, stop: Some(stop), thread })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!(?panic, "the thread that served metrics has panicked");
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .layer(map_response(momentary))
        .with_state(shared);
    let served = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => axum::serve(Bounded::new(listener), routes).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, "/metrics, /healthz and /readyz are not served any more");
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    shared.health();
    ([(header::CONTENT_TYPE, METRICS_FORMAT)], shared.metrics.text())
}

async fn healthz(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    let health = shared.health();
    let reasons = lines(health.reasons());
    match (health.has_stopped, health.is_ready()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, reasons),
        (false, true) => (StatusCode::OK, "alive\n".to_owned()),
        (false, false) => (StatusCode::OK, format!("alive, not ready\n{reasons}")),
    }
}

async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    let health = shared.health();
    let notes = lines(health.notes());
    match health.is_ready() {
        true => (StatusCode::OK, format!("ready\n{notes}")),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("{}{notes}", lines(health.reasons()))),
    }
}

fn lines(texts: Vec<String>) -> String {
    texts.into_iter().map(|text| text + "\n").collect()
}

/// Every answer is of this moment, and ends its connection.
async fn momentary(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
