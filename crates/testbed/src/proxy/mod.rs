//! A TCP proxy that stands between a client and a server, makes trouble on request, and can watch what passes.
//!
//! Invariants: without faults the bytes and the order of everything, half-closes and resets included, are the client's
//! and the server's own; with faults no byte is lost, doubled or reordered within a connection that lives. Switches take
//! effect at once, also for connections and bytes that are there already.
//!
//! It knows no protocol: an [`Observe`] that wants messages must find their borders itself.

mod faults;
mod observe;
mod pipe;
mod shared;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use crate::limits;
use crate::server::Error;

pub use faults::{Direction, End, Ending, Faults};
pub use observe::{Chunk, Observe, Observer, Verdict};
use pipe::Writer;
use shared::{Connection, Shared};

/// A proxy; it ends, with its connections, when it is dropped.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Proxy")
            .field("name", &self.shared.name)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// A proxy in front of a loopback port.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn to_port(port: u16) -> Result<Self, Error> {
        Self::start("proxy", SocketAddr::from((Ipv4Addr::LOCALHOST, port)), None)
    }

    /// A proxy in front of a loopback port that tells `observer` what passes; `name` is how it learns which proxy.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn observed(name: &str, port: u16, observer: Observer) -> Result<Self, Error> {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self::start(name, target, Some(observer))
    }

    fn start(name: &str, target: SocketAddr, observer: Option<Observer>) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("opening a proxy's port"))?;
        let port = listener.local_addr().map_err(Error::io("asking for a proxy's port"))?.port();
        let shared = Arc::new(Shared::new(name, target, observer));
        let acceptor = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, &shared))
        };
        Ok(Self { port, shared, acceptor: Some(acceptor) })
    }

    /// The port that clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sets the faults of one direction, instead of those it had.
    pub fn set(&self, direction: Direction, faults: Faults) {
        self.shared.change(|state| state.set(direction, faults));
    }

    /// Sets the faults of both directions.
    pub fn set_both(&self, faults: Faults) {
        self.shared.change(|state| {
            for direction in Direction::BOTH {
                state.set(direction, faults);
            }
        });
    }

    /// Takes away all faults, and lets new connections in.
    pub fn clear(&self) {
        self.set_both(Faults::default());
        self.refuse(false);
    }

    /// Whether new connections are reset as soon as they are made.
    pub fn refuse(&self, refuse: bool) {
        self.shared.change(|state| state.refusing = refuse);
    }

    /// Where new connections go from now on; those that exist stay.
    pub fn retarget(&self, port: u16) {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.shared.change(|state| state.target = target);
    }

    /// Lets everything go on that an observer has held.
    pub fn release(&self) {
        self.shared.change(|state| state.releases += 1);
    }

    /// Ends all connections, and returns when they are gone. What is on its way is lost.
    pub fn end_all(&self, ending: Ending) {
        self.shared.end_all(ending);
        let deadline = Instant::now() + limits::DROP_TIMEOUT;
        self.shared.wait(|state| {
            if state.connection_count() == 0 || Instant::now() >= deadline { Ok(()) } else { Err(Some(deadline)) }
        });
    }

    /// Makes all connections half-open: `ended` sees its connection closed, the other end hears nothing more, and what
    /// it says is swallowed.
    pub fn half_open(&self, ended: End) {
        self.shared.half_open_all(ended);
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.state().connection_count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|state| state.closing = true);
        // The acceptor waits for a connection: give it one.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.shared.end_all(Ending::Close);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let (closing, refusing, target) = {
            let state = shared.state();
            (state.closing, state.refusing, state.target)
        };
        if closing {
            return;
        }
        let Ok(client) = client else {
            // Out of descriptors, most likely: the next round is no better at once.
            thread::sleep(limits::POLL_INTERVAL);
            continue;
        };
        if refusing {
            reset(&client);
            continue;
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || serve(&shared, client, target));
    }
}

fn serve(shared: &Arc<Shared>, client: TcpStream, target: SocketAddr) {
    let Ok(server) = TcpStream::connect_timeout(&target, limits::PROBE_TIMEOUT) else {
        // What a client sees of a server that is not there is a refusal; this is as near as it gets.
        reset(&client);
        return;
    };
    for stream in [&client, &server] {
        // Neither may add delays or block for ever: the faults are ours to make.
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(pipe::WRITE_SLICE));
    }
    let connection = shared.add(client, server);
    let id = connection.id;
    carry(shared, &connection);
    drop(connection);
    shared.remove(id);
}

/// Carries both directions to their ends.
fn carry(shared: &Arc<Shared>, connection: &Arc<Connection>) {
    thread::scope(|scope| {
        for direction in Direction::BOTH {
            let (sender, receiver) = mpsc::sync_channel(limits::PROXY_CHUNKS_MAX);
            let writer = Writer::new(Arc::clone(shared), Arc::clone(connection), direction);
            scope.spawn(move || writer.run(&receiver));
            scope.spawn(move || pipe::read(shared, connection, direction, &sender));
        }
    });
}

/// A stream that is dropped after this sends a RST.
fn reset(stream: &TcpStream) {
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}
