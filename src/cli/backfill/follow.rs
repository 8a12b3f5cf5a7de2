//! Follows a reload by the progress records, one look a second, until it has ended.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use penstock_wire::progress::Progress;
use penstock_wire::reload::{Reload, ReloadState};
use tokio::time::sleep;

use super::Site;
use super::bar::Bar;
use crate::cli::{failed, watch_signals};
use crate::run::describe;
use crate::status::reloads::line;

const EVERY: Duration = Duration::from_secs(1);
/// Progress is written every second, also when nothing moves: without any for so long, nobody writes it.
const STILL: Duration = Duration::from_secs(10);

/// Until the reload has ended: an error unless it is done.
pub(super) async fn to_the_end(site: &Site<'_>, id: &str, bar: &Bar) -> Result<(), ExitCode> {
    let signals = watch_signals().map_err(|error| failed(&format!("cannot listen for signals: {error}"), None))?;
    tokio::select! {
        ended = follow(site, id, bar) => ended,
        () = signals => {
            bar.end();
            eprintln!("penstock: reload {id} goes on without being watched; `penstock backfill status` shows it, \
                       `penstock backfill cancel {id}` ends it");
            Err(ExitCode::FAILURE)
        }
    }
}

async fn follow(site: &Site<'_>, id: &str, bar: &Bar) -> Result<(), ExitCode> {
    let mut watch = Watch::default();
    loop {
        match site.newest().await {
            Ok(progress) => match watch.look(id, progress.as_ref(), Instant::now()) {
                Seen::Nothing => {}
                Seen::Still => bar.say(&format!(
                    "no bridge seems to run: nothing has moved for {} s. The request stands in Postgres' log, and is taken \
                     up when a bridge reads it",
                    STILL.as_secs()
                )),
                Seen::Live(reload) => bar.show(&reload),
                Seen::Ended(reload) => {
                    bar.end();
                    return end(&reload);
                }
                Seen::Forgotten => {
                    bar.end();
                    return Err(failed(&format!("reload {id} is no longer remembered: how it ended is not known"), None));
                }
            },
            // It is asked again: the reload goes on whether or not it can be seen.
            Err(error) => bar.say(&describe(&error)),
        }
        sleep(EVERY).await;
    }
}

fn end(reload: &Reload) -> Result<(), ExitCode> {
    match reload.state {
        ReloadState::Done => {
            println!("{}", line(reload));
            Ok(())
        }
        ReloadState::Requested
        | ReloadState::Running
        | ReloadState::Paused
        | ReloadState::Cancelled
        | ReloadState::Refused => Err(failed(&format!("reload {}", line(reload)), None)),
    }
}

/// Until the bridge has taken up what was asked of a reload that is under way; not for long.
pub(super) async fn until_altered(site: &Site<'_>, what: &str, id: &str) -> Result<(), ExitCode> {
    let began = Instant::now();
    while began.elapsed() < STILL {
        let found = site.reloads().await.map_err(|error| failed(&describe(&error), None))?;
        match found.iter().find(|reload| reload.id == id) {
            Some(reload) if is_altered(what, reload.state) => {
                println!("{}", line(reload));
                return Ok(());
            }
            Some(reload) if reload.state.is_finished() => {
                return Err(failed(&format!("reload {} has ended", line(reload)), None));
            }
            Some(_) | None => sleep(EVERY).await,
        }
    }
    println!("{what} of reload {id} is asked for; no bridge has taken it up yet");
    Ok(())
}

fn is_altered(what: &str, state: ReloadState) -> bool {
    match state {
        ReloadState::Requested | ReloadState::Running => what == "resume",
        ReloadState::Paused => what == "pause",
        ReloadState::Cancelled => what == "cancel",
        ReloadState::Done | ReloadState::Refused => false,
    }
}

