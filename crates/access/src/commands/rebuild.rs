//! What it took to read the whole topic.

use std::fmt;
use std::time::{Duration, Instant};

use penstock_access::service::Access;
use serde_json::{Value, json};

/// Under way.
#[derive(Debug)]
pub(crate) struct Rebuild {
    began: Instant,
}

/// Over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rebuilt {
    elapsed: Duration,
    records: u64,
    complete: bool,
    memory: Memory,
}

/// Bytes of memory that the process has and had at most, as Linux counts them; None elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    resident: Option<u64>,
    peak: Option<u64>,
}

impl Rebuild {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now() }
    }

    pub(crate) fn end(self, access: &Access) -> Rebuilt {
        let elapsed = self.began.elapsed();
        let complete = access.health().is_ready();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Rebuilt { elapsed, records: access.metrics().records(), complete, memory: Memory::read(&status) }
    }
}

impl Memory {
    /// See `man 5 proc`.
    fn read(status: &str) -> Self {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
            Some(kib * 1024)
        };
        Self { resident: bytes("VmRSS:"), peak: bytes("VmHWM:") }
    }
}

impl Rebuilt {
    fn rate(self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn json(self) -> Value {
        json!({ "rebuild": {
            "complete": self.complete,
            "seconds": self.elapsed.as_secs_f64(),
            "records": self.records,
            "records_per_s": self.rate(),
            "memory_bytes": self.memory.resident,
            "memory_peak_bytes": self.memory.peak,
        } })
    }
}

impl fmt::Display for Rebuilt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: Option<u64>| {
            bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6))
        };
        let incomplete = if self.complete { "" } else { "  (NOT COMPLETE: see the log)" };
        writeln!(formatter, "rebuild")?;
        writeln!(formatter, "  time     {:.2} s{incomplete}", self.elapsed.as_secs_f64())?;
        writeln!(formatter, "  records  {} ({:.0}/s)", self.records, self.rate())?;
        let Memory { resident, peak } = self.memory;
        writeln!(formatter, "  memory   {} now, {} at most", megabytes(resident), megabytes(peak))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuild_is_told_in_full() {
        let memory = Memory::read("Name:\tx\nVmHWM:\t   3000 kB\nVmRSS:\t   2000 kB\n");
        assert_eq!(memory, Memory { resident: Some(2_048_000), peak: Some(3_072_000) });
        let rebuilt = Rebuilt { elapsed: Duration::from_millis(1_500), records: 30, complete: true, memory };
        let expected = "rebuild\n  time     1.50 s\n  records  30 (20/s)\n  memory   2.0 MB now, 3.1 MB at most\n";
        assert_eq!(rebuilt.to_string(), expected);
        assert_eq!(rebuilt.json()["rebuild"]["records_per_s"], 20.0);
        let unknown = Rebuilt { complete: false, memory: Memory::read(""), ..rebuilt };
        assert!(unknown.to_string().contains("NOT COMPLETE"), "{unknown}");
        assert!(unknown.to_string().contains("unknown now, unknown at most"), "{unknown}");
    }
}
