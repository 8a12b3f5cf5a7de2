//! Which delivered transactions a chunk may have missed.
//!
//! A chunk's rows replace what was delivered before its low mark, so it must have seen all of that. What this process
//! delivered is known by transaction id. What the process before it delivered is not: a transaction that still runs, and
//! began before this one asked, may be among it, and no chunk is valid until it has ended; unless the stream
//! delivers it after all, or its session is seen idle, for then its commit has not begun.

use std::collections::BTreeSet;

use super::snapshot::Snapshot;

/// Delivered transactions that are remembered; above it everything before counts as unknown.
const UNPROVEN_MAX: usize = 200_000;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Visibility {
    barrier: Barrier,
    /// Delivered since the barrier was asked for, and not yet known to be visible to every later snapshot.
    unproven: BTreeSet<u32>,
    /// Running, below the barrier, and not excused.
    blocking: BTreeSet<u64>,
    /// Below the barrier, and surely not delivered before it.
    excused: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Barrier {
    #[default]
    Unknown,
    Asked,
    /// Every transaction that was delivered before it was asked for has a smaller id.
    Below(u64),
}

/// Why a snapshot does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// A delivered transaction is not visible to it.
    Unseen(u32),
    /// A transaction that may have been delivered before still runs.
    Blocked(u64),
}

impl Visibility {
    /// Begins to remember. Whether a barrier has to be asked for.
    pub(super) fn wake(&mut self) -> bool {
        let asleep = self.barrier == Barrier::Unknown;
        if asleep {
            self.barrier = Barrier::Asked;
        }
        asleep
    }

    /// Nothing is remembered any more; the next time begins with a barrier.
    pub(super) fn sleep(&mut self) {
        *self = Self::default();
    }

    /// The barrier that was asked for.
    pub(super) fn barrier(&mut self, xid: u64) {
        if self.barrier == Barrier::Asked {
            self.barrier = Barrier::Below(xid);
        }
    }

    /// Chunks may be judged.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.barrier, Barrier::Below(_))
    }

    /// A transaction was delivered. False if there are too many to remember: then nothing is known any more.
    #[must_use]
    pub(super) fn delivered(&mut self, xid: u32) -> bool {
        if self.barrier == Barrier::Unknown {
            return true;
        }
        self.unproven.insert(xid);
        let low_half = u64::from(u32::MAX);
        let excused: Vec<u64> = self.blocking.iter().copied().filter(|id| id & low_half == u64::from(xid)).collect();
        self.excuse(excused);
        if self.unproven.len() <= UNPROVEN_MAX {
            return true;
        }
        self.sleep();
        false
    }

    /// These are surely not among what was delivered before.
    pub(super) fn excuse(&mut self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            if self.blocking.remove(&id) {
                self.excused.insert(id);
            }
        }
    }

    /// What a chunk that is asked for now has to see, so far.
    pub(super) fn unproven(&self) -> BTreeSet<u32> {
        self.unproven.clone()
    }

    /// Whether a chunk with this snapshot may be taken; `must_see` was delivered before its low mark.
    pub(super) fn judge(&mut self, snapshot: &Snapshot, must_see: &BTreeSet<u32>) -> Result<(), Doubt> {
        let Barrier::Below(below) = self.barrier else { unreachable!("chunks are asked for behind the barrier") };
        let unseen = must_see.iter().find(|xid| !snapshot.sees(**xid)).map(|xid| Doubt::Unseen(*xid));
        let known: BTreeSet<u64> = self.unproven.iter().map(|xid| snapshot.widen(*xid)).collect();
        let running = snapshot.running_below(below);
        self.blocking = running.filter(|id| !self.excused.contains(id) && !known.contains(id)).collect();
        let blocked = self.blocking.first().map(|id| Doubt::Blocked(*id));
        // What one snapshot sees, every later one sees; chunks that were asked for before keep their own memory.
        self.unproven.retain(|xid| !snapshot.sees(*xid));
        unseen.or(blocked).map_or(Ok(()), Err)
    }

    /// Transactions whose end is awaited.
    pub(super) fn blocking(&self) -> Vec<u64> {
        self.blocking.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn awake(barrier: u64) -> Visibility {
        let mut visibility = Visibility::default();
        assert!(visibility.wake() && !visibility.wake());
        visibility.barrier(barrier);
        assert!(visibility.is_ready());
        visibility
    }

    fn judge(visibility: &mut Visibility, snapshot: &str, must_see: &[u32]) -> Result<(), Doubt> {
        visibility.judge(&snapshot.parse().unwrap(), &must_see.iter().copied().collect())
    }

    #[test]
    fn a_delivered_transaction_has_to_be_visible() {
        let mut visibility = awake(100);
        assert!(visibility.delivered(105) && visibility.delivered(110));
        assert_eq!(visibility.unproven(), BTreeSet::from([105, 110]));
        assert_eq!(judge(&mut visibility, "105:112:105", &[105, 110]), Err(Doubt::Unseen(105)));
        assert_eq!(visibility.unproven(), BTreeSet::from([105]), "what is seen stays seen");
        // The newest id of all: not listed as running, and not seen.
        assert_eq!(judge(&mut visibility, "105:105:", &[105]), Err(Doubt::Unseen(105)));
        assert_eq!(judge(&mut visibility, "112:112:", &[105]), Ok(()));
        assert!(visibility.unproven().is_empty());
        assert_eq!(judge(&mut visibility, "105:112:105", &[105]), Err(Doubt::Unseen(105)), "an older snapshot");
    }

    #[test]
    fn what_ran_before_the_start_may_have_been_delivered() {
        let mut visibility = awake(100);
        assert_eq!(judge(&mut visibility, "90:101:90,95,100", &[]), Err(Doubt::Blocked(90)));
        assert_eq!(visibility.blocking(), [90, 95], "what began behind the barrier is no doubt");
        assert!(visibility.delivered(90), "delivered by this process, so not by the one before");
        visibility.excuse([95, 7]);
        assert_eq!(judge(&mut visibility, "90:101:90,95", &[]), Ok(()));
        assert_eq!(judge(&mut visibility, "90:101:90,95", &[90]), Err(Doubt::Unseen(90)));
        assert_eq!(judge(&mut visibility, "80:101:80", &[]), Err(Doubt::Blocked(80)), "nobody excused this one");
    }

    #[test]
    fn asleep_it_remembers_nothing() {
        let mut visibility = Visibility::default();
        assert!(visibility.delivered(5));
        visibility.barrier(9);
        assert!(!visibility.is_ready(), "nobody asked");
        assert!(visibility.wake());
        assert!(visibility.delivered(7), "before the answer came");
        assert_eq!(visibility.unproven(), BTreeSet::from([7]));
        visibility.sleep();
        assert!(visibility.unproven().is_empty() && visibility.wake());
    }
}