/// What a look at progress shows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// The bridge has not come to the request.
    Nothing,
    /// Progress stands still; told once for each standstill.
    Still,
    Live(Reload),
    Ended(Reload),
    /// It was there, and is not any more.
    Forgotten,
}

/// What was seen before.
#[derive(Debug, Default)]
struct Watch {
    /// Postgres' clock in the newest progress, and since when it stands there.
    clock: Option<(i64, Instant)>,
    told_still: bool,
    known: bool,
}

impl Watch {
    fn look(&mut self, id: &str, progress: Option<&Progress>, now: Instant) -> Seen {
        let found = progress.and_then(|progress| progress.reloads.iter().find(|reload| reload.id == id));
        if let Some(reload) = found.filter(|reload| reload.state.is_finished()) {
            return Seen::Ended(reload.clone());
        }
        if found.is_none() && self.known {
            return Seen::Forgotten;
        }
        self.known |= found.is_some();
        let clock = progress.map_or(0, |progress| progress.postgres_clock_us);
        let since = match self.clock {
            Some((stood, since)) if stood == clock => since,
            Some(_) | None => {
                self.told_still = false;
                now
            }
        };
        self.clock = Some((clock, since));
        if now.duration_since(since) >= STILL && !self.told_still {
            self.told_still = true;
            return Seen::Still;
        }
        found.map_or(Seen::Nothing, |reload| Seen::Live(reload.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(clock_us: i64, state: Option<ReloadState>) -> Progress {
        let other = Reload { id: "other".into(), state: ReloadState::Done, ..Reload::default() };
        let mine = state.map(|state| Reload { id: "mine".into(), state, ..Reload::default() });
        Progress {
            postgres_clock_us: clock_us,
            reloads: mine.into_iter().chain([other]).collect(),
            ..Progress::default()
        }
    }

    fn tell(seen: Seen) -> String {
        match seen {
            Seen::Nothing => "nothing".into(),
            Seen::Still => "still".into(),
            Seen::Live(reload) | Seen::Ended(reload) => reload.state.as_str().into(),
            Seen::Forgotten => "forgotten".into(),
        }
    }

    #[test]
    fn a_reload_is_followed_to_its_end() {
        let (mut watch, begin) = (Watch::default(), Instant::now());
        let mut look = |second, progress: Option<Progress>| {
            tell(watch.look("mine", progress.as_ref(), begin + Duration::from_secs(second)))
        };
        assert_eq!(look(0, None), "nothing");
        assert_eq!(look(9, None), "nothing");
        assert_eq!(look(10, None), "still", "nothing has moved for ten seconds");
        assert_eq!(look(11, None), "nothing", "it is told once");
        assert_eq!(look(12, Some(progress(1, None))), "nothing");
        assert_eq!(look(13, Some(progress(2, Some(ReloadState::Requested)))), "requested");
        assert_eq!(look(14, Some(progress(3, Some(ReloadState::Running)))), "running");
        assert_eq!(look(24, Some(progress(3, Some(ReloadState::Running)))), "still", "and again when it happens again");
        assert_eq!(look(25, Some(progress(4, Some(ReloadState::Done)))), "done");
    }

    #[test]
    fn a_reload_that_is_gone_is_not_waited_for() {
        let (mut watch, now) = (Watch::default(), Instant::now());
        assert_eq!(tell(watch.look("mine", Some(&progress(1, Some(ReloadState::Paused))), now)), "paused");
        assert_eq!(tell(watch.look("mine", Some(&progress(2, None)), now)), "forgotten");
    }

    #[test]
    fn what_was_asked_for_is_seen_by_the_state() {
        use ReloadState::{Cancelled, Done, Paused, Requested, Running};
        for (what, states) in [("pause", &[Paused][..]), ("resume", &[Requested, Running]), ("cancel", &[Cancelled])] {
            for state in [Requested, Running, Paused, Done, Cancelled] {
                assert_eq!(is_altered(what, state), states.contains(&state), "{what} {state:?}");
            }
        }
    }
}
