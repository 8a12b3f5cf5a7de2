//! Why nothing is delivered, in one sentence: the bridge's own word if it answers, else what slot and progress tell.

use super::{Readiness, Status};
use crate::catalog::WalStatus;

/// Progress is written every second, also when nothing moves; older than this, the bridge stands still.
const PROGRESS_AGE_MAX_S: f64 = 10.0;

/// `None` while the bridge delivers.
pub(super) fn cause(status: &Status) -> Option<String> {
    match &status.readiness {
        Readiness::NotReady(reason) => match reason.strip_prefix("stopped: ") {
            Some(reason) => Some(format!("the bridge has stopped: {reason}")),
            None => Some(format!("the bridge waits: {reason}")),
        },
        Readiness::Ready | Readiness::Delayed(_) => stale(status)
            .map(|age_s| format!("the bridge says that it is ready, but its newest progress is {age_s:.0} s old")),
        Readiness::Silent(address) => deduced(status).map(|cause| format!("{cause}; nobody answers at {address}")),
    }
}

fn stale(status: &Status) -> Option<f64> {
    status.progress_age_s().filter(|age_s| *age_s > PROGRESS_AGE_MAX_S)
}

/// A bridge on another machine delivers although its HTTP server cannot be asked from here.
fn deduced(status: &Status) -> Option<String> {
    let name = status.slot_name();
    let seen = match &status.postgres {
        Ok(seen) => seen,
        Err(error) => return Some(format!("Postgres cannot be asked: {error}")),
    };
    let Some(slot) = &seen.slot else {
        return Some(match status.newest() {
            Some(_) => format!("the slot {name} is gone, although its progress is in the topic"),
            None => format!("nothing is set up: there is no slot {name}"),
        });
    };
    if slot.wal_status == Some(WalStatus::Lost) {
        return Some(format!("Postgres has removed WAL that slot {name} needs"));
    }
    if !slot.active {
        return Some(format!("no bridge is running: nothing streams from slot {name}"));
    }
    match (&status.progress, stale(status)) {
        (Err(error), _) => Some(format!("something streams from slot {name}, but progress cannot be read: {error}")),
        (Ok(None), _) => Some(format!("something streams from slot {name}, but the topic holds no progress of it")),
        (Ok(Some(_)), Some(age_s)) => {
            Some(format!("something streams from slot {name}, but its newest progress is {age_s:.0} s old"))
        }
        (Ok(Some(_)), None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{ClockReading, SlotSample};
    use crate::status::Seen;
    use penstock_wire::lsn::{EndLsn, Lsn};
    use penstock_wire::progress::Progress;

    const SECOND_US: i64 = 1_000_000;

    fn slot(active: bool, wal_status: WalStatus) -> Option<SlotSample> {
        Some(SlotSample {
            current_lsn: Lsn(100),
            restart_lsn: Some(Lsn(10)),
            confirmed_lsn: Some(EndLsn::new(50)),
            wal_status: Some(wal_status),
            safe_wal_bytes: None,
            active,
        })
    }

    fn progress(age_s: i64) -> Result<Option<Progress>, String> {
        Ok(Some(Progress { postgres_clock_us: (1000 - age_s) * SECOND_US, ..Progress::default() }))
    }

    fn of(
        readiness: Readiness,
        postgres: Result<Option<SlotSample>, &str>,
        progress: Result<Option<Progress>, String>,
    ) -> Option<String> {
        let clock = ClockReading { lsn: EndLsn::new(100), clock_us: 1000 * SECOND_US };
        let postgres = postgres.map(|slot| Seen { slot, clock }).map_err(str::to_owned);
        cause(&Status { readiness, postgres, progress, slot_name: "s".into(), clock_us: clock.clock_us })
    }

    #[test]
    fn the_bridges_own_word_comes_first() {
        let held = Readiness::NotReady("slot: another process holds it".into());
        let cause = of(held, Ok(slot(true, WalStatus::Reserved)), progress(0)).unwrap();
        assert_eq!(cause, "the bridge waits: slot: another process holds it");
        let stopped = Readiness::NotReady("stopped: slot lost".into());
        assert_eq!(of(stopped, Err("x"), progress(0)).unwrap(), "the bridge has stopped: slot lost");
        assert_eq!(of(Readiness::Ready, Ok(slot(true, WalStatus::Reserved)), progress(1)), None);
        assert_eq!(of(Readiness::Ready, Ok(slot(true, WalStatus::Reserved)), Err("x".into())), None);
        let stale = of(Readiness::Ready, Ok(slot(true, WalStatus::Reserved)), progress(60)).unwrap();
        assert_eq!(stale, "the bridge says that it is ready, but its newest progress is 60 s old");
    }

    #[test]
    fn where_nobody_answers_slot_and_progress_tell() {
        let reserved = |active| Ok(slot(active, WalStatus::Reserved));
        for (postgres, progress, expected) in [
            (Err("refused"), progress(0), Some("Postgres cannot be asked: refused")),
            (Ok(None), Ok(None), Some("nothing is set up: there is no slot s")),
            (Ok(None), progress(0), Some("the slot s is gone, although its progress is in the topic")),
            (Ok(slot(false, WalStatus::Lost)), progress(0), Some("Postgres has removed WAL that slot s needs")),
            (reserved(false), progress(0), Some("no bridge is running: nothing streams from slot s")),
            (
                reserved(true),
                Err("down".into()),
                Some("something streams from slot s, but progress cannot be read: down"),
            ),
            (reserved(true), Ok(None), Some("something streams from slot s, but the topic holds no progress of it")),
            (reserved(true), progress(11), Some("something streams from slot s, but its newest progress is 11 s old")),
            (reserved(true), progress(10), None),
        ] {
            let silent = Readiness::Silent("127.0.0.1:1".parse().unwrap());
            let expected = expected.map(|cause| format!("{cause}; nobody answers at 127.0.0.1:1"));
            assert_eq!(of(silent, postgres, progress), expected);
        }
    }
}
