//! The brokers: logs, the transaction coordinator, and compaction.
//!
//! One source writes, so one transactional id is enough. A marker ends whatever that id has open in a partition, whichever
//! transaction it was meant for: that is how a late one does harm.

use std::collections::{BTreeMap, BTreeSet};

use penstock_wire::header::{HEADER_LENGTH, Header};

use crate::random::Random;

pub const PARTITIONS: usize = 3;
/// The place of progress; those before it are the change topic's partitions.
pub const PROGRESS: usize = PARTITIONS;
/// The change topic's `min.compaction.lag.ms`, in microseconds.
pub const COMPACTION_LAG_US: i64 = 12_000_000;
/// The topics' `delete.retention.ms`, in microseconds.
pub const RETENTION_US: i64 = 12_000_000;

/// A record in Kafka's parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub header: Option<[u8; HEADER_LENGTH]>,
    pub control: Option<&'static str>,
    pub timestamp_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Open,
    Committed,
    Aborted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Committed,
    Everything,
}

#[derive(Clone, Debug)]
pub struct Stored {
    pub offset: i64,
    pub fate: Fate,
    pub record: Written,
    /// Of a tombstone: when compaction first passed it.
    cleaned_at: Option<i64>,
}

/// One partition's log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub stored: Vec<Stored>,
    end: i64,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A successor was initialised.
    Fenced,
    /// A transaction is being ended: ask again.
    Busy,
    /// There is no transaction to end.
    NoTransaction,
}

#[derive(Debug)]
enum Coordinator {
    Empty,
    Ongoing(BTreeSet<usize>),
    /// Markers that have to be written.
    Ending {
        fate: Fate,
        places: BTreeSet<usize>,
    },
}

#[derive(Debug)]
pub struct Broker {
    pub logs: [Log; PARTITIONS + 1],
    /// The newest producer's.
    epoch: u32,
    coordinator: Coordinator,
}

impl Written {
    pub fn header(&self) -> Header {
        Header::decode(&self.header.expect("a record of the change topic")).expect("a header")
    }

    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}

impl Broker {
    pub fn new() -> Self {
        Self { logs: Default::default(), epoch: 0, coordinator: Coordinator::Empty }
    }

    /// Fences whoever came before; their open transaction is aborted first.
    pub fn initialise(&mut self) -> Result<u32, Refused> {
        match &self.coordinator {
            Coordinator::Empty => {
                self.epoch += 1;
                Ok(self.epoch)
            }
            Coordinator::Ongoing(_) => {
                self.abort_ongoing();
                Err(Refused::Busy)
            }
            Coordinator::Ending { .. } => Err(Refused::Busy),
        }
    }

    /// A transaction that is open for too long is aborted, and its producer fenced.
    pub fn abort_ongoing(&mut self) {
        if let Coordinator::Ongoing(places) = &mut self.coordinator {
            self.epoch += 1;
            self.coordinator = Coordinator::Ending { fate: Fate::Aborted, places: std::mem::take(places) };
        }
    }

    /// The record's offset.
    pub fn append(&mut self, epoch: u32, place: usize, record: Written) -> Result<i64, Refused> {
        if epoch < self.epoch {
            return Err(Refused::Fenced);
        }
        match &mut self.coordinator {
            Coordinator::Ending { .. } => return Err(Refused::Busy),
            Coordinator::Ongoing(places) => drop(places.insert(place)),
            Coordinator::Empty => self.coordinator = Coordinator::Ongoing([place].into()),
        }
        let log = &mut self.logs[place];
        let offset = log.end;
        log.end += 1;
        log.stored.push(Stored { offset, fate: Fate::Open, record, cleaned_at: None });
        Ok(offset)
    }

    /// Ends the transaction that is open, whichever it is. Markers follow.
    pub fn end(&mut self, epoch: u32, fate: Fate) -> Result<(), Refused> {
        if epoch < self.epoch {
            return Err(Refused::Fenced);
        }
        match &mut self.coordinator {
            Coordinator::Empty => Err(Refused::NoTransaction),
            Coordinator::Ending { .. } => Err(Refused::Busy),
            Coordinator::Ongoing(places) => {
                self.coordinator = Coordinator::Ending { fate, places: std::mem::take(places) };
                Ok(())
            }
        }
    }

