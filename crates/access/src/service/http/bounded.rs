//! Connections that cannot take more than their share: so many at once, so long each, so many bytes from each.
//!
//! A client that sends its request a byte a minute, or never reads the answer, would else hold memory and a descriptor
//! for ever. Bounds are kept at the socket, below HTTP, so that no state of a request escapes them.
//! src/http/bounded.rs of the bridge is the same, with which this crate shares nothing: change both.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Many more than ever ask at once, because a health check that finds no place looks like a dead instance; at some 20 KiB
/// each still little. More wait in the kernel's queue, unaccepted.
const CONNECTIONS_MAX: usize = 128;
/// From accept to close. A scrape takes milliseconds.
const LIFE_MAX: Duration = Duration::from_secs(5);
/// All that a client may send: a request without a body, with what proxies add to it.
const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Pause after a failed accept: out of descriptors, it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections that are bounded.
#[derive(Debug)]
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    life: Duration,
}

/// A connection that ends by itself.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    request_bytes_left: usize,
    _place: OwnedSemaphorePermit,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self::with_bounds(listener, LIFE_MAX, CONNECTIONS_MAX)
    }

    fn with_bounds(listener: TcpListener, life: Duration, places: usize) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(places)), life }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let end = Box::pin(sleep(self.life));
                    let request_bytes_left = REQUEST_BYTES_MAX;
                    return (Connection { stream, end, request_bytes_left, _place: place }, peer);
                }
                Err(error) => {
                    // Some of these are the peer's doing, and none is ours to mend.
                    tracing::debug!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connection {
    /// Leaves a wake-up for the end with whoever polls.
    fn alive(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(ErrorKind::TimedOut, "the connection's time is up")),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.alive(context)?;
        let filled = into.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, into))?;
        let read = into.filled().len().saturating_sub(filled);
        match this.request_bytes_left.checked_sub(read) {
            Some(left) => this.request_bytes_left = left,
            None => return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, "the request is too large"))),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.alive(context)?;
        Pin::new(&mut this.stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    /// A connection that is not cut off fails its test instead of holding it up.
    const PATIENCE: Duration = Duration::from_secs(20);

    const PLACES: usize = 3;

    async fn bounded(life: Duration) -> (Bounded, SocketAddr) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (Bounded::with_bounds(listener, life, PLACES), address)
    }

    #[tokio::test]
    async fn a_silent_client_is_cut_off() {
        let (mut listener, address) = bounded(Duration::from_millis(50)).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /met").await.unwrap();
        let (mut connection, _) = listener.accept().await;
        let mut request = Vec::new();
        let ended = timeout(PATIENCE, connection.read_to_end(&mut request)).await;
        let error = ended.expect("the connection is cut off").unwrap_err();
        assert_eq!((error.kind(), request.as_slice()), (ErrorKind::TimedOut, b"GET /met".as_slice()));
    }

    #[tokio::test]
    async fn a_client_that_reads_no_answer_is_cut_off() {
        let (mut listener, address) = bounded(Duration::from_millis(50)).await;
        let _client = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = listener.accept().await;
        let answer = vec![0; 64 * 1024 * 1024];
        let ended = timeout(PATIENCE, connection.write_all(&answer)).await;
        let error = ended.expect("the connection is cut off").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_request_that_does_not_end_is_cut_off() {
        let (mut listener, address) = bounded(LIFE_MAX).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&[b'a'; REQUEST_BYTES_MAX]).await.unwrap();
        let (mut connection, _) = listener.accept().await;
        let mut request = vec![0; REQUEST_BYTES_MAX];
        connection.read_exact(&mut request).await.unwrap();
        client.write_all(b"a").await.unwrap();
        assert_eq!(connection.read(&mut request).await.unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn one_more_than_there_are_places_waits_for_a_place() {
        let (mut listener, address) = bounded(LIFE_MAX).await;
        let mut open = Vec::new();
        let mut clients = Vec::new();
        for _ in 0..PLACES {
            clients.push(TcpStream::connect(address).await.unwrap());
            open.push(listener.accept().await);
        }
        let _another = TcpStream::connect(address).await.unwrap();
        assert!(timeout(Duration::from_millis(50), listener.accept()).await.is_err(), "there was a place left");
        open.pop();
        listener.accept().await;
    }
}
