//! The live workload: several sessions that write at the same time, at a pace.
//!
//! Invariant: a session that fails ends the whole workload, which says so; nothing is retried, so nothing is hidden.

mod random;
mod transactions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::bail;

use crate::database::{Database, Session};
use crate::limits;
use random::Random;

/// Sessions that write until they are stopped.
#[derive(Debug)]
pub struct Workload {
    shared: Arc<Shared>,
    sessions: Vec<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    pause_us: AtomicU64,
}

impl Workload {
    /// Starts the sessions; the same seed makes the same transactions, though not the same interleaving.
    pub fn start(database: &Database, seed: u64, pause: Duration) -> anyhow::Result<Self> {
        let mut workload = Self { shared: Arc::new(Shared::default()), sessions: Vec::new() };
        workload.pause(pause);
        for number in 0..limits::SESSIONS {
            let session = database.session()?;
            let (shared, random) = (workload.shared.clone(), Random::new(seed.wrapping_add(number << 32)));
            workload.sessions.push(std::thread::spawn(move || write(session, random, &shared)));
        }
        Ok(workload)
    }

    /// How long each session pauses between two transactions, on average.
    pub fn pause(&self, pause: Duration) {
        self.shared.pause_us.store(pause.as_micros().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Fails if a session has.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if self.sessions.iter().any(JoinHandle::is_finished) {
            return self.end();
        }
        Ok(())
    }

    /// Lets each session end its transaction, and waits for that.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut outcome = Ok(());
        for session in self.sessions.drain(..) {
            session.thread().unpark();
            match session.join() {
                Ok(result) => outcome = outcome.and(result),
                Err(_) => bail!("a session of the workload panicked"),
            }
        }
        outcome
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // Whoever drops it without stopping it has a worse error to tell.
        let _ = self.end();
    }
}

fn write(mut session: Session, mut random: Random, shared: &Shared) -> anyhow::Result<()> {
    // Sessions start together; without this they would write together for ever.
    let mut pause = random.below(1 + shared.pause_us.load(Ordering::Relaxed));
    while !shared.stop.load(Ordering::Relaxed) {
        if pause > 0 {
            // The pace itself; stop wakes it.
            std::thread::park_timeout(Duration::from_micros(pause));
        }
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let sql = transactions::next(&mut random, limits::ACCOUNTS);
        session.run(&sql).map_err(|error| error.context(format!("the workload's transaction\n{sql}\nfailed")))?;
        // Evenly between nothing and twice the average.
        pause = random.below(1 + 2 * shared.pause_us.load(Ordering::Relaxed));
    }
    Ok(())
}
