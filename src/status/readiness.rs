//! The running bridge's own word: what its `/readyz` answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::ser::{Serialize, SerializeMap, Serializer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(3);
/// More than any reason has.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What the bridge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Changes flow.
    Ready,
    /// Changes flow; what is done beside them waits: its reason.
    Delayed(String),
    /// It waits, or it has stopped: its reason.
    NotReady(String),
    /// Nobody answers there, or nobody that is a bridge.
    Silent(SocketAddr),
}

/// Asks whoever listens at `listen`.
pub(super) async fn ask(listen: SocketAddr) -> Readiness {
    let address = reachable(listen);
    let answer = timeout(PATIENCE, get(address)).await;
    answer.ok().and_then(Result::ok).and_then(|text| read(&text)).unwrap_or(Readiness::Silent(address))
}

/// A server that listens everywhere is asked on this machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// 200 is ready, 503 is not and says why; anything else comes from somebody else.
fn read(answer: &str) -> Option<Readiness> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    let reason = body.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    match (status, reason.as_str()) {
        ("200", "ready") => Some(Readiness::Ready),
        ("200", _) => reason.strip_prefix("ready; ").map(|beside| Readiness::Delayed(beside.to_owned())),
        ("503", _) => Some(Readiness::NotReady(reason)),
        _ => None,
    }
}

impl Serialize for Readiness {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (state, reason) = match self {
            Self::Ready => ("ready", None),
            Self::Delayed(reason) => ("ready", Some(reason.clone())),
            Self::NotReady(reason) => ("not_ready", Some(reason.clone())),
            Self::Silent(address) => ("silent", Some(format!("nobody answers at {address}"))),
        };
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("state", state)?;
        map.serialize_entry("reason", &reason)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_ready_not_ready_or_somebody_elses() {
        for (answer, readiness) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n", Some(Readiness::Ready)),
            (
                "HTTP/1.0 503 Service Unavailable\r\n\r\nslot: held\nkafka: x\n",
                Some(Readiness::NotReady("slot: held; kafka: x".into())),
            ),
            ("HTTP/1.1 200 OK\r\n\r\nready\nbackfill: x\n", Some(Readiness::Delayed("backfill: x".into()))),
            ("HTTP/1.1 200 OK\r\n\r\n<html>", None),
            ("HTTP/1.1 404 Not Found\r\n\r\n", None),
            ("SSH-2.0-OpenSSH\r\n\r\n", None),
            ("HTTP/1.1\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(read(answer), readiness, "{answer}");
        }
    }

    #[test]
    fn a_server_that_listens_everywhere_is_asked_here() {
        for (listen, asked) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
