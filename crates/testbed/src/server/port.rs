//! Ports that stay ours: also between a server's death and its restart, and against other processes of the testbed.
//!
//! Asking the kernel for a free port and closing it again is a race, twice: another test may be given the same one, and
//! an outgoing connection may take it while the server is down. So ports come from below the kernel's own range, and an
//! abstract Unix socket named after it marks each one as taken for as long as the [`Port`] lives: such a socket leaves
//! no file, ends with its process, and is as wide as the port itself, the network namespace.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU16, Ordering};

use super::Error;
use crate::limits;

/// A loopback port that no other process of the testbed takes while this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _mark: UnixListener,
}

impl Port {
    /// Finds a free port and keeps it.
    ///
    /// # Errors
    /// If no port of [`limits::PORTS`] is free, or the system refuses.
    pub fn reserve() -> Result<Self, Error> {
        // Where this process looks next, so that a port which was just given back is not the first to be taken again.
        static NEXT: AtomicU16 = AtomicU16::new(0);

        let count = limits::PORTS.end - limits::PORTS.start;
        // Processes start looking at different places, or parallel test binaries would try each other's ports first.
        let spread = std::process::id().wrapping_mul(7) % u32::from(count);
        for _ in 0..count {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let offset = u16::try_from((spread + step) % u32::from(count)).unwrap_or(0);
            if let Some(port) = Self::take(limits::PORTS.start + offset)? {
                return Ok(port);
            }
        }
        Err(Error::Missing {
            what: "a free loopback port".to_owned(),
            remedy: format!("all of {:?} are in use", limits::PORTS),
        })
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    fn take(number: u16) -> Result<Option<Self>, Error> {
        let mark = SocketAddr::from_abstract_name(format!("penstock-port-{number}"))
            .and_then(|name| UnixListener::bind_addr(&name));
        let mark = match mark {
            Ok(mark) => mark,
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Ok(None),
            Err(error) => return Err(Error::io(format!("marking port {number}"))(error)),
        };
        // Somebody who knows nothing of our marks may listen there.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok();
        Ok(free.then_some(Self { number, _mark: mark }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    use super::Port;

    #[test]
    fn reserved_ports_differ_and_are_refused_to_others() {
        let ports: Vec<Port> = (0..50).map(|_| Port::reserve().expect("free port")).collect();
        let numbers: BTreeSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
        for number in numbers {
            assert!(Port::take(number).expect("mark").is_none(), "{number}");
        }
    }

    #[test]
    fn port_in_use_by_a_stranger_is_not_taken() {
        let port = Port::reserve().expect("free port");
        let number = port.number();
        drop(port);
        let stranger = TcpListener::bind(("127.0.0.1", number)).expect("bind");
        assert!(Port::take(number).expect("mark").is_none());
        drop(stranger);
        assert!(Port::take(number).expect("mark").is_some());
    }
}
