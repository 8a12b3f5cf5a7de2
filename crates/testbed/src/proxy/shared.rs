//! What the threads of a proxy share: its switches, and the list of its connections.
//!
//! Invariant: whoever waits for something of the proxy waits on one condition, which every change wakes; so a switch
//! takes effect at once, also for bytes that are waiting already.

use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use super::{Chunk, Direction, End, Ending, Faults, Observer, Verdict};

pub(super) struct Shared {
    pub(super) name: String,
    observer: Option<Observer>,
    state: Mutex<State>,
    changed: Condvar,
}

pub(super) struct State {
    pub(super) target: SocketAddr,
    pub(super) refusing: bool,
    pub(super) closing: bool,
    /// Counts calls of `release`: a held chunk waits for a higher number than it found.
    pub(super) releases: u64,
    up: Switch,
    down: Switch,
    connections: BTreeMap<u64, Arc<Connection>>,
    last_connection: u64,
}

/// The faults of a direction, and how often they were changed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Switch {
    pub(super) faults: Faults,
    pub(super) version: u64,
}

/// A verdict, with how many releases there had been before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    Pass,
    Hold { since: u64 },
    Reset,
}

/// A client's connection and ours to the server.
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
    pub(super) fate: Mutex<Fate>,
}

/// Whether a connection still carries bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It does.
    Lives,
    /// One end was told that it is over, the other hears nothing more.
    HalfOpen(End),
    /// It is over.
    Ended,
}

impl Connection {
    pub(super) fn fate(&self) -> Fate {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, ending: Ending) {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner) = Fate::Ended;
        for stream in [&self.client, &self.server] {
            match ending {
                Ending::Close => {
                    let _ = stream.shutdown(Shutdown::Both);
                }
                Ending::Reset => {
                    // With this, closing sends a RST; the threads let go of the sockets once reading has ended.
                    let _ = set_socket_linger(stream, Some(Duration::ZERO));
                    let _ = stream.shutdown(Shutdown::Read);
                }
            }
        }
    }

    fn half_open(&self, ended: End) {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner) = Fate::HalfOpen(ended);
        let stream = match ended {
            End::Client => &self.client,
            End::Server => &self.server,
        };
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl Shared {
    pub(super) fn new(name: &str, target: SocketAddr, observer: Option<Observer>) -> Self {
        Self {
            name: name.to_owned(),
            observer,
            state: Mutex::new(State {
                target,
                refusing: false,
                closing: false,
                releases: 0,
                up: Switch::default(),
                down: Switch::default(),
                connections: BTreeMap::new(),
                last_connection: 0,
            }),
            changed: Condvar::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something and wakes everybody who waits.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }

    /// Waits until `look` returns something; it may name the time at which it wants to look again.
    pub(super) fn wait<T>(&self, mut look: impl FnMut(&State) -> Result<T, Option<Instant>>) -> T {
        let mut state = self.state();
        loop {
            let again = match look(&state) {
                Ok(found) => return found,
                Err(again) => again,
            };
            state = match again {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let pause = at.saturating_duration_since(Instant::now());
                    self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    pub(super) fn observe(&self, connection: u64, direction: Direction, bytes: &[u8]) -> Ruling {
        let Some(observer) = &self.observer else {
            return Ruling::Pass;
        };
        // Read first: a release that follows the observer's word at once must not be missed.
        let since = self.state().releases;
        let mut observer = observer.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = observer.observe(&Chunk {
            proxy: &self.name,
            connection,
            direction,
            bytes,
            // Taken under the lock: times are in the order in which the observer is told.
            at: Instant::now(),
        });
        match verdict {
            Verdict::Pass => Ruling::Pass,
            Verdict::Hold => Ruling::Hold { since },
            Verdict::Reset => Ruling::Reset,
        }
    }

    pub(super) fn add(&self, client: TcpStream, server: TcpStream) -> Arc<Connection> {
        self.change(|state| {
            state.last_connection += 1;
            let connection =
                Arc::new(Connection { id: state.last_connection, client, server, fate: Mutex::new(Fate::Lives) });
            if state.closing {
                connection.end(Ending::Close);
            }
            let kept = Arc::clone(&connection);
            state.connections.insert(connection.id, kept);
            connection
        })
    }

    /// Forgets a connection whose threads are through. This is its last holder, so it is closed here, before anybody
    /// can see that it is no longer listed.
    pub(super) fn remove(&self, id: u64) {
        self.change(|state| drop(state.connections.remove(&id)));
    }

    pub(super) fn end_one(&self, connection: &Connection, ending: Ending) {
        self.change(|_| connection.end(ending));
    }

    pub(super) fn end_all(&self, ending: Ending) {
        self.change(|state| {
            for connection in state.connections.values() {
                connection.end(ending);
            }
        });
    }

    pub(super) fn half_open_all(&self, ended: End) {
        self.change(|state| {
            for connection in state.connections.values() {
                connection.half_open(ended);
            }
        });
    }
}

impl State {
    pub(super) fn switch(&self, direction: Direction) -> Switch {
        match direction {
            Direction::Up => self.up,
            Direction::Down => self.down,
        }
    }

    pub(super) fn set(&mut self, direction: Direction, faults: Faults) {
        let switch = match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        };
        switch.faults = faults;
        switch.version += 1;
    }

    pub(super) fn connection_count(&self) -> usize {
        self.connections.len()
    }
}
