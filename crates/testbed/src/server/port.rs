//! Ports that stay ours: also between a server's death and its restart, and against other processes of the testbed.
//!
//! Asking the kernel for a free port and closing it again is a race, twice: another test may be given the same one, and
//! an outgoing connection may take it while the server is down. So ports come from below the kernel's own range, and a
//! locked file marks each one as taken for as long as the [`Port`] lives.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::fs::{FlockOperation, flock};

use super::Error;
use crate::limits;

/// A loopback port that no other process of the testbed takes while this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Holds the lock; it is released when the file is closed, also by our death.
    _lock: File,
}

/// Where this process looks next, so that a port which was just given back is not the first to be taken again.
static NEXT: AtomicU16 = AtomicU16::new(0);

impl Port {
    /// Finds a free port and keeps it.
    ///
    /// # Errors
    /// If no port of [`limits::PORTS`] is free, or the directory of the locks can't be made.
    pub fn reserve() -> Result<Self, Error> {
        let directory = lock_directory()?;
        let count = limits::PORTS.end - limits::PORTS.start;
        // Processes start looking at different places, or parallel test binaries would try each other's ports first.
        let spread = u16::try_from(std::process::id() % u32::from(count)).unwrap_or(0);
        for _ in 0..count {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % count;
            let number = limits::PORTS.start + (spread.wrapping_mul(7) % count + step) % count;
            if let Some(lock) = take(&directory, number)? {
                return Ok(Self {
                    number,
                    _lock: lock,
                });
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
}

fn lock_directory() -> Result<PathBuf, Error> {
    let uid = rustix::process::getuid().as_raw();
    let directory = std::env::temp_dir().join(format!("penstock-ports-{uid}"));
    std::fs::create_dir_all(&directory)
        .map_err(Error::io(format!("creating {}", directory.display())))?;
    Ok(directory)
}

fn take(directory: &std::path::Path, number: u16) -> Result<Option<File>, Error> {
    let path = directory.join(number.to_string());
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(Error::io(format!("opening {}", path.display())))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    // Somebody who knows nothing of our locks may listen there.
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, number))
        .is_ok()
        .then_some(file))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Port, lock_directory, take};

    #[test]
    fn reserved_ports_differ_and_are_refused_to_others() {
        let ports: Vec<Port> = (0..50).map(|_| Port::reserve().expect("free port")).collect();
        let numbers: BTreeSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
        let directory = lock_directory().expect("directory");
        for number in numbers {
            assert!(take(&directory, number).expect("lock file").is_none(), "{number}");
        }
    }

    #[test]
    fn port_in_use_by_a_stranger_is_not_taken() {
        let port = Port::reserve().expect("free port");
        let number = port.number();
        drop(port);
        let _stranger = std::net::TcpListener::bind(("127.0.0.1", number)).expect("bind");
        assert!(take(&lock_directory().expect("directory"), number).expect("lock file").is_none());
    }
}
