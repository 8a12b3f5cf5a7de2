//! As much of HTTP/1.1 as the testbed needs: one request, one answer, connection closed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use crate::limits;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body, as text.
    pub body: String,
}

/// Sends a request to a loopback port.
///
/// # Errors
/// If the connection fails, or what comes is no HTTP.
pub fn request(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, limits::PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(limits::PROBE_TIMEOUT))?;
    stream.set_write_timeout(Some(limits::PROBE_TIMEOUT))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\
         Content-Type: application/vnd.schemaregistry.v1+json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    read_answer(BufReader::new(stream))
}

fn read_answer(mut reader: impl std::io::BufRead) -> std::io::Result<Answer> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let head = read_head(&mut reader)?;
    let status =
        head.first().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).ok_or_else(invalid)?;
    let chunked = header(&head, "transfer-encoding").is_some_and(|value| value == "chunked");
    let length = header(&head, "content-length").and_then(|value| value.parse().ok());
    let body = match (chunked, length) {
        (true, _) => read_chunks(&mut reader)?,
        (false, Some(length)) => read_exactly(&mut reader, length)?,
        // Without either, the body ends with the connection.
        (false, None) => {
            let mut body = Vec::new();
            let bound = u64::try_from(limits::PROBE_ANSWER_BYTES_MAX).unwrap_or(u64::MAX);
            reader.take(bound).read_to_end(&mut body)?;
            body
        }
    };
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

/// The lines up to the empty one, without line ends.
pub(super) fn read_head(reader: &mut impl std::io::BufRead) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let bound = u64::try_from(limits::PROBE_ANSWER_BYTES_MAX).unwrap_or(u64::MAX);
    let mut reader = reader.take(bound);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            return Ok(lines);
        }
        lines.push(line.to_owned());
    }
}

/// The value of a header, in lower case.
pub(super) fn header(head: &[String], name: &str) -> Option<String> {
    head.iter().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_ascii_lowercase())
    })
}

pub(super) fn read_exactly(reader: &mut impl std::io::Read, length: usize) -> std::io::Result<Vec<u8>> {
    if length > limits::PROBE_ANSWER_BYTES_MAX {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_chunks(reader: &mut impl std::io::BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16)
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidData))?;
        if length == 0 {
            return Ok(body);
        }
        body.extend(read_exactly(reader, length)?);
        read_exactly(reader, 2)?;
        if body.len() > limits::PROBE_ANSWER_BYTES_MAX {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, read_answer};

    #[test]
    fn bodies_by_length_by_chunks_and_by_the_end_are_read() {
        let cases = [
            "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}rest",
            "HTTP/1.1 409 Conflict\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
            "HTTP/1.1 409 Conflict\r\n\r\n{}",
        ];
        for case in cases {
            let answer = read_answer(case.as_bytes()).expect(case);
            let expected = Answer { status: 409, body: "{}".to_owned() };
            assert_eq!(answer, expected, "{case}");
        }
        for case in ["", "HTTP/1.1", "HTTP/1.1 x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"] {
            assert!(read_answer(case.as_bytes()).is_err(), "{case}");
        }
    }
}
