//! One direction of one connection: a thread that reads, a bounded queue, a thread that writes.
//!
//! Two threads, because a delay must not lower the throughput: bytes wait in the queue, each with its time of arrival.
//! The queue is bounded, so that a direction which is held pushes back on its sender, as TCP does.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use super::shared::{Connection, Fate, Ruling, Shared, Switch};
use super::{Direction, Ending};
use crate::limits;

/// Bytes on their way; empty at the end of the direction.
pub(super) struct Arrival {
    bytes: Vec<u8>,
    at: Instant,
    /// Going up the observer has decided already.
    ruling: Ruling,
}

/// How long a blocked write goes on before it looks whether the connection was ended.
pub(super) const WRITE_SLICE: Duration = Duration::from_millis(50);

/// The direction is over for good: its connection was ended or broke.
struct Over;

pub(super) fn read(shared: &Shared, connection: &Connection, direction: Direction, queue: &SyncSender<Arrival>) {
    let mut source = match direction {
        Direction::Up => &connection.client,
        Direction::Down => &connection.server,
    };
    let mut buffer = vec![0; limits::PROXY_CHUNK_BYTES];
    loop {
        let length = match source.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => {
                broken(shared, connection);
                return;
            }
        };
        let at = Instant::now();
        match connection.fate() {
            Fate::Lives => {}
            // The end that hears nothing may go on talking; nobody listens.
            Fate::HalfOpen(_) if length > 0 => continue,
            Fate::HalfOpen(_) | Fate::Ended => return,
        }
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        let ruling = match direction {
            Direction::Up => shared.observe(connection.id, direction, &bytes),
            Direction::Down => Ruling::Pass,
        };
        let arrival = Arrival { bytes, at, ruling };
        if queue.send(arrival).is_err() || length == 0 {
            return;
        }
    }
}

/// One end has reset the connection: the other one shall know, too.
fn broken(shared: &Shared, connection: &Connection) {
    if connection.fate() == Fate::Lives {
        shared.end_one(connection, Ending::Reset);
    }
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    direction: Direction,
    /// Since when, as a version of the faults, `passed` counts.
    version: u64,
    passed: u64,
    /// When a throttled direction may go on.
    next: Instant,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, connection: Arc<Connection>, direction: Direction) -> Self {
        Self { shared, connection, direction, version: 0, passed: 0, next: Instant::now() }
    }

    pub(super) fn run(mut self, queue: &Receiver<Arrival>) {
        while let Ok(arrival) = queue.recv() {
            if self.pass(&arrival).is_err() {
                return;
            }
            if arrival.bytes.is_empty() {
                let _ = self.destination().shutdown(Shutdown::Write);
                return;
            }
        }
    }

    fn pass(&mut self, arrival: &Arrival) -> Result<(), Over> {
        self.obey(arrival.ruling)?;
        let mut rest = arrival.bytes.as_slice();
        if rest.is_empty() {
            self.wait_until_open(arrival.at)?;
            return self.tell_if_down(rest);
        }
        while !rest.is_empty() {
            let faults = self.wait_until_open(arrival.at)?.faults;
            let mut length = rest.len();
            if let Some(rate) = faults.bytes_per_second {
                // Small pieces, so that a slow direction is slow evenly.
                length = length.min(usize::try_from(rate / 20).unwrap_or(usize::MAX).max(1));
            }
            if let Some((bytes, ending)) = faults.cut {
                let left = usize::try_from(bytes.saturating_sub(self.passed)).unwrap_or(usize::MAX);
                length = length.min(left);
                if length == 0 {
                    self.shared.end_one(&self.connection, ending);
                    return Err(Over);
                }
            }
            let (piece, later) = rest.split_at(length);
            self.tell_if_down(piece)?;
            self.write(piece)?;
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            self.passed = self.passed.saturating_add(length);
            if let Some(rate) = faults.bytes_per_second {
                let nanos = length.saturating_mul(1_000_000_000) / rate.max(1);
                self.next = Instant::now() + Duration::from_nanos(nanos);
            }
            rest = later;
        }
        self.cut_if_due()
    }

    /// A connection is cut after the last byte that may pass, not before the first that may not.
    fn cut_if_due(&mut self) -> Result<(), Over> {
        let switch = self.shared.state().switch(self.direction);
        match switch.faults.cut {
            Some((bytes, ending)) if switch.version == self.version && self.passed >= bytes => {
                self.shared.end_one(&self.connection, ending);
                Err(Over)
            }
            _ => Ok(()),
        }
    }

    /// Waits for the delay, the throttle and the end of a blackhole; the faults that hold then.
    fn wait_until_open(&mut self, arrived: Instant) -> Result<Switch, Over> {
        let switch = self.shared.wait(|state| {
            if self.connection.fate() != Fate::Lives {
                return Ok(Err(Over));
            }
            let switch = state.switch(self.direction);
            if switch.faults.blackhole {
                return Err(None);
            }
            let mut open = arrived + switch.faults.delay;
            if switch.faults.bytes_per_second.is_some() {
                open = open.max(self.next);
            }
            if open > Instant::now() {
                return Err(Some(open));
            }
            Ok(Ok(switch))
        })?;
        if switch.version != self.version {
            self.version = switch.version;
            self.passed = 0;
        }
        Ok(switch)
    }

    fn tell_if_down(&self, bytes: &[u8]) -> Result<(), Over> {
        if self.direction == Direction::Up {
            return Ok(());
        }
        let ruling = self.shared.observe(self.connection.id, self.direction, bytes);
        self.obey(ruling)
    }

    fn obey(&self, ruling: Ruling) -> Result<(), Over> {
        match ruling {
            Ruling::Pass => Ok(()),
            Ruling::Reset => {
                self.shared.end_one(&self.connection, Ending::Reset);
                Err(Over)
            }
            Ruling::Hold { since } => self.shared.wait(|state| {
                if self.connection.fate() != Fate::Lives {
                    Ok(Err(Over))
                } else if state.releases > since {
                    Ok(Ok(()))
                } else {
                    Err(None)
                }
            }),
        }
    }

    fn write(&self, mut bytes: &[u8]) -> Result<(), Over> {
        use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};

        let mut destination = self.destination();
        while !bytes.is_empty() {
            match destination.write(bytes) {
                Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
                Err(error) if matches!(error.kind(), Interrupted | TimedOut | WouldBlock) => {
                    if self.connection.fate() != Fate::Lives {
                        return Err(Over);
                    }
                }
                Err(_) => {
                    broken(&self.shared, &self.connection);
                    return Err(Over);
                }
            }
        }
        Ok(())
    }

    fn destination(&self) -> &TcpStream {
        match self.direction {
            Direction::Up => &self.connection.server,
            Direction::Down => &self.connection.client,
        }
    }
}
