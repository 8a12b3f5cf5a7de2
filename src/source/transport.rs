//! The byte stream to the server: TCP, TLS over TCP, or a Unix socket, with its timeouts.
//!
//! Reads and writes are cancel-safe: a dropped future has moved all of the bytes it reports, or none.
//! Knows the one message that precedes TLS (SSLRequest), and nothing else of the protocol.

use std::io;
use std::net::SocketAddr;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::SourceError;
use super::limits::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES, TCP_USER_TIMEOUT};
use super::options::{ConnectOptions, Host};
use crate::tls::{TlsError, TlsMode, TlsOptions, end_point_binding};

/// Length 8, code 80877103: "do you speak TLS?"
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A connected stream.
#[derive(Debug)]
pub(super) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Transport {
    /// Connects, and does the TLS handshake where the mode asks for one. All before `deadline`.
    pub(super) async fn connect(options: &ConnectOptions, deadline: Instant) -> Result<Self, SourceError> {
        match &options.host {
            Host::Unix { directory, port } => {
                let socket = UnixStream::connect(Host::socket_path(directory, *port)).await;
                Ok(Self::Unix(socket.map_err(|e| cannot_connect(&options.host, e))?))
            }
            Host::Tcp { host, port } => {
                let socket = dial(host, *port, deadline).await.map_err(|e| cannot_connect(&options.host, e))?;
                secure(socket, host, &options.tls).await
            }
        }
    }

    /// Whether what is sent can be read on the way.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The `tls-server-end-point` binding, where TLS and the certificate's algorithm have one.
    pub(super) fn channel_binding(&self) -> Option<Vec<u8>> {
        let Self::Tls(stream) = self else {
            return None;
        };
        let certificates = stream.get_ref().1.peer_certificates()?;
        end_point_binding(certificates.first()?)
    }

    /// Waits for bytes and appends what is there, up to the spare capacity of `bytes`. 0: the peer has closed.
    pub(super) async fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read_buf(bytes).await,
            Self::Tls(stream) => stream.read_buf(bytes).await,
            Self::Unix(stream) => stream.read_buf(bytes).await,
        }
    }

    /// Hands over a first part of `bytes`, and says how long it is.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes).await,
            Self::Tls(stream) => stream.write(bytes).await,
            Self::Unix(stream) => stream.write(bytes).await,
        }
    }

    /// Sends what TLS still holds.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush().await,
            Self::Tls(stream) => stream.flush().await,
            Self::Unix(stream) => stream.flush().await,
        }
    }

    /// Says that no more will be sent.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
            Self::Unix(stream) => stream.shutdown().await,
        }
    }
}

fn cannot_connect(host: &Host, source: io::Error) -> SourceError {
    SourceError::Connect { host: host.to_string(), source }
}

/// Tries the host's addresses in turn, each with its share of the time left, so that one that swallows everything
/// does not keep us from the next.
async fn dial(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                set_options(&socket)?;
                return Ok(socket);
            }
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

/// A peer that vanishes without a word (power, a firewall's forgotten connection) must be noticed in about 40 s, also
/// while nothing is sent.
fn set_options(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    Ok(())
}

async fn secure(mut socket: TcpStream, host: &str, tls: &TlsOptions) -> Result<Transport, SourceError> {
    let mode = tls.mode_for(host);
    if mode == TlsMode::Disable {
        return Ok(Transport::Tcp(socket));
    }
    socket.write_all(&SSL_REQUEST).await.map_err(SourceError::Lost)?;
    // Exactly one byte is read: whatever somebody slipped in behind it goes into the handshake, which it breaks, and
    // never into the session.
    match socket.read_u8().await.map_err(SourceError::Lost)? {
        b'S' => {
            let stream = tls.handshake(socket, host, mode).await?;
            Ok(Transport::Tls(Box::new(stream)))
        }
        b'N' if mode == TlsMode::Prefer => Ok(Transport::Tcp(socket)),
        b'N' => Err(TlsError::NotOffered { mode }.into()),
        // It could not even start a process for us. Its reason is not read: nobody vouches for it here.
        b'E' => Err(SourceError::Lost(io::Error::other("the server answered the request for TLS with an error"))),
        tag => Err(SourceError::Unexpected { tag, during: "in answer to the request for TLS" }),
    }
}
