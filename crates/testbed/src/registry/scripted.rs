//! A registry that answers as a test says: refusals, errors, garbage, silence; for everything a real one can't be made
//! to do on demand.
//!
//! It knows nothing about schemas. Where the real answer is wanted for some of the requests, it stands in front of a
//! real registry and passes those on.

use std::collections::VecDeque;
use std::io::{BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::http;
use crate::limits;
use crate::server::Error;

/// What a request gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A status and a body.
    Status(u16, String),
    /// These bytes instead of HTTP.
    Bytes(Vec<u8>),
    /// Nothing, while the connection stays open.
    Hang,
    /// The end of the connection.
    Close,
    /// What the registry at this port says.
    Forward(u16),
}

impl Reply {
    /// A status with the body that Confluent's API gives errors.
    #[must_use]
    pub fn error(status: u16, message: &str) -> Self {
        let body = serde_json::json!({ "error_code": status, "message": message });
        Self::Status(status, body.to_string())
    }
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// GET, POST and so on.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The body, as text.
    pub body: String,
}

/// The scripted registry; ends when dropped.
#[derive(Debug)]
pub struct Scripted {
    port: u16,
    script: Arc<Mutex<Script>>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Script {
    next: VecDeque<Reply>,
    otherwise: Reply,
    requests: Vec<Request>,
    /// Connections that get nothing.
    hanging: Vec<TcpStream>,
    closing: bool,
}

impl Scripted {
    /// A registry that gives every request the same reply, until told otherwise.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn start(otherwise: Reply) -> Result<Self, Error> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("opening a scripted registry's port"))?;
        let port = listener.local_addr().map_err(Error::io("asking for a scripted registry's port"))?.port();
        let script = Arc::new(Mutex::new(Script {
            next: VecDeque::new(),
            otherwise,
            requests: Vec::new(),
            hanging: Vec::new(),
            closing: false,
        }));
        let acceptor = {
            let script = Arc::clone(&script);
            thread::spawn(move || accept(&listener, &script))
        };
        Ok(Self { port, script, acceptor: Some(acceptor) })
    }

    /// The base URL, with the path of a real one.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, super::API)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The reply to a request that has none yet; those pushed are given once each, in this order.
    pub fn push(&self, reply: Reply) {
        lock(&self.script).next.push_back(reply);
    }

    /// The reply to all requests for which nothing was pushed.
    pub fn otherwise(&self, reply: Reply) {
        lock(&self.script).otherwise = reply;
    }

    /// Ends the connections that hang.
    pub fn hang_up(&self) {
        lock(&self.script).hanging.clear();
    }

    /// The requests that came, in this order.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.script).requests.clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        lock(&self.script).closing = true;
        // The acceptor waits for a connection: give it one.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, script: &Arc<Mutex<Script>>) {
    for stream in listener.incoming() {
        if lock(script).closing {
            return;
        }
        let Ok(stream) = stream else { continue };
        let script = Arc::clone(script);
        thread::spawn(move || {
            // A client that goes away is none of the script's business.
            let _ = answer(stream, &script);
        });
    }
}

fn answer(mut stream: TcpStream, script: &Mutex<Script>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(limits::PROBE_TIMEOUT))?;
    let request = read_request(&stream)?;
    let reply = {
        let mut script = lock(script);
        script.requests.push(request.clone());
        let next = script.next.pop_front();
        next.unwrap_or_else(|| script.otherwise.clone())
    };
    match reply {
        Reply::Status(status, body) => respond(&mut stream, status, &body),
        Reply::Bytes(bytes) => stream.write_all(&bytes),
        Reply::Hang => {
            lock(script).hanging.push(stream);
            Ok(())
        }
        Reply::Close => Ok(()),
        Reply::Forward(port) => {
            let answer = http::request(port, &request.method, &request.path, &request.body)?;
            respond(&mut stream, answer.status, &answer.body)
        }
    }
}

fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let head = http::read_head(&mut reader)?;
    let mut words = head.first().map(|line| line.split(' ')).into_iter().flatten();
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(std::io::ErrorKind::InvalidData.into());
    };
    let (method, path) = (method.to_owned(), path.to_owned());
    let length = http::header(&head, "content-length").and_then(|value| value.parse().ok());
    let body = http::read_exactly(&mut reader, length.unwrap_or(0))?;
    Ok(Request { method, path, body: String::from_utf8_lossy(&body).into_owned() })
}

fn respond(stream: &mut TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} Scripted\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::{Reply, Scripted};
    use crate::registry::http;

    #[test]
    fn replies_come_in_order_and_requests_are_kept() {
        let back = Scripted::start(Reply::Status(200, "[]".to_owned())).expect("start");
        let front = Scripted::start(Reply::Forward(back.port())).expect("start");
        front.push(Reply::error(409, "incompatible"));
        front.push(Reply::Bytes(b"\0\x01garbage\r\n\r\n".to_vec()));
        front.push(Reply::Close);
        let ask = || http::request(front.port(), "POST", "/subjects/a", "{\"a\":1}");

        let refused = ask().expect("HTTP");
        assert_eq!(refused.status, 409);
        assert!(refused.body.contains("incompatible"), "{}", refused.body);
        assert!(ask().is_err(), "garbage");
        assert!(ask().is_err(), "closed");
        assert_eq!(ask().expect("forwarded").body, "[]");
        assert_eq!(front.requests().len(), 4);
        let seen = back.requests();
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].path.as_str(), seen[0].body.as_str()), ("/subjects/a", "{\"a\":1}"));
    }

    #[test]
    fn hanging_connection_stays_open_until_it_is_hung_up() {
        let registry = Scripted::start(Reply::Hang).expect("start");
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", registry.port())).expect("connect");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("write");
        stream.set_read_timeout(Some(std::time::Duration::from_millis(200))).expect("timeout");
        let silent = stream.read(&mut [0; 8]).expect_err("nothing comes");
        assert_eq!(silent.kind(), std::io::ErrorKind::WouldBlock);
        registry.hang_up();
        assert_eq!(stream.read(&mut [0; 8]).expect("end"), 0);
    }
}
