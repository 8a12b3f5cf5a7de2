//! One request of Kafka's protocol, written by hand: which brokers are alive?
//!
//! A broker whose port is open may still be fenced by its controller. A Metadata answer lists the brokers that are not.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use crate::limits;

/// Metadata is API 3; version 1 is the oldest that tells "no topics" from "all topics", and every broker has it.
const METADATA: (i16, i16) = (3, 1);
const CORRELATION: i32 = 0x7065_6e73;

/// A broker as clients are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Its node id.
    pub id: i32,
    /// Its advertised port.
    pub port: i32,
}

/// The brokers that the broker at this loopback port knows to be alive.
pub(super) fn alive(port: u16) -> Result<Vec<Node>, String> {
    let answer = exchange(port).map_err(|error| error.to_string())?;
    parse(&answer).ok_or_else(|| format!("an answer of {} bytes that is no Metadata", answer.len()))
}

fn exchange(port: u16) -> std::io::Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, limits::PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(limits::PROBE_TIMEOUT))?;
    stream.set_write_timeout(Some(limits::PROBE_TIMEOUT))?;
    stream.write_all(&request())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > limits::PROBE_ANSWER_BYTES_MAX {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn request() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&METADATA.0.to_be_bytes());
    body.extend_from_slice(&METADATA.1.to_be_bytes());
    body.extend_from_slice(&CORRELATION.to_be_bytes());
    // No client id, no topics.
    body.extend_from_slice(&(-1_i16).to_be_bytes());
    body.extend_from_slice(&0_i32.to_be_bytes());
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), &body].concat()
}

/// Correlation id, then per broker: id, host, port, rack; what follows does not matter here.
fn parse(answer: &[u8]) -> Option<Vec<Node>> {
    let mut rest = answer;
    if int32(&mut rest)? != CORRELATION {
        return None;
    }
    let count = int32(&mut rest)?;
    (0..count)
        .map(|_| {
            let id = int32(&mut rest)?;
            skip_string(&mut rest)?;
            let port = int32(&mut rest)?;
            skip_string(&mut rest)?;
            Some(Node { id, port })
        })
        .collect()
}

fn int32(rest: &mut &[u8]) -> Option<i32> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(i32::from_be_bytes(*head))
}

/// A string has a length of two bytes; -1 stands for null.
fn skip_string(rest: &mut &[u8]) -> Option<()> {
    let (head, tail) = rest.split_first_chunk()?;
    let length = usize::try_from(i16::from_be_bytes(*head)).unwrap_or(0);
    *rest = tail.get(length..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::{CORRELATION, Node, parse};

    fn answer() -> Vec<u8> {
        let mut bytes = CORRELATION.to_be_bytes().to_vec();
        bytes.extend(2_i32.to_be_bytes());
        for id in [1_i32, 2] {
            bytes.extend(id.to_be_bytes());
            bytes.extend([0, 1, b'h']);
            bytes.extend(9092_i32.to_be_bytes());
            bytes.extend((-1_i16).to_be_bytes());
        }
        bytes
    }

    #[test]
    fn brokers_are_read_and_every_cut_answer_is_refused() {
        let whole = answer();
        let node = |id| Node { id, port: 9092 };
        assert_eq!(parse(&whole), Some(vec![node(1), node(2)]));
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
        let mut other = whole;
        other[0] ^= 1;
        assert_eq!(parse(&other), None, "another request's answer");
    }
}