    pub fn is_ending(&self) -> bool {
        matches!(self.coordinator, Coordinator::Ending { .. })
    }

    pub fn is_ongoing(&self) -> bool {
        matches!(self.coordinator, Coordinator::Ongoing(_))
    }

    /// One marker is written; its place.
    pub fn write_marker(&mut self, random: &mut Random) -> Option<usize> {
        let Coordinator::Ending { fate, places } = &mut self.coordinator else { return None };
        let fate = *fate;
        let waiting: Vec<usize> = places.iter().copied().collect();
        let place = random.pick(&waiting).copied();
        if let Some(place) = place {
            places.remove(&place);
            self.logs[place].mark(fate);
        }
        if waiting.len() <= 1 {
            self.coordinator = Coordinator::Empty;
        }
        place
    }

    /// The coordinator restarts and forgets some of the partitions that still lack their marker.
    pub fn forget_markers(&mut self, random: &mut Random) {
        if let Coordinator::Ending { places, .. } = &mut self.coordinator {
            places.retain(|_| random.permille(500));
            if places.is_empty() {
                self.coordinator = Coordinator::Empty;
            }
        }
    }

    /// A transaction in these places that is aborted at once: what has no end there gets one.
    pub fn abort_residue(&mut self, epoch: u32, places: &[usize], record: &Written) -> Result<(), Refused> {
        for place in places {
            self.append(epoch, *place, record.clone())?;
        }
        self.end(epoch, Fate::Aborted)
    }
}

impl Log {
    fn mark(&mut self, fate: Fate) {
        self.stored.iter_mut().filter(|stored| stored.fate == Fate::Open).for_each(|stored| stored.fate = fate);
        self.end += 1;
    }

    /// Behind the last offset that the view shows.
    pub fn end(&self, view: View) -> i64 {
        let open = || self.stored.iter().find(|stored| stored.fate == Fate::Open).map(|stored| stored.offset);
        match view {
            View::Committed => open().unwrap_or(self.end),
            View::Everything => self.end,
        }
    }

    /// Records from an offset on, as far as the view shows them.
    pub fn fetch(&self, from: i64, view: View) -> impl Iterator<Item = &Stored> {
        let end = self.end(view);
        let first = self.stored.partition_point(|stored| stored.offset < from);
        let shown = move |stored: &&Stored| view == View::Everything || stored.fate == Fate::Committed;
        self.stored[first..].iter().take_while(move |stored| stored.offset < end).filter(shown)
    }

    /// Compacts up to a share (of 256) of what is stable and old enough.
    pub fn compact(&mut self, now: i64, lag_us: i64, share: usize) {
        let stable = self.end(View::Committed);
        let old = |stored: &&Stored| now - stored.record.timestamp_ms * 1000 > lag_us && stored.offset < stable;
        let dirty = self.stored.iter().take_while(old).count();
        let mut cleaned = (dirty * (share + 1)).div_ceil(256);
        // What was aborted goes as a whole: a `read_uncommitted` reader that finds its second half takes the first half, once
        // that is written again, for repeated.
        let is_aborted = |index: usize| self.stored.get(index).is_some_and(|stored| stored.fate == Fate::Aborted);
        while cleaned > 0 && is_aborted(cleaned) && is_aborted(cleaned - 1) {
            cleaned -= 1;
        }
        let rest = self.stored.split_off(cleaned);
        let mut later: BTreeMap<Vec<u8>, ()> = BTreeMap::new();
        let mut kept = Vec::new();
        for mut stored in std::mem::take(&mut self.stored).into_iter().rev() {
            if stored.fate == Fate::Aborted || later.insert(stored.record.key.clone(), ()).is_some() {
                continue;
            }
            if stored.record.value.is_none() && now - *stored.cleaned_at.get_or_insert(now) > RETENTION_US {
                continue;
            }
            kept.push(stored);
        }
        kept.reverse();
        kept.extend(rest);
        self.stored = kept;
    }
}
